package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
)

// testDeleteEntries deletes the cells of entries up to a time: newer ones, other columns and other
// keys stay, and to delete again changes nothing.
func testDeleteEntries(t *testing.T, s *suite) {
	table := s.newTable(t)
	at := func(n int) time.Time { return eventTime().Add(time.Duration(n) * time.Millisecond) }
	entry := func(key string, n int) dataset.Row { return row(key, at(n), dataset.IndexColumn, "") }
	s.put(t, table, entry("a", 1), entry("ab", 1), entry("b", 1), entry("c", 0))
	s.put(t, table, entry("b", 2), entry("c", 1))
	s.put(t, table, entry("c", 2), row("a", at(0), dataset.IndexMarkColumn, "x"))
	for range 2 {
		err := s.client.DeleteEntries(limited(t), table, []store.Entry{
			{Key: "a", Through: at(1)}, {Key: "b", Through: at(1)}, {Key: "c", Through: at(2)}, {Key: "absent", Through: at(9)},
		})
		if err != nil {
			t.Fatal(err)
		}
		left := map[string][]time.Time{}
		for _, key := range []string{"a", "ab", "b", "c", "absent"} {
			for _, cell := range s.rawCells(t, table, key) {
				if cell.Column == dataset.Family+":"+dataset.IndexColumn {
					left[key] = append(left[key], cell.Timestamp.Time().UTC())
				}
			}
		}
		if diff := cmp.Diff(map[string][]time.Time{"ab": {at(1)}, "b": {at(2)}}, left); diff != "" {
			t.Errorf("entries left (-want +got):\n%s", diff)
		}
		if cells := s.rawCells(t, table, "a"); len(cells) != 1 {
			t.Errorf("row a has %d cells of other columns, want 1", len(cells))
		}
	}
	if err := s.client.DeleteEntries(limited(t), table, nil); err != nil {
		t.Errorf("delete of no entries: %v", err)
	}
	if err := s.client.DeleteEntries(limited(t), table, []store.Entry{{Key: "b", Through: time.UnixMilli(-1)}}); err == nil {
		t.Error("a time before 1970, which would delete without end, was taken")
	}
	if err := s.client.DeleteEntries(limited(t), "no-such-table", []store.Entry{{Key: "k", Through: at(1)}}); !errors.Is(err, store.ErrMisconfigured) {
		t.Errorf("delete in an absent table: %v, want ErrMisconfigured", err)
	}
}

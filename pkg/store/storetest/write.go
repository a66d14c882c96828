package storetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
)

// testNewestWins writes three versions of a row in every order and in one request or three.
func testNewestWins(t *testing.T, s *suite) {
	table := s.newTable(t)
	version := func(key string, n int) dataset.Row {
		r := row(key, eventTime().Add(time.Duration(n)*time.Millisecond), "a", fmt.Sprint(n), "b", "")
		if n == 1 {
			r.Cells[1].Value = []byte("only the older one has b")
		}
		return r
	}
	for _, order := range [][3]int{{1, 2, 3}, {1, 3, 2}, {2, 1, 3}, {2, 3, 1}, {3, 1, 2}, {3, 2, 1}} {
		one, three := fmt.Sprint("one", order), fmt.Sprint("three", order)
		s.put(t, table, version(one, order[0]), version(one, order[1]), version(one, order[2]))
		for _, n := range order {
			s.put(t, table, version(three, n))
		}
		for _, key := range []string{one, three} {
			got, err := s.client.Get(limited(t), table, key, nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := diffRows(version(key, 3), got); diff != "" {
				t.Errorf("order %v (-want +got):\n%s", order, diff)
			}
		}
	}
	// A scan shows the same rows as a get.
	err := s.client.Scan(limited(t), table, store.Scan{}, func(got dataset.Row) bool {
		if diff := diffRows(version(got.Key, 3), got); diff != "" {
			t.Errorf("scan (-want +got):\n%s", diff)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
}

func testSameTime(t *testing.T, s *suite) {
	table := s.newTable(t)
	s.put(t, table, row("k", eventTime(), "a", "first", "b", "x"))
	s.put(t, table, row("k", eventTime(), "a", "second", "b", ""))
	got, err := s.client.Get(limited(t), table, "k", nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := diffRows(row("k", eventTime(), "a", "second", "b", ""), got); diff != "" {
		t.Errorf("last write (-want +got):\n%s", diff)
	}
	if cells := s.rawCells(t, table, "k"); len(cells) != 2 {
		t.Errorf("%d cells after two writes of one event time, want 2: %v", len(cells), cells)
	}
}

func testRewrite(t *testing.T, s *suite) {
	table := s.newTable(t)
	same := row("k", eventTime(), "a", "1", "b", "")
	for range 5 {
		s.put(t, table, same)
	}
	s.put(t, table, same, same)
	cells := s.rawCells(t, table, "k")
	if len(cells) != len(same.Cells) {
		t.Fatalf("%d cells after writing a row of 2 cells again and again, want 2: %v", len(cells), cells)
	}
	for _, cell := range cells {
		if got := cell.Timestamp.Time(); !got.Equal(eventTime()) {
			t.Errorf("cell %s has time %v, want the event's %v", cell.Column, got, eventTime())
		}
	}
}

func testPutUnknownTable(t *testing.T, s *suite) {
	rows := []dataset.Row{row("a", eventTime(), "v", "1"), row("b", eventTime(), "v", "1"), row("c", eventTime(), "v", "1")}
	errs := s.client.Put(limited(t), "no-such-table", rows)
	if len(errs) != len(rows) {
		t.Fatalf("%d errors for %d rows", len(errs), len(rows))
	}
	for i, err := range errs {
		if !errors.Is(err, store.ErrMisconfigured) || errors.Is(err, store.ErrPoison) {
			t.Errorf("row %d: %v, want ErrMisconfigured", i, err)
		}
	}
}

func testPutUnknownFamily(t *testing.T, s *suite) {
	table := s.newName()
	if err := s.rawAdmin.CreateTable(limited(t), table); err != nil {
		t.Fatal(err)
	}
	for i, err := range s.client.Put(limited(t), table, []dataset.Row{row("a", eventTime(), "v", "1"), row("b", eventTime(), "v", "1")}) {
		switch {
		case err == nil || errors.Is(err, store.ErrPoison):
			t.Errorf("row %d: %v, want an error that does not blame the row", i, err)
		case s.backend.Strict && !errors.Is(err, store.ErrMisconfigured):
			t.Errorf("row %d: %v, want ErrMisconfigured", i, err)
		}
	}
}

func testPutKeyTooLong(t *testing.T, s *suite) {
	if !s.backend.Strict {
		t.Skip("the backend takes row keys of any size")
	}
	table := s.newTable(t)
	long := strings.Repeat("k", dataset.MaxKeyBytes+1)
	s.wantRefused(t, table, []string{"a", long, "b", "c"}, 1, store.ErrPoison)
	s.wantRefused(t, table, []string{long}, 0, store.ErrPoison)
}

// testPutMixed uses an empty key, which every backend refuses.
func testPutMixed(t *testing.T, s *suite) {
	table := s.newTable(t)
	var kind error
	if s.backend.Strict {
		kind = store.ErrPoison
	}
	s.wantRefused(t, table, []string{"a", "b", "", "c"}, 2, kind)
	s.wantRefused(t, table, []string{"", "d"}, 0, kind)
}

// wantRefused puts rows and checks that the one at fault is refused and the others are stored.
func (s *suite) wantRefused(t *testing.T, table string, keys []string, fault int, kind error) {
	t.Helper()
	var rows []dataset.Row
	for _, key := range keys {
		rows = append(rows, row(key, eventTime(), "v", "1"))
	}
	for i, err := range s.client.Put(limited(t), table, rows) {
		switch {
		case i != fault && err != nil:
			t.Errorf("row %d: %v, want it stored beside a refused one", i, err)
		case i == fault && (err == nil || kind != nil && !errors.Is(err, kind)):
			t.Errorf("row %d: error %v, want %v", i, err, kind)
		}
	}
	for i, key := range keys {
		if i == fault {
			continue
		}
		if _, err := s.client.Get(limited(t), table, key, nil); err != nil {
			t.Errorf("get row %q, the neighbour of a refused one: %v", key, err)
		}
	}
}

func testPutMany(t *testing.T, s *suite) {
	table := s.newTable(t)
	rows := make([]dataset.Row, 2000)
	for i := range rows {
		rows[i] = row(fmt.Sprintf("%04d", i), eventTime(), "a", fmt.Sprint(i), "b", "")
	}
	s.put(t, table, rows...)
	n := 0
	err := s.client.Scan(limited(t), table, store.Scan{}, func(got dataset.Row) bool {
		if n < len(rows) {
			if diff := diffRows(rows[n], got); diff != "" {
				t.Errorf("row %d (-want +got):\n%s", n, diff)
			}
		}
		n++
		return !t.Failed()
	})
	if err != nil || n != len(rows) {
		t.Errorf("scanned %d rows, error %v; want %d", n, err, len(rows))
	}
	if errs := s.client.Put(limited(t), table, nil); len(errs) != 0 {
		t.Errorf("put of no rows gives %v", errs)
	}
}

func testDelete(t *testing.T, s *suite) {
	table := s.newTable(t)
	s.put(t, table, row("k", eventTime(), "a", "1"), row("k\x00", eventTime(), "a", "1"))
	s.put(t, table, row("k", eventTime().Add(time.Second), "a", "2"))
	for range 2 { // The second time there is nothing to delete.
		if err := s.client.Delete(limited(t), table, "k"); err != nil {
			t.Fatal(err)
		}
		if got, err := s.client.Get(limited(t), table, "k", nil); !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("after delete: %+v, %v; want ErrNotFound, no older version", got, err)
		}
	}
	if keys := s.scan(t, table, store.Scan{}); len(keys) != 1 || keys[0] != "k\x00" {
		t.Errorf("rows after delete: %q, want only the neighbour", keys)
	}
	s.put(t, table, row("k", eventTime(), "a", "3"))
	if got, err := s.client.Get(limited(t), table, "k", nil); err != nil || string(got.Cells[0].Value) != "3" {
		t.Errorf("a row written again after its delete: %+v, %v", got, err)
	}
}

func testPing(t *testing.T, s *suite) {
	if err := s.client.Ping(limited(t), s.newTable(t)); err != nil {
		t.Errorf("ping: %v", err)
	}
	if err := s.client.Ping(limited(t), "no-such-table"); !errors.Is(err, store.ErrMisconfigured) {
		t.Errorf("ping of an absent table: %v, want ErrMisconfigured", err)
	}
}

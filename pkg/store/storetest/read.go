package storetest

import (
	"bytes"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
)

func allBytes() string {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return string(b)
}

// diffRows compares rows in any order of their cells; an empty value equals a nil one.
func diffRows(want, got dataset.Row) string {
	byColumn := cmpopts.SortSlices(func(a, b dataset.Cell) bool { return a.Column < b.Column })
	sameTime := cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })
	return cmp.Diff(want, got, byColumn, sameTime, cmp.Comparer(bytes.Equal))
}

func testRoundTrip(t *testing.T, s *suite) {
	table := s.newTable(t)
	rows := map[string]dataset.Row{
		"plain":          row("plain", eventTime(), "a", "1", "b", "two"),
		"empty value":    row("empty", eventTime(), "a", "", "b", "x"),
		"only empty":     row("only-empty", eventTime(), "a", ""),
		"binary value":   row("binary", eventTime(), "a", allBytes()),
		"binary key":     row("\x00\x01\n\xff\xfe~", eventTime(), "a", "v"),
		"zero key":       row("\x00", eventTime(), "a", "v"),
		"big integers":   row("ints", eventTime(), "a", strconv.Itoa(math.MinInt64), "b", strconv.Itoa(math.MaxInt64), "c", "9007199254740993"),
		"text":           row("Ñandú ✈", eventTime(), "a", "São Paulo → Ñuñoa"),
		"large value":    row("large", eventTime(), "a", strings.Repeat("x", 1<<20)),
		"long key":       row(strings.Repeat("k", dataset.MaxKeyBytes), eventTime(), "a", "v"),
		"epoch":          row("epoch", time.UnixMilli(0), "a", "v"),
		"far future":     row("future", time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC), "a", "v"),
		"column by name": row("columns", eventTime(), "a_1", "v", "Z9", "w"),
	}
	for _, r := range rows {
		s.put(t, table, r)
	}
	for name, want := range rows {
		got, err := s.client.Get(limited(t), table, want.Key, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := diffRows(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	// A cell's time is in milliseconds, whatever the event's is in.
	s.put(t, table, row("fine", eventTime().Add(456_789*time.Nanosecond), "a", "v"))
	got, err := s.client.Get(limited(t), table, "fine", nil)
	if err != nil || !got.Time.Equal(eventTime()) {
		t.Errorf("time of a finer event is %v, %v; want it cut to %v", got.Time, err, eventTime())
	}
}

func testProjection(t *testing.T, s *suite) {
	table := s.newTable(t)
	s.put(t, table, row("k", eventTime(), "a", "1", "b", "2", "ab", "3", "c", ""))
	for _, tc := range []struct {
		columns []string
		want    []string
	}{
		{nil, []string{"a", "ab", "b", "c"}},
		{[]string{}, []string{"a", "ab", "b", "c"}},
		{[]string{"a"}, []string{"a"}},
		{[]string{"b", "a"}, []string{"a", "b"}},
		{[]string{"c"}, []string{"c"}},
		{[]string{"a", "absent"}, []string{"a"}},
	} {
		got, err := s.client.Get(limited(t), table, "k", tc.columns)
		if err != nil {
			t.Errorf("columns %q: %v", tc.columns, err)
			continue
		}
		var columns []string
		for _, cell := range got.Cells {
			columns = append(columns, cell.Column)
		}
		slices.Sort(columns)
		if !slices.Equal(columns, tc.want) {
			t.Errorf("columns %q give %q, want %q", tc.columns, columns, tc.want)
		}
	}
	if _, err := s.client.Get(limited(t), table, "k", []string{"absent"}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a column that the row does not have gives %v, want ErrNotFound", err)
	}
}

func testAbsent(t *testing.T, s *suite) {
	table := s.newTable(t)
	if _, err := s.client.Get(limited(t), table, "nobody", nil); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an absent row gives %v, want ErrNotFound", err)
	}
	if keys := s.scan(t, table, store.Scan{}); len(keys) != 0 {
		t.Errorf("an empty table has rows %q", keys)
	}
	if _, err := s.client.Get(limited(t), "no-such-table", "k", nil); !errors.Is(err, store.ErrMisconfigured) || errors.Is(err, store.ErrNotFound) {
		t.Errorf("get from an absent table gives %v, want ErrMisconfigured", err)
	}
	err := s.client.Scan(limited(t), "no-such-table", store.Scan{}, func(dataset.Row) bool { return true })
	if !errors.Is(err, store.ErrMisconfigured) {
		t.Errorf("scan of an absent table gives %v, want ErrMisconfigured", err)
	}
	if err := s.client.Delete(limited(t), "no-such-table", "k"); !errors.Is(err, store.ErrMisconfigured) {
		t.Errorf("delete from an absent table gives %v, want ErrMisconfigured", err)
	}
}

func testCanceled(t *testing.T, s *suite) {
	table := s.newTable(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.client.Get(ctx, table, "k", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("get gives %v, want context.Canceled", err)
	}
	if err := s.client.Scan(ctx, table, store.Scan{}, func(dataset.Row) bool { return true }); !errors.Is(err, context.Canceled) {
		t.Errorf("scan gives %v, want context.Canceled", err)
	}
	if errs := s.client.Put(ctx, table, []dataset.Row{row("k", eventTime(), "a", "1")}); !errors.Is(errs[0], context.Canceled) {
		t.Errorf("put gives %v, want context.Canceled", errs[0])
	}
}

func testScanRanges(t *testing.T, s *suite) {
	table := s.newTable(t)
	for _, key := range []string{"a", "b", "b\x00", "ba", "c", "d"} {
		s.put(t, table, row(key, eventTime(), "v", key))
	}
	for _, tc := range []struct {
		scan store.Scan
		want string
	}{
		{store.Scan{}, "a b b\x00 ba c d"},
		{store.Scan{Start: "b"}, "b b\x00 ba c d"},
		{store.Scan{End: "b"}, "a"},
		{store.Scan{Start: "b", End: "c"}, "b b\x00 ba"},
		{store.Scan{Start: "b\x00", End: "b\x01"}, "b\x00"},
		{store.Scan{Start: "bb", End: "bc"}, ""},
		{store.Scan{Start: "c", End: "c"}, ""},
		{store.Scan{Start: "d", End: "a"}, ""},
		{store.Scan{Start: "z"}, ""},
		{store.Scan{Limit: 2}, "a b"},
		{store.Scan{Limit: 99}, "a b b\x00 ba c d"},
		{store.Scan{Reverse: true}, "d c ba b\x00 b a"},
		{store.Scan{Reverse: true, Start: "b", End: "c"}, "ba b\x00 b"},
		{store.Scan{Reverse: true, Start: "b\x00"}, "d c ba b\x00"},
		{store.Scan{Reverse: true, End: "c", Limit: 2}, "ba b\x00"},
		{store.Scan{Reverse: true, Limit: 1}, "d"},
		{store.Scan{Ranges: []store.Range{{Start: "a", End: "b"}, {Start: "b\x00", End: "c"}}}, "a b\x00 ba"},
		{store.Scan{Ranges: []store.Range{{Start: "", End: "b"}, {Start: "c", End: ""}}, Reverse: true}, "d c a"},
		{store.Scan{Ranges: []store.Range{{Start: "", End: "b"}, {Start: "b\x01", End: "b\x01"}, {Start: "c", End: ""}}, Limit: 2}, "a c"},
		{store.Scan{Ranges: []store.Range{}}, ""},
		{store.Scan{KeysOnly: true, Start: "b", Limit: 2}, "b b\x00"},
	} {
		if got := strings.Join(s.scan(t, table, tc.scan), " "); got != tc.want {
			t.Errorf("scan %+v gives %q, want %q", tc.scan, got, tc.want)
		}
	}
}

// testScanModel compares scans with a sorted slice, over keys whose bytes are the difficult ones.
func testScanModel(t *testing.T, s *suite) {
	const alphabet = "\x00\x01ab\x7f\x80\xfe\xff"
	table := s.newTable(t)
	seed := uint64(20240229)
	rng := rand.New(rand.NewPCG(seed, 1))
	randomKey := func() string {
		b := make([]byte, 1+rng.IntN(4))
		for i := range b {
			b[i] = alphabet[rng.IntN(len(alphabet))]
		}
		return string(b)
	}
	unique := map[string]bool{}
	var rows []dataset.Row
	for len(rows) < 150 {
		if key := randomKey(); !unique[key] {
			unique[key] = true
			rows = append(rows, row(key, eventTime(), "v", key))
		}
	}
	s.put(t, table, rows...)
	keys := make([]string, len(rows))
	for i, r := range rows {
		keys[i] = r.Key
	}
	slices.Sort(keys)

	bound := func() string {
		if rng.IntN(4) == 0 {
			return ""
		}
		return randomKey()
	}
	for range 60 {
		scan := store.Scan{Start: bound(), End: bound(), Reverse: rng.IntN(2) == 0, Limit: rng.IntN(3) * rng.IntN(20)}
		if got, want := s.scan(t, table, scan), scanModel(keys, scan); !slices.Equal(got, want) {
			t.Fatalf("seed %d: scan %+v gives %q, want %q", seed, scan, got, want)
		}
	}
}

func scanModel(keys []string, scan store.Scan) []string {
	want := []string{}
	for _, key := range keys {
		if key >= scan.Start && (scan.End == "" || key < scan.End) {
			want = append(want, key)
		}
	}
	if scan.Reverse {
		slices.Reverse(want)
	}
	if scan.Limit > 0 && len(want) > scan.Limit {
		want = want[:scan.Limit]
	}
	return want
}

func testScanStops(t *testing.T, s *suite) {
	table := s.newTable(t)
	for _, key := range []string{"a", "b", "c", "d"} {
		s.put(t, table, row(key, eventTime(), "v", key))
	}
	for _, reverse := range []bool{false, true} {
		var seen []string
		err := s.client.Scan(limited(t), table, store.Scan{Reverse: reverse}, func(r dataset.Row) bool {
			seen = append(seen, r.Key)
			return len(seen) < 2
		})
		want := []string{"a", "b"}
		if reverse {
			want = []string{"d", "c"}
		}
		if err != nil || !slices.Equal(seen, want) {
			t.Errorf("reverse %v: rows %q, error %v; want the scan to stop without an error after %q", reverse, seen, err, want)
		}
	}
}

func testScanColumns(t *testing.T, s *suite) {
	table := s.newTable(t)
	rows := []dataset.Row{
		row("1", eventTime(), "a", "1", "b", "x"),
		row("2", eventTime(), "b", "y"),
		row("3", eventTime(), "a", "", "c", "z"),
	}
	s.put(t, table, rows...)
	var got []dataset.Row
	collect := func(r dataset.Row) bool { got = append(got, r); return true }
	if err := s.client.Scan(limited(t), table, store.Scan{Columns: []string{"a"}}, collect); err != nil {
		t.Fatal(err)
	}
	want := []dataset.Row{row("1", eventTime(), "a", "1"), row("3", eventTime(), "a", "")}
	if len(got) != len(want) {
		t.Fatalf("rows %+v, want %+v: a row without the columns is not seen", got, want)
	}
	for i := range want {
		if diff := diffRows(want[i], got[i]); diff != "" {
			t.Errorf("row %d (-want +got):\n%s", i, diff)
		}
	}
	got = nil
	if err := s.client.Scan(limited(t), table, store.Scan{}, collect); err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		if diff := diffRows(rows[i], got[i]); diff != "" {
			t.Errorf("row %d with all columns (-want +got):\n%s", i, diff)
		}
	}
}

func testGetMany(t *testing.T, s *suite) {
	table := s.newTable(t)
	for _, key := range []string{"a", "b", "c", "\x00\xff"} {
		s.put(t, table, row(key, eventTime(), "a", "1", "b", key))
	}
	s.put(t, table, row("other", eventTime(), "b", "2"))
	got, err := s.client.GetMany(limited(t), table, []string{"c", "none", "a", "c", "\x00\xff", "other"}, []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	want := []dataset.Row{
		row("c", eventTime(), "a", "1"), {}, row("a", eventTime(), "a", "1"), row("c", eventTime(), "a", "1"),
		row("\x00\xff", eventTime(), "a", "1"), {},
	}
	for i := range want {
		if diff := diffRows(want[i], got[i]); diff != "" {
			t.Errorf("row %d (-want +got):\n%s", i, diff)
		}
	}
	if rows, err := s.client.GetMany(limited(t), table, nil, nil); err != nil || len(rows) != 0 {
		t.Errorf("no keys: %v, %v", rows, err)
	}
	if _, err := s.client.GetMany(limited(t), "no-such-table", []string{"a"}, nil); !errors.Is(err, store.ErrMisconfigured) {
		t.Errorf("unknown table: %v", err)
	}
}

// testKeysOnly checks that a row counts once, however many cells it has, and carries no value.
func testKeysOnly(t *testing.T, s *suite) {
	table := s.newTable(t)
	s.put(t, table, row("k", eventTime(), "a", "1", "b", "2"), row("l", eventTime(), "b", "3"))
	err := s.client.Scan(limited(t), table, store.Scan{KeysOnly: true}, func(r dataset.Row) bool {
		if len(r.Cells) != 1 || len(r.Cells[0].Value) != 0 {
			t.Errorf("row %q has cells %v, want one without its value", r.Key, r.Cells)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
}

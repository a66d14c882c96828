package cellstore

import (
	"bytes"
	"cmp"
	"math"
	"testing"
)

func cellKey(table uint32, row []byte, fam uint16, qualifier []byte, ts int64) []byte {
	key := appendRowPrefix(nil, table, row)
	return appendTimestamp(appendEscaped(appendFamily(key, fam), qualifier), ts)
}

// Keys order as cells do, and parse back into what they were made of.
func FuzzKeys(f *testing.F) {
	f.Add(uint32(1), []byte("a"), uint16(1), []byte("q"), int64(1), uint32(1), []byte("a\x00"), uint16(1), []byte(""), int64(2))
	f.Add(uint32(1), []byte("a\x00\x01"), uint16(2), []byte("\x00"), int64(0), uint32(1), []byte("a\x00\xff"), uint16(1), []byte("\xff"), int64(math.MaxInt64))
	f.Add(uint32(0xffffffff), []byte("\xff\xff"), uint16(0), []byte("\x00\x00"), int64(5), uint32(2), []byte("\x00"), uint16(0), []byte("\x00\xff"), int64(5))
	f.Add(uint32(7), []byte("k"), uint16(1), []byte("q"), int64(1000), uint32(7), []byte("k"), uint16(1), []byte("q"), int64(2000))
	f.Fuzz(func(t *testing.T, t1 uint32, r1 []byte, f1 uint16, q1 []byte, s1 int64, t2 uint32, r2 []byte, f2 uint16, q2 []byte, s2 int64) {
		s1, s2 = s1&math.MaxInt64, s2&math.MaxInt64
		a, b := cellKey(t1, r1, f1, q1, s1), cellKey(t2, r2, f2, q2, s2)
		want := cmp.Or(cmp.Compare(t1, t2), bytes.Compare(r1, r2), cmp.Compare(f1, f2), bytes.Compare(q1, q2), cmp.Compare(s2, s1))
		if got := bytes.Compare(a, b); got != want {
			t.Errorf("compare = %d, want %d", got, want)
		}
		n := splitKey(a)
		if row := rowOf(nil, a[:n]); !bytes.Equal(row, r1) {
			t.Errorf("row = %q, want %q", row, r1)
		}
		c, err := parseColumn(a[n:])
		if err != nil || c.family != f1 || c.micros != s1 || !bytes.Equal(appendUnescaped(nil, c.qualifier), q1) {
			t.Errorf("column = %+v, %v", c, err)
		}
		if same := bytes.Equal(a[:n], b[:splitKey(b)]); same != (t1 == t2 && bytes.Equal(r1, r2)) {
			t.Errorf("row prefixes equal = %v", same)
		}
		checkBounds(t, a, t1, r1, t2, r2)
	})
}

// checkBounds checks that intervals and prefixes of row keys hold exactly the
// keys of their rows.
func checkBounds(t *testing.T, key []byte, t1 uint32, r1 []byte, t2 uint32, r2 []byte) {
	iv := interval{start: r2}
	if lower, upper := iv.appendBounds(nil, nil, t2); (bytes.Compare(key, lower) >= 0 && bytes.Compare(key, upper) < 0) !=
		(t1 == t2 && bytes.Compare(r1, r2) >= 0) {
		t.Errorf("row %q in [%q, inf) is wrong", r1, r2)
	}
	if len(r2) > 0 {
		iv = interval{end: r2}
		if lower, upper := iv.appendBounds(nil, nil, t2); (bytes.Compare(key, lower) >= 0 && bytes.Compare(key, upper) < 0) !=
			(t1 == t2 && bytes.Compare(r1, r2) < 0) {
			t.Errorf("row %q in [, %q) is wrong", r1, r2)
		}
	}
	lower := appendEscapedOpen(appendTablePrefix(nil, t2), r2)
	upper := upperBound(bytes.Clone(lower))
	if (bytes.Compare(key, lower) >= 0 && bytes.Compare(key, upper) < 0) != (t1 == t2 && bytes.HasPrefix(r1, r2)) {
		t.Errorf("row %q with prefix %q is wrong", r1, r2)
	}
}

// No key, however malformed, makes the parsers panic, and the comparer keeps
// its promises to Pebble.
func FuzzComparer(f *testing.F) {
	f.Add([]byte("\x02\x00\x00\x00\x01ab\x00\x01"), []byte("\x02\x00\x00\x00\x01ab\x00\x02"))
	f.Add([]byte("\x02\x00"), []byte(""))
	f.Add([]byte("\x02\x00\x00\x00\x01\x00"), []byte("\x01t"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		c := newComparer()
		na, nb := c.Split(a), c.Split(b)
		want := cmp.Or(bytes.Compare(a[:na], b[:nb]), bytes.Compare(a[na:], b[nb:]))
		if got := c.Compare(a, b); got != want {
			t.Errorf("compare(%q, %q) = %d, by prefix and suffix %d", a, b, got, want)
		}
		next := c.ImmediateSuccessor(nil, a[:na])
		if c.Compare(next, a) <= 0 || c.Split(next) != len(next) {
			t.Errorf("successor of %q is %q", a[:na], next)
		}
		if _, err := parseColumn(a); err == nil && len(a) < familyIDLen+2+timestampLen {
			t.Errorf("parseColumn accepts %q", a)
		}
	})
}

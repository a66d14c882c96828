package bench

import (
	"bytes"
	"testing"
	"time"
)

func TestRecords(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{RecordBytes: 300, Cells: 3}, {RecordBytes: headerBytes, Cells: 5}, {RecordBytes: 1001, Cells: 7}} {
		r := newRecords(o, time.Now())
		keys := map[string]bool{}
		for _, i := range []int{0, 1, 499, 123_456_789, probeNumber} {
			data := r.message(i, 1500*time.Microsecond)
			if n, due, ok := parse(data); len(data) != o.RecordBytes || n != i || due != 1500*time.Microsecond || !ok {
				t.Errorf("%+v: message %d reads as %d, due %s, %d bytes", o, i, n, due, len(data))
			}
			row := r.row(i, data)
			var joined []byte
			for _, cell := range row.Cells {
				joined = append(joined, cell.Value...)
			}
			if len(row.Cells) != o.Cells || !bytes.Equal(joined, data) || keys[row.Key] {
				t.Errorf("%+v: row %d has %d cells, key %s, %d bytes", o, i, len(row.Cells), row.Key, len(joined))
			}
			keys[row.Key] = true
		}
	}
	if _, _, ok := parse([]byte("short")); ok {
		t.Error("a short message has a header")
	}
}

func TestBitmap(t *testing.T) {
	t.Parallel()
	b := newBitmap(65)
	for _, i := range []int{0, 31, 32, 64} {
		if b.has(i) || !b.set(i) || b.set(i) || !b.has(i) {
			t.Errorf("number %d is not new once", i)
		}
	}
	if b.has(1) || b.has(63) {
		t.Error("a neighbour is set")
	}
}

package bench

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// headerBytes begin every message: its number and when it was due, in ns from the start. So the
// receiver needs no table of what is on its way.
const headerBytes = 16

// probeNumber is the message that shows that the way is open before the load begins.
const probeNumber = 1<<63 - 1

// records makes messages and rows that do not compress better than real ones.
type records struct {
	bytes   int
	columns []string
	filler  []byte
	at      time.Time
}

const fillerSpread = 64 << 10

func newRecords(opts Options, at time.Time) *records {
	r := &records{bytes: opts.RecordBytes, filler: make([]byte, opts.RecordBytes+fillerSpread), at: at.Truncate(time.Millisecond)}
	_, _ = rand.NewChaCha8([32]byte{}).Read(r.filler) // It never fails.
	for i := range opts.Cells {
		r.columns = append(r.columns, "c"+strconv.Itoa(i))
	}
	return r
}

// fill returns the content of record i, whose length is the record's size.
func (r *records) fill(i int) []byte {
	data := make([]byte, r.bytes)
	copy(data, r.filler[i*509%fillerSpread:])
	return data
}

func (r *records) message(i int, due time.Duration) []byte {
	data := r.fill(i)
	binary.BigEndian.PutUint64(data, uint64(i))
	binary.BigEndian.PutUint64(data[8:], uint64(due))
	return data
}

// parse reads a message's header; ok is false for a message of someone else.
func parse(data []byte) (i int, due time.Duration, ok bool) {
	if len(data) < headerBytes {
		return 0, 0, false
	}
	return int(binary.BigEndian.Uint64(data)), time.Duration(binary.BigEndian.Uint64(data[8:])), true
}

// row spreads the content of record i over the cells.
func (r *records) row(i int, data []byte) dataset.Row { return r.rowOf(rowKey(i), data) }

func (r *records) rowOf(key string, data []byte) dataset.Row {
	row := dataset.Row{Key: key, Time: r.at, Cells: make([]dataset.Cell, len(r.columns))}
	for c, column := range r.columns {
		from, to := c*len(data)/len(r.columns), (c+1)*len(data)/len(r.columns)
		row.Cells[c] = dataset.Cell{Column: column, Value: data[from:to:to]}
	}
	return row
}

// rowKey scatters the rows over the key space, as entities that report in no order do. No two
// numbers have the same key.
func rowKey(i int) string {
	x := uint64(i) + 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], x^x>>31)
	return hex.EncodeToString(b[:])
}

// bitmap remembers message numbers.
type bitmap []atomic.Uint32

func newBitmap(n int) bitmap { return make(bitmap, (n+31)/32) }

func (b bitmap) has(i int) bool { return b[i/32].Load()&(1<<(i%32)) != 0 }

// set tells whether the number is new.
func (b bitmap) set(i int) bool {
	bit := uint32(1) << (i % 32)
	return b[i/32].Or(bit)&bit == 0
}

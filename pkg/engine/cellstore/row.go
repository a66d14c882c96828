package cellstore

import (
	"bytes"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// cell is one value of a row, on its way through a filter.
type cell struct {
	family    *family
	qualifier []byte
	micros    int64
	value     []byte
	label     string
}

func (c *cell) sameColumn(o *cell) bool {
	return c.family == o.family && bytes.Equal(c.qualifier, o.qualifier)
}

// skipAfter is how many garbage cells in a row the scanner steps over before it
// seeks to the next column.
const skipAfter = 16

// rowScanner reads whole rows through a Pebble iterator. It leaves out garbage
// and the cells of dropped families.
type rowScanner struct {
	it       *pebble.Iterator
	sc       *schema
	now      int64 // microseconds since 1970, for the GC rules
	maxBytes int64
	wanted   columnTest // columns to load; nil loads all

	// The row last loaded; both live until the arena is truncated.
	key   []byte
	cells []cell

	prefix []byte // row prefix of the row being loaded
	col    columnState
	bytes  int64
	arena  []byte // holds keys, qualifiers and values
	buf    []byte
}

// columnState follows one column from its newest cell to its oldest.
type columnState struct {
	name      []byte // family and qualifier as encoded
	family    *family
	qualifier []byte
	unwanted  bool
	index     int // of the next cell
	garbage   int // garbage cells met in a row
}

// copied returns a copy of b that lives in the arena.
func (r *rowScanner) copied(b []byte) []byte {
	n := len(r.arena)
	if n+len(b) > cap(r.arena) {
		r.arena = make([]byte, 0, max(min(2*cap(r.arena), 1<<20), len(b), 4<<10))
		n = 0
	}
	r.arena = append(r.arena, b...)
	return r.arena[n:len(r.arena):len(r.arena)]
}

// start begins the row at which the iterator stands.
func (r *rowScanner) start() {
	key := r.it.Key()
	r.prefix = append(r.prefix[:0], key[:splitKey(key)]...)
	r.buf = rowOf(r.buf[:0], r.prefix)
	r.key = r.copied(r.buf)
	r.cells = r.cells[:0]
	r.bytes = 0
	r.col = columnState{name: r.col.name[:0]}
}

// inRow reports whether the iterator still stands in the row being loaded.
func (r *rowScanner) inRow() bool {
	return r.it.Valid() && bytes.HasPrefix(r.it.Key(), r.prefix)
}

// enter returns the parsed column of a key suffix, having moved the column state
// to it, and whether its cell is garbage.
func (r *rowScanner) enter(suffix []byte) (c column, garbage bool, err error) {
	if c, err = parseColumn(suffix); err != nil {
		return c, false, status.Errorf(codes.DataLoss, "row %q: %v", r.key, err)
	}
	if name := suffix[:len(suffix)-timestampLen]; !bytes.Equal(name, r.col.name) {
		r.col = columnState{name: append(r.col.name[:0], name...), family: r.sc.byID[c.family]}
	}
	garbage = r.col.family == nil || r.col.family.rule.doomed(r.col.index, c.micros, r.now)
	r.col.index++
	if garbage {
		r.col.garbage++
	} else {
		r.col.garbage = 0
	}
	return c, garbage, nil
}

// keep adds a cell to the loaded row, unless its column is not wanted. Its bytes count either way.
func (r *rowScanner) keep(c column, value []byte) error {
	if r.col.qualifier == nil && !r.col.unwanted {
		r.buf = appendUnescaped(r.buf[:0], c.qualifier)
		if r.wanted != nil && !r.wanted(r.col.family, r.buf) {
			r.col.unwanted = true
		} else {
			r.col.qualifier = r.copied(r.buf)
		}
	}
	r.bytes += int64(len(r.col.name) + timestampLen + len(value))
	if r.bytes > r.maxBytes {
		return status.Errorf(codes.FailedPrecondition,
			"Error while reading row '%s' (%s) : the row is larger than %d bytes and cannot be read in full", shown(r.key), r.sc.name, r.maxBytes)
	}
	if r.col.unwanted {
		return nil
	}
	r.cells = append(r.cells, cell{
		family: r.col.family, qualifier: r.col.qualifier, micros: c.micros, value: r.copied(value),
	})
	return nil
}

// forward loads the row at which the iterator stands and moves to the next row.
// A row of which nothing is left loads as no cells.
func (r *rowScanner) forward() error {
	r.start()
	for r.inRow() {
		suffix := r.it.Key()[len(r.prefix):]
		c, garbage, err := r.enter(suffix)
		if err != nil {
			return err
		}
		if garbage {
			r.pass()
			continue
		}
		value, err := r.it.ValueAndErr()
		if err != nil {
			return readFailed(err)
		}
		if err := r.keep(c, value); err != nil {
			return err
		}
		r.it.Next()
	}
	return readFailed(r.it.Error())
}

// pass leaves a garbage cell behind, and its column when there may be many.
func (r *rowScanner) pass() {
	if r.col.garbage < skipAfter {
		r.it.Next()
		return
	}
	r.col.garbage = 0
	r.buf = append(append(r.buf[:0], r.prefix...), r.col.name...)
	r.it.SeekGE(upperBound(r.buf))
}

// backward loads the row at whose last cell the iterator stands and moves to the
// last cell of the row before it.
func (r *rowScanner) backward() error {
	r.start()
	type raw struct{ suffix, value []byte }
	var raws []raw
	for ; r.inRow(); r.it.Prev() {
		value, err := r.it.ValueAndErr()
		if err != nil {
			return readFailed(err)
		}
		raws = append(raws, raw{r.copied(r.it.Key()[len(r.prefix):]), r.copied(value)})
	}
	if err := r.it.Error(); err != nil {
		return readFailed(err)
	}
	for _, cell := range slices.Backward(raws) {
		c, garbage, err := r.enter(cell.suffix)
		if err != nil {
			return err
		}
		if garbage {
			continue
		}
		if err := r.keep(c, cell.value); err != nil {
			return err
		}
	}
	return nil
}

func readFailed(err error) error {
	if err == nil {
		return nil
	}
	return status.Errorf(codes.Internal, "the cell store cannot read: %v", err)
}

// readRow loads one row; it has no cells when the row does not exist.
func (s *Server) readRow(from pebble.Reader, sc *schema, row []byte) (r *rowScanner, err error) {
	lower := appendRowPrefix(nil, sc.id, row)
	it, err := from.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upperBound(bytes.Clone(lower))})
	if err != nil {
		return nil, readFailed(err)
	}
	defer func() {
		if cerr := it.Close(); err == nil {
			err = readFailed(cerr)
		}
	}()
	r = &rowScanner{it: it, sc: sc, now: s.opts.Now().UnixMicro(), maxBytes: s.opts.MaxRowBytes}
	if it.SeekPrefixGE(lower) {
		return r, r.forward()
	}
	return r, readFailed(it.Error())
}

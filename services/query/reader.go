package query

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/pkg/web"
)

// reading is one pass over the rows of a plan.
type reading struct {
	plan plan
	desc bool
	// columns to read; nil reads all. The columns that tell whether a row still belongs to its
	// entry are read besides.
	columns  []string
	keysOnly bool
	// limit is the most keys to read.
	limit int
	// expect is how many rows the caller wants when each row that is shown is one of them; 0 = not known.
	expect int
}

// visit is called with each key in the order of the access, and with its row; shown is false for an
// entry of an index whose row is gone or has moved on. Returning false ends the reading.
type visit func(key string, row dataset.Row, shown bool) bool

// read passes the rows of a plan to each.
func (s *Service) read(ctx context.Context, rd reading, each visit) error {
	if len(rd.plan.ranges) == 0 || rd.limit <= 0 {
		return nil
	}
	a := rd.plan.access
	if a.index != nil {
		return s.readByIndex(ctx, rd, each)
	}
	scan := store.Scan{Ranges: rd.plan.ranges, Reverse: rd.desc, Limit: rd.first(), Columns: rd.columns, KeysOnly: rd.keysOnly}
	return s.deps.Store.Scan(ctx, a.ds.Table(), scan, func(row dataset.Row) bool { return each(row.Key, row, true) })
}

// first is how many keys are read before it is known whether they are enough.
func (rd reading) first() int {
	if rd.expect > 0 {
		return min(rd.limit, rd.expect)
	}
	return rd.limit
}

// The number of rows behind an index that are read at once: few at first, because a page may be small.
const (
	minIndexBatch = 32
	maxIndexBatch = 512
)

// readByIndex reads the entries and, in batches, the rows that they point to. It begins with as many
// entries as rows are wanted, because a store sends on while the rows are read; only where some of
// them are stale does it go on.
func (s *Service) readByIndex(ctx context.Context, rd reading, each visit) error {
	a := rd.plan.access
	columns := rd.columns
	if columns != nil && !a.index.Fixed() {
		columns = withColumns(a.ds, columns, a.index.Fields)
	}
	b := &indexBatch{reading: rd, columns: columns, store: s.deps.Store, each: each, size: min(rd.first(), max(rd.expect, minIndexBatch), maxIndexBatch)}
	for limit := rd.first(); ; limit = rd.limit - b.read {
		before := b.read
		scan := store.Scan{Ranges: b.plan.ranges, Reverse: rd.desc, Limit: limit, KeysOnly: true}
		err := s.deps.Store.Scan(ctx, a.ds.IndexTable(a.index), scan, func(entry dataset.Row) bool { return b.add(ctx, entry.Key) })
		if err == nil && !b.ended {
			b.flush(ctx)
		}
		if b.err != nil {
			return b.err
		}
		if err != nil || b.ended || b.read-before < limit || b.read == rd.limit {
			return err
		}
		if b.plan.after(b.last, rd.desc); len(b.plan.ranges) == 0 {
			return nil
		}
	}
}

// withColumns adds the columns of fields to a list.
func withColumns(ds *dataset.Dataset, columns []string, fields []*dataset.Field) []string {
	need := map[string]bool{}
	for _, c := range columns {
		need[c] = true
	}
	for _, f := range fields {
		need[f.Name] = true
	}
	var all []string
	for _, f := range ds.Fields {
		if need[f.Name] {
			all = append(all, f.Name)
		}
	}
	return all
}

// indexBatch gathers entries until it is worth reading their rows.
type indexBatch struct {
	reading
	columns []string
	store   Store
	each    visit
	size    int
	entries []string
	keys    []string
	read    int    // entries, all in all
	last    string // of them
	ended   bool
	err     error
}

// add returns false when the reading is over.
func (b *indexBatch) add(ctx context.Context, entry string) bool {
	_, key, err := b.plan.access.ds.SplitIndexKey(b.plan.access.index, entry)
	if err != nil {
		key = "" // An entry of an index that was once made of other fields points nowhere.
	}
	b.entries, b.keys = append(b.entries, entry), append(b.keys, key)
	b.read, b.last = b.read+1, entry
	if len(b.entries) < b.size {
		return true
	}
	b.size = min(2*b.size, maxIndexBatch)
	return b.flush(ctx)
}

func (b *indexBatch) flush(ctx context.Context) bool {
	if len(b.entries) == 0 {
		return true
	}
	a := b.plan.access
	keys := b.keys[:0:0]
	for _, key := range b.keys {
		if key != "" {
			keys = append(keys, key)
		}
	}
	rows, err := b.store.GetMany(ctx, a.ds.Table(), keys, b.columns)
	if err != nil {
		b.err, b.ended = err, true
		return false
	}
	for i, entry := range b.entries {
		var row dataset.Row
		if b.keys[i] != "" {
			row, rows = rows[0], rows[1:]
		}
		if !b.each(entry, row, a.shows(entry, row)) {
			b.ended = true
			return false
		}
	}
	b.entries, b.keys = b.entries[:0], b.keys[:0]
	return true
}

// shows says whether a row still belongs under an entry: it exists, and its fields are those of the
// entry. What ingest has not tidied up yet is never seen.
func (a access) shows(entry string, row dataset.Row) bool {
	if len(row.Cells) == 0 {
		return false
	}
	rec, err := a.ds.KeyRecord(row.Key)
	if err == nil && !a.index.Fixed() {
		rec, err = a.ds.Record(row)
	}
	if err != nil {
		return true // The caller meets the same error and reports it.
	}
	return a.ds.IndexKeyOf(a.index, rec, row.Key) == entry
}

// indexState remembers whether an index has every row.
type indexState struct {
	built   atomic.Bool
	looked  atomic.Bool  // at least once
	again   atomic.Int64 // when to look again, in Unix nanoseconds
	looking sync.Mutex
	fault   string // what was logged last
}

// How often it is looked whether an index is built by now, and whether a built one still is: ingest
// takes the mark away when it stores rows without the index.
const (
	indexCheckInterval = time.Second
	indexAgainInterval = 30 * time.Second
)

// ready says whether an index may be used: entries of rows from before its declaration are added by
// ingest, which then leaves a mark in its table.
func (s *Service) ready(ctx context.Context, ep *endpoint) func(*dataset.Index) bool {
	return func(ix *dataset.Index) bool {
		st := ep.indexes[ix.Name]
		if st.looked.Load() {
			// One request looks, and the others do not wait for it.
			if s.deps.Now().UnixNano() < st.again.Load() || !st.looking.TryLock() {
				return st.built.Load()
			}
		} else {
			st.looking.Lock()
		}
		defer st.looking.Unlock()
		if now := s.deps.Now(); !st.looked.Load() || now.UnixNano() >= st.again.Load() {
			s.lookForMark(ctx, ep.ds, ix, st, now)
		}
		return st.built.Load()
	}
}

// lookForMark needs the lock. A store that does not answer changes nothing.
func (s *Service) lookForMark(ctx context.Context, ds *dataset.Dataset, ix *dataset.Index, st *indexState, now time.Time) {
	// What is found counts for all requests, so it does not end with the one that looks.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opts.GetTimeout)
	defer cancel()
	row, err := s.deps.Store.Get(ctx, ds.IndexTable(ix), dataset.IndexMark, []string{dataset.IndexMarkColumn})
	fault := ""
	if err == nil || errors.Is(err, store.ErrNotFound) {
		st.built.Store(ds.IndexBuilt(ix, row))
	} else if fault = err.Error(); fault != st.fault {
		s.deps.Log.Warn("look whether an index is built", "dataset", ds.Name, "index", ix.Name, "request_id", web.RequestID(ctx), "error", err)
	}
	st.fault = fault
	pause := indexCheckInterval
	if st.built.Load() && fault == "" {
		pause = indexAgainInterval
	}
	st.again.Store(now.Add(pause).UnixNano())
	st.looked.Store(true)
}

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
	scan := store.Scan{Ranges: rd.plan.ranges, Reverse: rd.desc, Limit: rd.limit, Columns: rd.columns, KeysOnly: rd.keysOnly}
	return s.deps.Store.Scan(ctx, a.ds.Table(), scan, func(row dataset.Row) bool { return each(row.Key, row, true) })
}

// The number of rows behind an index that are read at once: few at first, because a page may be small.
const (
	minIndexBatch = 32
	maxIndexBatch = 512
)

// readByIndex reads the entries and, in batches, the rows that they point to.
func (s *Service) readByIndex(ctx context.Context, rd reading, each visit) error {
	a := rd.plan.access
	columns := rd.columns
	if columns != nil && !a.index.Fixed() {
		columns = withColumns(a.ds, columns, a.index.Fields)
	}
	b := &indexBatch{reading: rd, columns: columns, store: s.deps.Store, each: each, size: min(rd.limit, minIndexBatch)}
	scan := store.Scan{Ranges: rd.plan.ranges, Reverse: rd.desc, Limit: rd.limit, KeysOnly: true}
	err := s.deps.Store.Scan(ctx, a.ds.IndexTable(a.index), scan, func(entry dataset.Row) bool { return b.add(ctx, entry.Key) })
	if err == nil && !b.ended {
		b.flush(ctx)
	}
	if b.err != nil {
		return b.err
	}
	return err
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

// indexState remembers that an index has every row.
type indexState struct {
	built atomic.Bool

	mu      sync.Mutex
	checked time.Time
}

// indexCheckInterval is how often it is looked whether an index is built by now.
const indexCheckInterval = time.Second

// ready says whether an index may be used: entries of rows from before its declaration are added by
// ingest, which then leaves a mark in its table.
func (s *Service) ready(ctx context.Context, ep *endpoint) func(*dataset.Index) bool {
	return func(ix *dataset.Index) bool {
		st := ep.indexes[ix.Name]
		return st.built.Load() || s.lookForMark(ctx, ep.ds, ix, st)
	}
}

func (s *Service) lookForMark(ctx context.Context, ds *dataset.Dataset, ix *dataset.Index, st *indexState) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	now := s.deps.Now()
	if st.built.Load() || !st.checked.IsZero() && now.Sub(st.checked) < indexCheckInterval {
		return st.built.Load()
	}
	st.checked = now
	ctx, cancel := context.WithTimeout(ctx, s.opts.GetTimeout)
	defer cancel()
	row, err := s.deps.Store.Get(ctx, ds.IndexTable(ix), dataset.IndexMark, []string{dataset.IndexMarkColumn})
	if err != nil {
		if !errors.Is(err, store.ErrNotFound) {
			s.deps.Log.Warn("look whether an index is built", "dataset", ds.Name, "index", ix.Name, "request_id", web.RequestID(ctx), "error", err)
		}
		return false
	}
	st.built.Store(ds.IndexBuilt(ix, row))
	return st.built.Load()
}

package ingest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
)

// Rows is what the upkeep of indexes needs of the store besides writing.
type Rows interface {
	Get(ctx context.Context, table, key string, columns []string) (dataset.Row, error)
	GetMany(ctx context.Context, table string, keys, columns []string) ([]dataset.Row, error)
	Scan(ctx context.Context, table string, s store.Scan, each func(dataset.Row) bool) error
	DeleteEntries(ctx context.Context, table string, entries []store.Entry) error
}

// indexer stores rows with their index entries. An entry points to its row and a reader shows the
// row only when its current version has that entry, so entries may be too many but never too few:
// they are written before the row and removed only once a newer version of the row is stored.
type indexer struct {
	route  *route
	tables []string // of each index
	// movable are the indexes in which a row can move, by their place in the dataset.
	movable []int
	// columns are the row key's and those of the movable indexes; all are those of every index.
	columns, all []string
}

// newIndexer returns nil for a dataset without indexes.
func newIndexer(r *route) *indexer {
	if len(r.ds.Indexes) == 0 {
		return nil
	}
	x := &indexer{route: r}
	moving, every := slices.Clone(r.ds.Key), slices.Clone(r.ds.Key)
	for i := range r.ds.Indexes {
		ix := &r.ds.Indexes[i]
		x.tables = append(x.tables, r.ds.IndexTable(ix))
		every = append(every, ix.Fields...)
		if !ix.Fixed() {
			x.movable = append(x.movable, i)
			moving = append(moving, ix.Fields...)
		}
	}
	x.columns, x.all = fieldNames(moving), fieldNames(every)
	return x
}

// fieldNames returns each name once.
func fieldNames(fields []*dataset.Field) []string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Name
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// superseded is what the versions already stored make of a batch.
type superseded struct {
	// hidden tells of each row whether a version with a later event time is stored, which hides it
	// for ever. It is nil when nothing is known.
	hidden []bool
	stale  []staleEntry
}

// staleEntry is an entry that nobody needs once the row of the batch is committed.
type staleEntry struct {
	row, index int
	entry      store.Entry
}

// put writes the entries of the batch, then the rows whose entries are all committed. It returns
// one error for each row and the entries that can go now.
func (x *indexer) put(ctx context.Context, rows []dataset.Row, winners []*winner) ([]error, []staleEntry) {
	s := x.compare(ctx, rows, winners)
	errs := x.putEntries(ctx, winners, s.hidden)
	x.putRows(ctx, rows, errs)
	return errs, slices.DeleteFunc(s.stale, func(e staleEntry) bool { return errs[e.row] != nil })
}

// compare reads the stored versions of the rows. Of two versions only the one with the later event
// time can ever be read, whoever writes meanwhile; so the entry of the other may go, up to its time.
// Two versions of one event time prove nothing, because the other may be written again.
func (x *indexer) compare(ctx context.Context, rows []dataset.Row, winners []*winner) (s superseded) {
	if len(x.movable) == 0 {
		return s
	}
	keys := make([]string, len(rows))
	for i, row := range rows {
		keys[i] = row.Key
	}
	ctx, cancel := context.WithTimeout(ctx, x.route.opts.IndexTimeout)
	defer cancel()
	ds := x.route.ds
	stored, err := x.route.deps.Rows.GetMany(ctx, ds.Table(), keys, x.columns)
	if err != nil {
		x.note(ctx, "stored versions not read, their index entries stay", ds.Table(), err)
		return s
	}
	s.hidden = make([]bool, len(rows))
	for i, old := range stored {
		// A version from before a field was declared can yet be completed by an older one.
		s.hidden[i] = old.Time.After(rows[i].Time) && len(old.Cells) == len(x.columns)
		if len(old.Cells) == 0 || old.Time.Equal(rows[i].Time) || old.Time.After(rows[i].Time) && !s.hidden[i] {
			continue
		}
		rec, err := ds.Record(old)
		if err != nil {
			continue // No reader can show the old version, and its entry cannot be told.
		}
		was, is := x.movableKeys(rec), make([]string, len(x.movable))
		for at, m := range x.movable {
			is[at] = winners[i].item.entries[m].Key
		}
		if s.hidden[i] {
			s.stale = x.leave(s.stale, i, is, was, rows[i].Time)
		} else {
			s.stale = x.leave(s.stale, i, was, is, old.Time)
		}
	}
	return s
}

// movableKeys returns the entries of a record in the movable indexes.
func (x *indexer) movableKeys(rec dataset.Record) []string {
	keys := make([]string, len(x.movable))
	for at, m := range x.movable {
		keys[at] = x.route.ds.IndexKey(&x.route.ds.Indexes[m], rec)
	}
	return keys
}

// leave adds the entries of a version, up to its time, that the version which outlives it does not share.
func (x *indexer) leave(stale []staleEntry, row int, version, later []string, through time.Time) []staleEntry {
	for at, m := range x.movable {
		if version[at] != later[at] {
			stale = append(stale, staleEntry{row: row, index: m, entry: store.Entry{Key: version[at], Through: through}})
		}
	}
	return stale
}

// putEntries writes the entries of each index, all indexes at a time.
func (x *indexer) putEntries(ctx context.Context, winners []*winner, hidden []bool) []error {
	byIndex := make([][]error, len(x.tables))
	var writes sync.WaitGroup
	for index := range x.tables[1:] {
		writes.Go(func() { byIndex[index+1] = x.putIndex(ctx, index+1, winners, hidden) })
	}
	byIndex[0] = x.putIndex(ctx, 0, winners, hidden)
	writes.Wait()
	errs := byIndex[0]
	for _, others := range byIndex[1:] {
		for i, err := range others {
			// A refusal has the last word: the record would be refused again.
			if errs[i] == nil || errors.Is(err, store.ErrPoison) {
				errs[i] = err
			}
		}
	}
	return errs
}

// putIndex writes the entries of one index. A hidden row gets none where it could be a stale one.
func (x *indexer) putIndex(ctx context.Context, index int, winners []*winner, hidden []bool) []error {
	skips := hidden != nil && slices.Contains(x.movable, index)
	entries, at := make([]dataset.Row, 0, len(winners)), make([]int, 0, len(winners))
	for i, w := range winners {
		if skips && hidden[i] {
			continue
		}
		entries, at = append(entries, w.item.entries[index]), append(at, i)
	}
	errs := make([]error, len(winners))
	if len(entries) == 0 {
		return errs
	}
	for i, err := range x.route.sink.Put(ctx, x.tables[index], entries) {
		errs[at[i]] = err
	}
	return errs
}

// putRows writes the rows whose entries are committed and adds what became of them to errs.
func (x *indexer) putRows(ctx context.Context, rows []dataset.Row, errs []error) {
	ready, at := rows, []int(nil)
	if slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		ready = nil
		for i, row := range rows {
			if errs[i] == nil {
				ready, at = append(ready, row), append(at, i)
			}
		}
	}
	if len(ready) == 0 {
		return
	}
	for i, err := range x.route.sink.Put(ctx, x.route.ds.Table(), ready) {
		if at != nil {
			i = at[i]
		}
		errs[i] = err
	}
}

// tidy removes stale entries. It may fail: a reader passes over what stays.
func (x *indexer) tidy(stale []staleEntry) {
	if len(stale) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), x.route.opts.IndexTimeout)
	defer cancel()
	byTable := make([][]store.Entry, len(x.tables))
	for _, s := range stale {
		byTable[s.index] = append(byTable[s.index], s.entry)
	}
	var deletions sync.WaitGroup
	for index, entries := range byTable {
		if len(entries) == 0 {
			continue
		}
		deletions.Go(func() {
			if err := x.route.deps.Rows.DeleteEntries(ctx, x.tables[index], entries); err != nil {
				x.note(ctx, "stale index entries not removed", x.tables[index], err)
			}
		})
	}
	deletions.Wait()
}

func (x *indexer) note(ctx context.Context, what, table string, err error) {
	x.route.observed.platformError(stageIndex)
	x.route.deps.Log.DebugContext(ctx, what, "dataset", x.route.ds.Name, "table", table, "error", err)
}

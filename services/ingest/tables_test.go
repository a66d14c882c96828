package ingest

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
)

// fakeTables stores rows as Bigtable does, in any number of tables and with every version.
type fakeTables struct {
	// before, when set, runs before each call and may fail it; after runs behind it.
	before, after func(call, table string) error
	// rowFault, when set, decides the outcome of each row that is put, and whether it is stored all the same.
	rowFault func(table string, row dataset.Row) (err error, stored bool)
	// changed, when set, is called with the lock held whenever something was.
	changed func()

	mu     sync.Mutex
	tables map[string]map[string]map[int64]dataset.Row // by table, key and time
	calls  []string                                    // "call table", in their order
}

func newFakeTables() *fakeTables {
	return &fakeTables{tables: map[string]map[string]map[int64]dataset.Row{}}
}

// call runs one call of the store: do holds the lock.
func (f *fakeTables) call(call, table string, do func() (changes bool)) error {
	if f.before != nil {
		if err := f.before(call, table); err != nil {
			return err
		}
	}
	f.mu.Lock()
	f.calls = append(f.calls, call+" "+table)
	if do() && f.changed != nil {
		f.changed()
	}
	f.mu.Unlock()
	if f.after != nil {
		return f.after(call, table)
	}
	return nil
}

func (f *fakeTables) Put(_ context.Context, table string, rows []dataset.Row) []error {
	errs := make([]error, len(rows))
	err := f.call("put", table, func() bool {
		for i, row := range rows {
			stored := true
			if f.rowFault != nil {
				errs[i], stored = f.rowFault(table, row)
			}
			if stored {
				f.set(table, row)
			}
		}
		return true
	})
	if err != nil {
		for i := range errs {
			errs[i] = err
		}
	}
	return errs
}

func (f *fakeTables) set(table string, row dataset.Row) {
	if f.tables[table] == nil {
		f.tables[table] = map[string]map[int64]dataset.Row{}
	}
	if f.tables[table][row.Key] == nil {
		f.tables[table][row.Key] = map[int64]dataset.Row{}
	}
	f.tables[table][row.Key][row.Time.UnixMilli()] = row
}

// newest returns the newest version of a row, without cells when there is none.
func (f *fakeTables) newest(table, key string) dataset.Row {
	versions := f.tables[table][key]
	if len(versions) == 0 {
		return dataset.Row{}
	}
	return versions[slices.Max(slices.Collect(maps.Keys(versions)))]
}

func project(row dataset.Row, columns []string) dataset.Row {
	if columns == nil {
		return row
	}
	cells := row.Cells
	row.Cells = nil
	for _, c := range cells {
		if slices.Contains(columns, c.Column) {
			row.Cells = append(row.Cells, c)
		}
	}
	if row.Cells == nil {
		return dataset.Row{}
	}
	return row
}

func (f *fakeTables) GetMany(_ context.Context, table string, keys, columns []string) ([]dataset.Row, error) {
	rows := make([]dataset.Row, len(keys))
	err := f.call("get many", table, func() bool {
		for i, key := range keys {
			rows[i] = project(f.newest(table, key), columns)
		}
		return false
	})
	return rows, err
}

func (f *fakeTables) Get(_ context.Context, table, key string, columns []string) (row dataset.Row, err error) {
	err = f.call("get", table, func() bool {
		row = project(f.newest(table, key), columns)
		return false
	})
	if err == nil && row.Cells == nil {
		err = store.ErrNotFound
	}
	return row, err
}

func (f *fakeTables) Scan(_ context.Context, table string, s store.Scan, each func(dataset.Row) bool) error {
	return f.call("scan", table, func() bool {
		n := 0
		for _, key := range f.keys(table) {
			if key < s.Start || s.End != "" && key >= s.End {
				continue
			}
			if n++; !each(project(f.newest(table, key), s.Columns)) || n == s.Limit {
				break
			}
		}
		return false
	})
}

func (f *fakeTables) keys(table string) []string { return slices.Sorted(maps.Keys(f.tables[table])) }

// entries returns the keys of an index table but for the mark.
func (f *fakeTables) entries(table string) []string {
	return slices.DeleteFunc(f.keys(table), func(key string) bool { return key == dataset.IndexMark })
}

func (f *fakeTables) DeleteEntries(_ context.Context, table string, entries []store.Entry) error {
	return f.call("delete", table, func() bool {
		for _, e := range entries {
			versions := f.tables[table][e.Key]
			maps.DeleteFunc(versions, func(ms int64, _ dataset.Row) bool { return ms <= e.Through.UnixMilli() })
			if len(versions) == 0 {
				delete(f.tables[table], e.Key)
			}
		}
		return true
	})
}

// happened returns the calls that begin with a prefix, in their order.
func (f *fakeTables) happened(prefix string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.calls), func(call string) bool { return !strings.HasPrefix(call, prefix) })
}

// lacking returns the keys of rows whose current version has no entry in an index: those that a
// reader of the index misses. The caller holds the lock.
func (f *fakeTables) lacking(ds *dataset.Dataset, ix *dataset.Index) []string {
	var lacking []string
	for _, key := range f.keys(ds.Table()) {
		rec, err := ds.Record(f.newest(ds.Table(), key))
		if err != nil || f.newest(ds.IndexTable(ix), ds.IndexKey(ix, rec)).Cells == nil {
			lacking = append(lacking, key)
		}
	}
	return lacking
}

// marked tells whether the index says that it is complete. The caller holds the lock.
func (f *fakeTables) marked(ds *dataset.Dataset, ix *dataset.Index) bool {
	return ds.IndexBuilt(ix, f.newest(ds.IndexTable(ix), dataset.IndexMark))
}

// shown counts how often a reader of the index shows each row: it reads the row of every entry and
// passes over the entries that its current version does not have.
func (f *fakeTables) shown(ds *dataset.Dataset, ix *dataset.Index) (map[string]int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	shown := map[string]int{}
	for _, entry := range f.entries(ds.IndexTable(ix)) {
		_, key, err := ds.SplitIndexKey(ix, entry)
		if err != nil {
			return nil, err
		}
		current := f.newest(ds.Table(), key)
		if current.Cells == nil {
			continue
		}
		rec, err := ds.Record(current)
		if err != nil {
			return nil, err
		}
		if ds.IndexKey(ix, rec) == entry {
			shown[key]++
		}
	}
	return shown, nil
}

// second is an event time.
func second(n int) time.Time { return eventTime().Add(time.Duration(n) * time.Second) }

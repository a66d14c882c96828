package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
)

const (
	minBuildBackoff = 100 * time.Millisecond
	maxBuildBackoff = 30 * time.Second
)

// build gives the rows that were stored before an index was declared their entries. It runs beside
// ingesting, whose rows bring their own, and several processes may do it at once: an entry is a
// pure function of its row.
type build struct {
	*indexer
	checked bool
	missing []int // indexes without a mark of their declaration
	waited  bool
	next    string // where the scan goes on
	// rows counts what was read, skipped the entries that a row cannot have.
	rows, skipped int
	began         time.Time
}

// build works until every index has its mark or the context ends.
func (x *indexer) build(ctx context.Context) {
	b := &build{indexer: x, began: x.route.deps.Now()}
	backoff := minBuildBackoff
	for {
		before := b.rows
		err := b.run(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		if b.rows > before {
			backoff = minBuildBackoff
		}
		x.route.observed.platformError(stageIndex)
		x.route.deps.Log.Warn("index build interrupted, it goes on", "dataset", x.route.ds.Name, "rows", b.rows, "error", err, "retry_in", backoff)
		pause(ctx, backoff)
		backoff = min(2*backoff, maxBuildBackoff)
	}
}

// run goes on where the last run failed.
func (b *build) run(ctx context.Context) error {
	if !b.checked {
		if err := b.check(ctx); err != nil {
			return err
		}
		b.checked = true
	}
	if len(b.missing) == 0 {
		return nil
	}
	if err := b.wait(ctx); err != nil {
		return err
	}
	for more := true; more; {
		var err error
		if more, err = b.page(ctx); err != nil {
			return err
		}
	}
	if err := b.mark(ctx); err != nil {
		return err
	}
	level := slog.LevelInfo
	if b.rows == 0 {
		level = slog.LevelDebug // The first start of a dataset is no news.
	}
	b.route.deps.Log.Log(ctx, level, "index build ended", "dataset", b.route.ds.Name, "indexes", b.names(),
		"rows", b.rows, "skipped", b.skipped, "took", b.route.deps.Now().Sub(b.began))
	return nil
}

// check finds the indexes without a mark of their declaration.
func (b *build) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.route.opts.IndexTimeout)
	defer cancel()
	b.missing = nil
	ds := b.route.ds
	for i, table := range b.tables {
		mark, err := b.route.deps.Rows.Get(ctx, table, dataset.IndexMark, nil)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("read the mark of index %s: %w", ds.Indexes[i].Name, err)
		}
		if !ds.IndexBuilt(&ds.Indexes[i], mark) {
			b.missing = append(b.missing, i)
		}
	}
	return nil
}

func (b *build) names() []string {
	var names []string
	for _, i := range b.missing {
		names = append(names, b.route.ds.Indexes[i].Name)
	}
	return names
}

// wait lets processes that do not know the index end before rows are read: a row that one of them
// writes behind the scan would have no entry. An empty table has no such processes.
func (b *build) wait(ctx context.Context) error {
	delay := b.route.opts.IndexBuildDelay - b.route.deps.Now().Sub(b.began)
	if b.waited || delay <= 0 {
		return nil
	}
	some, err := b.read(ctx, store.Scan{Limit: 1, KeysOnly: true})
	if err != nil {
		return err
	}
	if len(some) > 0 {
		pause(ctx, delay)
	}
	b.waited = ctx.Err() == nil
	return ctx.Err()
}

// page writes the entries of the next rows and tells whether more may follow.
func (b *build) page(ctx context.Context) (more bool, err error) {
	limit := b.route.opts.BatchRows
	rows, err := b.read(ctx, store.Scan{Start: b.next, Limit: limit, Columns: b.all})
	if err != nil || len(rows) == 0 {
		return false, err
	}
	if b.rows == 0 {
		b.route.deps.Log.Info("index build begins", "dataset", b.route.ds.Name, "indexes", b.names())
	}
	skipped, err := b.putAll(ctx, rows)
	if err != nil {
		return false, err
	}
	b.tidyMoved(ctx, rows)
	b.rows += len(rows)
	b.skipped += skipped
	b.next = rows[len(rows)-1].Key + "\x00"
	if len(rows) < limit {
		return false, nil
	}
	pause(ctx, time.Duration(len(rows))*time.Second/time.Duration(b.route.opts.IndexBuildRate))
	return true, ctx.Err()
}

func (b *build) read(ctx context.Context, scan store.Scan) ([]dataset.Row, error) {
	ctx, cancel := context.WithTimeout(ctx, b.route.opts.IndexTimeout)
	defer cancel()
	var rows []dataset.Row
	err := b.route.deps.Rows.Scan(ctx, b.route.ds.Table(), scan, func(row dataset.Row) bool {
		rows = append(rows, row)
		return true
	})
	return rows, err
}

// putAll writes the entries of rows in every index that lacks its mark. A row that cannot be read
// as declared, or whose entry is refused, has none: no reader would show it through the index.
func (b *build) putAll(ctx context.Context, rows []dataset.Row) (skipped int, err error) {
	byIndex := make([][]dataset.Row, len(b.tables))
	for _, row := range rows {
		rec, err := b.route.ds.Record(row)
		if err != nil {
			skipped += len(b.missing)
			b.warn(skipped, "error", err)
			continue
		}
		entries := b.route.ds.IndexEntries(rec, row.Time)
		for _, i := range b.missing {
			byIndex[i] = append(byIndex[i], entries[i])
		}
	}
	for i, entries := range byIndex {
		if len(entries) == 0 {
			continue
		}
		for at, err := range b.route.deps.Sink.Put(ctx, b.tables[i], entries) {
			switch {
			case errors.Is(err, store.ErrPoison):
				skipped++
				b.warn(skipped, "index", b.route.ds.Indexes[i].Name, "row", b.rowID(i, entries[at].Key), "error", err)
			case err != nil:
				return 0, err
			}
		}
	}
	return skipped, nil
}

// maxBuildWarnings bounds how many rows the log names; the end of the build counts them all.
const maxBuildWarnings = 20

func (b *build) warn(skipped int, attrs ...any) {
	if b.skipped+skipped <= maxBuildWarnings {
		b.route.deps.Log.Warn("row not indexed", append([]any{"dataset", b.route.ds.Name}, attrs...)...)
	}
}

// rowID is the id of the row that an entry points to.
func (b *build) rowID(index int, entry string) string {
	_, key, err := b.route.ds.SplitIndexKey(&b.route.ds.Indexes[index], entry)
	if err != nil {
		return ""
	}
	id, err := b.route.ds.RowID(key)
	if err != nil {
		return ""
	}
	return id
}

// tidyMoved removes the entries of rows that moved between their reading and the writing of their
// entries: ingest removed these before they were there.
func (b *build) tidyMoved(ctx context.Context, rows []dataset.Row) {
	if len(b.movable) == 0 {
		return
	}
	keys := make([]string, len(rows))
	for i, row := range rows {
		keys[i] = row.Key
	}
	ctx, cancel := context.WithTimeout(ctx, b.route.opts.IndexTimeout)
	defer cancel()
	ds := b.route.ds
	now, err := b.route.deps.Rows.GetMany(ctx, ds.Table(), keys, b.columns)
	if err != nil {
		b.note(ctx, "rows not read again, their older index entries stay", ds.Table(), err)
		return
	}
	var stale []staleEntry
	for i, row := range rows {
		if !now[i].Time.After(row.Time) {
			continue
		}
		was, err := ds.Record(row)
		if err != nil {
			continue // It got no entry.
		}
		is, err := ds.Record(now[i])
		if err != nil {
			continue
		}
		stale = b.leave(stale, i, b.movableKeys(was), b.movableKeys(is), row.Time)
	}
	b.tidy(stale)
}

// mark says in the table of each index built that it is complete.
func (b *build) mark(ctx context.Context) error {
	ds := b.route.ds
	for _, i := range b.missing {
		err := b.route.deps.Sink.Put(ctx, b.tables[i], []dataset.Row{ds.IndexMarkRow(&ds.Indexes[i])})[0]
		if err != nil {
			return fmt.Errorf("mark index %s as built: %w", ds.Indexes[i].Name, err)
		}
	}
	return nil
}

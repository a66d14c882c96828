package query

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// errStoreGone says that rows were not found because they could not be read.
var errStoreGone = errors.New("the store could not be read for too long")

// deliver looks up the rows that are due, and sends those that are there.
func (t *tailStream) deliver(ctx context.Context) error {
	// What has come by now counts for the positions that are sent below.
	t.accept()
	now := time.Now()
	batch := t.due(now)
	if len(batch) == 0 {
		return nil
	}
	rows, err := t.lookUp(ctx, batch)
	if ctx.Err() != nil {
		return nil //nolint:nilerr // The client is gone, and the loop sees it.
	}
	var ready []*tailItem
	missed := t.missed
	for i, it := range batch {
		switch {
		case err != nil && !now.Before(it.deadline):
			return fmt.Errorf("%w: %w", errStoreGone, err)
		case err != nil:
			it.later(now)
		default:
			if t.judge(ctx, it, rows[i], now) {
				ready = append(ready, it)
			}
		}
	}
	if err := t.send(ctx, ready); err != nil {
		return err
	}
	if n := t.missed - missed; n > 0 {
		detail := fmt.Sprintf("%d records were not stored within %s", n, dataset.FormatDuration(t.opts.StoreWait))
		if err := t.gap(detail); err != nil {
			return err
		}
	}
	err = t.out.flush()
	for _, it := range ready {
		it.settleOnce()
	}
	t.compact()
	return err
}

// due takes the items to look up now, and counts those as looked up.
func (t *tailStream) due(now time.Time) (batch []*tailItem) {
	soon := now.Add(t.opts.BatchDelay)
	for _, it := range t.pending {
		if !it.due.After(soon) && len(batch) < t.opts.BatchRows {
			batch = append(batch, it)
		}
	}
	t.fresh = 0
	return batch
}

func (t *tailStream) lookUp(ctx context.Context, batch []*tailItem) ([]dataset.Row, error) {
	keys := make([]string, len(batch))
	for i, it := range batch {
		keys[i] = it.row.Key
	}
	ctx, cancel := context.WithTimeout(ctx, t.s.opts.GetTimeout)
	defer cancel()
	rows, err := t.s.deps.Store.GetMany(ctx, t.ep.ds.Table(), keys, nil)
	if err != nil {
		t.warnOnce(ctx, err)
		return nil, err
	}
	t.storeOK = true
	return rows, nil
}

// warnOnce logs the first of several failed reads.
func (t *tailStream) warnOnce(ctx context.Context, err error) {
	if t.storeOK && ctx.Err() == nil {
		t.s.deps.Log.LogAttrs(ctx, slog.LevelWarn, "rows of a live stream not read, trying again", slog.String("dataset", t.ep.ds.Name), slog.Any("error", err))
	}
	t.storeOK = false
}

// judge compares a message with the row of its key and reports whether the row is the message's.
// A row with a later event time has won for good, so the message changes nothing. One of the same
// time with other content is either not replaced yet, or was replaced again: the message that did
// so settles this one, see send.
func (t *tailStream) judge(ctx context.Context, it *tailItem, row dataset.Row, now time.Time) bool {
	stored := len(row.Cells) > 0
	if stored && row.Time.After(it.row.Time) {
		it.settleOnce()
		return false
	}
	if stored && row.Time.Equal(it.row.Time) {
		rec, err := t.ep.ds.Record(row)
		if err == nil && slices.Equal(rec.Values, it.rec.Values) {
			return true
		}
		if err != nil {
			t.s.deps.Log.LogAttrs(ctx, slog.LevelError, "row of a live stream cannot be read", slog.String("dataset", t.ep.ds.Name), slog.Any("error", err))
		}
	}
	if now.Before(it.deadline) {
		it.later(now)
		return false
	}
	if !stored || row.Time.Before(it.row.Time) {
		t.missed++
	}
	it.settleOnce()
	return false
}

// send adds the events of a batch to the output. The id of each is the place of the oldest message
// that the client has not got, so that going on from there skips none.
func (t *tailStream) send(ctx context.Context, ready []*tailItem) error {
	oldest := 0
	sent := make(map[*tailItem]bool, len(ready))
	for _, it := range ready {
		for oldest < len(t.pending) && (t.pending[oldest].done || sent[t.pending[oldest]]) {
			oldest++
		}
		id, err := t.ep.ds.RowID(it.row.Key)
		if err != nil {
			t.s.deps.Log.LogAttrs(ctx, slog.LevelError, "row of a live stream has no id", slog.String("dataset", t.ep.ds.Name), slog.Any("error", err))
			continue
		}
		mark := len(t.out.buf)
		t.position(t.pending[oldest].at)
		err = t.out.event("row", func(b []byte) ([]byte, error) { return it.rec.AppendJSON(b, id, t.query.fields) })
		if err != nil {
			t.out.buf = t.out.buf[:mark]
			return fmt.Errorf("write row %s: %w", id, err)
		}
		t.out.end()
		sent[it] = true
		t.supersede(it)
	}
	return nil
}

// supersede settles earlier messages of the same row that will never be read again.
func (t *tailStream) supersede(by *tailItem) {
	if t.keys[by.row.Key] < 2 {
		return
	}
	for _, it := range t.pending {
		if it.row.Key == by.row.Key && it.at.before(by.at) && !it.row.Time.After(by.row.Time) {
			it.settleOnce()
		}
	}
}

// compact forgets what is settled and finds when to look again.
func (t *tailStream) compact() {
	t.pending = slices.DeleteFunc(t.pending, func(it *tailItem) bool {
		if !it.done {
			return false
		}
		if t.keys[it.row.Key]--; t.keys[it.row.Key] == 0 {
			delete(t.keys, it.row.Key)
		}
		return true
	})
	for i, it := range t.pending {
		if i == 0 || it.due.Before(t.nextDue) {
			t.nextDue = it.due
		}
	}
}

package query

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
)

// tailItem is one message until its row was sent or is known not to come.
type tailItem struct {
	at   tailPosition
	rec  dataset.Record
	row  dataset.Row
	skip bool // of no interest; only its position counts

	due, deadline time.Time
	wait          time.Duration
	done          bool
	settled       chan struct{} // closed when done
}

func (it *tailItem) settle() {
	it.done = true
	close(it.settled)
}

// settleOnce settles an item that may be settled already.
func (it *tailItem) settleOnce() {
	if !it.done {
		it.settle()
	}
}

// later puts off the next look.
func (it *tailItem) later(now time.Time) {
	it.wait = min(2*it.wait, maxStoreBackoff)
	it.due = now.Add(it.wait)
}

// take is called with each message, on many goroutines. It returns when the message is settled.
func (t *tailStream) take(ctx context.Context, m bus.Message) bool {
	it := &tailItem{at: tailPosition{m.PublishTime, m.ID}, settled: make(chan struct{})}
	rec, err := t.decode(ctx, m)
	if reject := (*dataset.RejectError)(nil); err != nil && !errors.As(err, &reject) {
		return t.giveBack(ctx, err)
	}
	if it.skip = err != nil || !matchAll(t.query.filters, rec); !it.skip {
		it.rec, it.row = rec, rec.Row(m.PublishTime)
	}
	t.mu.Lock()
	t.inbox = append(t.inbox, it)
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
	select {
	case <-it.settled:
		return true
	case <-ctx.Done():
		return false
	}
}

// giveBack leaves a message for later whose schema cannot be had now: its row would be missing.
func (t *tailStream) giveBack(ctx context.Context, cause error) bool {
	t.s.deps.Log.LogAttrs(ctx, slog.LevelWarn, "message of a live stream not read, it comes again", slog.String("dataset", t.ep.ds.Name), slog.Any("error", cause))
	wait := time.NewTimer(maxStoreBackoff)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
	}
	return false
}

// decode reads the record of a message as ingest does.
func (t *tailStream) decode(ctx context.Context, m bus.Message) (dataset.Record, error) {
	data := m.Data
	if t.s.deps.Payloads != nil {
		var err error
		if data, err = t.s.deps.Payloads.JSON(ctx, data, m.Attributes); err != nil {
			return dataset.Record{}, fmt.Errorf("read payload: %w", err)
		}
	}
	return t.ep.ds.Decode(data, m.PublishTime)
}

// accept moves the inbox to what is pending.
func (t *tailStream) accept() {
	t.mu.Lock()
	items := t.inbox
	t.inbox = nil
	t.mu.Unlock()
	now := time.Now()
	for _, it := range items {
		if t.newest.before(it.at) {
			t.newest = it.at
		}
		if it.at.messageID == t.expect {
			t.expect = ""
		}
		if it.skip {
			it.settle()
			continue
		}
		it.wait, it.due, it.deadline = t.opts.BatchDelay, now.Add(t.opts.BatchDelay), now.Add(t.opts.StoreWait)
		at, _ := slices.BinarySearchFunc(t.pending, it, func(a, b *tailItem) int {
			if a.at.before(b.at) {
				return -1
			}
			return 1
		})
		t.pending = slices.Insert(t.pending, at, it)
		t.keys[it.row.Key]++
		if t.fresh++; len(t.pending) == 1 || it.due.Before(t.nextDue) {
			t.nextDue = it.due
		}
	}
	if t.fresh >= t.opts.BatchRows {
		t.nextDue = now
	}
}

// maxStoreBackoff is the longest time between two looks for a row.
const maxStoreBackoff = time.Second

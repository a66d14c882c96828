package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
)

// The bounds of one commit, the same as the ingest service's.
const (
	maxBatchRows  = 500
	maxBatchBytes = 1 << 20
	committers    = 2
)

// Sink stores rows and answers with one error for each, nil meaning committed.
type Sink interface {
	Put(ctx context.Context, table string, rows []dataset.Row) []error
}

// item is a row on its way to the store.
type item struct {
	row     dataset.Row
	number  int
	due     time.Duration
	outcome chan bool // receives once whether the row is committed
}

// writer commits rows in the batches that form by themselves: an idle committer takes what is
// there at once, and while all are busy the next batch fills.
type writer struct {
	sink  Sink
	table string
	queue chan *item
	// committed is told of each batch's rows when the call returns.
	committed func(batch []*item, errs []error)

	commits  commits
	failures atomic.Int64
}

// commits counts bulk writes.
type commits struct {
	duration      Histogram
	n, rows, most atomic.Int64
}

func (c *commits) count(rows int, took time.Duration) {
	c.duration.Record(took)
	c.n.Add(1)
	c.rows.Add(int64(rows))
	raise(&c.most, int64(rows))
}

// raise lifts v to at least value.
func raise(v *atomic.Int64, value int64) {
	for seen := v.Load(); value > seen && !v.CompareAndSwap(seen, value); {
		seen = v.Load()
	}
}

// newWriter makes a writer that never blocks a receiver with default options.
func newWriter(sink Sink, table string, committed func([]*item, []error)) *writer {
	return &writer{sink: sink, table: table, queue: make(chan *item, bus.ReceiveOptions{}.Defaults().MaxMessages), committed: committed}
}

// put stores one row and tells whether it is committed.
func (w *writer) put(it *item) bool {
	it.outcome = make(chan bool, 1)
	w.queue <- it
	return <-it.outcome
}

// run commits until the queue is closed and empty.
func (w *writer) run(ctx context.Context) {
	var all sync.WaitGroup
	for range committers {
		all.Go(func() {
			for first := range w.queue {
				w.commit(ctx, w.collect(first))
			}
		})
	}
	all.Wait()
}

func (w *writer) collect(first *item) []*item {
	batch, size := []*item{first}, rowBytes(first.row)
	for len(batch) < maxBatchRows && size < maxBatchBytes {
		select {
		case it, ok := <-w.queue:
			if !ok {
				return batch
			}
			batch, size = append(batch, it), size+rowBytes(it.row)
		default:
			return batch
		}
	}
	return batch
}

func rowBytes(row dataset.Row) (n int) {
	for _, cell := range row.Cells {
		n += len(cell.Value)
	}
	return n
}

func (w *writer) commit(ctx context.Context, batch []*item) {
	rows := make([]dataset.Row, len(batch))
	for i, it := range batch {
		rows[i] = it.row
	}
	start := time.Now()
	errs := w.sink.Put(ctx, w.table, rows)
	w.commits.count(len(rows), time.Since(start))
	w.committed(batch, errs)
	for i, it := range batch {
		if errs[i] != nil {
			w.failures.Add(1)
		}
		it.outcome <- errs[i] == nil
	}
}

// rowsPerCommit is nil before the first commit.
func (c *commits) rowsPerCommit() *RowsPerCommit {
	n := c.n.Load()
	if n == 0 {
		return nil
	}
	return &RowsPerCommit{Mean: round(float64(c.rows.Load()) / float64(n)), Max: c.most.Load()}
}

// putTries is how often rows are written that a measurement begins with: on a busy machine a deadline may pass.
const putTries = 5

// putAll stores all of the rows. Its error is that of the first which is left, however many share it.
func putAll(ctx context.Context, sink Sink, table string, rows []dataset.Row) error {
	for tries := 1; ; tries++ {
		var first error
		var left []dataset.Row
		for i, err := range sink.Put(ctx, table, rows) {
			if err != nil {
				left = append(left, rows[i])
				first = cmp.Or(first, err)
			}
		}
		if len(left) == 0 {
			return nil
		}
		if tries == putTries || ctx.Err() != nil || !errors.Is(first, store.ErrUnavailable) {
			return fmt.Errorf("%d of %d rows are not stored: %w", len(left), len(rows), first)
		}
		rows = left
	}
}

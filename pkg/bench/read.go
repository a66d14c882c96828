package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
)

const (
	readTable   = "bench-reads"
	fillWriters = 4
	pageRows    = 100
	fewRows     = 10
)

// readRuns fills a table and measures point gets, pages and the first rows of a range in it.
func readRuns(ctx context.Context, opts Options, deps Deps) ([]Run, error) {
	runtime.GC()
	r := &reads{opts: opts, deps: deps, records: newRecords(opts, time.Now())}
	deps.step("fill a table with %d rows", opts.Rows)
	fill, err := deps.measure(func() (Run, error) { return r.fill(ctx) })
	if err != nil {
		return nil, fmt.Errorf("fill table %s of %s: %w", readTable, deps.Target, err)
	}
	runs := []Run{fill}
	for _, m := range []struct {
		name    string
		readers int
		read    func(context.Context, *rand.Rand) error
	}{
		{"get", opts.Readers, r.get},
		{fmt.Sprintf("page-%d", pageRows), opts.Readers, r.scan(pageRows)},
		{fmt.Sprintf("limit-%d", fewRows), 1, r.scan(fewRows)},
	} {
		deps.step("%s with %d readers for %s", m.name, m.readers, opts.For)
		run, err := deps.measure(func() (Run, error) { return r.readFor(ctx, m.name, m.readers, m.read) })
		if err != nil {
			return runs, err
		}
		runs = append(runs, run)
	}
	return runs, nil
}

type reads struct {
	opts    Options
	deps    Deps
	records *records
}

// fill writes the rows in full batches, a few at a time.
func (r *reads) fill(ctx context.Context) (Run, error) {
	creating, created := context.WithTimeout(ctx, setupTimeout)
	defer created()
	if err := r.deps.Admin.Ensure(creating, store.Table{Name: readTable}); err != nil {
		return Run{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var written commits
	var writers sync.WaitGroup
	start := time.Now()
	for range fillWriters {
		writers.Go(func() {
			for ctx.Err() == nil {
				from := int(next.Add(maxBatchRows)) - maxBatchRows
				if from >= r.opts.Rows {
					return
				}
				if err := r.write(ctx, from, min(from+maxBatchRows, r.opts.Rows), &written); err != nil {
					cancel(err)
				}
			}
		})
	}
	writers.Wait()
	if ctx.Err() != nil {
		return Run{}, context.Cause(ctx)
	}
	took := time.Since(start)
	return Run{
		Name: "fill", Target: r.deps.Target, Loop: ClosedLoop, Sustained: true, Seconds: seconds(took),
		AchievedPerSecond: round(float64(r.opts.Rows) / took.Seconds()),
		Latencies:         map[string]Latency{Commit: LatencyOf(&written.duration)},
		Counts:            map[string]int64{"done": int64(r.opts.Rows), "errors": 0, "commits": written.n.Load()},
		RowsPerCommit:     written.rowsPerCommit(),
	}, nil
}

func (r *reads) write(ctx context.Context, from, to int, written *commits) error {
	var rows []dataset.Row
	for i := from; i < to; i++ {
		rows = append(rows, r.records.row(i, r.records.fill(i)))
	}
	start := time.Now()
	err := putAll(ctx, r.deps.Store, readTable, rows)
	written.count(len(rows), time.Since(start))
	return err
}

func (r *reads) get(ctx context.Context, random *rand.Rand) error {
	row, err := r.deps.Store.Get(ctx, readTable, rowKey(random.IntN(r.opts.Rows)), nil)
	if err == nil && len(row.Cells) != r.opts.Cells {
		return fmt.Errorf("row %s has %d cells, not %d", row.Key, len(row.Cells), r.opts.Cells)
	}
	return err
}

// scan reads the first rows from a random row on.
func (r *reads) scan(limit int) func(context.Context, *rand.Rand) error {
	return func(ctx context.Context, random *rand.Rand) error {
		n := 0
		from := rowKey(random.IntN(r.opts.Rows))
		err := r.deps.Store.Scan(ctx, readTable, store.Scan{Start: from, Limit: limit}, func(dataset.Row) bool { n++; return true })
		if err == nil && (n == 0 || n > limit) {
			return fmt.Errorf("%d rows from %s on, not 1..%d", n, from, limit)
		}
		return err
	}
}

// readGrace bounds the reads that are still under way when the time is up.
const readGrace = 30 * time.Second

// readFor keeps the readers busy for the time of a run.
func (r *reads) readFor(parent context.Context, name string, readers int, read func(context.Context, *rand.Rand) error) (Run, error) {
	ctx, cancel := context.WithTimeout(parent, r.opts.For+readGrace)
	defer cancel()
	var took Histogram
	var done, failed atomic.Int64
	var all sync.WaitGroup
	start := time.Now()
	for reader := range readers {
		all.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(reader)))
			for time.Since(start) < r.opts.For && ctx.Err() == nil {
				began := time.Now()
				err := read(ctx, random)
				took.Record(time.Since(began))
				if err != nil {
					failed.Add(1)
				} else {
					done.Add(1)
				}
			}
		})
	}
	all.Wait()
	elapsed := time.Since(start)
	if parent.Err() != nil {
		return Run{}, context.Cause(parent)
	}
	return Run{
		Name: name, Target: r.deps.Target, Loop: ClosedLoop, Seconds: seconds(elapsed), Sustained: failed.Load() == 0,
		AchievedPerSecond: round(float64(done.Load()) / elapsed.Seconds()),
		Latencies:         map[string]Latency{name: LatencyOf(&took)},
		Counts:            map[string]int64{"done": done.Load(), "errors": failed.Load()},
	}, nil
}

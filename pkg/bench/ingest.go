package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
)

// Ingest measures the way of a record through a worker: at each rate, lowest first, how long it takes
// from when a record is due until its row is committed, beside a bare loop (pull, write, acknowledge;
// nothing decoded or checked) at the same rate; then both as fast as they go. The runs that were done
// before an error are returned with it.
func Ingest(ctx context.Context, opts Options, deps Deps, newWorker NewWorker) (runs []Run, results []Comparison, err error) {
	opts = opts.Defaults()
	if err := opts.Validate(); err != nil {
		return nil, nil, fmt.Errorf("bench: %w", err)
	}
	for _, rate := range slices.Compact(slices.Sorted(slices.Values(opts.Rates))) {
		for _, name := range []string{bareName, ingestName} {
			deps.step("%s: %d records a second for %s", name, rate, opts.For)
			run, err := deps.measure(func() (Run, error) { return ingestRun(ctx, opts, deps, name, rate, newWorker) })
			if err != nil {
				return runs, nil, fmt.Errorf("measure %s at %d records a second: %w", name, rate, err)
			}
			run.Yardstick = name == bareName
			runs = append(runs, run)
		}
	}
	more, results, err := CompareIngest(ctx, opts, deps, newWorker)
	return append(runs, more...), results, err
}

// ingestRun measures one worker at one rate.
func ingestRun(ctx context.Context, opts Options, deps Deps, name string, rate int, newWorker NewWorker) (Run, error) {
	ds, err := benchDataset(fmt.Sprintf("bench-%s-%d", name, rate))
	if err != nil {
		return Run{}, err
	}
	p := newPipeline(opts, deps, name, ds.Topic, rate)
	if err := deps.ensure(ctx, bus.RouteOf(ds), store.TableOf(ds)); err != nil {
		return Run{}, err
	}
	if name == bareName {
		newWorker = bareWorker(deps.Bus, p.records)
	}
	p.committing = PublishToCommitted
	p.message = func(i int, _ time.Duration) []byte { return p.records.record(i) }
	if p.receive, err = newWorker(commitSink{p}, ds); err != nil {
		return Run{}, err
	}
	if err := p.receiveWhile(ctx, p.load); err != nil {
		return Run{}, err
	}
	return p.report(), nil
}

// commitSink notes when the rows of a worker are committed.
type commitSink struct{ p *pipeline }

// Put implements Sink.
func (s commitSink) Put(ctx context.Context, table string, rows []dataset.Row) []error {
	p, start := s.p, time.Now()
	errs := p.deps.Store.Put(ctx, table, rows)
	committed := time.Now()
	for i, err := range errs {
		n, parseErr := numberOf(rows[i])
		switch {
		case err != nil, parseErr != nil:
			p.writer.failures.Add(1)
		case n == probeNumber:
			p.probe.Do(func() { close(p.probed) })
		case n >= p.schedule.Total(): // It is nobody's.
		case p.settle(n):
			now := committed.Sub(p.start)
			p.readable.Record(now - p.schedule.Due(n))
			raise(&p.lastReadable, int64(now))
		default:
			p.redelivered.Add(1)
		}
	}
	p.writer.commits.count(len(rows), committed.Sub(start))
	return errs
}

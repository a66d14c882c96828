package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
)

// IngestRatio is the least share of the bare loop's rate that ingest is meant to reach.
const IngestRatio = 0.9

// Declaration declares the dataset of the comparison.
const Declaration = `version: 1
name: bench
datasets:
  bench-ingest:
    fields:
      ref: {type: string, required: true}
      at: {type: timestamp, required: true}
      note: {type: string}
    key: [ref]
    time: at
`

// The names of the runs: the yardstick and what is measured against it.
const (
	bareName   = "bare"
	ingestName = "ingest"
)

// benchIngest is the name of the dataset of the comparison.
const benchIngest = "bench-ingest"

// benchDataset is the dataset of the comparison by another name.
func benchDataset(name string) (*dataset.Dataset, error) {
	decl, err := dataset.Load("bench.yaml", []byte(strings.Replace(Declaration, benchIngest, name, 1)))
	if err != nil {
		return nil, fmt.Errorf("read the declaration of the benchmark: %w", err)
	}
	return decl.Datasets[0], nil
}

// NewWorker makes the worker under test, which moves the dataset's records from its subscription
// to the sink until its context ends.
type NewWorker func(sink Sink, ds *dataset.Dataset) (run func(context.Context) error, err error)

// maxBacklog bounds how many messages wait for a worker in the comparison.
const maxBacklog = 200_000

// CompareIngest lets a worker and a bare loop (pull, write, acknowledge; nothing decoded or
// checked) each work off the same number of waiting messages, several times in turns, and sets the
// rates against each other, and the processor times, which a busy machine disturbs less. The number is
// what the highest rate offers in one run, at most 200,000.
func CompareIngest(ctx context.Context, opts Options, deps Deps, newWorker NewWorker) ([]Run, []Comparison, error) {
	opts = opts.Defaults()
	if err := opts.Validate(); err != nil {
		return nil, nil, fmt.Errorf("bench: %w", err)
	}
	ds, err := benchDataset(benchIngest)
	if err != nil {
		return nil, nil, err
	}
	c := &comparison{deps: deps, ds: ds, filler: newRecords(opts, time.Now()), bytes: opts.RecordBytes}
	for _, rate := range opts.Rates {
		c.messages = max(c.messages, min(maxBacklog, Schedule{PerSecond: rate, For: opts.For}.Total()))
	}
	if err := deps.ensure(ctx, bus.RouteOf(c.ds), store.TableOf(c.ds)); err != nil {
		return nil, nil, err
	}
	return c.run(ctx, newWorker)
}

type comparison struct {
	deps     Deps
	ds       *dataset.Dataset
	filler   *records
	bytes    int
	messages int
	rounds   int
}

// run takes turns in an order that is fair to both when the machine gets slower or faster.
func (c *comparison) run(ctx context.Context, newWorker NewWorker) (runs []Run, results []Comparison, err error) {
	for _, name := range []string{bareName, ingestName, ingestName, bareName, bareName, ingestName, ingestName, bareName} {
		newRun := newWorker
		if name == bareName {
			newRun = bareWorker(c.deps.Bus, c.filler)
		}
		c.deps.step("%s works off %d messages", name, c.messages)
		run, err := c.workOff(ctx, name, newRun)
		if err != nil {
			return runs, nil, fmt.Errorf("let %s work off %d messages: %w", name, c.messages, err)
		}
		run.Yardstick = name == bareName
		runs = append(runs, run)
	}
	return runs, compareRuns(runs), nil
}

// compareRuns compares medians: one stall of a shared machine must not decide.
func compareRuns(runs []Run) []Comparison {
	ratio := func(figure func(Run) float64) float64 {
		byName := map[string][]float64{}
		for _, run := range runs {
			byName[run.Name] = append(byName[run.Name], figure(run))
		}
		return math.Round(median(byName[bareName])/median(byName[ingestName])*1000) / 1000
	}
	results := []Comparison{{Name: "ingest against a bare loop", Ratio: ratio(func(r Run) float64 { return r.Seconds }), Target: IngestRatio}}
	if runs[0].CPUSeconds > 0 {
		results = append(results, Comparison{
			Name: "ingest against a bare loop, by processor time", Ratio: ratio(func(r Run) float64 { return r.CPUSeconds }),
		})
	}
	return results
}

func median(values []float64) float64 {
	slices.Sort(values)
	half := len(values) / 2
	if len(values)%2 == 1 {
		return values[half]
	}
	return (values[half-1] + values[half]) / 2
}

// workOffTimeout bounds one turn.
const workOffTimeout = 2 * time.Minute

// workOff publishes a backlog, then runs a worker until all of it is committed.
func (c *comparison) workOff(ctx context.Context, name string, newWorker NewWorker) (Run, error) {
	ctx, cancel := context.WithTimeout(ctx, workOffTimeout)
	defer cancel()
	base := c.rounds * c.messages
	c.rounds++
	if err := c.publish(ctx, base); err != nil {
		return Run{}, err
	}
	runtime.GC()
	counted := newTap(c.deps.Store, base, c.messages)
	work, err := newWorker(counted, c.ds)
	if err != nil {
		return Run{}, err
	}
	working, stop := context.WithCancel(ctx)
	defer stop()
	var worker sync.WaitGroup
	ended := make(chan error, 1)
	run, err := c.deps.measure(func() (Run, error) {
		start := time.Now()
		worker.Go(func() { ended <- work(working) })
		err := counted.wait(ctx, ended)
		return counted.report(name, c.deps.Target, time.Since(start)), err
	})
	stop()
	worker.Wait()
	if err != nil {
		return Run{}, err
	}
	return run, <-ended
}

// publish sends a round's messages in full requests.
func (c *comparison) publish(ctx context.Context, base int) error {
	size := max(1, min(bus.MaxBatchMessages, bus.MaxBatchBytes/2/c.bytes))
	for from := 0; from < c.messages; from += size {
		var batch []bus.Message
		for i := from; i < min(from+size, c.messages); i++ {
			batch = append(batch, bus.Message{Data: c.filler.record(base + i)})
		}
		if _, err := c.deps.Bus.PublishBatch(ctx, c.ds.Topic, batch); err != nil {
			return err
		}
	}
	return nil
}

const (
	refStart  = len(`{"ref":"`)
	refLength = 16
)

// record is a record of the declaration, as long as the settings ask for. Its ref is its number in
// hexadecimal, at a fixed place, so that the bare loop needs no JSON.
func (r *records) record(i int) []byte {
	head := fmt.Sprintf(`{"ref":"%016x","at":%q,"note":"`, i, r.at.UTC().Format(time.RFC3339Nano))
	note := r.fill(i)[:max(0, r.bytes-len(head)-len(`"}`))]
	for j, b := range note {
		note[j] = 'a' + b%26
	}
	return append(append([]byte(head), note...), `"}`...)
}

// bareWorker makes the least that pulls, writes and acknowledges.
func bareWorker(source Bus, filler *records) NewWorker {
	return func(sink Sink, ds *dataset.Dataset) (func(context.Context) error, error) {
		return func(ctx context.Context) error {
			w := newWriter(sink, ds.Table(), func([]*item, []error) {})
			var writing sync.WaitGroup
			writing.Go(func() { w.run(context.WithoutCancel(ctx)) })
			err := source.Receive(ctx, ds.Subscription(), bus.ReceiveOptions{}, func(_ context.Context, m bus.Message) bool {
				return w.put(&item{row: filler.rowOf(string(m.Data[refStart:refStart+refLength]), m.Data)})
			})
			close(w.queue)
			writing.Wait()
			return err
		}, nil
	}
}

// numberOf is the number of a record by the key of its row.
func numberOf(row dataset.Row) (int, error) {
	n, err := strconv.ParseUint(row.Key[:min(refLength, len(row.Key))], 16, 63)
	return int(n), err
}

// tap counts each message's first commit on its way to the store.
type tap struct {
	sink     Sink
	base     int
	done     bitmap
	all      chan struct{}
	commits  commits
	messages int
	mu       sync.Mutex
	left     int
	failures int64
}

func newTap(sink Sink, base, messages int) *tap {
	return &tap{sink: sink, base: base, done: newBitmap(messages), all: make(chan struct{}), messages: messages, left: messages}
}

// Put implements Sink.
func (t *tap) Put(ctx context.Context, table string, rows []dataset.Row) []error {
	start := time.Now()
	errs := t.sink.Put(ctx, table, rows)
	t.commits.count(len(rows), time.Since(start))
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, err := range errs {
		n, parseErr := numberOf(rows[i])
		number := n - t.base
		switch {
		case err != nil, parseErr != nil:
			t.failures++
		case number < 0 || number >= t.messages: // a message of an earlier round, delivered again
		case t.done.set(number):
			if t.left--; t.left == 0 {
				close(t.all)
			}
		}
	}
	return errs
}

// wait returns when all is committed, or with an error when the worker ends or the context does.
func (t *tap) wait(ctx context.Context, ended <-chan error) error {
	select {
	case <-t.all:
		return nil
	case err := <-ended:
		return fmt.Errorf("the worker ended before its work was done: %w", errors.Join(err, context.Cause(ctx)))
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (t *tap) report(name, target string, took time.Duration) Run {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.messages - t.left
	return Run{
		Name: name, Target: target, Loop: ClosedLoop, Seconds: seconds(took), Sustained: t.failures == 0,
		AchievedPerSecond: round(float64(n) / took.Seconds()),
		Latencies:         map[string]Latency{Commit: LatencyOf(&t.commits.duration)},
		Counts:            map[string]int64{"done": int64(n), "errors": t.failures, "commits": t.commits.n.Load()},
		RowsPerCommit:     t.commits.rowsPerCommit(),
	}
}

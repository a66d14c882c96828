package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
)

// Bus is the Pub/Sub to measure.
type Bus interface {
	Ensure(ctx context.Context, r bus.Route) error
	Publish(ctx context.Context, topic string, data []byte, attributes map[string]string) (string, error)
	PublishBatch(ctx context.Context, topic string, messages []bus.Message) ([]string, error)
	Receive(ctx context.Context, sub string, opts bus.ReceiveOptions, handle func(context.Context, bus.Message) bool) error
}

// Store is the Bigtable to measure.
type Store interface {
	Put(ctx context.Context, table string, rows []dataset.Row) []error
	Get(ctx context.Context, table, key string, columns []string) (dataset.Row, error)
	Scan(ctx context.Context, table string, s store.Scan, each func(dataset.Row) bool) error
}

// Admin creates tables.
type Admin interface {
	Ensure(ctx context.Context, t store.Table) error
}

// Options say how much load to offer.
type Options struct {
	// Rates are the messages a second to offer, one run each. Default 1000, 10000, 20000 and 40000.
	Rates []int
	// For is how long each run lasts. Default 5s.
	For time.Duration
	// RecordBytes is the size of a message and, spread over its cells, of a row. Default 300.
	RecordBytes int
	// Cells of a row. Default 3.
	Cells int
	// Rows of the table that is read from; 0 leaves the reads out.
	Rows int
	// Readers at a time of the point gets and the pages. Default 64.
	Readers int
	// Window is the number of messages in work in the closed loop. Default 4000.
	Window int
	// StopEarly leaves out what follows the first rate that is not sustained, but for the reads.
	StopEarly bool
}

// Defaults fills in what is not set.
func (o Options) Defaults() Options {
	if len(o.Rates) == 0 {
		o.Rates = []int{1000, 10_000, 20_000, 40_000}
	}
	if o.For == 0 {
		o.For = 5 * time.Second
	}
	for _, d := range []struct {
		v     *int
		value int
	}{{&o.RecordBytes, 300}, {&o.Cells, 3}, {&o.Readers, 64}, {&o.Window, 4000}} {
		if *d.v == 0 {
			*d.v = d.value
		}
	}
	return o
}

// The most that one benchmark may take of a machine.
const (
	maxRates       = 32
	maxRate        = 1_000_000
	maxMessages    = 20_000_000
	maxRecordBytes = 1 << 20
	maxFor         = 10 * time.Minute
	maxRows        = 10_000_000
)

// Validate says what is out of range.
func (o Options) Validate() error {
	switch {
	case len(o.Rates) < 1 || len(o.Rates) > maxRates:
		return fmt.Errorf("%d rates are not in 1..%d", len(o.Rates), maxRates)
	case o.For < 50*time.Millisecond || o.For > maxFor:
		return fmt.Errorf("a run of %s is not in 50ms..%s", o.For, maxFor)
	case o.RecordBytes < headerBytes || o.RecordBytes > maxRecordBytes:
		return fmt.Errorf("records of %d bytes are not in %d..%d", o.RecordBytes, headerBytes, maxRecordBytes)
	case o.Cells < 1 || o.Cells > 100 || o.Cells > o.RecordBytes:
		return fmt.Errorf("%d cells are not in 1..100 or more than the record has bytes", o.Cells)
	case o.Rows < 0 || o.Rows > maxRows:
		return fmt.Errorf("%d rows are not in 0..%d", o.Rows, maxRows)
	case o.Readers < 1 || o.Readers > 4096:
		return fmt.Errorf("%d readers are not in 1..4096", o.Readers)
	case o.Window < 1 || o.Window > 100_000:
		return fmt.Errorf("a window of %d is not in 1..100000", o.Window)
	}
	return o.validateRates()
}

func (o Options) validateRates() error {
	for _, rate := range o.Rates {
		if rate < 1 || rate > maxRate {
			return fmt.Errorf("rate %d is not in 1..%d", rate, maxRate)
		}
		if n := float64(rate) * o.For.Seconds(); n < 1 || n > maxMessages {
			return fmt.Errorf("rate %d for %s is %.0f messages, not 1..%d", rate, o.For, math.Floor(n), maxMessages)
		}
	}
	return nil
}

// Deps are what the benchmark measures.
type Deps struct {
	// Target names it in the report.
	Target string
	Bus    Bus
	Store  Store
	Admin  Admin
	// CPU is the processor time that the process has taken so far; nil leaves it out.
	CPU func() time.Duration
	// Step is told what begins; nil tells nobody.
	Step func(text string)
}

// measure adds the memory and the processor time to a run.
func (d Deps) measure(run func() (Run, error)) (r Run, err error) {
	peak := peakMemory()
	defer func() { r.PeakMemoryMiB = peak() }()
	if d.CPU == nil {
		return run()
	}
	before := d.CPU()
	r, err = run()
	r.CPUSeconds = seconds(d.CPU() - before)
	return r, err
}

func (d Deps) step(format string, args ...any) {
	if d.Step != nil {
		d.Step(d.Target + ": " + fmt.Sprintf(format, args...))
	}
}

const setupTimeout = 30 * time.Second

// ensure creates what a run works on.
func (d Deps) ensure(ctx context.Context, route bus.Route, table store.Table) error {
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	return errors.Join(d.Bus.Ensure(ctx, route), d.Admin.Ensure(ctx, table))
}

// ErrNothingArrives says that not even a single message came through before the load.
var ErrNothingArrives = errors.New("no message comes through")

// Engine runs the whole benchmark of one target: each rate, lowest first, then as fast as it goes,
// then the reads. The runs that were done before an error are returned with it.
func Engine(ctx context.Context, opts Options, deps Deps) ([]Run, error) {
	opts = opts.Defaults()
	if err := opts.Validate(); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	runs, err := pipelineRuns(ctx, opts, deps)
	if err != nil {
		return runs, err
	}
	if opts.Rows == 0 {
		return runs, nil
	}
	reads, err := readRuns(ctx, opts, deps)
	return append(runs, reads...), err
}

func pipelineRuns(ctx context.Context, opts Options, deps Deps) ([]Run, error) {
	var runs []Run
	rates := slices.Clone(opts.Rates)
	slices.Sort(rates)
	for _, rate := range slices.Compact(rates) {
		deps.step("%d messages a second for %s", rate, opts.For)
		run, err := deps.measure(func() (Run, error) { return pipelineRun(ctx, opts, deps, rate) })
		if err != nil {
			return runs, fmt.Errorf("measure %s at %d messages a second: %w", deps.Target, rate, err)
		}
		runs = append(runs, run)
		if !run.Sustained && opts.StopEarly {
			return runs, nil
		}
	}
	deps.step("as many messages as it takes for %s", opts.For)
	run, err := deps.measure(func() (Run, error) { return pipelineRun(ctx, opts, deps, 0) })
	if err != nil {
		return runs, fmt.Errorf("measure %s at its most: %w", deps.Target, err)
	}
	return append(runs, run), nil
}

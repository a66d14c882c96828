package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
)

// APIRatio is the least share of a bare handler's rate that the API is meant to reach.
const APIRatio = 0.8

// APIOptions say how to measure an HTTP API.
type APIOptions struct {
	// Rates are the requests a second to offer, one run of each scenario for each. None offers half
	// and four fifths of what the scenario reached at its most.
	Rates []int
	// Max also measures as much as the connections take, which no rates imply.
	Max bool
	// For is how long each run lasts. Default 5s.
	For time.Duration
	// Connections that are kept open. Default 64.
	Connections int
	// Rows of the table that is filled and read. Default 100,000.
	Rows int
	// Scenarios to run; none runs all.
	Scenarios []string
	// Compare sets the API against a bare handler that reads the same rows.
	Compare bool
}

// APIScenarios lists the scenarios in their order.
func APIScenarios() []string { return []string{ScenarioGet, ScenarioPage, ScenarioFilter} }

// Defaults fills in what is not set.
func (o APIOptions) Defaults() APIOptions {
	if o.For == 0 {
		o.For = 5 * time.Second
	}
	if o.Connections == 0 {
		o.Connections = 64
	}
	if o.Rows == 0 {
		o.Rows = 100_000
	}
	if len(o.Scenarios) == 0 {
		o.Scenarios = APIScenarios()
	}
	o.Max = o.Max || len(o.Rates) == 0
	return o
}

// Validate says what is out of range.
func (o APIOptions) Validate() error {
	switch {
	case len(o.Rates) > maxRates:
		return fmt.Errorf("%d rates are more than %d", len(o.Rates), maxRates)
	case o.For < 50*time.Millisecond || o.For > maxFor:
		return fmt.Errorf("a run of %s is not in 50ms..%s", o.For, maxFor)
	case o.Connections < 1 || o.Connections > 4096:
		return fmt.Errorf("%d connections are not in 1..4096", o.Connections)
	case o.Rows < 1 || o.Rows > maxRows:
		return fmt.Errorf("%d rows are not in 1..%d", o.Rows, maxRows)
	}
	for _, name := range o.Scenarios {
		if !slices.Contains(APIScenarios(), name) {
			return fmt.Errorf("scenario %q is not one of %v", name, APIScenarios())
		}
	}
	return Options{For: o.For, Rates: o.Rates}.validateRates()
}

// APITarget is the API to measure.
type APITarget struct {
	// Name names it in the report.
	Name string
	// Addr is its host and port; it speaks HTTP/1.1 without TLS.
	Addr string
	// Header is added to every request: whole lines, each with its end.
	Header string
}

// PlainReader reads with the Bigtable client alone; store.Plain is one.
type PlainReader interface {
	Get(ctx context.Context, table, key string) (cells int, err error)
	Page(ctx context.Context, table, start, end string, limit int) (rows int, err error)
}

// APIDeps are what the benchmark of an API of its own works with.
type APIDeps struct {
	Store Store
	Admin Admin
	Plain PlainReader
	// Serve runs the API over the declaration on a loopback port until stop is called.
	Serve func(ctx context.Context, decl *dataset.Declaration) (addr string, stop func() error, err error)
	// CPU and Step are as in Deps.
	CPU  func() time.Duration
	Step func(text string)
}

// API fills a table, serves it and measures the API over it. The runs that were done before an error
// are returned with it.
func API(ctx context.Context, opts APIOptions, name string, deps APIDeps) (runs []Run, comparisons []Comparison, err error) {
	opts = opts.Defaults()
	if err := opts.Validate(); err != nil {
		return nil, nil, fmt.Errorf("bench: %w", err)
	}
	data, err := newAPIData(opts.Rows)
	if err != nil {
		return nil, nil, err
	}
	m := measurement{opts: opts, Deps: Deps{Target: name, CPU: deps.CPU, Step: deps.Step}}
	m.step("fill a table with %d rows", opts.Rows)
	if err := deps.Admin.Ensure(ctx, store.TableOf(data.ds)); err != nil {
		return nil, nil, err
	}
	if err := data.fill(ctx, deps.Store); err != nil {
		return nil, nil, fmt.Errorf("fill table %s: %w", data.ds.Table(), err)
	}
	scenarios, err := data.scenarios()
	if err != nil {
		return nil, nil, err
	}
	addr, stop, err := deps.Serve(ctx, &dataset.Declaration{Name: "bench", Datasets: []*dataset.Dataset{data.ds}})
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	runtime.GC()
	target := APITarget{Name: name, Addr: addr}
	runs, err = m.scenarios(ctx, target, scenarios)
	if err != nil || !opts.Compare {
		return runs, nil, err
	}
	more, comparisons, err := m.compare(ctx, target, data.ds.Table(), scenarios, deps.Plain)
	return append(runs, more...), comparisons, err
}

// RunningAPI measures an API that runs elsewhere.
func RunningAPI(ctx context.Context, opts APIOptions, target APITarget, scenarios []APIScenario, deps Deps) ([]Run, error) {
	opts = opts.Defaults()
	if err := opts.Validate(); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	deps.Target = target.Name
	return measurement{opts: opts, Deps: deps}.scenarios(ctx, target, scenarios)
}

// measurement runs loads and adds what the process used meanwhile.
type measurement struct {
	opts APIOptions
	Deps
}

func (m measurement) scenarios(ctx context.Context, target APITarget, scenarios []APIScenario) (runs []Run, err error) {
	for _, s := range scenarios {
		if !slices.Contains(m.opts.Scenarios, s.Name) {
			continue
		}
		done, err := m.scenario(ctx, target, s)
		runs = append(runs, done...)
		if err != nil {
			return runs, err
		}
	}
	return runs, nil
}

// scenario measures the most first, because rates that nobody gave depend on it.
func (m measurement) scenario(ctx context.Context, target APITarget, s APIScenario) (runs []Run, err error) {
	rates := slices.Sorted(slices.Values(m.opts.Rates))
	if m.opts.Max {
		run, err := m.load(ctx, target, s, 0)
		if err != nil {
			return runs, err
		}
		runs = append(runs, run)
		if len(rates) == 0 {
			most := run.AchievedPerSecond
			rates = []int{max(1, int(most/2)), max(1, int(most*4/5))}
		}
	}
	for _, rate := range slices.Compact(rates) {
		run, err := m.load(ctx, target, s, rate)
		if err != nil {
			return runs, err
		}
		runs = append(runs, run)
	}
	return runs, nil
}

// load offers a scenario at a rate, 0 for the most that the connections take. That not a single
// request is answered is an error: there is nothing to report then.
func (m measurement) load(ctx context.Context, target APITarget, s APIScenario, rate int) (Run, error) {
	what := fmt.Sprintf("%d a second", rate)
	if rate == 0 {
		what = "as many as it takes"
	}
	m.step("%s: %s, for %s over %d connections", s.Name, what, m.opts.For, m.opts.Connections)
	l := &load{name: s.Name, target: target.Name, addr: target.Addr, connections: m.opts.Connections, during: m.opts.For}
	for _, r := range s.Requests {
		l.requests = append(l.requests, rawRequest(target.Addr, target.Header, r.Target))
	}
	run, err := m.measure(func() (Run, error) { return l.run(ctx, rate) })
	if err != nil {
		return Run{}, err
	}
	if fault := l.failure(); fault != nil {
		m.step("%s: %d requests failed, the first: %v", s.Name, run.Counts["errors"], fault)
		if run.Counts["done"] == 0 {
			return Run{}, fmt.Errorf("measure %s of %s: no request succeeded: %w", s.Name, target.Name, fault)
		}
	}
	return run, nil
}

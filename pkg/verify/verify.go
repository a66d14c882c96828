// Package verify proves that a running system works: it publishes, reads back over HTTP, looks for
// what should have been rejected, and compares what there is with what is declared. Its checks are
// grouped by hop, so that a failure names the part that is broken. Each check says what was
// expected, what was seen and where to look next. Whatever it publishes it takes away again.
package verify

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/verify/contract"
)

// Status is what became of a check.
type Status string

// The statuses.
const (
	Pass Status = "pass"
	Fail Status = "fail"
	Skip Status = "skip"
)

// Result is the outcome of one check.
type Result struct {
	Hop     string `json:"hop"`
	Check   string `json:"check"`
	Dataset string `json:"dataset,omitempty"`
	Status  Status `json:"status"`
	// Expected and Seen are sentences; Next is a command or a place to look at, set when the check
	// failed. Of a check that was skipped Seen is the reason.
	Expected string `json:"expected"`
	Seen     string `json:"seen"`
	Next     string `json:"next,omitempty"`
	// Milliseconds is how long the check took.
	Milliseconds float64 `json:"ms"`
	// LatencyMilliseconds is publish → readable, for the canaries.
	LatencyMilliseconds float64 `json:"latency_ms,omitempty"`
}

// Name is the check with its hop and dataset, as people read it.
func (res Result) Name() string {
	if res.Dataset == "" {
		return res.Hop + "/" + res.Check
	}
	return res.Hop + "/" + res.Check + " " + res.Dataset
}

// Report is the outcome of all checks.
type Report struct {
	Schema  string `json:"schema"`
	OK      bool   `json:"ok"`
	URL     string `json:"url"`
	Passed  int    `json:"passed"`
	Failed  int    `json:"failed"`
	Skipped int    `json:"skipped"`
	// Broken are the hops with a failed check, in the order of the hops.
	Broken  []string `json:"broken"`
	Results []Result `json:"results"`
}

// Options say what to check.
type Options struct {
	// URL is the base of the HTTP API.
	URL      string
	Datasets []*dataset.Dataset
	// Only and Skip choose hops and checks by name; see Names. None of Only is all.
	Only, Skip []string
	// Wait is the longest wait for a record to come out at the other end. Default 15s.
	Wait time.Duration
	// Poll is the first pause between two looks. Default 2ms.
	Poll time.Duration
	// Settle is how long everything has to stay removed at the end, at least. Default 250ms.
	Settle time.Duration
	// Load is how many requests a second are offered to measure latencies; 0 leaves the hop out.
	Load int
	// For is how long the load lasts. Default 30s.
	For time.Duration
}

// Defaults fills in what is not set.
func (o Options) Defaults() Options {
	for d, value := range map[*time.Duration]time.Duration{
		&o.Wait: 15 * time.Second, &o.Poll: 2 * time.Millisecond, &o.Settle: 250 * time.Millisecond, &o.For: 30 * time.Second,
	} {
		if *d == 0 {
			*d = value
		}
	}
	return o
}

// Bus publishes the canaries and reads the dead letters.
type Bus interface {
	Publish(ctx context.Context, topic string, data []byte, attributes map[string]string) (string, error)
	Receive(ctx context.Context, subscription string, opts bus.ReceiveOptions, handle func(context.Context, bus.Message) bool) error
}

// Rows looks at the canaries past the API, and removes them. Get returns store.ErrNotFound for a row
// that is not there.
type Rows interface {
	Get(ctx context.Context, table, key string, columns []string) (dataset.Row, error)
	Delete(ctx context.Context, table, key string) error
}

// Resources tells how what there is differs from what a dataset needs, in sentences; none means that
// all is there.
type Resources interface {
	Topics(ctx context.Context, ds *dataset.Dataset) ([]string, error)
	Subscriptions(ctx context.Context, ds *dataset.Dataset) ([]string, error)
	Tables(ctx context.Context, ds *dataset.Dataset) ([]string, error)
}

// Latencies are a distribution; bench's Histogram is one.
type Latencies interface {
	Count() uint64
	Quantile(q float64) time.Duration
}

// Offer calls one for each request when it is due, whether or not those before have an answer, and
// returns for each group how long its requests took from when they were due. Request i belongs to
// group i modulo groups. A request with an error has no latency.
type Offer func(ctx context.Context, perSecond int, during time.Duration, groups int, one func(ctx context.Context, i int) error) ([]Latencies, error)

// Probe is a check of something that this package does not know how to look at.
type Probe struct {
	// Skip is why nobody can look; then Run is not called.
	Skip string
	// Run returns what was seen, and with an error what to do next. Unseen is an error that skips it.
	Run func(ctx context.Context) (seen, next string, err error)
}

// Unseen is why something cannot be looked at.
type Unseen string

func (u Unseen) Error() string { return string(u) }

// Deps are what the checks work with. What is nil cannot be looked at: its checks are skipped, with
// the reason in Unseen.
type Deps struct {
	// HTTP asks the API with the caller's credentials, Anonymous without any.
	HTTP, Anonymous *http.Client
	Bus             Bus
	Rows            Rows
	Resources       Resources
	Offer           Offer
	// Probes are those of infrastructure and monitors, by the name of the check.
	Probes map[string]Probe
	// Unseen says why Bus, Rows and Resources are nil. Default "Pub/Sub and Bigtable cannot be reached from here".
	Unseen string
	// Owner tells that the credentials are those of the stack's owner, who uses no quota.
	Owner bool
	// Standing is set where rounds follow each other, and is the same in all of them.
	Standing *Standing
	Now      func() time.Time
	// Done is called with each result as it comes; nil is fine.
	Done func(Result)
}

type runner struct {
	opts Options
	deps Deps
	// outcomes are those of the checks so far, by their names.
	outcomes map[string]Result
	doc      *contract.Document
	rowOf    map[string]knownRow // by dataset
	gateway  *bool               // see behindGateway; nil before it is known
	letters  []*letter
	cleared  bool // the canaries were removed once
	leave    bool // messages stay in the subscription: another round follows

	mu       sync.Mutex
	canaries []*canary
	slowest  time.Duration // publish → readable
}

// Run runs the checks one after the other and reports them all. When the context ends it starts no
// further check; what was published is removed all the same.
func Run(ctx context.Context, opts Options, deps Deps) Report {
	if deps.Unseen == "" {
		deps.Unseen = "Pub/Sub and Bigtable cannot be reached from here"
	}
	r := &runner{opts: opts.Defaults(), deps: deps, outcomes: map[string]Result{}, rowOf: map[string]knownRow{}}
	r.takeOver()
	defer r.handOn()
	report := Report{Schema: "latamctl.verify/v1", URL: opts.URL, Broken: []string{}, Results: []Result{}}
	for _, group := range catalogue() {
		for _, ds := range r.scopes(group) {
			for _, s := range group {
				if opts.selects(s) {
					r.runWithNeeds(ctx, s, ds, &report)
				}
			}
		}
	}
	if len(r.canaries)+len(r.letters) > 0 {
		s := removedSpec()
		r.leave = deps.Standing != nil && ctx.Err() == nil
		// Whatever was chosen: nothing that was published may stay.
		report.add(r.run(context.WithoutCancel(ctx), s, nil), deps.Done)
	}
	report.OK = report.Failed == 0
	return report
}

// scopes are what a group of checks is run for: each dataset, or the system as a whole.
func (r *runner) scopes(group []spec) []*dataset.Dataset {
	if group[0].system {
		return []*dataset.Dataset{nil}
	}
	return r.opts.Datasets
}

// runWithNeeds runs a check after those that it builds on. One of these that was not chosen is in the
// report only when it fails.
func (r *runner) runWithNeeds(ctx context.Context, s spec, ds *dataset.Dataset, report *Report) {
	if s.system {
		ds = nil
	}
	if _, ran := r.outcomes[resultOf(s, ds).Name()]; ran {
		return // Another check needed it.
	}
	for _, n := range s.needs {
		if needed := find(n.hop, n.check); !slices.ContainsFunc(r.opts.Skip, needed.is) {
			r.runWithNeeds(ctx, needed, ds, report)
		}
	}
	if ctx.Err() != nil {
		return
	}
	if res := r.run(ctx, s, ds); r.opts.selects(s) || res.Status == Fail {
		report.add(res, r.deps.Done)
	}
}

func resultOf(s spec, ds *dataset.Dataset) Result {
	res := Result{Hop: s.hop, Check: s.name}
	if !s.system && ds != nil {
		res.Dataset = ds.Name
	}
	return res
}

// run runs one check, unless one that it builds on did not pass.
func (r *runner) run(ctx context.Context, s spec, ds *dataset.Dataset) Result {
	start := r.deps.Now()
	res := resultOf(s, ds)
	res.Status, res.Expected = Pass, s.expected
	if reason := r.waitsFor(s, ds); reason != "" {
		res.skip(reason)
	} else {
		s.run(r, ctx, ds, &res)
	}
	r.outcomes[res.Name()] = res
	res.Milliseconds = milliseconds(r.deps.Now().Sub(start))
	return res
}

// waitsFor says why a check would tell nothing new: one that it builds on failed, or was skipped for a
// reason that holds here too.
func (r *runner) waitsFor(s spec, ds *dataset.Dataset) string {
	for _, need := range s.needs {
		other := resultOf(find(need.hop, need.check), ds)
		was, ran := r.outcomes[other.Name()]
		switch {
		case ran && was.Status == Fail:
			return "it builds on " + other.Name() + ", which failed"
		case ran && was.Status == Skip && need.pass:
			return was.Seen
		}
	}
	return ""
}

func (rep *Report) add(res Result, done func(Result)) {
	switch res.Status {
	case Pass:
		rep.Passed++
		res.Next = ""
	case Fail:
		rep.Failed++
		if !slices.Contains(rep.Broken, res.Hop) {
			rep.Broken = append(rep.Broken, res.Hop)
			slices.SortFunc(rep.Broken, func(a, b string) int { return slices.Index(Hops(), a) - slices.Index(Hops(), b) })
		}
	case Skip:
		rep.Skipped++
		res.Next = ""
	}
	rep.Results = append(rep.Results, res)
	if done != nil {
		done(res)
	}
}

// fail notes that a check failed, and what was seen.
func (res *Result) fail(seen string) { res.Status, res.Seen = Fail, seen }

// skip notes why a check was left out.
func (res *Result) skip(reason string) { res.Status, res.Seen = Skip, reason }

// pass notes what was seen of a check that passed.
func (res *Result) pass(seen string) { res.Status, res.Seen = Pass, seen }

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// The pause between two looks grows, so that a long wait asks no more than it has to; it stays a small
// part of the time that has passed.
const (
	pollGrowth = 1.2
	maxPoll    = 100 * time.Millisecond
)

// waitFor looks again and again until look is done, the wait is over or the context ends.
func (r *runner) waitFor(ctx context.Context, wait time.Duration, look func(context.Context) (done bool, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	pause := r.opts.Poll
	tick := time.NewTimer(pause)
	defer tick.Stop()
	var last error
	for {
		done, err := look(ctx)
		if done {
			return err
		}
		if err != nil && ctx.Err() == nil {
			last = err
		}
		select {
		case <-tick.C:
			pause = max(pause, min(time.Duration(float64(pause)*pollGrowth), maxPoll))
			tick.Reset(pause)
		case <-ctx.Done():
			return errors.Join(last, ctx.Err())
		}
	}
}

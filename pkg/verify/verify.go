// Package verify proves that a running system works: it publishes, reads back over HTTP, and looks
// for what should have been rejected. Each check says what was expected, what was seen and where
// to look next.
package verify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
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
	Check   string `json:"check"`
	Dataset string `json:"dataset,omitempty"`
	Status  Status `json:"status"`
	// Expected and Seen are sentences; Next is a command or a place to look at, set unless the check passed.
	Expected string `json:"expected"`
	Seen     string `json:"seen"`
	Next     string `json:"next,omitempty"`
	// Milliseconds is how long the check took.
	Milliseconds float64 `json:"ms"`
	// LatencyMilliseconds is publish → readable, for the canary.
	LatencyMilliseconds float64 `json:"latency_ms,omitempty"`
}

// Report is the outcome of all checks.
type Report struct {
	Schema  string   `json:"schema"`
	OK      bool     `json:"ok"`
	URL     string   `json:"url"`
	Passed  int      `json:"passed"`
	Failed  int      `json:"failed"`
	Skipped int      `json:"skipped"`
	Results []Result `json:"results"`
}

// Options say what to check.
type Options struct {
	// URL is the base of the HTTP API.
	URL      string
	Datasets []*dataset.Dataset
	// Wait is the longest wait for a record to come out at the other end. Default 15s.
	Wait time.Duration
	// Poll is the pause between two looks. Default 2ms.
	Poll time.Duration
}

// Bus publishes the canaries and reads the dead letters.
type Bus interface {
	Publish(ctx context.Context, topic string, data []byte, attributes map[string]string) (string, error)
	Receive(ctx context.Context, subscription string, opts bus.ReceiveOptions, handle func(context.Context, bus.Message) bool) error
}

// Rows removes the canaries.
type Rows interface {
	Delete(ctx context.Context, table, key string) error
}

// Deps are what the checks work with. With Bus nil the checks that publish are skipped; with Rows
// nil the canaries stay.
type Deps struct {
	HTTP *http.Client
	Bus  Bus
	Rows Rows
	Now  func() time.Time
	// Done is called with each result as it comes; nil is fine.
	Done func(Result)
}

type runner struct {
	opts Options
	deps Deps
}

// Run runs every check, one after the other, and reports them all.
func Run(ctx context.Context, opts Options, deps Deps) Report {
	if opts.Wait == 0 {
		opts.Wait = 15 * time.Second
	}
	if opts.Poll == 0 {
		opts.Poll = 2 * time.Millisecond
	}
	r := &runner{opts: opts, deps: deps}
	report := Report{Schema: "latamctl.verify/v1", URL: opts.URL}
	report.add(r.timed(func() Result { return r.health(ctx) }), deps.Done)
	for _, ds := range opts.Datasets {
		report.add(r.timed(func() Result { return r.listed(ctx, ds) }), deps.Done)
		report.add(r.timed(func() Result { return r.canary(ctx, ds) }), deps.Done)
		report.add(r.timed(func() Result { return r.poison(ctx, ds) }), deps.Done)
	}
	report.OK = report.Failed == 0
	return report
}

func (r *runner) timed(check func() Result) Result {
	start := r.deps.Now()
	res := check()
	res.Milliseconds = milliseconds(r.deps.Now().Sub(start))
	return res
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (rep *Report) add(res Result, done func(Result)) {
	switch res.Status {
	case Pass:
		rep.Passed++
		res.Next = ""
	case Fail:
		rep.Failed++
	case Skip:
		rep.Skipped++
	}
	rep.Results = append(rep.Results, res)
	if done != nil {
		done(res)
	}
}

// health asks the API's own health check.
func (r *runner) health(ctx context.Context) Result {
	res := Result{Check: "api healthy", Expected: "GET /healthz answers 200", Next: "is the API running? look at its log, and at /readyz of its admin address"}
	return r.expectStatus(ctx, res, "/healthz", http.StatusOK)
}

// listed reads a page of the dataset.
func (r *runner) listed(ctx context.Context, ds *dataset.Dataset) Result {
	path := "/v1/datasets/" + ds.Name + "/rows?limit=1"
	res := Result{
		Check: "rows readable", Dataset: ds.Name, Expected: "GET " + path + " answers 200",
		Next: "does the API run with this declaration, and does table " + ds.Table() + " exist?",
	}
	return r.expectStatus(ctx, res, path, http.StatusOK)
}

func (r *runner) expectStatus(ctx context.Context, res Result, path string, want int) Result {
	status, _, err := r.get(ctx, path)
	switch {
	case err != nil:
		res.Status, res.Seen = Fail, err.Error()
	case status != want:
		res.Status, res.Seen = Fail, fmt.Sprintf("it answered %d", status)
	default:
		res.Status, res.Seen = Pass, fmt.Sprintf("it answered %d", status)
	}
	return res
}

// waitFor looks again and again until look is done, the wait is over or the context ends.
func (r *runner) waitFor(ctx context.Context, look func(context.Context) (done bool, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, r.opts.Wait)
	defer cancel()
	tick := time.NewTicker(r.opts.Poll)
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
		case <-ctx.Done():
			return errors.Join(last, ctx.Err())
		}
	}
}

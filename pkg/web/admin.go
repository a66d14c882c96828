package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/pprof"
	"sync"
	"sync/atomic"
	"time"
)

// Check is one condition of readiness.
type Check struct {
	// Name is shown in /readyz.
	Name string
	// Run returns nil when the dependency answers.
	Run func(context.Context) error
}

// AdminOptions bound the readiness checks. The zero value of a field means its default.
type AdminOptions struct {
	// CheckTimeout bounds one run of a check. Default 2s.
	CheckTimeout time.Duration
	// CheckTTL is how long a check's result is reused, so that probes do not become load. Default 5s.
	CheckTTL time.Duration
}

// AdminDeps are what the admin endpoints work with; all are optional.
type AdminDeps struct {
	Checks []Check
	// Metrics serves /metrics.
	Metrics http.Handler
	// Data serves /data, the state of the engine in this process.
	Data http.Handler
	Now  func() time.Time
}

// Admin is liveness, readiness, metrics and profiles. It belongs on a listener of its own that the
// public cannot reach.
type Admin struct {
	opts     AdminOptions
	checks   []*cachedCheck
	router   *Router
	now      func() time.Time
	draining atomic.Bool
}

// NewAdmin makes the admin endpoints.
func NewAdmin(opts AdminOptions, deps AdminDeps) *Admin {
	setDuration(&opts.CheckTimeout, 2*time.Second)
	setDuration(&opts.CheckTTL, 5*time.Second)
	if deps.Now == nil {
		deps.Now = time.Now
	}
	a := &Admin{opts: opts, now: deps.Now, router: &Router{}}
	for _, c := range deps.Checks {
		a.checks = append(a.checks, &cachedCheck{check: c})
	}
	a.router.HandleFunc(http.MethodGet, "/livez", a.live)
	a.router.HandleFunc(http.MethodGet, "/readyz", a.ready)
	if deps.Metrics != nil {
		a.router.Handle(http.MethodGet, "/metrics", deps.Metrics)
	}
	if deps.Data != nil {
		a.router.Handle(http.MethodGet, "/data", deps.Data)
	}
	for _, index := range []string{"/debug/pprof", "/debug/pprof/"} {
		a.router.HandleFunc(http.MethodGet, index, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/debug/pprof" {
				http.Redirect(w, r, "/debug/pprof/", http.StatusFound)
				return
			}
			pprof.Index(w, r)
		})
	}
	a.router.HandleFunc(http.MethodGet, "/debug/pprof/{profile}", profile)
	return a
}

func profile(w http.ResponseWriter, r *http.Request) {
	switch r.PathValue("profile") {
	case "cmdline":
		pprof.Cmdline(w, r)
	case "profile":
		pprof.Profile(w, r)
	case "symbol":
		pprof.Symbol(w, r)
	case "trace":
		pprof.Trace(w, r)
	default:
		pprof.Handler(r.PathValue("profile")).ServeHTTP(w, r)
	}
}

// Handler serves the admin endpoints.
func (a *Admin) Handler() http.Handler { return a.router }

// Drain makes /readyz answer 503 from now on; it is what a Server's OnDrain calls.
func (a *Admin) Drain() { a.draining.Store(true) }

func (a *Admin) live(w http.ResponseWriter, _ *http.Request) {
	writeAdminJSON(w, http.StatusOK, map[string]string{"status": "alive"})
}

// CheckResult is one check in the body of /readyz.
type CheckResult struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Error is what the check returned, cut short.
	Error string `json:"error,omitempty"`
	// AgeMillis is how old the result is.
	AgeMillis int64 `json:"age_ms"`
}

// Readiness is the body of /readyz: status is ready, not_ready or draining.
type Readiness struct {
	Status string        `json:"status"`
	Checks []CheckResult `json:"checks"`
}

func (a *Admin) ready(w http.ResponseWriter, r *http.Request) {
	out := Readiness{Status: "ready", Checks: make([]CheckResult, len(a.checks))}
	var wg sync.WaitGroup
	for i, c := range a.checks {
		wg.Go(func() { out.Checks[i] = c.result(r.Context(), a.opts, a.now) })
	}
	wg.Wait()
	for _, c := range out.Checks {
		if !c.OK {
			out.Status = "not_ready"
		}
	}
	if a.draining.Load() {
		out.Status = "draining"
	}
	status := http.StatusOK
	if out.Status != "ready" {
		status = http.StatusServiceUnavailable
	}
	writeAdminJSON(w, status, out)
}

func writeAdminJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// cachedCheck runs a check at most once at a time. A check that ignores its context keeps one
// goroutine, however often it is asked for.
type cachedCheck struct {
	check Check

	mu      sync.Mutex
	err     error
	at      time.Time
	running chan struct{} // closed when the current run ends; nil when none runs
}

var errCheckTimeout = errors.New("no answer in time")

func (c *cachedCheck) result(ctx context.Context, opts AdminOptions, now func() time.Time) CheckResult {
	c.mu.Lock()
	if c.at.IsZero() || now().Sub(c.at) >= opts.CheckTTL {
		running := c.start(ctx, opts, now)
		c.mu.Unlock()
		timer := time.NewTimer(opts.CheckTimeout)
		defer timer.Stop()
		select {
		case <-running:
		case <-timer.C:
			return CheckResult{Name: c.check.Name, Error: fmt.Sprintf("%v (%s)", errCheckTimeout, opts.CheckTimeout)}
		}
		c.mu.Lock()
	}
	defer c.mu.Unlock()
	res := CheckResult{Name: c.check.Name, OK: c.err == nil, AgeMillis: now().Sub(c.at).Milliseconds()}
	if c.err != nil {
		res.Error = cutError(c.err)
	}
	return res
}

// start begins a run unless one is under way; c.mu is held. The run does not end with the probe
// that asked for it, because its result is for the others too.
func (c *cachedCheck) start(ctx context.Context, opts AdminOptions, now func() time.Time) chan struct{} {
	if c.running != nil {
		return c.running
	}
	done := make(chan struct{})
	c.running = done
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), opts.CheckTimeout)
		defer cancel()
		err := c.run(ctx)
		c.mu.Lock()
		c.err, c.at, c.running = err, now(), nil
		c.mu.Unlock()
		close(done)
	}()
	return done
}

func (c *cachedCheck) run(ctx context.Context) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("check panicked: %v", cause)
		}
	}()
	return c.check.Run(ctx)
}

const maxCheckErrorBytes = 256

func cutError(err error) string {
	text := err.Error()
	if len(text) > maxCheckErrorBytes {
		text = text[:maxCheckErrorBytes] + "…"
	}
	return text
}

package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

func harden(t *testing.T, opts Options, deps Deps) http.Handler {
	t.Helper()
	h, err := Harden(opts, deps)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func do(h http.Handler, method, target string, body io.Reader, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, body)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func problemOf(t *testing.T, w *httptest.ResponseRecorder) Problem {
	t.Helper()
	if ct := w.Header().Get("Content-Type"); ct != "application/problem+json" {
		t.Fatalf("content type %q, body %q", ct, w.Body)
	}
	var p Problem
	dec := json.NewDecoder(w.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		t.Fatal(err)
	}
	if p.Status != w.Code {
		t.Fatalf("problem says status %d, response %d", p.Status, w.Code)
	}
	return p
}

func TestOptions(t *testing.T) {
	t.Parallel()
	if err := (Options{Addr: ":0"}).Defaults().Validate(); err != nil {
		t.Fatalf("defaults: %v", err)
	}
	if err := AdminDefaults(":0").Validate(); err != nil {
		t.Fatalf("admin defaults: %v", err)
	}
	for name, breakIt := range map[string]func(*Options){
		"address":          func(o *Options) { o.Addr = "" },
		"read timeout":     func(o *Options) { o.ReadTimeout = -1 },
		"idle timeout":     func(o *Options) { o.IdleTimeout = 2 * time.Hour },
		"drain delay":      func(o *Options) { o.DrainDelay = -1 },
		"max header bytes": func(o *Options) { o.MaxHeaderBytes = 1 },
		"max connections":  func(o *Options) { o.MaxConns = -1 },
		"max body bytes":   func(o *Options) { o.MaxBodyBytes = -1 },
	} {
		o := Options{Addr: ":0"}.Defaults()
		breakIt(&o)
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := Listen(context.Background(), Options{Addr: "127.0.0.1:0"}, Deps{}); err == nil {
		t.Error("a server without a handler was accepted")
	}
}

func TestCodesTable(t *testing.T) {
	t.Parallel()
	seen := map[Code]bool{}
	for _, c := range Codes() {
		if seen[c.Code] {
			t.Errorf("%s is listed twice", c.Code)
		}
		seen[c.Code] = true
		if !regexp.MustCompile(`^[A-Z][A-Z_]{2,62}$`).MatchString(string(c.Code)) {
			t.Errorf("code %q", c.Code)
		}
		if c.Status < 400 || c.Status > 599 || c.Title == "" || !strings.HasSuffix(c.Explanation, ".") {
			t.Errorf("incomplete entry %+v", c)
		}
	}
	if !slices.IsSortedFunc(Codes(), func(a, b CodeInfo) int { return a.Status - b.Status }) {
		t.Error("not in the order of the status")
	}
	if info, ok := LookupCode("scan_refused"); !ok || info.Code != ScanRefused {
		t.Errorf("lookup: %+v %v", info, ok)
	}
	if _, ok := LookupCode("NOPE"); ok {
		t.Error("found a code that does not exist")
	}
}

func TestEveryCodeIsWritten(t *testing.T) {
	t.Parallel()
	for _, c := range Codes() {
		h := harden(t, Options{}, Deps{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			WriteProblem(w, r, &Problem{Code: c.Code, Detail: "d", RetryAfter: 1500 * time.Millisecond})
		})})
		w := do(h, "GET", "/x?secret=1", nil)
		p := problemOf(t, w)
		if p.Code != c.Code || p.Title != c.Title || w.Code != c.Status || p.RequestID == "" || p.Instance != "/x" {
			t.Errorf("%s: %+v", c.Code, p)
		}
		if w.Header().Get("Retry-After") != "2" || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: headers %v", c.Code, w.Header())
		}
	}
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	h := harden(t, Options{}, Deps{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, RequestID(r.Context())) })})
	for _, tt := range []struct {
		sent string
		kept bool
	}{
		{"abc-DEF_1.2", true}, {"", false}, {"a b", false}, {"a\nb", false}, {"ä", false}, {"{}", false},
		{strings.Repeat("a", 64), true}, {strings.Repeat("a", 65), false},
	} {
		w := do(h, "GET", "/", nil, "X-Request-Id", tt.sent)
		got := w.Header().Get("X-Request-Id")
		if w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Error("nosniff is missing")
		}
		if (got == tt.sent) != tt.kept || got == "" || w.Body.String() != got {
			t.Errorf("sent %q, got %q, handler saw %q", tt.sent, got, w.Body)
		}
	}
	if a, b := do(h, "GET", "/", nil).Body.String(), do(h, "GET", "/", nil).Body.String(); a == b {
		t.Error("two requests have the same id")
	}
}

func TestPanicIsAProblemWithoutDetails(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	h := harden(t, Options{}, Deps{
		Log: slog.New(slog.NewJSONHandler(&logged, nil)),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "5000")
			w.Header().Set("Content-Encoding", "gzip")
			panic("the password is hunter2")
		}),
	})
	w := do(h, "GET", "/", nil)
	body := w.Body.String()
	p := problemOf(t, w)
	if p.Code != Internal || strings.Contains(body, "hunter2") || strings.Contains(body, ".go") {
		t.Errorf("%s", body)
	}
	if w.Header().Get("Content-Length") == "5000" || w.Header().Get("Content-Encoding") != "" {
		t.Errorf("the handler's headers survived: %v", w.Header())
	}
	if !strings.Contains(logged.String(), "hunter2") || !strings.Contains(logged.String(), "web_test.go") {
		t.Errorf("log lacks the panic or its stack: %s", logged.String())
	}
}

func TestPanicAfterTheHeadersAbortsTheConnection(t *testing.T) {
	t.Parallel()
	for name, then := range map[string]func(w http.ResponseWriter, r *http.Request){
		"panic":   func(http.ResponseWriter, *http.Request) { panic("late") },
		"problem": func(w http.ResponseWriter, r *http.Request) { WriteProblem(w, r, NewProblem(Internal, "late", "")) },
	} {
		h := harden(t, Options{}, Deps{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, `{"data":[`)
			then(w, r)
		})})
		func() {
			defer func() {
				if cause := recover(); cause != http.ErrAbortHandler {
					t.Errorf("%s: recovered %v", name, cause)
				}
			}()
			do(h, "GET", "/", nil)
		}()
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	reached := false
	h := harden(t, Options{MaxURLBytes: 256, MaxBodyBytes: 100, MaxHeaders: 10}, Deps{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached = true
		if _, p := ReadBody(w, r, 1<<20); p != nil {
			WriteProblem(w, r, p)
		}
	})})
	chunked := func(n int) io.Reader { return io.MultiReader(strings.NewReader(strings.Repeat("x", n))) } // hides the length
	many := make([]string, 0, 40)
	for range 20 {
		many = append(many, "X-Many", "1")
	}
	for _, tt := range []struct {
		name    string
		method  string
		target  string
		body    io.Reader
		headers []string
		want    Code
		reached bool
	}{
		{"long url", "GET", "/" + strings.Repeat("a", 300), nil, nil, URITooLong, false},
		{"long query", "GET", "/?q=" + strings.Repeat("a", 300), nil, nil, URITooLong, false},
		{"many headers", "GET", "/", nil, many, HeadersTooLarge, false},
		{"declared body", "POST", "/", strings.NewReader(strings.Repeat("x", 101)), nil, BodyTooLarge, false},
		{"chunked body", "POST", "/", chunked(101), nil, BodyTooLarge, true},
		{"body on GET", "GET", "/", strings.NewReader("x"), nil, BadRequest, false},
		{"chunked body on GET", "GET", "/", chunked(1), nil, BadRequest, false},
		{"body of the limit", "POST", "/", strings.NewReader(strings.Repeat("x", 100)), nil, "", true},
		{"chunked body of the limit", "POST", "/", chunked(100), nil, "", true},
	} {
		reached = false
		w := do(h, tt.method, tt.target, tt.body, tt.headers...)
		if tt.want == "" {
			if w.Code != 200 {
				t.Errorf("%s: status %d", tt.name, w.Code)
			}
			continue
		}
		if p := problemOf(t, w); p.Code != tt.want || reached != tt.reached || w.Header().Get("Connection") != "close" {
			t.Errorf("%s: %+v, handler reached %v, connection %q", tt.name, p, reached, w.Header().Get("Connection"))
		}
	}
}

func TestReadBodyEndsEarly(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want Code
	}{{io.ErrUnexpectedEOF, BadRequest}, {context.Canceled, ClientClosed}, {context.DeadlineExceeded, RequestTimeout}} {
		r := httptest.NewRequest("POST", "/", io.MultiReader(strings.NewReader("{"), errReader{tt.err}))
		if _, p := ReadBody(httptest.NewRecorder(), r, 100); p == nil || p.Code != tt.want {
			t.Errorf("%v: %+v", tt.err, p)
		}
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func TestMetricsAndSpan(t *testing.T) {
	t.Parallel()
	reader := sdkmetric.NewManualReader()
	spans := tracetest.NewInMemoryExporter()
	clock := time.Unix(0, 0)
	rt := &Router{}
	rt.HandleFunc("GET", "/v1/{thing}", func(w http.ResponseWriter, r *http.Request) {
		clock = clock.Add(250 * time.Millisecond)
		if r.PathValue("thing") != "a" {
			SetDataset(r.Context(), "flights")
		}
		if r.PathValue("thing") == "live" {
			SetAnswer(r.Context(), Stream)
		}
		if r.PathValue("thing") == "bad" {
			WriteProblem(w, r, NewProblem(Unavailable, "", ""))
		}
	})
	h := harden(t, Options{}, Deps{
		Handler: rt,
		Meter:   sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("t"),
		Tracer:  sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)).Tracer("t"),
		Now:     func() time.Time { return clock },
	})
	parent := "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	do(h, "GET", "/v1/a", nil, "traceparent", parent)
	do(h, "GET", "/v1/b", nil)
	do(h, "GET", "/v1/live", nil)
	p := problemOf(t, do(h, "GET", "/v1/bad", nil, "traceparent", parent))
	if p.TraceID != "4bf92f3577b34da6a3ce929d0e0e4736" {
		t.Errorf("trace id %q", p.TraceID)
	}
	do(h, "BREW", "/nowhere/"+strings.Repeat("x", 20), nil)

	var rm metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &rm); err != nil {
		t.Fatal(err)
	}
	got := map[string]uint64{}
	m := rm.ScopeMetrics[0].Metrics[0]
	if m.Name != "http.server.request.duration" || m.Unit != "s" {
		t.Errorf("metric %s in %s", m.Name, m.Unit)
	}
	sum := 0.0
	for _, dp := range m.Data.(metricdata.Histogram[float64]).DataPoints {
		got[dp.Attributes.Encoded(attribute.DefaultEncoder())] = dp.Count
		sum += dp.Sum
	}
	want := map[string]uint64{
		"http.request.method=GET,http.response.status_code=200,http.route=/v1/{thing}":                                                            1,
		"dataset=flights,http.request.method=GET,http.response.status_code=200,http.route=/v1/{thing},latam.answer=direct":                        1,
		"dataset=flights,http.request.method=GET,http.response.status_code=200,http.route=/v1/{thing},latam.answer=stream":                        1,
		"dataset=flights,error.type=UNAVAILABLE,http.request.method=GET,http.response.status_code=503,http.route=/v1/{thing},latam.answer=direct": 1,
		"http.request.method=_OTHER,http.response.status_code=404":                                                                                1,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if sum != 1 {
		t.Errorf("sum of durations is %v s", sum)
	}
	failed := rm.ScopeMetrics[0].Metrics[1]
	points := failed.Data.(metricdata.Sum[int64]).DataPoints
	if failed.Name != "latam.errors" || len(points) != 1 || points[0].Value != 1 || points[0].Attributes.Encoded(attribute.DefaultEncoder()) != "stage=http" {
		t.Errorf("%s %+v, want the one answer of 5xx as an error of stage http", failed.Name, points)
	}
	names := []string{}
	for _, s := range spans.GetSpans() {
		names = append(names, s.Name)
	}
	if d := cmp.Diff([]string{"GET /v1/{thing}", "GET /v1/{thing}", "GET /v1/{thing}", "GET /v1/{thing}", "_OTHER"}, names); d != "" {
		t.Error(d)
	}
	if first := spans.GetSpans()[0]; first.SpanContext.TraceID().String() != p.TraceID || !first.Parent.IsRemote() {
		t.Errorf("first span %+v", first)
	}
}

func TestAccessLogIsOneSafeLineAtDebug(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	h := harden(t, Options{}, Deps{Handler: handler, Log: slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	do(h, "GET", "/a%0Ab%1B[31m/"+strings.Repeat("x", 200)+"?key=secret", nil)
	if n := strings.Count(out.String(), "\n"); n != 1 || strings.Contains(out.String(), "secret") || strings.Contains(out.String(), strings.Repeat("x", 70)) {
		t.Errorf("%d lines: %s", n, out.String())
	}
	out.Reset()
	h = harden(t, Options{}, Deps{Handler: handler, Log: slog.New(slog.NewJSONHandler(&out, nil))})
	do(h, "GET", "/", nil)
	if out.Len() > 0 {
		t.Errorf("logged at info: %s", out.String())
	}
}

func TestRouter(t *testing.T) {
	t.Parallel()
	rt := &Router{}
	say := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, text+r.PathValue("id")) }
	}
	rt.HandleFunc("GET", "/", say("index"))
	rt.HandleFunc("GET", "/rows/{id}", say("row "))
	rt.HandleFunc("GET", "/rows/special", say("special"))
	rt.HandleFunc("POST", "/rows/{id}", say("post "))
	rt.HandleFunc("POST", "/records", say("records"))
	for _, tt := range []struct {
		method, target string
		status         int
		body, allow    string
	}{
		{"GET", "/", 200, "index", ""},
		{"GET", "/rows/a,b", 200, "row a,b", ""},
		{"GET", "/rows/a%2Fb", 200, "row a/b", ""},
		{"GET", "/rows/..", 200, "row ..", ""},
		{"GET", "/rows/special", 200, "special", ""},
		{"POST", "/rows/x", 200, "post x", ""},
		{"OPTIONS", "/rows/x", 204, "", "GET, HEAD, OPTIONS, POST"},
		{"DELETE", "/rows/x", 405, "", "GET, HEAD, OPTIONS, POST"},
		{"GET", "/records", 405, "", "OPTIONS, POST"},
		{"HEAD", "/records", 405, "", "OPTIONS, POST"},
		{"HEAD", "/rows/a", 200, "row a", ""},
		{"GET", "/rows", 404, "", ""},
		{"GET", "/rows/", 404, "", ""},
		{"GET", "/rows/a/", 404, "", ""},
		{"GET", "//rows/a", 404, "", ""},
		{"GET", "/x/../rows/a", 404, "", ""},
		{"OPTIONS", "*", 404, "", ""},
	} {
		w := do(rt, tt.method, tt.target, nil)
		if w.Code != tt.status || w.Header().Get("Allow") != tt.allow {
			t.Errorf("%s %s: %d allow %q", tt.method, tt.target, w.Code, w.Header().Get("Allow"))
		}
		if tt.status < 400 && w.Body.String() != tt.body {
			t.Errorf("%s %s: body %q", tt.method, tt.target, w.Body)
		}
		if tt.status >= 400 {
			problemOf(t, w)
		}
	}
	if d := cmp.Diff([]string{"GET /", "GET /rows/{id}", "POST /rows/{id}", "GET /rows/special", "POST /records"}, rt.Routes()); d != "" {
		t.Error(d)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a route was accepted twice")
			}
		}()
		rt.HandleFunc("GET", "/", say(""))
	}()
}

func TestQuote(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain":                       "plain",
		`say "x"`:                     `say "x"`,
		"a\nb\x00\x1b":                `a\nb\x00\x1b`,
		"\xff":                        `\xff`,
		"é":                           "é",
		strings.Repeat("a", 65):       strings.Repeat("a", 64) + "…",
		strings.Repeat("é", 40):       strings.Repeat("é", 32) + "…",
		"a" + strings.Repeat("é", 40): "a" + strings.Repeat("é", 31) + "…",
	} {
		if got := Quote(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestAdmin(t *testing.T) {
	t.Parallel()
	var storeErr error
	var runs atomic.Int32
	var clock atomic.Int64
	block := make(chan struct{})
	defer close(block)
	a := NewAdmin(AdminOptions{CheckTimeout: 50 * time.Millisecond}, AdminDeps{
		Checks: []Check{{"store", func(context.Context) error { runs.Add(1); return storeErr }}},
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "m 1")
		}),
		Now: func() time.Time { return time.Unix(clock.Load(), 0) },
	})
	clock.Store(1000)
	ready := func(h *Admin) (int, Readiness) {
		w := do(h.Handler(), "GET", "/readyz", nil)
		var out Readiness
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
			t.Fatal(err)
		}
		return w.Code, out
	}
	if status, out := ready(a); status != 200 || out.Status != "ready" || !out.Checks[0].OK || out.Checks[0].Name != "store" {
		t.Errorf("%d %+v", status, out)
	}
	storeErr = errors.New("down")
	clock.Store(1004)
	if status, out := ready(a); status != 200 || runs.Load() != 1 || out.Checks[0].AgeMillis != 4000 {
		t.Errorf("within the ttl: %d %+v after %d runs", status, out, runs.Load())
	}
	clock.Store(1005)
	if status, out := ready(a); status != 503 || out.Status != "not_ready" || out.Checks[0].Error != "down" {
		t.Errorf("after the ttl: %d %+v", status, out)
	}
	storeErr = nil
	clock.Store(1020)
	a.Drain()
	if status, out := ready(a); status != 503 || out.Status != "draining" || !out.Checks[0].OK {
		t.Errorf("draining: %d %+v", status, out)
	}
	for path, want := range map[string]string{"/livez": "alive", "/metrics": "m 1", "/debug/pprof/": "goroutine", "/debug/pprof/cmdline": "", "/debug/pprof/goroutine": ""} {
		if w := do(a.Handler(), "GET", path, nil); w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d", path, w.Code)
		}
	}

	var hung atomic.Int32
	stuck := NewAdmin(AdminOptions{CheckTimeout: 10 * time.Millisecond}, AdminDeps{Checks: []Check{
		{"stuck", func(context.Context) error { hung.Add(1); <-block; return nil }},
		{"panics", func(context.Context) error { panic("x") }},
	}})
	for range 3 {
		if status, out := ready(stuck); status != 503 || out.Checks[0].OK || out.Checks[1].OK {
			t.Errorf("stuck: %d %+v", status, out)
		}
	}
	if hung.Load() != 1 {
		t.Errorf("a check that hangs was started %d times", hung.Load())
	}
}

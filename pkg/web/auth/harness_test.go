package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/telemetry"
	"github.com/latamctl/latamctl/pkg/testkit"
	"github.com/latamctl/latamctl/pkg/web"
)

// keysOnce are made once: an RSA key takes a while.
var keysOnce = sync.OnceValue(func() (k struct{ rsa, rsa2, weak, ec *testkit.IssuerKey }) {
	k.rsa, k.rsa2 = testkit.NewRSAKey("rsa-1", 2048), testkit.NewRSAKey("rsa-2", 2048)
	k.weak, k.ec = testkit.NewRSAKey("weak", 1024), testkit.NewECKey("ec-1")
	return k
})

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// memFiles is one file in memory.
type memFiles struct {
	mu      sync.Mutex
	content []byte // nil: it does not exist
	version int
	stamps  int
	reads   int
	err     error
}

func (f *memFiles) write(b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.content, f.version = b, f.version+1
}

func (f *memFiles) ReadFile(string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	if f.content == nil {
		return nil, fs.ErrNotExist
	}
	return f.content, f.err
}

func (f *memFiles) Stamp(string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stamps++
	if f.content == nil {
		return "", fs.ErrNotExist
	}
	return strconv.Itoa(f.version), nil
}

// world is an Access with all that it needs, behind the same wrapping as in the program.
type world struct {
	t       testing.TB
	issuer  *testkit.Issuer
	clock   *clock
	files   *memFiles
	log     *logBuffer
	reader  *sdkmetric.ManualReader
	access  *Access
	handler http.Handler
	byName  map[string]*dataset.Dataset
}

const (
	testAudience = "https://api.example.com"
	testEmail    = "gateway@latam.iam.gserviceaccount.com"
)

func testDatasets() []*dataset.Dataset {
	return []*dataset.Dataset{
		{Name: "open"},
		{Name: "metered", API: dataset.API{Auth: ModeNone, QuotaPerMinute: 60}},
		{Name: "keyed", API: dataset.API{Auth: ModeAPIKey}},
		{Name: "other", API: dataset.API{Auth: ModeAPIKey, QuotaPerMinute: 600}},
		{Name: "oidc", API: dataset.API{Auth: ModeOIDC}},
		{Name: "gateway", API: dataset.API{Auth: ModeGateway}},
		{Name: "metered-gateway", API: dataset.API{Auth: ModeGateway, QuotaPerMinute: 2}},
	}
}

func newWorld(t testing.TB, change func(*Options)) *world {
	t.Helper()
	w := &world{t: t, issuer: testkit.NewIssuer(), clock: newClock(), files: &memFiles{}, log: &logBuffer{}, byName: map[string]*dataset.Dataset{}}
	t.Cleanup(w.issuer.Close)
	w.issuer.Publish(keysOnce().rsa, keysOnce().ec)
	opts := Options{
		KeysFile: "keys.json", OwnerToken: telemetry.NewSecret("lo_owner"),
		OIDC:    OIDC{Issuer: w.issuer.URL, Audience: testAudience},
		Gateway: Gateway{Audience: testAudience, Emails: []string{"first@x", testEmail}, JWKSURL: w.issuer.URL + "/keys"},
	}
	if change != nil {
		change(&opts)
	}
	w.reader = sdkmetric.NewManualReader()
	log := telemetry.NewLogger(w.log, telemetry.LogOptions{Format: "json", Level: slog.LevelDebug})
	var err error
	w.access, err = New(opts, Deps{Files: w.files, Log: log, Meter: w.meter(), Now: w.clock.now}, testDatasets())
	if err != nil {
		t.Fatal(err)
	}
	for _, ds := range testDatasets() {
		w.byName[ds.Name] = ds
	}
	w.handler, err = web.Harden(web.Options{Addr: "-"}, web.Deps{Log: log, Handler: http.HandlerFunc(w.serve)})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// logBuffer is a log that is read while others write.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (w *world) meter() metric.Meter {
	return sdkmetric.NewMeterProvider(sdkmetric.WithReader(w.reader)).Meter("test")
}

// serve answers 200 with who the caller is.
func (w *world) serve(rw http.ResponseWriter, r *http.Request) {
	caller, p := w.access.Admit(rw.Header(), r, w.byName[r.URL.Path[1:]])
	if p != nil {
		web.WriteProblem(rw, r, p)
		return
	}
	rw.Header().Set("Caller", string(caller.Kind)+" "+caller.ID)
	rw.WriteHeader(http.StatusOK)
}

// ask requests a dataset with headers given as name, value, …
func (w *world) ask(name string, headers ...string) *httptest.ResponseRecorder {
	w.t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/"+name, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, r)
	return rec
}

func (w *world) bearer(name, token string) *httptest.ResponseRecorder {
	w.t.Helper()
	return w.ask(name, "Authorization", "Bearer "+token)
}

// expect checks a status, and that every refusal has the shape that it promises.
func (w *world) expect(rec *httptest.ResponseRecorder, status int) {
	w.t.Helper()
	if rec.Code != status {
		w.t.Errorf("status %d, want %d: %s", rec.Code, status, rec.Body)
	}
	var p web.Problem
	if rec.Code != http.StatusOK && json.Unmarshal(rec.Body.Bytes(), &p) != nil {
		w.t.Errorf("the answer is no problem document: %s", rec.Body)
	}
	if got := rec.Header().Get("WWW-Authenticate") != ""; got != (rec.Code == http.StatusUnauthorized) {
		w.t.Errorf("status %d with WWW-Authenticate %q", rec.Code, rec.Header().Get("WWW-Authenticate"))
	}
	if (rec.Code == http.StatusServiceUnavailable || rec.Code == http.StatusTooManyRequests) && rec.Header().Get("Retry-After") == "" {
		w.t.Errorf("status %d without Retry-After", rec.Code)
	}
}

// refusals counts the metric by reason.
func (w *world) refusals() map[string]int64 {
	w.t.Helper()
	var rm metricdata.ResourceMetrics
	if err := w.reader.Collect(context.Background(), &rm); err != nil {
		w.t.Fatal(err)
	}
	counts := map[string]int64{}
	for _, scope := range rm.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name != telemetry.CallersRefused.Name {
				continue
			}
			for _, point := range m.Data.(metricdata.Sum[int64]).DataPoints {
				why, _ := point.Attributes.Value("reason")
				counts[why.AsString()] += point.Value
			}
		}
	}
	return counts
}

// claims are those of a good token of the gateway, changed as given; a nil value leaves one out.
func (w *world) claims(changes ...any) map[string]any {
	now := w.clock.now().Unix()
	c := map[string]any{
		"iss": "https://accounts.google.com", "aud": testAudience, "sub": "1234567890", "azp": "1234567890",
		"email": testEmail, "email_verified": true, "iat": now - 10, "exp": now + 3600,
	}
	for i := 0; i < len(changes); i += 2 {
		name := changes[i].(string)
		if changes[i+1] == nil {
			delete(c, name)
		} else {
			c[name] = changes[i+1]
		}
	}
	return c
}

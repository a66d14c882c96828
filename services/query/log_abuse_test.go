package query

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/pkg/telemetry"
	"github.com/latamctl/latamctl/pkg/web"
	"github.com/latamctl/latamctl/pkg/web/auth"
)

// canaries are secrets that must not come out anywhere, and texts of callers that would break a log.
type canaries struct {
	apiKey, ownerToken, cursorKey string
	secrets                       []string
}

// newCanaryWorld is the whole service as the program wires it: callers are checked, everything is
// logged at debug and measured.
func newCanaryWorld(t *testing.T) (*world, *canaries, *safeBuffer, *telemetry.Telemetry) {
	t.Helper()
	yaml := strings.Replace(ordersYAML, "topic: flights-events\n", "topic: flights-events\n    api: {auth: api_key, quota_per_minute: 1000000}\n", 1)
	w := newWorld(t, yaml, Options{Tail: TailOptions{MaxTailTime: time.Millisecond}})
	w.addFlights()
	ring := auth.NewKeyring()
	key, _, err := ring.Create("canary", nil, time.Now(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	file, err := ring.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	c := &canaries{apiKey: key.Reveal(), ownerToken: "lo_canaryOwnerToken", cursorKey: "canary-cursor-key-0123456789abcd"}
	c.secrets = []string{c.apiKey, strings.SplitN(c.apiKey, "_", 3)[2], c.ownerToken, c.cursorKey, "canaryBearer", "canaryBasic", "canaryWrongKey", "canaryCookie", "canaryQuery"}
	tel, err := telemetry.Start(t.Context(), telemetry.Options{Service: "latam-test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tel.Shutdown(context.WithoutCancel(t.Context())) })
	log := &safeBuffer{}
	logger := telemetry.NewLogger(log, telemetry.LogOptions{Format: "json", Level: slog.LevelDebug})
	access, err := auth.New(auth.Options{KeysFile: "k", OwnerToken: telemetry.NewSecret(c.ownerToken)}, auth.Deps{Files: keyFiles(file), Log: logger, Meter: tel.Meter}, w.decl.Datasets)
	if err != nil {
		t.Fatal(err)
	}
	w.service.deps.Access, w.service.deps.Log, w.service.deps.Follower = access, logger, newFakeFollower()
	if w.service.sealer, err = newSealer([]byte(c.cursorKey)); err != nil {
		t.Fatal(err)
	}
	w.handler, err = web.Harden(web.Options{}, web.Deps{Handler: w.service.Handler(), Log: logger, Meter: tel.Meter, Tracer: tel.Tracer})
	if err != nil {
		t.Fatal(err)
	}
	return w, c, log, tel
}

// injections are what breaks a log that writes what it is given.
var injections = []string{
	"a\r\nlevel=ERROR msg=forged", "\x1b[2J\x1b[31mred", "\x00\x07\x08", "\xff\xfe\xc0\x80", "\u2028\u2029\u202e", `","level":"ERROR","forged":"yes`, "${jndi:ldap://x}", "%n%n%s", strings.Repeat("A", 4000), "{\"a\":1}\n{\"b\":2}",
}

// hostileHeaders adds credentials that are wrong, and texts where a log could repeat them.
func (c *canaries) hostileHeaders(rng *rand.Rand, r *http.Request) {
	switch rng.IntN(8) {
	case 0:
		r.Header.Set("X-Api-Key", c.apiKey)
	case 1:
		r.Header.Set("Authorization", "Bearer "+c.apiKey)
	case 2:
		r.Header.Set("Authorization", "Bearer "+c.ownerToken)
	case 3:
		r.Header.Set("Authorization", pick(rng, []string{"Bearer canaryBearer", "Basic canaryBasic", "canaryBearer", "Bearer canaryBearer\x00", "Bearer lk_abc_canaryWrongKey", "Bearer a.canaryBearer.c"}))
	case 4:
		r.Header.Set("X-Api-Key", pick(rng, []string{"canaryWrongKey", "lk_0123456789_canaryWrongKey", c.apiKey + "x", c.apiKey[:len(c.apiKey)-1] + "\n"}))
	case 5:
		r.Header["Authorization"] = []string{"Bearer " + c.apiKey, "Bearer canaryBearer"}
	}
	r.Header.Set("Cookie", "session=canaryCookie")
	for _, name := range []string{"X-Request-Id", "User-Agent", "Referer", "Traceparent", "Accept", "Content-Type", "Last-Event-Id", "X-Forwarded-For", "Accept-Encoding", "If-None-Match", "Tracestate"} {
		if rng.IntN(6) == 0 {
			r.Header.Set(name, pick(rng, injections))
		}
	}
	if rng.IntN(4) == 0 {
		// As a parameter of a name that does not exist, so that no answer repeats the value.
		r.URL.RawQuery += "&token=canaryQuery"
	}
	if rng.IntN(6) == 0 {
		r.Method = pick(rng, []string{"GET\r\nX: y", "\x1b[31m", strings.Repeat("M", 3000), "GET "})
	}
	if rng.IntN(4) == 0 {
		prefix := pick(rng, []string{"/", "/v1/datasets/", "/v1/datasets/orders/rows/"})
		r.URL.Path, r.URL.RawPath = prefix+pick(rng, injections), ""
	}
	if rng.IntN(100) == 0 {
		r.URL.Path = "/v1/datasets/orders/rows/" + strings.Repeat("é\n", 1<<19) // 1.5 MiB, had it come through the listener
	}
	r.Host = pick(rng, append(injections, "example.com"))
}

// troubles are failures behind the service, whose causes may quote anything.
func (w *world) trouble(rng *rand.Rand) {
	w.store.err, w.store.before = nil, nil
	switch rng.IntN(12) {
	case 0:
		w.store.fail(fmt.Errorf("%w: storeCause %s", store.ErrUnavailable, pick(rng, injections)))
	case 1:
		w.store.fail(fmt.Errorf("%w: storeCause %s", store.ErrMisconfigured, strings.Repeat("\n\x1b[31m", 100_000)))
	case 2:
		cause := "storeCause " + pick(rng, injections)
		w.store.before = func(context.Context) { panic(cause + strings.Repeat("\n", 10_000)) }
	case 3:
		w.store.before = func(context.Context) { panic(errors.New(strings.Repeat("x\r\n", 10_000))) }
	case 4:
		w.bus.err = fmt.Errorf("publish: storeCause %s", strings.Repeat("\r\n", 10_000))
	default:
		w.bus.err = nil
	}
}

// TestHostileRequestsInTheLog: whatever is asked, and whatever fails, the log is one JSON object a line
// with short values, and no secret is in it, in an answer or in a metric.
func TestHostileRequestsInTheLog(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	w, c, log, tel := newCanaryWorld(t)
	statuses := map[int]int{}
	requests := 0
	wanted := []int{200, 400, 401, 403, 404, 405, 500, 503}
	missing := func() bool {
		return slices.ContainsFunc(wanted, func(status int) bool { return statuses[status] == 0 })
	}
	// The rarest answer comes a few times in 2,000 requests, so chance may want some more.
	for total := abuseSize(t, "LATAM_ABUSE_LOG_REQUESTS", 2000); requests < total || missing() && requests < 10*total; {
		r := randomRequest(rng, []string{"v1.AAAA"})
		if rng.IntN(2) == 0 {
			r = surfaceRequest(rng, w, []string{"v1.AAAA"})
		}
		if r == nil {
			continue
		}
		requests++
		c.hostileHeaders(rng, r)
		w.trouble(rng)
		rec := httptest.NewRecorder()
		what := fmt.Sprintf("seed %d, request %d", seed, requests)
		w.serveAborted(rec, r)
		statuses[rec.Code]++
		c.check(t, what+": the answer", rec.Body.String())
		c.check(t, what+": the headers", fmt.Sprint(rec.Header()))
		if strings.Contains(rec.Body.String(), "storeCause") {
			t.Fatalf("%s shows why it failed: %s", what, rec.Body)
		}
	}
	for _, status := range wanted {
		if statuses[status] == 0 {
			t.Errorf("no request was answered with %d: %v", status, statuses)
		}
	}
	c.checkLog(t, log.String(), requests)
	rec := httptest.NewRecorder()
	tel.Prometheus.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	metrics := rec.Body.String()
	if !strings.Contains(metrics, "http_server_request_duration") || !strings.Contains(metrics, "latam_access_refused") {
		t.Fatalf("these are no metrics: %.300s", metrics)
	}
	c.check(t, "the metrics", metrics)
	if lines := strings.Count(metrics, "\n"); lines > 5000 || strings.Contains(metrics, "forged") || strings.Contains(metrics, "jndi") || strings.Contains(metrics, strings.Repeat("A", 65)) {
		t.Errorf("callers make metrics: %d lines", lines)
	}
}

// serveAborted serves a request whose answer may be aborted half way.
func (w *world) serveAborted(rec *httptest.ResponseRecorder, r *http.Request) {
	defer func() {
		if cause := recover(); cause != nil {
			if err, _ := cause.(error); !errors.Is(err, http.ErrAbortHandler) {
				w.t.Errorf("panic %v", cause)
			}
		}
	}()
	w.handler.ServeHTTP(rec, r)
}

func (c *canaries) check(t *testing.T, where, text string) {
	t.Helper()
	for _, secret := range c.secrets {
		if at := strings.Index(text, secret); at >= 0 {
			t.Fatalf("%s has a secret: …%.200q", where, text[max(0, at-100):])
		}
	}
}

func (c *canaries) checkLog(t *testing.T, text string, requests int) {
	t.Helper()
	c.check(t, "the log", text)
	lines, panics := 0, 0
	for line := range strings.Lines(text) {
		lines++
		if strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return r < ' ' || r == utf8.RuneError }) {
			t.Fatalf("line %d has raw bytes: %.300q", lines, line)
		}
		dec := json.NewDecoder(bytes.NewReader([]byte(line)))
		var entry map[string]any
		if err := dec.Decode(&entry); err != nil || dec.More() {
			t.Fatalf("line %d is not one JSON object: %v: %.300q", lines, err, line)
		}
		if entry["forged"] != nil || entry["msg"] == nil || entry["level"] == nil {
			t.Fatalf("line %d is forged: %.300q", lines, line)
		}
		if entry["msg"] == "request panicked" {
			panics++
		}
		for key, value := range entry {
			most := 256 + len("…")
			if key == "error" || key == "stack" {
				most = 2048 + len("…")
			}
			if s, ok := value.(string); ok && len(s) > most {
				t.Fatalf("line %d: %s has %d bytes: %.300q", lines, key, len(s), line)
			}
		}
	}
	t.Logf("%d requests, %d lines, %d panics", requests, lines, panics)
	if lines < requests || panics == 0 {
		t.Errorf("%d lines for %d requests, %d panics", lines, requests, panics)
	}
}

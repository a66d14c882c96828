package datadog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/monitor/datadog"
	"github.com/latamctl/latamctl/pkg/telemetry"
)

const (
	apiKey = "0123456789abcdef0123456789abcdef"
	appKey = "fedcba9876543210fedcba9876543210fedcba98"
	token  = "ddpat_abcdefghijklmnop"
)

type object = map[string]any

// wire answers within the process, so that a test's clock can be a fake one. It counts calls and open bodies.
type wire struct {
	handler http.Handler
	mu      sync.Mutex
	calls   []string
	open    int
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	w.calls = append(w.calls, r.Method+" "+r.URL.RequestURI())
	w.mu.Unlock()
	if r.Body == nil {
		r.Body = http.NoBody
	}
	recorder := httptest.NewRecorder()
	type outcome struct{ err error }
	done := make(chan outcome, 1)
	go func() {
		defer func() {
			err, _ := recover().(error)
			done <- outcome{err}
		}()
		w.handler.ServeHTTP(recorder, r)
	}()
	select {
	case o := <-done:
		if o.err != nil {
			return nil, o.err
		}
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	response := recorder.Result()
	body := response.Body
	if response.Header.Get("X-Cut") != "" {
		whole, _ := io.ReadAll(body)
		body = io.NopCloser(io.MultiReader(bytes.NewReader(whole[:len(whole)/2]), cut{}))
	}
	w.mu.Lock()
	w.open++
	w.mu.Unlock()
	response.Body = &counted{ReadCloser: body, w: w}
	return response, nil
}

type cut struct{}

func (cut) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

type counted struct {
	io.ReadCloser
	w    *wire
	once sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() { c.w.mu.Lock(); c.w.open--; c.w.mu.Unlock() })
	return c.ReadCloser.Close()
}

func (w *wire) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.calls)
}

// connect returns a client of a handler. Every answer's body must be closed in the end.
func connect(t *testing.T, handler http.HandlerFunc, change ...func(*datadog.Options)) (*datadog.Client, *wire) {
	t.Helper()
	w := &wire{handler: handler}
	o := datadog.Options{APIKey: telemetry.NewSecret(apiKey), AppKey: telemetry.NewSecret(appKey), Transport: w}
	for _, f := range change {
		f(&o)
	}
	c, err := datadog.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.open != 0 {
			t.Errorf("%d bodies were not closed", w.open)
		}
	})
	return c, w
}

// logTo collects what is logged.
func logTo(out io.Writer) func(*datadog.Options) {
	return func(o *datadog.Options) {
		o.Log = slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
}

// reply writes JSON.
func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		panic(err)
	}
}

func aMonitor() object {
	return object{
		"type": "query alert", "name": "Ingest errors", "message": "Look. @slack-latam-alerts", "priority": nil,
		"tags":    []any{"managed_by:latamctl", "latamctl_stack:latam-prod", "latamctl_id:monitor.ingest-errors"},
		"query":   "max(last_5m):default_zero(sum:latam.errors{env:prod}.as_count().rollup(sum, 60)) > 10",
		"options": object{"thresholds": object{"critical": 10.0, "warning": 7.5}, "new_group_delay": 60.0, "renotify_interval": 30.0, "renotify_statuses": []any{"alert"}, "on_missing_data": "default"},
	}
}

func aSLO() object {
	query := func(name, of string) object {
		return object{"data_source": "metrics", "name": name, "query": "count(v: v" + of + "):http.server.request.duration{env:prod}.as_count()"}
	}
	return object{
		"type": "metric", "name": "HTTP", "tags": []any{"managed_by:latamctl", "latamctl_stack:latam-prod"},
		"thresholds": []any{object{"timeframe": "30d", "target": 95.0, "warning": 97.0}},
		"sli_specification": object{"count": object{
			"good_events_formula": object{"formula": "good"}, "bad_events_formula": object{"formula": "bad"},
			"queries": []any{query("good", "<=0.1"), query("bad", ">0.1")},
		}},
	}
}

func aSlice() object {
	return object{
		"type": "time_slice", "name": "Errors", "thresholds": []any{object{"timeframe": "30d", "target": 95.0}},
		"sli_specification": object{"time_slice": object{
			"comparator": "<=", "threshold": 10.0, "query_interval_seconds": 60.0,
			"query": object{"formulas": []any{object{"formula": "default_zero(errors)"}}, "queries": []any{
				object{"data_source": "metrics", "name": "errors", "query": "sum:latam.errors{env:prod}.as_count()"},
			}},
		}},
	}
}

func aDashboard() object {
	return object{
		"title": "System", "layout_type": "ordered", "description": "All.\nlatamctl stack=latam-prod id=dashboard.system hash=1-0123456789ab",
		"widgets": []any{object{"definition": object{"type": "group", "layout_type": "ordered", "title": "Publish", "widgets": []any{
			object{"definition": object{"type": "note", "content": "Hello"}},
			object{"definition": object{"type": "timeseries", "title": "Rate", "requests": []any{object{
				"display_type": "line", "response_format": "timeseries", "formulas": []any{object{"formula": "a"}},
				"queries": []any{object{"data_source": "metrics", "name": "a", "query": "sum:latam.errors{*}"}},
			}}}},
			object{"definition": object{"type": "slo", "slo_id": "abc", "view_type": "detail", "time_windows": []any{"30d"}, "view_mode": "both"}},
			object{"definition": object{"type": "alert_graph", "alert_id": "123", "viz_type": "timeseries"}},
		}}, "layout": object{"x": 0.0, "y": 0.0, "width": 3.0, "height": 4.0}}},
		"reflow_type": "fixed", "tags": []any{"team:data"},
	}
}

// window is a bucket of a fixed period, as the server counts it: what the client must not overrun.
type window struct {
	mu      sync.Mutex
	name    string
	limit   int
	period  time.Duration
	aligned bool // to the clock, instead of beginning with a call
	floor   bool // seconds to the reset are rounded down
	start   time.Time
	used    int
	refused int
}

func (b *window) take(h http.Header) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if b.start.IsZero() || !now.Before(b.start.Add(b.period)) {
		b.start, b.used = now, 0
		if b.aligned {
			b.start = now.Truncate(b.period)
		}
	}
	ok := b.used < b.limit
	if ok {
		b.used++
	} else {
		b.refused++
	}
	left := b.start.Add(b.period).Sub(now)
	if !b.floor {
		left += time.Second - 1
	}
	for name, value := range map[string]int{"Limit": b.limit, "Remaining": b.limit - b.used, "Period": int(b.period / time.Second), "Reset": int(left / time.Second)} {
		h.Set("X-RateLimit-"+name, strconv.Itoa(value))
	}
	h.Set("X-RateLimit-Name", b.name)
	return ok
}

// serve answers 429 over the limit.
func (b *window) serve(w http.ResponseWriter) bool {
	if b.take(w.Header()) {
		return true
	}
	reply(w, http.StatusTooManyRequests, object{"errors": []string{fmt.Sprintf("Rate limit of %d requests in %d seconds reached. Please try again later.", b.limit, int(b.period.Seconds()))}})
	return false
}

// wantKind checks the kind and returns the details.
func wantKind(t *testing.T, err, kind error) *datadog.Error {
	t.Helper()
	var e *datadog.Error
	if !errors.As(err, &e) || kind != nil && !errors.Is(err, kind) {
		t.Fatalf("got %v, want %v", err, kind)
	}
	return e
}

func short(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func jsonBody(r *http.Request, into any) error { return json.NewDecoder(r.Body).Decode(into) }

package telemetry

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/protobuf/proto"
)

func TestCatalogue(t *testing.T) {
	t.Parallel()
	name := regexp.MustCompile(`^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$`)
	units := []string{"s", "{message}", "{record}", "{error}", "{row}", "{request}", "{check}", "{batch}", "{dataset}", "By", "1"}
	seen := map[string]bool{}
	for _, m := range Catalogue() {
		if !name.MatchString(m.Name) || seen[m.Name] {
			t.Errorf("metric %q: the name is not in lower-case words with dots, or stands twice", m.Name)
		}
		seen[m.Name] = true
		if !slices.Contains(units, m.Unit) || !strings.HasSuffix(m.Description, ".") || len(m.Attributes) == 0 {
			t.Errorf("metric %s: unit %q, description %q, attributes %q", m.Name, m.Unit, m.Description, m.Attributes)
		}
		if (m.Kind == KindHistogram) != (len(m.Bounds) > 0) {
			t.Errorf("metric %s is a %s with bounds %v", m.Name, m.Kind, m.Bounds)
		}
		if !slices.IsSorted(m.Bounds) || len(slices.Compact(slices.Clone(m.Bounds))) != len(m.Bounds) {
			t.Errorf("metric %s: bounds %v do not ascend", m.Name, m.Bounds)
		}
	}
}

// TestThresholdsAreBounds holds service levels to the bounds: between two of them a share is a guess.
func TestThresholdsAreBounds(t *testing.T) {
	t.Parallel()
	for name, threshold := range map[string]float64{
		"latam.ingest.end_to_end.duration": 0.05,
		"latam.ingest.pull.duration":       0.05,
		"latam.ingest.decode.duration":     0.05,
		"latam.ingest.queue.duration":      0.05,
		"latam.ingest.ack.duration":        0.05,
		"latam.canary.readable.duration":   0.05,
		"latam.batch.duration":             0.05,
		"http.server.request.duration":     0.1,
	} {
		i := slices.IndexFunc(Catalogue(), func(m Metric) bool { return m.Name == name })
		if i < 0 || !slices.Contains(Catalogue()[i].Bounds, threshold) {
			t.Errorf("metric %s has no bound at its threshold of %v", name, threshold)
		}
	}
}

// record puts one value into every metric of the catalogue.
func record(t *testing.T, meter metric.Meter) {
	t.Helper()
	for _, m := range Catalogue() {
		set := metric.WithAttributes(attribute.String(m.Attributes[0], "x"))
		switch m.Kind {
		case KindHistogram:
			h, err := m.Histogram(meter)
			if err != nil {
				t.Fatal(err)
			}
			h.Record(t.Context(), 0.04, set)
		case KindCounter:
			c, err := m.Counter(meter)
			if err != nil {
				t.Fatal(err)
			}
			c.Add(t.Context(), 3, set)
		case KindGauge:
			err := m.Gauge(meter, func(_ context.Context, o metric.Int64Observer) error { o.Observe(7, set); return nil })
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestPrometheus(t *testing.T) {
	t.Parallel()
	tel, err := Start(t.Context(), Options{Service: "latamctl", Version: "v1", Environment: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := tel.Shutdown(context.Background()); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	}()
	record(t, tel.Meter)
	answer := httptest.NewRecorder()
	tel.Prometheus.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	body := answer.Body.String()
	for _, m := range Catalogue() {
		base := strings.ReplaceAll(m.Name, ".", "_")
		switch m.Kind {
		case KindHistogram:
			for _, bound := range m.Bounds {
				want := 0
				if bound >= 0.04 {
					want = 1
				}
				line := regexp.MustCompile(fmt.Sprintf(`(?m)^%s(_[a-z]+)?_bucket\{.*le="%v".*\} %d$`, base, bound, want))
				if !line.MatchString(body) {
					t.Errorf("no bucket %v with count %d of %s", bound, want, m.Name)
				}
			}
			if buckets := len(regexp.MustCompile(`(?m)^`+base+`(_[a-z]+)?_bucket\{`).FindAllString(body, -1)); buckets != len(m.Bounds)+1 {
				t.Errorf("%s has %d buckets, want its %d bounds and infinity", m.Name, buckets, len(m.Bounds))
			}
		case KindCounter:
			if !regexp.MustCompile(`(?m)^` + base + `(_[a-z]+)?_total\{.*\} 3$`).MatchString(body) {
				t.Errorf("counter %s is missing", m.Name)
			}
		case KindGauge:
			if !regexp.MustCompile(`(?m)^` + base + `(_[a-z]+)?\{.*\} 7$`).MatchString(body) {
				t.Errorf("gauge %s is missing", m.Name)
			}
		}
	}
	for _, want := range []string{"go_goroutines", "process_resident_memory_bytes", `service_name="latamctl"`} {
		if !strings.Contains(body, want) {
			t.Errorf("%s is missing", want)
		}
	}
}

// TestTwoInOneProcess checks that nothing is global: two starts do not see each other.
func TestTwoInOneProcess(t *testing.T) {
	t.Parallel()
	var bodies []string
	for i := range 2 {
		tel, err := Start(t.Context(), Options{Service: fmt.Sprint("s", i)})
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			record(t, tel.Meter)
		}
		answer := httptest.NewRecorder()
		tel.Prometheus.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		bodies = append(bodies, answer.Body.String())
	}
	if !strings.Contains(bodies[0], "latam_ingest_records_total") || strings.Contains(bodies[1], "latam_ingest_records_total") {
		t.Error("the second start shows the metrics of the first")
	}
}

// TestTracesWithoutExport checks that a publisher's trace still travels.
func TestTracesWithoutExport(t *testing.T) {
	t.Parallel()
	tel, err := Start(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	parent := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled, Remote: true})
	_, span := tel.Tracer.Start(trace.ContextWithSpanContext(t.Context(), parent), "x")
	if span.IsRecording() || span.SpanContext().TraceID() != parent.TraceID() {
		t.Errorf("span %+v records, or lost its trace", span.SpanContext())
	}
}

// collector takes OTLP over HTTP.
type collector struct {
	mu      sync.Mutex
	metrics map[string]*metricspb.Metric
	service string
	traces  int
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch r.URL.Path {
	case "/v1/traces":
		c.traces++
	case "/v1/metrics":
		var req collectormetrics.ExportMetricsServiceRequest
		if err := proto.Unmarshal(body, &req); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		for _, rm := range req.GetResourceMetrics() {
			for _, kv := range rm.GetResource().GetAttributes() {
				if kv.GetKey() == "service.name" {
					c.service = kv.GetValue().GetStringValue()
				}
			}
			for _, sm := range rm.GetScopeMetrics() {
				for _, m := range sm.GetMetrics() {
					c.metrics[m.GetName()] = m
				}
			}
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// TestOTLP is not parallel: the exporters read environment variables.
func TestOTLP(t *testing.T) {
	c := &collector{metrics: map[string]*metricspb.Metric{}}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	tel, err := Start(t.Context(), Options{Service: "latamctl", OTLP: true, Interval: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	record(t, tel.Meter)
	parent := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled, Remote: true})
	_, span := tel.Tracer.Start(trace.ContextWithSpanContext(t.Context(), parent), "sampled by the publisher")
	span.End()
	// Shutdown sends what the interval has not yet.
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.service != "latamctl" || c.traces == 0 {
		t.Errorf("service %q, %d requests with traces", c.service, c.traces)
	}
	const delta = metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_DELTA
	for _, m := range Catalogue() {
		got := c.metrics[m.Name]
		switch m.Kind {
		case KindHistogram:
			h := got.GetHistogram()
			if h.GetAggregationTemporality() != delta || !slices.Equal(h.GetDataPoints()[0].GetExplicitBounds(), m.Bounds) {
				t.Errorf("histogram %s: %v", m.Name, got)
			}
		case KindCounter:
			if s := got.GetSum(); s.GetAggregationTemporality() != delta || !s.GetIsMonotonic() || s.GetDataPoints()[0].GetAsInt() != 3 {
				t.Errorf("counter %s: %v", m.Name, got)
			}
		case KindGauge:
			if g := got.GetGauge(); len(g.GetDataPoints()) != 1 || g.GetDataPoints()[0].GetAsInt() != 7 {
				t.Errorf("gauge %s: %v", m.Name, got)
			}
		}
	}
	if len(c.metrics) != len(Catalogue()) {
		t.Errorf("exported %q, want the catalogue and nothing else", slices.Collect(maps.Keys(c.metrics)))
	}
}

// TestInvalidMetric checks that a metric that cannot be made is an error, not a silent loss.
func TestInvalidMetric(t *testing.T) {
	t.Parallel()
	if _, err := HTTPServerDuration.Histogram(noop.NewMeterProvider().Meter("")); err != nil {
		t.Errorf("a meter that records nothing: %v", err)
	}
	tel, err := Start(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	bad := Metric{Name: "no spaces allowed", Unit: "s"}
	_, histogram := bad.Histogram(tel.Meter)
	_, counter := bad.Counter(tel.Meter)
	gauge := bad.Gauge(tel.Meter, func(context.Context, metric.Int64Observer) error { return nil })
	for _, err := range []error{histogram, counter, gauge} {
		if err == nil || !strings.Contains(err.Error(), bad.Name) {
			t.Errorf("error %v, want the metric's name", err)
		}
	}
}

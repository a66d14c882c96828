package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/pkg/telemetry"
)

// collect returns what each metric has counted, by name and attributes; histograms give their count, and
// as sums that of their values. Gauges of fractions are among the sums.
func collect(t *testing.T, reader sdkmetric.Reader) (counts map[string]int64, sums map[string]float64) {
	t.Helper()
	var got metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &got); err != nil {
		t.Fatal(err)
	}
	counts, sums = map[string]int64{}, map[string]float64{}
	for _, scope := range got.ScopeMetrics {
		for _, m := range scope.Metrics {
			key := func(set attribute.Set) string {
				checkAttributes(t, m.Name, set)
				return m.Name + "{" + set.Encoded(attribute.DefaultEncoder()) + "}"
			}
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					counts[key(p.Attributes)] = p.Value
				}
			case metricdata.Gauge[int64]:
				for _, p := range data.DataPoints {
					counts[key(p.Attributes)] = p.Value
				}
			case metricdata.Gauge[float64]:
				for _, p := range data.DataPoints {
					sums[key(p.Attributes)] = p.Value
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					counts[key(p.Attributes)] = int64(p.Count)
					sums[key(p.Attributes)] = p.Sum
				}
			}
		}
	}
	return counts, sums
}

// checkAttributes holds a metric to its entry in the catalogue.
func checkAttributes(t *testing.T, name string, set attribute.Set) {
	t.Helper()
	for _, m := range telemetry.Catalogue() {
		if m.Name != name {
			continue
		}
		declared := map[string]bool{}
		for _, key := range m.Attributes {
			declared[key] = true
		}
		for _, kv := range set.ToSlice() {
			if !declared[string(kv.Key)] {
				t.Errorf("metric %s carries %s, which its catalogue entry does not name", name, kv.Key)
			}
		}
		return
	}
	t.Errorf("metric %s is not in the catalogue", name)
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		reader := sdkmetric.NewManualReader()
		h.meter = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("")
		h.start(Options{Shards: 1})
		m := h.message(event("a", 1))
		m.PublishTime = time.Now().Add(-40 * time.Millisecond)
		h.wantAck("a record", h.deliver(m))
		ahead := h.message(event("b", 2))
		ahead.PublishTime = time.Now().Add(time.Hour)
		h.wantAck("a record published by a clock that runs ahead", h.deliver(ahead))
		h.wantAck("a reject", h.send("no JSON"))
		h.sink.setAnswer(refuse(store.ErrPoison))
		h.wantAck("a refused record", h.send(event("c", 6)))
		h.sink.setAnswer(refuse(store.ErrUnavailable))
		h.wantGivenUp("a record without a store", h.send(event("d", 6)))
		h.sink.setAnswer(nil)
		h.sink.setGate(make(chan struct{}))
		open := h.send(event("e", 1))
		h.idle()

		counts, sums := collect(t, reader)
		const sub = "messaging.destination.subscription.name=events-ingest,messaging.system=gcp_pubsub"
		want := map[string]int64{
			"latam.ingest.records{dataset=events,outcome=ok,stage=commit}":       2,
			"latam.ingest.records{dataset=events,outcome=rejected,stage=decode}": 1,
			"latam.ingest.records{dataset=events,outcome=rejected,stage=commit}": 1,
			"latam.ingest.records{dataset=events,outcome=error,stage=commit}":    1,
			"latam.ingest.end_to_end.duration{dataset=events}":                   2,
			"latam.ingest.pull.duration{dataset=events}":                         1,
			"latam.ingest.decode.duration{dataset=events}":                       1,
			"latam.ingest.queue.duration{dataset=events}":                        5,
			"latam.ingest.ack.duration{dataset=events}":                          2,
			"latam.ingest.redelivered{dataset=events}":                           0,
			"latam.ingest.given_back{dataset=events}":                            1,
			"latam.ingest.payload{dataset=events}":                               237,
			"latam.ingest.merged{dataset=events}":                                0,
			"latam.ingest.retried{dataset=events}":                               3,
			"latam.ingest.clock_skew{dataset=events}":                            1,
			"latam.ingest.in_flight{dataset=events}":                             1,
			"latam.ingest.paused{dataset=events,reason=receive}":                 0,
			"latam.ingest.paused{dataset=events,reason=store}":                   0,
			"latam.ingest.paused{dataset=events,reason=rejects}":                 0,
			"latam.ingest.paused{dataset=events,reason=schema}":                  0,
			"latam.ingest.limit.batches{dataset=events}":                         1,
			"latam.ingest.limit.rows{dataset=events}":                            500,
			"latam.batch.duration{batch.name=events,outcome=ok}":                 2,
			"latam.batch.duration{batch.name=events,outcome=error}":              2 + maxRetries,
			"latam.batch.size{batch.name=events,outcome=ok}":                     2,
			"latam.batch.size{batch.name=events,outcome=error}":                  2 + maxRetries,
			"latam.errors{stage=commit}":                                         1,
			"messaging.client.consumed.messages{" + sub + "}":                    6,
			"messaging.process.duration{" + sub + "}":                            4,
			"messaging.process.duration{error.type=redelivered," + sub + "}":     1,
		}
		if diff := cmp.Diff(want, counts); diff != "" {
			t.Errorf("metrics (-want +got):\n%s", diff)
		}
		if sum := sums["latam.ingest.end_to_end.duration{dataset=events}"]; sum < 0.04 || sum > 0.041 {
			t.Errorf("end to end %v seconds, want 40ms and nothing for the clock that runs ahead", sum)
		}
		h.letThrough(h.sink.gate)
		h.wantAck("the last", open)
		if counts, _ := collect(t, reader); counts["latam.ingest.in_flight{dataset=events}"] != 0 {
			t.Error("a message is still counted as in flight")
		}
		h.end()
	})
}

// TestTraceFollowsMessage checks that the publisher's trace reaches the commit.
func TestTraceFollowsMessage(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		spans := tracetest.NewSpanRecorder()
		h.tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("")
		h.start(Options{Shards: 1})
		const id = "0af7651916cd43dd8448eb211c80319c"
		m := h.message(event("a", 1))
		m.Attributes = map[string]string{"traceparent": "00-" + id + "-b7ad6b7169203331-01"}
		h.wantAck("a record", h.deliver(m))
		h.end()
		got := map[string]string{}
		for _, span := range spans.Ended() {
			got[span.Name()] = fmt.Sprint(span.SpanContext().TraceID(), " links ", len(span.Links()))
		}
		want := map[string]string{"process events-ingest": id + " links 0", "commit events": id + " links 1"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("spans (-want +got):\n%s", diff)
		}
	})
}

// TestSeveralDatasets checks that one dataset's trouble is named and leaves the others alone.
func TestSeveralDatasets(t *testing.T) {
	t.Parallel()
	d, err := dataset.Load("latam.yaml", []byte(`
version: 1
name: test
datasets:
  good: {fields: {code: {type: string, required: true}}, key: [code]}
  bad:  {fields: {code: {type: string, required: true}}, key: [code]}
`))
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		testSeveralDatasets(t, d.Datasets)
	})
}

// twoSources fails one subscription and delivers nothing on the others.
type twoSources struct{ *fakeSource }

func (s twoSources) Receive(ctx context.Context, sub string, opts bus.ReceiveOptions, handle func(context.Context, bus.Message) bool) error {
	if sub == "bad-ingest" {
		return bus.ErrDenied
	}
	return s.fakeSource.Receive(ctx, sub, opts, handle)
}

func testSeveralDatasets(t *testing.T, datasets []*dataset.Dataset) {
	source := &fakeSource{queue: make(chan delivery, 1)}
	sink := &fakeSink{stored: map[string]dataset.Row{}}
	svc, err := New(Options{}, Deps{
		Source: twoSources{source}, Sink: sink, DeadLetters: &fakeDeadLetters{}, Log: slog.New(slog.DiscardHandler), Now: time.Now,
	}, datasets)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- svc.Run(ctx) }()
	synctest.Wait()
	if err := svc.Ready(); !errors.Is(err, bus.ErrDenied) || !strings.Contains(err.Error(), "dataset bad") {
		t.Errorf("ready says %v, want that dataset bad is not allowed", err)
	}
	outcome := make(chan bool, 1)
	published := time.Now()
	source.queue <- delivery{message: bus.Message{ID: "1", PublishTime: published, Data: []byte(`{"code":"a"}`)}, outcome: outcome}
	if !<-outcome {
		t.Error("a record of the other dataset was given back")
	}
	// Without a time field, the event time is that of the publication.
	if row := sink.calls()[0].rows[0]; !row.Time.Equal(published) || sink.calls()[0].table != "good" {
		t.Errorf("row %+v of table %s, want the publish time in table good", row, sink.calls()[0].table)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
}

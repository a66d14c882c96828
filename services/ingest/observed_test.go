package ingest

import (
	"context"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/store"
)

// metered is the harness with a meter, and what its metrics say.
func metered(h *harness) *metric.ManualReader {
	reader := metric.NewManualReader()
	h.meter = metric.NewMeterProvider(metric.WithReader(reader)).Meter("")
	return reader
}

// TestLag follows the age of what is held: by publish time of what comes for the first time, and since
// its receipt of everything.
func TestLag(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		reader := metered(h)
		want := func(when string, lag, held time.Duration, saturation float64) {
			t.Helper()
			_, got := collect(t, reader)
			for name, want := range map[string]float64{"lag": lag.Seconds(), "oldest_held": held.Seconds(), "saturation": saturation} {
				if got := got["latam.ingest."+name+"{dataset=events}"]; got < want-0.001 || got > want+0.001 {
					t.Errorf("%s: %s is %v, want %v", when, name, got, want)
				}
			}
		}
		h.sink.gate = make(chan struct{})
		h.start(Options{Shards: 1, MaxMessages: 8})
		want("idle", 0, 0, 0)
		again := h.message(event("a", 1))
		again.PublishTime, again.DeliveryAttempt = time.Now().Add(-time.Hour), 2
		outcomes := []chan bool{h.deliver(again)}
		h.idle()
		time.Sleep(3 * time.Second)
		want("only a message that failed before", 0, 3*time.Second, 1./8)
		first := h.message(event("b", 1))
		first.PublishTime = time.Now().Add(-20 * time.Second)
		outcomes = append(outcomes, h.deliver(first), h.send(event("c", 1)))
		h.idle()
		time.Sleep(2 * time.Second)
		want("held", 22*time.Second, 5*time.Second, 3./8)
		close(h.sink.gate)
		h.sink.gate = nil
		h.idle()
		for _, outcome := range outcomes {
			h.wantAck("a message", outcome)
		}
		want("settled", 0, 0, 0)
		h.end()
	})
}

// TestHolding holds the ages to those of a plain list.
func TestHolding(t *testing.T) {
	t.Parallel()
	type entry struct {
		*held
		published, received time.Time
		again               bool
	}
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		h, now := newHolding(), time.Unix(1_000_000, 0)
		var model []entry
		for step := range 2000 {
			now = now.Add(time.Duration(r.IntN(1000)) * time.Millisecond)
			if r.IntN(2) == 0 || len(model) == 0 {
				e := entry{published: now.Add(time.Duration(r.IntN(20000)-15000) * time.Millisecond), received: now, again: r.IntN(4) == 0}
				e.held = h.take(e.published, e.received, e.again)
				model = append(model, e)
			} else {
				i := r.IntN(len(model))
				model[i].release()
				model[i] = model[len(model)-1]
				model = model[:len(model)-1]
			}
			var wantLag, wantHeld time.Duration
			for _, e := range model {
				wantHeld = max(wantHeld, now.Sub(e.received))
				if !e.again {
					wantLag = max(wantLag, now.Sub(e.published))
				}
			}
			if lag, held := h.ages(now); lag != wantLag || held != wantHeld {
				t.Fatalf("seed %d, step %d: %s and %s, want %s and %s", seed, step, lag, held, wantLag, wantHeld)
			}
		}
	}
}

// TestCounters counts what comes again, what is given back and what shares a write.
func TestCounters(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		reader := metered(h)
		want := func(when string, wants map[string]int64) {
			t.Helper()
			got, _ := collect(t, reader)
			for name, want := range wants {
				if got := got["latam.ingest."+name]; got != want {
					t.Errorf("%s: %s is %d, want %d", when, name, got, want)
				}
			}
		}
		h.start(Options{Shards: 1})
		h.sink.gate = make(chan struct{})
		open := h.send(event("x", 1)) // Until it is through, the others gather.
		h.idle()
		var together []chan bool
		for i := range 4 {
			m := h.message(event("a", i))
			m.DeliveryAttempt = i // 0 and 1 are first deliveries.
			together = append(together, h.deliver(m))
		}
		h.idle()
		h.letThrough(h.sink.gate)
		h.letThrough(h.sink.gate)
		h.sink.gate = nil
		h.wantAck("the first", open)
		for _, outcome := range together {
			h.wantAck("one of four", outcome)
		}
		want("four of one key", map[string]int64{
			"merged{dataset=events}": 3, "redelivered{dataset=events}": 2, "given_back{dataset=events}": 0,
			"records{dataset=events,outcome=ok,stage=commit}": 5,
		})
		late := h.message(event("a", 0))
		late.ID, late.PublishTime = "1", late.PublishTime.Add(-time.Minute)
		h.wantAck("a record that a newer one replaced", h.deliver(late))
		want("replaced", map[string]int64{"merged{dataset=events}": 4, "records{dataset=events,outcome=ok,stage=commit}": 6})
		h.sink.answer = refuse(store.ErrUnavailable)
		h.wantNack("a record without a store", h.send(event("d", 6)))
		want("given back", map[string]int64{"given_back{dataset=events}": 1, "records{dataset=events,outcome=error,stage=commit}": 1})
		h.end()
	})
}

// TestPaused: the gauge names why nothing moves, and goes back.
func TestPaused(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		reader := metered(h)
		want := func(when, reason string) {
			t.Helper()
			got, _ := collect(t, reader)
			for _, known := range pauseReasons() {
				paused, there := got["latam.ingest.paused{dataset=events,reason="+known+"}"]
				if !there || (paused == 1) != (known == reason) {
					t.Errorf("%s: paused for %s is %d, want it for %q only", when, known, paused, reason)
				}
			}
		}
		h.source.script = []func(context.Context) error{func(context.Context) error { return bus.ErrDenied }}
		h.start(Options{Shards: 1})
		h.idle()
		want("no subscription", pausedReceive)
		time.Sleep(minReceiveBackoff + healthyAfter)
		h.idle()
		want("it is there", "")
		h.sink.answer = refuse(store.ErrMisconfigured)
		h.wantNack("a record without a table", h.send(event("a", 6)))
		want("no table", pausedStore)
		h.end()
	})
}

// TestExemplars: a slow record leads to its trace.
func TestExemplars(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		reader := metered(h)
		h.start(Options{Shards: 1})
		const id = "0af7651916cd43dd8448eb211c80319c"
		m := h.message(event("a", 1))
		m.Attributes = map[string]string{"traceparent": "00-" + id + "-b7ad6b7169203331-01"}
		h.wantAck("a record", h.deliver(m))
		h.end()
		var all metricdata.ResourceMetrics
		if err := reader.Collect(t.Context(), &all); err != nil {
			t.Fatal(err)
		}
		found := map[string]bool{}
		for _, scope := range all.ScopeMetrics {
			for _, m := range scope.Metrics {
				histogram, ok := m.Data.(metricdata.Histogram[float64])
				if !ok {
					continue
				}
				for _, x := range histogram.DataPoints[0].Exemplars {
					found[m.Name] = found[m.Name] || strings.EqualFold(id, hex.EncodeToString(x.TraceID))
				}
			}
		}
		for _, name := range []string{"end_to_end", "pull", "decode", "queue", "ack"} {
			if !found["latam.ingest."+name+".duration"] {
				t.Errorf("no exemplar of %s has the publisher's trace", name)
			}
		}
	})
}

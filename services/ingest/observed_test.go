package ingest

import (
	"context"
	"encoding/hex"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
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
		h.letThrough(h.sink.gate)
		h.letThrough(h.sink.gate)
		for _, outcome := range outcomes {
			h.wantAck("a message", outcome)
		}
		want("settled", 0, 0, 0)
		h.end()
	})
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
		h.wantAck("the first", open)
		for _, outcome := range together {
			h.wantAck("one of four", outcome)
		}
		h.sink.gate = nil
		want("four of one key", map[string]int64{
			"merged{dataset=events}": 3, "redelivered{dataset=events}": 2, "given_back{dataset=events}": 0,
			"records{dataset=events,outcome=ok,stage=commit}": 5,
		})
		late := h.message(event("a", 0))
		late.ID, late.PublishTime = "1", late.PublishTime.Add(-time.Minute)
		h.wantAck("a record that a newer one replaced", h.deliver(late))
		want("replaced", map[string]int64{"merged{dataset=events}": 4, "records{dataset=events,outcome=ok,stage=commit}": 6})
		h.sink.answer = refuse(store.ErrUnavailable)
		h.wantGivenUp("a record without a store", h.send(event("d", 6)))
		want("given back", map[string]int64{"given_back{dataset=events}": 1, "retried{dataset=events}": maxRetries, "records{dataset=events,outcome=error,stage=commit}": 1})
		h.end()
	})
}

// TestPaused: the gauge names why nothing moves, and goes back. What a paused route holds is no lag.
func TestPaused(t *testing.T) {
	t.Parallel()
	var mended atomic.Bool // the store
	for reason, tc := range map[string]struct {
		breaks, mends func(h *harness, sub *subscription)
		records       func(int) string
	}{
		pausedReceive: {
			func(h *harness, _ *subscription) {
				h.source.script = []func(context.Context) error{func(context.Context) error { time.Sleep(time.Minute); return bus.ErrDenied }}
			},
			func(*harness, *subscription) {}, nil,
		},
		pausedStore: {
			func(h *harness, _ *subscription) {
				h.sink.answer = func(rows []dataset.Row) []error {
					if mended.Load() {
						return make([]error, len(rows))
					}
					return fail(store.ErrMisconfigured)(rows)
				}
			},
			func(*harness, *subscription) { mended.Store(true) }, good,
		},
		pausedRejects: {
			func(*harness, *subscription) {},
			func(h *harness, sub *subscription) {
				sub.mu.Lock()
				sub.waiting = nil
				sub.mu.Unlock()
				sub.publish(h.events(1000, good)...)
			}, bad,
		},
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, h *harness) {
				reader := metered(h)
				want := func(when, reason string) {
					t.Helper()
					got, sums := collect(t, reader)
					for _, known := range pauseReasons() {
						paused, there := got["latam.ingest.paused{dataset=events,reason="+known+"}"]
						if !there || (paused == 1) != (known == reason) {
							t.Errorf("%s: paused for %s is %d, want it for %q only", when, known, paused, reason)
						}
					}
					if a, _ := h.svc.Activity("events"); a.Paused != reason || (a.Why != "") != (reason != "") {
						t.Errorf("%s: the activity says paused %q because %q, want %q and a reason", when, a.Paused, a.Why, reason)
					}
					if lag := sums["latam.ingest.lag{dataset=events}"]; lag > 1 {
						t.Errorf("%s: the lag is %v s", when, lag)
					}
				}
				var sub *subscription
				if tc.records == nil {
					tc.breaks(h, nil)
					h.start(Options{})
					h.idle()
					want("at first", "")
					time.Sleep(time.Minute + minReceiveBackoff/2)
				} else {
					sub = newSubscription(h.events(5000, tc.records)...)
					tc.breaks(h, sub)
					h.startOn(sub, Options{})
					time.Sleep(10 * time.Minute)
				}
				want("broken", reason)
				tc.mends(h, sub)
				time.Sleep(3 * maxProbePause)
				want("mended", "")
				h.end()
			})
		})
	}
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

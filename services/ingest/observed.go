package ingest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/latamctl/latamctl/pkg/telemetry"
)

// tally is what one route has counted since the start. It is read when metrics are collected.
type tally struct {
	received, again, ahead, back, bytes atomic.Int64
	stored, merged, retried             atomic.Int64

	mu       sync.Mutex
	outcomes map[outcomeAt]*atomic.Int64 // of the records that were not stored
}

// outcomeAt is what became of a record and the stage at which it did.
type outcomeAt struct{ outcome, stage string }

func (t *tally) outcome(outcome, stage string) *atomic.Int64 {
	at := outcomeAt{outcome, stage}
	t.mu.Lock()
	defer t.mu.Unlock()
	n, ok := t.outcomes[at]
	if !ok {
		if t.outcomes == nil {
			t.outcomes = map[outcomeAt]*atomic.Int64{}
		}
		n = &atomic.Int64{}
		t.outcomes[at] = n
	}
	return n
}

// The values of the reason attribute of latam.ingest.paused.
const (
	pausedReceive = "receive"
	pausedStore   = "store"
	pausedRejects = "rejects"
	pausedSchema  = "schema"
)

func pauseReasons() []string {
	return []string{pausedReceive, pausedStore, pausedRejects, pausedSchema}
}

// pausedBy returns why the route does not work now, empty when it does. A route whose probe is under
// way is paused all the same.
func (r *route) pausedBy() string {
	switch why := r.gate.why(); {
	case errors.Is(why, errBadDeploy):
		return pausedRejects
	case errors.Is(why, errNoSchema):
		return pausedSchema
	case why != nil:
		return pausedStore
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.health.receive != nil {
		return pausedReceive
	}
	return ""
}

// whyPaused is the whole reason of pausedBy; it may be empty when the route goes on meanwhile.
func (r *route) whyPaused() string {
	why := r.gate.why()
	if why == nil {
		r.mu.Lock()
		why = r.health.receive
		r.mu.Unlock()
	}
	if why == nil {
		return ""
	}
	return why.Error()
}

// ages returns the age by publish time of the oldest message in work that was not delivered before, and
// how long the one that was received first has been in work. Messages of a clock that runs ahead are
// new. One delivered again says nothing about how far behind the process is, only that it failed once;
// nor do those that the probe of a paused route holds.
func (r *route) ages(now time.Time) (lag, held time.Duration) {
	if r.gate.state.Load() != gateOpen {
		return 0, 0
	}
	r.works.each(func(it *item) {
		held = max(held, now.Sub(it.began))
		if it.message.DeliveryAttempt <= 1 {
			lag = max(lag, now.Sub(it.message.PublishTime))
		}
	})
	return lag, held
}

// observe makes the instruments that are asked for their values when metrics are collected.
func (in instruments) observe(routes []*route, now func() time.Time) error {
	return errors.Join(in.observeCounters(routes), in.observeGauges(routes, now))
}

func (in instruments) observeCounters(routes []*route) error {
	count := func(m telemetry.Metric, of func(*tally) *atomic.Int64, set func(*observer) observeOption) error {
		return m.ObservedCounter(in.meter, func(_ context.Context, o metric.Int64Observer) error {
			for _, r := range routes {
				o.Observe(of(&r.observed.tally).Load(), set(r.observed))
			}
			return nil
		})
	}
	dataset := func(o *observer) observeOption { return o.datasetSet }
	return errors.Join(
		count(telemetry.MessagesConsumed, func(t *tally) *atomic.Int64 { return &t.received }, func(o *observer) observeOption { return o.subscriptionSet }),
		count(telemetry.IngestRedelivered, func(t *tally) *atomic.Int64 { return &t.again }, dataset),
		count(telemetry.IngestGivenBack, func(t *tally) *atomic.Int64 { return &t.back }, dataset),
		count(telemetry.IngestPayload, func(t *tally) *atomic.Int64 { return &t.bytes }, dataset),
		count(telemetry.IngestMerged, func(t *tally) *atomic.Int64 { return &t.merged }, dataset),
		count(telemetry.IngestRetried, func(t *tally) *atomic.Int64 { return &t.retried }, dataset),
		count(telemetry.IngestClockSkew, func(t *tally) *atomic.Int64 { return &t.ahead }, dataset),
		telemetry.IngestRecords.ObservedCounter(in.meter, func(_ context.Context, o metric.Int64Observer) error {
			for _, r := range routes {
				r.observed.observeRecords(o)
			}
			return nil
		}),
	)
}

// observeRecords gives the records by outcome; those that were stored also when they are none.
func (o *observer) observeRecords(to metric.Int64Observer) {
	observe := func(n int64, at outcomeAt) {
		to.Observe(n, metric.WithAttributes(attribute.String("dataset", o.name), attribute.String("outcome", at.outcome), attribute.String("stage", at.stage)))
	}
	observe(o.tally.stored.Load(), outcomeAt{outcomeOK, stageCommit})
	o.tally.mu.Lock()
	defer o.tally.mu.Unlock()
	for at, n := range o.tally.outcomes {
		observe(n.Load(), at)
	}
}

func (in instruments) observeGauges(routes []*route, now func() time.Time) error {
	whole := func(m telemetry.Metric, of func(*route) int64) error {
		return m.Gauge(in.meter, func(_ context.Context, o metric.Int64Observer) error {
			for _, r := range routes {
				o.Observe(of(r), r.observed.datasetSet)
			}
			return nil
		})
	}
	float := func(m telemetry.Metric, of func(*route) float64) error {
		return m.FloatGauge(in.meter, func(_ context.Context, o metric.Float64Observer) error {
			for _, r := range routes {
				o.Observe(of(r), r.observed.datasetSet)
			}
			return nil
		})
	}
	return errors.Join(
		whole(telemetry.IngestInFlight, func(r *route) int64 { return r.observed.inFlight.n.Load() }),
		whole(telemetry.IngestLimitBatches, func(r *route) int64 { batches, _ := r.limits(); return int64(batches) }),
		whole(telemetry.IngestLimitRows, func(r *route) int64 { _, rows := r.limits(); return int64(rows) }),
		float(telemetry.IngestSaturation, (*route).saturation),
		float(telemetry.IngestLag, func(r *route) float64 { lag, _ := r.ages(now()); return lag.Seconds() }),
		float(telemetry.IngestOldestHeld, func(r *route) float64 { _, held := r.ages(now()); return held.Seconds() }),
		telemetry.IngestPaused.Gauge(in.meter, func(_ context.Context, o metric.Int64Observer) error {
			for _, r := range routes {
				r.observePaused(o)
			}
			return nil
		}),
	)
}

// saturation is how much of what the route may hold it does hold.
func (r *route) saturation() float64 {
	return min(1, float64(r.observed.inFlight.n.Load())/float64(r.opts.MaxMessages))
}

// observePaused gives each reason, the ones that do not hold as well: a gauge that is not there says nothing.
func (r *route) observePaused(o metric.Int64Observer) {
	why := r.pausedBy()
	for _, reason := range pauseReasons() {
		var paused int64
		if reason == why {
			paused = 1
		}
		o.Observe(paused, metric.WithAttributes(attribute.String("dataset", r.ds.Name), attribute.String("reason", reason)))
	}
}

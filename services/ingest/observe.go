package ingest

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/telemetry"
)

// The values of the outcome attribute of latam.ingest.records.
const (
	outcomeOK       = "ok"
	outcomeRejected = "rejected"
	outcomeError    = "error"
)

// instruments are those that record each value as it comes. What is only counted, or asked for, is
// observed at collection: see observed.go.
type instruments struct {
	meter                      metric.Meter
	endToEnd, pull, decode     metric.Float64Histogram
	queue, ack                 metric.Float64Histogram
	process, batchTime, batchN metric.Float64Histogram
	errors                     metric.Int64Counter
}

func newInstruments(meter metric.Meter) (instruments, error) {
	if meter == nil {
		meter = metricnoop.NewMeterProvider().Meter("")
	}
	in := instruments{meter: meter}
	var errs []error
	histogram := func(m telemetry.Metric) metric.Float64Histogram {
		h, err := m.Histogram(meter)
		errs = append(errs, err)
		return h
	}
	in.endToEnd, in.pull, in.decode = histogram(telemetry.IngestEndToEnd), histogram(telemetry.IngestPull), histogram(telemetry.IngestDecode)
	in.queue, in.ack, in.process = histogram(telemetry.IngestQueue), histogram(telemetry.IngestAck), histogram(telemetry.MessageProcessDuration)
	in.batchTime, in.batchN = histogram(telemetry.BatchDuration), histogram(telemetry.BatchSize)
	var err error
	in.errors, err = telemetry.Errors.Counter(meter)
	return in, errors.Join(append(errs, err)...)
}

// recordOptions and observeOption are attribute sets that are made once: making one for each message
// costs more than the recording, and so does a slice for it.
type (
	recordOptions = []metric.RecordOption
	observeOption = metric.MeasurementOption
)

// observer records what happens on one route.
type observer struct {
	instruments
	tracer trace.Tracer // nil where no span leaves the process
	name   string
	// inFlight counts the messages in work.
	inFlight *arrivals
	tally    tally

	dataset, subscription, processError, batchOK, batchError recordOptions

	datasetSet, subscriptionSet observeOption
}

func (in instruments) forDataset(ds *dataset.Dataset, tracer trace.Tracer) *observer {
	set := func(kv ...attribute.KeyValue) metric.MeasurementOption {
		return metric.WithAttributeSet(attribute.NewSet(kv...))
	}
	system := attribute.String("messaging.system", "gcp_pubsub")
	sub := attribute.String("messaging.destination.subscription.name", ds.Subscription())
	name := attribute.String("dataset", ds.Name)
	batch := attribute.String("batch.name", ds.Name)
	return &observer{
		instruments: in, tracer: tracer, name: ds.Name, inFlight: &arrivals{},
		dataset:      recordOptions{set(name)},
		subscription: recordOptions{set(system, sub)},
		processError: recordOptions{set(system, sub, attribute.String("error.type", "redelivered"))},
		batchOK:      recordOptions{set(batch, attribute.String("outcome", outcomeOK))},
		batchError:   recordOptions{set(batch, attribute.String("outcome", outcomeError))},

		datasetSet: set(name), subscriptionSet: set(system, sub),
	}
}

// measuredOneIn is how many messages share one measurement of their receipt and their decoding: the
// recording takes a tenth of the time that is measured.
const measuredOneIn = 16

// receive counts a message, opens its span and follows the trace of its publisher. It tells whether
// the message is one of those whose decoding is to be measured.
func (o *observer) receive(it *item, ds *dataset.Dataset) (measured bool) {
	m := &it.message
	measured = o.tally.received.Add(1)%measuredOneIn == 1
	o.tally.bytes.Add(int64(len(m.Data)))
	if m.DeliveryAttempt > 1 {
		o.tally.again.Add(1)
	}
	if m.PublishTime.After(it.began) {
		o.tally.ahead.Add(1)
	}
	if m.Attributes["traceparent"] != "" {
		it.traced = propagation.TraceContext{}.Extract(it.traced, propagation.MapCarrier(m.Attributes))
		it.sampled = trace.SpanContextFromContext(it.traced).IsSampled()
	}
	if o.tracer != nil {
		it.traced, it.process = o.tracer.Start(it.traced, "process "+ds.Subscription(), trace.WithSpanKind(trace.SpanKindConsumer))
		it.sampled = it.process.SpanContext().IsSampled()
	}
	if measured {
		o.pull.Record(it.exemplar(), max(0, it.began.Sub(m.PublishTime)).Seconds(), o.dataset...)
	}
	return measured
}

// exemplar is the context to record a measurement of a message with. The message's own is many
// contexts deep, which costs more than the recording, and tells nothing unless its trace is sampled.
func (it *item) exemplar() context.Context {
	if it.sampled {
		return it.traced
	}
	return context.Background()
}

// unsettled ends what receive began, of a message that is not stored. The span is nil where none
// leaves the process.
func (o *observer) unsettled(ctx context.Context, span trace.Span, took time.Duration, ack bool) {
	attrs := o.subscription
	if !ack {
		attrs = o.processError
		o.tally.back.Add(1)
	}
	o.process.Record(ctx, took.Seconds(), attrs...)
	if span != nil {
		span.End()
	}
}

func (o *observer) decoded(it *item) {
	o.decode.Record(it.exemplar(), it.submitted.Sub(it.began).Seconds(), o.dataset...)
}

// stored ends what receive began, of a record that is durable, with its age since publication; a clock
// that runs behind counts as zero.
func (o *observer) stored(it *item, now time.Time) {
	o.tally.stored.Add(1)
	ctx := it.exemplar()
	o.endToEnd.Record(ctx, max(0, now.Sub(it.message.PublishTime)).Seconds(), o.dataset...)
	o.process.Record(ctx, now.Sub(it.began).Seconds(), o.subscription...)
	if it.process != nil {
		it.process.End()
	}
}

func (o *observer) record(outcome, stage string) { o.tally.outcome(outcome, stage).Add(1) }

func (o *observer) platformError(stage string) {
	o.errors.Add(context.Background(), 1, metric.WithAttributes(attribute.String("stage", stage)))
}

func (o *observer) committed(ctx context.Context, rows int, took time.Duration, failed error) {
	attrs := o.batchOK
	if failed != nil {
		attrs = o.batchError
	}
	o.batchTime.Record(ctx, took.Seconds(), attrs...)
	o.batchN.Record(ctx, float64(rows), attrs...)
}

// queued records how long the record waited that waited longest for the commit that starts now, those
// left out that are tried again.
func (o *observer) queued(ctx context.Context, start time.Time, winners []*winner) {
	oldest, some := start, false
	see := func(it *item) {
		if it.tries > 0 {
			return
		}
		some = true
		if it.submitted.Before(oldest) {
			oldest = it.submitted
		}
	}
	for _, w := range winners {
		see(w.item)
		for _, it := range w.losers {
			see(it)
		}
	}
	if some {
		o.queue.Record(ctx, start.Sub(oldest).Seconds(), o.dataset...)
	}
}

// acknowledged records how long after its commit a record was answered.
func (o *observer) acknowledged(ctx context.Context, sinceCommit time.Duration) {
	o.ack.Record(ctx, sinceCommit.Seconds(), o.dataset...)
}

// maxSpanLinks keeps the span of a large batch small.
const maxSpanLinks = 32

// startCommit opens the span of a commit, linked to the messages whose traces are sampled.
func (o *observer) startCommit(ctx context.Context, ds *dataset.Dataset, winners []*winner) (context.Context, func(error)) {
	var links []trace.Link
	for _, w := range winners {
		if w.item.sampled && len(links) < maxSpanLinks {
			links = append(links, trace.Link{SpanContext: trace.SpanContextFromContext(w.item.traced)})
		}
	}
	if len(links) > 0 {
		// The first message's trace carries the commit, so that one trace shows publish to commit.
		ctx = trace.ContextWithRemoteSpanContext(ctx, links[0].SpanContext)
	}
	if o.tracer == nil {
		return ctx, func(error) {}
	}
	ctx, span := o.tracer.Start(ctx, "commit "+ds.Table(), trace.WithLinks(links...))
	return ctx, func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, "not stored")
		}
		span.End()
	}
}

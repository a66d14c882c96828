package ingest

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/telemetry"
)

// The values of the outcome attribute of latam.ingest.records.
const (
	outcomeOK       = "ok"
	outcomeRejected = "rejected"
	outcomeError    = "error"
)

type instruments struct {
	meter                                metric.Meter
	endToEnd, process, batchTime, batchN metric.Float64Histogram
	records, errors, consumed            metric.Int64Counter
}

func newInstruments(meter metric.Meter) (instruments, error) {
	if meter == nil {
		meter = metricnoop.NewMeterProvider().Meter("")
	}
	in := instruments{meter: meter}
	var errs [7]error
	in.endToEnd, errs[0] = telemetry.IngestEndToEnd.Histogram(meter)
	in.process, errs[1] = telemetry.MessageProcessDuration.Histogram(meter)
	in.batchTime, errs[2] = telemetry.BatchDuration.Histogram(meter)
	in.batchN, errs[3] = telemetry.BatchSize.Histogram(meter)
	in.records, errs[4] = telemetry.IngestRecords.Counter(meter)
	in.errors, errs[5] = telemetry.Errors.Counter(meter)
	in.consumed, errs[6] = telemetry.MessagesConsumed.Counter(meter)
	return in, errors.Join(errs[:]...)
}

func (in instruments) observeInFlight(routes []*route) error {
	return telemetry.IngestInFlight.Gauge(in.meter, func(_ context.Context, o metric.Int64Observer) error {
		for _, r := range routes {
			o.Observe(r.observed.inFlight.n.Load(), r.observed.dataset)
		}
		return nil
	})
}

// observer records what happens on one route. Its attribute sets are made once, because making
// them for each message costs more than the recording.
type observer struct {
	instruments
	tracer                     trace.Tracer
	inFlight                   *arrivals
	dataset                    metric.MeasurementOption
	subscription, processError metric.MeasurementOption
	recordOK                   metric.MeasurementOption
	batchOK, batchError        metric.MeasurementOption
	datasetName                string
}

func (in instruments) forDataset(ds *dataset.Dataset, tracer trace.Tracer) observer {
	if tracer == nil {
		tracer = tracenoop.NewTracerProvider().Tracer("")
	}
	set := func(kv ...attribute.KeyValue) metric.MeasurementOption {
		return metric.WithAttributeSet(attribute.NewSet(kv...))
	}
	system := attribute.String("messaging.system", "gcp_pubsub")
	sub := attribute.String("messaging.destination.subscription.name", ds.Subscription())
	name := attribute.String("dataset", ds.Name)
	batch := attribute.String("batch.name", ds.Name)
	return observer{
		instruments: in, datasetName: ds.Name, inFlight: &arrivals{},
		tracer:       tracer,
		dataset:      set(name),
		subscription: set(system, sub),
		processError: set(system, sub, attribute.String("error.type", "redelivered")),
		recordOK:     set(name, attribute.String("outcome", outcomeOK), attribute.String("stage", stageCommit)),
		batchOK:      set(batch, attribute.String("outcome", outcomeOK)),
		batchError:   set(batch, attribute.String("outcome", outcomeError)),
	}
}

// start counts a received message and opens its span.
func (o observer) start(ctx context.Context, ds *dataset.Dataset) (context.Context, trace.Span) {
	o.inFlight.enter()
	o.consumed.Add(ctx, 1, o.subscription)
	return o.tracer.Start(ctx, "process "+ds.Subscription(), trace.WithSpanKind(trace.SpanKindConsumer))
}

// settled ends what start began.
func (o observer) settled(ctx context.Context, took time.Duration, ack bool) {
	o.inFlight.leave()
	attrs := o.subscription
	if !ack {
		attrs = o.processError
	}
	o.process.Record(ctx, took.Seconds(), attrs)
}

// stored records a durable write and its age since publication; a clock that runs behind counts as zero.
func (o observer) stored(ctx context.Context, sincePublish time.Duration) {
	o.endToEnd.Record(ctx, max(0, sincePublish).Seconds(), o.dataset)
	o.records.Add(ctx, 1, o.recordOK)
}

func (o observer) record(ctx context.Context, outcome, stage string) {
	o.records.Add(ctx, 1, metric.WithAttributes(
		attribute.String("dataset", o.datasetName), attribute.String("outcome", outcome), attribute.String("stage", stage)))
}

func (o observer) platformError(stage string) {
	o.errors.Add(context.Background(), 1, metric.WithAttributes(attribute.String("stage", stage)))
}

func (o observer) committed(ctx context.Context, rows int, took time.Duration, failed error) {
	attrs := o.batchOK
	if failed != nil {
		attrs = o.batchError
	}
	o.batchTime.Record(ctx, took.Seconds(), attrs)
	o.batchN.Record(ctx, float64(rows), attrs)
}

// maxSpanLinks keeps the span of a large batch small.
const maxSpanLinks = 32

// startCommit opens the span of a commit, linked to the messages whose traces are sampled.
func (o observer) startCommit(ctx context.Context, ds *dataset.Dataset, winners []*winner) (context.Context, func(error)) {
	var links []trace.Link
	for _, w := range winners {
		if w.item.span.IsSampled() && len(links) < maxSpanLinks {
			links = append(links, trace.Link{SpanContext: w.item.span})
		}
	}
	if len(links) > 0 {
		// The first message's trace carries the commit, so that one trace shows publish to commit.
		ctx = trace.ContextWithRemoteSpanContext(ctx, links[0].SpanContext)
	}
	ctx, span := o.tracer.Start(ctx, "commit "+ds.Table(), trace.WithLinks(links...))
	return ctx, func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, "not stored")
		}
		span.End()
	}
}

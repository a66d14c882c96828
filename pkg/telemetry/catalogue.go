package telemetry

import (
	"fmt"

	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
)

// Kind is the instrument kind of a metric.
type Kind string

// The kinds in use.
const (
	KindHistogram Kind = "histogram"
	KindCounter   Kind = "counter"
	KindGauge     Kind = "gauge"
)

// Metric is one metric that latamctl emits. Instruments are only made through this type, so the
// catalogue is complete and monitors can be checked against it.
type Metric struct {
	Name        string
	Kind        Kind
	Unit        string
	Description string
	// Attributes are all the attribute keys that the metric carries.
	Attributes []string
	// Bounds are a histogram's bucket bounds in Unit. Every service level's threshold is one of them,
	// because a percentile from buckets is exact only on a bound.
	Bounds []float64
}

// Histogram makes the instrument.
func (m Metric) Histogram(meter metric.Meter) (metric.Float64Histogram, error) {
	h, err := meter.Float64Histogram(m.Name, metric.WithUnit(m.Unit), metric.WithDescription(m.Description))
	if err != nil {
		return nil, fmt.Errorf("metric %s: %w", m.Name, err)
	}
	return h, nil
}

// Counter makes the instrument.
func (m Metric) Counter(meter metric.Meter) (metric.Int64Counter, error) {
	c, err := meter.Int64Counter(m.Name, metric.WithUnit(m.Unit), metric.WithDescription(m.Description))
	if err != nil {
		return nil, fmt.Errorf("metric %s: %w", m.Name, err)
	}
	return c, nil
}

// Gauge makes an instrument that is asked for its value at each collection.
func (m Metric) Gauge(meter metric.Meter, observe metric.Int64Callback) error {
	_, err := meter.Int64ObservableGauge(m.Name, metric.WithUnit(m.Unit), metric.WithDescription(m.Description), metric.WithInt64Callback(observe))
	if err != nil {
		return fmt.Errorf("metric %s: %w", m.Name, err)
	}
	return nil
}

// FloatGauge is Gauge for values that are not whole, such as seconds.
func (m Metric) FloatGauge(meter metric.Meter, observe metric.Float64Callback) error {
	_, err := meter.Float64ObservableGauge(m.Name, metric.WithUnit(m.Unit), metric.WithDescription(m.Description), metric.WithFloat64Callback(observe))
	if err != nil {
		return fmt.Errorf("metric %s: %w", m.Name, err)
	}
	return nil
}

// ObservedCounter makes an instrument that is asked for its total at each collection. Where something
// happens tens of thousands of times a second, adding to a number of one's own costs a tenth of Add.
func (m Metric) ObservedCounter(meter metric.Meter, observe metric.Int64Callback) error {
	_, err := meter.Int64ObservableCounter(m.Name, metric.WithUnit(m.Unit), metric.WithDescription(m.Description), metric.WithInt64Callback(observe))
	if err != nil {
		return fmt.Errorf("metric %s: %w", m.Name, err)
	}
	return nil
}

// The metrics. Names follow OpenTelemetry's semantic conventions where one exists.
var (
	HTTPServerDuration = Metric{
		Name: "http.server.request.duration", Kind: KindHistogram, Unit: "s",
		Description: "Time from the first byte of a request to the end of its response.",
		Attributes:  []string{"http.route", "http.request.method", "http.response.status_code", "error.type", "dataset", "latam.answer"},
		Bounds:      []float64{.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10},
	}
	MessageProcessDuration = Metric{
		Name: "messaging.process.duration", Kind: KindHistogram, Unit: "s",
		Description: "Time from receiving a message to its acknowledgement or refusal.",
		Attributes:  []string{"messaging.system", "messaging.destination.subscription.name", "error.type"},
		Bounds:      []float64{.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10},
	}
	MessagesConsumed = Metric{
		Name: "messaging.client.consumed.messages", Kind: KindCounter, Unit: "{message}",
		Description: "Messages received, redeliveries included.",
		Attributes:  []string{"messaging.system", "messaging.destination.subscription.name"},
	}
	DBOperationDuration = Metric{
		Name: "db.client.operation.duration", Kind: KindHistogram, Unit: "s",
		Description: "Time of one call to Bigtable with the client's own retries.",
		Attributes:  []string{"db.system.name", "db.collection.name", "db.operation.name", "error.type"},
		Bounds:      []float64{.001, .005, .01, .025, .05, .075, .1, .25, .5, 1, 5, 10},
	}
	IngestEndToEnd = Metric{
		Name: "latam.ingest.end_to_end.duration", Kind: KindHistogram, Unit: "s",
		Description: "Time from the publish time of a message to its durable write.",
		Attributes:  []string{"dataset"},
		Bounds:      []float64{.001, .002, .005, .01, .02, .03, .05, .075, .1, .15, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
	}
	IngestPull = Metric{
		Name: "latam.ingest.pull.duration", Kind: KindHistogram, Unit: "s",
		Description: "Time from the publish time of a message to its receipt, of one message in 16.",
		Attributes:  []string{"dataset"},
		Bounds:      []float64{.001, .002, .005, .01, .02, .03, .05, .075, .1, .15, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
	}
	IngestDecode = Metric{
		Name: "latam.ingest.decode.duration", Kind: KindHistogram, Unit: "s",
		Description: "Time of reading and checking one record, of one message in 16.",
		Attributes:  []string{"dataset"},
		Bounds:      []float64{.000002, .000005, .00001, .000025, .00005, .0001, .00025, .001, .005, .01, .05, .1},
	}
	IngestQueue = Metric{
		Name: "latam.ingest.queue.duration", Kind: KindHistogram, Unit: "s",
		Description: "Time from the end of decoding to the beginning of the commit, of the record of each batch that waited longest.",
		Attributes:  []string{"dataset"},
		Bounds:      []float64{.0001, .0005, .001, .002, .005, .01, .02, .03, .05, .075, .1, .25, .5, 1, 5},
	}
	IngestAck = Metric{
		Name: "latam.ingest.ack.duration", Kind: KindHistogram, Unit: "s",
		Description: "Time from the end of the commit until the acknowledgement is handed to the client, of one record of each batch.",
		Attributes:  []string{"dataset"},
		Bounds:      []float64{.0001, .0005, .001, .002, .005, .01, .02, .03, .05, .075, .1, .25, .5, 1, 5},
	}
	IngestRecords = Metric{
		Name: "latam.ingest.records", Kind: KindCounter, Unit: "{record}",
		Description: "Records by what became of them: ok (stored), rejected (dead-lettered), error (to be redelivered).",
		Attributes:  []string{"dataset", "outcome", "stage"},
	}
	IngestRedelivered = Metric{
		Name: "latam.ingest.redelivered", Kind: KindCounter, Unit: "{message}",
		Description: "Messages received that Pub/Sub had delivered before. It counts deliveries only where the subscription has a dead-letter policy.",
		Attributes:  []string{"dataset"},
	}
	IngestGivenBack = Metric{
		Name: "latam.ingest.given_back", Kind: KindCounter, Unit: "{message}",
		Description: "Messages given back to Pub/Sub, to be delivered again.",
		Attributes:  []string{"dataset"},
	}
	IngestPayload = Metric{
		Name: "latam.ingest.payload", Kind: KindCounter, Unit: "By",
		Description: "Bytes of payload received, redeliveries included.",
		Attributes:  []string{"dataset"},
	}
	IngestMerged = Metric{
		Name: "latam.ingest.merged", Kind: KindCounter, Unit: "{record}",
		Description: "Records stored without a write of their own, because a newer one of their key was written: updates that came together, and duplicates.",
		Attributes:  []string{"dataset"},
	}
	IngestRetried = Metric{
		Name: "latam.ingest.retried", Kind: KindCounter, Unit: "{row}",
		Description: "Rows that could not be stored and are tried again in process, each try counted.",
		Attributes:  []string{"dataset"},
	}
	IngestClockSkew = Metric{
		Name: "latam.ingest.clock_skew", Kind: KindCounter, Unit: "{message}",
		Description: "Messages whose publish time was still to come when they were received. Their age counts as zero.",
		Attributes:  []string{"dataset"},
	}
	Errors = Metric{
		Name: "latam.errors", Kind: KindCounter, Unit: "{error}",
		Description: "Errors of the platform itself, not of its input: of ingest by its stage, and the answers 5xx of serve as stage http.",
		Attributes:  []string{"stage"},
	}
	BatchDuration = Metric{
		Name: "latam.batch.duration", Kind: KindHistogram, Unit: "s",
		Description: "Time of one batch commit.",
		Attributes:  []string{"batch.name", "outcome"},
		Bounds:      []float64{.001, .002, .005, .01, .025, .05, .075, .1, .25, .5, 1, 2.5, 5, 10},
	}
	BatchSize = Metric{
		Name: "latam.batch.size", Kind: KindHistogram, Unit: "{row}",
		Description: "Rows of one batch commit.",
		Attributes:  []string{"batch.name", "outcome"},
		Bounds:      []float64{1, 2, 5, 10, 25, 50, 100, 250, 500},
	}
	IngestInFlight = Metric{
		Name: "latam.ingest.in_flight", Kind: KindGauge, Unit: "{message}",
		Description: "Messages received and not yet settled.",
		Attributes:  []string{"dataset"},
	}
	IngestSaturation = Metric{
		Name: "latam.ingest.saturation", Kind: KindGauge, Unit: "1",
		Description: "Messages in flight as a share of the most that may be, 0 to 1.",
		Attributes:  []string{"dataset"},
	}
	IngestLag = Metric{
		Name: "latam.ingest.lag", Kind: KindGauge, Unit: "s",
		Description: "Age, by publish time, of the oldest message held that was not delivered before; 0 when there is none, and while the dataset is paused.",
		Attributes:  []string{"dataset"},
	}
	IngestOldestHeld = Metric{
		Name: "latam.ingest.oldest_held", Kind: KindGauge, Unit: "s",
		Description: "How long the message that was received first has been held unsettled; 0 when there is none, and while the dataset is paused.",
		Attributes:  []string{"dataset"},
	}
	IngestPaused = Metric{
		Name: "latam.ingest.paused", Kind: KindGauge, Unit: "{dataset}",
		Description: "Whether a dataset is paused, 0 or 1, by the reason: receive (the subscription cannot be read), store (the table is missing or refused), schema (that of the payloads cannot be used), rejects (most records break the declaration).",
		Attributes:  []string{"dataset", "reason"},
	}
	IngestLimitBatches = Metric{
		Name: "latam.ingest.limit.batches", Kind: KindGauge, Unit: "{batch}",
		Description: "How many batches may be committed at a time now.",
		Attributes:  []string{"dataset"},
	}
	IngestLimitRows = Metric{
		Name: "latam.ingest.limit.rows", Kind: KindGauge, Unit: "{row}",
		Description: "How many rows a batch may have now.",
		Attributes:  []string{"dataset"},
	}
	CallersRefused = Metric{
		Name: "latam.access.refused", Kind: KindCounter, Unit: "{request}",
		Description: "Requests refused for their caller: credentials missing or not good, not for this dataset, or the quota used up.",
		Attributes:  []string{"dataset", "reason"},
	}
	CanaryReadable = Metric{
		Name: "latam.canary.readable.duration", Kind: KindHistogram, Unit: "s",
		Description: "Time from publishing a canary of verify --watch until the API answers with its row, seen from where verify runs.",
		Attributes:  []string{"dataset"},
		Bounds:      []float64{.005, .01, .02, .03, .05, .075, .1, .15, .25, .5, 1, 2.5, 5, 10, 15, 30, 60},
	}
	VerifyChecks = Metric{
		Name: "latam.verify.checks", Kind: KindCounter, Unit: "{check}",
		Description: "Checks of verify --watch by their outcome: pass, fail, skip.",
		Attributes:  []string{"hop", "check", "dataset", "outcome"},
	}
	VerifyDuration = Metric{
		Name: "latam.verify.duration", Kind: KindHistogram, Unit: "s",
		Description: "Time of one check of verify --watch.",
		Attributes:  []string{"hop", "check", "dataset"},
		Bounds:      []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
	}
)

// Catalogue lists every metric that latamctl emits.
func Catalogue() []Metric {
	return []Metric{
		HTTPServerDuration, MessageProcessDuration, MessagesConsumed, DBOperationDuration,
		IngestEndToEnd, IngestPull, IngestDecode, IngestQueue, BatchDuration, BatchSize, IngestAck,
		IngestRecords, IngestRedelivered, IngestGivenBack, IngestPayload, IngestMerged, IngestRetried, IngestClockSkew, Errors,
		IngestInFlight, IngestSaturation, IngestLag, IngestOldestHeld, IngestPaused, IngestLimitBatches, IngestLimitRows,
		CallersRefused, CanaryReadable, VerifyChecks, VerifyDuration,
	}
}

// views give each histogram its bounds.
func views() []sdkmetric.View {
	var vs []sdkmetric.View
	for _, m := range Catalogue() {
		if m.Kind != KindHistogram {
			continue
		}
		vs = append(vs, sdkmetric.NewView(
			sdkmetric.Instrument{Name: m.Name},
			sdkmetric.Stream{Aggregation: sdkmetric.AggregationExplicitBucketHistogram{Boundaries: m.Bounds}},
		))
	}
	return vs
}

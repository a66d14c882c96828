package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/latamctl/latamctl/pkg/telemetry"
)

// instruments record the client's calls under OpenTelemetry's database conventions.
type instruments struct {
	duration metric.Float64Histogram
	sets     *sync.Map // setKey → metric.MeasurementOption
}

// setKey is bounded: tables are those of the declaration, errors are of few types.
type setKey struct{ table, operation, failure string }

func newInstruments(meter metric.Meter) (instruments, error) {
	if meter == nil {
		meter = noop.NewMeterProvider().Meter("")
	}
	duration, err := telemetry.DBOperationDuration.Histogram(meter)
	if err != nil {
		return instruments{}, fmt.Errorf("create store metrics: %w", err)
	}
	return instruments{duration: duration, sets: &sync.Map{}}, nil
}

// time records one call; it is deferred with the call's start and a pointer to its error.
func (in instruments) time(ctx context.Context, table, operation string, start time.Time, err *error) {
	key := setKey{table: table, operation: operation}
	if *err != nil && !errors.Is(*err, ErrNotFound) {
		key.failure = errorType(*err)
	}
	in.duration.Record(ctx, time.Since(start).Seconds(), in.attributes(key))
}

// attributes keeps one attribute set per key, because building it costs more than the rest of the record.
func (in instruments) attributes(key setKey) metric.MeasurementOption {
	if option, ok := in.sets.Load(key); ok {
		return option.(metric.MeasurementOption)
	}
	attrs := []attribute.KeyValue{
		attribute.String("db.system.name", "gcp.bigtable"),
		attribute.String("db.collection.name", key.table),
		attribute.String("db.operation.name", key.operation),
	}
	if key.failure != "" {
		attrs = append(attrs, attribute.String("error.type", key.failure))
	}
	option, _ := in.sets.LoadOrStore(key, metric.WithAttributeSet(attribute.NewSet(attrs...)))
	return option.(metric.MeasurementOption)
}

// errorType keeps the attribute's cardinality low.
func errorType(err error) string {
	switch {
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded):
		return "deadline_exceeded"
	case errors.Is(err, ErrPoison):
		return "refused"
	case errors.Is(err, ErrMisconfigured):
		return "misconfigured"
	default:
		return "unavailable"
	}
}

package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/latamctl/latamctl/pkg/telemetry"
)

// instruments record the client's calls under OpenTelemetry's database conventions.
type instruments struct {
	duration metric.Float64Histogram
}

func newInstruments(meter metric.Meter) (instruments, error) {
	if meter == nil {
		meter = noop.NewMeterProvider().Meter("")
	}
	duration, err := telemetry.DBOperationDuration.Histogram(meter)
	if err != nil {
		return instruments{}, fmt.Errorf("create store metrics: %w", err)
	}
	return instruments{duration: duration}, nil
}

// time records one call; it is deferred with the call's start and a pointer to its error.
func (in instruments) time(ctx context.Context, table, operation string, start time.Time, err *error) {
	attrs := []attribute.KeyValue{
		attribute.String("db.system.name", "gcp.bigtable"),
		attribute.String("db.collection.name", table),
		attribute.String("db.operation.name", operation),
	}
	if *err != nil && !errors.Is(*err, ErrNotFound) {
		attrs = append(attrs, attribute.String("error.type", errorType(*err)))
	}
	in.duration.Record(ctx, time.Since(start).Seconds(), metric.WithAttributes(attrs...))
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

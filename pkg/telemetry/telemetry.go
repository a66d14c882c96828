// Package telemetry sets up logs, metrics and traces: slog with redaction, the catalogue of
// metrics, a Prometheus endpoint, and OTLP export when an endpoint is configured.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Options say who emits and whether telemetry leaves the process.
type Options struct {
	// Service, Version and Environment become service.name, service.version and deployment.environment.name.
	Service, Version, Environment string
	// OTLP turns the OTLP exporters on; they read the standard OTEL_EXPORTER_OTLP_* variables.
	OTLP bool
	// Interval between OTLP metric exports. Default 10s.
	Interval time.Duration
}

// Telemetry holds the providers of one process.
type Telemetry struct {
	// Meter makes instruments; use the catalogue's methods with it.
	Meter metric.Meter
	// Tracer makes spans. Without OTLP they are not recorded, yet their context still travels.
	Tracer trace.Tracer
	// Prometheus serves the metrics in the Prometheus and OpenMetrics text formats.
	Prometheus http.Handler

	// Exporting says whether spans leave the process. Where they are made by the thousand a second,
	// a nil tracer is the better one when they do not.
	Exporting bool

	metrics *sdkmetric.MeterProvider
	traces  *sdktrace.TracerProvider
}

// Start sets up the providers. No global provider is touched.
func Start(ctx context.Context, opts Options) (*Telemetry, error) {
	if opts.Interval == 0 {
		opts.Interval = 10 * time.Second
	}
	res := resource.NewSchemaless(
		attribute.String("service.name", opts.Service),
		attribute.String("service.version", opts.Version),
		attribute.String("deployment.environment.name", opts.Environment),
	)
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	reader, err := otelprom.New(otelprom.WithRegisterer(registry))
	if err != nil {
		return nil, fmt.Errorf("start prometheus metrics: %w", err)
	}
	metricOpts := []sdkmetric.Option{sdkmetric.WithResource(res), sdkmetric.WithReader(reader), sdkmetric.WithView(views()...)}
	traceOpts := []sdktrace.TracerProviderOption{sdktrace.WithResource(res), sdktrace.WithSampler(sdktrace.NeverSample())}
	if opts.OTLP {
		exported, spans, err := exporters(ctx, opts.Interval)
		if err != nil {
			return nil, err
		}
		metricOpts = append(metricOpts, exported)
		traceOpts = append(traceOpts, spans...)
	}
	t := &Telemetry{
		Exporting:  opts.OTLP,
		metrics:    sdkmetric.NewMeterProvider(metricOpts...),
		traces:     sdktrace.NewTracerProvider(traceOpts...),
		Prometheus: promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true}),
	}
	const scope = "github.com/latamctl/latamctl"
	t.Meter, t.Tracer = t.metrics.Meter(scope), t.traces.Tracer(scope)
	return t, nil
}

// exporters send delta temporality, because Datadog drops the first point of a cumulative sum.
func exporters(ctx context.Context, interval time.Duration) (sdkmetric.Option, []sdktrace.TracerProviderOption, error) {
	metrics, err := otlpmetrichttp.New(ctx, otlpmetrichttp.WithTemporalitySelector(sdkmetric.DeltaTemporalitySelector))
	if err != nil {
		return nil, nil, fmt.Errorf("start OTLP metrics: %w", err)
	}
	spans, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("start OTLP traces: %w", err)
	}
	reader := sdkmetric.NewPeriodicReader(metrics, sdkmetric.WithInterval(interval))
	sampler := sdktrace.ParentBased(sdktrace.TraceIDRatioBased(0.01))
	return sdkmetric.WithReader(reader), []sdktrace.TracerProviderOption{sdktrace.WithBatcher(spans), sdktrace.WithSampler(sampler)}, nil
}

// Shutdown sends what is pending and ends the providers.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	return errors.Join(t.metrics.Shutdown(ctx), t.traces.Shutdown(ctx))
}

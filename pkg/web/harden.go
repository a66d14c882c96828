package web

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/latamctl/latamctl/pkg/telemetry"
)

// exchange is what is known of one request and its response; it is also the ResponseWriter that
// learns the status.
type exchange struct {
	http.ResponseWriter
	id     string
	route  string
	code   Code
	caller string
	// dataset and answer are what SetDataset and SetAnswer said.
	dataset string
	answer  Answer
	status  int
	bytes   int64
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// RequestID is the id of the request of this context, "" outside of a request.
func RequestID(ctx context.Context) string {
	if x := exchangeOf(ctx); x != nil {
		return x.id
	}
	return ""
}

// SetCaller names who made the request in the access log.
func SetCaller(ctx context.Context, caller string) {
	if x := exchangeOf(ctx); x != nil {
		x.caller = Quote(caller)
	}
}

// Answer is how an answer comes about. A promise about response times can only be kept for direct ones.
type Answer string

// The kinds of answers.
const (
	// Direct answers are computed here, and sent as a whole.
	Direct Answer = "direct"
	// Stream answers take as long as their reader wants them to: live rows and exports.
	Stream Answer = "stream"
	// FromWarehouse answers wait for BigQuery.
	FromWarehouse Answer = "warehouse"
)

// SetDataset names the dataset of the request in the duration metric, and counts its answer as a
// direct one until SetAnswer says otherwise. Callers name declared datasets only: each name is a series.
func SetDataset(ctx context.Context, name string) {
	if x := exchangeOf(ctx); x != nil {
		x.dataset, x.answer = name, Direct
	}
}

// SetAnswer says how the answer of the request comes about in the duration metric.
func SetAnswer(ctx context.Context, answer Answer) {
	if x := exchangeOf(ctx); x != nil {
		x.answer = answer
	}
}

func (x *exchange) WriteHeader(status int) {
	if x.status == 0 && status >= 200 {
		x.status = status
	}
	x.ResponseWriter.WriteHeader(status)
}

func (x *exchange) Write(b []byte) (int, error) {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	n, err := x.ResponseWriter.Write(b)
	x.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// hardened wraps a handler with all that every request gets.
type hardened struct {
	opts     Options
	deps     Deps
	duration metric.Float64Histogram
	errors   metric.Int64Counter
	sets     sync.Map // setKey → metric.MeasurementOption
}

// setKey is bounded: routes are patterns, methods are the known ones, codes are from the table,
// datasets are the declared ones.
type setKey struct {
	route, method string
	status        int
	failure       string
	dataset       string
	answer        Answer
}

// Harden wraps deps.Handler with request ids, access log at debug, trace context and server span,
// the duration metric, panic recovery and the limits of the options. Listen does it for a Server.
func Harden(opts Options, deps Deps) (http.Handler, error) {
	opts, deps = opts.Defaults(), deps.defaults()
	duration, err := telemetry.HTTPServerDuration.Histogram(deps.Meter)
	failed, errCounter := telemetry.Errors.Counter(deps.Meter)
	if err := errors.Join(err, errCounter); err != nil {
		return nil, fmt.Errorf("create web metrics: %w", err)
	}
	return &hardened{opts: opts, deps: deps, duration: duration, errors: failed}, nil
}

func (h *hardened) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := h.deps.Now()
	x := &exchange{ResponseWriter: w, id: requestID(r.Header)}
	header := w.Header()
	header.Set("X-Request-Id", x.id)
	header.Set("X-Content-Type-Options", "nosniff")
	ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	method := knownMethod(r.Method)
	ctx, span := h.deps.Tracer.Start(ctx, method, trace.WithSpanKind(trace.SpanKindServer))
	r = r.WithContext(context.WithValue(ctx, exchangeKey{}, x))
	defer h.observe(r, x, span, method, start)
	defer h.recover(x, r)
	if p := h.refusal(r); p != nil {
		// What follows on the connection is of unknown size, so it is not read.
		header.Set("Connection", "close")
		WriteProblem(x, r, p)
		return
	}
	if len(r.TransferEncoding) > 0 {
		// A request with a length besides its chunks means different things to different servers, and
		// net/http does not tell it from an honest one. Nothing that follows may ride on it.
		header.Set("Connection", "close")
	}
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = http.MaxBytesReader(w, r.Body, h.opts.MaxBodyBytes)
	}
	h.deps.Handler.ServeHTTP(x, r)
}

// refusal checks the limits that need no handler.
func (h *hardened) refusal(r *http.Request) *Problem {
	if n := len(r.RequestURI); n > h.opts.MaxURLBytes {
		return NewProblem(URITooLong, fmt.Sprintf("The URL has %d bytes, the limit is %d.", n, h.opts.MaxURLBytes), "Use fewer or shorter filters.")
	}
	lines := 0
	for _, values := range r.Header {
		lines += len(values)
	}
	if lines > h.opts.MaxHeaders {
		return NewProblem(HeadersTooLarge, fmt.Sprintf("The request has %d header lines, the limit is %d.", lines, h.opts.MaxHeaders), "")
	}
	if r.ContentLength > h.opts.MaxBodyBytes {
		return TooLarge(h.opts.MaxBodyBytes)
	}
	if p := h.opts.foreign(r); p != nil {
		return p
	}
	switch r.Method {
	case "PRI":
		// net/http hands the preface of HTTP/2 without TLS to the handler.
		return NewProblem(BadRequest, "HTTP/2 without TLS is not offered.", "Use HTTP/1.1.")
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		if r.ContentLength != 0 {
			return NewProblem(BadRequest, r.Method+" takes no body.", "Send the request without Content-Length and Transfer-Encoding.")
		}
	}
	return nil
}

// recover turns a panic into a 500 without details; the details are in the log.
func (h *hardened) recover(x *exchange, r *http.Request) {
	cause := recover()
	if cause == nil {
		return
	}
	if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		if r.Context().Err() == nil {
			x.code = Internal // the client sees a broken answer, so it counts as one
		}
		panic(cause)
	}
	h.deps.Log.LogAttrs(r.Context(), slog.LevelError, "request panicked",
		slog.String("request_id", x.id), slog.String("route", x.route),
		slog.String("panic", Quote(fmt.Sprint(cause))), slog.String("stack", string(debug.Stack())))
	if x.status != 0 {
		x.code = Internal
		panic(http.ErrAbortHandler)
	}
	for name := range x.Header() {
		if name != "X-Request-Id" {
			x.Header().Del(name)
		}
	}
	WriteProblem(x, r, NewProblem(Internal, "The request could not be handled.", "Report it with the request id."))
}

// observe records the request when its handler is done.
func (h *hardened) observe(r *http.Request, x *exchange, span trace.Span, method string, start time.Time) {
	status := x.status
	if status == 0 {
		status = http.StatusOK
	}
	failure := ""
	if status >= 500 || x.code == Internal {
		failure = string(x.code)
		if failure == "" {
			failure = strconv.Itoa(status)
		}
	}
	elapsed := h.deps.Now().Sub(start)
	h.duration.Record(r.Context(), elapsed.Seconds(), h.attributes(setKey{x.route, method, status, failure, x.dataset, x.answer}))
	if failure != "" {
		h.errors.Add(r.Context(), 1, metric.WithAttributes(attribute.String("stage", "http")))
	}
	if span.IsRecording() {
		if x.route != "" {
			span.SetName(method + " " + x.route)
		}
		span.SetAttributes(spanAttributes(r, x, method, status)...)
		if failure != "" {
			span.SetStatus(otelcodes.Error, failure)
		}
	}
	span.End()
	if h.deps.Log.Enabled(r.Context(), slog.LevelDebug) {
		h.deps.Log.LogAttrs(r.Context(), slog.LevelDebug, "request",
			slog.String("request_id", x.id), slog.String("method", method), slog.String("route", x.route),
			slog.String("path", Quote(r.URL.Path)), slog.Int("status", status), slog.String("code", string(x.code)), slog.String("caller", x.caller),
			slog.Int64("bytes", x.bytes), slog.Duration("duration", elapsed))
	}
}

func spanAttributes(r *http.Request, x *exchange, method string, status int) []attribute.KeyValue {
	attrs := []attribute.KeyValue{
		attribute.String("http.request.method", method),
		attribute.Int("http.response.status_code", status),
		attribute.String("url.path", Quote(r.URL.Path)),
		attribute.String("url.scheme", "http"),
	}
	if x.route != "" {
		attrs = append(attrs, attribute.String("http.route", x.route))
	}
	if x.code != "" {
		attrs = append(attrs, attribute.String("error.type", string(x.code)))
	}
	return attrs
}

// attributes keeps one attribute set per key, because building it costs more than the rest of the record.
func (h *hardened) attributes(k setKey) metric.MeasurementOption {
	if option, ok := h.sets.Load(k); ok {
		return option.(metric.MeasurementOption)
	}
	attrs := []attribute.KeyValue{
		attribute.String("http.request.method", k.method),
		attribute.Int("http.response.status_code", k.status),
	}
	if k.route != "" {
		attrs = append(attrs, attribute.String("http.route", k.route))
	}
	if k.failure != "" {
		attrs = append(attrs, attribute.String("error.type", k.failure))
	}
	if k.dataset != "" {
		attrs = append(attrs, attribute.String("dataset", k.dataset), attribute.String("latam.answer", string(k.answer)))
	}
	option, _ := h.sets.LoadOrStore(k, metric.WithAttributeSet(attribute.NewSet(attrs...)))
	return option.(metric.MeasurementOption)
}

// knownMethod keeps the method attribute's cardinality low.
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodOptions, http.MethodTrace, http.MethodConnect:
		return method
	}
	return "_OTHER"
}

const maxRequestIDBytes = 64

// requestID takes over the caller's id when it is safe to log and to return.
func requestID(h http.Header) string {
	id := h.Get("X-Request-Id")
	if id == "" || len(id) > maxRequestIDBytes {
		return rand.Text()
	}
	for i := range len(id) {
		c := id[i]
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '_' || c == '.' {
			continue
		}
		return rand.Text()
	}
	return id
}

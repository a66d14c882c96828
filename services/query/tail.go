package query

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/web"
)

// Follower delivers all messages of a topic from a point in time on, without taking them from
// others; pkg/bus's Client is one. It returns nil when ctx has ended.
type Follower interface {
	Follow(ctx context.Context, topic string, opts bus.FollowOptions, handle func(context.Context, bus.Message) bool) error
}

// Payloads turns the payload of a message into the JSON object of its record; pkg/payload's Decoder is
// one. A payload that cannot be read is a *dataset.RejectError; after another error it is tried again.
type Payloads interface {
	JSON(ctx context.Context, data []byte, attributes map[string]string) ([]byte, error)
}

// TailOptions bound the live streams of rows. The zero value of a field means its default.
type TailOptions struct {
	// MaxTails is how many streams of one dataset run at once. Default 16.
	MaxTails int
	// MaxTailTime is how long one stream lasts; its client then connects again. Default 1h.
	MaxTailTime time.Duration
	// StartTimeout bounds the opening of a stream. Default 10s.
	StartTimeout time.Duration
	// Heartbeat is the time between two signs of life. Default 10s.
	Heartbeat time.Duration
	// WriteTimeout is how long a client may take nothing before it is cut. Default 15s.
	WriteTimeout time.Duration
	// BatchDelay is how long the first record of a batch waits for others. Default 10ms.
	BatchDelay time.Duration
	// BatchRows is how many rows are read at a time. Default 100.
	BatchRows int
	// StoreWait is how long a record may take from its publication to its row. Default 30s.
	StoreWait time.Duration
	// MaxPending and MaxPendingBytes are how many records of one stream wait for their row or for
	// the client. Default 1,000 and 1 MiB.
	MaxPending, MaxPendingBytes int
}

// Defaults fills in what is not set.
func (o TailOptions) Defaults() TailOptions {
	for d, value := range map[*time.Duration]time.Duration{
		&o.MaxTailTime: time.Hour, &o.StartTimeout: 10 * time.Second, &o.Heartbeat: 10 * time.Second,
		&o.WriteTimeout: 15 * time.Second, &o.BatchDelay: 10 * time.Millisecond, &o.StoreWait: 30 * time.Second,
	} {
		if *d == 0 {
			*d = value
		}
	}
	for n, value := range map[*int]int{&o.MaxTails: 16, &o.BatchRows: 100, &o.MaxPending: 1000, &o.MaxPendingBytes: 1 << 20} {
		if *n == 0 {
			*n = value
		}
	}
	return o
}

// Validate says what is out of range.
func (o TailOptions) Validate() error {
	var errs []error
	for _, d := range []struct {
		name       string
		value, max time.Duration
	}{
		{"max tail time", o.MaxTailTime, 24 * time.Hour},
		{"tail start timeout", o.StartTimeout, time.Minute},
		{"tail heartbeat", o.Heartbeat, time.Minute},
		{"tail write timeout", o.WriteTimeout, 10 * time.Minute},
		{"tail batch delay", o.BatchDelay, time.Second},
		{"tail store wait", o.StoreWait, 10 * time.Minute},
	} {
		if d.value < time.Millisecond || d.value > d.max {
			errs = append(errs, fmt.Errorf("%s %s is not in 1ms..%s", d.name, d.value, d.max))
		}
	}
	for _, n := range []struct {
		name       string
		value, max int
	}{
		{"max tails", o.MaxTails, 10_000},
		{"tail batch rows", o.BatchRows, 1000},
		{"max pending records of a tail", o.MaxPending, 100_000},
		{"max pending bytes of a tail", o.MaxPendingBytes, 1 << 30},
	} {
		if n.value < 1 || n.value > n.max {
			errs = append(errs, fmt.Errorf("%s %d is not in 1..%d", n.name, n.value, n.max))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("query: %w", err)
	}
	return nil
}

const (
	lastEventIDHeader = "Last-Event-Id"
	eventStream       = "text/event-stream"
	// resumeMargin is how much earlier than its position a stream goes on, because messages do not
	// come in the exact order of their publish times.
	resumeMargin = time.Second
)

// tail answers GET /v1/datasets/{dataset}/tail with the rows as they become readable.
func (s *Service) tail(ep *endpoint, w http.ResponseWriter, r *http.Request) *web.Problem {
	q, p := s.parseTail(ep, r.URL.RawQuery)
	if p != nil {
		return p
	}
	from, p := s.lastEvent(ep, r.Header)
	if p != nil {
		return p
	}
	if s.deps.Follower == nil {
		return web.NewProblem(web.Unavailable, "This service has no message bus to follow, so it has no live rows.", "Ask a list for them instead.")
	}
	if r.Method == http.MethodHead {
		tailHeaders(w.Header())
		return nil
	}
	if ep.tails.Add(1) > int64(s.opts.Tail.MaxTails) {
		ep.tails.Add(-1)
		p := web.NewProblem(web.Overloaded, fmt.Sprintf("%s has %d live streams already, which is the limit.", ep.ds.Name, s.opts.Tail.MaxTails), "Retry later, or share one stream between several readers.")
		p.RetryAfter = 5 * time.Second
		return p
	}
	defer ep.tails.Add(-1)
	web.SetAnswer(r.Context(), web.Stream)
	t := newTailStream(s, ep, q, from)
	return t.run(w, r)
}

func tailHeaders(h http.Header) {
	h.Set("Content-Type", eventStream)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
}

// inEvents refuses callers that do not take an event stream.
func inEvents(handle handler) handler {
	return func(ep *endpoint, w http.ResponseWriter, r *http.Request) *web.Problem {
		if _, ok := web.Accept(r.Header, eventStream); !ok {
			return notAcceptable(eventStream)
		}
		return handle(ep, w, r)
	}
}

// parseTail reads the parameters: those of a list that say which rows and which fields.
func (s *Service) parseTail(ep *endpoint, rawQuery string) (q listQuery, p *web.Problem) {
	ps, p := parseParams(rawQuery)
	if p != nil {
		return q, p
	}
	known := append(ep.ds.FieldNames(), paramFields, paramFrom)
	var filters []param
	for _, param := range ps {
		base, _, _ := strings.Cut(param.name, "[")
		isField := ep.ds.Field(base) != nil
		switch {
		case param.name == paramFields:
		case param.name == paramFrom:
			if param.value != "now" {
				return q, invalid(paramFrom, fmt.Sprintf("a live stream begins now, got %q", web.Quote(param.value)), "Leave it out, and read earlier rows with a list.")
			}
			continue
		case !isField:
			return q, unknownParameter(param.name, known)
		}
		filters = append(filters, param)
	}
	return ep.parseListQuery(filters, s.deps.Now(), s.opts.MaxFilters)
}

// lastEvent is where the client's earlier stream stopped; zero when it had none.
func (s *Service) lastEvent(ep *endpoint, h http.Header) (tailPosition, *web.Problem) {
	id := h.Get(lastEventIDHeader)
	if id == "" {
		return tailPosition{}, nil
	}
	at, ok := s.sealer.openEvent(ep.scope, id)
	if !ok {
		p := web.NewProblem(web.CursorMismatch, fmt.Sprintf("The Last-Event-ID was not made by this service for %s.", ep.ds.Name),
			"Send the id of the last event as it is, for the same dataset; or begin anew without the header.")
		p.Errors = []web.Fault{{Parameter: "Last-Event-ID", Code: string(web.CursorMismatch)}}
		return at, p
	}
	return at, nil
}

// followProblem is the answer when a stream could not be opened. The cause goes to the log only.
func (s *Service) followProblem(r *http.Request, ep *endpoint, err error) *web.Problem {
	if errors.Is(err, bus.ErrNotFound) {
		return s.topicMissing(r, ep, err)
	}
	s.deps.Log.LogAttrs(r.Context(), slog.LevelWarn, "live stream not opened", slog.String("dataset", ep.ds.Name),
		slog.String("request_id", web.RequestID(r.Context())), slog.Any("error", err))
	if errors.Is(err, bus.ErrDenied) || errors.Is(err, bus.ErrRefused) {
		return web.NewProblem(web.Internal, "The live stream could not be opened.", "Report it with the request id.")
	}
	p := web.NewProblem(web.Unavailable, "The message bus cannot be reached.", "Retry.")
	p.RetryAfter = time.Second
	return p
}

// retryMissing is long enough for somebody to create what is missing.
const retryMissing = 5 * time.Second

// topicMissing is the answer when the dataset has no topic, or lost it while its stream was opened: a
// fault of the platform that passes as soon as the topic is created.
func (s *Service) topicMissing(r *http.Request, ep *endpoint, err error) *web.Problem {
	s.deps.Log.LogAttrs(r.Context(), slog.LevelError, "live stream not opened: the topic of its dataset is missing; latamctl doctor shows what else is, "+
		"latamctl up creates it, with --env on Google Cloud", slog.String("dataset", ep.ds.Name),
		slog.String("topic", ep.ds.Topic), slog.String("request_id", web.RequestID(r.Context())), slog.Any("error", err))
	p := web.NewProblem(web.Unavailable, fmt.Sprintf("%s has no topic that could be followed.", ep.ds.Name),
		"Retry: once the topic is there, so are the live rows. The log of the service says how to create it.")
	p.RetryAfter = retryMissing
	return p
}

func (s *Service) stopping() *web.Problem {
	p := web.NewProblem(web.Unavailable, "The service is stopping.", "Retry: another process takes over.")
	p.RetryAfter = time.Second
	return p
}

package query

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/otel/propagation"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/web"
)

// maxFaults is how many refused records a response lists.
const maxFaults = 20

// line is one record of a request; number is its line in the body, from 1.
type line struct {
	number int
	data   []byte
}

// publish answers POST /v1/datasets/{dataset}/records. All records are checked before the first is
// sent, so a request with a bad record publishes nothing.
func (s *Service) publish(ep *endpoint, w http.ResponseWriter, r *http.Request) *web.Problem {
	single, p := bodyKind(r.Header)
	if p != nil {
		return p
	}
	if p := noParameters(r.URL.RawQuery); p != nil {
		return p
	}
	body, p := web.ReadBody(w, r, s.opts.MaxBodyBytes)
	if p != nil {
		return p
	}
	lines := splitLines(body, single)
	if len(lines) > s.opts.MaxRecords {
		return web.NewProblem(web.BodyTooLarge, fmt.Sprintf("The body has %d records, the limit is %d.", len(lines), s.opts.MaxRecords), "Split it into several requests.")
	}
	// Only now, so that clients that send slowly do not take the places of the others.
	if p := ep.publishes.enter(r.Context()); p != nil {
		return p
	}
	defer ep.publishes.leave()
	if p := checkRecords(ep.ds, lines, s.deps.Now()); p != nil {
		return p
	}
	return s.send(ep, w, r, lines)
}

// bodyKind reads the Content-Type: one JSON object, or one per line.
func bodyKind(h http.Header) (single bool, p *web.Problem) {
	const hint = "Send Content-Type: application/json with one object, or application/x-ndjson with one object per line."
	if encoding := h.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return false, web.NewProblem(web.UnsupportedMediaType, fmt.Sprintf("Content-Encoding %q is not taken.", web.Quote(encoding)), "Send the body as it is.")
	}
	kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if charset := params["charset"]; err == nil && (charset == "" || strings.EqualFold(charset, "utf-8")) {
		switch kind {
		case "application/json":
			return true, nil
		case "application/x-ndjson", "application/ndjson":
			return false, nil
		}
	}
	return false, web.NewProblem(web.UnsupportedMediaType, fmt.Sprintf("Content-Type %q is not taken.", web.Quote(h.Get("Content-Type"))), hint)
}

// splitLines finds the records of a body. Blank lines are skipped.
func splitLines(body []byte, single bool) []line {
	if single {
		if body = bytes.TrimSpace(body); len(body) == 0 {
			return nil
		}
		return []line{{number: 1, data: body}}
	}
	var lines []line
	number := 0
	for data := range bytes.SplitSeq(body, []byte("\n")) {
		number++
		if data = bytes.TrimSpace(data); len(data) > 0 {
			lines = append(lines, line{number: number, data: data})
		}
	}
	return lines
}

func checkRecords(ds *dataset.Dataset, lines []line, now time.Time) *web.Problem {
	if len(lines) == 0 {
		return web.NewProblem(web.InvalidRecord, "The body has no record.", "Send one JSON object, or one per line.")
	}
	var faults []web.Fault
	refused := 0
	for _, l := range lines {
		_, err := ds.Decode(l.data, now)
		if err == nil {
			continue
		}
		if refused++; refused <= maxFaults {
			faults = append(faults, fault(l.number, err))
		}
	}
	if refused == 0 {
		return nil
	}
	return &web.Problem{
		Code: web.InvalidRecord, Errors: faults,
		Detail:   fmt.Sprintf("%d of %d records are refused by the declaration of %s; nothing was published.", refused, len(lines), ds.Name),
		Hint:     "Correct the records and send them all again.",
		Metadata: map[string]any{"records": len(lines), "refused": refused},
	}
}

func fault(number int, err error) web.Fault {
	var reject *dataset.RejectError
	if errors.As(err, &reject) {
		return web.Fault{Line: number, Field: reject.Field, Code: string(reject.Reason), Detail: reject.Detail}
	}
	return web.Fault{Line: number, Code: string(dataset.ReasonBadJSON), Detail: "the record cannot be read"}
}

// published is the answer once the bus has all records; the ids are in the order of the records.
type published struct {
	Published  int      `json:"published"`
	MessageIDs []string `json:"message_ids"`
}

// send publishes all records and answers when the bus has them.
func (s *Service) send(ep *endpoint, w http.ResponseWriter, r *http.Request, lines []line) *web.Problem {
	ctx, cancel := context.WithTimeout(r.Context(), s.opts.PublishTimeout)
	defer cancel()
	ids, err := s.publishAll(ctx, ep.ds.Topic, lines)
	if err == nil {
		body, err := json.Marshal(published{Published: len(ids), MessageIDs: ids})
		if err != nil {
			return web.NewProblem(web.Internal, "The answer could not be written.", "")
		}
		s.respond(w, r, answer{status: http.StatusAccepted, kind: typeJSON, body: body, cache: "no-store"})
		return nil
	}
	s.deps.Log.LogAttrs(ctx, slog.LevelWarn, "records not published", slog.String("dataset", ep.ds.Name),
		slog.String("request_id", web.RequestID(ctx)), slog.Int("records", len(lines)), slog.Int("published", len(ids)), slog.Any("error", err))
	if len(ids) == 0 {
		return publishFailure(ctx, r, err)
	}
	return publishIncomplete(lines, ids)
}

// publishAll sends one record with those of other requests, and several in as few requests as fit:
// Pub/Sub takes a request as a whole and keeps its order. After a failure nothing more is sent.
func (s *Service) publishAll(ctx context.Context, topic string, lines []line) (ids []string, err error) {
	if len(lines) == 1 {
		id, err := s.deps.Publisher.Publish(ctx, topic, lines[0].data, traceAttributes(ctx))
		if err != nil {
			return nil, err
		}
		return []string{id}, nil
	}
	for len(ids) < len(lines) {
		batch := nextBatch(ctx, lines[len(ids):])
		got, err := s.deps.Publisher.PublishBatch(ctx, topic, batch)
		if err != nil {
			return ids, err
		}
		ids = append(ids, got...)
	}
	return ids, nil
}

// nextBatch is as many of the lines as one request takes.
func nextBatch(ctx context.Context, lines []line) []bus.Message {
	var batch []bus.Message
	size := 0
	for _, l := range lines {
		size += len(l.data) + messageOverheadBytes
		if len(batch) > 0 && (len(batch) == bus.MaxBatchMessages || size > bus.MaxBatchBytes) {
			break
		}
		batch = append(batch, bus.Message{Data: l.data, Attributes: traceAttributes(ctx)})
	}
	return batch
}

// messageOverheadBytes is room for a message's attributes and framing.
const messageOverheadBytes = 1 << 10

// traceAttributes carries the request's trace to ingest. Each message gets a map of its own,
// because the publisher may keep it.
func traceAttributes(ctx context.Context) map[string]string {
	attributes := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, attributes)
	return attributes
}

// publishFailure is the answer when no record was confirmed.
func publishFailure(ctx context.Context, r *http.Request, err error) *web.Problem {
	switch {
	case errors.Is(r.Context().Err(), context.Canceled):
		return web.NewProblem(web.ClientClosed, "The client went away.", "")
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(ctx.Err(), context.DeadlineExceeded):
		return web.NewProblem(web.DeadlineExceeded, "The message bus did not confirm the records in time.", "Sending them again is safe: the same key replaces the row.")
	case errors.Is(err, bus.ErrUnavailable):
		p := web.NewProblem(web.Unavailable, "The message bus cannot be reached; nothing was confirmed.", "Retry: the same key replaces the row.")
		p.RetryAfter = time.Second
		return p
	}
	return web.NewProblem(web.Internal, "The records could not be published.", "Report it with the request id.")
}

// publishIncomplete says exactly which records were confirmed and which were not.
func publishIncomplete(lines []line, ids []string) *web.Problem {
	p := &web.Problem{
		Code:       web.PublishIncomplete,
		Detail:     fmt.Sprintf("%d of %d records were published, the others were not confirmed.", len(ids), len(lines)),
		Hint:       "Send the lines in errors again, or all of them: the same key replaces the row.",
		RetryAfter: time.Second,
	}
	confirmed := make([]map[string]any, len(ids))
	for i, id := range ids {
		confirmed[i] = map[string]any{"line": lines[i].number, "message_id": id}
	}
	for _, l := range lines[len(ids):] {
		p.Errors = append(p.Errors, web.Fault{Line: l.number, Code: "NOT_CONFIRMED"})
	}
	p.Metadata = map[string]any{"published": confirmed}
	return p
}

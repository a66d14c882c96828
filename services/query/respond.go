package query

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/pkg/web"
)

// The media types of answers.
const (
	typeJSON   = "application/json"
	typeNDJSON = "application/x-ndjson"
	typeCSV    = "text/csv"
)

// answer is a whole response.
type answer struct {
	status int    // 0 = 200
	kind   string // the media type
	// contentType is the whole header where it says more than the media type.
	contentType string
	body        []byte
	// tag is the entity tag without its quotes, "" = none. A weak one says that the same rows are shown.
	tag  string
	weak bool
	// modified is the event time of what is shown. It tells people how old a row is, but not caches:
	// a row of the same event time can replace another, so only the tag decides whether it changed.
	modified time.Time
	// cache is the Cache-Control header.
	cache string
	// encode returns the body in a coding where that is kept; nil compresses it for this answer.
	encode func(coding string) []byte
}

// tagOf is a strong tag of a body: equal bytes, equal tag, in every process.
func tagOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:12])
}

// cacheControl lets a client keep an answer for itself for as long as the dataset says; without a
// word it asks each time, which the tag makes cheap.
func cacheControl(maxAge time.Duration) string {
	if maxAge < time.Second {
		return "private, no-cache"
	}
	return "private, max-age=" + strconv.Itoa(int(maxAge/time.Second))
}

// respond writes an answer, or 304 when the caller has it already, compressed when that is wanted
// and worth it.
func (s *Service) respond(w http.ResponseWriter, r *http.Request, a answer) {
	h := w.Header()
	h["Vary"] = varyHeader
	if a.cache != "" {
		h.Set("Cache-Control", a.cache)
	}
	coding := ""
	if len(a.body) >= web.MinEncodedBytes {
		coding = web.Coding(r.Header)
	}
	if a.tag != "" {
		h.Set("Etag", entityTag(a, coding))
		if r.Method != http.MethodPost && noneMatch(r.Header, a.tag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	if !a.modified.IsZero() {
		h.Set("Last-Modified", earlier(a.modified, s.deps.Now()).UTC().Format(http.TimeFormat))
	}
	body := a.body
	switch {
	case coding == "":
	case a.encode != nil:
		body = a.encode(coding)
		h.Set("Content-Encoding", coding)
	default:
		buf := s.bodies.get()
		defer s.bodies.put(buf)
		*buf = web.Encode((*buf)[:0], a.body, coding)
		body = *buf
		h.Set("Content-Encoding", coding)
	}
	h.Set("Content-Type", cmp.Or(a.contentType, a.kind))
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(max(a.status, http.StatusOK))
	_, _ = w.Write(body)
}

// varyHeader is shared by all responses: the server only reads it.
var varyHeader = []string{"Accept, Accept-Encoding"} //nolint:gochecknoglobals // It never changes, and making it for each answer costs.

// earlier keeps Last-Modified from being in the future, which event times can be.
func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// entityTag marks the coding, because a strong tag promises equal bytes.
func entityTag(a answer, coding string) string {
	tag := `"` + a.tag
	if a.weak {
		return "W/" + tag + `"`
	}
	if coding != "" {
		tag += "-" + coding
	}
	return tag + `"`
}

// noneMatch says whether If-None-Match names the tag, in any coding; the comparison is weak, as RFC
// 9110 asks for it.
func noneMatch(h http.Header, tag string) bool {
	for _, line := range h.Values("If-None-Match") {
		for part := range strings.SplitSeq(line, ",") {
			part = strings.TrimSpace(part)
			if part == "*" {
				return true
			}
			part = strings.Trim(strings.TrimPrefix(part, "W/"), `"`)
			if name, _, _ := strings.Cut(part, "-"); name == tag {
				return true
			}
		}
	}
	return false
}

// timings are the parts of the Server-Timing header.
type timings struct{ b []byte }

func (t *timings) add(name string, d time.Duration) {
	if len(t.b) > 0 {
		t.b = append(t.b, ", "...)
	}
	t.b = append(append(t.b, name...), ";dur="...)
	t.b = strconv.AppendFloat(t.b, float64(d.Microseconds())/1000, 'f', -1, 64)
}

func (t *timings) set(h http.Header) {
	if before := h.Get("Server-Timing"); before != "" {
		h.Set("Server-Timing", before+", "+string(t.b))
		return
	}
	h.Set("Server-Timing", string(t.b))
}

func notAcceptable(offers ...string) *web.Problem {
	return web.NewProblem(web.NotAcceptable, "This path returns "+strings.Join(offers, ", ")+".", "Send Accept: "+offers[0]+".")
}

// storeProblem is the answer to a failed read. The cause goes to the log only.
func (s *Service) storeProblem(ctx context.Context, r *http.Request, ep *endpoint, err error) *web.Problem {
	p := failure(ctx, r, err)
	level := slog.LevelWarn
	switch p.Code {
	case web.ClientClosed:
		level = slog.LevelDebug
	case web.Internal:
		level = slog.LevelError
	}
	s.deps.Log.LogAttrs(ctx, level, "request not answered", slog.String("dataset", ep.ds.Name),
		slog.String("request_id", web.RequestID(ctx)), slog.String("code", string(p.Code)), slog.Any("error", err))
	return p
}

func failure(ctx context.Context, r *http.Request, err error) *web.Problem {
	var known *web.Problem
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(r.Context().Err(), context.Canceled):
		return web.NewProblem(web.ClientClosed, "The client went away.", "")
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(ctx.Err(), context.DeadlineExceeded):
		return web.NewProblem(web.DeadlineExceeded, "The rows were not read in time.", "Retry, or ask for less: a narrower key range or a smaller limit.")
	case errors.Is(err, store.ErrUnavailable):
		p := web.NewProblem(web.Unavailable, "The store cannot be reached.", "Retry.")
		p.RetryAfter = time.Second
		return p
	}
	return web.NewProblem(web.Internal, "The request could not be handled.", "Report it with the request id.")
}

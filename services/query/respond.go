package query

import (
	"context"
	"errors"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/pkg/web"
)

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// checkAccept refuses a caller that does not take JSON.
func checkAccept(h http.Header) *web.Problem {
	accepts := h.Values("Accept")
	if len(accepts) == 0 {
		return nil
	}
	for _, line := range accepts {
		for accept := range strings.SplitSeq(line, ",") {
			accept = strings.TrimSpace(accept)
			switch accept {
			case "*/*", "application/json":
				return nil
			}
			kind, params, err := mime.ParseMediaType(accept)
			if err != nil || kind != "*/*" && kind != "application/*" && kind != "application/json" {
				continue
			}
			if q, err := strconv.ParseFloat(params["q"], 64); params["q"] == "" || err == nil && q > 0 {
				return nil
			}
		}
	}
	return web.NewProblem(web.NotAcceptable, "This path returns application/json.", "Send Accept: application/json.")
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
	switch {
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

package datadog

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// How long to wait before another try: a random part of a span that doubles.
const (
	backoffBase = 500 * time.Millisecond
	backoffCap  = 20 * time.Second
	backoffMin  = 50 * time.Millisecond
)

// refusedFor is how long a call goes on when its connection is refused again and again: long enough for a
// proxy that starts anew, and far less than for a Datadog that is overloaded.
const refusedFor = 8 * time.Second

// Causes that are no answer of Datadog.
var (
	errCut      = errors.New("the answer ended early")
	errTooLarge = errors.New("the answer is too large")
)

// transport sends requests with the keys, at the pace that the limits allow, and repeats those that may be repeated.
// Answers are read whole, so that one that was cut counts as none.
type transport struct {
	base         http.RoundTripper
	authorize    func(http.Header)
	scrub        func(error) error
	limits       *limiter
	log          *slog.Logger
	attemptTime  time.Duration
	maxBodyBytes int64
	// told is set when the user was told that Datadog does not answer.
	told atomic.Bool
}

// patience is how many attempts of a call fail before the user is told why nothing happens.
const patience = 3

// call is what one call of the API may take, and how it went. It travels in the request's context.
type call struct {
	deadline  time.Time
	method    string
	path      string
	once      bool // it makes something new each time that it happens
	attempts  int
	uncertain bool // an earlier or the last attempt may have happened at Datadog
	// refused is when the connection was refused first, of the attempts that have been since it was not.
	refused time.Time
}

type callKey struct{}

// attempt is the outcome of one request.
type attempt struct {
	response *http.Response
	body     []byte
	err      error
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	body, err := takeBody(request)
	if err != nil {
		return nil, err
	}
	ctx := request.Context()
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		return nil, errors.New("a request outside of a call")
	}
	c.method, c.path = request.Method, request.URL.Path
	route := routeOf(request.Method, request.URL.Path)
	c.once = request.Method == http.MethodPost && !strings.HasSuffix(request.URL.Path, "/validate")
	var a attempt
	for {
		ticket, err := t.limits.acquire(ctx, route, c.deadline)
		if err != nil {
			if a.response == nil && a.err == nil {
				a.err = err
			}
			break
		}
		c.attempts++
		a = t.send(request, body)
		t.limits.release(ticket, a.status(), a.header())
		wait, again := next(c, a)
		until := c.patient(a, time.Now())
		if !again || ctx.Err() != nil || time.Now().Add(wait).After(until) {
			break
		}
		t.log.DebugContext(ctx, "datadog call is repeated", "method", c.method, "path", c.path, "status", a.status(),
			"error", t.scrub(a.err), "attempt", c.attempts, "wait", wait)
		if c.attempts >= patience && a.status() != http.StatusTooManyRequests && t.told.CompareAndSwap(false, true) {
			t.log.WarnContext(ctx, "Datadog does not answer as it should; trying again", "method", c.method, "path", c.path, "status", a.status(),
				"error", t.scrub(a.err), "at_most", time.Until(until).Round(time.Second).String())
		}
		if wait > 0 && pause(ctx, wait, nil) != nil {
			break
		}
	}
	if a.err != nil {
		return nil, a.err
	}
	a.response.Body = io.NopCloser(bytes.NewReader(a.body))
	return a.response, nil
}

// patient is until when a call is repeated after an attempt that ended now.
func (c *call) patient(a attempt, now time.Time) time.Time {
	if !errors.Is(a.err, syscall.ECONNREFUSED) {
		c.refused = time.Time{}
		return c.deadline
	}
	if c.refused.IsZero() {
		c.refused = now
	}
	if limit := c.refused.Add(refusedFor); limit.Before(c.deadline) {
		return limit
	}
	return c.deadline
}

func (a attempt) status() int {
	if a.response == nil {
		return 0
	}
	return a.response.StatusCode
}

func (a attempt) header() http.Header {
	if a.response == nil {
		return nil
	}
	return a.response.Header
}

func takeBody(request *http.Request) ([]byte, error) {
	if request.Body == nil || request.Body == http.NoBody {
		return nil, nil
	}
	data, err := io.ReadAll(request.Body)
	return data, errors.Join(err, request.Body.Close())
}

// send makes one attempt. An answer that could not be read whole is kept for its headers, beside the error.
func (t *transport) send(request *http.Request, body []byte) attempt {
	ctx, cancel := context.WithTimeout(request.Context(), t.attemptTime)
	defer cancel()
	r := request.Clone(ctx)
	r.Body, r.GetBody, r.ContentLength = nil, nil, 0
	if body != nil {
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	}
	// The official client asks for the body as it is; the transport below unpacks gzip by itself.
	r.Header.Del("Accept-Encoding")
	t.authorize(r.Header)
	response, err := t.base.RoundTrip(r)
	if err != nil {
		return attempt{err: timedOut(request.Context(), err, t.attemptTime)}
	}
	defer func() { _ = response.Body.Close() }() // What counts was read.
	data, err := io.ReadAll(io.LimitReader(response.Body, t.maxBodyBytes+1))
	switch {
	case err != nil && request.Context().Err() != nil:
	case err != nil:
		err = fmt.Errorf("%w: %w", errCut, timedOut(request.Context(), err, t.attemptTime))
	case int64(len(data)) > t.maxBodyBytes:
		err = fmt.Errorf("%w: more than %d bytes", errTooLarge, t.maxBodyBytes)
	case response.StatusCode < 300 && looksCut(response.Header, data):
		err = errCut
	}
	return attempt{response: response, body: data, err: err}
}

// timedOut says that an attempt took too long, when it was not the caller who stopped it.
func timedOut(outer context.Context, err error, limit time.Duration) error {
	if outer.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %s", limit)
	}
	return err
}

// looksCut tells whether a body that claims to be JSON is not a whole value, as when a proxy lost its end.
func looksCut(h http.Header, data []byte) bool {
	return strings.Contains(h.Get("Content-Type"), "json") && len(data) > 0 && !json.Valid(data)
}

// next tells whether and when to try again. A request that must happen only once is repeated when it certainly
// did not happen.
func next(c *call, a attempt) (time.Duration, bool) {
	status := a.status()
	refused := status == http.StatusTooManyRequests
	if a.err == nil && !refused && !unavailable(status) {
		return 0, false
	}
	if a.err != nil && unsent(a.err) {
		return backoff(c.attempts), !permanent(a.err)
	}
	if refused {
		if _, told := readLimits(a.header()); told {
			return 0, true // The limiter waits.
		}
		return max(retryAfter(a.header(), time.Now()), backoff(c.attempts)), true
	}
	c.uncertain = true
	if c.once || errors.Is(a.err, errTooLarge) {
		return 0, false
	}
	return max(retryAfter(a.header(), time.Now()), backoff(c.attempts)), true
}

// unavailable are answers that another try may turn into a good one. 512 is of Datadog's own.
func unavailable(status int) bool {
	return status >= 500 && status != http.StatusNotImplemented || status == http.StatusRequestTimeout
}

// unsent tells that no connection came about, so nothing was sent.
func unsent(err error) bool {
	var operation *net.OpError
	if errors.As(err, &operation) && operation.Op == "dial" || errors.Is(err, syscall.ECONNREFUSED) {
		return true
	}
	var name *net.DNSError
	return errors.As(err, &name) || permanent(err)
}

// permanent tells that another try would end the same way.
func permanent(err error) bool {
	var certificate *tls.CertificateVerificationError
	var name *net.DNSError
	return errors.As(err, &certificate) || errors.As(err, &name) && name.IsNotFound
}

// backoff is a random part of a span that doubles with every attempt.
func backoff(attempts int) time.Duration {
	span := min(backoffBase<<min(attempts-1, 10), backoffCap)
	return backoffMin + rand.N(span)
}

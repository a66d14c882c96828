package datadog

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Datadog gives the time to a reset in whole seconds, so a window may last up to one second longer.
const (
	resetMargin = time.Second
	waitJitter  = 250 * time.Millisecond
	maxWindow   = 24 * time.Hour
)

// limiter keeps calls within the budgets that the answers tell, so that 429 is an exception. Datadog
// counts calls in named buckets; several routes may share one. Of a bucket that no answer has told about yet, one
// call goes ahead alone, because others of the organisation may have used it up.
type limiter struct {
	mu      sync.Mutex
	routes  map[string]string // route → bucket
	buckets map[string]*bucket
	changed chan struct{} // closed and replaced whenever a bucket changes
}

// bucket is a fixed window: a number of calls until its end.
type bucket struct {
	name   string
	known  bool // an answer has come
	open   bool // the answers tell no limit
	limit  int
	period time.Duration
	left   int
	end    time.Time // the latest time at which the window ends
	window int       // counts windows, so that late answers of the last one change nothing
	guess  bool      // the window began by the clock, no answer has confirmed it
	flying int
}

// ticket is the right to send one request.
type ticket struct {
	route  string
	bucket *bucket
	window int
}

func newLimiter() *limiter {
	return &limiter{routes: map[string]string{}, buckets: map[string]*bucket{}, changed: make(chan struct{})}
}

// acquire waits until a request of the route may be sent. It does not wait for what comes after the deadline.
func (l *limiter) acquire(ctx context.Context, route string, deadline time.Time) (ticket, error) {
	for {
		if err := ctx.Err(); err != nil {
			return ticket{}, err
		}
		now := time.Now()
		l.mu.Lock()
		b := l.bucketOf(route)
		wait, ok := b.take(now)
		t, changed := ticket{route, b, b.window}, l.changed
		l.mu.Unlock()
		if ok {
			return t, nil
		}
		if now.Add(wait).After(deadline) {
			return ticket{}, fmt.Errorf("the limit of %q lets the next call through in %s only", b.name, wait.Round(time.Second))
		}
		if err := pause(ctx, wait, changed); err != nil {
			return ticket{}, err
		}
	}
}

// pause waits for a time, or for ever when it is 0, or until something changed.
func pause(ctx context.Context, wait time.Duration, changed <-chan struct{}) error {
	var after <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait + rand.N(waitJitter))
		defer timer.Stop()
		after = timer.C
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-after:
	case <-changed:
	}
	return nil
}

func (l *limiter) bucketOf(route string) *bucket {
	name, ok := l.routes[route]
	if !ok {
		name = knownBucket(route)
	}
	return l.named(name)
}

func (l *limiter) named(name string) *bucket {
	b, ok := l.buckets[name]
	if !ok {
		b = &bucket{name: name}
		l.buckets[name] = b
	}
	return b
}

// take reserves a call, or tells how long to wait; 0 is until another answer has come.
func (b *bucket) take(now time.Time) (time.Duration, bool) {
	switch {
	case !b.known && b.flying > 0:
		return 0, false
	case !b.known || b.open:
		b.flying++
		return 0, true
	}
	if !now.Before(b.end) {
		// Requests under way may be counted in either window.
		b.window++
		b.left, b.end, b.guess = b.limit-b.flying, now.Add(b.period+resetMargin), true
	}
	if b.left <= 0 {
		return b.end.Sub(now), false
	}
	b.left--
	b.flying++
	return 0, true
}

// release returns a ticket together with the answer, or nil if none came.
func (l *limiter) release(t ticket, status int, header http.Header) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t.bucket.flying--
	if status != 0 {
		l.learn(t, status, header)
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *limiter) learn(t ticket, status int, header http.Header) {
	told, ok := readLimits(header)
	b := t.bucket
	if ok && told.name != "" && told.name != b.name {
		l.routes[t.route] = told.name
		b = l.named(told.name)
		t.window = b.window
	}
	switch {
	case ok:
		b.learn(told, t.window, status == http.StatusTooManyRequests, time.Now())
	case !b.known:
		b.known, b.open = true, true
	}
}

// limits are what an answer tells of its bucket.
type limits struct {
	name       string
	limit      int
	period     time.Duration
	left       int
	reset      time.Duration
	retryAfter time.Duration
}

func (b *bucket) learn(told limits, window int, refused bool, now time.Time) {
	first := !b.known || b.open
	b.known, b.open, b.limit, b.period = true, false, told.limit, told.period
	end := now.Add(told.reset + resetMargin)
	left := told.left - b.flying
	switch {
	case refused:
		if first || end.After(b.end) || b.left > 0 {
			b.window++
			b.end = now.Add(afterRefusal(told))
		}
		b.left, b.guess = 0, false
	case first, b.guess && window == b.window:
		b.left, b.end, b.guess = min(left, told.limit), end, false
		if first {
			b.window++
		}
	case window != b.window: // A late answer of an earlier window.
	case end.After(b.end.Add(told.period / 2)): // The window ended before the latest time that it could.
		b.window++
		b.left, b.end = left, end
	default:
		b.left = min(b.left, left)
		if end.Before(b.end) {
			b.end = end
		}
	}
}

// afterRefusal is how long a refused bucket stays closed. A reset in less than a second is tried soon: it is nearer
// than the margin, and a second refusal does no harm.
func afterRefusal(told limits) time.Duration {
	if wait := max(told.reset, told.retryAfter); wait > 0 {
		return wait + resetMargin
	}
	return resetMargin / 10
}

// readLimits reads X-RateLimit-*, and tells whether they make sense.
func readLimits(h http.Header) (limits, bool) {
	number := func(name string) (int, bool) {
		n, err := strconv.ParseFloat(strings.TrimSpace(h.Get(name)), 64)
		return int(n), err == nil && n >= 0 && n <= maxWindow.Seconds()*1000
	}
	limit, ok1 := number("X-RateLimit-Limit")
	left, ok2 := number("X-RateLimit-Remaining")
	reset, ok3 := number("X-RateLimit-Reset")
	period, ok4 := number("X-RateLimit-Period")
	if !ok1 || !ok2 || !ok3 || !ok4 || limit == 0 || period == 0 {
		return limits{}, false
	}
	name := h.Get("X-RateLimit-Name")
	if len(name) > 100 {
		name = ""
	}
	return limits{
		name: name, limit: limit, left: left, retryAfter: retryAfter(h, time.Now()),
		period: min(time.Duration(period)*time.Second, maxWindow),
		reset:  min(time.Duration(reset)*time.Second, maxWindow),
	}, true
}

// retryAfter reads Retry-After: a number of seconds or a date. It is 0 if there is none.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if n, err := strconv.Atoi(text); err == nil {
		return min(max(0, time.Duration(min(n, int(maxWindow.Seconds())))*time.Second), maxWindow)
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(0, at.Sub(now)), maxWindow)
	}
	return 0
}

// routeOf is the method and the path with {id} for what differs between objects, without the prefix of a proxy.
func routeOf(method, path string) string {
	if i := strings.Index(path, "/api/v"); i >= 0 {
		path = path[i:]
	}
	words := strings.Split(path, "/")
	for i := 4; i < len(words); i++ { // "", api, v1, monitor, …
		switch words[i] {
		case "search", "validate", "can_delete", "history", "tags":
		default:
			words[i] = "{id}"
		}
	}
	return method + " " + strings.Join(words, "/")
}

// knownBucket is the bucket that Datadog was seen to use for a route. The answers correct it.
func knownBucket(route string) string {
	switch route {
	case "POST /api/v1/monitor":
		return "post_monitors"
	case "PUT /api/v1/monitor/{id}":
		return "put_monitors"
	case "GET /api/v1/monitor/{id}":
		return "get_monitors"
	case "GET /api/v1/monitor":
		return "get_all_monitors"
	case "POST /api/v1/slo":
		return "slo_create"
	case "PUT /api/v1/slo/{id}":
		return "slo_update"
	case "GET /api/v1/slo", "GET /api/v1/slo/{id}":
		return "slo_get"
	case "DELETE /api/v1/slo/{id}":
		return "slo_delete"
	case "GET /api/v1/slo/can_delete":
		return "slo_check_can_delete"
	case "GET /api/v1/slo/{id}/history":
		return "slo_history"
	case "DELETE /api/v1/monitor/{id}", "POST /api/v1/monitor/validate", "POST /api/v1/monitor/{id}/validate":
		return "global_org"
	}
	return route
}

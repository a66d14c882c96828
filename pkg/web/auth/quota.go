package auth

import (
	"container/list"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// quotas counts the requests of a dataset's callers, each with a token bucket of its own that holds
// a minute's worth. It remembers a bounded number of callers: the one that was away longest is
// forgotten first, which can only be to its advantage.
type quotas struct {
	perMinute int
	max       int
	policy    string

	mu      sync.Mutex
	buckets map[Caller]*list.Element
	recent  *list.List // of *bucket, the latest first
}

type bucket struct {
	caller  Caller
	limiter *rate.Limiter
}

func newQuotas(perMinute, maxCallers int) *quotas {
	return &quotas{
		perMinute: perMinute, max: maxCallers,
		policy:  `"default";q=` + strconv.Itoa(perMinute) + ";w=60",
		buckets: map[Caller]*list.Element{}, recent: list.New(),
	}
}

// standing is what a caller has left.
type standing struct {
	remaining int
	full      time.Duration // until the whole quota is there again
	retry     time.Duration // until one request is; 0 when this one was let through
}

// take counts a request of a caller, or says when to come back.
func (q *quotas) take(c Caller, now time.Time) standing {
	q.mu.Lock()
	limiter := q.limiter(c)
	q.mu.Unlock()
	ok := limiter.AllowN(now, 1)
	tokens := max(0, limiter.TokensAt(now))
	perToken := float64(time.Minute) / float64(q.perMinute)
	s := standing{remaining: int(tokens), full: time.Duration((float64(q.perMinute) - tokens) * perToken)}
	if !ok {
		s.retry = max(time.Millisecond, time.Duration((1-tokens)*perToken))
	}
	return s
}

// limiter needs the lock.
func (q *quotas) limiter(c Caller) *rate.Limiter {
	c.Name = "" // It is for logs; the rest tells callers apart.
	if e, ok := q.buckets[c]; ok {
		q.recent.MoveToFront(e)
		return e.Value.(*bucket).limiter
	}
	if q.recent.Len() >= q.max {
		last := q.recent.Back()
		q.recent.Remove(last)
		delete(q.buckets, last.Value.(*bucket).caller)
	}
	b := &bucket{caller: c, limiter: rate.NewLimiter(rate.Limit(float64(q.perMinute)/60), q.perMinute)}
	q.buckets[c] = q.recent.PushFront(b)
	return b.limiter
}

// tell writes the quota's headers.
func (s standing) tell(h http.Header, policy string) {
	h.Set("RateLimit-Policy", policy)
	h.Set("RateLimit", `"default";r=`+strconv.Itoa(s.remaining)+";t="+strconv.Itoa(int(math.Ceil(s.full.Seconds()))))
}

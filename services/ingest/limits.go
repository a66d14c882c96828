package ingest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/pkg/telemetry/roundtrip"
)

// The latencies that the limits follow, of one request to the store. They leave a margin under the 50
// milliseconds that a batch may take.
const (
	slowCommit = 40 * time.Millisecond
	fastCommit = 20 * time.Millisecond
)

const (
	// A window is judged when it has enough commits for its 95th percentile not to be its slowest and
	// has outlasted a stall of the disk, or when it has lasted long with few commits.
	windowCommits = 20
	shortWindow   = 500 * time.Millisecond
	longWindow    = 2 * time.Second
	// growAfter is how long commits must be fast before the limits grow by a step.
	growAfter = 5 * time.Second
	// leastShare is the share of the rows that a batch keeps at least, and leastRows their number: smaller
	// ones hardly cost the store less, and what waits for them waits for longer. growShare is that of a step up.
	leastShare, leastRows, growShare = 4, 50, 10
	// refusedShare is the share of the rows of a request that the store must refuse for load to count as
	// one that has too much. A few in many are tried again, and so they are if there are fewer at a time.
	refusedShare = 4
	// idleLimits is how long the limits stay up after they were lowered in vain.
	idleLimits = time.Minute
	// usefulGain is the share of the latency that must be left for a descent to count as useful.
	usefulGain = 0.7
)

// limiter sets how many batches may be committed at a time and how many rows they have, by the
// latency of their requests: half when they are slow or the store has had enough, one step more when
// they have been fast for a while. It knows no clock and no lock.
type limiter struct {
	maxInFlight, maxRows int
	inFlight, rows       int

	window      []time.Duration
	windowBegan time.Time
	fastSince   time.Time // zero when the last window was not fast
	lowered     time.Time // commits that began before say nothing about the limits of now
	// before is what the limits and the latency were when they began to be lowered.
	before    struct{ inFlight, rows, micros int }
	idleUntil time.Time
}

func newLimiter(maxInFlight, maxRows int) limiter {
	return limiter{maxInFlight: maxInFlight, maxRows: maxRows, inFlight: maxInFlight, rows: maxRows}
}

// observe takes the latency of a request that began and ended at the times given. Exhausted says that
// the store refused it for load.
func (l *limiter) observe(began, ended time.Time, latency time.Duration, exhausted bool) {
	if began.Before(l.lowered) {
		return
	}
	if exhausted {
		l.lower(ended)
		return
	}
	if len(l.window) == 0 {
		l.windowBegan = began
	}
	l.window = append(l.window, latency)
	if lasted := ended.Sub(l.windowBegan); lasted < shortWindow || lasted < longWindow && len(l.window) < windowCommits {
		return
	}
	slices.Sort(l.window)
	p95 := l.window[(len(l.window)*95+99)/100-1]
	l.window = l.window[:0]
	l.judge(ended, p95)
}

func (l *limiter) judge(now time.Time, p95 time.Duration) {
	switch {
	case p95 > slowCommit:
		l.fastSince = time.Time{}
		l.tooSlow(now, p95)
	case p95 >= fastCommit:
		l.fastSince = time.Time{}
	case l.fastSince.IsZero():
		l.fastSince = now
	case now.Sub(l.fastSince) >= growAfter:
		l.fastSince = now
		l.raise()
	}
}

// tooSlow lowers the limits, unless that was tried down to the floor and did not help: then the store
// is slow for another reason, such as its distance, and small batches would only cost throughput.
func (l *limiter) tooSlow(now time.Time, p95 time.Duration) {
	if now.Before(l.idleUntil) {
		return
	}
	if l.before.micros == 0 {
		l.before.inFlight, l.before.rows, l.before.micros = l.inFlight, l.rows, int(p95.Microseconds())
	}
	if l.inFlight > 1 || l.rows > l.floor() {
		l.lower(now)
		return
	}
	if float64(p95.Microseconds()) > usefulGain*float64(l.before.micros) {
		l.inFlight, l.rows = l.before.inFlight, l.before.rows
		l.idleUntil = now.Add(idleLimits)
	}
	l.before.micros = 0
}

// lower halves what runs at a time and, once that is one, the rows of a batch.
func (l *limiter) lower(now time.Time) {
	if l.inFlight > 1 {
		l.inFlight /= 2
	} else {
		l.rows = max(l.rows/2, l.floor())
	}
	l.lowered, l.fastSince, l.window = now, time.Time{}, l.window[:0]
}

// raise takes back by one step what lower did last: more rows, then one more batch at a time. Steps are
// small, so that the limits come to rest under what was too much instead of swinging around it.
func (l *limiter) raise() {
	l.before.micros = 0
	if l.rows < l.maxRows {
		l.rows = min(l.rows+max(l.maxRows/growShare, 1), l.maxRows)
		return
	}
	l.inFlight = min(l.inFlight+1, l.maxInFlight)
}

func (l *limiter) floor() int { return max(l.maxRows/leastShare, min(leastRows, l.maxRows)) }

// sparseBatches is how many batches are committed at a time while they are not full. One more would only
// make all of them smaller; once they are full, it uses what the others leave idle while they wait.
const sparseBatches = 2

// turns lets as many batches be committed at a time as the limiter allows, in the order in which they
// ask, so that no shard starves.
type turns struct {
	mu      sync.Mutex
	limit   limiter
	busy    int
	waiting []waiter
}

// waiter is a shard that asked for a turn; full tells whether so many rows wait in it.
type waiter struct {
	turn chan struct{}
	full func(rows int) bool
}

func newTurns(l limiter) *turns { return &turns{limit: l} }

// begin waits for a turn and returns how many rows its batch may have. It asks full whether that many wait.
func (t *turns) begin(full func(rows int) bool) (rows int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 && t.admits(full) {
		t.busy++
		return t.limit.rows
	}
	turn := make(chan struct{})
	t.waiting = append(t.waiting, waiter{turn, full})
	t.mu.Unlock()
	<-turn
	t.mu.Lock()
	return t.limit.rows
}

func (t *turns) admits(full func(rows int) bool) bool {
	return t.busy < min(t.limit.inFlight, sparseBatches) || t.busy < t.limit.inFlight && full(t.limit.rows)
}

func (t *turns) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.busy--
	t.admit()
}

func (t *turns) admit() {
	// The first may hold up those behind it, which are full: passing it would let it starve.
	for len(t.waiting) > 0 && t.admits(t.waiting[0].full) {
		t.busy++
		close(t.waiting[0].turn)
		t.waiting = t.waiting[1:]
	}
}

func (t *turns) observe(began, ended time.Time, latency time.Duration, exhausted bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.limit.observe(began, ended, latency, exhausted)
	t.admit()
}

// limits returns how many batches of the route may be committed at a time now, and their rows.
func (r *route) limits() (inFlight, rows int) {
	r.turns.mu.Lock()
	defer r.turns.mu.Unlock()
	return r.turns.limit.inFlight, r.turns.limit.rows
}

// followed is the sink of a route's commits, whose turns follow how long the store takes.
type followed struct {
	next  Sink
	turns *turns
	now   func() time.Time
}

// Put implements Sink. What a request took that failed says nothing about the size of batches, and
// neither do the pauses between the tries of the store's client: smaller batches would have as many.
func (f followed) Put(ctx context.Context, table string, rows []dataset.Row) []error {
	began := f.now()
	ctx, times := roundtrip.Watch(ctx)
	errs := f.next.Put(ctx, table, rows)
	ended := f.now()
	took, known := times.Slowest()
	if times.Made() == 0 { // A sink that is no client of a store.
		took, known = ended.Sub(began), slices.Contains(errs, nil)
	}
	refused := 0
	for _, err := range errs {
		if errors.Is(err, store.ErrExhausted) {
			refused++
		}
	}
	if exhausted := refused > 0 && refused*refusedShare >= len(errs); known || exhausted {
		f.turns.observe(began, ended, took, exhausted)
	}
	return errs
}

package ingest

import (
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/latamctl/latamctl/pkg/store"
)

// A row that could not be stored for a reason that passes is tried again in process, because giving
// its message back costs a delivery attempt and seconds of the subscription's own pause.
const (
	maxRetries                   = 3
	retryFor                     = 2 * time.Second
	minRetryPause, maxRetryPause = 10 * time.Millisecond, 200 * time.Millisecond
)

// delayed are records that wait to be tried again.
type delayed struct {
	failed, due time.Time
	items       []*item
}

// backoff is the pause before a try: it doubles from least to most and is somewhat random, so that
// those who failed together do not come back together.
func backoff(tries int, least, most time.Duration) time.Duration {
	d := most
	if tries = max(tries, 1); tries < 32 && least<<(tries-1) < most {
		d = least << (tries - 1)
	}
	return d/2 + rand.N(d/2+1)
}

// tryAgain puts the records of a row that failed back in front of the shard's next batches, or
// answers them when trying again is pointless. It tells how many it answered.
func (sh *shard) tryAgain(w *winner, cause error, now time.Time) (givenUp int) {
	it := w.item
	for _, older := range w.losers { // They get no more time by meeting a newer record.
		if it.failed.IsZero() || !older.failed.IsZero() && older.failed.Before(it.failed) {
			it.failed = older.failed
		}
	}
	if it.tries++; it.failed.IsZero() {
		it.failed = now
	}
	wait, ok := sh.pauseBefore(it, cause, now)
	if !ok {
		w.tell(cause)
		return 1 + len(w.losers)
	}
	items := append(w.losers, it)
	// The rows of a batch that failed together make one batch again.
	if last := len(sh.waiting) - 1; last >= 0 && sh.waiting[last].failed == now {
		sh.waiting[last].items = append(sh.waiting[last].items, items...)
		return 0
	}
	sh.waiting = append(sh.waiting, delayed{failed: now, due: now.Add(wait), items: items})
	return 0
}

// pauseBefore returns how long a record waits for its next try, and whether it gets one. While the
// route is held, it gets as many as it takes.
func (sh *shard) pauseBefore(it *item, cause error, now time.Time) (time.Duration, bool) {
	r := sh.route
	switch state := r.gate.state.Load(); {
	case r.draining.Load(), state == gateClosed, errors.Is(cause, errPanicked):
		return 0, false
	case state == gateHolding:
		return backoff(it.tries, minProbePause, maxProbePause), true
	case errors.Is(cause, store.ErrMisconfigured), it.tries > maxRetries:
		return 0, false
	}
	wait := backoff(it.tries, minRetryPause, maxRetryPause)
	return wait, now.Add(wait).Sub(it.failed) <= retryFor
}

// nextDue returns when the first of the waiting records is due.
func (sh *shard) nextDue() time.Time {
	return slices.MinFunc(sh.waiting, func(a, b delayed) int { return a.due.Compare(b.due) }).due
}

// takeDue adds the records that are due to a batch, as far as they fit.
func (sh *shard) takeDue(b *batch, rows int) {
	if len(sh.waiting) == 0 {
		return
	}
	now := sh.route.deps.Now()
	for i := range sh.waiting {
		d := &sh.waiting[i]
		for len(d.items) > 0 && !d.due.After(now) && !b.full(rows, sh.route.opts.BatchBytes) {
			b.add(d.items[0])
			d.items = d.items[1:]
		}
	}
	sh.waiting = slices.DeleteFunc(sh.waiting, func(d delayed) bool { return len(d.items) == 0 })
}

// hurry makes all that waits due.
func (sh *shard) hurry() {
	for i := range sh.waiting {
		sh.waiting[i].due = time.Time{}
	}
}

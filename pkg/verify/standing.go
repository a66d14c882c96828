package verify

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// Standing is what the rounds of a standing probe hand on: the canaries that may still come out. The
// zero value is that of a probe that begins.
//
// A single run takes the message of a canary that nobody took out of the subscription again. A
// standing probe must not: whoever looks through a subscription gives back what waits there, and
// Pub/Sub gives up on a message after a number of deliveries. Round after round, an outage of ingest
// would turn the records that wait into dead letters. So the message is left to ingest, the next
// round publishes the same canary once more, and its one row is removed when it comes.
type Standing struct {
	left    []*canary
	letters []*letter
}

// Pending says whether something has not come out yet.
func (s *Standing) Pending() bool {
	return len(s.letters) > 0 || slices.ContainsFunc(s.left, func(c *canary) bool { return !c.seen })
}

// watchedFor is how long the row of a canary that came out late is looked for: its message may have
// been published in several rounds, and each of them stores the row again.
const watchedFor = 10 * time.Minute

// takeOver begins a round with the canaries of those before.
func (r *runner) takeOver() {
	if r.deps.Standing != nil {
		r.canaries, r.letters = slices.Clone(r.deps.Standing.left), slices.Clone(r.deps.Standing.letters)
	}
}

// handOn ends a round: the next one looks for what did not come out, and for what did so late.
func (r *runner) handOn() {
	if r.deps.Standing == nil {
		return
	}
	r.deps.Standing.letters = slices.DeleteFunc(r.letters, func(l *letter) bool { return l.found })
	now := r.deps.Now()
	r.deps.Standing.left = slices.DeleteFunc(r.canaries, func(c *canary) bool {
		switch {
		case !c.seen:
			c.late = true
		case c.late && c.out.IsZero():
			c.out = now
		}
		return c.seen && (!c.late || now.Sub(c.out) > watchedFor)
	})
}

// nextCanary is the one of the rounds before that did not come out, else a new one. One whose row has
// come meanwhile would be readable at once.
func (r *runner) nextCanary(ctx context.Context, ds *dataset.Dataset) (*canary, error) {
	for _, c := range r.canaries {
		if c.ds != ds || !c.late || c.seen {
			continue
		}
		a, err := r.get(ctx, rowPath(ds, c.id))
		if err != nil {
			return nil, err
		}
		if a.status == http.StatusNotFound {
			return c, nil
		}
		c.seen = true
	}
	return r.newCanary(ctx, ds)
}

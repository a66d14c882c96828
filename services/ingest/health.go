package ingest

import (
	"errors"
	"time"
)

// commitErrFor is how long a failed commit makes a route not ready when none follows: without a
// message there is nothing that could show that the store is back.
const commitErrFor = 10 * time.Second

// health is why a route is not ready; each part is nil when it is well.
type health struct {
	receive, commit, stuck error
	commitAt               time.Time
	stuckID                string
}

func (r *route) unready() error {
	r.mu.Lock()
	h := r.health
	r.mu.Unlock()
	if r.deps.Now().Sub(h.commitAt) > commitErrFor {
		h.commit = nil
	}
	return errors.Join(r.gate.why(), h.receive, h.commit, h.stuck)
}

func (r *route) setReceiveErr(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.health.receive = err
}

func (r *route) setCommitErr(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.health.commit, r.health.commitAt = err, r.deps.Now()
}

// setStuck names the message that is stuck, "" for none, and returns the one before.
func (r *route) setStuck(id string, err error) (was string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was = r.health.stuckID
	r.health.stuckID, r.health.stuck = id, err
	return was
}

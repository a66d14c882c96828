package replay

import (
	"context"
	"encoding/binary"
	"maps"
	"sync"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
)

// window keeps track of what was read and written.
//
// Two records of one key and one event time write the same cells, and the later published has to win,
// also when it is not of the window: ingest has stored it already, so that writing the older one now
// would undo it. So the topic is read to its end. Whatever was published after a record of the window
// and has its key and event time keeps that record from being written, or is written behind it.
type window struct {
	opts   Options
	now    func() time.Time
	digest func(key string, event int64) digest

	mu     sync.Mutex
	counts Counts
	seen   memory[placed]
	open   map[string]struct{} // messages of the window that are in work or were given back
	began  time.Time           // when the subscription was ready, zero before
	since  time.Time
	// heard is when something of the window came last or was settled, written when a record was.
	heard, written time.Time
	// forgotten is when the memory last lost keys, zero when it has all.
	forgotten time.Time
	// read is when the window was first found to be read, restless that something was still replaced.
	read     time.Time
	restless bool
}

// placed is what is known of a key and an event time.
type placed struct {
	newest stamp
	inWork int
	// written is when a record of it was last stored here, zero when none was.
	written time.Time
}

func newWindow(opts Options, now func() time.Time) *window {
	digests := newDigester()
	w := &window{
		opts: opts, now: now, open: map[string]struct{}{}, seen: newMemory[placed](opts.MaxKeys),
		counts: Counts{Rejected: map[string]int64{}},
		digest: func(key string, event int64) digest {
			return digests.of(string(binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(key)), uint64(event))) + key)
		},
	}
	w.seen.forget = func(map[digest]placed) { w.forgotten = now() }
	return w
}

// begin notes that the subscription is there.
func (w *window) begin(since time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since, w.began = since, w.now()
}

// horizon is the publish time up to which a record may be one that a write of ours has undone.
func (w *window) horizon() time.Time {
	h := w.opts.To
	if w.written.After(h) {
		h = w.written
	}
	return h.Add(w.opts.ClockSkew)
}

// arrived notes a message. One that is not relevant needs no work.
func (w *window) arrived(m bus.Message) (inWindow, relevant bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts.Read++
	if m.PublishTime.Before(w.opts.From) {
		return false, false
	}
	if m.PublishTime.Before(w.horizon()) {
		w.heard = w.now()
	}
	if !m.PublishTime.Before(w.opts.To) {
		return false, !w.restless
	}
	w.read = time.Time{}
	if _, again := w.open[m.ID]; !again {
		w.counts.Window++
		w.open[m.ID] = struct{}{}
	}
	return true, true
}

// claim takes a record of the window into work, unless a newer one of its key and event time is known.
func (w *window) claim(key digest, mark stamp) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	p, known := w.seen.get(key)
	if known && mark.before(p.newest) {
		return false
	}
	p.newest = mark
	p.inWork++
	w.seen.put(key, p)
	return true
}

// claimLater takes a record from after the window into work when it replaces one that was written here
// or is being written. Ingest has stored it, or will: it has to be stored once more when it may have
// been before our write.
func (w *window) claimLater(key digest, mark stamp) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	p, known := w.seen.get(key)
	if known && mark.before(p.newest) {
		return false
	}
	p.newest = mark
	published := time.Unix(0, mark.published)
	written := p.written
	if !known {
		written = w.forgotten // It may be a key that was written and forgotten.
	}
	claimed := p.inWork > 0 || !written.IsZero() && published.Before(written.Add(w.opts.ClockSkew))
	if claimed {
		p.inWork++
	}
	w.seen.put(key, p)
	return claimed
}

// released ends a claim.
func (w *window) released(key digest, claimed, stored bool) {
	if !claimed {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	p, _ := w.seen.get(key)
	p.inWork = max(0, p.inWork-1)
	// A write that failed may have been done all the same.
	p.written = w.now()
	w.written = p.written
	w.seen.put(key, p)
	if !stored {
		w.counts.Retried++
	}
}

// replaced settles a message of the window without a write.
func (w *window) replaced(m bus.Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts.Replaced++
	delete(w.open, m.ID)
	w.heard = w.now()
}

// settled notes the outcome of a message that was given to ingest.
func (w *window) settled(m bus.Message, inWindow, ack bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heard = w.now()
	switch {
	case !ack:
	case inWindow:
		w.counts.Stored++ // Rejected ones are taken off in the snapshot.
		delete(w.open, m.ID)
	default:
		w.counts.Later++
	}
}

func (w *window) rejected(reason string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts.Rejected[reason]++
}

func (w *window) snapshot() Counts {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.counts
	c.Rejected = maps.Clone(c.Rejected)
	c.Stored = max(0, c.Stored-c.RejectedAll())
	return c
}

func (w *window) report() Report {
	c := w.snapshot()
	w.mu.Lock()
	defer w.mu.Unlock()
	return Report{Counts: c, Since: w.since, Restless: w.restless}
}

// poll is how often the end is looked for.
const poll = 50 * time.Millisecond

// await ends the replay once the window was read.
func (w *window) await(ctx context.Context, stop context.CancelCauseFunc) {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if w.done() {
				stop(errDone)
				return
			}
		}
	}
}

// done tells whether the window was read: everything of it is settled, and for a while nothing came that
// belongs to it or could replace something of it.
func (w *window) done() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	if w.began.IsZero() || len(w.open) > 0 || now.Sub(w.began) < w.opts.QuietFor {
		return false
	}
	if now.Sub(w.heard) >= w.opts.QuietFor {
		return true
	}
	return w.pressed(now)
}

// pressed ends the search for records that replace others after FollowUp. The caller holds the lock.
func (w *window) pressed(now time.Time) bool {
	if w.counts.Later == 0 {
		return false
	}
	if w.read.IsZero() {
		w.read = now
	}
	w.restless = w.restless || now.Sub(w.read) >= w.opts.FollowUp
	return false
}

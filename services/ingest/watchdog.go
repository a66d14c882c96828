package ingest

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// Backlog is a Source that can be asked, past the streams that are open, whether messages wait on a
// subscription. A Source that has it is watched for streams that deliver nothing.
type Backlog interface {
	Waiting(ctx context.Context, subscription string) (bool, error)
}

const (
	// maxExtension is how long the lease of a message is kept up.
	maxExtension = 10 * time.Minute
	// maxCommit is how long a batch may be in the store's hands before the route counts as stuck;
	// each request has a much shorter deadline of its own.
	maxCommit = time.Minute

	watchTick   = time.Second
	lookTimeout = 10 * time.Second
)

// works are the messages in work. Each has a slot, so that one that never ends can be found and told
// to end; taking one costs neither a lock nor memory.
type works struct {
	taken atomic.Uint64 // ever
	slots []slot
}

// slot is a message's place, with a channel that one message after the other is answered by.
type slot struct {
	item atomic.Pointer[item]
	done chan struct{} // made for the first
}

// maxSlots bounds the slots; a message beyond them is not watched.
const maxSlots = 1 << 16

func newWorks(messages int) *works {
	n := 1
	for n < 2*messages && n < maxSlots { // Room for a Receive that has not ended beside the next one.
		n *= 2
	}
	return &works{slots: make([]slot, n)}
}

// enter returns the slot of the item, nil when there is none.
func (w *works) enter(it *item) *slot {
	n := w.taken.Add(1)
	for i := range uint64(len(w.slots)) {
		s := &w.slots[(n+i)%uint64(len(w.slots))]
		if !s.item.CompareAndSwap(nil, it) {
			continue
		}
		if s.done == nil {
			s.done = make(chan struct{}, 1)
		}
		it.done = s.done
		return s
	}
	it.done = make(chan struct{}, 1)
	return nil
}

func (w *works) leave(s *slot) {
	if s != nil {
		s.item.Store(nil)
	}
}

// each calls visit with every message in work.
func (w *works) each(visit func(*item)) {
	for i := range w.slots {
		if it := w.slots[i].item.Load(); it != nil {
			visit(it)
		}
	}
}

// oldest returns the message that is in work for longest, nil when there is none.
func (w *works) oldest() (old *item) {
	w.each(func(it *item) {
		if old == nil || it.began.Before(old.began) {
			old = it
		}
	})
	return old
}

// watch looks at the route every second until the context ends.
func (r *route) watch(ctx context.Context) {
	tick := time.NewTicker(watchTick)
	defer tick.Stop()
	var seen uint64
	quietSince := r.deps.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := r.deps.Now()
		r.rejects.tick(now)
		r.checkStuck(now)
		taken := r.works.taken.Load()
		if taken != seen || r.observed.inFlight.any() || r.gate.state.Load() != gateOpen {
			seen, quietSince = taken, now
			continue
		}
		if now.Sub(quietSince) >= r.opts.WatchAfter {
			r.look(ctx)
			quietSince = r.deps.Now()
		}
	}
}

// look begins a new Receive over a new connection when messages wait that the present one does not deliver.
func (r *route) look(ctx context.Context) {
	source, ok := r.deps.Source.(Backlog)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	taken := r.works.taken.Load()
	waiting, err := source.Waiting(ctx, r.ds.Subscription())
	if err != nil {
		r.deps.Log.DebugContext(ctx, "not known whether messages wait", "dataset", r.ds.Name, "subscription", r.ds.Subscription(), "error", err)
	}
	if !waiting || r.works.taken.Load() != taken {
		return
	}
	r.deps.Log.WarnContext(ctx, "messages wait, but the stream delivers none; receiving over a new connection",
		"dataset", r.ds.Name, "subscription", r.ds.Subscription(), "quiet_for", r.opts.WatchAfter)
	r.observed.platformError(stageStream)
	r.fresh.Store(true)
	r.interrupt(errStreamStuck)
}

// checkStuck makes the route not ready while a message is in work for longer than its lease lasts,
// or a batch is in the store's hands for longer than all its deadlines together.
func (r *route) checkStuck(now time.Time) {
	var id, what string
	var age time.Duration
	if r.observed.inFlight.any() && r.gate.state.Load() == gateOpen {
		for _, sh := range r.shards {
			if since := sh.putting.Load(); since != nil && now.Sub(since.at) > max(maxCommit, age) {
				id, age, what = since.id, now.Sub(since.at), "in the store's hands"
			}
		}
		if old := r.works.oldest(); old != nil && now.Sub(old.began) > max(maxExtension, age) {
			id, age, what = old.message.ID, now.Sub(old.began), "in work"
		}
	}
	var err error
	if id != "" {
		err = fmt.Errorf("stuck: message %s is %s for %s: profile the process at /debug/pprof of its admin address, then restart it; "+
			"the message is not lost", id, what, age.Round(time.Second))
	}
	if was := r.setStuck(id, err); was != id && id != "" {
		r.deps.Log.Error("message stuck", "dataset", r.ds.Name, "message_id", id, "age", age, "where", what)
		r.observed.platformError(stageStuck)
	}
}

// putting is a batch in the store's hands, by its first message.
type putting struct {
	id string
	at time.Time
}

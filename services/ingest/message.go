package ingest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
)

// The stages at which a record can be rejected, as the dead letter names them, and those at which
// none is: the upkeep of indexes, a pause, a stream without messages and a message without an end.
const (
	stageDecode = "decode"
	stageCommit = "commit"
	stageIndex  = "index"
	stagePause  = "pause"
	stageStream = "stream"
	stageStuck  = "stuck"
)

// handle settles one message: true acknowledges it, false gives it back. It blocks until the
// outcome is known, which is what keeps the client's flow control honest. There is a goroutine for
// each message, so it does nothing but wait: decoders and shards do the work on stacks that have
// grown once.
func (r *route) handle(ctx context.Context, m bus.Message) (ack bool) {
	it := &item{message: m, ctx: ctx, traced: ctx, began: r.deps.Now()}
	r.observed.inFlight.enter()
	defer r.observed.inFlight.leave()
	slot := r.works.enter(it)
	defer r.works.leave(slot)
	err := r.work(it)
	for tries := 1; r.holds(err); tries++ {
		pause(ctx, backoff(tries, minProbePause, maxProbePause))
		if ctx.Err() != nil {
			break
		}
		err = r.work(it)
	}
	if err != nil {
		return r.settleFailed(it, err)
	}
	if !it.committed.IsZero() {
		r.observed.acknowledged(it.traced, r.deps.Now().Sub(it.committed))
	}
	return true
}

// work hands a message to the decoders and waits for its outcome.
func (r *route) work(it *item) error {
	it.waiting.Store(true)
	r.arriving.enter()
	r.incoming <- it
	<-it.done
	return it.err
}

// holds tells whether to keep a message that cannot be decoded now: while the route is probed, giving it
// back would cost a delivery attempt each time.
func (r *route) holds(cause error) bool {
	return cause != nil && unreadable(cause) && r.gate.state.Load() == gateHolding && !r.draining.Load()
}

// settleFailed finds the outcome of a message that is not stored; every path through it ends in one.
func (r *route) settleFailed(it *item, cause error) (ack bool) {
	if errors.Is(cause, errGivenUp) { // A decoder or a shard may still have it in hands.
		r.observed.record(outcomeError, stageCommit)
		r.observed.unsettled(it.ctx, nil, r.deps.Now().Sub(it.began), false)
		return false
	}
	defer func() { r.observed.unsettled(it.traced, it.process, r.deps.Now().Sub(it.began), ack) }()
	var undecoded decodeError
	switch {
	case errors.As(cause, &undecoded):
		if unreadable(cause) && !errors.Is(cause, bus.ErrUnavailable) {
			r.suspend(gateHolding, noSchema(undecoded.cause))
		}
		if !rejected(cause) || r.refuses(cause) {
			return r.giveBack(it.traced, stageDecode)
		}
		return r.reject(it.traced, it.message, stageDecode, undecoded.cause)
	case errors.Is(cause, store.ErrPoison):
		return r.reject(it.traced, it.message, stageCommit, cause)
	}
	return r.giveBack(it.traced, stageCommit)
}

// logPanic reports a panic without its value, which may hold a part of the payload.
func (r *route) logPanic(stage, message string, value any) {
	what := fmt.Sprintf("%T", value)
	if fault, ok := value.(runtime.Error); ok {
		what = fault.Error()
	}
	r.deps.Log.Error("a bug in latamctl: the message is given back, please report it", "dataset", r.ds.Name,
		"stage", stage, "message_id", message, "panic", what, "stack", string(debug.Stack()))
	r.observed.platformError(stage)
}

// giveBack returns a message to Pub/Sub after a pause, which keeps a fault from being a storm.
func (r *route) giveBack(ctx context.Context, stage string) bool {
	r.observed.record(outcomeError, stage)
	pause(ctx, r.opts.RetryDelay)
	return false
}

// shardFor spreads keys over the shards by their hashes; the same key always meets the same shard. It
// looks at the upper half, since the tables of a shard are filled by the lower one.
func (r *route) shardFor(hash uint64) *shard { return r.shards[hash>>32%uint64(len(r.shards))] }

// reject hands a record to the dead-letter topic. The message is acknowledged only when it is
// safe there; else it comes back and is rejected again.
func (r *route) reject(ctx context.Context, m bus.Message, stage string, cause error) bool {
	// The context ends when a drain begins, which must not lose a rejection under way.
	publishing, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.opts.DrainTimeout)
	defer cancel()
	letter := deadLetter(r.ds, m, stage, cause)
	if _, err := r.deps.DeadLetters.Publish(publishing, r.ds.DeadLetterTopic(), fit(m.Data, letter), letter); err != nil {
		r.deps.Log.ErrorContext(ctx, "dead letter not published, the message will be redelivered",
			"dataset", r.ds.Name, "topic", r.ds.DeadLetterTopic(), "message_id", m.ID, "error", err)
		r.observed.platformError("dead_letter")
		return r.giveBack(ctx, stage)
	}
	r.observed.record(outcomeRejected, stage)
	r.deps.Log.DebugContext(ctx, "record rejected", "dataset", r.ds.Name, "stage", stage,
		"message_id", m.ID, "reason", letter[bus.AttrReason], "field", letter[bus.AttrField])
	return true
}

// rejection returns the reason and the field that a dead letter names.
func rejection(cause error) (reason, field string) {
	var reject *dataset.RejectError
	if errors.As(cause, &reject) {
		return string(reject.Reason), reject.Field
	}
	return "refused_by_store", ""
}

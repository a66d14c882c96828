package ingest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"go.opentelemetry.io/otel/trace"

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
// outcome is known, which is what keeps the client's flow control honest.
func (r *route) handle(ctx context.Context, m bus.Message) bool {
	start := r.deps.Now()
	ctx, receipt := r.observed.receive(ctx, r.ds, m, start)
	ack := r.settle(ctx, m, start)
	r.observed.settled(ctx, receipt, r.deps.Now().Sub(start), ack)
	return ack
}

// settle finds the outcome of a message; every path through it ends in one.
func (r *route) settle(ctx context.Context, m bus.Message, start time.Time) (ack bool) {
	it := &item{
		id: m.ID, began: start, sent: m.PublishTime, again: m.DeliveryAttempt > 1,
		span: trace.SpanContextFromContext(ctx), done: make(chan error, 1),
	}
	slot := r.works.enter(it)
	defer r.works.leave(slot)
	defer func() {
		if p := recover(); p != nil {
			r.logPanic(stageDecode, m.ID, p)
			ack = r.giveBack(ctx, stageDecode)
		}
	}()
	if err := r.take(ctx, m, it); err != nil {
		if !rejected(err) || r.refuses(err) {
			return r.giveBack(ctx, stageDecode)
		}
		return r.reject(ctx, m, stageDecode, err)
	}
	err := <-it.done
	switch {
	case err == nil:
		now := r.deps.Now()
		r.observed.stored(ctx, now.Sub(m.PublishTime))
		r.observed.acknowledged(ctx, it.committed, now)
		return true
	case errors.Is(err, store.ErrPoison):
		return r.reject(ctx, m, stageCommit, err)
	}
	return r.giveBack(ctx, stageCommit)
}

// take decodes a message and hands it to its shard.
func (r *route) take(ctx context.Context, m bus.Message, it *item) error {
	r.arriving.enter()
	defer r.arriving.leave()
	rec, err := r.decode(ctx, m, it.began)
	it.submitted = r.deps.Now()
	r.observed.decoded(ctx, it.submitted.Sub(it.began))
	if err != nil {
		return err
	}
	r.passes()
	it.published = recordTime(m)
	it.row = rec.Row(it.published)
	it.entries = r.ds.IndexEntries(rec, it.row.Time)
	r.shardFor(it.row.Key).submit(it)
	return nil
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

// shardFor spreads keys over the shards; the same key always meets the same shard.
func (r *route) shardFor(key string) *shard {
	const offset, prime = 14695981039346656037, 1099511628211 // FNV-1a
	h := uint64(offset)
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * prime
	}
	return r.shards[h%uint64(len(r.shards))]
}

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

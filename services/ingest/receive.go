package ingest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
)

const (
	minReceiveBackoff = 250 * time.Millisecond
	maxReceiveBackoff = 10 * time.Second
	healthyAfter      = 2 * time.Second
	// flushTime is the part of a drain that is kept for sending what was given back at its end.
	flushTime = time.Second
	// stuckStreamWait bounds the wait for the end of a Receive that holds no message.
	stuckStreamWait = 2 * time.Second
)

// run receives and stores until the context ends, and then for as long as the drain may take.
func (r *route) run(ctx context.Context) {
	stop := make(chan struct{})
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() { r.decodeAll(stop) })
	}
	for _, sh := range r.shards {
		workers.Go(func() { sh.run(stop) })
	}
	if r.index != nil {
		workers.Go(func() { r.index.build(ctx) })
	}
	workers.Go(func() { r.watch(ctx) })
	var drainBy atomic.Pointer[time.Time]
	defer context.AfterFunc(ctx, func() {
		by := r.deps.Now().Add(r.opts.DrainTimeout)
		drainBy.Store(&by)
		r.draining.Store(true)
		r.hurry()
	})()

	r.receiveAll(ctx)
	close(stop)
	ended := make(chan struct{})
	go func() { workers.Wait(); close(ended) }()
	wait := r.opts.DrainTimeout
	if by := drainBy.Load(); by != nil {
		wait = by.Sub(r.deps.Now())
	}
	select {
	case <-ended:
		return
	default:
	}
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	select {
	case <-ended:
	case <-timeout.C:
		r.deps.Log.Warn("a commit did not end in time", "dataset", r.ds.Name, "timeout", r.opts.DrainTimeout)
	}
}

// receiveAll receives until the context ends: again after an error or a stuck stream, and a little at
// a time while the route is paused.
func (r *route) receiveAll(ctx context.Context) {
	backoff := minReceiveBackoff
	for ctx.Err() == nil {
		if r.gate.state.Load() != gateOpen {
			r.probe(ctx)
			continue
		}
		lasted, err := r.receive(ctx, gateOpen, bus.ReceiveOptions{
			MaxMessages: r.opts.MaxMessages, MaxBytes: r.opts.MaxBytes, MaxExtension: maxExtension,
		})
		if lasted {
			backoff = minReceiveBackoff
		}
		if ctx.Err() != nil || err == nil {
			continue
		}
		r.noteReceiveEnd(err, backoff)
		pause(ctx, backoff)
		backoff = min(2*backoff, maxReceiveBackoff)
	}
}

func (r *route) noteReceiveEnd(err error, retryIn time.Duration) {
	r.setReceiveErr(fmt.Errorf("receive: %w", err))
	r.deps.Log.Error("receive ended", "dataset", r.ds.Name, "subscription", r.ds.Subscription(), "error", err, "retry_in", retryIn)
	r.observed.platformError("receive")
}

// receive handles messages until the context ends, the subscription cannot be read, or it is
// interrupted, which is no error. It does not begin when the gate is no longer in the state. It
// tells whether the subscription could be read for a while, which is when the route counts as healthy.
func (r *route) receive(ctx context.Context, state int32, opts bus.ReceiveOptions) (lasted bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.setInterrupt(cancel)
	defer r.setInterrupt(nil)
	if r.gate.state.Load() != state {
		return false, nil
	}
	var healthy atomic.Bool
	settle := time.AfterFunc(healthyAfter, func() {
		healthy.Store(true)
		r.setReceiveErr(nil)
	})
	defer settle.Stop()
	opts.Fresh = r.fresh.Load()
	ended := make(chan error, 1)
	go func() { ended <- r.deps.Source.Receive(ctx, r.ds.Subscription(), opts, r.handle) }()
	select {
	case err = <-ended:
		if err == nil && ctx.Err() == nil {
			err = errors.New("the source ended")
		}
	case <-ctx.Done():
		err = r.drain(ended, context.Cause(ctx))
	}
	return healthy.Load(), err
}

// drain waits for the messages in work, yet not for ever: shortly before its time is over, what is
// not settled is given back, rather than left for its lease to end.
func (r *route) drain(ended <-chan error, cause error) error {
	wait := r.opts.DrainTimeout
	if errors.Is(cause, errStreamStuck) {
		wait = min(wait, stuckStreamWait)
	}
	flush := min(flushTime, wait/4)
	timeout := time.NewTimer(wait - flush)
	defer timeout.Stop()
	select {
	case err := <-ended:
		return err
	case <-timeout.C:
	}
	given := 0
	r.works.each(func(it *item) { it.answer(errGivenUp); given++ })
	r.deps.Log.Warn("drain timed out, unsettled messages are given back",
		"dataset", r.ds.Name, "timeout", wait, "messages", given)
	timeout.Reset(flush)
	select {
	case err := <-ended:
		return err
	case <-timeout.C:
		return nil
	}
}

var errGivenUp = errors.New("the drain has timed out")

func (r *route) setInterrupt(cancel context.CancelCauseFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cancelReceive = cancel
}

// interrupt ends the present Receive.
func (r *route) interrupt(cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cancelReceive != nil {
		r.cancelReceive(cause)
	}
}

// hurry has the shards try at once what waits for its next try.
func (r *route) hurry() {
	for _, sh := range r.shards {
		select {
		case sh.wake <- struct{}{}:
		default:
		}
	}
}

// pause waits for d or the end of the context.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

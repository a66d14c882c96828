package store

import (
	"context"
	"sync"
	"time"
)

// hedger decides when a read that has no answer yet is sent once more.
type hedger struct {
	after time.Duration

	mu     sync.Mutex
	credit int
}

// A hedge costs as much credit as hedgeCost reads bring, so that hedges are at most one in twenty
// requests however slow the server is, but for a few at the beginning.
const (
	hedgeCost   = 20
	hedgeCredit = 10 * hedgeCost
)

func newHedger(after time.Duration) *hedger {
	if after == 0 {
		return nil
	}
	return &hedger{after: after, credit: hedgeCredit}
}

func (h *hedger) earn() {
	h.mu.Lock()
	h.credit = min(h.credit+1, hedgeCredit)
	h.mu.Unlock()
}

func (h *hedger) spend() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.credit < hedgeCost {
		return false
	}
	h.credit -= hedgeCost
	return true
}

type outcome[T any] struct {
	value T
	err   error
}

// hedged runs a read, and the same once more when it takes longer than the hedger waits. The first
// result without an error wins and the other read is cancelled; a nil hedger runs it once.
func hedged[T any](ctx context.Context, h *hedger, read func(context.Context) (T, error)) (T, error) {
	if h == nil {
		return read(ctx)
	}
	h.earn()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan outcome[T], 2)
	start := func() {
		value, err := read(ctx)
		results <- outcome[T]{value, err}
	}
	go start()
	timer := time.NewTimer(h.after)
	defer timer.Stop()
	running := 1
	for {
		select {
		case r := <-results:
			if running--; r.err == nil || running == 0 {
				return r.value, r.err
			}
		case <-timer.C:
			if h.spend() {
				running++
				go start()
			}
		}
	}
}

package store_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/latamctl/latamctl/pkg/store"
)

// slow hangs in every nth call until the caller lets go of it.
func slow(nth int) func(context.Context, int, []string) error {
	return func(ctx context.Context, call int, _ []string) error {
		if call%nth == nth-1 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(300 * time.Millisecond):
			}
		}
		return nil
	}
}

func p99(t *testing.T, c *store.Client, n int) time.Duration {
	t.Helper()
	took := make([]time.Duration, n)
	for i := range took {
		start := time.Now()
		checkGet(t, c, "k")
		took[i] = time.Since(start)
	}
	slices.Sort(took)
	return took[n*99/100]
}

func TestHedgeCutsTheTail(t *testing.T) {
	t.Parallel()
	const gets = 120
	plain := &readServer{hook: slow(40)}
	hedged := &readServer{hook: slow(40)}
	without := p99(t, serve(t, plain, store.Options{}), gets)
	with := p99(t, serve(t, hedged, store.Options{HedgeAfter: 15 * time.Millisecond}), gets)
	if without < 300*time.Millisecond || with >= without {
		t.Errorf("p99 is %s without and %s with hedging", without, with)
	}
	if n := len(plain.seen()); n != gets {
		t.Errorf("%d requests for %d gets without hedging", n, gets)
	}
	// One in forty hangs; a busy machine makes some others slow as well, but never more than the budget.
	if n := len(hedged.seen()); n <= gets || n > gets+gets/20+10 {
		t.Errorf("%d requests for %d gets with hedging", n, gets)
	}
}

// A server that is always slow must not get twice the load.
func TestHedgesAreBounded(t *testing.T) {
	t.Parallel()
	const gets = 100
	server := &readServer{hook: func(ctx context.Context, _ int, _ []string) error {
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
		return nil
	}}
	p99(t, serve(t, server, store.Options{HedgeAfter: time.Microsecond}), gets)
	if n := len(server.seen()); n <= gets || n > gets+gets/20+10 {
		t.Errorf("%d requests for %d gets, want at most one in twenty more and ten at the start", n, gets)
	}
}

// A hedge that fails leaves the first request its chance, and the other way round.
func TestHedgeFails(t *testing.T) {
	t.Parallel()
	for _, failing := range []int{0, 1} {
		both := make(chan struct{})
		server := &readServer{hook: func(_ context.Context, call int, _ []string) error {
			if call == 1 {
				close(both)
			}
			<-both
			if call == failing {
				return status.Error(codes.Internal, "scripted")
			}
			return nil
		}}
		checkGet(t, serve(t, server, store.Options{HedgeAfter: time.Millisecond}), "k")
		if n := len(server.seen()); n != 2 {
			t.Errorf("%d requests, want 2", n)
		}
	}
}

func TestHedgeReportsTheError(t *testing.T) {
	t.Parallel()
	server := &readServer{hook: func(context.Context, int, []string) error { return status.Error(codes.NotFound, "scripted") }}
	_, err := serve(t, server, store.Options{HedgeAfter: time.Minute}).Get(t.Context(), "t", "k", nil)
	checkKind(t, "get", err, store.ErrMisconfigured)
}

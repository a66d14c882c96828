package ingest

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/pkg/telemetry/roundtrip"
)

// commits has the limiter see n commits of a latency, one after the other.
func commits(l *limiter, now *time.Time, n int, latency time.Duration) {
	for range n {
		began := *now
		*now = now.Add(latency)
		l.observe(began, *now, latency, false)
	}
}

func TestLimiter(t *testing.T) {
	t.Parallel()
	const fast, fair, slow = 5 * time.Millisecond, 30 * time.Millisecond, 100 * time.Millisecond
	halve := func(l *limiter, now *time.Time, times int) {
		for range times {
			*now = now.Add(time.Second)
			l.observe(*now, *now, fast, true)
		}
	}
	for _, tc := range []struct {
		name           string
		steps          func(l *limiter, now *time.Time)
		inFlight, rows int
	}{
		{"begins with all", func(*limiter, *time.Time) {}, 4, 500},
		{"fair commits change nothing", func(l *limiter, now *time.Time) { commits(l, now, 1000, fair) }, 4, 500},
		{"a slow window halves what runs at a time", func(l *limiter, now *time.Time) { commits(l, now, 20, slow) }, 2, 500},
		{"fewer commits are no window yet", func(l *limiter, now *time.Time) { commits(l, now, 19, slow) }, 4, 500},
		{"stalls are not the store", func(l *limiter, now *time.Time) {
			for range 10 {
				commits(l, now, 100, fast)
				commits(l, now, 4, 10*slow)
			}
		}, 4, 500},
		{"few slow commits are judged after a while", func(l *limiter, now *time.Time) { commits(l, now, 1, 3*time.Second) }, 2, 500},
		{"then it halves the rows", func(l *limiter, now *time.Time) { commits(l, now, 60, slow) }, 1, 250},
		{"an overload counts at once", func(l *limiter, now *time.Time) { halve(l, now, 1) }, 2, 500},
		{"down to a floor", func(l *limiter, now *time.Time) { halve(l, now, 20) }, 1, 125},
		{"commits that overlap one overload halve once", func(l *limiter, now *time.Time) {
			began := *now
			for range 4 {
				*now = now.Add(time.Millisecond)
				l.observe(began, *now, fast, true)
			}
		}, 2, 500},
		{"fast commits for less than five seconds", func(l *limiter, now *time.Time) {
			halve(l, now, 1)
			commits(l, now, 900, fast)
		}, 2, 500},
		{"fast commits for five seconds", func(l *limiter, now *time.Time) {
			halve(l, now, 1)
			commits(l, now, 1100, fast)
		}, 3, 500},
		{"rows grow back first", func(l *limiter, now *time.Time) {
			halve(l, now, 20)
			commits(l, now, 2100, fast)
		}, 1, 225},
		{"and then all", func(l *limiter, now *time.Time) {
			halve(l, now, 20)
			commits(l, now, 13_000, fast)
		}, 4, 500},
		{"a fair window begins the five seconds anew", func(l *limiter, now *time.Time) {
			halve(l, now, 1)
			commits(l, now, 900, fast)
			commits(l, now, 20, fair)
			commits(l, now, 900, fast)
		}, 2, 500},
		// The store is far away: smaller batches do not help, so they are given up for a minute.
		{"in vain", func(l *limiter, now *time.Time) { commits(l, now, 400, slow) }, 4, 500},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			l, now := newLimiter(4, 500), time.Unix(1, 0)
			tc.steps(&l, &now)
			if l.inFlight != tc.inFlight || l.rows != tc.rows {
				t.Errorf("%d at a time with %d rows, want %d with %d", l.inFlight, l.rows, tc.inFlight, tc.rows)
			}
		})
	}
}

// storeModel is a store whose latency grows with the rows that it has in hands, and steeply beyond what it can do.
type storeModel struct{ capacity float64 }

func (m storeModel) latency(rows, inHands int) time.Duration {
	ms := 4 + 0.01*float64(rows)
	if over := float64(inHands) / m.capacity; over > 1 {
		ms *= math.Pow(over, 2)
	}
	return time.Duration(ms * float64(time.Millisecond))
}

// simulate offers more than can be stored from begin to end and returns the rows stored a second and
// the 95th percentile of the latency.
func simulate(l *limiter, m storeModel, begin, end time.Time, adapts bool) (rate float64, p95 time.Duration) {
	type commit struct {
		began, ends time.Time
		rows        int
	}
	var running []commit
	var latencies []time.Duration
	rows, inHands, now := 0, 0, begin
	for now.Before(end) {
		for len(running) < l.inFlight {
			inHands += l.rows
			running = append(running, commit{now, now.Add(m.latency(l.rows, inHands)), l.rows})
		}
		slices.SortFunc(running, func(a, b commit) int { return a.ends.Compare(b.ends) })
		c := running[0]
		running, now, inHands, rows = running[1:], c.ends, inHands-c.rows, rows+c.rows
		latencies = append(latencies, c.ends.Sub(c.began))
		if adapts {
			l.observe(c.began, c.ends, c.ends.Sub(c.began), false)
		}
	}
	slices.Sort(latencies)
	return float64(rows) / end.Sub(begin).Seconds(), latencies[len(latencies)*95/100]
}

// TestLimiterSettles offers too much to stores of all sizes: the latency comes under its limit, the
// rate stays near the best that is possible under it, and a store that recovers gets all again.
func TestLimiterSettles(t *testing.T) {
	t.Parallel()
	for _, capacity := range []float64{60, 150, 400, 800, 1600, 1e9} {
		t.Run(fmt.Sprint(capacity), func(t *testing.T) {
			t.Parallel()
			m := storeModel{capacity}
			best := 0.0
			for inFlight := range 4 {
				for rows := 50; rows <= 500; rows += 10 {
					fixed := limiter{inFlight: inFlight + 1, rows: rows}
					if rate, p95 := simulate(&fixed, m, time.Unix(0, 0), time.Unix(2, 0), false); p95 <= slowCommit {
						best = max(best, rate)
					}
				}
			}
			l := newLimiter(4, 500)
			simulate(&l, m, time.Unix(0, 0), time.Unix(60, 0), true)
			rate, p95 := simulate(&l, m, time.Unix(60, 0), time.Unix(120, 0), true)
			t.Logf("%.0f rows a second of %.0f, p95 %v, at the end %d of %d rows", rate, best, p95, l.inFlight, l.rows)
			if p95 > slowCommit*3/2 {
				t.Errorf("p95 %v, want it near %v", p95, slowCommit)
			}
			if rate < best/4 {
				t.Errorf("%.0f rows a second, %.0f are possible", rate, best)
			}
			simulate(&l, storeModel{1e9}, time.Unix(120, 0), time.Unix(190, 0), true)
			if l.inFlight != 4 || l.rows != 500 {
				t.Errorf("%d at a time with %d rows 70s after the store recovered", l.inFlight, l.rows)
			}
		})
	}
}

// TestTurnsAreFair has many shards ask for one turn again and again.
func TestTurnsAreFair(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(newLimiter(1, 500))
		counts := make([]int, 4)
		var busy, most int
		var mu sync.Mutex
		var shards sync.WaitGroup
		for i := range counts {
			shards.Go(func() {
				for end := time.Now().Add(time.Second); time.Now().Before(end); {
					turns.begin(func(int) bool { return false })
					mu.Lock()
					busy++
					most = max(most, busy)
					mu.Unlock()
					time.Sleep(time.Millisecond)
					counts[i]++
					mu.Lock()
					busy--
					mu.Unlock()
					turns.end()
				}
			})
		}
		shards.Wait()
		for i, n := range counts {
			if n < 240 || n > 260 {
				t.Errorf("shard %d had %d of 1000 turns, want 250", i, n)
			}
		}
		if most != 1 {
			t.Errorf("%d at a time, the limit is 1", most)
		}
	})
}

// TestSparseBatches checks that more than two batches are committed at a time only when they are full,
// and that a full one does not pass one that is not.
func TestSparseBatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(newLimiter(4, 500))
		var waiting sync.WaitGroup
		defer waiting.Wait()
		var admitted [4]atomic.Bool
		var rows [4]atomic.Int64
		begin := func(i int) {
			waiting.Go(func() {
				turns.begin(func(most int) bool { return int(rows[i].Load()) >= most })
				admitted[i].Store(true)
			})
			synctest.Wait()
		}
		want := func(what string, want ...bool) {
			t.Helper()
			for i := range admitted {
				if admitted[i].Load() != want[i] {
					t.Errorf("%s: shard %d has a turn: %v, want %v", what, i, admitted[i].Load(), want[i])
				}
			}
		}
		begin(0)
		begin(1)
		rows[2].Store(499)
		begin(2)
		want("two run, and one waits that is not full", true, true, false, false)
		rows[3].Store(500)
		begin(3)
		want("a full one comes behind it", true, true, false, false)
		rows[2].Store(500)
		turns.end() // of shard 0
		synctest.Wait()
		want("both are full and one has ended", true, true, true, true)
		for range 3 {
			turns.end()
		}
		admitted[0].Store(false)
		begin(0)
		want("nothing runs", true, true, true, true)
		turns.end()
	})
}

// TestSlowStoreLowersLimits checks that the service follows the limits: fewer batches at a time.
func TestSlowStoreLowersLimits(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		var delay atomic.Int64
		delay.Store(int64(200 * time.Millisecond))
		var mu sync.Mutex
		running, most := 0, 0
		count := func(n int) {
			mu.Lock()
			defer mu.Unlock()
			running += n
			most = max(most, running)
		}
		h.sink.during = func(context.Context, []dataset.Row) {
			count(1)
			time.Sleep(time.Duration(delay.Load()))
			count(-1)
		}
		h.start(Options{Shards: 4, BatchRows: 200})
		load := func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
				for range 64 {
					h.send(event(fmt.Sprint("k", h.sent%64), 1)) // So many keys have some for every shard.
				}
			}
		}
		r := h.svc.routes[0]
		load(6 * time.Second)
		if inFlight, _ := r.limits(); inFlight != 1 {
			t.Errorf("%d at a time to a slow store, want 1", inFlight)
		}
		mu.Lock()
		if most != 4 {
			t.Errorf("%d batches at a time at first, want 4", most)
		}
		most = 0
		mu.Unlock()
		load(time.Second)
		mu.Lock()
		if most != 1 {
			t.Errorf("%d batches at a time, the limit was 1", most)
		}
		mu.Unlock()
		delay.Store(int64(2 * time.Millisecond))
		load(time.Minute)
		if inFlight, rows := r.limits(); inFlight != 4 || rows != 200 {
			t.Errorf("%d at a time with %d rows to a store that is fast again, want all", inFlight, rows)
		}
		h.end()
	})
}

func TestLimiterFloor(t *testing.T) {
	t.Parallel()
	for most, want := range map[int]int{1: 1, 20: 20, 50: 50, 60: 50, 200: 50, 500: 125, 5000: 1250} {
		l, now := newLimiter(4, most), time.Unix(1, 0)
		for range 20 {
			now = now.Add(time.Second)
			l.observe(now, now, 0, true)
		}
		if l.inFlight != 1 || l.rows != want {
			t.Errorf("of %d rows %d are left with %d at a time, want %d with one", most, l.rows, l.inFlight, want)
		}
	}
}

// attempt is one request of a store's client.
type attempt struct {
	took time.Duration
	err  error         // io.EOF after an answer
	then time.Duration // the client's pause after it
}

type attemptStream struct {
	grpc.ClientStream
	attempt
}

func (s attemptStream) RecvMsg(any) error {
	time.Sleep(s.took)
	return s.err
}

// asClient makes requests as the client of a store does.
func asClient(ctx context.Context, attempts []attempt) {
	for _, a := range attempts {
		open := func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
			return attemptStream{attempt: a}, nil
		}
		if stream, err := roundtrip.Interceptor(ctx, nil, nil, "MutateRows", open); err == nil {
			_ = stream.RecvMsg(nil)
		}
		time.Sleep(a.then)
	}
}

// TestLimitsFollowTheStore tells what the limits hear of a commit.
func TestLimitsFollowTheStore(t *testing.T) {
	t.Parallel()
	const fast, slow = 5 * time.Millisecond, 100 * time.Millisecond
	lost := status.Error(codes.Unavailable, "lost")
	some := func(n int, kind error) func([]dataset.Row) []error {
		return func(rows []dataset.Row) []error {
			errs := make([]error, len(rows))
			for i := range n {
				errs[i] = kind
			}
			return errs
		}
	}
	tooMuch := fmt.Errorf("%w: %w", store.ErrUnavailable, store.ErrExhausted)
	for _, tc := range []struct {
		name     string
		wait     time.Duration // of a sink that is no client
		attempts []attempt
		answer   func([]dataset.Row) []error
		lowers   bool
	}{
		{name: "fast", attempts: []attempt{{took: fast, err: io.EOF}}},
		{name: "slow", attempts: []attempt{{took: slow, err: io.EOF}}, lowers: true},
		{name: "slow without a client", wait: slow, lowers: true},
		{name: "slow, and some rows failed", wait: slow, answer: some(3, store.ErrUnavailable), lowers: true},
		{name: "slow to fail", wait: slow, answer: some(8, store.ErrUnavailable)},
		{name: "slow to fail at a client", attempts: []attempt{{took: slow, err: lost}}, answer: some(8, store.ErrUnavailable)},
		{name: "ambiguous, then fast", attempts: []attempt{{fast, lost, slow}, {fast, lost, slow}, {took: fast, err: io.EOF}}},
		{name: "ambiguous, then slow", attempts: []attempt{{fast, lost, slow}, {took: slow, err: io.EOF}}, lowers: true},
		{name: "too much", attempts: []attempt{{took: fast, err: lost}}, answer: some(8, tooMuch), lowers: true},
		{name: "too much for a quarter", attempts: []attempt{{took: fast, err: io.EOF}}, answer: some(2, tooMuch), lowers: true},
		{name: "too much for fewer", attempts: []attempt{{took: fast, err: io.EOF}}, answer: some(1, tooMuch)},
		{name: "bad rows", attempts: []attempt{{took: fast, err: io.EOF}}, answer: some(8, store.ErrPoison)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				sink := &fakeSink{stored: map[string]dataset.Row{}, answer: tc.answer, during: func(ctx context.Context, _ []dataset.Row) {
					asClient(ctx, tc.attempts)
					time.Sleep(tc.wait)
				}}
				turns := newTurns(newLimiter(4, 500))
				f := followed{next: sink, turns: turns, now: time.Now}
				// No more than one window, so that a descent in vain is not taken back.
				for end := time.Now().Add(longWindow); time.Now().Before(end) && turns.limit.inFlight == 4; {
					f.Put(t.Context(), "t", make([]dataset.Row, 8))
				}
				if lowered := turns.limit.inFlight < 4; lowered != tc.lowers {
					t.Errorf("%d at a time of 4; lowered: %v, want %v", turns.limit.inFlight, lowered, tc.lowers)
				}
			})
		})
	}
}

// TestSmallBatchesOutlastAmbiguousCommits has a store that answers a quarter of its requests with an
// error, and whose client tries again after pauses: small batches keep their size and number.
func TestSmallBatchesOutlastAmbiguousCommits(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		var mu sync.Mutex
		rng := rand.New(rand.NewPCG(1, 1))
		h.sink.during = func(ctx context.Context, _ []dataset.Row) {
			var attempts []attempt
			mu.Lock()
			for rng.Float64() < 0.25 {
				attempts = append(attempts, attempt{3 * time.Millisecond, status.Error(codes.Unavailable, "lost"), time.Duration(rng.Int64N(int64(100 * time.Millisecond)))})
			}
			mu.Unlock()
			asClient(ctx, append(attempts, attempt{took: 3 * time.Millisecond, err: io.EOF}))
		}
		h.start(Options{BatchRows: 50, Shards: 2})
		began := time.Now()
		outcomes := make([]chan bool, 10_000)
		for i := range outcomes {
			outcomes[i] = h.send(event(fmt.Sprint("k", i), 1))
		}
		for i, outcome := range outcomes {
			if !<-outcome {
				t.Fatalf("record %d was given back", i)
			}
		}
		if inFlight, rows := h.svc.routes[0].limits(); inFlight != 2 || rows != 50 {
			t.Errorf("%d at a time with %d rows to a store that is fast and loses answers, want 2 with 50", inFlight, rows)
		}
		// A commit lasts for 21 ms on average.
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("%d records took %v, want about 2.1s", len(outcomes), took)
		}
		h.end()
	})
}

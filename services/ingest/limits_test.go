package ingest

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
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
					turns.begin()
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
		h.start(Options{Shards: 4})
		load := func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
				for i := range 64 { // So many that each shard has some.
					h.send(event(fmt.Sprint("k", i), 1))
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
		if inFlight, rows := r.limits(); inFlight != 4 || rows != 500 {
			t.Errorf("%d at a time with %d rows to a store that is fast again, want all", inFlight, rows)
		}
		h.end()
	})
}

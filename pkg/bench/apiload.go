package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// load offers prepared requests to one address over a fixed number of connections.
type load struct {
	name, target string
	addr         string
	requests     [][]byte
	connections  int
	during       time.Duration

	took    Histogram
	done    atomic.Int64
	failed  atomic.Int64
	first   atomic.Pointer[error] // the first failure
	started time.Time
	next    atomic.Int64
}

const (
	requestTimeout = 10 * time.Second
	// loadGrace bounds the wait for requests that are late at the end of a run.
	loadGrace = 5 * time.Second
)

// run offers a rate, or with 0 as much as the connections take. In the open loop requests are due
// at fixed times and a latency counts from then, also while the request waits for a connection:
// so a server that stands still is charged for every request that it holds up.
func (l *load) run(ctx context.Context, rate int) (Run, error) {
	ctx, cancel := context.WithTimeout(ctx, l.during+loadGrace+requestTimeout)
	defer cancel()
	schedule := Schedule{PerSecond: rate, For: l.during}
	var all sync.WaitGroup
	l.started = time.Now()
	for i := range l.connections {
		all.Go(func() {
			c := &httpConn{addr: l.addr, timeout: requestTimeout}
			defer c.close()
			random := rand.New(rand.NewPCG(1, uint64(i)))
			if rate > 0 {
				l.open(ctx, c, random, schedule)
			} else {
				l.closed(ctx, c, random)
			}
		})
	}
	all.Wait()
	elapsed := time.Since(l.started)
	if ctx.Err() != nil {
		return Run{}, fmt.Errorf("offer %s to %s: %w", l.name, l.addr, context.Cause(ctx))
	}
	return l.report(schedule, elapsed), nil
}

// open takes one request after the other from the schedule that all connections share.
func (l *load) open(ctx context.Context, c *httpConn, random *rand.Rand, s Schedule) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for total := int64(s.Total()); ctx.Err() == nil; {
		i := l.next.Add(1) - 1
		if i >= total || time.Since(l.started) > l.during+loadGrace {
			return
		}
		due := l.started.Add(s.Due(int(i)))
		if wait := time.Until(due); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return
			}
		}
		l.one(ctx, c, random, due)
	}
}

func (l *load) closed(ctx context.Context, c *httpConn, random *rand.Rand) {
	for ctx.Err() == nil {
		now := time.Now()
		if now.Sub(l.started) > l.during {
			return
		}
		l.one(ctx, c, random, now)
	}
}

// one sends a request at random. A failure counts as such and has no latency, lest a server look
// fast because it refuses.
func (l *load) one(ctx context.Context, c *httpConn, random *rand.Rand, due time.Time) {
	err := c.do(ctx, l.requests[random.IntN(len(l.requests))])
	if err != nil {
		l.failed.Add(1)
		l.first.CompareAndSwap(nil, &err)
		return
	}
	l.took.Record(time.Since(due))
	l.done.Add(1)
}

func (l *load) report(s Schedule, elapsed time.Duration) Run {
	run := Run{
		Name: l.name + "-max", Target: l.target, Loop: ClosedLoop, Seconds: seconds(elapsed),
		AchievedPerSecond: round(float64(l.done.Load()) / elapsed.Seconds()),
		Latencies:         map[string]Latency{l.name: LatencyOf(&l.took)},
		Counts:            map[string]int64{"done": l.done.Load(), "errors": l.failed.Load()},
		Sustained:         l.failed.Load() == 0,
	}
	if s.PerSecond > 0 {
		unfinished := int64(s.Total()) - l.done.Load() - l.failed.Load()
		run.Name, run.Loop = fmt.Sprintf("%s-%d", l.name, s.PerSecond), OpenLoop
		run.OfferedPerSecond = float64(s.PerSecond)
		run.Counts["unfinished"] = unfinished
		// The last requests are due at the end; a server that keeps up answers them soon after it.
		late := elapsed - l.during
		run.Sustained = run.Sustained && unfinished == 0 && late < max(100*time.Millisecond, l.during/50)
	}
	return run
}

// failure is the first failure of the run, for the report's notes; nil when there was none.
func (l *load) failure() error {
	if err := l.first.Load(); err != nil {
		return *err
	}
	return nil
}

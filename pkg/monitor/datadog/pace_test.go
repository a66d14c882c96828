package datadog_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latamctl/latamctl/pkg/monitor/datadog"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

// makeAll creates n monitors with some workers and returns how long it took.
func makeAll(t *testing.T, c *datadog.Client, n, workers int) time.Duration {
	t.Helper()
	start := time.Now()
	var next atomic.Int64
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for next.Add(1) <= int64(n) {
				if _, err := c.Create(t.Context(), declare.Monitor, aMonitor()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	return time.Since(start)
}

// TestFirstSyncWithinTheLimit creates 1,000 monitors with 8 workers through a bucket of 500 in 10 seconds,
// however the server keeps and tells its windows, and meets no 429.
func TestFirstSyncWithinTheLimit(t *testing.T) {
	t.Parallel()
	for _, aligned := range []bool{true, false} {
		for _, floor := range []bool{true, false} {
			for _, used := range []int{0, 300} {
				t.Run(fmt.Sprintf("aligned=%v,floor=%v,used=%d", aligned, floor, used), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						b := &window{name: "post_monitors", limit: 500, period: 10 * time.Second, aligned: aligned, floor: floor}
						time.Sleep(3700 * time.Millisecond)
						b.take(http.Header{})
						b.used += used // by others of the organisation
						var id atomic.Int64
						c, _ := connect(t, func(w http.ResponseWriter, _ *http.Request) {
							time.Sleep(20*time.Millisecond + rand.N(60*time.Millisecond))
							if b.serve(w) {
								reply(w, 200, object{"id": id.Add(1)})
							}
							time.Sleep(rand.N(40 * time.Millisecond))
						})
						took := makeAll(t, c, 1000, 8)
						if b.refused != 0 || id.Load() != 1000 {
							t.Errorf("%d were refused, %d made", b.refused, id.Load())
						}
						if took > 35*time.Second {
							t.Errorf("took %s", took)
						}
					})
				})
			}
		}
	}
}

// TestNeverOverAnyLimit is the same for windows of any size, with pauses and other clients.
func TestNeverOverAnyLimit(t *testing.T) {
	t.Parallel()
	for seed := range uint64(24) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 1))
				b := &window{
					name: "another", limit: 9 + random.IntN(25), period: time.Duration(5+random.IntN(55)) * time.Second,
					aligned: random.IntN(2) == 0, floor: random.IntN(2) == 0,
				}
				latency := time.Duration(1+random.IntN(900)) * time.Millisecond
				var id atomic.Int64
				c, _ := connect(t, func(w http.ResponseWriter, _ *http.Request) {
					time.Sleep(latency / 2)
					if b.serve(w) {
						reply(w, 200, object{"id": id.Add(1)})
					}
					time.Sleep(rand.N(latency))
				}, func(o *datadog.Options) { o.CallBudget = 10 * time.Minute })
				windows := 0
				for range 4 {
					n := 1 + random.IntN(3*b.limit)
					took := makeAll(t, c, n, 1+random.IntN(8))
					windows += n/max(1, b.limit-8) + 2
					if most := time.Duration(n/max(1, b.limit-8)+2)*(b.period+3*time.Second) + time.Duration(n)*2*latency; took > most {
						t.Errorf("%d calls took %s, want at most %s", n, took, most)
					}
					time.Sleep(time.Duration(random.IntN(100)) * time.Second)
				}
				if b.refused > 0 {
					t.Errorf("%d were refused by %d in %s, aligned %v, floor %v", b.refused, b.limit, b.period, b.aligned, b.floor)
				}
			})
		})
	}
}

// TestUnknownBucketStartsWithOne: before anything is known, one call goes ahead alone.
func TestUnknownBucketStartsWithOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &window{name: "post_monitors", limit: 500, period: 10 * time.Second}
		var flying, most, before atomic.Int64
		first := true
		c, _ := connect(t, func(w http.ResponseWriter, _ *http.Request) {
			now := flying.Add(1)
			most.Store(max(most.Load(), now))
			time.Sleep(time.Second)
			if first {
				first = false
				before.Store(most.Load())
			}
			flying.Add(-1)
			if b.serve(w) {
				reply(w, 200, object{"id": 1})
			}
		})
		makeAll(t, c, 40, 8)
		if before.Load() != 1 || most.Load() != 8 {
			t.Errorf("%d before the first answer, %d after it", before.Load(), most.Load())
		}
	})
}

// TestOthersTakeTheRest: when others empty the bucket, a refusal is waited out, and nothing is made twice.
func TestOthersTakeTheRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &window{name: "post_monitors", limit: 50, period: 10 * time.Second, aligned: true}
		var id atomic.Int64
		c, _ := connect(t, func(w http.ResponseWriter, _ *http.Request) {
			if id.Load()%17 == 3 {
				b.mu.Lock()
				b.used = b.limit
				b.mu.Unlock()
			}
			if b.serve(w) {
				reply(w, 200, object{"id": id.Add(1)})
			}
		})
		took := makeAll(t, c, 100, 8)
		if id.Load() != 100 || b.refused == 0 || b.refused > 8*8 {
			t.Errorf("%d made, %d refused in %s", id.Load(), b.refused, took)
		}
	})
}

// TestRetryAfter honours the header of an answer that tells no limits, for a create too: a refused one did not happen.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for name, header := range map[string]func() string{
		"seconds": func() string { return "7" },
		"date":    func() string { return time.Now().Add(7 * time.Second).UTC().Format(http.TimeFormat) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				calls := 0
				c, _ := connect(t, func(w http.ResponseWriter, _ *http.Request) {
					if calls++; calls == 1 {
						w.Header().Set("Retry-After", header())
						reply(w, 429, object{"errors": []string{"slow down"}})
						return
					}
					reply(w, 200, object{"id": 1})
				})
				took := makeAll(t, c, 1, 1)
				if calls != 2 || took < 7*time.Second || took > 9*time.Second {
					t.Errorf("%d calls in %s", calls, took)
				}
			})
		})
	}
}

// TestWaitsEndWithTheContext: neither a wait for a limit, nor one for another try, nor a request outlives its caller.
func TestWaitsEndWithTheContext(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]http.HandlerFunc{
		"limit": func(w http.ResponseWriter, _ *http.Request) {
			(&window{name: "x", limit: 0 + 1, period: 90 * time.Second, used: 1, start: time.Now()}).serve(w)
		},
		"another try": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "60")
			reply(w, 503, object{})
		},
		"request": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, _ := connect(t, handler)
				ctx, cancel := context.WithCancel(t.Context())
				start := time.Now()
				time.AfterFunc(3*time.Second, cancel)
				_, err := c.Get(ctx, declare.Monitor, "1")
				if took := time.Since(start); took != 3*time.Second || !errors.Is(err, context.Canceled) || errors.Is(err, datadog.ErrUnavailable) {
					t.Errorf("%v after %s", err, took)
				}
				cancel()
			})
		})
	}
}

// TestBudget: a call ends within its budget, and does not begin a wait that would not.
func TestBudget(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		least   time.Duration
		says    string
	}{
		"down":  {func(w http.ResponseWriter, _ *http.Request) { reply(w, 502, object{"errors": []string{"Bad Gateway"}}) }, 90 * time.Second, "Bad Gateway; gave up after"},
		"hangs": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 90 * time.Second, "no answer within 2m0s"},
		"down for long": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "600")
			reply(w, 503, object{"errors": []string{"maintenance"}})
		}, 0, "maintenance"},
		"limited for long": {func(w http.ResponseWriter, _ *http.Request) {
			(&window{name: "monitors", limit: 1, period: time.Hour, used: 1, start: time.Now()}).serve(w)
		}, 0, "Rate limit of 1 requests in 3600 seconds"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, _ := connect(t, test.handler)
				start := time.Now()
				_, err := c.Get(t.Context(), declare.Monitor, "1")
				wantKind(t, err, datadog.ErrUnavailable)
				most := map[bool]time.Duration{true: 0, false: 2 * time.Minute}[test.least == 0] // A wait that would not end in time is not begun.
				if took := time.Since(start); took > most || took < test.least || !strings.Contains(err.Error(), test.says) {
					t.Errorf("%v after %s", err, took)
				}
			})
		})
	}
}

// TestBudgetBeforeSending says which limit is in the way, when a call was not sent at all.
func TestBudgetBeforeSending(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &window{name: "get_monitors", limit: 1, period: time.Hour}
		c, w := connect(t, func(w http.ResponseWriter, _ *http.Request) {
			if b.serve(w) {
				reply(w, 200, object{"id": 1})
			}
		})
		if _, err := c.Get(t.Context(), declare.Monitor, "1"); err != nil {
			t.Fatal(err)
		}
		_, err := c.Get(t.Context(), declare.Monitor, "1")
		wantKind(t, err, datadog.ErrUnavailable)
		if !strings.Contains(err.Error(), `limit of "get_monitors"`) || w.count() != 1 {
			t.Errorf("%v after %d calls", err, w.count())
		}
	})
}

// TestWindowsThatBeginUnseen are the three ways in which a window can begin while calls are under way.
func TestWindowsThatBeginUnseen(t *testing.T) {
	t.Parallel()
	setup := func(t *testing.T) (*datadog.Client, *window, *atomic.Int64) {
		b := &window{name: "post_monitors", limit: 10, period: 10 * time.Second, aligned: true, floor: true}
		delay := &atomic.Int64{}
		c, _ := connect(t, func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(time.Duration(delay.Load()))
			if b.serve(w) {
				reply(w, 200, object{"id": 1})
			}
		})
		time.Sleep(100 * time.Millisecond)
		makeAll(t, c, 1, 1) // The window ends at 10 s; the answer says that it ends by 10.1 s.
		return c, b, delay
	}
	t.Run("before the client thinks so", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			c, b, delay := setup(t)
			time.Sleep(9950 * time.Millisecond)
			makeAll(t, c, 1, 1)
			delay.Store(int64(30 * time.Millisecond))
			makeAll(t, c, 30, 8)
			if b.refused > 0 {
				t.Errorf("%d were refused", b.refused)
			}
		})
	})
	t.Run("with calls on their way", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			c, b, delay := setup(t)
			time.Sleep(8900 * time.Millisecond)
			delay.Store(int64(3 * time.Second)) // They arrive at 12 s.
			var group sync.WaitGroup
			group.Go(func() { makeAll(t, c, 8, 8) })
			time.Sleep(1500 * time.Millisecond)
			delay.Store(int64(100 * time.Millisecond))
			makeAll(t, c, 8, 8)
			group.Wait()
			if b.refused > 0 {
				t.Errorf("%d were refused", b.refused)
			}
		})
	})
	t.Run("with others in it", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			c, b, _ := setup(t)
			for range 20 {
				b.mu.Lock()
				b.used = min(b.used+2, b.limit)
				b.mu.Unlock()
				makeAll(t, c, 1, 1)
			}
			if b.refused > 0 { // An answer tells when the last call is taken.
				t.Errorf("%d were refused", b.refused)
			}
		})
	})
}

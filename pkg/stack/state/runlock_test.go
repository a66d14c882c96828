package state_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latamctl/latamctl/pkg/bucket"
	"github.com/latamctl/latamctl/pkg/proc"
	"github.com/latamctl/latamctl/pkg/stack/state"
)

func ana() state.Holder {
	return state.Holder{Host: "laptop", PID: 10, User: "ana", Command: "latamctl up --env prod"}
}

func ben() state.Holder {
	return state.Holder{Host: "runner", PID: 20, User: "ben", Command: "latamctl down --env prod"}
}

func acquire(t *testing.T, s *state.States, who state.Holder, o state.RunLockOptions) (context.Context, *state.RunLock) {
	t.Helper()
	ctx, lock, err := s.AcquireRun(t.Context(), who, o)
	if err != nil {
		t.Fatal(err)
	}
	return ctx, lock
}

func release(t *testing.T, l *state.RunLock) {
	t.Helper()
	if err := l.Release(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestRunLockExcludes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := state.New(newMemory(), "prod")
		running, lock := acquire(t, s, ana(), state.RunLockOptions{})
		_, _, err := s.AcquireRun(t.Context(), ben(), state.RunLockOptions{})
		if !errors.Is(err, state.ErrRunning) || !strings.Contains(err.Error(), "ana@laptop (process 10, \"latamctl up --env prod\"") || !strings.Contains(err.Error(), "--lock-timeout") {
			t.Errorf("a second run: %v", err)
		}
		// Hours later the lock is as fresh as at first, and another environment was never locked.
		time.Sleep(3 * time.Hour)
		if holder, err := s.RunHolder(t.Context()); err != nil || time.Since(holder.Heartbeat) > 30*time.Second || running.Err() != nil {
			t.Errorf("after 3 hours: %v, %v, %v", holder, err, running.Err())
		}
		_, other := acquire(t, state.New(newMemory(), "staging"), ben(), state.RunLockOptions{})
		release(t, other)
		release(t, lock)
		release(t, lock)
		if !errors.Is(running.Err(), context.Canceled) {
			t.Errorf("after the release: %v", running.Err())
		}
		if holder, err := s.RunHolder(t.Context()); err != nil || holder != nil {
			t.Errorf("after the release: %v, %v", holder, err)
		}
	})
}

func TestRunLockWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := state.New(newMemory(), "prod")
		_, first := acquire(t, s, ana(), state.RunLockOptions{})
		begin := time.Now()
		told := 0
		wait := state.RunLockOptions{Wait: 10 * time.Second, Waiting: func(h state.Holder) {
			told++
			if h.User != "ana" {
				t.Errorf("waiting for %v", h)
			}
		}}
		if _, _, err := s.AcquireRun(t.Context(), ben(), wait); !errors.Is(err, state.ErrRunning) || time.Since(begin) != 10*time.Second || told != 1 {
			t.Errorf("after %s, told %d times: %v", time.Since(begin), told, err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(3*time.Second, func() { cancel(proc.ErrInterrupted) })
		if _, _, err := s.AcquireRun(ctx, ben(), wait); !errors.Is(err, proc.ErrInterrupted) {
			t.Errorf("interrupted while waiting: %v", err)
		}
		time.AfterFunc(5*time.Second, func() { release(t, first) })
		begin = time.Now()
		_, second := acquire(t, s, ben(), wait)
		if waited := time.Since(begin); waited < 5*time.Second || waited > 7*time.Second {
			t.Errorf("it waited %s for a lock that was free after 5s", waited)
		}
		release(t, second)
	})
}

func TestRunLockOfADeadRun(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		age   time.Duration
		who   state.Holder
		alive bool
		taken bool
	}{
		{"fresh, elsewhere", 4 * time.Minute, ben(), false, false},
		{"stale, elsewhere", 6 * time.Minute, ben(), true, true},
		{"fresh, dead on this machine", 0, state.Holder{Host: "laptop", Machine: "m1", PID: 11}, false, true},
		{"fresh, in another container of this machine", 0, state.Holder{Host: "laptop", Machine: "m2", PID: 11}, false, false},
		{"fresh, alive on this machine", 0, state.Holder{Host: "laptop", Machine: "m1", PID: 11}, true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newMemory()
				s := state.New(m, "prod")
				m.put("prod/latamctl.lock", fmt.Sprintf(`{"id":"dead","host":"laptop","machine":"m1","pid":10,"heartbeat":%q}`, time.Now().Add(-tt.age).Format(time.RFC3339Nano)))
				_, lock, err := s.AcquireRun(t.Context(), tt.who, state.RunLockOptions{Alive: func(pid int) bool { return tt.alive || pid != 10 }})
				if tt.taken != (err == nil) || err != nil && !errors.Is(err, state.ErrRunning) {
					t.Fatalf("got %v", err)
				}
				if lock != nil {
					release(t, lock)
				}
			})
		})
	}
}

func TestRunLockIsTakenOverOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		s := state.New(m, "prod")
		m.put("prod/latamctl.lock", `{"id":"dead","host":"x","pid":1,"heartbeat":"1999-01-01T00:00:00Z"}`)
		var group sync.WaitGroup
		var mu sync.Mutex
		var locks []*state.RunLock
		for range 8 {
			group.Go(func() {
				_, lock, err := s.AcquireRun(t.Context(), ben(), state.RunLockOptions{})
				if err != nil && !errors.Is(err, state.ErrRunning) {
					t.Error(err)
				}
				if err == nil {
					mu.Lock()
					locks = append(locks, lock)
					mu.Unlock()
				}
			})
		}
		group.Wait()
		if len(locks) != 1 {
			t.Errorf("%d runs hold the lock", len(locks))
		}
		for _, l := range locks {
			release(t, l)
		}
	})
}

func TestRunLockIsLost(t *testing.T) {
	t.Parallel()
	lose := map[string]struct {
		do    func(m *memory)
		after time.Duration // it is lost at the latest
	}{
		"taken by another run":         {func(m *memory) { m.put("prod/latamctl.lock", `{"id":"other","user":"ben"}`) }, 31 * time.Second},
		"deleted":                      {func(m *memory) { _ = m.Delete(context.Background(), "prod/latamctl.lock", bucket.Any) }, 31 * time.Second},
		"the bucket cannot be reached": {func(m *memory) { m.setFail(bucket.ErrUnavailable) }, 5 * time.Minute},
	}
	for name, tt := range lose {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newMemory()
				running, lock := acquire(t, state.New(m, "prod"), ana(), state.RunLockOptions{})
				tt.do(m)
				time.Sleep(tt.after)
				if !errors.Is(context.Cause(running), state.ErrLockLost) {
					t.Errorf("the run goes on: %v", context.Cause(running))
				}
				m.setFail(nil)
				before := m.objects["prod/latamctl.lock"]
				release(t, lock)
				if strings.Contains(before, "other") && m.objects["prod/latamctl.lock"] != before {
					t.Error("the release removed another run's lock")
				}
			})
		})
	}
}

func TestRunLockSurvivesTrouble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		s := state.New(m, "prod")
		running, lock := acquire(t, s, ana(), state.RunLockOptions{})
		m.setFail(bucket.ErrUnavailable) // 3 minutes without a bucket, then answers to two heartbeats are lost.
		time.Sleep(3 * time.Minute)
		m.setFail(nil)
		m.mu.Lock()
		m.lose = 2
		m.mu.Unlock()
		time.Sleep(10 * time.Minute)
		holder, err := s.RunHolder(t.Context())
		if running.Err() != nil || err != nil || time.Since(holder.Heartbeat) > 30*time.Second {
			t.Errorf("run %v, holder %v, %v", context.Cause(running), holder, err)
		}
		release(t, lock)
	})
}

func TestRunLockOptions(t *testing.T) {
	t.Parallel()
	s := state.New(newMemory(), "prod")
	for _, o := range []state.RunLockOptions{{Wait: -1}, {Heartbeat: time.Minute, Stale: 2 * time.Minute}} {
		if _, _, err := s.AcquireRun(t.Context(), ana(), o); err == nil {
			t.Errorf("options %+v were taken", o)
		}
	}
	m := newMemory()
	m.put("prod/latamctl.lock", "garbage")
	if _, _, err := state.New(m, "prod").AcquireRun(t.Context(), ana(), state.RunLockOptions{}); err == nil || !strings.Contains(err.Error(), "look at it and delete it") {
		t.Errorf("a lock that is not ours: %v", err)
	}
}

// TestRunLockInBuckets holds the lock in real buckets, from several runs at once.
func TestRunLockInBuckets(t *testing.T) {
	t.Parallel()
	bothBuckets(t, func(t *testing.T, b bucket.Managed) {
		s := state.New(b, "prod")
		var group sync.WaitGroup
		var mu sync.Mutex
		inside := 0
		for range 3 {
			group.Go(func() {
				_, lock, err := s.AcquireRun(t.Context(), ben(), state.RunLockOptions{Wait: time.Minute, Poll: time.Millisecond})
				if err != nil {
					t.Error(err)
					return
				}
				if !mu.TryLock() {
					t.Error("two runs at once")
					return
				}
				inside++
				mu.Unlock()
				release(t, lock)
			})
		}
		group.Wait()
		if inside != 3 {
			t.Errorf("%d of 3 runs had the lock", inside)
		}
	})
}

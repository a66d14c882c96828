package state_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/latamctl/latamctl/pkg/stack/state"
)

// TestEndRun: only the lock that was shown, and only when its process is gone.
func TestEndRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := state.New(newMemory(), "prod")
		gone := func(state.Holder) (string, error) { return "", nil }
		alive := func(h state.Holder) (string, error) { return "process 10", nil }
		if _, err := s.EndRun(t.Context(), "x", gone); !errors.Is(err, state.ErrNotLocked) {
			t.Errorf("nobody holds it: %v", err)
		}
		_, lock := acquire(t, s, ana(), state.RunLockOptions{})
		id := lock.Holder().ID
		if h, err := s.EndRun(t.Context(), "x", gone); !errors.Is(err, state.ErrOtherLock) || h.ID != id {
			t.Errorf("another id: %v, %v", h, err)
		}
		if _, err := s.EndRun(t.Context(), id, alive); !errors.Is(err, state.ErrAlive) {
			t.Errorf("it lives: %v", err)
		}
		if h, err := s.RunHolder(t.Context()); err != nil || h == nil {
			t.Fatalf("the lock of a run that lives: %v, %v", h, err)
		}
		if h, err := s.EndRun(t.Context(), id, gone); err != nil || h.ID != id {
			t.Errorf("%v, %v", h, err)
		}
		if h, err := s.RunHolder(t.Context()); err != nil || h != nil {
			t.Errorf("after it was ended: %v, %v", h, err)
		}
		release(t, lock)
	})
}

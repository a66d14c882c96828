package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/latamctl/latamctl/pkg/bucket"
	"github.com/latamctl/latamctl/pkg/stack/terraform"
)

// The reasons for which a lock is not removed.
var (
	// ErrNotLocked says that nobody holds the lock.
	ErrNotLocked = errors.New("the state is not locked")
	// ErrOtherLock says that the lock is another one than the one that was named.
	ErrOtherLock = errors.New("the state is locked by another run than the one that was named")
	// ErrAlive says that the program that holds the lock still runs.
	ErrAlive = errors.New("the program that holds the lock still runs")
)

// Lock is who holds the state of a stack.
type Lock struct {
	// Lock is as Terraform wrote it. In a Google bucket its ID is the lock object's generation, as Terraform shows it.
	terraform.Lock
	Stack string
	// Written is the id within the lock, which differs from ID in a Google bucket.
	Written string
	// PID is the process of this machine that holds it, 0 when that is not known.
	PID     int
	version bucket.Generation
}

// Age is how long the lock has been held, 0 when it does not say.
func (l Lock) Age(now time.Time) time.Duration {
	if l.Created.IsZero() {
		return 0
	}
	return max(0, now.Sub(l.Created))
}

// stateHolder is a bucket whose locks the kernel keeps, so that what is written about one may be old.
type stateHolder interface {
	StateHolder(prefix string) (pid int, err error)
}

// Lock returns who holds the state of a stack, nil when nobody does.
func (s *States) Lock(ctx context.Context, stack string) (*Lock, error) {
	holder, kernel := s.bucket.(stateHolder)
	pid := 0
	if kernel {
		var err error
		if pid, err = holder.StateHolder(s.Prefix(stack)); err != nil {
			return nil, fmt.Errorf("read the lock of stack %s: %w", stack, err)
		}
		if pid == 0 {
			return nil, nil //nolint:nilnil // That nobody holds it is no error.
		}
	}
	data, version, err := s.bucket.Read(ctx, s.bucket.LockKey(s.Prefix(stack)))
	switch {
	case absent(err) && !kernel:
		return nil, nil //nolint:nilnil // That nobody holds it is no error.
	case err != nil && !absent(err):
		return nil, fmt.Errorf("read the lock of stack %s: %w", stack, err)
	}
	lock := &Lock{Stack: stack, PID: pid, version: version}
	// A lock that cannot be read is still a lock.
	if json.Unmarshal(data, &lock.Lock) != nil || lock.Who == "" {
		lock.Who = "unknown"
	}
	lock.Written = lock.ID
	if !kernel {
		lock.ID = string(version)
	}
	return lock, nil
}

// parallelReads is how many stacks are asked about at once.
const parallelReads = 8

// Locks returns the locks that are held on any of the stacks, in their order.
func (s *States) Locks(ctx context.Context, stacks []string) ([]Lock, error) {
	all := make([]*Lock, len(stacks))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelReads)
	for i, stack := range stacks {
		group.Go(func() (err error) {
			all[i], err = s.Lock(ctx, stack)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var held []Lock
	for _, lock := range all {
		if lock != nil {
			held = append(held, *lock)
		}
	}
	return held, nil
}

// Unlock removes the lock of a stack whose program has ended. The id is the one that was shown;
// living says which program still holds it as far as the caller's records tell, or returns "". A
// lock that changes hands meanwhile stays.
func (s *States) Unlock(ctx context.Context, stack, id string, living func(context.Context, Lock) (string, error)) (*Lock, error) {
	lock, err := s.Lock(ctx, stack)
	if err != nil {
		return nil, err
	}
	doing := "unlock stack " + stack
	switch {
	case lock == nil:
		return nil, fmt.Errorf("%s: %w", doing, ErrNotLocked)
	case id == "" || id != lock.ID && id != lock.Written:
		return lock, fmt.Errorf("%s: %w: it is %s of %s, not %q", doing, ErrOtherLock, lock.ID, lock.Who, id)
	case lock.PID != 0: // The kernel says so, and nobody can take such a lock away.
		return lock, fmt.Errorf("%s: %w: process %d on this machine; wait for it, or end it with kill -INT %d", doing, ErrAlive, lock.PID, lock.PID)
	}
	if living != nil {
		who, err := living(ctx, *lock)
		if err != nil {
			return lock, fmt.Errorf("%s: find out whether its program still runs: %w", doing, err)
		}
		if who != "" {
			return lock, fmt.Errorf("%s: %w: %s; wait for it", doing, ErrAlive, who)
		}
	}
	err = s.bucket.Delete(ctx, s.bucket.LockKey(s.Prefix(stack)), lock.version)
	if errors.Is(err, bucket.ErrConflict) {
		return lock, fmt.Errorf("%s: %w: somebody took it just now", doing, ErrOtherLock)
	}
	if err != nil {
		return lock, fmt.Errorf("%s: %w", doing, err)
	}
	return lock, nil
}

package state

import (
	"context"
	"errors"
	"fmt"

	"github.com/latamctl/latamctl/pkg/bucket"
)

// EndRun removes the lock of a run that is gone. The id is the one that was shown; living tells which
// program still changes the environment as far as this machine knows, or returns "". A lock that
// changes hands meanwhile stays.
func (s *States) EndRun(ctx context.Context, id string, living func(Holder) (string, error)) (*Holder, error) {
	holder, version, err := s.readHolder(ctx)
	if err != nil {
		return nil, err
	}
	doing := "unlock environment " + s.environment
	switch {
	case holder == nil:
		return nil, fmt.Errorf("%s: %w", doing, ErrNotLocked)
	case id == "" || id != holder.ID:
		return holder, fmt.Errorf("%s: %w: it is %s of %s, not %q", doing, ErrOtherLock, holder.ID, holder, id)
	}
	who, err := living(*holder)
	if err != nil {
		return holder, fmt.Errorf("%s: find out whether its program still runs: %w", doing, err)
	}
	if who != "" {
		return holder, fmt.Errorf("%s: %w: %s; wait for it", doing, ErrAlive, who)
	}
	err = s.bucket.Delete(ctx, s.runLockKey(), version)
	if errors.Is(err, bucket.ErrConflict) { // A heartbeat came, or somebody took it over.
		return holder, fmt.Errorf("%s: %w: its run said just now that it lives, or another one took it", doing, ErrAlive)
	}
	if err != nil {
		return holder, fmt.Errorf("%s: %w", doing, err)
	}
	return holder, nil
}

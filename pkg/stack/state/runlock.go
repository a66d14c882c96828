package state

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"sync"
	"time"

	"github.com/latamctl/latamctl/pkg/bucket"
)

// Holder is who changes an environment.
type Holder struct {
	// ID is made by AcquireRun when it is empty.
	ID   string `json:"id"`
	Run  string `json:"run,omitempty"`
	Host string `json:"host"`
	// Machine tells whether PID means the same process here, as proc.Process.Machine gives it.
	Machine   string    `json:"machine,omitempty"`
	PID       int       `json:"pid"`
	User      string    `json:"user"`
	Command   string    `json:"command"`
	Started   time.Time `json:"started"`
	Heartbeat time.Time `json:"heartbeat"`
}

func (h Holder) String() string {
	return fmt.Sprintf("%s@%s (process %d, %q, since %s, last seen %s)", h.User, h.Host, h.PID, h.Command,
		h.Started.UTC().Format(time.RFC3339), h.Heartbeat.UTC().Format(time.RFC3339))
}

// RunLockOptions say how the lock of a run is kept.
type RunLockOptions struct {
	// Wait is how long to wait for another run to end. The zero value tries once.
	Wait time.Duration
	// Poll is the pause between two looks at another's lock. Default 2s.
	Poll time.Duration
	// Heartbeat is how often the lock says that its run still lives. Default 30s.
	Heartbeat time.Duration
	// Stale is how old the last heartbeat of a run that is taken for dead is. Default 5m. The clocks of all
	// machines must agree to within Stale less two heartbeats.
	Stale time.Duration
	// Alive tells whether a process of this machine runs, so that the lock of one that was killed is taken over
	// at once. Nil judges by heartbeats alone.
	Alive func(pid int) bool
	// Waiting is called when another run is waited for, once for each.
	Waiting func(Holder)
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Defaults fills in what is not set.
func (o RunLockOptions) Defaults() RunLockOptions {
	if o.Poll == 0 {
		o.Poll = 2 * time.Second
	}
	if o.Heartbeat == 0 {
		o.Heartbeat = 30 * time.Second
	}
	if o.Stale == 0 {
		o.Stale = 5 * time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Validate says what is out of range.
func (o RunLockOptions) Validate() error {
	switch {
	case o.Wait < 0 || o.Poll <= 0 || o.Heartbeat <= 0:
		return fmt.Errorf("lock of a run: wait %s, poll %s and heartbeat %s must not be negative", o.Wait, o.Poll, o.Heartbeat)
	case o.Stale < 3*o.Heartbeat:
		return fmt.Errorf("lock of a run: stale after %s is less than three heartbeats of %s", o.Stale, o.Heartbeat)
	}
	return nil
}

// ErrRunning says that another run changes the environment.
var ErrRunning = errors.New("another run changes this environment")

// ErrLockLost is the cause of the context of a run whose lock somebody else took, or that could not say for long that it lives.
var ErrLockLost = errors.New("the lock of this run is lost")

// RunLock is held while a run changes the environment.
type RunLock struct {
	states *States
	opts   RunLockOptions
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when the heartbeats have ended

	mu      sync.Mutex
	holder  Holder
	version bucket.Generation
}

func (s *States) runLockKey() string { return path.Join(s.environment, "latamctl.lock") }

// RunHolder returns who changes the environment, nil when nobody does.
func (s *States) RunHolder(ctx context.Context) (*Holder, error) {
	holder, _, err := s.readHolder(ctx)
	return holder, err
}

func (s *States) readHolder(ctx context.Context) (*Holder, bucket.Generation, error) {
	data, version, err := s.bucket.Read(ctx, s.runLockKey())
	if absent(err) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("read the lock of environment %s: %w", s.environment, err)
	}
	holder := &Holder{}
	if err := json.Unmarshal(data, holder); err != nil {
		return nil, "", fmt.Errorf("read the lock of environment %s: %s is not what latamctl writes; look at it and delete it: %w", s.environment, s.place(s.runLockKey()), err)
	}
	return holder, version, nil
}

// AcquireRun takes the lock of the environment and keeps it alive until Release. The context that it
// returns ends with ErrLockLost when the lock is lost. Another run that does not end in time is ErrRunning.
func (s *States) AcquireRun(ctx context.Context, who Holder, o RunLockOptions) (context.Context, *RunLock, error) {
	o = o.Defaults()
	if err := o.Validate(); err != nil {
		return nil, nil, err
	}
	if who.ID == "" {
		who.ID = rand.Text()
	}
	who.Started = o.Now().UTC()
	version, err := s.waitForRun(ctx, &who, o)
	if err != nil {
		return nil, nil, err
	}
	running, cancel := context.WithCancelCause(ctx)
	lock := &RunLock{states: s, opts: o, cancel: cancel, done: make(chan struct{}), holder: who, version: version}
	go lock.beat(running)
	return running, lock, nil
}

// waitForRun tries until the lock is ours or the time is up.
func (s *States) waitForRun(ctx context.Context, who *Holder, o RunLockOptions) (bucket.Generation, error) {
	deadline := o.Now().Add(o.Wait)
	told := ""
	for {
		holder, version, err := s.readHolder(ctx)
		if err != nil {
			return "", err
		}
		if holder == nil || holder.ID == who.ID || abandoned(*holder, *who, o) {
			mine, err := s.writeHolder(ctx, who, version, o)
			if !errors.Is(err, bucket.ErrConflict) {
				return mine, err
			}
			continue // Somebody was faster: see who it is.
		}
		left := deadline.Sub(o.Now())
		if left <= 0 {
			return "", fmt.Errorf("lock environment %s: %w: %s; wait for it, or give more time with --lock-timeout", s.environment, ErrRunning, holder)
		}
		if o.Waiting != nil && told != holder.ID {
			told = holder.ID
			o.Waiting(*holder)
		}
		timer := time.NewTimer(min(o.Poll, left))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return "", fmt.Errorf("wait for %s: %w", holder, context.Cause(ctx))
		}
	}
}

// abandoned tells whether a run is dead: its process on this machine has ended, or its heartbeats have.
func abandoned(holder, who Holder, o RunLockOptions) bool {
	here := holder.Host == who.Host && holder.Machine == who.Machine
	if here && o.Alive != nil && holder.PID > 0 && !o.Alive(holder.PID) {
		return true
	}
	return o.Now().Sub(holder.Heartbeat) > o.Stale
}

// writeHolder writes who holds the lock, if what was read is still there.
func (s *States) writeHolder(ctx context.Context, who *Holder, version bucket.Generation, o RunLockOptions) (bucket.Generation, error) {
	who.Heartbeat = o.Now().UTC()
	data, err := json.Marshal(who)
	if err != nil {
		return "", fmt.Errorf("lock environment %s: %w", s.environment, err)
	}
	mine, err := s.bucket.Write(ctx, s.runLockKey(), append(data, '\n'), version)
	if err != nil {
		return "", fmt.Errorf("lock environment %s: %w", s.environment, err)
	}
	return mine, nil
}

// beat keeps the lock alive until the context ends.
func (l *RunLock) beat(ctx context.Context) {
	defer close(l.done)
	ticker := time.NewTicker(l.opts.Heartbeat)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := l.renew(ctx); err != nil && ctx.Err() == nil {
			l.cancel(err)
			return
		}
	}
}

// renew writes the next heartbeat. An error means that the lock is lost: others may take it over once
// it is stale, so it counts as lost one heartbeat before that.
func (l *RunLock) renew(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	bounded, cancel := context.WithTimeout(ctx, l.opts.Heartbeat)
	defer cancel()
	next := l.holder
	version, err := l.states.writeHolder(bounded, &next, l.version, l.opts)
	switch {
	case err == nil:
		l.holder, l.version = next, version
		return nil
	case errors.Is(err, bucket.ErrConflict):
		holder, version, readErr := l.states.readHolder(bounded)
		if readErr == nil && holder != nil && holder.ID == l.holder.ID { // Our own write, whose answer was lost.
			l.holder, l.version = *holder, version
			return nil
		}
		if readErr == nil {
			return fmt.Errorf("%w: environment %s: now %v", ErrLockLost, l.states.environment, holderName(holder))
		}
	}
	if l.opts.Now().Sub(l.holder.Heartbeat) >= l.opts.Stale-l.opts.Heartbeat {
		return fmt.Errorf("%w: environment %s: no heartbeat since %s: %w", ErrLockLost, l.states.environment, l.holder.Heartbeat.Format(time.RFC3339), err)
	}
	return nil
}

func holderName(h *Holder) string {
	if h == nil {
		return "nobody holds it"
	}
	return h.String() + " holds it"
}

// Holder is who holds the lock, with the last heartbeat.
func (l *RunLock) Holder() Holder {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.holder
}

// Release ends the heartbeats and gives the lock back, unless it is somebody else's by now. It may be called twice.
func (l *RunLock) Release(ctx context.Context) error {
	l.cancel(context.Canceled)
	<-l.done
	l.mu.Lock()
	defer l.mu.Unlock()
	holder, version, err := l.states.readHolder(ctx)
	if err != nil || holder == nil || holder.ID != l.holder.ID {
		return err
	}
	if err := l.states.bucket.Delete(ctx, l.states.runLockKey(), version); err != nil && !errors.Is(err, bucket.ErrConflict) {
		return fmt.Errorf("release environment %s: %w", l.states.environment, err)
	}
	return nil
}

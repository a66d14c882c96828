// Package replay processes again what a topic still keeps, through a subscription of its own and the
// same steps as ingest. The subscription of ingest stays where it is: moving it back would acknowledge
// a backlog from before that time, which would be lost.
package replay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/services/ingest"
)

// Follower delivers what a topic keeps, as bus.Client does.
type Follower interface {
	Follow(ctx context.Context, topic string, opts bus.FollowOptions, handle func(context.Context, bus.Message) bool) error
}

// Options say what to process again and how.
type Options struct {
	// From and To bound the publish time, [From, To).
	From, To time.Time
	// QuietFor is how long nothing that belongs to the window may come until it counts as read. Pub/Sub
	// does not say what is left of a subscription. Default 5s.
	QuietFor time.Duration
	// PerSecond bounds how many messages a second are processed; 0 does not.
	PerSecond float64
	// ClockSkew is by how much the clocks of Pub/Sub and of this machine may differ. Default 2s.
	ClockSkew time.Duration
	// FollowUp is how long records that replace those of the window are looked for after the window was
	// read. Only a record that is updated all the time takes that long. Default 1m.
	FollowUp time.Duration
	// MaxMessages and MaxBytes bound what is in work. Defaults 8000, less under a low rate, and 64 MiB.
	MaxMessages int
	MaxBytes    int
	// MaxKeys is how many keys are remembered at least, to tell an older record of a key from a newer
	// one. Default 1,000,000, which takes about 150 MB.
	MaxKeys int
	// Worker are the options of the worker; what is not set has its defaults.
	Worker ingest.Options
}

// leaseSeconds is how long a message may wait for its turn under a rate. It is far below the time for
// which its lease is kept up.
const leaseSeconds = 60

// Defaults fills in what is not set.
func (o Options) Defaults() Options {
	setDefault(&o.QuietFor, 5*time.Second)
	setDefault(&o.ClockSkew, 2*time.Second)
	setDefault(&o.FollowUp, time.Minute)
	setDefault(&o.MaxBytes, 64<<20)
	setDefault(&o.MaxKeys, 1_000_000)
	if o.MaxMessages == 0 {
		o.MaxMessages = 8000
		if o.PerSecond > 0 {
			o.MaxMessages = int(min(8000, max(1, o.PerSecond*leaseSeconds)))
		}
	}
	return o
}

func setDefault[T comparable](v *T, value T) {
	var unset T
	if *v == unset {
		*v = value
	}
}

// Validate says what is out of range.
func (o Options) Validate() error {
	switch {
	case !o.From.Before(o.To):
		return fmt.Errorf("replay: the window from %s to %s is empty", o.From.UTC().Format(time.RFC3339), o.To.UTC().Format(time.RFC3339))
	case o.QuietFor < 100*time.Millisecond || o.QuietFor > time.Hour:
		return fmt.Errorf("replay: quiet time %s is not in 100ms..1h", o.QuietFor)
	case o.PerSecond < 0:
		return fmt.Errorf("replay: rate of %g messages a second is negative", o.PerSecond)
	case o.MaxMessages < 1, o.MaxBytes < 1, o.MaxKeys < 1:
		return errors.New("replay: a limit is under 1")
	}
	return nil
}

// Counts are what was done so far. Apart from Read they count messages of the window.
type Counts struct {
	// Read counts the messages that were received, also those after the window.
	Read int64 `json:"read"`
	// Window counts the messages of the window.
	Window int64 `json:"window"`
	// Stored counts those that were stored, and Replaced those that were not, because a newer record
	// with the same key and event time is in the topic.
	Stored   int64 `json:"stored"`
	Replaced int64 `json:"replaced"`
	// Rejected counts the dead letters by their reason.
	Rejected map[string]int64 `json:"rejected"`
	// Later counts records from after the window that were stored again, because they replace one of it.
	Later int64 `json:"later"`
	// Retried counts how often a message was given back, because it could not be stored then.
	Retried int64 `json:"retried"`
}

// RejectedAll is how many records were rejected, for whatever reason.
func (c Counts) RejectedAll() (n int64) {
	for _, of := range c.Rejected {
		n += of
	}
	return n
}

// Report is how a replay ended.
type Report struct {
	Counts
	// Since is when the window begins that could be read. It is after From when the topic does not keep
	// messages that long.
	Since time.Time
	// Restless says that records were still being replaced when FollowUp was over: of such a record the
	// last update but one may have won.
	Restless bool
}

// Replay is one replay of a dataset.
type Replay struct {
	opts     Options
	ds       *dataset.Dataset
	deps     ingest.Deps
	follower Follower
	window   *window
	limit    *rate.Limiter
}

// New prepares a replay. The source of deps is not used.
func New(opts Options, follower Follower, deps ingest.Deps, ds *dataset.Dataset) (*Replay, error) {
	opts = opts.Defaults()
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	r := &Replay{opts: opts, ds: ds, deps: deps, follower: follower, window: newWindow(opts, deps.Now)}
	if opts.PerSecond > 0 {
		r.limit = rate.NewLimiter(rate.Limit(opts.PerSecond), max(1, int(opts.PerSecond/20)))
	}
	return r, nil
}

// Counts returns what was done so far.
func (r *Replay) Counts() Counts { return r.window.snapshot() }

var errDone = errors.New("the window was read")

// Run processes the window and returns once everything in it is settled. When the context ends before
// that, what is in work is settled first; the report then says what was done, and the error is the
// context's cause.
func (r *Replay) Run(ctx context.Context) (Report, error) {
	run, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	deps := r.deps
	source := &source{replay: r, stop: stop}
	deps.Source, deps.DeadLetters = source, counted{r.deps.DeadLetters, r.window}
	deps.Meter = nil // What is old by nature must not count as late.
	opts := r.opts.Worker
	opts.MaxMessages, opts.MaxBytes = r.opts.MaxMessages, r.opts.MaxBytes
	// Entries of a new index for rows already stored are the work of ingest.
	opts.IndexBuildDelay = 1000 * time.Hour
	worker, err := ingest.New(opts, deps, []*dataset.Dataset{r.ds})
	if err != nil {
		return Report{}, err
	}
	var watching sync.WaitGroup
	watching.Go(func() { r.window.await(run, stop) })
	err = worker.Run(run)
	stop(nil)
	watching.Wait()
	report := r.window.report()
	switch cause := context.Cause(run); {
	case err != nil:
		return report, err
	case ctx.Err() != nil && !errors.Is(cause, errDone):
		return report, context.Cause(ctx)
	case !errors.Is(cause, errDone):
		return report, cause
	}
	return report, nil
}

// source gives the messages of the window to the worker.
type source struct {
	replay *Replay
	stop   context.CancelCauseFunc
}

// Receive follows the topic instead of the subscription of ingest. Its failure ends the replay: a
// subscription that is gone cannot be gone on with.
func (s *source) Receive(ctx context.Context, _ string, opts bus.ReceiveOptions, handle func(context.Context, bus.Message) bool) error {
	r := s.replay
	err := r.follower.Follow(ctx, r.ds.Topic, bus.FollowOptions{
		From: r.opts.From, Ready: r.window.begin, MaxMessages: opts.MaxMessages, MaxBytes: opts.MaxBytes, Keep: keepBacklog,
	}, func(ctx context.Context, m bus.Message) bool { return r.take(ctx, m, handle) })
	if err != nil && ctx.Err() == nil {
		s.stop(err)
	}
	return err
}

// keepBacklog is how long what waits for its turn under a rate is kept at least.
const keepBacklog = 24 * time.Hour

// take settles a message: by ingest when it belongs to the window, or replaces something of it.
func (r *Replay) take(ctx context.Context, m bus.Message, handle func(context.Context, bus.Message) bool) bool {
	w := r.window
	inWindow, relevant := w.arrived(m)
	if !relevant {
		return true
	}
	// Once a record is claimed nothing may hold it up: a newer one could overtake it.
	if inWindow && r.limit != nil && r.limit.Wait(ctx) != nil {
		return false
	}
	key, mark, decoded := r.place(ctx, m)
	switch {
	case !inWindow && !decoded:
		return true // It is for ingest to reject.
	case !inWindow && !w.claimLater(key, mark):
		return true
	case inWindow && decoded && !w.claim(key, mark):
		w.replaced(m)
		return true
	}
	ack := handle(ctx, m)
	w.released(key, decoded, ack)
	w.settled(m, inWindow, ack)
	return ack
}

// place is the key of a message with its event time, and where it stands among others of these. It is
// false for one that will be rejected, or cannot be read now: that is for ingest to find out.
func (r *Replay) place(ctx context.Context, m bus.Message) (digest, stamp, bool) {
	row, err := ingest.Row(ctx, r.ds, r.deps.Payloads, m)
	if err != nil {
		return digest{}, stamp{}, false
	}
	mark := stampOf(row.Time.UnixMilli(), m)
	return r.window.digest(row.Key, mark.event), mark, true
}

// counted counts dead letters by their reason.
type counted struct {
	ingest.DeadLetters
	window *window
}

func (c counted) Publish(ctx context.Context, topic string, data []byte, attributes map[string]string) (string, error) {
	id, err := c.DeadLetters.Publish(ctx, topic, data, attributes)
	if err == nil {
		c.window.rejected(attributes[bus.AttrReason])
	}
	return id, err
}

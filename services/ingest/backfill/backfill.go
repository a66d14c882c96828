// Package backfill stores the records of files by the same steps as ingest, and keeps a position from
// which it goes on after any end.
package backfill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/services/ingest"
)

// Records are the records of a file as JSON objects. Next returns io.EOF at the end; what it returned
// before stays as it is.
type Records interface {
	Next() ([]byte, error)
	io.Closer
}

// File is one file of records.
type File struct {
	// Name is how the user knows it; Identity changes when its content does.
	Name, Identity string
	Open           func(ctx context.Context) (Records, error)
}

// Options bound the work.
type Options struct {
	// PerSecond bounds how many records a second are stored; 0 does not.
	PerSecond float64
	// MaxRejected ends the backfill when more records than that are rejected; 0 does not.
	MaxRejected int64
	// SaveEvery is how often the position is saved. Default 500ms.
	SaveEvery time.Duration
	// Worker are the options of the worker; what is not set has its defaults.
	Worker ingest.Options
}

// Deps are what a backfill works with. The source and the payloads of Ingest are not used: a file has
// one JSON object a record, whatever the topic's schema.
type Deps struct {
	Ingest ingest.Deps
	// Save makes a position durable. Everything before it was stored, or handed to the dead letters.
	Save func(Position) error
}

// The ends of a backfill that somebody has to look at.
var (
	// ErrTooManyRejected says that more than MaxRejected records were rejected.
	ErrTooManyRejected = errors.New("too many records were rejected")
	// ErrUnreadable says that a file cannot be read on.
	ErrUnreadable = errors.New("cannot be read")
)

// Counts are what this run has done so far.
type Counts struct {
	// Records counts those that are settled, stored or rejected, and Skipped those of earlier runs.
	Records  int64            `json:"records"`
	Skipped  int64            `json:"skipped"`
	Stored   int64            `json:"stored"`
	Rejected map[string]int64 `json:"rejected"`
	// Retried counts how often a record could not be stored and was tried again.
	Retried int64 `json:"retried"`
}

// RejectedAll is how many records were rejected, for whatever reason.
func (c Counts) RejectedAll() (n int64) {
	for _, of := range c.Rejected {
		n += of
	}
	return n
}

// Backfill is one run over files.
type Backfill struct {
	opts  Options
	deps  Deps
	ds    *dataset.Dataset
	files []File
	track *tracker
	limit *rate.Limiter

	stop context.CancelCauseFunc
}

// New prepares a run that begins at the position, which is of these files.
func New(opts Options, deps Deps, ds *dataset.Dataset, files []File, from Position) (*Backfill, error) {
	opts.Worker = opts.Worker.Defaults()
	if opts.SaveEvery == 0 {
		opts.SaveEvery = 500 * time.Millisecond
	}
	if err := from.Fits(ds, files); err != nil {
		return nil, err
	}
	if opts.PerSecond < 0 || opts.MaxRejected < 0 {
		return nil, errors.New("backfill: a limit is negative")
	}
	b := &Backfill{opts: opts, deps: deps, ds: ds, files: files, track: newTracker(from)}
	if opts.PerSecond > 0 {
		b.limit = rate.NewLimiter(rate.Limit(opts.PerSecond), max(1, int(opts.PerSecond/20)))
	}
	return b, nil
}

// Counts returns what was done so far.
func (b *Backfill) Counts() Counts { return b.track.snapshot() }

// Position returns where to go on: everything before it is settled.
func (b *Backfill) Position() Position { return b.track.position() }

var errDone = errors.New("every record is settled")

// Run stores the records and returns nil once every one is settled and the position says so. When the
// context ends before, what is in work is settled first, and the error is the context's cause. Whatever
// the end, the position was saved.
func (b *Backfill) Run(ctx context.Context) error {
	run, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	b.stop = stop
	deps := b.deps.Ingest
	deps.Source, deps.Payloads, deps.DeadLetters = b, nil, counted{b.deps.Ingest.DeadLetters, b}
	deps.Meter = nil // The age of a record since its publication means nothing here.
	opts := b.opts.Worker
	// Entries of a new index for rows already stored are the work of ingest.
	opts.IndexBuildDelay = 1000 * time.Hour
	worker, err := ingest.New(opts, deps, []*dataset.Dataset{b.ds})
	if err != nil {
		return err
	}
	var saving sync.WaitGroup
	saving.Go(func() { b.saveNowAndThen(run) })
	err = worker.Run(run)
	stop(err)
	saving.Wait()
	cause := context.Cause(run)
	if errors.Is(cause, errDone) {
		cause = nil
	}
	return errors.Join(cause, b.deps.Save(b.track.position()))
}

// saveNowAndThen saves the position while it moves.
func (b *Backfill) saveNowAndThen(ctx context.Context) {
	tick := time.NewTicker(b.opts.SaveEvery)
	defer tick.Stop()
	last := b.track.position()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		p := b.track.position()
		if p.Total == last.Total && p.File == last.File {
			continue
		}
		if err := b.deps.Save(p); err != nil {
			b.stop(fmt.Errorf("save the position: %w", err))
			return
		}
		last = p
	}
}

// Receive gives the records of the files to the worker instead of the messages of a subscription.
func (b *Backfill) Receive(ctx context.Context, _ string, opts bus.ReceiveOptions, handle func(context.Context, bus.Message) bool) error {
	slots, room := semaphore.NewWeighted(int64(opts.MaxMessages)), semaphore.NewWeighted(int64(opts.MaxBytes))
	for i := b.track.position().File; i < len(b.files) && ctx.Err() == nil; i++ {
		f := &filling{Backfill: b, file: b.files[i], handle: handle, slots: slots, room: room, maxBytes: int64(opts.MaxBytes)}
		if err := f.all(ctx); err != nil {
			b.stop(err)
			return nil
		}
		if ctx.Err() == nil {
			b.track.nextFile()
		}
	}
	b.stop(errDone) // It does nothing when the context has ended already.
	return nil
}

// filling is the work on one file.
type filling struct {
	*Backfill
	file        File
	handle      func(context.Context, bus.Message) bool
	slots, room *semaphore.Weighted
	maxBytes    int64
	calls       sync.WaitGroup
}

// all settles every record of the file, or those that it had begun with when the context ends.
func (f *filling) all(ctx context.Context) error {
	defer f.calls.Wait()
	records, err := f.file.Open(ctx)
	if err != nil {
		return fmt.Errorf("%s %w: %w", f.file.Name, ErrUnreadable, err)
	}
	defer func() { _ = records.Close() }() // It was only read.
	skip := f.track.position().Records
	for n := int64(1); ; n++ {
		data, err := records.Next()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, io.EOF) && n <= skip:
			return fmt.Errorf("%s %w: it has %d records, and %d of it were stored before", f.file.Name, ErrUnreadable, n-1, skip)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("%s %w after %d records: %w", f.file.Name, ErrUnreadable, n-1, err)
		case n <= skip:
			continue
		}
		if !f.give(ctx, n, data) {
			return nil
		}
	}
}

// give hands a record to the worker when there is room for it; false says that the context has ended.
func (f *filling) give(ctx context.Context, n int64, data []byte) bool {
	if f.limit != nil && f.limit.Wait(ctx) != nil {
		return false
	}
	weight := min(int64(len(data)), f.maxBytes)
	total, ok := f.track.begin(ctx)
	if !ok || f.slots.Acquire(ctx, 1) != nil || f.room.Acquire(ctx, weight) != nil {
		return false
	}
	m := bus.Message{
		// Of two records with one key and one time the later of the files wins, as the ids say.
		ID: strconv.FormatInt(total, 10), PublishTime: f.track.at, Data: data,
		Attributes: map[string]string{AttrFile: f.file.Name, AttrRecord: strconv.FormatInt(n, 10)},
	}
	f.calls.Go(func() {
		defer func() {
			f.room.Release(weight)
			f.slots.Release(1)
		}()
		for !f.handle(ctx, m) {
			if ctx.Err() != nil {
				return
			}
			f.track.retried()
		}
		f.track.settled(total)
	})
	return true
}

// The attributes that say in a dead letter where its record is from.
const (
	AttrFile   = "backfill_file"
	AttrRecord = "backfill_record"
)

// counted counts dead letters, and ends a backfill that makes too many.
type counted struct {
	ingest.DeadLetters
	b *Backfill
}

func (c counted) Publish(ctx context.Context, topic string, data []byte, attributes map[string]string) (string, error) {
	id, err := c.DeadLetters.Publish(ctx, topic, data, attributes)
	if err != nil {
		return id, err
	}
	if n := c.b.track.rejected(attributes[bus.AttrReason]); c.b.opts.MaxRejected > 0 && n > c.b.opts.MaxRejected {
		c.b.stop(fmt.Errorf("%w: %d", ErrTooManyRejected, n))
	}
	return id, nil
}

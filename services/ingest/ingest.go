// Package ingest moves messages from Pub/Sub into Bigtable: decode, batch, commit, and only then
// acknowledge. A record that breaks its declaration goes to the dead-letter topic with the reason.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
)

// Source delivers messages. Receive blocks until the context ends and every call of handle has returned.
type Source interface {
	Receive(ctx context.Context, subscription string, opts bus.ReceiveOptions, handle func(context.Context, bus.Message) bool) error
}

// Sink stores rows and answers with one error for each, nil meaning committed.
type Sink interface {
	Put(ctx context.Context, table string, rows []dataset.Row) []error
}

// DeadLetters takes rejected records; a nil error means that the record is safe there.
type DeadLetters interface {
	Publish(ctx context.Context, topic string, data []byte, attributes map[string]string) (string, error)
}

// Options bound the work in progress.
type Options struct {
	// BatchRows, BatchBytes and BatchDelay end a batch that is still filling. Defaults 500, 1 MB and 2ms.
	BatchRows  int
	BatchBytes int
	BatchDelay time.Duration
	// Shards is the number of batches that one dataset commits at a time. Rows of one key share a
	// shard, so two updates of a row never race. Default 2.
	Shards int
	// MaxMessages and MaxBytes bound what one dataset holds unsettled. Defaults 8000 and 64 MiB.
	MaxMessages int
	MaxBytes    int
	// DrainTimeout bounds the wait for work in progress once Run is told to stop. Default 25s.
	DrainTimeout time.Duration
	// IndexTimeout bounds one read or deletion for the upkeep of indexes. Default 5s.
	IndexTimeout time.Duration
	// IndexBuildRate is how many rows a second at most get the entries of a new index. Default 20000.
	IndexBuildRate int
	// IndexBuildDelay is how long after the start the rows of a table that is not empty are read for
	// a new index: until then processes that do not know the index must have ended. Default 0.
	IndexBuildDelay time.Duration
	// RetryDelay is the pause before a message that could not be stored is given back. Default 200ms.
	RetryDelay time.Duration
}

// Defaults fills in what is not set.
func (o Options) Defaults() Options {
	setDefault(&o.BatchRows, 500)
	setDefault(&o.BatchBytes, 1<<20)
	setDefault(&o.BatchDelay, 2*time.Millisecond)
	setDefault(&o.Shards, 2)
	setDefault(&o.MaxMessages, 8000)
	setDefault(&o.MaxBytes, 64<<20)
	setDefault(&o.DrainTimeout, 25*time.Second)
	setDefault(&o.IndexTimeout, 5*time.Second)
	setDefault(&o.IndexBuildRate, 20_000)
	setDefault(&o.RetryDelay, 200*time.Millisecond)
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
	case o.BatchRows < 1 || o.BatchRows > 5000:
		return fmt.Errorf("ingest: batch of %d rows is not in 1..5000", o.BatchRows)
	case o.BatchBytes < 1<<10 || o.BatchBytes > 64<<20:
		return fmt.Errorf("ingest: batch of %d bytes is not in 1 KiB..64 MiB", o.BatchBytes)
	case o.BatchDelay < 0 || o.BatchDelay > time.Second:
		return fmt.Errorf("ingest: batch delay %s is not in 0..1s", o.BatchDelay)
	case o.Shards < 1 || o.Shards > 64:
		return fmt.Errorf("ingest: %d shards are not in 1..64", o.Shards)
	case o.MaxMessages < 1:
		return fmt.Errorf("ingest: %d messages at a time is under 1", o.MaxMessages)
	case o.MaxBytes < 1<<20:
		return fmt.Errorf("ingest: %d bytes at a time is under 1 MiB", o.MaxBytes)
	case o.IndexTimeout < 10*time.Millisecond:
		return fmt.Errorf("ingest: index timeout %s is under 10ms", o.IndexTimeout)
	case o.IndexBuildRate < 1:
		return fmt.Errorf("ingest: index build rate of %d rows a second is under 1", o.IndexBuildRate)
	case o.IndexBuildDelay < 0:
		return fmt.Errorf("ingest: index build delay %s is negative", o.IndexBuildDelay)
	}
	return nil
}

// Deps are what the service works with. Meter, Tracer and Payloads may be nil, and Rows when no dataset
// has an index; without Payloads every payload is taken for JSON.
type Deps struct {
	Source      Source
	Sink        Sink
	Rows        Rows
	DeadLetters DeadLetters
	Payloads    Payloads
	Log         *slog.Logger
	Meter       metric.Meter
	Tracer      trace.Tracer
	Now         func() time.Time
}

// Service ingests a set of datasets.
type Service struct {
	opts   Options
	deps   Deps
	routes []*route
}

// route is one dataset on its way from its subscription to its table.
type route struct {
	ds     *dataset.Dataset
	opts   Options
	deps   Deps
	shards []*shard
	index  *indexer // nil when the dataset has no index
	// arriving counts messages that are being decoded: while there are some, a batch waits for them.
	arriving arrivals
	observed *observer
	activity activity

	mu                    sync.Mutex
	receiveErr, commitErr error // why the route cannot receive or store, nil when it can
}

// New makes a service for the datasets.
func New(opts Options, deps Deps, datasets []*dataset.Dataset) (*Service, error) {
	opts = opts.Defaults()
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	if len(datasets) == 0 {
		return nil, errors.New("ingest: no dataset to ingest")
	}
	s := &Service{opts: opts, deps: deps}
	in, err := newInstruments(deps.Meter)
	if err != nil {
		return nil, err
	}
	for _, ds := range datasets {
		if len(ds.Indexes) > 0 && deps.Rows == nil {
			return nil, fmt.Errorf("ingest: dataset %s has indexes, but there is no store to read rows from", ds.Name)
		}
		r := &route{ds: ds, opts: opts, deps: deps, observed: in.forDataset(ds, deps.Tracer)}
		r.index, r.activity.began = newIndexer(r), deps.Now()
		for range opts.Shards {
			r.shards = append(r.shards, newShard(r))
		}
		s.routes = append(s.routes, r)
	}
	return s, in.observe(s.routes, deps.Now)
}

// Run ingests until the context ends, then settles what it holds and returns nil. A subscription
// that cannot be read is tried again with growing pauses; Ready says so meanwhile.
func (s *Service) Run(ctx context.Context) error {
	g := errgroup.Group{}
	for _, r := range s.routes {
		g.Go(func() error { r.run(ctx); return nil })
	}
	return g.Wait()
}

// Ready returns nil when every route can store, else the reason of the first that cannot.
func (s *Service) Ready() error {
	for _, r := range s.routes {
		if err := r.state(); err != nil {
			return fmt.Errorf("dataset %s: %w", r.ds.Name, err)
		}
	}
	return nil
}

const (
	minReceiveBackoff = 250 * time.Millisecond
	maxReceiveBackoff = 10 * time.Second
	healthyAfter      = 2 * time.Second
)

func (r *route) run(ctx context.Context) {
	stop := make(chan struct{})
	var committers sync.WaitGroup
	for _, sh := range r.shards {
		committers.Go(func() { sh.run(stop) })
	}
	defer committers.Wait()
	defer close(stop)
	if r.index != nil {
		committers.Go(func() { r.index.build(ctx) })
	}

	backoff := minReceiveBackoff
	for ctx.Err() == nil {
		lasted, err := r.receive(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("the source ended")
		}
		r.setReceiveErr(fmt.Errorf("receive: %w", err))
		r.deps.Log.Error("receive ended", "dataset", r.ds.Name, "subscription", r.ds.Subscription(), "error", err, "retry_in", backoff)
		r.observed.platformError("receive")
		if lasted {
			backoff = minReceiveBackoff
		}
		pause(ctx, backoff)
		backoff = min(2*backoff, maxReceiveBackoff)
	}
}

// receive handles messages until the context ends or the subscription cannot be read. It tells
// whether the subscription could be read for a while, which is when the route counts as healthy.
func (r *route) receive(ctx context.Context) (lasted bool, err error) {
	var healthy atomic.Bool
	settle := time.AfterFunc(healthyAfter, func() {
		healthy.Store(true)
		r.setReceiveErr(nil)
	})
	defer settle.Stop()
	ended := make(chan error, 1)
	go func() {
		ended <- r.deps.Source.Receive(ctx, r.ds.Subscription(), bus.ReceiveOptions{
			MaxMessages: r.opts.MaxMessages, MaxBytes: r.opts.MaxBytes,
		}, r.handle)
	}()
	select {
	case err = <-ended:
	case <-ctx.Done():
		err = r.drain(ended)
	}
	return healthy.Load(), err
}

// drain waits for the messages in work, yet not for ever: what is not settled in time is
// redelivered, which does no harm.
func (r *route) drain(ended <-chan error) error {
	timeout := time.NewTimer(r.opts.DrainTimeout)
	defer timeout.Stop()
	select {
	case err := <-ended:
		return err
	case <-timeout.C:
		r.deps.Log.Warn("drain timed out, unsettled messages will be redelivered", "dataset", r.ds.Name, "timeout", r.opts.DrainTimeout)
		return nil
	}
}

func (r *route) state() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(r.receiveErr, r.commitErr)
}

func (r *route) setReceiveErr(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.receiveErr = err
}

func (r *route) setCommitErr(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.commitErr = err
}

// pause waits for d or the end of the context.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

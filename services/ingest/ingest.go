// Package ingest moves messages from Pub/Sub into Bigtable: decode, batch, commit, and only then
// acknowledge. A record that breaks its declaration goes to the dead-letter topic with the reason.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
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
	// Shards is the most batches that one dataset commits at a time; fewer, and with fewer rows, when
	// the store is slow. Rows of one key share a shard, so two updates of a row never race. Default 4.
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
	// MaxRejectShare pauses a dataset when, within a minute, at least 1,000 records break the
	// declaration and they are more than this share of all: that is a bad deploy, not bad data.
	// 1 never pauses. Default 0.5.
	MaxRejectShare float64
	// WatchAfter is how long nothing may arrive before the service looks whether messages wait that
	// its stream does not deliver. Default 30s.
	WatchAfter time.Duration
}

// Defaults fills in what is not set.
func (o Options) Defaults() Options {
	setDefault(&o.BatchRows, 500)
	setDefault(&o.BatchBytes, 1<<20)
	setDefault(&o.BatchDelay, 2*time.Millisecond)
	setDefault(&o.Shards, 4)
	setDefault(&o.MaxMessages, 8000)
	setDefault(&o.MaxBytes, 64<<20)
	setDefault(&o.DrainTimeout, 25*time.Second)
	setDefault(&o.IndexTimeout, 5*time.Second)
	setDefault(&o.IndexBuildRate, 20_000)
	setDefault(&o.RetryDelay, 200*time.Millisecond)
	setDefault(&o.MaxRejectShare, 0.5)
	setDefault(&o.WatchAfter, 30*time.Second)
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
	case o.MaxRejectShare <= 0 || o.MaxRejectShare > 1:
		return fmt.Errorf("ingest: share of rejected records %g is not over 0 and up to 1", o.MaxRejectShare)
	case o.WatchAfter < time.Second:
		return fmt.Errorf("ingest: a look for waiting messages after %s is under 1s", o.WatchAfter)
	case o.DrainTimeout < 0:
		return fmt.Errorf("ingest: drain timeout %s is negative", o.DrainTimeout)
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
	ds       *dataset.Dataset
	opts     Options
	deps     Deps
	incoming chan *item // received, not yet decoded
	shards   []*shard
	seed     maphash.Seed // of the hashes of row keys
	index    *indexer     // nil when the dataset has no index
	// arriving counts messages that are being decoded: while there are some, a batch waits for them.
	arriving arrivals
	observed *observer
	activity activity
	works    *works
	turns    *turns
	sink     Sink // of commits, which the turns follow
	gate     gate
	rejects  rejects
	draining atomic.Bool
	fresh    atomic.Bool // receive over a new connection

	mu            sync.Mutex
	health        health
	cancelReceive context.CancelCauseFunc // ends the present Receive
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
		r := &route{
			ds: ds, opts: opts, deps: deps, seed: maphash.MakeSeed(), observed: in.forDataset(ds, deps.Tracer),
			incoming: make(chan *item, opts.MaxMessages), works: newWorks(opts.MaxMessages), turns: newTurns(newLimiter(opts.Shards, opts.BatchRows)),
		}
		r.sink = followed{next: deps.Sink, turns: r.turns, now: deps.Now}
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

// Ready returns nil when every route receives and stores, else the reason of the first that does not:
// it is paused, cannot receive, cannot store, or is stuck.
func (s *Service) Ready() error {
	for _, r := range s.routes {
		if err := r.unready(); err != nil {
			return fmt.Errorf("dataset %s: %w", r.ds.Name, err)
		}
	}
	return nil
}

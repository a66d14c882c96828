// Package topiclog is a durable server of Google's Pub/Sub API for one
// machine: topics are logs of segments on disk, a Publish is answered after
// the disk has it, and everything survives a restart.
//
// It serves google.pubsub.v1 Publisher, Subscriber and SchemaService for the
// official clients. Pull and StreamingPull deliver at least once. Messages of a
// topic with a schema, Avro or Protocol Buffers, are validated as they are
// published. What only Google's infrastructure can do (push, exports,
// exactly-once delivery, message transforms, expiration of idle subscriptions)
// is answered with Unimplemented or, for expiration, stored and not applied.
package topiclog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

// Server holds topics and subscriptions and serves them once registered. Its
// methods may be used from several goroutines.
type Server struct {
	opts     Options
	st       storage
	lock     io.Closer
	volatile bool // nothing is read after Close, so state files are not written
	ids      atomic.Uint64
	stop     chan struct{} // closed by Close
	janitor  sync.WaitGroup

	life   sync.RWMutex // held for reading by every operation on the files
	closed bool         // guarded by life
	once   sync.Once
	err    error // of Close

	mu     sync.RWMutex // guards what follows; held for writing by administration
	epoch  uint64
	topics map[string]*topic
	orphan []*topic // deleted topics whose logs are still read
	subs   map[string]*subscription
	snaps  map[string]*snapshot
	schema map[string][]*revision // by name, from the oldest on, never empty; replaced, never changed
	uid    uint64                 // of the newest resource
}

// Open reads the folder of the log, or begins one. It cuts what a crash left
// half written at the end of a log. Any other damage is a *CorruptError that
// names the file and the offset, and nothing is opened.
func Open(opts Options) (*Server, error) {
	opts = opts.Defaults()
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	if opts.Dir == "" {
		return openOn(newMemStorage(), opts, nil)
	}
	if err := os.MkdirAll(opts.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the folder of the log: %w", err)
	}
	lock, err := lockDir(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("open the log in %s: %w", opts.Dir, err)
	}
	s, err := openOn(diskStorage{root: opts.Dir}, opts, lock)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the log in %s: %w", opts.Dir, err), lock.Close())
	}
	return s, nil
}

// openOn opens a server on a storage; opts are complete.
func openOn(st storage, opts Options, lock io.Closer) (*Server, error) {
	s := &Server{
		opts: opts, st: st, lock: lock, volatile: opts.Dir == "", stop: make(chan struct{}),
		topics: map[string]*topic{}, subs: map[string]*subscription{},
		snaps: map[string]*snapshot{}, schema: map[string][]*revision{},
	}
	if err := s.load(); err != nil {
		return nil, errors.Join(err, s.closeLogs())
	}
	s.janitor.Add(1)
	go s.runJanitor()
	return s, nil
}

// MaxRequestBytes is the largest request a client of the service sends. A gRPC
// server must be allowed to receive it; its default is 4 MB.
const MaxRequestBytes = 12 << 20

// ServerOptions returns what a gRPC server needs to serve every request that
// the limits of the service allow, without cutting off patient clients.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(MaxRequestBytes),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	}
}

// Register adds the Publisher, Subscriber and SchemaService to a gRPC server,
// which should be made with ServerOptions.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	pubsubpb.RegisterPublisherServer(r, &publisher{Server: s})
	pubsubpb.RegisterSubscriberServer(r, &subscriber{Server: s})
	pubsubpb.RegisterSchemaServiceServer(r, &schemaService{Server: s})
}

// Close ends open streams with Unavailable, lets running publishes finish,
// writes all state to the disk and closes the files. Later calls return what
// the first did.
func (s *Server) Close() error {
	s.once.Do(func() {
		close(s.stop)
		s.janitor.Wait()
		s.life.Lock()
		s.closed = true
		s.life.Unlock()
		s.mu.Lock()
		defer s.mu.Unlock()
		var errs []error
		for _, sub := range s.subs {
			errs = append(errs, s.flush(sub, true))
			sub.end(errClosing())
		}
		errs = append(errs, s.closeLogs())
		if s.lock != nil {
			errs = append(errs, s.lock.Close())
		}
		s.err = errors.Join(errs...)
	})
	return s.err
}

func (s *Server) closeLogs() error {
	var errs []error
	for _, t := range s.topics {
		errs = append(errs, t.log.close())
	}
	for _, t := range s.orphan {
		errs = append(errs, t.log.close())
	}
	return errors.Join(errs...)
}

func errClosing() error { return status.Error(codes.Unavailable, "the server is shutting down") }

// enter begins an operation on the files; the caller must call s.life.RUnlock
// when it is nil.
func (s *Server) enter() error {
	s.life.RLock()
	if s.closed {
		s.life.RUnlock()
		return errClosing()
	}
	return nil
}

// newIDs reserves n consecutive message ids and returns the first.
func (s *Server) newIDs(n int) uint64 { return s.ids.Add(uint64(n)) - uint64(n) + 1 }

// runJanitor applies retention to what no traffic touches.
func (s *Server) runJanitor() {
	defer s.janitor.Done()
	tick := time.NewTicker(s.opts.CollectInterval)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
			s.sweep()
		}
	}
}

// sweep expires old messages and snapshots and deletes unneeded segments.
func (s *Server) sweep() {
	if s.enter() != nil {
		return
	}
	defer s.life.RUnlock()
	now := s.opts.Now()
	s.dropSnapshots(now)
	for _, sub := range s.allSubscriptions() {
		if err := sub.expireOld(now.UnixNano()); err != nil {
			s.opts.Log.Warn("apply retention", "subscription", sub.name, "error", err)
		}
	}
	s.mu.RLock()
	topics := append([]*topic(nil), s.orphan...)
	for _, t := range s.topics {
		topics = append(topics, t)
	}
	s.mu.RUnlock()
	for _, t := range topics {
		t.collectLogged()
	}
}

func (s *Server) allSubscriptions() []*subscription {
	s.mu.RLock()
	defer s.mu.RUnlock()
	subs := make([]*subscription, 0, len(s.subs))
	for _, sub := range s.subs {
		subs = append(subs, sub)
	}
	return subs
}

// adopt wires a subscription to the server before it is shared.
func (s *Server) adopt(sub *subscription) {
	sub.onDirty = func() { time.AfterFunc(s.opts.FlushInterval, func() { s.settle(sub) }) }
	sub.forward = func(topic string, letters []deadLetter) error { return s.forward(sub.name, topic, letters) }
}

// settle follows a change of a subscription after a pause: its state goes to
// the disk, and what it no longer needs is freed.
func (s *Server) settle(sub *subscription) {
	if s.enter() != nil {
		return
	}
	defer s.life.RUnlock()
	if err := s.flush(sub, false); err != nil {
		s.opts.Log.Warn("write acknowledgements", "subscription", sub.name, "error", err)
		time.AfterFunc(s.opts.SyncInterval, func() { s.settle(sub) })
	}
	sub.mu.Lock()
	t := sub.topic
	sub.mu.Unlock()
	if t != nil {
		t.collectLogged()
	}
}

func (s *Server) flush(sub *subscription, durable bool) error {
	if s.volatile {
		sub.mu.Lock()
		sub.dirty = false
		sub.mu.Unlock()
		return nil
	}
	return sub.flush(s.st, durable)
}

// forward publishes dead letters.
func (s *Server) forward(from, to string, letters []deadLetter) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.life.RUnlock()
	t, err := s.topic(to)
	if err != nil {
		return err
	}
	msgs := make([]*pubsubpb.PubsubMessage, len(letters))
	for i, l := range letters {
		msgs[i] = deadLetterMessage(l, from)
	}
	return s.publish(context.Background(), t, msgs)
}

// Package cellstore serves Google's Bigtable gRPC data and table-admin API from
// a folder on disk, or from memory. It stands in for Bigtable on a laptop and in
// tests: any Bigtable client works against it unchanged.
//
// A write is synced to disk before it is acknowledged, and the mutations of one
// row are applied together or not at all, also across a crash. Limits, codes and
// messages follow the real service. Garbage-collection rules take effect on
// every read, so expired cells are never seen; a background pass removes them.
//
// Not served, with Unimplemented: change streams, SQL, backups, snapshots,
// authorized and materialized views, and aggregates other than int64 sums.
package cellstore

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"cloud.google.com/go/bigtable/admin/apiv2/adminpb"
	"cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/grpc"
)

// MaxMessageBytes is the largest message Bigtable clients send or accept.
const MaxMessageBytes = 256 << 20

// Options say where a Server keeps its cells and what it may use. The zero value
// is a store in memory with every default.
type Options struct {
	Dir string           // folder of the Pebble database; "" keeps everything in memory
	Now func() time.Time // clock of server timestamps and age rules; nil is time.Now
	Log *slog.Logger     // nil discards

	CacheBytes    int64         // block cache; 0 is 8 MiB
	MemTableBytes int64         // one of at most four write buffers; 0 is 16 MiB
	MinFreeBytes  int64         // writes are refused below this much free disk; 0 is 64 MiB, never more than a twentieth of the disk
	MaxRowBytes   int64         // larger rows cannot be read; 0 is Bigtable's 256 MiB
	GCInterval    time.Duration // pause between background garbage collections; 0 is 10 minutes, negative is never

	fs        vfs.FS        // tests inject faults here
	healEvery time.Duration // pause between attempts to reopen after a disk failure; 0 is a second
}

// Defaults returns o with every unset field filled in.
func (o Options) Defaults() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	setDefault(&o.CacheBytes, 8<<20)
	setDefault(&o.MemTableBytes, 16<<20)
	setDefault(&o.MinFreeBytes, 64<<20)
	setDefault(&o.MaxRowBytes, 256<<20)
	setDefault(&o.GCInterval, 10*time.Minute)
	setDefault(&o.healEvery, time.Second)
	return o
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate names the first field that is out of range.
func (o Options) Validate() error {
	for _, f := range []struct {
		name             string
		value, low, high int64
	}{
		{"CacheBytes", o.CacheBytes, 0, 64 << 30},
		{"MemTableBytes", o.MemTableBytes, 64 << 10, 2 << 30},
		{"MinFreeBytes", o.MinFreeBytes, 0, 1 << 50},
		{"MaxRowBytes", o.MaxRowBytes, 1, 1 << 40},
	} {
		if f.value < f.low || f.value > f.high {
			return fmt.Errorf("cellstore: %s is %d, want %d..%d", f.name, f.value, f.low, f.high)
		}
	}
	return nil
}

// Server is an open cell store. Its methods may be used concurrently.
type Server struct {
	opts Options
	fs   vfs.FS
	dir  string
	lock io.Closer

	locks   rowLocks
	readers sync.Pool // of *rowReader

	adminMu sync.Mutex // one schema change at a time
	nextID  uint32     // guarded by adminMu

	mu     sync.RWMutex // guards the fields below
	db     *database    // nil once closed
	tables map[string]*table

	gcMu   sync.Mutex // one garbage collection at a time
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// memoryDir is the folder's name inside an in-memory file system.
const memoryDir = "cells"

// closeWait bounds how long Close waits for running requests.
const closeWait = 10 * time.Second

// Open opens the store in o.Dir and creates it if need be. It fails when
// another process, or another Server, has the folder open.
func Open(o Options) (*Server, error) {
	o = o.Defaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	s := &Server{opts: o, fs: o.fs, dir: o.Dir, tables: map[string]*table{}}
	if s.dir == "" {
		s.dir = memoryDir
	}
	if s.fs == nil {
		s.fs = vfs.Default
		if o.Dir == "" {
			s.fs = vfs.NewMem()
		}
	}
	if err := s.start(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Server) start() error {
	if err := s.fs.MkdirAll(s.dir, 0o755); err != nil {
		return fmt.Errorf("create cell store folder %s: %w", s.dir, err)
	}
	lock, err := s.fs.Lock(s.fs.PathJoin(s.dir, "LOCK"))
	if err != nil {
		return fmt.Errorf("lock cell store %s (is it in use?): %w", s.dir, err)
	}
	db, err := openDatabase(s.opts, s.fs, s.dir)
	if err == nil {
		if err = s.loadTables(db); err != nil {
			db.retire()
		}
	}
	if err != nil {
		_ = lock.Close() // the first error is the one to report
		return err
	}
	s.db, s.lock = db, lock
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.done.Add(1)
	go s.maintain()
	return nil
}

// Register adds the Bigtable data, table-admin and instance-admin services to a
// gRPC server, which should be made with ServerOptions.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	bigtablepb.RegisterBigtableServer(r, &dataService{s: s})
	adminpb.RegisterBigtableTableAdminServer(r, &tableAdmin{s: s})
	adminpb.RegisterBigtableInstanceAdminServer(r, &instanceAdmin{s: s})
}

// ServerOptions are the gRPC options that Bigtable's message sizes need.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.MaxRecvMsgSize(MaxMessageBytes), grpc.MaxSendMsgSize(MaxMessageBytes)}
}

// Close ends compactions and garbage collection, lets running requests end, for
// up to 10 s, and closes the folder. Requests after it answer Unavailable. Stop
// the gRPC server first. A second Close does nothing.
func (s *Server) Close() error {
	s.mu.Lock()
	db := s.db
	s.db = nil
	s.mu.Unlock()
	if db == nil {
		return nil
	}
	s.cancel()
	s.done.Wait()
	db.retire()
	timer := time.NewTimer(closeWait)
	defer timer.Stop()
	select {
	case <-db.closed:
	case <-timer.C:
		return fmt.Errorf("close cell store %s: requests still run after %v", s.dir, closeWait)
	}
	if err := s.lock.Close(); err != nil {
		return fmt.Errorf("unlock cell store %s: %w", s.dir, err)
	}
	return nil
}

// hold returns the open database; the caller must release it.
func (s *Server) hold() (*database, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.db == nil || !s.db.hold() {
		return nil, errClosed
	}
	return s.db, nil
}

// maintain reopens the store after a disk failure and collects garbage.
func (s *Server) maintain() {
	defer s.done.Done()
	heal := time.NewTicker(s.opts.healEvery)
	defer heal.Stop()
	var collect <-chan time.Time
	if s.opts.GCInterval > 0 {
		t := time.NewTicker(s.opts.GCInterval)
		defer t.Stop()
		collect = t.C
	}
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-heal.C:
			s.healIfFailed()
		case <-collect:
			if n, err := s.collect(s.ctx, false); err != nil && s.ctx.Err() == nil {
				s.opts.Log.Warn("garbage collection stopped early", "deleted_cells", n, "error", err)
			}
		}
	}
}

// healIfFailed reopens the folder once the disk takes writes again. What was
// acknowledged is in the log; what was not may be gone, as after a crash.
func (s *Server) healIfFailed() {
	s.mu.RLock()
	old := s.db
	s.mu.RUnlock()
	if old == nil || old.guard.failure() == nil || old.isLow() || s.probe() != nil {
		return
	}
	s.adminMu.Lock()
	defer s.adminMu.Unlock()
	db, err := openDatabase(s.opts, s.fs, s.dir)
	if err != nil {
		s.opts.Log.Warn("the cell store stays read-only after a disk failure", "error", err)
		return
	}
	s.mu.Lock()
	if s.db == nil {
		s.mu.Unlock()
		db.retire()
		return
	}
	s.db = db
	s.mu.Unlock()
	old.retire()
	if err := s.loadTables(db); err != nil {
		s.opts.Log.Warn("reload tables after a disk failure", "error", err)
	}
	s.opts.Log.Info("the cell store takes writes again", "after", old.guard.failure())
}

// probe checks that the disk takes a synced write.
func (s *Server) probe() (err error) {
	name := s.fs.PathJoin(s.dir, "probe.tmp")
	f, err := s.fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	defer func() { _ = s.fs.Remove(name) }()
	_, err = f.Write(make([]byte, 1<<20))
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

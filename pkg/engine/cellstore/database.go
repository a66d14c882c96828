package cellstore

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// database is one opening of the Pebble folder. It closes when the Server has
// let go of it and the last request that uses it has ended, so that a reopening
// after a disk failure never pulls files from under a running read.
type database struct {
	*pebble.DB
	guard *guardFS
	dir   string

	backlog      *backlog
	maxMemTables uint64 // bytes

	minFreeBytes uint64
	checkedAt    atomic.Int64 // Unix nanoseconds of the last look at space and levels
	lowSpace     atomic.Bool
	deepL0       atomic.Bool // compactions are far behind

	mu      sync.Mutex
	users   int
	retired bool
	closed  chan struct{}
}

const (
	// checkEvery bounds how often a commit asks for the free space and the
	// state of the levels.
	checkEvery = 100 * time.Millisecond
	// maxSublevels is how deep level 0 may get before writers wait.
	maxSublevels = 60
	// neverStall is a threshold at which Pebble would hold back writers, out of
	// reach because backlog does so before.
	neverStall = 1000
)

// errClosed answers every request after Close.
var errClosed = status.Error(codes.Unavailable, "the cell store is closed")

// fatalError carries what Pebble cannot continue after.
type fatalError struct{ msg string }

func (e fatalError) Error() string { return e.msg }

// pebbleLog sends Pebble's log to slog: its chatter is of interest only when
// one debugs the store itself.
type pebbleLog struct{ *slog.Logger }

func (l pebbleLog) Infof(format string, args ...any)  { l.Debug(fmt.Sprintf(format, args...)) }
func (l pebbleLog) Errorf(format string, args ...any) { l.Warn(fmt.Sprintf(format, args...)) }

// Fatalf must not return. Disk errors do not come here, guardFS takes them, so
// what remains is a broken invariant: stopping is safer than going on.
func (l pebbleLog) Fatalf(format string, args ...any) {
	msg := fmt.Sprintf(format, args...)
	l.Error(msg)
	panic(fatalError{msg: msg})
}

func pebbleOptions(o Options, guard *guardFS, waiting *backlog) *pebble.Options {
	log := pebbleLog{o.Log.With("component", "pebble")}
	po := &pebble.Options{
		FS:                          guard,
		Logger:                      log,
		Comparer:                    newComparer(),
		FormatMajorVersion:          pebble.FormatTableFormatV6,
		CacheSize:                   o.CacheBytes,
		MemTableSize:                uint64(o.MemTableBytes),
		MemTableStopWritesThreshold: neverStall,
		WALBytesPerSync:             512 << 10,
		MaxOpenFiles:                256,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       neverStall,
		LBaseMaxBytes:               64 << 20,
		CompactionConcurrencyRange:  func() (lower, upper int) { return 1, 1 },
		EventListener: &pebble.EventListener{
			WALCreated:      waiting.rotated,
			FlushEnd:        waiting.ended,
			BackgroundError: func(err error) { log.Errorf("background error: %v", err) },
			DataCorruption:  func(info pebble.DataCorruptionInfo) { log.Error("data corruption", "details", info.String()) },
		},
	}
	po.Experimental.FileCacheShards = 2
	for i := range po.Levels {
		po.Levels[i].BlockSize = 16 << 10
		po.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return po
}

// openDatabase opens or creates the folder dir of fs.
func openDatabase(o Options, fs vfs.FS, dir string) (db *database, err error) {
	defer func() {
		if r := recover(); r != nil {
			fatal, ok := r.(fatalError)
			if !ok {
				panic(r)
			}
			db, err = nil, fmt.Errorf("open cell store %s: %w", dir, fatal)
		}
	}()
	guard, waiting := &guardFS{FS: fs}, newBacklog()
	pdb, err := pebble.Open(dir, pebbleOptions(o, guard, waiting))
	if err != nil {
		return nil, fmt.Errorf("open cell store %s: %w", dir, errors.Join(guard.failure(), err))
	}
	waiting.reset()
	db = &database{
		DB: pdb, guard: guard, dir: dir, backlog: waiting, maxMemTables: (maxUnflushed + 1) * uint64(o.MemTableBytes),
		minFreeBytes: uint64(o.MinFreeBytes), closed: make(chan struct{}),
	}
	if err := guard.failure(); err != nil {
		db.retire() // it never reached the disk
		return nil, fmt.Errorf("open cell store %s: %w", dir, err)
	}
	return db, nil
}

// hold keeps the database open until release; false when it is retired.
func (d *database) hold() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.retired {
		return false
	}
	d.users++
	return true
}

func (d *database) release() {
	d.mu.Lock()
	d.users--
	last := d.retired && d.users == 0
	d.mu.Unlock()
	if last {
		d.shut()
	}
}

// retire lets no new user in and closes the database behind the last one.
func (d *database) retire() {
	d.mu.Lock()
	first := !d.retired
	d.retired = true
	idle := d.users == 0
	d.mu.Unlock()
	if first && idle {
		d.shut()
	}
}

func (d *database) shut() {
	_ = d.Close() // a failing disk was reported by the commit that met it
	close(d.closed)
}

// commit makes a batch durable. It returns a gRPC status: ResourceExhausted
// when the disk is full, Unavailable when it fails otherwise. After an error the
// batch may or may not be in the store, but never a part of it.
func (d *database) commit(b *pebble.Batch) error {
	if err := d.admit(); err != nil {
		return err
	}
	if err := b.Commit(pebble.Sync); err != nil {
		return diskStatus(err)
	}
	return diskStatus(d.guard.failure())
}

// admit waits while flushes or compactions are behind, and refuses a write that
// the disk could not take. Refusing early, while some space is left, keeps
// flushes and compactions running.
func (d *database) admit() error {
	for {
		if err := d.refusal(); err != nil {
			return err
		}
		flushed := d.unflushed()
		if flushed == nil && !d.deepL0.Load() {
			return nil
		}
		timer := time.NewTimer(checkEvery)
		select {
		case <-flushed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// unflushed returns a channel to wait for when the unflushed buffers have reached
// their limit, else nil. Their number alone does not tell: after opening, Pebble
// begins with small ones and waits until it has enough of them for a flush.
func (d *database) unflushed() <-chan struct{} {
	flushed := d.backlog.full()
	if flushed == nil || d.Metrics().MemTable.Size < d.maxMemTables {
		return nil
	}
	return flushed
}

// refusal returns why the disk takes no writes, if so.
func (d *database) refusal() error {
	if err := d.guard.failure(); err != nil {
		return diskStatus(err)
	}
	now := time.Now().UnixNano()
	last := d.checkedAt.Load()
	if now-last > int64(checkEvery) && d.checkedAt.CompareAndSwap(last, now) {
		d.lowSpace.Store(d.isLow())
		d.deepL0.Store(d.Metrics().Levels[0].Sublevels > maxSublevels)
	}
	if d.lowSpace.Load() {
		return status.Error(codes.ResourceExhausted, "no space left for the cell store: free some disk space, then try again")
	}
	return diskStatus(d.guard.recentRefusal())
}

// isLow compares the free space with the reserve, which on a small disk is a
// twentieth of it.
func (d *database) isLow() bool {
	u, err := d.guard.FS.GetDiskUsage(d.dir)
	if err != nil {
		return false
	}
	return u.AvailBytes < min(d.minFreeBytes, u.TotalBytes/20)
}

func diskStatus(err error) error {
	switch {
	case err == nil:
		return nil
	case isNoSpace(err):
		return status.Errorf(codes.ResourceExhausted, "no space left for the cell store: %v", err)
	case errors.Is(err, pebble.ErrClosed):
		return errClosed
	}
	return status.Errorf(codes.Unavailable, "the cell store cannot write: %v", err)
}

package cellstore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ledger knows which batches were acknowledged.
type ledger struct {
	mu    sync.Mutex
	acked map[int]bool
}

func (l *ledger) ack(batch int) {
	l.mu.Lock()
	l.acked[batch] = true
	l.mu.Unlock()
}

func (l *ledger) copy() map[int]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := make(map[int]bool, len(l.acked))
	for b := range l.acked {
		m[b] = true
	}
	return m
}

const (
	ledgerRows  = 5 // per batch
	ledgerCells = 3 // per row
)

// ledgerBatch writes the rows of one batch; the last row's cells are large, so
// that logs rotate and tables are flushed while the test runs.
func ledgerBatch(batch int) *bigtablepb.MutateRowsRequest {
	req := &bigtablepb.MutateRowsRequest{TableName: tableNamed("t")}
	for row := range ledgerRows {
		e := &bigtablepb.MutateRowsRequest_Entry{RowKey: fmt.Appendf(nil, "b%06d-%d", batch, row)}
		for c := range ledgerCells {
			e.Mutations = append(e.Mutations, setCell("d", fmt.Sprint(c), 1000, strings.Repeat("x", 1+row*50)))
		}
		req.Entries = append(req.Entries, e)
	}
	return req
}

// checkLedger reads a store and compares it with the acknowledged batches.
func checkLedger(t *testing.T, e *env, acked map[int]bool) {
	t.Helper()
	cells := map[string]int{}
	for _, c := range e.mustRead("t", nil) {
		row, _, _ := strings.Cut(c, " ")
		cells[row]++
	}
	for row, n := range cells {
		if n != ledgerCells {
			t.Errorf("row %s has %d of %d cells", row, n, ledgerCells)
		}
	}
	lost := 0
	for batch := range acked {
		for row := range ledgerRows {
			if cells[fmt.Sprintf("b%06d-%d", batch, row)] == 0 {
				lost++
			}
		}
	}
	if lost > 0 {
		t.Errorf("%d acknowledged rows of %d batches are lost", lost, len(acked))
	}
}

// writeLedger has four writers send batches until stop is closed.
func writeLedger(e *env, l *ledger, stop <-chan struct{}) (wait func()) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				batch := int(next.Add(1))
				if e.sendBatch(ledgerBatch(batch)) == nil {
					l.ack(batch)
				}
			}
		})
	}
	return wg.Wait
}

// waitFor waits for a condition.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting for %s", what)
		}
	}
}

// After a loss of power nothing acknowledged is missing and no row is half
// there, whatever part of the unsynced data reached the disk.
func TestCrash(t *testing.T) {
	t.Parallel()
	fs := vfs.NewCrashableMem()
	e := serve(t, Options{fs: fs, MemTableBytes: 64 << 10})
	e.createTable("t", fams("d"))
	l := &ledger{acked: map[int]bool{}}
	stop := make(chan struct{})
	wait := writeLedger(e, l, stop)
	rng := rand.New(rand.NewPCG(7, 7))
	type crash struct {
		acked map[int]bool
		fs    *vfs.MemFS
	}
	var crashes []crash
	for i := range 8 {
		waitFor(t, "batches", func() bool { return len(l.copy()) >= 40*(i+1) })
		acked := l.copy() // before the crash: each of these must survive it
		crashes = append(crashes, crash{acked, fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})})
	}
	close(stop)
	wait()
	for i, c := range crashes {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			checkLedger(t, serve(t, Options{fs: c.fs}), c.acked)
		})
	}
}

// fullFS is a file system that refuses to write the files it is told to.
type fullFS struct {
	vfs.FS
	refuse atomic.Pointer[string] // substring of file names; nil refuses none
	err    error
}

type fullFile struct {
	vfs.File
	fs   *fullFS
	name string
}

func (f *fullFS) check(name string) error {
	if s := f.refuse.Load(); s != nil && strings.Contains(f.PathBase(name), *s) {
		return f.err
	}
	return nil
}

func (f *fullFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.check(name); err != nil {
		return nil, err
	}
	file, err := f.FS.Create(name, c)
	if err != nil {
		return nil, err
	}
	return &fullFile{File: file, fs: f, name: name}, nil
}

func (f *fullFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.check(newname); err != nil {
		return nil, err
	}
	file, err := f.FS.ReuseForWrite(oldname, newname, c)
	if err != nil {
		return nil, err
	}
	return &fullFile{File: file, fs: f, name: newname}, nil
}

func (f *fullFile) Write(p []byte) (int, error) {
	if err := f.fs.check(f.name); err != nil {
		n, _ := f.File.Write(p[:len(p)/2]) // a full disk takes a part
		return n, err
	}
	return f.File.Write(p)
}

func (f *fullFile) Sync() error     { return errors.Join(f.fs.check(f.name), f.File.Sync()) }
func (f *fullFile) SyncData() error { return errors.Join(f.fs.check(f.name), f.File.SyncData()) }

// A disk that fails at any kind of file refuses writes with the right code,
// leaves the store readable and the process alive, and loses nothing that was
// acknowledged; when it recovers, so does the store.
func TestDiskFails(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		files string
		err   error
		code  codes.Code
	}{
		{".log", syscall.ENOSPC, codes.ResourceExhausted},
		{".log", syscall.EIO, codes.Unavailable},
		{".sst", syscall.ENOSPC, codes.ResourceExhausted},
		{".sst", syscall.EIO, codes.Unavailable},
		{"MANIFEST", syscall.ENOSPC, codes.ResourceExhausted},
		{"", syscall.ENOSPC, codes.ResourceExhausted},
	} {
		t.Run(tt.files+tt.err.Error(), func(t *testing.T) {
			t.Parallel()
			fs := &fullFS{FS: vfs.NewMem(), err: tt.err}
			e := serve(t, Options{fs: fs, MemTableBytes: 64 << 10, healEvery: 20 * time.Millisecond})
			e.createTable("t", fams("d"))
			l := &ledger{acked: map[int]bool{}}
			stop := make(chan struct{})
			wait := writeLedger(e, l, stop)
			waitFor(t, "batches", func() bool { return len(l.copy()) >= 100 })
			fs.refuse.Store(&tt.files)
			waitFor(t, "a refusal", func() bool {
				err := e.sendBatch(ledgerBatch(999_999))
				if err != nil && status.Code(err) != tt.code {
					t.Errorf("error %v, want %v", err, tt.code)
				}
				return err != nil
			})
			close(stop)
			wait()
			acked := l.copy()
			checkLedger(t, e, acked)
			fs.refuse.Store(nil)
			waitFor(t, "the store to take writes again", func() bool {
				return e.sendBatch(ledgerBatch(1_000_000)) == nil
			})
			acked[1_000_000] = true
			checkLedger(t, e, acked)
			e.stop()
			checkLedger(t, serve(t, Options{fs: fs}), acked)
		})
	}
}

// Writes are refused while there is still room for flushes, and taken again
// when there is more.
func TestLowSpace(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	e := serve(t, Options{fs: fs})
	e.createTable("t", fams("d"))
	fs.TestingSetDiskUsage(vfs.DiskUsage{TotalBytes: 100 << 30, AvailBytes: 10 << 20})
	var err error
	waitFor(t, "a refusal", func() bool {
		err = e.mutate("t", "r", setCell("d", "q", 1000, "v"))
		return err != nil
	})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("error %v, want ResourceExhausted", err)
	}
	if got := e.mustRead("t", nil); len(got) > 1 {
		t.Errorf("read %q", got)
	}
	fs.TestingSetDiskUsage(vfs.DiskUsage{TotalBytes: 100 << 30, AvailBytes: 10 << 30})
	waitFor(t, "writes", func() bool { return e.mutate("t", "r", setCell("d", "q", 1000, "v")) == nil })
}

// gateFS holds back the creation of table files until its gate opens.
type gateFS struct {
	vfs.FS
	gate chan struct{}
}

func (f *gateFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasSuffix(name, ".sst") {
		<-f.gate
	}
	return f.FS.Create(name, c)
}

// Writers wait when flushes are behind, so that memory stays bounded, and go on
// when they have caught up.
func TestBacklog(t *testing.T) {
	t.Parallel()
	const memTable = 256 << 10
	fs := &gateFS{FS: vfs.NewMem(), gate: make(chan struct{})}
	e := serve(t, Options{fs: fs, MemTableBytes: memTable})
	e.createTable("t", fams("d"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for batch := range 4000 {
			if err := e.sendBatch(ledgerBatch(batch)); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	waitFor(t, "a backlog", func() bool { return e.s.db.unflushed() != nil })
	select {
	case <-done:
		t.Error("the writer did not wait")
	case <-time.After(200 * time.Millisecond):
	}
	if size := e.s.db.Metrics().MemTable.Size; size > 2*(maxUnflushed+1)*memTable {
		t.Errorf("write buffers take %d bytes", size)
	}
	close(fs.gate)
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Error("the writer waits for ever")
	}
}

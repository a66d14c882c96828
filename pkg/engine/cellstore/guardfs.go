package cellstore

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// guardFS keeps a failing disk from ending the process. Pebble treats an error
// on its write-ahead log or manifest as fatal, sometimes with locks held, and its
// flushes run before it has finished opening. A guardFS therefore answers such a
// write with success, remembers the failure for good and from then on lets
// nothing more reach the disk. What was synced before stays as it is, Pebble goes
// on serving reads from memory and files, and opening and every commit ask
// failure() before they succeed.
//
// Errors on table files are returned, because Pebble retries flushes and
// compactions; a pause keeps it from retrying in a hot loop.
type guardFS struct {
	vfs.FS
	failed  atomic.Pointer[writeFailure]
	refused atomic.Pointer[writeFailure] // the last failure at a table file
}

type writeFailure struct {
	err error
	at  time.Time
}

const (
	guardPause = 100 * time.Millisecond
	// refusalLasts is how long a failed flush or compaction keeps writers out;
	// Pebble tries again sooner.
	refusalLasts = time.Second
)

// failure returns the error after which nothing reached the disk any more.
func (g *guardFS) failure() error {
	if f := g.failed.Load(); f != nil {
		return f.err
	}
	return nil
}

// halted reports whether nothing may reach the disk any more.
func (g *guardFS) halted() bool { return g.failed.Load() != nil }

// recentRefusal returns the error that a table file lately met.
func (g *guardFS) recentRefusal() error {
	f := g.refused.Load()
	if f == nil || time.Since(f.at) > refusalLasts {
		return nil
	}
	return f.err
}

func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// isVital tells the files whose write errors Pebble does not survive. Its options
// are among them: they are written while it opens, when compactions already run,
// and these outlive an opening that fails.
func (g *guardFS) isVital(name string) bool {
	base := g.PathBase(name)
	return strings.HasSuffix(base, ".log") || strings.HasSuffix(base, ".dbtmp") || strings.HasPrefix(base, "OPTIONS") || strings.HasPrefix(base, "MANIFEST") || strings.HasPrefix(base, "marker.")
}

// note records err and returns what Pebble may see of it.
func (g *guardFS) note(err error, vital bool, act, name string) error {
	if err == nil {
		return nil
	}
	if vital {
		g.failed.CompareAndSwap(nil, &writeFailure{err: fmt.Errorf("%s %s: %w", act, name, err), at: time.Now()})
		return nil
	}
	g.refuse(err)
	return err
}

func (g *guardFS) refuse(err error) {
	g.refused.Store(&writeFailure{err: err, at: time.Now()})
	time.Sleep(guardPause)
}

func (g *guardFS) wrap(f vfs.File, name string) vfs.File {
	return &guardFile{File: f, g: g, name: name, vital: g.isVital(name)}
}

// create runs an opening call, or stands in for it once the disk has failed.
func (g *guardFS) create(name string, open func() (vfs.File, error)) (vfs.File, error) {
	vital := g.isVital(name)
	if err := g.failure(); err != nil {
		if vital {
			return g.wrap(vfs.NewMemFile(nil), name), nil
		}
		g.refuse(err)
		return nil, err
	}
	f, err := open()
	if err != nil {
		if g.note(err, vital, "create", name) == nil {
			return g.wrap(vfs.NewMemFile(nil), name), nil
		}
		return nil, err
	}
	return g.wrap(f, name), nil
}

func (g *guardFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.create(name, func() (vfs.File, error) { return g.FS.Create(name, c) })
}

func (g *guardFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return g.create(name, func() (vfs.File, error) { return g.FS.OpenReadWrite(name, c, o...) })
}

func (g *guardFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.create(newname, func() (vfs.File, error) { return g.FS.ReuseForWrite(oldname, newname, c) })
}

func (g *guardFS) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &guardFile{File: f, g: g, name: name, vital: true}, nil
}

func (g *guardFS) Remove(name string) error {
	if g.halted() {
		return nil
	}
	return g.FS.Remove(name)
}

func (g *guardFS) RemoveAll(name string) error {
	if g.halted() {
		return nil
	}
	return g.FS.RemoveAll(name)
}

func (g *guardFS) Rename(oldname, newname string) error {
	if g.halted() {
		return nil
	}
	return g.note(g.FS.Rename(oldname, newname), g.isVital(newname), "rename", newname)
}

func (g *guardFS) Link(oldname, newname string) error {
	if err := g.failure(); err != nil {
		return err
	}
	return g.FS.Link(oldname, newname)
}

// Lock takes nothing: the Server holds the folder's lock across reopenings.
func (g *guardFS) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

func (g *guardFS) Unwrap() vfs.FS { return g.FS }

// guardFile is one file, or directory, of a guardFS opened for writing.
type guardFile struct {
	vfs.File
	g     *guardFS
	name  string
	vital bool
}

// stopped reports whether a write must not reach the disk, and its answer.
func (f *guardFile) stopped() (bool, error) {
	err := f.g.failure()
	switch {
	case err == nil:
		return false, nil
	case f.vital:
		return true, nil
	}
	f.g.refuse(err)
	return true, err
}

func (f *guardFile) write(n int, act func() (int, error)) (int, error) {
	if stop, err := f.stopped(); stop {
		if err != nil {
			return 0, err
		}
		return n, nil
	}
	done, err := act()
	if err == nil {
		return done, nil
	}
	if err = f.g.note(err, f.vital, "write", f.name); err != nil {
		return done, err
	}
	return n, nil
}

func (f *guardFile) Write(p []byte) (int, error) {
	return f.write(len(p), func() (int, error) { return f.File.Write(p) })
}

func (f *guardFile) WriteAt(p []byte, off int64) (int, error) {
	return f.write(len(p), func() (int, error) { return f.File.WriteAt(p, off) })
}

func (f *guardFile) sync(act func() error) error {
	if stop, err := f.stopped(); stop {
		return err
	}
	return f.g.note(act(), f.vital, "sync", f.name)
}

func (f *guardFile) Sync() error     { return f.sync(f.File.Sync) }
func (f *guardFile) SyncData() error { return f.sync(f.File.SyncData) }

func (f *guardFile) SyncTo(length int64) (full bool, err error) {
	err = f.sync(func() (err error) {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, err
}

func (f *guardFile) Close() error {
	err := f.File.Close()
	if f.g.halted() {
		return nil
	}
	return f.g.note(err, f.vital, "close", f.name)
}

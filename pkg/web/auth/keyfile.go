package auth

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Files reads the file of the API keys; pkg/proc's Process is one. Stamp changes whenever the file does.
type Files interface {
	ReadFile(path string) ([]byte, error)
	Stamp(path string) (string, error)
}

// keyFile is a keyring that follows its file: it looks at it when it is asked, at most once an
// interval. A file that cannot be read leaves the last good keys in force; one that is gone leaves
// none.
type keyFile struct {
	files    Files
	path     string
	interval time.Duration
	log      *slog.Logger

	ring atomic.Pointer[Keyring]
	next atomic.Int64 // when to look again, in Unix nanoseconds

	mu    sync.Mutex
	stamp string // of what was read last, or of what could not be read
	fault string // what was logged last
}

// openKeyFile reads the file, which may be absent.
func openKeyFile(f *keyFile, now time.Time) error {
	f.ring.Store(NewKeyring())
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next.Store(now.Add(f.interval).UnixNano())
	err := f.read()
	if err == nil && f.stamp == "" {
		f.log.Info("there are no API keys yet", "file", f.path)
	}
	return err
}

func (f *keyFile) keys(now time.Time) *Keyring {
	// A clock that was set back must not keep revoked keys in force until it has caught up.
	wait := f.next.Load() - now.UnixNano()
	if (wait <= 0 || wait > int64(f.interval)) && f.mu.TryLock() {
		f.next.Store(now.Add(f.interval).UnixNano())
		if err := f.read(); err != nil && err.Error() != f.fault {
			f.fault = err.Error()
			f.log.Error("the API keys in force stay: their file cannot be read", "file", f.path, "error", err)
		} else if err == nil {
			f.fault = ""
		}
		f.mu.Unlock()
	}
	return f.ring.Load()
}

// read takes the file over when it has changed.
func (f *keyFile) read() error {
	stamp, err := f.files.Stamp(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		if f.stamp != "" {
			f.log.Warn("the file of the API keys is gone, and so are the keys", "file", f.path)
		}
		f.stamp = ""
		f.ring.Store(NewKeyring())
		return nil
	}
	if err != nil {
		return fmt.Errorf("read API keys: %w", err)
	}
	if stamp == f.stamp {
		return nil
	}
	b, err := f.files.ReadFile(f.path)
	if err != nil {
		return fmt.Errorf("read API keys: %w", err)
	}
	f.stamp = stamp
	ring, err := ParseKeyring(b)
	if err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	f.ring.Store(ring)
	return nil
}

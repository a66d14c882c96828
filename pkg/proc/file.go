package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Stamp is a short text that changes whenever a file is replaced or written: inode, size and time
// of the last change. It follows symbolic links.
func (p *Process) Stamp(path string) (string, error) {
	info, err := os.Stat(p.Path(path))
	if err != nil {
		return "", err
	}
	var inode uint64
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		inode = st.Ino
	}
	return fmt.Sprintf("%d/%d/%d", inode, info.Size(), info.ModTime().UnixNano()), nil
}

// lockPoll is the pause between two tries to take a lock.
const lockPoll = 5 * time.Millisecond

// LockFile takes the lock of a file that several processes change, and waits for it until the
// context ends. The lock is a file of its own beside it, because the file itself is replaced. The
// kernel releases it however the process ends.
func (p *Process) LockFile(ctx context.Context, path string) (unlock func(), err error) {
	path = p.Path(path) + ".lock"
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("wait for the lock %s, which another process holds: %w", path, ctx.Err()), f.Close())
		}
	}
}

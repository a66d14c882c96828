package proc

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"syscall"
)

// ReadFileLimit is ReadFile for a file that may not be larger than a number of bytes.
func (p *Process) ReadFileLimit(path string, maxBytes int64) ([]byte, error) {
	f, err := os.Open(p.Path(path))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // It was only read.
	data, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > maxBytes {
		return nil, fmt.Errorf("read %s: it has more than the %d bytes that are allowed", path, maxBytes)
	}
	return data, nil
}

// TreeFiles returns the files below a folder, as slash-separated paths from it and in order. A
// folder that does not exist has none. It stops with an error after a number of files.
func (p *Process) TreeFiles(dir string, limit int) ([]string, error) {
	root := p.Path(dir)
	var files []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // Removed while we walked.
			return nil
		case err != nil:
			return err
		case !entry.Type().IsRegular():
			return nil
		case len(files) == limit:
			return fmt.Errorf("list %s: it has more than %d files", dir, limit)
		}
		name, err := filepath.Rel(root, path)
		files = append(files, filepath.ToSlash(name))
		return err
	})
	return files, err
}

// MakePrivateDir makes a folder, and those on the way, that only its owner may enter. It tells
// whether the folder is new; one that exists keeps its permissions.
func (p *Process) MakePrivateDir(dir string) (created bool, err error) {
	dir = p.Path(dir)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return false, err
	}
	err = os.Mkdir(dir, 0o700)
	if !errors.Is(err, fs.ErrExist) {
		return err == nil, err
	}
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		return false, fmt.Errorf("%s is a file, not a folder", dir)
	}
	return false, err
}

// Mode returns the permissions of a file or folder.
func (p *Process) Mode(path string) (fs.FileMode, error) {
	info, err := os.Stat(p.Path(path))
	if err != nil {
		return 0, err
	}
	return info.Mode().Perm(), nil
}

// RecordLock returns the process that holds a lock on a file as fcntl(2) makes it, which is how
// Terraform locks a state in a folder. The kernel forgets such a lock when its process ends. The pid
// is 0 when nobody, or only this process, holds one.
func (p *Process) RecordLock(path string) (pid int, err error) {
	f, err := os.OpenFile(p.Path(path), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }() // Nothing was written.
	lock := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart}
	if err := syscall.FcntlFlock(f.Fd(), syscall.F_GETLK, &lock); err != nil {
		return 0, fmt.Errorf("ask who locks %s: %w", path, err)
	}
	if lock.Type == syscall.F_UNLCK {
		return 0, nil
	}
	return int(lock.Pid), nil
}

// Owner returns the names of this machine and of the user who runs the program, as far as they are known.
func (p *Process) Owner() (host, name string) {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	if u, err := user.Current(); err == nil {
		return host, u.Username
	}
	return host, fmt.Sprintf("uid %d", os.Getuid())
}

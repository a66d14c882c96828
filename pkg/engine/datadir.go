package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// FormatVersion is the version of the data folder's layout that this program reads and writes.
const FormatVersion = 1

// ErrInUse says that another process works on the data folder.
var ErrInUse = errors.New("data folder in use")

// ErrNewerFormat says that a later version of the program wrote the data folder.
var ErrNewerFormat = errors.New("data folder of a newer format")

// Reset deletes what an engine keeps in a data folder, and the folder itself when nothing else is
// in it. A folder in use, and one that no engine has marked, are refused.
func Reset(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "FORMAT")); err != nil {
		return fmt.Errorf("reset data folder: %s is not one: %w", dir, err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	for _, name := range []string{"topics", "cells", "sample-loaded", "run.json", "FORMAT", "LOCK"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("reset data folder: %w", err)
		}
	}
	_ = os.Remove(dir) // It stays when it holds what is not ours.
	return nil
}

// dirs are the folders below the data folder.
type dirs struct{ topics, cells string }

// openDir creates the data folder when missing, takes its lock until Close and checks its format.
func (e *Engine) openDir(dir string) (dirs, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return dirs{}, fmt.Errorf("create data folder: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return dirs{}, err
	}
	e.onClose(lock.Close)
	if err := checkFormat(dir); err != nil {
		return dirs{}, err
	}
	return dirs{topics: filepath.Join(dir, "topics"), cells: filepath.Join(dir, "cells")}, nil
}

// lockDir holds an advisory lock, which the kernel releases however the process ends. The file
// holds the owner's process id for the message that a second process gets.
func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, "LOCK")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open lock of data folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		owner, _ := os.ReadFile(path)
		return nil, errors.Join(fmt.Errorf("%w: %s is held by process %s", ErrInUse, dir, strings.TrimSpace(string(owner))), f.Close())
	}
	pid := []byte(strconv.Itoa(os.Getpid()) + "\n")
	if err := errors.Join(f.Truncate(0), writeAt(f, pid)); err != nil {
		return nil, errors.Join(fmt.Errorf("write lock of data folder: %w", err), f.Close())
	}
	return f, nil
}

func writeAt(f *os.File, b []byte) error {
	_, err := f.WriteAt(b, 0)
	return err
}

// checkFormat refuses a folder that this program would misread, and marks a new one. An empty mark
// is what a crash of the machine can leave of a first start, before there is any data.
func checkFormat(dir string) error {
	path := filepath.Join(dir, "FORMAT")
	b, err := os.ReadFile(path)
	mark := strings.TrimSpace(string(b))
	if errors.Is(err, fs.ErrNotExist) || err == nil && mark == "" {
		return markFormat(path)
	}
	if err != nil {
		return fmt.Errorf("read format of data folder: %w", err)
	}
	version, err := strconv.Atoi(mark)
	switch {
	case err != nil:
		return fmt.Errorf("read format of data folder: %s holds %q, not a number", path, mark)
	case version > FormatVersion:
		return fmt.Errorf("%w: %s is format %d, this program reads up to %d", ErrNewerFormat, dir, version, FormatVersion)
	}
	return nil
}

// markFormat writes the mark as a whole or not at all.
func markFormat(path string) error {
	tmp := path + ".new"
	err := os.WriteFile(tmp, []byte(strconv.Itoa(FormatVersion)+"\n"), 0o644)
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return fmt.Errorf("mark format of data folder: %w", err)
	}
	return nil
}

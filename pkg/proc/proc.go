// Package proc is the seam between the program and its process: arguments, environment, standard
// streams, clock, files and signals. Commands reach the operating system through it only.
package proc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/term"
)

// Process is one run of the program.
type Process struct {
	// Args are the arguments without the program's name.
	Args []string
	PID  int
	// Getenv looks a variable up; ok is false when it is not set.
	Getenv func(key string) (value string, ok bool)
	// Dir is the working directory that relative paths are resolved against; empty is the process's own.
	Dir string
	In  io.Reader
	Out io.Writer
	Err io.Writer
	// InTerminal, OutTerminal and ErrTerminal say which streams are a person's terminal.
	InTerminal, OutTerminal, ErrTerminal bool
	Now                                  func() time.Time
	// Exit ends the process at once; only a second interrupt calls it.
	Exit func(code int)
}

// OS returns the process that the program runs in.
func OS() *Process {
	return &Process{
		Args: os.Args[1:], PID: os.Getpid(), Getenv: os.LookupEnv,
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		InTerminal: isTerminal(os.Stdin), OutTerminal: isTerminal(os.Stdout), ErrTerminal: isTerminal(os.Stderr),
		Now: time.Now, Exit: os.Exit,
	}
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// Env returns a variable, empty when it is not set.
func (p *Process) Env(key string) string {
	value, _ := p.Getenv(key)
	return value
}

// Path resolves a path against the working directory.
func (p *Process) Path(path string) string {
	if p.Dir == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(p.Dir, path)
}

// ReadFile reads a whole file.
func (p *Process) ReadFile(path string) ([]byte, error) { return os.ReadFile(p.Path(path)) }

// Open opens a file for reading.
func (p *Process) Open(path string) (io.ReadCloser, error) { return os.Open(p.Path(path)) }

// Exists tells whether there is something at the path.
func (p *Process) Exists(path string) bool {
	_, err := os.Stat(p.Path(path))
	return !errors.Is(err, fs.ErrNotExist)
}

// Remove deletes a file; one that is not there is no error.
func (p *Process) Remove(path string) error {
	if err := os.Remove(p.Path(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// WriteFile replaces a file as a whole: a reader sees the old content or the new, never a part.
// Folders on the way are created.
func (p *Process) WriteFile(path string, data []byte) error { return p.replaceFile(path, data, 0o644) }

// WriteSecretFile is WriteFile for a file that only its owner may read.
func (p *Process) WriteSecretFile(path string, data []byte) error {
	return p.replaceFile(path, data, 0o600)
}

func (p *Process) replaceFile(path string, data []byte, mode fs.FileMode) error {
	path = p.Path(path)
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return writeInto(path, data) // A device or a pipe must not be replaced by a file.
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // After the rename there is nothing to remove.
	_, err = tmp.Write(data)
	if err := errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(tmp.Name(), path)
}

// writeInto writes to what is not a file, such as /dev/stdout.
func writeInto(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// ErrInterrupted is the cause of a context that a signal ended.
var ErrInterrupted = errors.New("interrupted")

// NotifyStop returns a context that SIGINT or SIGTERM ends with ErrInterrupted as its cause. A second signal
// exits at once: the first asked for a drain, the second says that waiting is over.
func (p *Process) NotifyStop(ctx context.Context, exitCode int) (context.Context, context.CancelFunc) {
	ctx, _, stop := p.NotifyInterrupts(ctx, exitCode)
	return ctx, stop
}

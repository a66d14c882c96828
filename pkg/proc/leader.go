package proc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Environ returns the whole environment, as "key=value".
func (p *Process) Environ() []string { return os.Environ() }

// ParentPID is the process that started this one, or 1 when it is gone.
func (p *Process) ParentPID() int { return os.Getppid() }

// Detach makes this process, and the program that it becomes by Exec, outlive its parent and its
// terminal. It binds the caller to its thread, because the signal at a parent's death belongs to a
// thread: Exec must be called from the same goroutine.
func (p *Process) Detach() error {
	runtime.LockOSThread()
	signal.Ignore(syscall.SIGHUP)
	if err := detach(); err != nil {
		return fmt.Errorf("detach from the parent process: %w", err)
	}
	return nil
}

// RedirectOutput appends everything that is written to standard output and standard error from now
// on to two files, which are made with mode 0600. An empty path leaves that stream as it is.
func (p *Process) RedirectOutput(stdout, stderr string) error {
	for fd, path := range map[int]string{1: stdout, 2: stderr} {
		if path == "" {
			continue
		}
		f, err := os.OpenFile(p.Path(path), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		if err := errors.Join(dup(int(f.Fd()), fd), f.Close()); err != nil {
			return fmt.Errorf("put the output into %s: %w", path, err)
		}
	}
	return nil
}

// Exec replaces this program by another one; it returns only when that is impossible.
func (p *Process) Exec(program string, args, env []string) error {
	return fmt.Errorf("run %s: %w", program, syscall.Exec(program, append([]string{program}, args...), env))
}

// Executable is the path of the running program.
func (p *Process) Executable() (string, error) { return os.Executable() }

// MakeSecretDir makes a folder that only its owner may read, and the folders on the way to it.
func (p *Process) MakeSecretDir(path string) error { return os.MkdirAll(p.Path(path), 0o700) }

// ClaimSecretFile makes an empty file that only its owner may read, and fails with fs.ErrExist
// when there is one.
func (p *Process) ClaimSecretFile(path string) error {
	f, err := os.OpenFile(p.Path(path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// OpenAt opens a file for reading at any offset.
func (p *Process) OpenAt(path string) (interface {
	io.ReaderAt
	io.Closer
}, error,
) {
	return os.Open(p.Path(path))
}

// Rename gives a file or folder another name on the same file system.
func (p *Process) Rename(from, to string) error { return os.Rename(p.Path(from), p.Path(to)) }

// IsDir tells whether a path leads to a folder.
func (p *Process) IsDir(path string) bool {
	info, err := os.Stat(p.Path(path))
	return err == nil && info.IsDir()
}

// OutputEnv is Output with an environment of its own, and of both streams.
func (p *Process) OutputEnv(ctx context.Context, env []string, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env = p.Dir, env
	// A program that leaves a child with its output behind must not hold us up.
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return text, fmt.Errorf("run %s: %w", program, err)
	}
	return text, nil
}

// UserCacheDir is the folder of this program's caches, empty when the user has no home.
func (p *Process) UserCacheDir() string {
	if dir := p.Env("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "latamctl")
	}
	if home := p.Env("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".cache", "latamctl")
	}
	return ""
}

// ExitStatus reads how a program ended from an error of os/exec: its exit code, or the signal that
// ended it. The last result is false when the error says neither.
func ExitStatus(err error) (code int, signal string, ok bool) {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return 0, "", false
	}
	if status, isUnix := exit.Sys().(syscall.WaitStatus); isUnix && status.Signaled() {
		return -1, status.Signal().String(), true
	}
	return exit.ExitCode(), "", true
}

// ProcessIdentity tells a process from every other one that has or will have its id: it changes
// with the boot and the start of the process. It is empty when no such process runs any more; one
// that has ended and waits to be noticed by its parent does not run.
func (p *Process) ProcessIdentity(pid int) (string, error) {
	if pid <= 0 {
		return "", nil
	}
	id, err := processIdentity(pid)
	if err != nil {
		return "", fmt.Errorf("look for process %d: %w", pid, err)
	}
	return id, nil
}

// KillGroup ends a process and the group that it leads at once. One that is gone is no error.
func (p *Process) KillGroup(pid int) error {
	if pid <= 1 {
		return fmt.Errorf("kill process group %d: want the id of a program that was started", pid)
	}
	if err := syscall.Kill(-pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill process group %d: %w", pid, err)
	}
	return nil
}

// Subfolders returns the folders below root at a depth, as paths relative to it, in order. Links to
// folders count.
func (p *Process) Subfolders(root string, depth int) ([]string, error) {
	matches, err := fs.Glob(os.DirFS(p.Path(root)), strings.TrimSuffix(strings.Repeat("*/", depth), "/"))
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(matches, func(m string) bool {
		hidden := strings.HasPrefix(m, ".") || strings.Contains(m, "/.")
		return hidden || !p.IsDir(filepath.Join(root, m))
	}), nil
}

package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Child is another program that this one started.
type Child struct {
	name   string
	cmd    *exec.Cmd
	output tail
	ended  chan struct{}
}

// LookPath finds a program, by its name or its path. The error is of kind fs.ErrNotExist or
// exec.ErrNotFound when there is none.
func (p *Process) LookPath(program string) (string, error) { return exec.LookPath(program) }

// Output runs a program to its end and returns what it printed on standard output, without the
// space around it.
func (p *Process) Output(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = p.Dir
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("run %s: %w", program, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// StartChild starts a program with this process's environment and no input. The caller must Stop it.
func (p *Process) StartChild(program string, args ...string) (*Child, error) {
	c := &Child{name: program, cmd: exec.Command(program, args...), ended: make(chan struct{})} //nolint:noctx // The child outlives this call; Stop ends it.
	c.cmd.Dir = p.Dir
	c.cmd.Stdout, c.cmd.Stderr = &c.output, &c.output
	// A grandchild that keeps the output open must not hold up the end.
	c.cmd.WaitDelay = time.Second
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	go func() {
		defer close(c.ended)
		_ = c.cmd.Wait() // How it ended is read from its state.
	}()
	return c, nil
}

// Ended is closed when the program has ended.
func (c *Child) Ended() <-chan struct{} { return c.ended }

// Err describes the end of a program that was not meant to end, with the last it printed. It is
// nil while the program runs.
func (c *Child) Err() error {
	select {
	case <-c.ended:
		return fmt.Errorf("%s ended (%s): %s", c.name, c.cmd.ProcessState, c.output.String())
	default:
		return nil
	}
}

// Stop asks the program to end, ends it when it has not after the grace period, and waits until
// it is gone. Stopping a program that has ended is no error.
func (c *Child) Stop(grace time.Duration) error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", c.name, err)
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-c.ended:
		return nil
	case <-timer.C:
	}
	if err := c.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", c.name, err)
	}
	<-c.ended
	return nil
}

const tailBytes = 4 << 10

// tail keeps the last of what is written to it.
type tail struct {
	mu    sync.Mutex
	bytes []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bytes = append(t.bytes, b...)
	if over := len(t.bytes) - tailBytes; over > 0 {
		t.bytes = append(t.bytes[:0], t.bytes[over:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.bytes))
}

// TempDir makes a new folder in dir, or where the system keeps such folders when dir is empty.
// Folders on the way are created and stay. Remove deletes the new folder with all that is in it.
func (p *Process) TempDir(dir, prefix string) (path string, remove func() error, err error) {
	if dir != "" {
		dir = p.Path(dir)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", nil, fmt.Errorf("create folder %s: %w", dir, err)
		}
	}
	path, err = os.MkdirTemp(dir, prefix+"*")
	if err != nil {
		return "", nil, fmt.Errorf("create temporary folder: %w", err)
	}
	return path, func() error { return os.RemoveAll(path) }, nil
}

// Glob returns the paths that match the pattern of path/filepath, in order.
func (p *Process) Glob(pattern string) ([]string, error) { return filepath.Glob(p.Path(pattern)) }

// CPUTime is the processor time that this process has taken so far, on all processors.
func (p *Process) CPUTime() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// serviceGCPercent lets the heap grow to five times what lives on it before it is collected. What
// lives is small, a few tens of MiB, so the memory stays small and collecting costs a fifth less.
const serviceGCPercent = 400

// TuneGC makes the garbage collector work less often, for a process that serves requests. GOGC and
// GOMEMLIMIT stay in force when they are set.
func (p *Process) TuneGC() {
	if p.Env("GOGC") == "" {
		debug.SetGCPercent(serviceGCPercent)
	}
}

package proc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestHandledInterrupts sends real signals to this process. It is not parallel, as TestNotifyStop.
func TestHandledInterrupts(t *testing.T) {
	exited := make(chan int, 1)
	var handled atomic.Bool
	handled.Store(true)
	p := &Process{PID: os.Getpid(), Exit: func(code int) {
		if handled.Load() {
			t.Errorf("exit with %d", code)
		}
		exited <- code
	}}
	ctx, interrupts, stop := p.NotifyInterrupts(t.Context(), 130)
	defer stop()
	got := make(chan int, 10)
	restore := interrupts.Handle(func(n int) { got <- n })
	send := func(s syscall.Signal, want int) {
		t.Helper()
		if err := syscall.Kill(p.PID, s); err != nil {
			t.Fatal(err)
		}
		select {
		case n := <-got:
			if n != want {
				t.Errorf("%v is interrupt %d, want %d", s, n, want)
			}
		case <-time.After(patience):
			t.Fatalf("%v does not arrive", s)
		}
	}
	send(syscall.SIGHUP, 1)
	waitDone(t, ctx, "SIGHUP")
	if cause := context.Cause(ctx); !errors.Is(cause, ErrInterrupted) {
		t.Errorf("cause %v, want ErrInterrupted", cause)
	}
	// What does not escalate gives no interrupt; the one after it is only the second.
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP} {
		if err := syscall.Kill(p.PID, s); err != nil {
			t.Fatal(err)
		}
	}
	send(syscall.SIGINT, 2)
	send(syscall.SIGINT, 3)
	restore()
	late := make(chan int, 1)
	interrupts.Handle(func(n int) { late <- n })()
	if n := <-late; n != 3 {
		t.Errorf("a handler that comes later is told of %d interrupts, want 3", n)
	}
	handled.Store(false)
	if err := syscall.Kill(p.PID, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	select {
	case code := <-exited:
		if code != 130 {
			t.Errorf("exit code %d, want 130", code)
		}
	case <-time.After(patience):
		t.Fatal("nobody handles interrupts any more, and another one does not exit")
	}
}

const pipeVar = "LATAMCTL_TEST_CLOSED_PIPE"

// TestClosedPipe writes to a pipe that nobody reads, in a process of its own.
func TestClosedPipe(t *testing.T) {
	if os.Getenv(pipeVar) != "" {
		p := OS()
		p.SurviveClosedPipes()
		if _, err := io.ReadAll(os.Stdin); err != nil { // Until the reader is gone.
			t.Fatal(err)
		}
		_, err := p.Out.Write([]byte("x"))
		_, _ = p.Err.Write([]byte(errorsText(err)))
		os.Exit(7)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestClosedPipe$")
	cmd.Env = append(os.Environ(), pipeVar+"=1")
	var seen bytes.Buffer
	cmd.Stdout, cmd.Stderr = w, &seen
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(cmd.Start(), w.Close(), r.Close(), stdin.Close()); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 7 || !strings.Contains(seen.String(), "broken pipe") {
		t.Errorf("the process ended with %v and %q, want 7 and the error of the write", cmd.ProcessState, seen.String())
	}
}

func errorsText(err error) string {
	if err == nil {
		return "no error"
	}
	return err.Error()
}

func TestFilesBitByBit(t *testing.T) {
	t.Parallel()
	p := &Process{Dir: t.TempDir()}
	for range 2 {
		if err := p.AppendFile("a/f", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := p.ReadFile("a/f"); string(b) != "xx" || err != nil {
		t.Errorf("appended %q, %v", b, err)
	}
	w, err := p.CreateSecretFile("a/f2")
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write([]byte("y"))
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(p.Dir, "a/f2")); err != nil || info.Mode().Perm() != 0o600 || info.Size() != 1 {
		t.Errorf("%v, %v", info, err)
	}
	if err := p.AppendFile("a/f/g", nil); err == nil {
		t.Error("appended below a file")
	}
	if _, _, ok := (&Process{Err: io.Discard}).ErrSize(); ok {
		t.Error("a writer has a size")
	}
}

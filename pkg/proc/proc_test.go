package proc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestWriteFile(t *testing.T) {
	t.Parallel()
	p := &Process{Dir: t.TempDir()}
	for _, content := range []string{"first", "", "a longer one", "short"} {
		if err := p.WriteFile("a/b/c.txt", []byte(content)); err != nil {
			t.Fatal(err)
		}
		got, err := p.ReadFile("a/b/c.txt")
		if err != nil || string(got) != content {
			t.Errorf("read %q, %v; want %q", got, err, content)
		}
	}
	entries, err := os.ReadDir(filepath.Join(p.Dir, "a/b"))
	if err != nil || len(entries) != 1 {
		t.Errorf("folder holds %v, %v; want the file alone", entries, err)
	}
	info, err := entries[0].Info()
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v, %v; want 0644", info.Mode(), err)
	}
}

// TestWriteFileIsAtomic reads while the file is replaced: every read is one whole content.
func TestWriteFileIsAtomic(t *testing.T) {
	t.Parallel()
	p := &Process{Dir: t.TempDir()}
	contents := [][]byte{bytes.Repeat([]byte("a"), 100_000), bytes.Repeat([]byte("b"), 50_000)}
	if err := p.WriteFile("f", contents[0]); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		for {
			got, err := p.ReadFile("f")
			if err != nil || !bytes.Equal(got, contents[0]) && !bytes.Equal(got, contents[1]) {
				t.Errorf("read %d bytes, %v; want one of the contents whole", len(got), err)
				return
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	// A hard link to the old file shows whether it was replaced or overwritten.
	if err := os.Link(filepath.Join(p.Dir, "f"), filepath.Join(p.Dir, "old")); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		if err := p.WriteFile("f", contents[(i+1)%2]); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	reader.Wait()
	if old, err := p.ReadFile("old"); err != nil || !bytes.Equal(old, contents[0]) {
		t.Errorf("the old file was written to: %d bytes, %v", len(old), err)
	}
}

// TestWriteFileFails checks that a failure leaves the old content and no other file.
func TestWriteFileFails(t *testing.T) {
	t.Parallel()
	p := &Process{Dir: t.TempDir()}
	if err := os.MkdirAll(filepath.Join(p.Dir, "d/inside"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := p.WriteFile("d", []byte("x")); err == nil || !strings.Contains(err.Error(), "d") {
		t.Errorf("wrote over a folder: %v", err)
	}
	if err := p.WriteFile("f", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	if err := p.WriteFile("f/g", []byte("x")); err == nil {
		t.Error("wrote below a file")
	}
	if got, err := p.ReadFile("f"); err != nil || string(got) != "kept" {
		t.Errorf("the file holds %q, %v", got, err)
	}
	if entries, err := os.ReadDir(p.Dir); err != nil || len(entries) != 2 {
		t.Errorf("the folder holds %v, %v; want d and f alone", entries, err)
	}
}

func TestPaths(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, tc := range []struct{ dir, path, want string }{
		{dir, "f", filepath.Join(dir, "f")},
		{dir, "a/../f", filepath.Join(dir, "f")},
		{dir, "/abs/f", "/abs/f"},
		{"", "f", "f"},
	} {
		if got := (&Process{Dir: tc.dir}).Path(tc.path); got != tc.want {
			t.Errorf("path %s in %q: %s, want %s", tc.path, tc.dir, got, tc.want)
		}
	}
	p := &Process{Dir: dir}
	if p.Exists("f") {
		t.Error("a file that was not written exists")
	}
	if err := p.WriteFile("f", []byte("content")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "f")); err != nil || !p.Exists("f") || !p.Exists(".") {
		t.Errorf("the file is not in the folder: %v", err)
	}
	r, err := p.Open("f")
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil || string(got) != "content" {
		t.Errorf("opened file holds %q, %v", got, err)
	}
	for range 2 { // The second time there is nothing to remove.
		if err := p.Remove("f"); err != nil || p.Exists("f") {
			t.Errorf("remove: %v", err)
		}
	}
	if _, err := p.ReadFile("f"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read of an absent file: %v", err)
	}
	if _, err := p.Open("f"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open of an absent file: %v", err)
	}
}

func TestEnv(t *testing.T) {
	t.Parallel()
	p := &Process{Getenv: func(key string) (string, bool) { return "v", key == "SET" }}
	if p.Env("SET") != "v" {
		t.Error("a variable that is set is empty")
	}
	if os := OS(); os.PID != syscall.Getpid() || os.Now == nil || os.Exit == nil || os.In == nil || os.Out == nil || os.Err == nil || os.Env("PATH") == "" {
		t.Errorf("the process: %+v", os)
	}
}

const patience = 20 * time.Second

func waitDone(t *testing.T, ctx context.Context, what string) {
	t.Helper()
	select {
	case <-ctx.Done():
	case <-time.After(patience):
		t.Fatalf("%s did not end the context", what)
	}
}

// TestNotifyStop sends real signals to this process. It is not parallel: each signal reaches every
// listener.
func TestNotifyStop(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		exited := make(chan int, 2)
		p := &Process{PID: os.Getpid(), Exit: func(code int) { exited <- code }}
		ctx, stop := p.NotifyStop(t.Context(), 130)
		if ctx.Err() != nil {
			t.Fatal("ended before a signal")
		}
		kill := func() {
			t.Helper()
			if err := syscall.Kill(p.PID, sig); err != nil {
				t.Fatal(err)
			}
		}
		kill()
		waitDone(t, ctx, sig.String())
		if cause := context.Cause(ctx); !errors.Is(cause, ErrInterrupted) {
			t.Errorf("cause %v after %v, want ErrInterrupted", cause, sig)
		}
		select {
		case code := <-exited:
			t.Fatalf("the first signal exits with %d", code)
		default:
		}
		kill()
		select {
		case code := <-exited:
			if code != 130 {
				t.Errorf("exit code %d, want 130", code)
			}
		case <-time.After(patience):
			t.Fatal("the second signal does not exit")
		}
		stop()
		stop() // As any cancel function, it may be called again.
	}
}

func TestNotifyStopWithoutSignal(t *testing.T) {
	p := &Process{Exit: func(code int) { t.Errorf("exit with %d", code) }}
	ctx, stop := p.NotifyStop(t.Context(), 130)
	stop()
	waitDone(t, ctx, "stop")
	if cause := context.Cause(ctx); errors.Is(cause, ErrInterrupted) {
		t.Errorf("cause %v without a signal", cause)
	}
	parent, cancel := context.WithCancel(t.Context())
	ctx, stop = p.NotifyStop(parent, 130)
	defer stop()
	cancel()
	waitDone(t, ctx, "the parent")
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) || errors.Is(cause, ErrInterrupted) {
		t.Errorf("cause %v, want the parent's", cause)
	}
}

// TestWriteFileToADevice writes to what is no file: it is written to, and not replaced by a file.
func TestWriteFileToADevice(t *testing.T) {
	t.Parallel()
	p := &Process{Dir: t.TempDir()}
	link := filepath.Join(p.Dir, "device")
	for device, want := range map[string]error{"/dev/null": nil, "/dev/full": syscall.ENOSPC} {
		if err := os.Symlink(device, link); err != nil {
			t.Fatal(err)
		}
		if err := p.WriteFile("device", []byte("text")); !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("write to %s: %v, want %v", device, err, want)
		}
		if to, err := os.Readlink(link); err != nil || to != device {
			t.Errorf("afterwards the link to %s leads to %q: %v", device, to, err)
		}
		if err := os.Remove(link); err != nil {
			t.Fatal(err)
		}
	}
}

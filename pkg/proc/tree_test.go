package proc_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/latamctl/latamctl/pkg/proc"
)

func TestReadFileLimit(t *testing.T) {
	t.Parallel()
	p := &proc.Process{Dir: t.TempDir()}
	if err := p.WriteFile("f", bytes.Repeat([]byte("x"), 10)); err != nil {
		t.Fatal(err)
	}
	if data, err := p.ReadFileLimit("f", 10); err != nil || len(data) != 10 {
		t.Errorf("10 of 10 bytes: %q, %v", data, err)
	}
	if _, err := p.ReadFileLimit("f", 9); err == nil || !strings.Contains(err.Error(), "more than the 9 bytes") {
		t.Errorf("10 bytes where 9 are allowed: %v", err)
	}
	if _, err := p.ReadFileLimit("g", 9); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestTree(t *testing.T) {
	t.Parallel()
	p := &proc.Process{Dir: t.TempDir()}
	if files, err := p.TreeFiles("none", 5); err != nil || len(files) != 0 {
		t.Errorf("a folder that does not exist: %v, %v", files, err)
	}
	for _, name := range []string{"d/b", "d/a/x", "d/c"} {
		if err := p.WriteFile(name, nil); err != nil {
			t.Fatal(err)
		}
	}
	files, err := p.TreeFiles("d", 3)
	if want := []string{"a/x", "b", "c"}; err != nil || !slices.Equal(files, want) {
		t.Errorf("files %v, %v, want %v", files, err, want)
	}
	if _, err := p.TreeFiles("d", 2); err == nil {
		t.Error("3 files where 2 are allowed: no error")
	}
	for _, want := range []bool{true, false} {
		if created, err := p.MakePrivateDir("deep/private"); err != nil || created != want {
			t.Errorf("make the folder: created %v, %v, want %v", created, err, want)
		}
	}
	if mode, err := p.Mode("deep/private"); err != nil || mode != 0o700 {
		t.Errorf("mode %o, %v", mode, err)
	}
	if _, err := p.MakePrivateDir("d/b"); err == nil || !strings.Contains(err.Error(), "not a folder") {
		t.Errorf("a file in the place of the folder: %v", err)
	}
	if err := os.Chmod(filepath.Join(p.Dir, "deep/private"), 0o755); err != nil {
		t.Fatal(err)
	}
	if mode, err := p.Mode("deep/private"); err != nil || mode != 0o755 {
		t.Errorf("mode %o, %v", mode, err)
	}
}

// holdVar has this test binary hold a lock instead of testing, until its input ends.
const holdVar = "LATAMCTL_TEST_HOLD_LOCK"

func TestRecordLock(t *testing.T) {
	t.Parallel()
	if file := os.Getenv(holdVar); file != "" {
		f, err := os.OpenFile(file, os.O_RDWR, 0)
		if err == nil {
			err = syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &syscall.Flock_t{Type: syscall.F_WRLCK})
		}
		_, _ = os.Stderr.WriteString(map[bool]string{true: "held", false: "none"}[err == nil])
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	p := &proc.Process{Dir: t.TempDir()}
	if pid, err := p.RecordLock("none"); pid != 0 || err != nil {
		t.Errorf("no file: %d, %v", pid, err)
	}
	if err := p.WriteFile("f", nil); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRecordLock$")
	cmd.Env = append(os.Environ(), holdVar+"="+p.Path("f"))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 4)
	if _, err := io.ReadFull(out, said); err != nil || string(said) != "held" {
		t.Fatalf("the other process says %q, %v", said, err)
	}
	if pid, err := p.RecordLock("f"); pid != cmd.Process.Pid || err != nil {
		t.Errorf("process %d holds it, %v, want %d", pid, err, cmd.Process.Pid)
	}
	if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
		t.Fatal(err)
	}
	if pid, err := p.RecordLock("f"); pid != 0 || err != nil {
		t.Errorf("after its end: %d, %v", pid, err)
	}
}

func TestOwner(t *testing.T) {
	t.Parallel()
	if host, name := (&proc.Process{}).Owner(); host == "" || name == "" {
		t.Errorf("host %q, name %q", host, name)
	}
}

package proc_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/proc"
)

func TestChildStops(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"that obeys":   "exec sleep 600",
		"that refuses": "trap '' TERM; echo ready; while :; do sleep 0.1; done",
	} {
		p := &proc.Process{Dir: t.TempDir()}
		child, err := p.StartChild("sh", "-c", script)
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Err(); err != nil {
			t.Errorf("child %s: %v while it runs", name, err)
		}
		for range 2 { // Once more does no harm.
			if err := child.Stop(200 * time.Millisecond); err != nil {
				t.Errorf("stop child %s: %v", name, err)
			}
		}
		select {
		case <-child.Ended():
		default:
			t.Errorf("child %s runs after it was stopped", name)
		}
	}
}

func TestChildThatEnds(t *testing.T) {
	t.Parallel()
	child, err := (&proc.Process{}).StartChild("sh", "-c", "for i in $(seq 2000); do echo line $i; done; echo the port is taken >&2; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-child.Ended():
	case <-time.After(30 * time.Second):
		t.Fatal("the child did not end")
	}
	err = child.Err()
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.HasSuffix(err.Error(), "the port is taken") || len(err.Error()) > 5000 {
		t.Errorf("error %v, want the status and the last of the output", err)
	}
}

func TestOutput(t *testing.T) {
	t.Parallel()
	p := &proc.Process{Dir: t.TempDir()}
	if got, err := p.Output(t.Context(), "sh", "-c", "echo; echo /root; echo noise >&2"); got != "/root" || err != nil {
		t.Errorf("output %q, %v", got, err)
	}
	if _, err := p.Output(t.Context(), "sh", "-c", "exit 1"); err == nil {
		t.Error("a program that fails gives no error")
	}
	if _, err := p.LookPath("no-such-program"); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("error %v, want %v", err, exec.ErrNotFound)
	}
	if _, err := p.StartChild("no-such-program"); err == nil {
		t.Error("a program that does not exist starts")
	}
}

func TestTempDir(t *testing.T) {
	t.Parallel()
	p := &proc.Process{Dir: t.TempDir()}
	path, remove, err := p.TempDir("disk", "x-")
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Dir(path) != filepath.Join(p.Dir, "disk") || !strings.HasPrefix(filepath.Base(path), "x-") {
		t.Errorf("temporary folder %s is not in %s", path, p.Dir)
	}
	if err := os.MkdirAll(filepath.Join(path, "a", "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if found, err := p.Glob("disk/x-*/a"); err != nil || len(found) != 1 {
		t.Errorf("found %q, %v", found, err)
	}
	if err := remove(); err != nil {
		t.Error(err)
	}
	if p.Exists("disk/" + filepath.Base(path)) {
		t.Error("the temporary folder is still there")
	}
}

func TestCPUTime(t *testing.T) {
	t.Parallel()
	p := proc.OS()
	before := p.CPUTime()
	for deadline := time.Now().Add(30 * time.Second); p.CPUTime() <= before; {
		if time.Now().After(deadline) {
			t.Fatalf("the processor time stays at %s while the process works", before)
		}
	}
}

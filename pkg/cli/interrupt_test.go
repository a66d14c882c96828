package cli_test

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// applying is the real program in an apply of a scripted driver.
type applying struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string
	dir   string
}

const cloudDeclaration = `version: 1
name: shop
datasets:
  orders:
    fields: {number: {type: int64, required: true}}
    key: [number]
environments:
  prod: {engine: gcp, project: my-project, region: us-central1}
`

// startApply starts up --env prod and waits until it applies.
func startApply(t *testing.T, stdout io.Writer) *applying {
	t.Helper()
	a := &applying{t: t, dir: t.TempDir(), lines: make(chan string, 10_000)}
	if err := os.WriteFile(filepath.Join(a.dir, "latam.yaml"), []byte(cloudDeclaration), 0o644); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	a.cmd = exec.Command(exe, "up", "--env", "prod", "--yes")
	a.cmd.Dir, a.cmd.Stdout = a.dir, stdout
	a.cmd.Env = append(os.Environ(), asFake+"=1", "GITHUB_STEP_SUMMARY=", "CI=")
	a.stdin, err = a.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := a.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.cmd.Process.Kill() })
	go func() {
		defer close(a.lines)
		for s := bufio.NewScanner(stderr); s.Scan(); {
			a.lines <- s.Text()
		}
	}()
	a.await("storage: applying")
	return a
}

// await reads lines until one has the text.
func (a *applying) await(text string) {
	a.t.Helper()
	deadline := time.After(waitLimit)
	var seen []string
	for {
		select {
		case line, ok := <-a.lines:
			if !ok {
				a.t.Fatalf("the program ended without %q:\n%s", text, strings.Join(seen, "\n"))
			}
			if seen = append(seen, line); strings.Contains(line, text) {
				return
			}
		case <-deadline:
			a.t.Fatalf("%q does not come:\n%s", text, strings.Join(seen, "\n"))
		}
	}
}

func (a *applying) signal(s syscall.Signal) {
	a.t.Helper()
	if err := a.cmd.Process.Signal(s); err != nil {
		a.t.Fatal(err)
	}
}

// end waits for the exit code.
func (a *applying) end(want int) {
	a.t.Helper()
	for range a.lines { // Until the program closes it.
	}
	_ = a.cmd.Wait()
	if code := a.cmd.ProcessState.ExitCode(); code != want {
		a.t.Errorf("it ended with %v, want %d", a.cmd.ProcessState, want)
	}
}

// TestInterruptLetsAppliesFinish: Ctrl-C, a closed terminal or a job that is cancelled.
func TestInterruptLetsAppliesFinish(t *testing.T) {
	t.Parallel()
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		a := startApply(t, nil)
		a.signal(s)
		a.await("interrupted: nothing new is started")
		a.await("finishing storage: google_bigtable_instance.main (0s); its lock will be released")
		if err := a.stdin.Close(); err != nil { // The apply ends.
			t.Fatal(err)
		}
		a.await("interrupted, finished: network, storage")
		a.await("latamctl up --resume --env prod")
		a.end(130)
		if _, err := os.Stat(filepath.Join(a.dir, "finished")); err != nil {
			t.Errorf("the apply did not finish after %v: %v", s, err)
		}
	}
}

// TestThirdInterruptKills: the second says by name what that loses.
func TestThirdInterruptKills(t *testing.T) {
	t.Parallel()
	a := startApply(t, nil)
	a.signal(syscall.SIGINT)
	a.await("finishing storage")
	a.signal(syscall.SIGINT)
	a.await("a kill would lose these")
	a.await("storage/google_bigtable_instance.main")
	a.await("Ctrl-C once more")
	a.signal(syscall.SIGINT)
	a.await("killing what runs; latamctl unlock")
	a.await("terraform was killed")
	a.end(130)
	if _, err := os.Stat(filepath.Join(a.dir, "finished")); err == nil {
		t.Error("the apply finished although it was killed")
	}
}

// TestClosedPipes: whoever reads goes away, as head does, and the run goes on to its end.
func TestClosedPipes(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	a := startApply(t, w)
	if err := errors.Join(r.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	if err := a.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	a.end(0)
	if _, err := os.Stat(filepath.Join(a.dir, "finished")); err != nil {
		t.Errorf("the run did not reach its end: %v", err)
	}
}

// TestClosedErrorPipe is the same for progress.
func TestClosedErrorPipe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "latam.yaml"), []byte(cloudDeclaration), 0o644); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "up", "--env", "prod", "--yes")
	cmd.Dir, cmd.Env, cmd.Stderr = dir, append(os.Environ(), asFake+"=1", "GITHUB_STEP_SUMMARY=", "CI="), w
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Close(), cmd.Start(), w.Close()); err != nil {
		t.Fatal(err)
	}
	report, err := io.ReadAll(out)
	if err := errors.Join(err, cmd.Wait()); err != nil || !strings.Contains(string(report), "network  done") {
		t.Errorf("%v: %s", err, report)
	}
}

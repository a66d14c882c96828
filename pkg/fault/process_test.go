//go:build fault

package fault_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a program under test, or an engine. Its log goes to the rig's.
type process struct {
	t      *testing.T
	name   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	log    io.Writer
	began  time.Time
	ready  chan struct{} // closed once it says so
	ended  chan struct{} // closed once it has ended
	mu     sync.Mutex
	half   []byte
	admin  string
	isUp   bool
	killed bool
}

// newProcess runs this binary as something else.
func newProcess(t *testing.T, log io.Writer, name string, env []string, args ...string) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, name: name, log: log, ready: make(chan struct{}), ended: make(chan struct{}), began: time.Now()}
	p.cmd = exec.Command(exe, args...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = io.Discard, p
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(log, "--- %s start %s %v\n", time.Now().Format(time.RFC3339Nano), name, env)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // ProcessState says how it ended.
		fmt.Fprintf(log, "--- %s %s pid %d ended: %s\n", time.Now().Format(time.RFC3339Nano), name, p.cmd.Process.Pid, p.cmd.ProcessState)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
	})
	return p
}

// Write takes the log, and from it the address of the probes and that the process works.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.half = append(p.half, b...)
	for {
		line, rest, whole := bytes.Cut(p.half, []byte("\n"))
		if !whole {
			break
		}
		var entry struct{ Msg, Admin string }
		if json.Unmarshal(line, &entry) == nil && !p.isUp && (entry.Msg == "ingesting" || entry.Msg == "engine ready") {
			p.admin, p.isUp = "http://"+entry.Admin, true
			close(p.ready)
		}
		p.half = rest
	}
	return p.log.Write(b)
}

// await waits until the process works.
func (p *process) await() {
	p.t.Helper()
	select {
	case <-p.ready:
	case <-p.ended:
		p.t.Fatalf("%s ended while it started: %s", p.name, p.cmd.ProcessState)
	case <-time.After(60 * time.Second):
		p.t.Fatalf("%s did not start within 60s", p.name)
	}
}

// kill ends the process without a warning.
func (p *process) kill() {
	p.t.Helper()
	p.killed = true
	_ = p.cmd.Process.Kill() // It may have met its failpoint.
	<-p.ended
	p.wasKilled()
}

// wasKilled fails when the process has ended in another way than by SIGKILL.
func (p *process) wasKilled() {
	p.t.Helper()
	if s, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !s.Signaled() || s.Signal() != syscall.SIGKILL {
		p.t.Fatalf("%s ended by itself: %s", p.name, p.cmd.ProcessState)
	}
}

// endsWithin waits for the end of the process.
func (p *process) endsWithin(d time.Duration) bool {
	select {
	case <-p.ended:
		return true
	case <-time.After(d):
		return false
	}
}

// signal sends SIGTERM.
func (p *process) signal() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatalf("signal %s: %v", p.name, err)
	}
}

// drain sends SIGTERM and returns how long the process took to exit with 0.
func (p *process) drain(within time.Duration) time.Duration {
	p.t.Helper()
	began := time.Now()
	p.signal()
	if !p.endsWithin(within) {
		p.t.Fatalf("%s still runs %s after SIGTERM", p.name, within)
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		p.t.Fatalf("%s ended after SIGTERM with %s, want exit status 0", p.name, p.cmd.ProcessState)
	}
	return time.Since(began)
}

// alive fails when the process has ended.
func (p *process) alive() {
	p.t.Helper()
	select {
	case <-p.ended:
		p.t.Fatalf("%s ended by itself: %s", p.name, p.cmd.ProcessState)
	default:
	}
}

// get asks the admin listener.
func (p *process) get(path string) (int, string, error) {
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get(p.admin + path)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// isReady asks for readiness.
func (p *process) isReady() bool {
	code, _, err := p.get("/readyz")
	return err == nil && code == http.StatusOK
}

// metric sums the series of a metric whose labels contain a text; 0 when there is none.
func (p *process) metric(name, labels string) float64 {
	_, body, err := p.get("/metrics")
	if err != nil {
		return 0
	}
	sum := 0.0
	for _, m := range regexp.MustCompile(`(?m)^`+name+`(\{[^\n]*\})? (\S+)$`).FindAllStringSubmatch(body, -1) {
		if v, err := strconv.ParseFloat(m[2], 64); err == nil && strings.Contains(m[1], labels) {
			sum += v
		}
	}
	return sum
}

// peakRSS is the most memory that the process has had resident, in bytes.
func (p *process) peakRSS() int64 { return int64(p.status("VmHWM")) << 10 }

// status reads a figure of /proc, in KiB where it is one of memory.
func (p *process) status(name string) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	m := regexp.MustCompile(name + `:\s+(\d+)`).FindSubmatch(text)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n
}

// eventually waits until a condition holds.
func eventually(t *testing.T, within time.Duration, condition func() (done bool, seen string)) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		done, seen := condition()
		if done {
			return time.Since(began)
		}
		if time.Since(began) > within {
			t.Fatalf("not within %s: %s", within, seen)
		}
		time.Sleep(20 * time.Millisecond) // Between two looks.
	}
}

// end ends the process if it still runs, however it has ended.
func (p *process) end() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

package cli_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/engine"
)

// freezer passes connections on to an address until it is frozen: then it takes what comes and
// answers nothing, as a store that hangs does.
type freezer struct {
	addr string
	mu   sync.RWMutex // held for writing while it is frozen
}

func newFreezer(t *testing.T, to string) *freezer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	f := &freezer{addr: l.Addr().String()}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				_ = client.Close()
				continue
			}
			go f.pass(server, client)
			go f.pass(client, server)
		}
	}()
	return f
}

func (f *freezer) pass(to, from net.Conn) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		f.mu.RLock()
		_, writeErr := to.Write(buf[:n])
		f.mu.RUnlock()
		if err != nil || writeErr != nil {
			return
		}
	}
}

// stopBench is ingest as a program of its own on engines of the test.
type stopBench struct {
	t         *testing.T
	dir       string
	env       []string // of ingest, whose store can be frozen
	publisher []string // of publish
	store     *freezer
	published int
}

func newStopBench(t *testing.T) *stopBench {
	t.Helper()
	e, err := engine.Start(t.Context(), engine.Options{Kind: engine.Memory, PubsubAddr: "127.0.0.1:0", BigtableAddr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	b := &stopBench{t: t, dir: t.TempDir(), store: newFreezer(t, e.BigtableAddr)}
	b.publisher = []string{"PUBSUB_EMULATOR_HOST=" + e.PubsubAddr, "BIGTABLE_EMULATOR_HOST=" + e.BigtableAddr}
	b.env = []string{"PUBSUB_EMULATOR_HOST=" + e.PubsubAddr, "BIGTABLE_EMULATOR_HOST=" + b.store.addr}
	writeFile(t, b.dir, "latam.yaml", notesDeclaration)
	return b
}

// startFrozen starts ingest, freezes the store once ingest is ready, and gives it records to hold.
func (b *stopBench) startFrozen(args ...string) (p *program, admin string) {
	b.t.Helper()
	admin = fmt.Sprintf("127.0.0.1:%d", freePort(b.t))
	p = start(b.t, b.dir, b.env, append([]string{"ingest", "--admin", admin}, args...)...)
	eventually(b.t, waitLimit, func() (bool, string) {
		status := probe(admin)
		return status == http.StatusOK, fmt.Sprint("readiness ", status)
	})
	b.store.mu.Lock()
	var records strings.Builder
	for range 20 {
		b.published++
		fmt.Fprintf(&records, "{\"number\":%d,\"text\":\"x\"}\n", b.published)
	}
	writeFile(b.t, b.dir, "notes.ndjson", records.String())
	run(b.t, b.dir, b.publisher, "publish", "notes", "-f", "notes.ndjson")
	holding := regexp.MustCompile(`(?m)^latam_ingest_in_flight\{[^}]*\} 20$`)
	eventually(b.t, waitLimit, func() (bool, string) {
		resp, err := http.Get("http://" + admin + "/metrics")
		if err != nil {
			return false, err.Error()
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return holding.Match(body), "ingest does not hold 20 messages"
	})
	return p, admin
}

func (b *stopBench) signal(p *program) {
	b.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		b.t.Fatal(err)
	}
}

// exit waits for the end of the program and returns its code and how long it took.
func exit(t *testing.T, p *program, within time.Duration) (code int, took time.Duration) {
	t.Helper()
	begin := time.Now()
	select {
	case err := <-p.done:
		p.done <- err
		var status *exec.ExitError
		if errors.As(err, &status) {
			code = status.ExitCode()
		}
		return code, time.Since(begin)
	case <-time.After(within):
		t.Fatalf("still running after %s\n%s", within, tail(p.stderr.String()))
		return 0, 0
	}
}

// probe returns the status of readiness, 0 when there is no answer.
func probe(admin string) int {
	resp, err := http.Get("http://" + admin + "/readyz")
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// TestIngestStopsWithAHangingStore stops the program while the store has its records in hands: one signal
// drains for as long as it may and exits 0, a second one exits at once, and nothing is lost by either.
func TestIngestStopsWithAHangingStore(t *testing.T) {
	t.Parallel()
	b := newStopBench(t)
	p, admin := b.startFrozen("--drain-timeout", "5s")
	begun := time.Now()
	b.signal(p)
	eventually(t, waitLimit, func() (bool, string) {
		status := probe(admin)
		return status == http.StatusServiceUnavailable, fmt.Sprint("readiness ", status)
	})
	if code, took := exit(t, p, waitLimit); code != 0 || took > 20*time.Second || time.Since(begun) < 3*time.Second {
		t.Errorf("exit %d after %s, want 0 after the drain timeout of 5s\n%s", code, took, tail(p.stderr.String()))
	}
	if !strings.Contains(p.stderr.String(), "unsettled messages are given back") {
		t.Errorf("the log does not say that messages were given back:\n%s", tail(p.stderr.String()))
	}
	b.store.mu.Unlock()

	p, admin = b.startFrozenAfter(20, "ok")
	b.signal(p)
	eventually(t, waitLimit, func() (bool, string) {
		status := probe(admin)
		return status == http.StatusServiceUnavailable, fmt.Sprintf("readiness %d after one signal, want 503 and a drain", status)
	})
	b.signal(p)
	if code, took := exit(t, p, waitLimit); code != 130 || took > 10*time.Second { // The drain would take 25.
		t.Errorf("exit %d after %s, want 130 at once after the second signal", code, took)
	}
	b.store.mu.Unlock()

	admin = fmt.Sprintf("127.0.0.1:%d", freePort(t))
	last := start(t, b.dir, b.env, "ingest", "--admin", admin)
	settled(t, "http://"+admin, "ok", 20)
	last.terminate()
}

// startFrozenAfter is startFrozen once records that wait are settled.
func (b *stopBench) startFrozenAfter(n int, outcome string) (p *program, admin string) {
	b.t.Helper()
	waiting := fmt.Sprintf("127.0.0.1:%d", freePort(b.t))
	first := start(b.t, b.dir, b.env, "ingest", "--admin", waiting)
	settled(b.t, "http://"+waiting, outcome, n)
	first.terminate()
	return b.startFrozen()
}

package cli_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// keptAlive asks again and again on one connection, until the server says that it closes it.
func keptAlive(addr, target string, answered *atomic.Int64) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	for {
		if err := conn.SetDeadline(time.Now().Add(waitLimit)); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", target); err != nil {
			return fmt.Errorf("request not taken: %w", err)
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return fmt.Errorf("request not answered: %w", err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d, %w: %.200s", resp.StatusCode, err, body)
		}
		answered.Add(1)
		if resp.Close {
			return nil
		}
		time.Sleep(10 * time.Millisecond) // Load, but not so much that the machine has no time for anything else.
	}
}

// untilUnready returns how long it takes until readiness is off; 0 when the listener is gone before.
func untilUnready(admin string) time.Duration {
	for begin := time.Now(); ; {
		resp, err := http.Get("http://" + admin + "/readyz")
		if err != nil {
			return 0
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusServiceUnavailable {
			return time.Since(begin)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// drainDelay is how long the server goes on after the signal.
const drainDelay = 3 * time.Second

// TestServeDrainsWithoutAFailedRequest stops serve under load: every request that it took is
// answered, every connection is told before it is closed, and a long export ends with a cursor.
func TestServeDrainsWithoutAFailedRequest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, stack := startUp(t, dir)
	settled(t, stack.Admin, "ok", 2000)
	addr, admin := fmt.Sprintf("127.0.0.1:%d", freePort(t)), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	env := []string{"PUBSUB_EMULATOR_HOST=" + stack.Pubsub, "BIGTABLE_EMULATOR_HOST=" + stack.Bigtable}
	serve := start(t, dir, env, "serve", "--http", addr, "--admin", admin, "--drain-delay", drainDelay.String())
	eventually(t, waitLimit, func() (bool, string) {
		resp, err := http.Get("http://" + admin + "/readyz")
		if err != nil {
			return false, err.Error()
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK, resp.Status
	})

	var answered atomic.Int64
	var clients sync.WaitGroup
	failures := make(chan error, 64)
	for i := range 32 {
		target := "/v1/datasets/flights/rows?origin=SFO&limit=20"
		if i%2 == 0 {
			target = "/v1/datasets/flights/rows/SFO,2001-01-02T19:10:00Z,LAX"
		}
		clients.Go(func() {
			if err := keptAlive(addr, target, &answered); err != nil {
				failures <- err
			}
		})
	}
	eventually(t, waitLimit, func() (bool, string) {
		n := answered.Load()
		return n > 500, fmt.Sprintf("%d requests answered", n)
	})
	before := answered.Load()
	ended := make(chan struct{})
	go func() { clients.Wait(); close(ended) }()
	unready := make(chan time.Duration, 1)
	go func() { unready <- untilUnready(admin) }()
	serve.terminate()
	<-ended
	if took := <-unready; took <= 0 || took > drainDelay {
		t.Errorf("readiness went off %s after the signal (0s = never), load balancers were to have the drain delay of %s", took, drainDelay)
	}
	close(failures)
	for err := range failures {
		t.Error(err)
	}
	if after := answered.Load(); after <= before {
		t.Errorf("no request was answered after the signal: %d, then %d", before, after)
	}
}

const notesDeclaration = `
version: 1
name: latam
datasets:
  notes:
    fields:
      number: {type: int64, required: true}
      text:   {type: string}
    key: [number]
environments:
  local: {engine: embedded}
`

// TestExportEndsAtADrain stops the program under an export whose client has stopped to read, with
// far more rows than fit into what lies between them. Once it reads on, the export ends with a cursor.
func TestExportEndsAtADrain(t *testing.T) {
	t.Parallel()
	const rows = 12_000
	dir := t.TempDir()
	writeFile(t, dir, "latam.yaml", notesDeclaration)
	text := strings.Repeat("x", 2<<10)
	var records strings.Builder
	for i := range rows {
		fmt.Fprintf(&records, "{\"number\":%d,\"text\":%q}\n", i, text)
	}
	writeFile(t, dir, "notes.ndjson", records.String())
	p, stack := startUp(t, dir)
	run(t, dir, nil, "publish", "notes", "-f", "notes.ndjson")
	settled(t, stack.Admin, "ok", rows)

	addr := strings.TrimPrefix(stack.API, "http://")
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /v1/datasets/notes/rows?format=ndjson HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, waitLimit, func() (bool, string) {
		other, err := net.Dial("tcp", addr)
		if err != nil {
			return true, ""
		}
		_ = other.Close()
		return false, "new connections are accepted after the signal"
	})
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("after %d bytes: %v", len(body), err)
	}
	lines := strings.Split(strings.TrimSpace(string(body)), "\n")
	if last := lines[len(lines)-1]; !strings.HasPrefix(last, `{"_end":true,`) || !strings.Contains(last, `"next_cursor":"v1.`) {
		t.Errorf("of %d rows %d came, and the export ended with %.200q, want a cursor to go on with", rows, len(lines)-1, last)
	}
	if err := <-p.done; err != nil {
		t.Errorf("after SIGTERM: %v\n%s", err, tail(p.stderr.String()))
	}
	p.done <- nil
}

func writeFile(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

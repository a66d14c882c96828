package cli_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
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
		if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
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
	}
}

// TestServeDrainsWithoutAFailedRequest stops serve under load: every request that it took is
// answered, every connection is told before it is closed, and a long export ends with a cursor.
func TestServeDrainsWithoutAFailedRequest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, stack := startUp(t, dir)
	settled(t, stack.Admin, "ok", 2000)
	addr, admin := fmt.Sprintf("127.0.0.1:%d", freePort(t)), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	env := []string{"PUBSUB_EMULATOR_HOST=" + stack.Pubsub, "BIGTABLE_EMULATOR_HOST=" + stack.Bigtable}
	serve := start(t, dir, env, "serve", "--http", addr, "--admin", admin, "--drain-delay", "1s")
	eventually(t, 20*time.Second, func() (bool, string) {
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
	eventually(t, 20*time.Second, func() (bool, string) {
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
	if took := <-unready; took <= 0 || took > time.Second {
		t.Errorf("readiness went off %s after the signal (0s = never), load balancers were to have the whole drain delay", took)
	}
	close(failures)
	for err := range failures {
		t.Error(err)
	}
	if after := answered.Load(); after <= before {
		t.Errorf("no request was answered after the signal: %d, then %d", before, after)
	}
}

// TestExportEndsAtADrain starts an export that its client reads slowly, and stops the program.
func TestExportEndsAtADrain(t *testing.T) {
	t.Parallel()
	p, stack := startUp(t, t.TempDir())
	settled(t, stack.Admin, "ok", 2000)
	conn, err := net.Dial("tcp", strings.TrimPrefix(stack.API, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// With a small buffer at this end the server cannot write everything ahead.
	if err := conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET /v1/datasets/flights/rows?format=ndjson HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReaderSize(conn, 16)
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() { p.terminate(); close(stopped) }()
	rest, err := io.ReadAll(r)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	<-stopped
	if !strings.Contains(string(rest), `{"_end":true,`) {
		t.Errorf("the export ended without its mark: …%s", tail(string(rest)))
	}
}

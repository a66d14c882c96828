package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// cutter passes connections on to an address, and cuts them when told.
type cutter struct {
	listener net.Listener
	to       string
	mu       sync.Mutex
	conns    []net.Conn
	answered []net.Conn // those of conns to clients that were told something
}

func startCutter(t *testing.T, to string) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{listener: l, to: to}
	t.Cleanup(func() {
		l.Close()
		c.cut()
	})
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go c.pass(conn)
		}
	}()
	return c
}

func (c *cutter) pass(client net.Conn) {
	server, err := net.Dial("tcp", c.to)
	if err != nil {
		client.Close()
		return
	}
	defer client.Close()
	c.add(&c.conns, client, server)
	go func() {
		_, _ = io.Copy(server, client)
		server.Close()
	}()
	begin := make([]byte, 4<<10)
	n, err := server.Read(begin)
	if err != nil {
		return
	}
	if _, err := client.Write(begin[:n]); err != nil {
		return
	}
	c.add(&c.answered, client)
	_, _ = io.Copy(client, server)
}

func (c *cutter) add(to *[]net.Conn, conns ...net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*to = append(*to, conns...)
}

func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns, c.answered = nil, nil
}

// awaitAnswer waits until somebody is connected and has an answer: a stream begins with one as soon as it
// misses nothing.
func (c *cutter) awaitAnswer(ctx context.Context) {
	for ctx.Err() == nil {
		c.mu.Lock()
		answered := len(c.answered) > 0
		c.mu.Unlock()
		if answered {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// tailed is one line of tail -o json.
type tailed struct {
	Schema, Dataset string
	EventID         string `json:"event_id"`
	Row             map[string]any
}

func (p *program) tailed() tailed {
	p.t.Helper()
	select {
	case line := <-p.stdout.out:
		var ev tailed
		if err := json.Unmarshal([]byte(line), &ev); err != nil || ev.Schema != "latamctl.tail/v1" || ev.EventID == "" {
			p.t.Fatalf("line %q: %v", line, err)
		}
		return ev
	case err := <-p.done:
		p.done <- err
		p.t.Fatalf("tail ended: %v\n%s", err, tail(p.stderr.String()))
	case <-time.After(waitLimit):
		p.t.Fatalf("no row within %s", waitLimit)
	}
	return tailed{}
}

// tails waits until so many live streams have their subscriptions.
func tails(t *testing.T, dir string, want int) {
	t.Helper()
	eventually(t, waitLimit, func() (bool, string) {
		out := run(t, dir, nil, "data", "info")
		n := strings.Count(out, "flights-tail-")
		return n == want, fmt.Sprintf("%d live streams, want %d:\n%s", n, want, out)
	})
}

func numbered(i int) (record, id string) {
	at := time.Date(2001, 1, 1, 0, i, 0, 0, time.UTC).Format(time.RFC3339)
	return fmt.Sprintf(`{"origin":"ZZZ","departed_at":%q,"destination":"AAA","delay_minutes":%d}`, at, i), "ZZZ," + at + ",AAA"
}

func post(t *testing.T, api, records string) {
	t.Helper()
	resp, err := http.Post(api+"/v1/datasets/flights/records", "application/x-ndjson", strings.NewReader(records))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusAccepted {
		t.Fatalf("publish: %d %s", resp.StatusCode, body)
	}
}

func TestTailedRowsCanBeRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	up, r := startUp(t, dir, "--engine", "memory", "--no-sample")
	watch := start(t, dir, nil, "tail", "flights", "-o", "json")
	tails(t, dir, 1)
	post(t, r.API, `{"origin":"ZZZ","departed_at":"2001-01-01T00:00:00Z","destination":"AAA"}`)
	path := filepath.Join(dir, "some.ndjson")
	var file bytes.Buffer
	for i := 1; i < 20; i++ {
		record, _ := numbered(i)
		file.WriteString("poison\n" + record + "\n")
	}
	if err := os.WriteFile(path, file.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, dir, nil, "publish", "flights", "-f", path)
	for range 20 {
		ev := watch.tailed()
		var got map[string]any
		getJSON(t, r.API+"/v1/datasets/flights/rows/"+ev.Row["id"].(string), &got)
		if fmt.Sprint(got) != fmt.Sprint(ev.Row) {
			t.Errorf("tail shows %v, get %v", ev.Row, got)
		}
	}
	// Ctrl-C ends it, and what it prints goes on where it stopped.
	if err := watch.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := <-watch.done; err != nil {
		t.Errorf("after Ctrl-C: %v", err)
	}
	watch.done <- nil
	_, id, ok := strings.Cut(watch.stderr.String(), "20 rows; go on with --from-id ")
	if !ok {
		t.Fatalf("after Ctrl-C it says %q", watch.stderr.String())
	}
	record, want := numbered(20)
	post(t, r.API, record)
	again := start(t, dir, nil, "tail", "flights", "-o", "json", "--from-id", strings.TrimSpace(id))
	for again.tailed().Row["id"] != want {
	}
	// The drain of the stack does not wait for those who watch, who try for a while to come back.
	left := start(t, dir, nil, "tail", "flights", "-o", "json", "--give-up-after", "200ms")
	tails(t, dir, 2)
	record, want = numbered(21)
	post(t, r.API, record)
	if got := left.tailed().Row["id"]; got != want {
		t.Errorf("got %v", got)
	}
	began := time.Now()
	up.terminate()
	if took := time.Since(began); took > 8*time.Second { // A drain that waited for them would take 10.
		t.Errorf("with live streams the drain took %v", took)
	}
	err := <-left.done
	left.done <- err
	if left.cmd.ProcessState.ExitCode() != 7 || !strings.Contains(left.stderr.String(), "did not come back within 200ms") {
		t.Errorf("exit %d, %s", left.cmd.ProcessState.ExitCode(), left.stderr.String())
	}
}

// TestTailLosesNothingWhenItIsCut publishes 2,000 rows while the connection is cut again and again.
func TestTailLosesNothingWhenItIsCut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, r := startUp(t, dir, "--no-sample")
	cutAndCount(t, dir, r.API)
	tails(t, dir, 0)
}

func cutAndCount(t *testing.T, dir, api string) {
	t.Helper()
	const n, batch = 2000, 20
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	proxy := startCutter(t, strings.TrimPrefix(api, "http://"))
	watch := start(t, dir, nil, "tail", "flights", "-o", "json", "--url", "http://"+proxy.listener.Addr().String())
	missing := map[string]bool{}
	var batches []string
	for i := 0; i < n; i += batch {
		var b strings.Builder
		for j := i; j < i+batch; j++ {
			record, id := numbered(j)
			missing[id] = true
			b.WriteString(record + "\n")
		}
		batches = append(batches, b.String())
	}
	go func() {
		proxy.awaitAnswer(t.Context())
		for i, b := range batches {
			post(t, api, b)
			time.Sleep(time.Duration(rng.IntN(30)) * time.Millisecond) // The pace of the publisher.
			if i%14 == 13 {
				proxy.awaitAnswer(t.Context())
				proxy.cut()
			}
		}
	}()
	seen := 0
	for ; len(missing) > 0; seen++ {
		delete(missing, watch.tailed().Row["id"].(string))
	}
	cuts := strings.Count(watch.stderr.String(), "connecting again")
	t.Logf("%d rows shown for %d published, the connection broke %d times", seen, n, cuts)
	if cuts < 3 {
		t.Errorf("the connection broke %d times only: %s", cuts, watch.stderr.String())
	}
	if strings.Contains(watch.stderr.String(), "may be missing") {
		t.Errorf("speaks of a gap: %s", watch.stderr.String())
	}
	watch.leave()
}

// leave ends a tail, whatever it still prints.
func (p *program) leave() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		p.t.Fatal(err)
	}
	for {
		select {
		case <-p.stdout.out:
		case err := <-p.done:
			p.done <- err
			return
		}
	}
}

// TestKilledStackForgetsItsTails: a killed process cannot delete the subscriptions of its streams.
func TestKilledStackForgetsItsTails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	up, _ := startUp(t, dir, "--no-sample")
	start(t, dir, nil, "tail", "flights", "--give-up-after", "100ms")
	tails(t, dir, 1)
	if err := up.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	err := <-up.done
	up.done <- err
	if out := run(t, dir, nil, "data", "info"); !strings.Contains(out, "flights-tail-") {
		t.Fatalf("the kill left nothing behind, so there is nothing to see here:\n%s", out)
	}
	startUp(t, dir, "--no-sample")
	tails(t, dir, 0)
}

func TestTailOnGooglesEmulators(t *testing.T) {
	t.Parallel()
	e := startEmulators(t)
	dir := t.TempDir()
	api, admins := fmt.Sprintf("http://127.0.0.1:%d", freePort(t)), []string{fmt.Sprintf("127.0.0.1:%d", freePort(t)), fmt.Sprintf("127.0.0.1:%d", freePort(t))}
	start(t, dir, e.env(), "ingest", "--admin", admins[0])
	start(t, dir, e.env(), "serve", "--http", strings.TrimPrefix(api, "http://"), "--admin", admins[1])
	for _, admin := range admins {
		awaitReady(t, "http://"+admin)
	}
	first := start(t, dir, nil, "tail", "flights", "-o", "json", "--url", api)
	record, want := numbered(0)
	published := make(chan struct{})
	go func() {
		defer close(published)
		for { // Until it watches.
			post(t, api, record)
			select {
			case <-time.After(200 * time.Millisecond):
			case published <- struct{}{}:
				return
			}
		}
	}()
	if got := first.tailed().Row["id"]; got != want {
		t.Errorf("got %v", got)
	}
	<-published
	first.leave()
	cutAndCount(t, dir, api)
}

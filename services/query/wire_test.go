package query

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/web"
)

// listen serves the world on a port of its own until the test ends.
func (w *world) listen(opts web.Options) string { return w.listener(opts).Addr() }

func (w *world) listener(opts web.Options) *web.Server {
	w.t.Helper()
	opts.Addr = "127.0.0.1:0"
	ctx, cancel := context.WithCancel(context.Background())
	s, err := web.Listen(ctx, opts, web.Deps{Handler: w.service.Handler(), OnDrain: w.service.Drain})
	if err != nil {
		w.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	w.t.Cleanup(func() { cancel(); <-done })
	return s
}

// await waits until a condition holds.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 10s", what)
		}
		<-time.After(2 * time.Millisecond)
	}
}

// TestClientsThatDoNotReadAreCut opens exports that nobody reads: each is cut after the write
// timeout, and its place and its goroutine are given back. It counts goroutines, so it runs alone.
func TestClientsThatDoNotReadAreCut(t *testing.T) {
	w := newWorld(t, testYAML, Options{WriteTimeout: 200 * time.Millisecond, MaxConcurrentExports: 4, QueueTimeout: 10 * time.Second})
	note := strings.Repeat("x", 100_000)
	for i := range 200 {
		w.add("tags", fmt.Sprintf(`{"name":"n%04d","note":"%s"}`, i, note))
	}
	addr := w.listen(web.Options{})
	before := runtime.NumGoroutine()
	for range 4 {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
		if _, err := io.WriteString(conn, "GET /v1/datasets/tags/rows?format=ndjson HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "all places taken", func() bool { return len(w.service.endpoints["tags"].exports.places) == 4 })
	await(t, "all places given back", func() bool { return len(w.service.endpoints["tags"].exports.places) == 0 })
	await(t, "goroutines back", func() bool { return runtime.NumGoroutine() <= before+5 })
	resp, err := http.Get("http://" + addr + "/v1/datasets/tags/rows?format=ndjson&fields=name")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || strings.Count(string(body), "\n") != 201 || resp.Trailer.Get(trailerEnd) != "complete" {
		t.Errorf("an honest export afterwards: %v, %d lines, trailer %v", err, strings.Count(string(body), "\n"), resp.Trailer)
	}
}

// TestWidestScansInParallel asks for the most that one request can cost, 64 at a time, of a store
// that is slow: what is served stays within the limits, the rest is told to come back.
func TestWidestScansInParallel(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{MaxConcurrentLists: 4, QueueTimeout: 20 * time.Millisecond, MaxPageBytes: 1 << 20, ListTimeout: 2 * time.Second})
	for i := range 3000 {
		w.add("tags", fmt.Sprintf(`{"name":"n%04d","note":"%s"}`, i, strings.Repeat("x", 400)))
	}
	// All requests are there before the first is served.
	arrived := make(chan struct{}, 64)
	release := make(chan struct{})
	w.store.before = func(context.Context) { arrived <- struct{}{}; <-release }
	addr := w.listen(web.Options{})
	var clients sync.WaitGroup
	var mu sync.Mutex
	statuses := map[int]int{}
	for range 64 {
		clients.Go(func() {
			resp, err := http.Get("http://" + addr + "/v1/datasets/tags/rows?limit=1000&note[ne]=y&scan=allow")
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || len(body) > 1<<20+1<<10 || resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") == "" {
				t.Errorf("%d bytes, %v, %v", len(body), err, resp.Header)
			}
			mu.Lock()
			statuses[resp.StatusCode]++
			mu.Unlock()
		})
	}
	for range 4 {
		<-arrived
	}
	await(t, "the others are told to come back", func() bool { mu.Lock(); defer mu.Unlock(); return statuses[503] == 60 })
	close(release)
	clients.Wait()
	if statuses[200] != 4 || statuses[503] != 60 {
		t.Errorf("statuses %v", statuses)
	}
}

// TestDeadlineReachesTheStore checks that a request's time is the store's time too.
func TestDeadlineReachesTheStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{ListTimeout: 30 * time.Millisecond, GetTimeout: 30 * time.Millisecond, ExportTimeout: 20 * time.Millisecond})
	w.store.before = func(ctx context.Context) { <-ctx.Done() }
	for _, target := range []string{"/rows", "/rows?explain=true", "/rows?format=ndjson", "/rows/a", "/stats"} {
		if p := problemOf(t, w.do("GET", "/v1/datasets/tags"+target, "")); p.Code != web.DeadlineExceeded {
			t.Errorf("%s: %+v", target, p)
		}
	}
	if p := problemOf(t, w.do("POST", "/v1/datasets/tags/rows/batch-get", `{"ids":["a"]}`, "Content-Type", "application/json")); p.Code != web.DeadlineExceeded {
		t.Errorf("%+v", p)
	}
}

// TestClosedConnectionEndsTheReading checks that nothing is read for a client that went away.
func TestClosedConnectionEndsTheReading(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{})
	entered, ended := make(chan struct{}), make(chan error, 1)
	w.store.before = func(ctx context.Context) {
		close(entered)
		<-ctx.Done()
		ended <- ctx.Err()
	}
	conn, err := net.Dial("tcp", w.listen(web.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET /v1/datasets/tags/rows HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-entered
	_ = conn.Close()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the reading ended with %v", err)
	}
}

// TestTrailersOverTheWire reads an export as a client does, to its trailers.
func TestTrailersOverTheWire(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{})
	w.addFlights()
	conn, err := net.Dial("tcp", w.listen(web.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /v1/datasets/flights/rows?format=ndjson&limit=2 HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.Header.Get("Content-Encoding") != "gzip" || resp.Trailer.Get(trailerEnd) != "more" || !strings.HasPrefix(resp.Trailer.Get(trailerCursor), "v1.") {
		t.Errorf("headers %v, trailer %v", resp.Header, resp.Trailer)
	}
}

// exchange sends bytes to an address and returns what comes back until the connection ends, or until
// the first answer is complete.
func exchange(t *testing.T, addr, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.WriteString(conn, request) }() // A refusal may come before all is written.
	var seen strings.Builder
	resp, err := http.ReadResponse(bufio.NewReader(io.TeeReader(conn, &seen)), nil)
	if err != nil {
		t.Fatalf("%.60q: %v in %q", request, err, seen.String())
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return seen.String()
}

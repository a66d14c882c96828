package query

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/web"
)

// The sizes of attacks, which make abuse raises to those that the service is meant for.
const (
	slowConnsVar  = "LATAM_ABUSE_SLOW_CONNS"
	floodConnsVar = "LATAM_ABUSE_FLOOD_CONNS"
)

// tryDial opens a connection, nil when the server closed it before we knew that it was open. It skips
// the test where the machine allows no more of them.
func tryDial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
	switch {
	case errors.Is(err, syscall.ECONNRESET):
		return nil
	case errors.Is(err, syscall.EMFILE):
		t.Skip("not enough file descriptors: raise ulimit -n, or ask for fewer connections")
	case err != nil:
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn := tryDial(t, addr)
	if conn == nil {
		t.Fatal("the connection was closed at once")
	}
	return conn
}

// drip writes a byte at a time until the server closes the connection, and returns how long it lived.
func drip(conn net.Conn, head string, every time.Duration) time.Duration {
	begin := time.Now()
	closed := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, conn); close(closed) }()
	_, _ = io.WriteString(conn, head)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-closed:
			_ = conn.Close()
			return time.Since(begin)
		case <-tick.C:
			_, _ = io.WriteString(conn, "a")
		}
	}
}

// TestSlowClientsDoNotDisturb opens connections that send headers or bodies a byte at a time, and some
// that read an answer as slowly, while honest callers ask. The slow ones end at the timeouts.
func TestSlowClientsDoNotDisturb(t *testing.T) {
	n := abuseSize(t, slowConnsVar, 60)
	full := n >= 500 // then with the limits of production
	opts := web.Options{ReadHeaderTimeout: 500 * time.Millisecond, ReadTimeout: time.Second, WriteTimeout: 4 * time.Second}
	if full {
		opts = web.Options{}
	}
	timeouts := opts.Defaults()
	w := newWorld(t, testYAML, Options{MaxPageBytes: 8 << 20})
	w.addFlights()
	for i := range 30 {
		w.add("tags", fmt.Sprintf(`{"name":"n%02d","note":"%s"}`, i, strings.Repeat("x", 200_000)))
	}
	server := w.listener(opts)
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
	honest := func(lasting time.Duration) (*outcomes, time.Duration) {
		out := openLoop(t.Context(), client, "http://"+server.Addr()+"/v1/datasets/flights/rows?origin=SCL", 50, lasting)
		slices.Sort(out.statuses[200])
		client.CloseIdleConnections()
		return out, out.statuses[200][len(out.statuses[200])*99/100]
	}
	_, calm := honest(500 * time.Millisecond)
	before := runtime.NumGoroutine()
	every := min(5*time.Second, timeouts.ReadHeaderTimeout/4)
	lives := map[string][]time.Duration{}
	var mu sync.Mutex
	var slow sync.WaitGroup
	attack := func(kind string, many int, run func(conn net.Conn, begin time.Time) time.Duration) {
		for range many {
			conn, begin := dial(t, server.Addr()), time.Now()
			if kind == "reader" {
				// One after the other: it is their slowness that is tested, not the making of their pages.
				beginReading(t, conn)
			}
			slow.Go(func() {
				lived := run(conn, begin)
				mu.Lock()
				defer mu.Unlock()
				lives[kind] = append(lives[kind], lived)
			})
		}
	}
	attack("headers", n, func(c net.Conn, _ time.Time) time.Duration {
		return drip(c, "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ", every)
	})
	attack("body", n*2/5, func(c net.Conn, _ time.Time) time.Duration {
		return drip(c, "POST /v1/datasets/flights/records HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{", every)
	})
	attack("reader", n/10, readSlowly)

	good, p99 := honest(timeouts.ReadTimeout + time.Second)
	slow.Wait()

	t.Logf("%d good calls, p99 %s, before the attack %s; slow connections lived at most: headers %s, body %s, reader %s",
		len(good.statuses[200]), p99, calm, slices.Max(lives["headers"]), slices.Max(lives["body"]), slices.Max(lives["reader"]))
	if len(good.bad) > 0 || len(good.statuses[503]) > 0 {
		t.Errorf("%d good calls were refused, %d failed: %.300q", len(good.statuses[503]), len(good.bad), good.bad)
	}
	if full && p99 > max(100*time.Millisecond, 5*calm) {
		t.Errorf("the p99 of good calls is %s, it was %s before the attack", p99, calm)
	}
	const slack = 2 * time.Second
	for kind, limit := range map[string]time.Duration{"headers": timeouts.ReadHeaderTimeout, "body": timeouts.ReadTimeout, "reader": timeouts.WriteTimeout + timeouts.ReadHeaderTimeout} {
		if longest := slices.Max(lives[kind]); longest > limit+slack {
			t.Errorf("a slow %s lived %s, the limit is %s", kind, longest, limit)
		}
	}
	if first := slices.Min(lives["headers"]); first > timeouts.ReadTimeout {
		t.Errorf("no connection with slow headers was closed before %s, their own limit is %s", first, timeouts.ReadHeaderTimeout)
	}
	await(t, "goroutines back", func() bool { return runtime.NumGoroutine() <= before+5 })
}

// beginReading asks for a page of 6 MB, more than the kernel keeps for a connection, and reads its first byte.
func beginReading(t *testing.T, conn net.Conn) {
	t.Helper()
	_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	if _, err := io.WriteString(conn, "GET /v1/datasets/tags/rows?limit=1000 HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

// readSlowly reads ten bytes a second until the server gives up.
func readSlowly(conn net.Conn, begin time.Time) time.Duration {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	b := make([]byte, 1)
	for time.Since(begin) < time.Minute {
		<-tick.C
		_, err := conn.Read(b)
		if err != nil {
			break
		}
		// The kernel still holds what was sent before the end; a reset shows in the state of the connection.
		if hasEnded(conn) {
			break
		}
	}
	_ = conn.Close()
	return time.Since(begin)
}

// hasEnded writes to a connection to learn whether the other end is still there.
func hasEnded(conn net.Conn) bool {
	_, err := io.WriteString(conn, "x")
	return err != nil
}

// TestFloodOfConnections opens more connections than there may be: those within the cap are served,
// the others are closed at once, and afterwards there is room again.
func TestFloodOfConnections(t *testing.T) {
	n := abuseSize(t, floodConnsVar, 400)
	limit := min(1024, n/4)
	w := newWorld(t, testYAML, Options{})
	server := w.listener(web.Options{MaxConns: limit, IdleTimeout: 30 * time.Second})
	get := func(conn net.Conn) (int, error) {
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.WriteString(conn, "GET /v1/datasets/tags/rows HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return 0, err
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode, err
	}
	first := dial(t, server.Addr())
	if status, err := get(first); status != 200 {
		t.Fatal(status, err)
	}
	conns := make([]net.Conn, 0, n)
	for range n {
		if conn := tryDial(t, server.Addr()); conn != nil {
			conns = append(conns, conn)
		}
	}
	served := 0
	for _, conn := range conns {
		if status, err := get(conn); status == 200 {
			served++
		} else if err == nil {
			t.Fatalf("status %d", status)
		}
		if served%100 == 1 {
			if status, err := get(first); status != 200 {
				t.Fatalf("a connection from before the flood: %d, %v", status, err)
			}
		}
	}
	t.Logf("of %d connections %d were served, %d refused", n, served, server.Refused())
	if served != limit-1 || int(server.Refused()) != n-served {
		t.Errorf("%d served and %d refused, the cap is %d", served, server.Refused(), limit)
	}
	for _, conn := range conns {
		_ = conn.Close()
	}
	begin := time.Now()
	await(t, "room after the flood", func() bool {
		conn, err := net.Dial("tcp", server.Addr())
		if err != nil {
			return false
		}
		defer conn.Close()
		status, err := get(conn)
		return err == nil && status == 200
	})
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %s until there was room again", took)
	}
}

// TestOversizeOverTheWire sends the real API more than it takes, of everything.
func TestOversizeOverTheWire(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{})
	addr := w.listen(web.Options{ReadTimeout: 2 * time.Second})
	const post = "POST /v1/datasets/flights/records HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
	const batch = "POST /v1/datasets/flights/rows/batch-get HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
	chunks := strings.Repeat("8000\r\n"+strings.Repeat("x", 0x8000)+"\r\n", 64)
	for name, tt := range map[string]struct {
		request string
		status  string
	}{
		"headers":           {"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Big: " + strings.Repeat("a", 24<<10) + "\r\n\r\n", "431"},
		"header lines":      {"GET /healthz HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: b\r\n", 1000) + "\r\n", "431"},
		"url":               {"GET /v1/datasets/flights/rows?origin=" + strings.Repeat("A", 9<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n", "414"},
		"body of a list":    {"GET /v1/datasets/flights/rows HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", "400"},
		"declared body":     {post + "Content-Length: 10737418240\r\n\r\n", "413"},
		"endless records":   {post + "Transfer-Encoding: chunked\r\n\r\n" + chunks, "413"},
		"endless batch":     {batch + "Transfer-Encoding: chunked\r\n\r\n" + chunks, "413"},
		"less than it says": {post + "Content-Length: 100\r\n\r\n{", "408"},
		"more than it says": {post + "Content-Length: 2\r\n\r\n{}{}{}{}", "400"},
		"gzip bomb":         {post + "Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\n\x1f\x8b\x08\x00\x00", "415"},
		"gzip bomb, batch":  {batch + "Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\n\x1f\x8b\x08\x00\x00", "415"},
	} {
		if answer := exchange(t, addr, tt.request); !strings.HasPrefix(answer, "HTTP/1.1 "+tt.status) {
			t.Errorf("%s: %.300q", name, answer)
		}
	}
}

// countingReader is an endless body that knows how much of it was read.
type countingReader struct{ n int64 }

func (r *countingReader) Read(b []byte) (int, error) {
	r.n += int64(len(b))
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

// TestOversizeCostsLittle measures what bodies without an end cost: bytes read and memory.
func TestOversizeCostsLittle(t *testing.T) {
	w := newWorld(t, testYAML, Options{})
	for name, tt := range map[string]struct {
		path, kind, encoding string
		most                 int64
		status               int
	}{
		"records":     {"records", "application/json", "", 1<<20 + 4<<10, 413},
		"lines":       {"records", "application/x-ndjson", "", 1<<20 + 4<<10, 413},
		"batch-get":   {"rows/batch-get", "application/json", "", 1<<20 + 4<<10, 413},
		"gzip":        {"records", "application/json", "gzip", 0, 415},
		"wrong type":  {"records", "text/plain", "", 0, 415},
		"not a route": {"nothing", "application/json", "", 0, 404},
	} {
		body := &countingReader{}
		r := httptest.NewRequest(http.MethodPost, "/v1/datasets/flights/"+tt.path, io.NopCloser(body))
		r.ContentLength = -1
		r.Header.Set("Content-Type", tt.kind)
		if tt.encoding != "" {
			r.Header.Set("Content-Encoding", tt.encoding)
		}
		rec := httptest.NewRecorder()
		var start, end runtime.MemStats
		runtime.ReadMemStats(&start)
		w.handler.ServeHTTP(rec, r)
		runtime.ReadMemStats(&end)
		if rec.Code != tt.status || !bytes.Contains(rec.Body.Bytes(), []byte(`"code":`)) {
			t.Errorf("%s: %d %s", name, rec.Code, rec.Body)
		}
		if body.n > tt.most {
			t.Errorf("%s: %d bytes were read, the most is %d", name, body.n, tt.most)
		}
		if grew := end.TotalAlloc - start.TotalAlloc; grew > 16<<20 {
			t.Errorf("%s took %d bytes of memory", name, grew)
		}
	}
}

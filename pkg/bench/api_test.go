package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// script is a server that answers the requests of each connection with raw texts, in turns, and
// closes the connection after an answer that ends with "<close>".
func script(t *testing.T, answers ...string) (addr string, requests *atomic.Int64) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	requests = &atomic.Int64{}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				buf := make([]byte, 4096)
				for {
					if _, err := conn.Read(buf); err != nil {
						return
					}
					n := requests.Add(1) - 1
					answer, end := strings.CutSuffix(answers[int(n)%len(answers)], "<close>")
					if _, err := io.WriteString(conn, answer); err != nil || end {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String(), requests
}

const good = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"

func TestHTTPConn(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, answer string
		body         string
		want         string // part of the error, "" for none
	}{
		{"length", good, "body", ""},
		{"other case", "HTTP/1.1 200 OK\r\ncOnTeNt-lEnGtH:4\r\n\r\nbody", "body", ""},
		{"empty", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", ""},
		{"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbod\r\n1;x=y\r\ny\r\n0\r\nTrailer: x\r\n\r\n", "body", ""},
		{"server error", "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\nbody", "body", "not 200 but 500"},
		{"no content", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", "", "not 200 but 204"},
		{"closed at once", "<close>", "", "unexpected EOF"},
		{"cut in the head", "HTTP/1.1 200 OK\r\nContent-Le<close>", "", "unexpected EOF"},
		{"cut in the body", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbody<close>", "", "unexpected EOF"},
		{"cut in a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbody<close>", "", "unexpected EOF"},
		{"no last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n<close>", "", "unexpected EOF"},
		{"chunk too long", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbody\r\n0\r\n\r\n", "", "does not end where it said"},
		{"chunk of no size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "", "size of a chunk"},
		{"no length", "HTTP/1.1 200 OK\r\n\r\nbody<close>", "", "neither its length"},
		{"bad length", "HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\nbody", "", "expected a length"},
		{"another protocol", "SSH-2.0-OpenSSH_9.6\r\n", "", "status line"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			addr, _ := script(t, tc.answer)
			for _, keep := range []bool{true, false} {
				c := &httpConn{addr: addr, timeout: 5 * time.Second, keep: keep}
				err := c.do(t.Context(), rawRequest(addr, "", "/"))
				c.close()
				if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
					t.Errorf("got %v, want %q", err, tc.want)
				}
				if keep && tc.body != "" && string(c.body) != tc.body {
					t.Errorf("body %q, want %q", c.body, tc.body)
				}
			}
		})
	}
}

// The connection is used again after a good answer and after an error status, and replaced after
// anything that leaves it in an unknown state.
func TestHTTPConnReconnects(t *testing.T) {
	t.Parallel()
	addr, requests := script(t, good, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbody<close>", good,
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody<close>", good)
	c := &httpConn{addr: addr, timeout: 5 * time.Second}
	defer c.close()
	var connections []net.Conn
	for i, fails := range []bool{false, true, true, false, false, false} {
		if err := c.do(t.Context(), rawRequest(addr, "", "/")); (err != nil) != fails {
			t.Errorf("request %d: %v", i, err)
		}
		connections = append(connections, c.conn)
	}
	if requests.Load() != 6 {
		t.Errorf("the server saw %d requests, want 6", requests.Load())
	}
	if connections[0] == nil || connections[0] != connections[1] || connections[2] != nil || connections[4] != nil || connections[5] == nil {
		t.Errorf("connections %v", connections)
	}
}

// A run counts every failure as one, and no latency for it.
func TestLoadCountsHonestly(t *testing.T) {
	t.Parallel()
	answers := []string{
		good, "HTTP/1.1 500 Oops\r\nContent-Length: 1\r\n\r\nx", "<close>", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut<close>", good,
	}
	for _, rate := range []int{0, 500} {
		addr, requests := script(t, answers...)
		l := &load{name: "get", target: "script", addr: addr, requests: [][]byte{rawRequest(addr, "", "/")}, connections: 3, during: 200 * time.Millisecond}
		run, err := l.run(t.Context(), rate)
		if err != nil {
			t.Fatal(err)
		}
		total := requests.Load()
		done, failed := run.Counts["done"], run.Counts["errors"]
		if done+failed != total || done != goodOf(total) || uint64(done) != run.Latencies["get"].Count {
			t.Errorf("rate %d: the server saw %d requests, %d of them good; the run says %+v", rate, total, goodOf(total), run)
		}
		if run.Sustained || l.failure() == nil {
			t.Errorf("rate %d: the run is called sustained, its failure %v", rate, l.failure())
		}
		if rate > 0 && (total != 100 || run.OfferedPerSecond != 500 || run.Loop != OpenLoop || run.Counts["unfinished"] != 0) {
			t.Errorf("rate %d: %d requests, %+v", rate, total, run)
		}
	}
}

// goodOf is how many of the first n answers of TestLoadCountsHonestly are good.
func goodOf(n int64) int64 {
	good := n / 5 * 2
	if n%5 > 0 {
		good++
	}
	return good
}

// A pause of the server shows in all requests that were due in it, not only in the ones under way.
func TestOpenLoopChargesAPause(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	pause := make(chan struct{})
	addr, stop, err := serveBare(t.Context(), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if n := calls.Add(1); n == 20 {
			time.AfterFunc(300*time.Millisecond, func() { close(pause) })
		}
		if calls.Load() >= 20 {
			<-pause
		}
		_, _ = io.WriteString(w, "body")
	}))
	if err != nil {
		t.Fatal(err)
	}
	l := &load{name: "get", addr: addr, requests: [][]byte{rawRequest(addr, "", "/")}, connections: 2, during: 500 * time.Millisecond}
	run, err := l.run(t.Context(), 200)
	if err := errors.Join(err, stop()); err != nil {
		t.Fatal(err)
	}
	// 20 requests are quick; about 60 more were due within the 300 ms, of which the first waited for
	// all of it: the middle of all 100 waited too, although only two requests were ever under way.
	if p50 := run.Latencies["get"].P50; run.Counts["done"] != 100 || p50 < 10 {
		t.Errorf("p50 is %.1f ms of %d requests: a pause of 300 ms is left out", p50, run.Counts["done"])
	}
}

func TestSilentServerIsAnError(t *testing.T) {
	t.Parallel()
	addr, _ := script(t, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
	target := APITarget{Name: "script", Addr: addr}
	_, err := RunningAPI(t.Context(), APIOptions{For: 50 * time.Millisecond, Connections: 2, Scenarios: []string{ScenarioGet}}, target,
		[]APIScenario{{Name: ScenarioGet, Requests: []APIRequest{{Target: "/"}}}}, Deps{})
	if err == nil || !strings.Contains(err.Error(), "no request succeeded") || !strings.Contains(err.Error(), "503") {
		t.Errorf("got %v", err)
	}
}

func TestSampleAPI(t *testing.T) {
	t.Parallel()
	decl, err := dataset.Load("bench.yaml", []byte(APIDeclaration))
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	addr, stop, err := serveBare(t.Context(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.RequestURI+" "+r.Header.Get("X-Api-Key"))
		if r.URL.Query().Get("cursor") == "" {
			_, _ = io.WriteString(w, `{"data":[{"id":"AAX,1","origin":"AAX"},{"id":"AAX,2","origin":"AAX"}],"next_cursor":"c/1"}`)
			return
		}
		_, _ = io.WriteString(w, `{"data":[{"id":"ABX,1","origin":"ABX"}],"next_cursor":null}`)
	}))
	if err != nil {
		t.Fatal(err)
	}
	got, err := SampleAPI(t.Context(), addr, "/base", "X-Api-Key: k\r\n", decl.Datasets[0], 100)
	if err := errors.Join(err, stop()); err != nil {
		t.Fatal(err)
	}
	const path = "/base/v1/datasets/bench-flights/rows"
	want := fmt.Sprint([]APIScenario{
		{ScenarioGet, []APIRequest{{Target: path + "/AAX%2C1"}, {Target: path + "/AAX%2C2"}, {Target: path + "/ABX%2C1"}}},
		{ScenarioPage, []APIRequest{{Target: path + "?limit=100"}, {Target: path + "?limit=100&cursor=c%2F1"}}},
		{ScenarioFilter, []APIRequest{{Target: path + "?origin=AAX&limit=100"}, {Target: path + "?origin=ABX&limit=100"}}},
	})
	if fmt.Sprint(got) != want {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if fmt.Sprint(seen) != "["+path+"?limit=100 k "+path+"?limit=100&cursor=c%2F1 k]" {
		t.Errorf("the API saw %v", seen)
	}
}

// Every prepared request names a row or a page that is there.
func TestAPIDataMatchesItsRequests(t *testing.T) {
	t.Parallel()
	for _, rows := range []int{1, 150, 2500} {
		d, err := newAPIData(rows)
		if err != nil {
			t.Fatal(err)
		}
		sink := &keySink{keys: map[string]bool{}}
		if err := d.fill(context.Background(), sink); err != nil {
			t.Fatal(err)
		}
		if len(sink.keys) != rows {
			t.Fatalf("%d rows are stored, want %d", len(sink.keys), rows)
		}
		scenarios, err := d.scenarios()
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range scenarios[0].Requests {
			if !sink.keys[r.Key] {
				t.Fatalf("%s is no row", r.Target)
			}
		}
		for _, r := range scenarios[1].Requests[:min(rows, 50)] {
			n := 0
			for key := range sink.keys {
				if key >= r.Start && key < r.End {
					n++
				}
			}
			if n < min(rows/d.origins, pageRows) {
				t.Fatalf("%s has %d rows", r.Target, n)
			}
		}
	}
}

package web

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
	"sync/atomic"
	"testing"
	"time"
)

// start runs a server on a free port until the test ends and returns its address.
func start(t *testing.T, opts Options, deps Deps) (*Server, func() error) {
	t.Helper()
	opts.Addr = "127.0.0.1:0"
	ctx, cancel := context.WithCancel(context.Background())
	s, err := Listen(ctx, opts, deps)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop := sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = stop() })
	return s, stop
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 5s", what)
		}
		runtime.Gosched()
		<-time.After(time.Millisecond)
	}
}

func okHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
}

func TestSlowlorisIsClosedWhileGoodCallsAreServed(t *testing.T) {
	t.Parallel()
	s, _ := start(t, Options{ReadHeaderTimeout: 300 * time.Millisecond, IdleTimeout: 300 * time.Millisecond}, Deps{Handler: okHandler()})
	const attackers = 100
	begin := time.Now()
	closed := make(chan time.Duration, attackers)
	for range attackers {
		c := dial(t, s.Addr())
		go func() {
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
			stop := make(chan struct{})
			go func() {
				tick := time.NewTicker(50 * time.Millisecond)
				defer tick.Stop()
				for {
					select {
					case <-stop:
						return
					case <-tick.C:
						_, _ = io.WriteString(c, "a")
					}
				}
			}()
			_, _ = io.Copy(io.Discard, c)
			close(stop)
			closed <- time.Since(begin)
		}()
	}
	client := &http.Client{Timeout: 5 * time.Second}
	for i := range 20 {
		res, err := client.Get("http://" + s.Addr())
		if err != nil {
			t.Fatalf("good call %d: %v", i, err)
		}
		_ = res.Body.Close()
	}
	for range attackers {
		select {
		case took := <-closed:
			if took > 3*time.Second {
				t.Errorf("a slow connection lived %s", took)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("a slow connection stays open")
		}
	}
	client.CloseIdleConnections()
	eventually(t, "all places given back", func() bool { return s.listener.open.Load() == 0 })
}

func TestSlowBodyIsA408(t *testing.T) {
	t.Parallel()
	s, _ := start(t, Options{ReadHeaderTimeout: 200 * time.Millisecond, ReadTimeout: 200 * time.Millisecond}, Deps{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, p := ReadBody(w, r, 1<<20); p != nil {
			WriteProblem(w, r, p)
		}
	})})
	c := dial(t, s.Addr())
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nonly this")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusRequestTimeout || !res.Close {
		t.Errorf("status %d, close %v", res.StatusCode, res.Close)
	}
}

func TestSlowReaderIsCut(t *testing.T) {
	t.Parallel()
	failed := make(chan error, 1)
	s, _ := start(t, Options{WriteTimeout: 200 * time.Millisecond}, Deps{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		chunk := make([]byte, 1<<20)
		for {
			if _, err := w.Write(chunk); err != nil {
				failed <- err
				return
			}
		}
	})})
	c := dial(t, s.Addr())
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	select {
	case err := <-failed:
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("write failed with %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the handler still writes to a client that does not read")
	}
}

func TestConnectionCap(t *testing.T) {
	t.Parallel()
	const limit = 16
	s, _ := start(t, Options{MaxConns: limit}, Deps{Handler: okHandler()})
	get := func(c net.Conn) error {
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return err
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return err
		}
		return res.Body.Close()
	}
	var conns []net.Conn
	for i := range limit {
		c := dial(t, s.Addr())
		if err := get(c); err != nil {
			t.Fatalf("connection %d under the cap: %v", i, err)
		}
		conns = append(conns, c)
	}
	for i := range 50 {
		c, err := net.Dial("tcp", s.Addr())
		if err != nil {
			continue // reset before the handshake was reported
		}
		if get(c) == nil {
			t.Fatalf("connection %d over the cap was served", i)
		}
		_ = c.Close()
	}
	if s.Refused() != 50 {
		t.Errorf("%d refused", s.Refused())
	}
	if err := get(conns[0]); err != nil {
		t.Errorf("a connection under the cap broke during the flood: %v", err)
	}
	_ = conns[0].Close()
	eventually(t, "place given back", func() bool { return s.listener.open.Load() == limit-1 })
	if err := get(dial(t, s.Addr())); err != nil {
		t.Errorf("no recovery: %v", err)
	}
}

func TestSizeAbuseOverTheWire(t *testing.T) {
	t.Parallel()
	var read atomic.Int64
	s, _ := start(t, Options{ReadTimeout: 2 * time.Second}, Deps{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, p := ReadBody(w, r, 1<<20)
		read.Store(int64(len(body)))
		if p != nil {
			WriteProblem(w, r, p)
		}
	})})
	endless := func(c net.Conn) {
		chunk := "8000\r\n" + strings.Repeat("x", 0x8000) + "\r\n"
		for {
			if _, err := io.WriteString(c, chunk); err != nil {
				return
			}
		}
	}
	for _, tt := range []struct {
		name, head string
		more       func(net.Conn)
		status     int
	}{
		{"headers", "GET / HTTP/1.1\r\nHost: x\r\nX-Big: " + strings.Repeat("a", 24<<10) + "\r\n\r\n", nil, 431},
		{"url", "GET /" + strings.Repeat("a", 9<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n", nil, 414},
		{"header lines", "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: b\r\n", 1000) + "\r\n", nil, 431},
		{"declared body", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10737418240\r\n\r\n", nil, 413},
		{"endless chunks", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", endless, 413},
		{"two lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", nil, 400},
		{"no host", "GET / HTTP/1.1\r\n\r\n", nil, 400},
		{"not http", "\x16\x03\x01\x02\x00\r\n\r\n", nil, 400},
		{"h2c preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", nil, 400},
	} {
		c := dial(t, s.Addr())
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		go func() {
			_, _ = io.WriteString(c, tt.head)
			if tt.more != nil {
				tt.more(c)
			}
		}()
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if res.StatusCode != tt.status || !res.Close {
			t.Errorf("%s: status %d, close %v", tt.name, res.StatusCode, res.Close)
		}
		if res.Header.Get("Server") != "" {
			t.Errorf("%s: the server names itself", tt.name)
		}
		_ = res.Body.Close()
	}
}

func TestDrainFinishesRunningRequests(t *testing.T) {
	t.Parallel()
	entered, release, drained := make(chan struct{}), make(chan struct{}), make(chan struct{})
	s, stop := start(t, Options{}, Deps{
		OnDrain: func() { close(drained) },
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(entered)
			<-release
			if r.Context().Err() != nil {
				t.Error("the request's context ended with the server's")
			}
			_, _ = io.WriteString(w, "whole answer")
		}),
	})
	got := make(chan string, 1)
	go func() {
		res, err := http.Get("http://" + s.Addr())
		if err != nil {
			got <- err.Error()
			return
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		got <- fmt.Sprintf("%d %s", res.StatusCode, body)
	}()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	<-drained
	close(release)
	if answer := <-got; answer != "200 whole answer" {
		t.Errorf("got %q", answer)
	}
	if err := <-stopped; err != nil {
		t.Errorf("drain: %v", err)
	}
	if _, err := net.Dial("tcp", s.Addr()); err == nil {
		t.Error("still accepts")
	}
}

func TestDrainDelayKeepsServingAndClosesConnections(t *testing.T) {
	t.Parallel()
	drained := make(chan struct{})
	s, stop := start(t, Options{DrainDelay: 500 * time.Millisecond}, Deps{OnDrain: func() { close(drained) }, Handler: okHandler()})
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	<-drained
	res, err := http.Get("http://" + s.Addr())
	if err != nil {
		t.Fatalf("a request during the delay: %v", err)
	}
	_ = res.Body.Close()
	if !res.Close {
		t.Error("the connection is kept alive although the server drains")
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestDrainTimeoutCuts(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{})
	s, stop := start(t, Options{DrainTimeout: 50 * time.Millisecond}, Deps{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	})})
	go func() {
		res, err := http.Get("http://" + s.Addr())
		if err == nil {
			_ = res.Body.Close()
		}
	}()
	<-entered
	if err := stop(); err == nil || !strings.Contains(err.Error(), "were cut") {
		t.Errorf("got %v", err)
	}
}

func TestListenErrors(t *testing.T) {
	t.Parallel()
	s, _ := start(t, Options{}, Deps{Handler: okHandler()})
	if _, err := Listen(context.Background(), Options{Addr: s.Addr()}, Deps{Handler: okHandler()}); err == nil || !strings.Contains(err.Error(), s.Addr()) {
		t.Errorf("a taken port: %v", err)
	}
}

package netfault_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/testkit/netfault"
)

// echo answers every byte with itself.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	return l.Addr().String()
}

func open(t *testing.T) *netfault.Proxy {
	t.Helper()
	p, err := netfault.Listen(echo(t), 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func dial(t *testing.T, p *netfault.Proxy) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// roundTrip sends data and returns how long its echo took.
func roundTrip(t *testing.T, c net.Conn, data []byte) time.Duration {
	t.Helper()
	began := time.Now()
	go func() { _, _ = c.Write(data) }()
	got := make([]byte, len(data))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("echo of %d bytes: %v, equal %v", len(data), err, bytes.Equal(got, data))
	}
	return time.Since(began)
}

func TestPerfectLinkForwardsEverything(t *testing.T) {
	t.Parallel()
	c := dial(t, open(t))
	roundTrip(t, c, bytes.Repeat([]byte("0123456789"), 100_000))
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after an orderly end: %v, want EOF", err)
	}
}

func TestLinksAreAsSlowAsTheySay(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		link  netfault.Link
		bytes int
		least time.Duration
	}{
		"latency both ways":   {netfault.Link{Latency: 50 * time.Millisecond}, 10, 100 * time.Millisecond},
		"latency is not rate": {netfault.Link{Latency: 50 * time.Millisecond, Jitter: time.Millisecond}, 500_000, 98 * time.Millisecond},
		"bandwidth":           {netfault.Link{BytesPerSecond: 100_000}, 10_000, 100 * time.Millisecond},
		"slices":              {netfault.Link{SliceBytes: 10, BytesPerSecond: 10_000}, 1_000, 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := open(t)
			p.Set(c.link)
			if took := roundTrip(t, dial(t, p), bytes.Repeat([]byte("x"), c.bytes)); took < c.least || took > c.least+5*time.Second {
				t.Errorf("took %s, want %s and a little", took, c.least)
			}
		})
	}
}

func TestBlackHoleHoldsWhatIsOnItsWay(t *testing.T) {
	t.Parallel()
	p := open(t)
	c := dial(t, p)
	roundTrip(t, c, []byte("before"))
	p.Set(netfault.Link{BlackHole: true})
	if _, err := c.Write([]byte("during\n")); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d bytes, %v: nothing must pass", n, err)
	}
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	p.Set(netfault.Link{})
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || line != "during\n" {
		t.Errorf("after it: %q, %v", line, err)
	}
}

func TestResetAndDown(t *testing.T) {
	t.Parallel()
	p := open(t)
	c := dial(t, p)
	roundTrip(t, c, []byte("a"))
	if n := p.Reset(); n != 1 {
		t.Errorf("reset %d connections, want 1", n)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after a reset: %v, want ECONNRESET", err)
	}
	roundTrip(t, dial(t, p), []byte("b"))
	addr := p.Addr()
	p.Down()
	if _, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("while it is down: %v, want ECONNREFUSED", err)
	}
	if err := p.Up(); err != nil {
		t.Fatal(err)
	}
	roundTrip(t, dial(t, p), []byte("c"))
	p.SetUpstream("127.0.0.1:1")
	if _, err := dial(t, p).Read(make([]byte, 1)); err == nil {
		t.Error("a proxy to nobody answered")
	}
}

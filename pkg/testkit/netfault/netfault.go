// Package netfault is a TCP proxy for tests that breaks the connections that pass it: down, reset,
// slow, thin, sliced or silent. Only tests import it.
package netfault

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Link says how bytes travel, in both directions. The zero value is a perfect link.
type Link struct {
	// Latency is added to each piece of data, and up to Jitter to more or less of it. Pieces keep
	// their order.
	Latency, Jitter time.Duration
	// BytesPerSecond is the most of one direction of a connection; 0 is without a limit.
	BytesPerSecond int
	// SliceBytes is the largest piece that is forwarded at a time; 0 is without a limit.
	SliceBytes int
	// BlackHole forwards nothing; the connections stay open, and what is on its way goes on when the
	// link is set again, as after lost packets.
	BlackHole bool
}

// Proxy forwards connections to an address. Its methods may be used concurrently.
type Proxy struct {
	upstream string
	addr     string
	random   func() float64

	mu       sync.Mutex
	listener net.Listener // nil while it is down
	link     Link
	changed  chan struct{} // closed when link changes or the proxy ends
	conns    map[net.Conn]struct{}
	closed   bool
	work     sync.WaitGroup
}

// Listen starts a proxy to upstream on a free port of the loopback interface. The seed is that of
// the jitter.
func Listen(upstream string, seed uint64) (*Proxy, error) {
	source := rand.New(rand.NewPCG(seed, 0))
	var mu sync.Mutex
	p := &Proxy{
		upstream: upstream, addr: "127.0.0.1:0", conns: map[net.Conn]struct{}{}, changed: make(chan struct{}),
		random: func() float64 { mu.Lock(); defer mu.Unlock(); return source.Float64() },
	}
	if err := p.Up(); err != nil {
		return nil, err
	}
	return p, nil
}

// Addr is the address to dial. It stays the same.
func (p *Proxy) Addr() string { return p.addr }

// SetUpstream changes where new connections go.
func (p *Proxy) SetUpstream(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.upstream = addr
}

// Set changes how bytes travel, also on connections that are open.
func (p *Proxy) Set(link Link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.link = link
	close(p.changed)
	p.changed = make(chan struct{})
}

// Down stops to listen and resets every connection: the port refuses.
func (p *Proxy) Down() {
	p.mu.Lock()
	listener := p.listener
	p.listener = nil
	p.mu.Unlock()
	if listener != nil {
		_ = listener.Close() // It was open.
	}
	p.Reset()
}

// Up listens again, on the same port.
func (p *Proxy) Up() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil || p.closed {
		return nil
	}
	listener, err := net.Listen("tcp", p.addr) //nolint:noctx // It returns at once.
	if err != nil {
		return fmt.Errorf("netfault: %w", err)
	}
	p.listener, p.addr = listener, listener.Addr().String()
	p.work.Go(func() { p.accept(listener) })
	return nil
}

// Reset ends every connection with a TCP reset and returns how many there were. New ones are taken.
func (p *Proxy) Reset() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.conns) / 2
	// Without it, Close would be an orderly end. It is set for all first: as soon as one end of a pair is
	// closed, the other is closed too by who passes on between them.
	for c := range p.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
	}
	for c := range p.conns {
		_ = c.Close()
	}
	clear(p.conns)
	return n
}

// Close ends the proxy and its connections.
func (p *Proxy) Close() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.closed = true
	close(p.changed)
	p.mu.Unlock()
	p.Down()
	p.work.Wait()
}

func (p *Proxy) accept(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return // The listener was closed.
		}
		p.work.Go(func() { p.serve(client) })
	}
}

const dialTimeout = 5 * time.Second

func (p *Proxy) serve(client net.Conn) {
	p.mu.Lock()
	upstream := p.upstream
	p.mu.Unlock()
	server, err := net.DialTimeout("tcp", upstream, dialTimeout) //nolint:noctx // It has a limit of its own.
	if err != nil {
		_ = client.Close() // The client sees that nobody is there.
		return
	}
	if !p.keep(client, server) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.pump(server, client) })
	both.Go(func() { p.pump(client, server) })
	both.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, client)
	delete(p.conns, server)
}

// keep notes a pair of connections, unless the proxy went down meanwhile.
func (p *Proxy) keep(client, server net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener == nil {
		_, _ = client.Close(), server.Close()
		return false
	}
	p.conns[client], p.conns[server] = struct{}{}, struct{}{}
	return true
}

const (
	pieceBytes = 32 << 10
	// queuedPieces is how many pieces may be on their way in one direction.
	queuedPieces = 64
)

// piece is data that was read at a moment, which its latency counts from.
type piece struct {
	data []byte
	read time.Time
}

// pump forwards one direction until one side ends, then ends the other.
func (p *Proxy) pump(to, from net.Conn) {
	queue := make(chan piece, queuedPieces)
	var writer sync.WaitGroup
	writer.Go(func() {
		for q := range queue {
			if p.forward(to, q) != nil {
				_ = from.Close() // The reader ends, and with it the queue.
			}
		}
	})
	buf := make([]byte, pieceBytes)
	var err error
	for err == nil {
		var n int
		n, err = from.Read(buf)
		if n > 0 {
			queue <- piece{data: bytes.Clone(buf[:n]), read: time.Now()}
		}
	}
	close(queue)
	writer.Wait()
	if tcp, ok := to.(*net.TCPConn); ok && errors.Is(err, io.EOF) {
		_ = tcp.CloseWrite()
	} else {
		_ = to.Close()
	}
}

// forward sends a piece as the link of the moment allows.
func (p *Proxy) forward(to net.Conn, q piece) error {
	for data := q.data; len(data) > 0; {
		link, changed, closed := p.current()
		if closed {
			return net.ErrClosed
		}
		if link.BlackHole {
			<-changed
			continue
		}
		part := data
		if link.SliceBytes > 0 {
			part = part[:min(len(part), link.SliceBytes)]
		}
		pause(p.delay(link)-time.Since(q.read), changed)
		if link.BytesPerSecond > 0 {
			pause(time.Duration(len(part))*time.Second/time.Duration(link.BytesPerSecond), changed)
		}
		if _, err := to.Write(part); err != nil {
			return err
		}
		data = data[len(part):]
	}
	return nil
}

func (p *Proxy) current() (link Link, changed <-chan struct{}, closed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.link, p.changed, p.closed
}

func (p *Proxy) delay(link Link) time.Duration {
	return link.Latency + time.Duration((2*p.random()-1)*float64(link.Jitter))
}

// pause waits for d, or until the link changes.
func pause(d time.Duration, changed <-chan struct{}) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-changed:
	}
}

package web

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// cappedListener closes connections beyond the cap at once instead of leaving them in the
// kernel's queue, so that a flood costs one accept each and a client learns its fate early.
type cappedListener struct {
	net.Listener
	limit   int64
	open    atomic.Int64
	refused atomic.Int64
	log     *slog.Logger
	now     func() time.Time
	warned  time.Time // of the last warning; used by the accept loop only
}

const refusalWarningInterval = 10 * time.Second

func (l *cappedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= l.limit {
			return &cappedConn{Conn: conn, listener: l}, nil
		}
		l.open.Add(-1)
		l.refuse(conn)
	}
}

func (l *cappedListener) refuse(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		// A reset leaves no TIME_WAIT entry behind, of which a flood would make thousands.
		_ = tcp.SetLinger(0)
	}
	total := l.refused.Add(1)
	_ = conn.Close()
	if now := l.now(); now.Sub(l.warned) >= refusalWarningInterval {
		l.warned = now
		l.log.LogAttrs(context.Background(), slog.LevelWarn, "connections refused at the cap",
			slog.Int64("max_conns", l.limit), slog.Int64("refused", total))
	}
}

// cappedConn gives its place back when it is closed for the first time.
type cappedConn struct {
	net.Conn
	listener *cappedListener
	once     sync.Once
}

func (c *cappedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { c.listener.open.Add(-1) })
	return err
}

package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// httpConn is a keep-alive connection that sends prepared HTTP/1.1 requests and reads the answers
// to their end. It does the least that still notices a bad one, because it shares the processors
// with the server it measures.
type httpConn struct {
	addr    string
	timeout time.Duration
	// keep, when set, collects the body of the last answer.
	keep bool
	body []byte

	conn net.Conn
	in   *bufio.Reader
}

const connBuffer = 32 << 10

// errStatus says that the answer was complete but not a success.
var errStatus = errors.New("the status is not 200")

// do sends a request and reads the whole answer. After an error the next call begins with a new
// connection.
func (c *httpConn) do(ctx context.Context, request []byte) (err error) {
	if c.conn == nil {
		if err := c.dial(ctx); err != nil {
			return err
		}
	}
	defer func() {
		if err != nil && !errors.Is(err, errStatus) {
			c.close()
		}
	}()
	if err := c.conn.SetDeadline(time.Now().Add(c.timeout)); err != nil {
		return fmt.Errorf("send a request to %s: %w", c.addr, err)
	}
	if _, err := c.conn.Write(request); err != nil {
		return fmt.Errorf("send a request to %s: %w", c.addr, err)
	}
	if err := c.answer(); err != nil {
		return fmt.Errorf("read an answer of %s: %w", c.addr, err)
	}
	return nil
}

func (c *httpConn) dial(ctx context.Context) error {
	conn, err := (&net.Dialer{Timeout: c.timeout}).DialContext(ctx, "tcp", c.addr)
	if err != nil {
		return err // It names the address.
	}
	c.conn = conn
	if c.in == nil {
		c.in = bufio.NewReaderSize(nil, connBuffer)
	}
	c.in.Reset(conn)
	return nil
}

func (c *httpConn) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// head is what the first lines of an answer say.
type head struct {
	status  int
	length  int64 // -1 when it is not said
	chunked bool
	close   bool
}

func (c *httpConn) answer() error {
	c.body = c.body[:0]
	h, err := c.head()
	if err != nil {
		return err
	}
	switch {
	case h.chunked:
		err = c.chunks()
	case h.length >= 0:
		err = c.take(h.length)
	default:
		err = errors.New("the answer says neither its length nor that it is chunked")
	}
	if err != nil {
		return err
	}
	if h.close {
		c.close()
	}
	if h.status != 200 {
		return fmt.Errorf("%w but %d", errStatus, h.status)
	}
	return nil
}

func (c *httpConn) head() (h head, err error) {
	line, err := c.line()
	if err != nil {
		return h, err
	}
	if len(line) < len("HTTP/1.1 200") || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return h, fmt.Errorf("expected an HTTP/1.1 status line, got %q", line[:min(len(line), 64)])
	}
	if h.status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return h, fmt.Errorf("expected a status of three digits: %w", err)
	}
	h.length = -1
	for {
		line, err := c.line()
		if err != nil {
			return h, err
		}
		if len(line) == 0 {
			return h, nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("content-length")):
			if h.length, err = strconv.ParseInt(string(value), 10, 64); err != nil || h.length < 0 {
				return h, fmt.Errorf("expected a length, got %q", value[:min(len(value), 64)])
			}
		case bytes.EqualFold(name, []byte("transfer-encoding")):
			h.chunked = bytes.EqualFold(value, []byte("chunked"))
		case bytes.EqualFold(name, []byte("connection")):
			h.close = bytes.EqualFold(value, []byte("close"))
		}
	}
}

// line returns the next line without its end; it is valid until the next read.
func (c *httpConn) line() ([]byte, error) {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return nil, whole(err)
	}
	return bytes.TrimRight(line, "\r\n"), nil
}

func (c *httpConn) chunks() error {
	for {
		line, err := c.line()
		if err != nil {
			return err
		}
		text, _, _ := bytes.Cut(line, []byte(";"))
		size, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 16, 63)
		if err != nil {
			return fmt.Errorf("expected the size of a chunk: %w", err)
		}
		if size == 0 {
			return c.trailers()
		}
		if err := c.take(size); err != nil {
			return err
		}
		if line, err = c.line(); err != nil || len(line) > 0 {
			return errors.Join(errors.New("a chunk does not end where it said"), err)
		}
	}
}

func (c *httpConn) trailers() error {
	for {
		if line, err := c.line(); err != nil || len(line) == 0 {
			return err
		}
	}
}

// take reads that many bytes of the body.
func (c *httpConn) take(n int64) error {
	if !c.keep {
		for n > 0 { // Discard takes an int, and no more than it can count.
			skipped, err := c.in.Discard(int(min(n, 1<<20)))
			if n -= int64(skipped); err != nil {
				return whole(err)
			}
		}
		return nil
	}
	start := len(c.body)
	c.body = append(c.body, make([]byte, n)...)
	_, err := io.ReadFull(c.in, c.body[start:])
	return whole(err)
}

// whole makes an end in the middle of an answer the error it is.
func whole(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

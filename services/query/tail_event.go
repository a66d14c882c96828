package query

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// tailPosition is a place in a topic: a publish time, and the message that has it when it is known.
// Whoever goes on from there misses nothing.
type tailPosition struct {
	published time.Time
	messageID string
}

// before orders messages as they were published; ids are numbers that grow.
func (p tailPosition) before(o tailPosition) bool {
	if !p.published.Equal(o.published) {
		return p.published.Before(o.published)
	}
	if len(p.messageID) != len(o.messageID) {
		return len(p.messageID) < len(o.messageID)
	}
	return p.messageID < o.messageID
}

const (
	// maxWriteTimeout is more than any timeout of a write.
	maxWriteTimeout = time.Hour

	eventVersion      = "t1."
	publishTimeBytes  = 8
	maxEventIDBytes   = 512
	maxMessageIDBytes = 128
)

// eventScope tells event ids from cursors: neither opens as the other.
func eventScope(scope []byte) []byte { return append([]byte("tail\n"), scope...) }

// sealEvent makes the id of an event.
func (s *sealer) sealEvent(scope []byte, p tailPosition) string {
	plain := binary.BigEndian.AppendUint64(make([]byte, 0, publishTimeBytes+len(p.messageID)), uint64(p.published.UnixNano()))
	plain = append(plain, p.messageID...)
	return eventVersion + base64.RawURLEncoding.EncodeToString(s.aead.Seal(nil, nil, plain, eventScope(scope))) //nolint:gosec // The AEAD makes a random nonce itself and takes none.
}

// openEvent reads the id of an event that this service made for the same dataset.
func (s *sealer) openEvent(scope []byte, id string) (p tailPosition, ok bool) {
	text, ok := strings.CutPrefix(id, eventVersion)
	if !ok || len(id) > maxEventIDBytes {
		return p, false
	}
	box, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return p, false
	}
	plain, err := s.aead.Open(nil, nil, box, eventScope(scope))
	if err != nil || len(plain) < publishTimeBytes || len(plain) > publishTimeBytes+maxMessageIDBytes {
		return p, false
	}
	p.published = time.Unix(0, int64(binary.BigEndian.Uint64(plain))).UTC()
	p.messageID = string(plain[publishTimeBytes:])
	return p, true
}

// eventWriter collects events and sends them, each time with a new deadline: the server's own is
// for answers that end.
type eventWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	buf     []byte

	mu      sync.Mutex // held while the deadline changes
	timeout time.Duration
}

func newEventWriter(w http.ResponseWriter, timeout time.Duration) *eventWriter {
	return &eventWriter{w: w, control: http.NewResponseController(w), timeout: timeout}
}

// open sends the headers. The client may take as long as the stream lasts without sending anything.
func (e *eventWriter) open() error {
	if err := e.control.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("lift the read deadline: %w", err)
	}
	tailHeaders(e.w.Header())
	e.w.WriteHeader(http.StatusOK)
	return nil
}

// comment adds a line that only people see.
func (e *eventWriter) comment(text string) {
	e.buf = append(append(append(e.buf, ": "...), text...), '\n')
}

// id adds the place to go on from.
func (e *eventWriter) id(id string) { e.buf = append(append(append(e.buf, "id: "...), id...), '\n') }

// event adds the type of an event and its data, one line of JSON.
func (e *eventWriter) event(kind string, data func([]byte) ([]byte, error)) error {
	mark := len(e.buf)
	e.buf = append(append(append(e.buf, "event: "...), kind...), "\ndata: "...)
	buf, err := data(e.buf)
	if err != nil {
		e.buf = e.buf[:mark]
		return err
	}
	e.buf = append(buf, '\n')
	return nil
}

// end ends an event, or a group of comments.
func (e *eventWriter) end() { e.buf = append(e.buf, '\n') }

// setDeadline bounds this write and later ones; a shorter timeout also the one under way.
func (e *eventWriter) setDeadline(timeout time.Duration) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.timeout = min(e.timeout, timeout)
	err := e.control.SetWriteDeadline(time.Now().Add(e.timeout))
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("set the write deadline: %w", err)
	}
	return nil
}

// flush sends what was added. After an error the client is gone or takes nothing.
func (e *eventWriter) flush() error {
	if len(e.buf) == 0 {
		return nil
	}
	if err := e.setDeadline(maxWriteTimeout); err != nil {
		return err
	}
	_, err := e.w.Write(e.buf) //nolint:gosec // Rows are JSON in an event stream, which no browser shows as a page.
	e.buf = e.buf[:0]
	if cap(e.buf) > maxPooledBytes {
		e.buf = nil
	}
	if err == nil {
		err = e.control.Flush()
	}
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("send events: %w", err)
	}
	return nil
}

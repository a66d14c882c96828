package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// streamEvent is one block of an event stream. Kind is "message" when the stream does not say, and
// "" when the block has no data, which may still carry an id.
type streamEvent struct {
	ID, Kind string
	Data     []byte
}

// eventReader reads an event stream as the HTML standard describes it: lines end in LF, CR or CRLF,
// an empty one ends a block, unknown fields are ignored.
type eventReader struct {
	lines *bufio.Reader
	max   int
	begun bool
	cr    bool // the last line ended in CR, so that an LF right behind it is part of its end
	// lastID is the id to go on from: that of the last complete block that had one.
	lastID string
	// retry is what the stream asks to wait before connecting again; 0 when it does not say.
	retry time.Duration
}

// errEventTooLarge says that a block does not fit in memory that is set aside for it.
var errEventTooLarge = errors.New("an event is too large")

func newEventReader(r io.Reader, maxBytes int) *eventReader {
	return &eventReader{lines: bufio.NewReader(r), max: maxBytes}
}

// next returns the next block that has data or a new id. It returns io.EOF at the end of the stream,
// also in the middle of a block, which is then not whole and so dropped.
func (e *eventReader) next() (streamEvent, error) {
	ev := streamEvent{ID: e.lastID}
	var data []byte
	size, hasData := 0, false
	for {
		line, err := e.line(e.max - size)
		if err != nil {
			return ev, err
		}
		size += len(line) + 1
		if len(line) == 0 {
			news := ev.ID != e.lastID
			e.lastID = ev.ID
			if !hasData {
				ev.Kind = ""
				if news {
					return ev, nil
				}
				size = 0
				continue
			}
			if ev.Kind == "" {
				ev.Kind = "message"
			}
			ev.Data = data[:len(data)-1]
			return ev, nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(name) {
		case "data":
			hasData = true
			data = append(append(data, value...), '\n')
		case "event":
			ev.Kind = string(value)
		case "id":
			if bytes.IndexByte(value, 0) < 0 {
				ev.ID = string(value)
			}
		case "retry":
			e.setRetry(value)
		}
	}
}

// maxRetry bounds what a stream may ask for.
const maxRetry = time.Minute

func (e *eventReader) setRetry(value []byte) {
	ms, err := strconv.ParseUint(string(value), 10, 31)
	if err == nil && value[0] != '+' {
		e.retry = min(time.Duration(ms)*time.Millisecond, maxRetry)
	}
}

// line reads one line of at most limit bytes, without its end.
func (e *eventReader) line(limit int) ([]byte, error) {
	var line []byte
	for {
		c, err := e.lines.ReadByte()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil, io.EOF
			}
			return nil, fmt.Errorf("read events: %w", err)
		}
		if e.cr && c == '\n' {
			e.cr = false
			continue
		}
		e.cr = c == '\r'
		if c == '\n' || c == '\r' {
			break
		}
		if line = append(line, c); len(line) > limit {
			return nil, fmt.Errorf("read events: %w: more than %d bytes", errEventTooLarge, e.max)
		}
	}
	if !e.begun {
		e.begun = true
		line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
	}
	return line, nil
}

package cli

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func readEvents(r *eventReader) (events []streamEvent, err error) {
	for {
		ev, err := r.next()
		if err != nil {
			return events, err
		}
		events = append(events, ev)
	}
}

func TestEventReader(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		stream string
		want   []streamEvent
		lastID string
		retry  time.Duration
	}{
		"one":              {"id: 1\nevent: row\ndata: {}\n\n", []streamEvent{{"1", "row", []byte("{}")}}, "1", 0},
		"defaults":         {"data: x\n\n", []streamEvent{{"", "message", []byte("x")}}, "", 0},
		"comments":         {": hello\n\n: again\n\ndata: x\n\n", []streamEvent{{"", "message", []byte("x")}}, "", 0},
		"id alone":         {": keep-alive\nid: 7\n\n: keep-alive\n\ndata: x\n\n", []streamEvent{{"7", "", nil}, {"7", "message", []byte("x")}}, "7", 0},
		"id stays":         {"id: 1\ndata: a\n\ndata: b\n\n", []streamEvent{{"1", "message", []byte("a")}, {"1", "message", []byte("b")}}, "1", 0},
		"id is reset":      {"id: 1\ndata: a\n\nid\ndata: b\n\n", []streamEvent{{"1", "message", []byte("a")}, {"", "message", []byte("b")}}, "", 0},
		"id with NUL":      {"id: a\x00b\ndata: a\n\n", []streamEvent{{"", "message", []byte("a")}}, "", 0},
		"lines of data":    {"data: a\ndata:\ndata:  b\n\n", []streamEvent{{"", "message", []byte("a\n\n b")}}, "", 0},
		"no data":          {"event: row\n\n", nil, "", 0},
		"empty data":       {"data\n\n", []streamEvent{{"", "message", []byte{}}}, "", 0},
		"CR and CRLF":      {"data: a\r\rdata: b\r\n\r\ndata: c\n\r\n", []streamEvent{{"", "message", []byte("a")}, {"", "message", []byte("b")}, {"", "message", []byte("c")}}, "", 0},
		"byte order mark":  {"\xef\xbb\xbfdata: a\n\n", []streamEvent{{"", "message", []byte("a")}}, "", 0},
		"cut in the block": {"data: a\n\nid: 9\ndata: b\n", []streamEvent{{"", "message", []byte("a")}}, "", 0},
		"unknown field":    {"foo: bar\n:\nData: x\ndata: a\n\n", []streamEvent{{"", "message", []byte("a")}}, "", 0},
		"retry":            {"retry: 1500\n\n", nil, "", 1500 * time.Millisecond},
		"retry too long":   {"retry: 99999999\n\n", nil, "", time.Minute},
		"bad retry":        {"retry: +5\nretry: 1s\nretry\nretry: -1\nretry: 99999999999999999999\n\n", nil, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, r := range []io.Reader{strings.NewReader(tt.stream), iotest.OneByteReader(strings.NewReader(tt.stream))} {
				er := newEventReader(r, 1000)
				got, err := readEvents(er)
				if !errors.Is(err, io.EOF) {
					t.Errorf("ends with %v", err)
				}
				if d := cmp.Diff(tt.want, got); d != "" {
					t.Error(d)
				}
				if er.lastID != tt.lastID || er.retry != tt.retry {
					t.Errorf("last id %q, retry %v; want %q, %v", er.lastID, er.retry, tt.lastID, tt.retry)
				}
			}
		})
	}
}

func TestEventReaderBoundsItsMemory(t *testing.T) {
	t.Parallel()
	for _, stream := range []string{strings.Repeat("x", 2000), strings.Repeat("data: x\n", 500), "id: " + strings.Repeat("x", 2000) + "\n\n"} {
		if _, err := newEventReader(strings.NewReader(stream), 1000).next(); !errors.Is(err, errEventTooLarge) {
			t.Errorf("%.20q: %v", stream, err)
		}
	}
	many := strings.Repeat(": keep-alive\n\n", 1000) + "data: x\n\n"
	if ev, err := newEventReader(strings.NewReader(many), 1000).next(); err != nil || string(ev.Data) != "x" {
		t.Errorf("after many comments: %v, %v", ev, err)
	}
}

// FuzzEventReader: however a stream is cut into reads, the same comes out; and what was written as an
// event is read as it was.
func FuzzEventReader(f *testing.F) {
	f.Add("id: 1\nevent: row\ndata: {}\n\n: c\r\rdata\r\n\r\n", "x")
	f.Add("\xef\xbb\xbfid\x00\n\n", "\n")
	f.Fuzz(func(t *testing.T, stream, data string) {
		whole, err := readEvents(newEventReader(strings.NewReader(stream), 1<<16))
		single, err2 := readEvents(newEventReader(iotest.OneByteReader(strings.NewReader(stream)), 1<<16))
		if d := cmp.Diff(whole, single); d != "" || (err == nil) != (err2 == nil) {
			t.Fatalf("%s %v %v", d, err, err2)
		}
		if strings.ContainsAny(data, "\r\n") {
			return
		}
		ev, err := newEventReader(strings.NewReader("data: "+data+"\n\n"), 1<<16).next()
		if len(data) < 1<<15 && (err != nil || string(ev.Data) != data) {
			t.Fatalf("wrote %q, read %q, %v", data, ev.Data, err)
		}
	})
}

package web

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestSmuggling sends requests that servers disagree about, each with a second request hidden behind
// it. The hidden one must never be answered.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	s, _ := start(t, Options{ReadTimeout: time.Second}, Deps{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, p := ReadBody(w, r, 1<<20)
		if p != nil {
			WriteProblem(w, r, p)
			return
		}
		w.Header().Set("X-Path", r.URL.Path)
		_, _ = w.Write(body)
	})})
	const hidden = "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
	for _, tt := range []struct {
		name, head string
		status     int // 0 = closed without an answer
	}{
		{"length and chunks", "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200},
		{"chunks and length", "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n", 200},
		{"two codings", "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", 501},
		{"coding with a tab", "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \tchunked,x\r\n\r\n0\r\n\r\n", 501},
		{"space before the colon", "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length : 5\r\n\r\n", 400},
		{"length with a sign", "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n", 400},
		{"length as a list", "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\n", 400},
		{"two lengths", "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 33\r\n\r\n", 400},
		{"chunk size with a bare line feed", "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\n\n", 400},
		{"chunk size beyond 64 bits", "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", 400},
		{"two hosts", "GET /a HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400},
		{"space in the host", "GET /a HTTP/1.1\r\nHost: x y\r\n\r\n", 400},
		{"length of a GET", "GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 33\r\n\r\n", 400},
		{"chunks of a GET", "GET /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		{"control character in a header", "GET /a HTTP/1.1\r\nHost: x\r\nX-A: b\x00c\r\n\r\n", 400},
		{"upgrade", "GET /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: 1\r\n\r\n", 400},
		{"length in a folded line", "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n 3\r\n\r\n", 400},
		{"coding behind a folded line", "POST /a HTTP/1.1\r\nHost: x\r\nX-A: b\r\n Transfer-Encoding: chunked\r\nContent-Length: +0\r\n\r\n", 400},
		{"header without a colon", "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length\r\n\r\n", 400},
		{"header before the first", "POST /a HTTP/1.1\r\n Content-Length: 33\r\nHost: x\r\n\r\n", 400},
		{"carriage return in a header", "GET /a HTTP/1.1\r\nHost: x\r\nX-A: b\rContent-Length: 33\r\n\r\n", 400},
		{"absolute target of another kind", "GET gopher:x HTTP/1.1\r\nHost: x y\r\n\r\n", 400},
		{"length that is negative", "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400},
		{"chunk size in another base", "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", 400},
		{"chunk size with a sign", "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n", 400},
		{"version", "GET /a HTTP/3.0\r\nHost: x\r\n\r\n", 505},
	} {
		c := dial(t, s.Addr())
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.WriteString(c, tt.head+hidden); err != nil {
			t.Fatal(err)
		}
		all, err := io.ReadAll(c)
		if err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%s: the connection stays open: %v", tt.name, err)
			continue
		}
		res, err := http.ReadResponse(bufio.NewReader(strings.NewReader(string(all))), nil)
		if err != nil {
			t.Errorf("%s: %v in %q", tt.name, err, all)
			continue
		}
		_ = res.Body.Close()
		if res.StatusCode != tt.status || strings.Contains(string(all), "X-Path: /hidden") || strings.Count(string(all), "HTTP/1.1 ") != 1 {
			t.Errorf("%s: %q", tt.name, all)
		}
	}
}

// TestHTTP2WithoutTLS: an upgrade is not taken, and the frames of HTTP/2 are never read as such, so
// that a reset of many streams costs nothing.
func TestHTTP2WithoutTLS(t *testing.T) {
	t.Parallel()
	asked := 0
	s, stop := start(t, Options{ReadTimeout: time.Second}, Deps{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		_, _ = io.WriteString(w, "plain")
	})})
	var frames strings.Builder
	frames.WriteString("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	for id := 1; id < 4000; id += 2 {
		stream := string([]byte{0, 0, byte(id >> 8), byte(id)})
		// A request for / and its reset at once.
		frames.WriteString("\x00\x00\x03\x01\x05" + stream + "\x82\x84\x86" + "\x00\x00\x04\x03\x00" + stream + "\x00\x00\x00\x08")
	}
	for name, tt := range map[string]struct{ request, status, not string }{
		"upgrade":     {"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", "HTTP/1.1 200", "101 "},
		"rapid reset": {frames.String(), "HTTP/1.1 400", "\x00\x00\x00\x04"},
	} {
		c := dial(t, s.Addr())
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		go func() { _, _ = io.WriteString(c, tt.request) }()
		all, _ := io.ReadAll(c) // It may end with a reset, as not all was read.
		if text := string(all); !strings.HasPrefix(text, tt.status) || strings.Count(text, "HTTP/1.1 ") != 1 || strings.Contains(text, tt.not) {
			t.Errorf("%s: %.300q", name, text)
		}
	}
	if err := stop(); err != nil || asked != 1 {
		t.Errorf("the handler was asked %d times, %v", asked, err)
	}
}

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

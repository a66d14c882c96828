package web

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestOnlyLocalHosts: whatever name a page gave the address of this machine, the Host tells it.
func TestOnlyLocalHosts(t *testing.T) {
	t.Parallel()
	h := harden(t, Options{LocalHostsOnly: true, AllowedHosts: []string{"Api.Example.com", "10.1.2.3"}}, Deps{Handler: okHandler()})
	open := harden(t, Options{}, Deps{Handler: okHandler()})
	for host, good := range map[string]bool{
		"localhost": true, "localhost:8080": true, "LOCALHOST:1": true, "localhost.:8080": true, "127.0.0.1": true, "127.0.0.1:8080": true,
		"127.9.9.9:80": true, "[::1]": true, "[::1]:8080": true, "api.example.com": true, "API.example.COM:443": true, "10.1.2.3:8080": true,
		"": false, "evil.example": false, "evil.example:8080": false, "localhost.evil.example": false, "127.0.0.1.evil.example": false, "127.0.0.1.nip.io:8080": false,
		"0.0.0.0:8080": false, "10.0.0.1": false, "[::]:8080": false, "[fe80::1]:8080": false, "127.1": false, "2130706433": false, "0x7f.1": false,
		"xapi.example.com": false, "api.example.com.evil.example": false, "localhost:8080:80": false, "evil@localhost": false, "[localhost]": true, ":8080": false,
		"\xff\n\x1b": false, strings.Repeat("a", 5000): false,
	} {
		for _, method := range []string{"GET", "POST", "HEAD", "OPTIONS"} {
			r := httptest.NewRequest(method, "/", nil)
			r.Host = host
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if got := w.Code == http.StatusOK; got != good {
				t.Errorf("%s with host %.60q: %d", method, host, w.Code)
			}
			if !good {
				body := w.Body.String()
				if p := problemOf(t, w); p.Code != Forbidden || !strings.Contains(p.Hint, "--allow-host") || strings.Contains(body, strings.Repeat("a", 65)) {
					t.Errorf("host %.60q: %s", host, body)
				}
			}
			w = httptest.NewRecorder()
			if open.ServeHTTP(w, r); w.Code != http.StatusOK {
				t.Errorf("a listener that serves every host answers %d for %.60q", w.Code, host)
			}
		}
	}
}

// TestHostsOverTheWire asks as a browser would after its name was bound to another address.
func TestHostsOverTheWire(t *testing.T) {
	t.Parallel()
	s, _ := start(t, Options{LocalHostsOnly: true}, Deps{Handler: okHandler()})
	for head, status := range map[string]int{
		"GET / HTTP/1.1\r\nHost: " + s.Addr() + "\r\n\r\n":                                                         200,
		"GET / HTTP/1.1\r\nHost: rebound.example:8080\r\n\r\n":                                                     403,
		"GET http://rebound.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n":                                          403, // The target wins over the header.
		"GET / HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: localhost\r\nForwarded: host=localhost\r\n\r\n": 403,
		"GET / HTTP/1.0\r\n\r\n": 403,
	} {
		c := dial(t, s.Addr())
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.WriteString(c, head); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%q: %v", head, err)
		}
		_ = res.Body.Close()
		if res.StatusCode != status {
			t.Errorf("%q: %d, want %d", head, res.StatusCode, status)
		}
	}
}

// TestPagesOfOtherSitesCannotWrite: what a browser sends for another origin, and says so, is refused.
func TestPagesOfOtherSitesCannotWrite(t *testing.T) {
	t.Parallel()
	h := harden(t, Options{}, Deps{Handler: okHandler()})
	for _, tt := range []struct {
		method  string
		headers []string
		good    bool
	}{
		{"POST", nil, true},
		{"POST", []string{"Origin", "http://example.com"}, true}, // the host of the request
		{"POST", []string{"Origin", "https://example.com", "Sec-Fetch-Site", "same-origin"}, true},
		{"POST", []string{"Sec-Fetch-Site", "none"}, true},
		{"POST", []string{"Origin", "http://evil.example"}, false},
		{"POST", []string{"Origin", "http://example.com:81"}, false},
		{"POST", []string{"Origin", "null"}, false},
		{"POST", []string{"Origin", "http://example.com.evil.example"}, false},
		{"POST", []string{"Origin", "http://example.com", "Sec-Fetch-Site", "cross-site"}, false},
		{"POST", []string{"Origin", "http://example.com", "Sec-Fetch-Site", "same-site"}, false},
		{"DELETE", []string{"Origin", "http://evil.example"}, false},
		{"BREW", []string{"Origin", "http://evil.example"}, false},
		{"GET", []string{"Origin", "http://evil.example", "Sec-Fetch-Site", "cross-site"}, true}, // shows the page nothing
	} {
		w := do(h, tt.method, "/", nil, tt.headers...)
		if got := w.Code == http.StatusOK; got != tt.good {
			t.Errorf("%s %v: %d", tt.method, tt.headers, w.Code)
		}
		for name := range w.Header() {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s %v: the answer has %s", tt.method, tt.headers, name)
			}
		}
		if !tt.good {
			if p := problemOf(t, w); p.Code != Forbidden {
				t.Errorf("%s %v: %+v", tt.method, tt.headers, p)
			}
		}
	}
}

func TestAllowedHostsAreNames(t *testing.T) {
	t.Parallel()
	for host, good := range map[string]bool{
		"api.example.com": true, "10.1.2.3": true, "fe80::1": true, "laptop": true,
		"": false, "http://api.example.com": false, "api.example.com:8080": false, "*": false, "*.example.com": false, "a b": false,
	} {
		o := Options{Addr: ":0", AllowedHosts: []string{host}}.Defaults()
		if err := o.Validate(); (err == nil) != good {
			t.Errorf("%q: %v", host, err)
		}
	}
}

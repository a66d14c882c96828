package datadog_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latamctl/latamctl/pkg/monitor/datadog"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/telemetry"
)

// answer is what a server says to one attempt.
type answer func(http.ResponseWriter, *http.Request)

func status(code int, body any) answer {
	return func(w http.ResponseWriter, _ *http.Request) { reply(w, code, body) }
}

func text(code int, kind, body string) answer {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

func dropped(http.ResponseWriter, *http.Request) { panic(io.ErrUnexpectedEOF) }
func undialled(http.ResponseWriter, *http.Request) {
	panic(error(&net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}))
}

func halved(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("X-Cut", "1")
	reply(w, 200, object{"id": 1, "name": "Ingest errors"})
}

// script answers with one after the other, and stays with the last.
func script(answers ...answer) http.HandlerFunc {
	n := 0
	return func(w http.ResponseWriter, r *http.Request) {
		a := answers[min(n, len(answers)-1)]
		n++
		a(w, r)
	}
}

// operations are one call of each kind of request.
func operations() map[string]func(context.Context, *datadog.Client) error {
	return map[string]func(context.Context, *datadog.Client) error{
		"get": func(ctx context.Context, c *datadog.Client) error {
			_, err := c.Get(ctx, declare.Monitor, "1")
			return err
		},
		"update": func(ctx context.Context, c *datadog.Client) error {
			_, err := c.Update(ctx, declare.Monitor, "1", aMonitor())
			return err
		},
		"delete": func(ctx context.Context, c *datadog.Client) error { return c.Delete(ctx, declare.Monitor, "1", false) },
		"validate": func(ctx context.Context, c *datadog.Client) error {
			return c.Validate(ctx, "", aMonitor())
		},
		"create": func(ctx context.Context, c *datadog.Client) error {
			_, err := c.Create(ctx, declare.Monitor, aMonitor())
			return err
		},
		"create metric": func(ctx context.Context, c *datadog.Client) error {
			_, err := c.Create(ctx, declare.Metric, object{"metric": "latam.batch.duration", "include_percentiles": true, "tags": []any{"env"}})
			return err
		},
	}
}

// TestRepeats: what may be repeated is, until it works; a create is repeated only when it certainly did not happen.
func TestRepeats(t *testing.T) {
	t.Parallel()
	failures := map[string]struct {
		answer    answer
		ambiguous bool
	}{
		"429": {status(429, object{"errors": []string{"Rate limit"}}), false}, "not dialled": {undialled, false},
		"500": {status(500, object{}), true}, "502": {text(502, "text/html", "<html>Bad gateway"), true}, "503": {status(503, nil), true},
		"504": {status(504, nil), true}, "512": {status(512, nil), true}, "408": {status(408, nil), true},
		"dropped": {dropped, true}, "cut": {halved, true}, "half a value": {text(200, "application/json", `{"id": 1, "na`), true},
	}
	for op, call := range operations() {
		for name, failure := range failures {
			t.Run(op+" "+name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					good := status(200, object{"id": 1, "data": object{"attributes": object{}}})
					c, w := connect(t, script(failure.answer, failure.answer, good))
					err := call(t.Context(), c)
					if failure.ambiguous && strings.HasPrefix(op, "create") {
						e := wantKind(t, err, datadog.ErrAmbiguous)
						if w.count() != 1 || !strings.Contains(e.Error(), "not known whether") || errors.Is(err, datadog.ErrUnavailable) {
							t.Errorf("%d calls, %v", w.count(), err)
						}
						return
					}
					if err != nil || w.count() != 3 {
						t.Errorf("%d calls, %v", w.count(), err)
					}
				})
			})
		}
	}
}

// TestNotRepeated are answers that another try would not better.
func TestNotRepeated(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer answer
		kind   error
		says   string
	}{
		"invalid":      {status(400, object{"errors": []string{"The value provided for parameter 'query' is invalid: invalid operator specified: "}}), datadog.ErrInvalid, "invalid operator"},
		"missing":      {status(404, object{"errors": []string{"Monitor not found"}}), datadog.ErrNotFound, "Monitor not found"},
		"edge":         {status(403, object{"status": "error", "code": 403, "errors": []string{"Forbidden"}, "statuspage": "http://status.datadoghq.com"}), datadog.ErrDenied, "Forbidden; check that DD_API_KEY and DD_APP_KEY are of us5.datadoghq.com (DD_SITE)"},
		"unauthorized": {status(401, object{"errors": []string{"Unauthorized"}}), datadog.ErrDenied, "the right monitors_"},
		"in use, 401":  {status(401, object{"errors": []string{"monitor [1,x] is referenced in slos: [2]"}}), datadog.ErrReferenced, "slos: [2]"},
		"in use, 400":  {status(400, object{"errors": []string{"monitor [1,x] is referenced in composite monitors: [2]"}}), datadog.ErrReferenced, "composite"},
		"map":          {status(409, object{"errors": object{"abc": "slo 'abc' is referenced in a dashboard"}}), datadog.ErrReferenced, "abc: slo 'abc'"},
		"objects":      {status(400, object{"errors": []any{object{"title": "Generic Error", "detail": "bad tag"}}}), datadog.ErrInvalid, "detail: bad tag"},
		"page":         {text(403, "text/html", "<html><head><title>Blocked by\nExample</title></head>"), datadog.ErrDenied, "a page for people, not an answer of Datadog's API: Blocked by Example"},
		"plain":        {text(400, "text/plain", "no \x1b[31mway"), datadog.ErrInvalid, "no [31mway"},
		"nothing":      {text(400, "", ""), datadog.ErrInvalid, "HTTP 400"},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://evil.example.com/x", http.StatusTemporaryRedirect)
		}, datadog.ErrUnavailable, "it sends elsewhere: https://evil.example.com/x"},
		"proxy login":   {text(407, "text/plain", "login"), datadog.ErrUnavailable, "login"},
		"not supported": {status(501, object{"errors": []string{"no"}}), datadog.ErrInvalid, "no"},
	} {
		for op, call := range operations() {
			if op == "create metric" { // It looks at 409 itself.
				continue
			}
			t.Run(name+" "+op, func(t *testing.T) {
				t.Parallel()
				c, w := connect(t, script(test.answer), func(o *datadog.Options) { o.Site = "us5.datadoghq.com" })
				err := call(t.Context(), c)
				kind := test.kind
				if name == "map" && op != "delete" {
					kind = nil // Both are fine: Datadog gives it for deletes only.
				}
				e := wantKind(t, err, kind)
				if !strings.Contains(e.Error(), test.says) || w.count() != 1 || strings.ContainsAny(e.Error(), "\x1b\n") {
					t.Errorf("%d calls, %q", w.count(), e)
				}
			})
		}
	}
}

func TestDuplicate(t *testing.T) {
	t.Parallel()
	c, _ := connect(t, script(status(400, object{"errors": []string{"Duplicate of an existing monitor_id:21053443 org_id:1300336245"}})))
	_, err := c.Create(t.Context(), declare.Monitor, aMonitor())
	if e := wantKind(t, err, datadog.ErrInvalid); e.Duplicate != "21053443" || e.Status != 400 || e.Method != "POST" || e.Path != "/api/v1/monitor" {
		t.Errorf("%+v", e)
	}
}

// TestUnreadableSuccess: of a create whose answer cannot be read it is not known what it made.
func TestUnreadableSuccess(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{"page": "<!DOCTYPE html><p>hello", "list": "[1]", "no id": "{}", "inexact": `{"id": 1.5}`, "huge": `{"id": 1e300}`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, w := connect(t, script(text(200, "text/plain", body)))
			_, err := c.Create(t.Context(), declare.Monitor, aMonitor())
			wantKind(t, err, datadog.ErrAmbiguous)
			_, err = c.Get(t.Context(), declare.Monitor, "1")
			wantKind(t, err, datadog.ErrUnavailable)
			if w.count() != 2 {
				t.Errorf("%d calls", w.count())
			}
		})
	}
}

// TestTooLarge does not read an answer without an end.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	c, w := connect(t, script(text(200, "text/plain", strings.Repeat(" ", 1001))), func(o *datadog.Options) { o.MaxBodyBytes = 1000 })
	_, err := c.Get(t.Context(), declare.Monitor, "1")
	if wantKind(t, err, datadog.ErrUnavailable); w.count() != 1 || !strings.Contains(err.Error(), "more than 1000 bytes") {
		t.Error(err)
	}
}

// TestDeletedByTheFirstAttempt: when the second one finds nothing, the first one did it.
func TestDeletedByTheFirstAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gone := status(404, object{"errors": []string{"Monitor not found"}})
		for name, first := range map[string]answer{"500": status(500, nil), "dropped": dropped} {
			c, _ := connect(t, script(first, gone))
			if err := c.Delete(t.Context(), declare.Monitor, "1", false); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		c, _ := connect(t, script(status(429, nil), gone))
		wantKind(t, c.Delete(t.Context(), declare.Monitor, "1", false), datadog.ErrNotFound)
	})
}

// TestCreateInterrupted: who stops a create while it is under way does not know what it did.
func TestCreateInterrupted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, _ := connect(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		_, err := c.Create(short(t, time.Second), declare.Monitor, aMonitor())
		wantKind(t, err, datadog.ErrAmbiguous)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = c.Create(ctx, declare.Monitor, aMonitor())
		if errors.Is(err, datadog.ErrAmbiguous) || !errors.Is(err, context.Canceled) {
			t.Errorf("nothing was sent: %v", err)
		}
	})
}

// TestNoKeyIsShown scans all errors and all logs, of all failures, for keys that the answers repeat.
func TestNoKeyIsShown(t *testing.T) {
	t.Parallel()
	secrets := []string{apiKey, appKey, token}
	echo := func(code int, kind string) answer {
		return func(w http.ResponseWriter, r *http.Request) {
			var all []string
			for name, values := range r.Header {
				all = append(all, name+"="+strings.Join(values, ","))
			}
			w.Header().Set("Retry-After", "1")
			w.Header().Set("Location", "https://evil.example.com/?"+strings.Join(all, "&"))
			if kind == "json" {
				reply(w, code, object{"errors": all})
				return
			}
			text(code, kind, "<html><title>"+strings.Join(all, " ")+"</title>")(w, r)
		}
	}
	failures := map[string]answer{
		"dropped": func(_ http.ResponseWriter, r *http.Request) { panic(fmt.Errorf("sent %v", r.Header)) },
		"dial": func(_ http.ResponseWriter, r *http.Request) {
			panic(error(&net.OpError{Op: "dial", Err: fmt.Errorf("%v", r.Header)}))
		},
	}
	for _, code := range []int{200, 307, 400, 401, 403, 404, 409, 429, 500, 502, 512} {
		failures[fmt.Sprint(code, " json")], failures[fmt.Sprint(code, " html")] = echo(code, "json"), echo(code, "text/html")
	}
	for name, failure := range failures {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				for _, bearer := range []bool{false, true} {
					var logged bytes.Buffer
					c, w := connect(t, script(failure), logTo(&logged), func(o *datadog.Options) {
						o.CallBudget = 5 * time.Second
						if bearer {
							o.APIKey, o.AppKey, o.BearerToken = telemetry.Secret{}, telemetry.Secret{}, telemetry.NewSecret(token)
						}
					})
					for op, call := range operations() {
						err := call(t.Context(), c)
						out := fmt.Sprintf("%v %+v %#v %s", err, err, err, logged.String())
						for _, key := range secrets {
							if strings.Contains(out, key) {
								i := strings.Index(out, key)
								t.Errorf("%s shows %s: …%s", op, key, out[max(0, i-200):i+len(key)])
							}
						}
						for _, cause := range causes(err) {
							if strings.Contains(cause.Error(), apiKey) || strings.Contains(cause.Error(), token) {
								t.Errorf("%s: a cause shows a key", op)
							}
						}
					}
					for _, call := range w.calls {
						if strings.Contains(call, apiKey) || strings.Contains(call, token) {
							t.Errorf("a key is in an address: %s", call)
						}
					}
				}
			})
		})
	}
}

// causes are an error and all that it wraps.
func causes(err error) []error {
	all := []error{err}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		all = append(all, causes(e.Unwrap())...)
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			all = append(all, causes(inner)...)
		}
	}
	return slices.DeleteFunc(all, func(e error) bool { return e == nil })
}

// TestKeysAreSent, both or the token alone, with the name of the program.
func TestKeysAreSent(t *testing.T) {
	t.Parallel()
	for name, bearer := range map[string]bool{"keys": false, "token": true} {
		var got http.Header
		c, _ := connect(t, func(w http.ResponseWriter, r *http.Request) {
			got = r.Header.Clone()
			reply(w, 200, object{"valid": true})
		},
			func(o *datadog.Options) {
				o.UserAgent = "latamctl/1.2"
				if bearer {
					o.APIKey, o.AppKey, o.BearerToken = telemetry.Secret{}, telemetry.Secret{}, telemetry.NewSecret(token)
				}
			})
		if err := c.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := []string{apiKey, appKey, ""}
		if bearer {
			want = []string{"", "", "Bearer " + token}
		}
		if have := []string{got.Get("DD-API-KEY"), got.Get("DD-APPLICATION-KEY"), got.Get("Authorization")}; fmt.Sprint(have) != fmt.Sprint(want) || got.Get("User-Agent") != "latamctl/1.2" {
			t.Errorf("%s: %q, %s", name, have, got.Get("User-Agent"))
		}
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	key := telemetry.NewSecret
	for name, test := range map[string]struct {
		o    datadog.Options
		says string // "" for none
	}{
		"keys":           {datadog.Options{APIKey: key(apiKey), AppKey: key(appKey)}, ""},
		"token":          {datadog.Options{BearerToken: key(token), Site: "ap2.datadoghq.com"}, ""},
		"proxy":          {datadog.Options{BearerToken: key(token), URL: "https://dd.example.com/api-proxy/"}, ""},
		"loopback":       {datadog.Options{BearerToken: key(token), URL: "http://127.0.0.1:8080"}, ""},
		"loopback 6":     {datadog.Options{BearerToken: key(token), URL: "http://[::1]:8080"}, ""},
		"localhost":      {datadog.Options{BearerToken: key(token), URL: "http://localhost:8080"}, ""},
		"none":           {datadog.Options{}, "set DD_API_KEY and DD_APP_KEY, or DD_BEARER_TOKEN"},
		"no app key":     {datadog.Options{APIKey: key(apiKey)}, "DD_APP_KEY is not set"},
		"no API key":     {datadog.Options{AppKey: key(appKey)}, "DD_API_KEY is not set"},
		"line break":     {datadog.Options{APIKey: key(apiKey + "\n"), AppKey: key(appKey)}, "DD_API_KEY has a space, a line break"},
		"typing error":   {datadog.Options{BearerToken: key(token), Site: "datadoghq.co"}, `"datadoghq.co" is not one of Datadog's: datadoghq.com, `},
		"plain http":     {datadog.Options{BearerToken: key(token), URL: "http://dd.example.com"}, "without encryption"},
		"looks loopback": {datadog.Options{BearerToken: key(token), URL: "http://127.0.0.1.example.com"}, "without encryption"},
		"password":       {datadog.Options{BearerToken: key(token), URL: "https://me:" + appKey + "@dd.example.com"}, "leave them out"},
		"no scheme":      {datadog.Options{BearerToken: key(token), URL: "dd.example.com"}, "not an address"},
		"file":           {datadog.Options{BearerToken: key(token), URL: "file://host/x"}, "must be https"},
		"query":          {datadog.Options{BearerToken: key(token), URL: "https://dd.example.com?a=" + appKey}, "ends in a query"},
		"no address":     {datadog.Options{BearerToken: key(token), URL: "https://" + appKey + "\x7f"}, "not an address"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := datadog.New(test.o)
			if (test.says == "") != (err == nil) || err != nil && (!strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), appKey)) {
				t.Errorf("%v, want %q", err, test.says)
			}
		})
	}
}

// TestProxyPrefix keeps the path of a proxy before the API's own.
func TestProxyPrefix(t *testing.T) {
	t.Parallel()
	c, w := connect(t, script(status(200, object{"id": 1})), func(o *datadog.Options) { o.URL = "https://dd.example.com/api-proxy/" })
	if _, err := c.Get(t.Context(), declare.Monitor, "1"); err != nil || w.calls[0] != "GET /api-proxy/api/v1/monitor/1" {
		t.Error(w.calls, err)
	}
}

// TestRealNetwork is the client's own transport: unknown certificates and closed ports.
func TestRealNetwork(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the keys were sent") }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	s.StartTLS()
	defer s.Close()
	make := func(url string) *datadog.Client {
		c, err := datadog.New(datadog.Options{BearerToken: telemetry.NewSecret(token), URL: url, CallBudget: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for op, call := range operations() {
		err := call(t.Context(), make(s.URL))
		if e := wantKind(t, err, datadog.ErrUnavailable); !strings.Contains(e.Error(), "certificate") || strings.Contains(e.Error(), "attempts") {
			t.Errorf("%s: %v", op, err)
		}
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := closed.Addr().String()
	_ = closed.Close()
	_, err = make("http://"+address).Create(t.Context(), declare.Monitor, aMonitor())
	wantKind(t, err, datadog.ErrUnavailable) // and not ErrAmbiguous
	if errors.Is(err, datadog.ErrAmbiguous) {
		t.Error(err)
	}
}

// TestRefusedConnection: where nothing listens a call ends soon, with the address and what to check.
func TestRefusedConnection(t *testing.T) {
	t.Parallel()
	proxy := func(o *datadog.Options) { o.URL = "https://dd.example.com:9" }
	atSite := func(*datadog.Options) {}
	refused := func(op string) answer {
		return func(http.ResponseWriter, *http.Request) {
			panic(error(&net.OpError{Op: op, Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}))
		}
	}
	for name, tc := range map[string]struct {
		answers  []answer
		option   func(*datadog.Options)
		min, max time.Duration
		says     string // "" wants it to succeed
		op       string // default create, which happens once
	}{
		"closed":            {[]answer{refused("dial")}, proxy, time.Second, 10 * time.Second, "nothing listens at https://dd.example.com:9: check DD_URL", ""},
		"closed site":       {[]answer{refused("dial")}, atSite, time.Second, 10 * time.Second, "is refused: check DD_SITE, HTTPS_PROXY and the firewall", ""},
		"HTTPS_PROXY":       {[]answer{refused("proxyconnect")}, atSite, time.Second, 10 * time.Second, "check DD_SITE, HTTPS_PROXY and the firewall", ""},
		"starts anew":       {[]answer{refused("dial"), refused("dial"), status(200, object{"id": 1})}, proxy, 0, 10 * time.Second, "", ""},
		"overloaded as yet": {[]answer{status(503, nil)}, proxy, 30 * time.Second, 2 * time.Minute, "gave up after", "get"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, _ := connect(t, script(tc.answers...), tc.option)
				began := time.Now()
				err := operations()[cmp.Or(tc.op, "create")](t.Context(), c)
				if took := time.Since(began); took < tc.min || took > tc.max {
					t.Errorf("it took %v, want %v to %v", took, tc.min, tc.max)
				}
				if tc.says == "" {
					if err != nil {
						t.Error(err)
					}
					return
				}
				e := wantKind(t, err, datadog.ErrUnavailable)
				if !strings.Contains(e.Error(), tc.says) || errors.Is(err, datadog.ErrAmbiguous) {
					t.Errorf("%v, want %q in it", err, tc.says)
				}
			})
		})
	}
}

// TestPatience: who waits for a Datadog that is away is told why, once, and not about a short hiccup.
func TestPatience(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answers []answer
		want    int
	}{
		"hiccup": {[]answer{undialled, status(503, nil), status(200, object{"id": 1})}, 0},
		"away":   {[]answer{undialled}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				client, _ := connect(t, script(c.answers...), logTo(&out))
				for range 2 {
					_, _ = client.Get(t.Context(), declare.Monitor, "1")
				}
				if n := strings.Count(out.String(), "level=WARN"); n != c.want {
					t.Errorf("%d warnings instead of %d: %s", n, c.want, out.String())
				}
			})
		})
	}
}

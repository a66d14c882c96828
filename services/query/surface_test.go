package query

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/pkg/web"
	"github.com/latamctl/latamctl/pkg/web/auth"
)

// TestRoutes is the whole public listener. A new route has to be added here, which is the moment to
// ask whether it may be public.
func TestRoutes(t *testing.T) {
	t.Parallel()
	w := newTenants(t)
	var got []string
	for _, route := range w.routes {
		method, pattern, _ := strings.Cut(route, " ")
		path := strings.NewReplacer("{dataset}", "tenant-a", "{id}", "x").Replace(pattern)
		who := "public"
		if w.ask(method, path, "").Code == http.StatusUnauthorized {
			who = "asks"
		}
		got = append(got, who+" "+route)
	}
	want := []string{
		"public GET /",
		"public GET /healthz",
		"public GET /v1/datasets",
		"public GET /v1/datasets/{dataset}",
		"asks GET /v1/datasets/{dataset}/rows",
		"asks GET /v1/datasets/{dataset}/rows/{id}",
		"asks POST /v1/datasets/{dataset}/rows/batch-get",
		"asks GET /v1/datasets/{dataset}/aggregate",
		"asks GET /v1/datasets/{dataset}/stats",
		"asks GET /v1/datasets/{dataset}/tail",
		"asks POST /v1/datasets/{dataset}/records",
		"public GET /openapi.json",
		"public GET /docs",
		"public GET /v1/datasets/{dataset}/schema",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the routes changed (-want +got):\n%s", d)
	}
	for _, path := range []string{"/metrics", "/debug/pprof", "/debug/pprof/", "/debug/pprof/heap", "/debug/vars", "/readyz", "/livez", "/data", "/config", "/v1", "/v1/", "/v1/datasets/", "/docs/", "/favicon.ico", "/robots.txt", "/.env", "/.git/config"} {
		if rec := w.ask(http.MethodGet, path, "", "Authorization", "Bearer lo_owner"); rec.Code != http.StatusNotFound {
			t.Errorf("%s is served on the public listener: %d", path, rec.Code)
		}
	}
}

const guardedYAML = `version: 1
name: latam
datasets:
  open:
    fields: {name: {type: string, required: true}}
    key: [name]
  guarded:
    fields: {name: {type: string, required: true}}
    key: [name]
    api: {auth: api_key}
`

// TestHeadersOfEveryKindOfAnswer is the golden list of headers: what differs from answer to answer
// is replaced by its name.
func TestHeadersOfEveryKindOfAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, guardedYAML, Options{})
	w.add("open", `{"name":"x"}`)
	var err error
	if w.service.deps.Access, err = auth.New(auth.Options{KeysFile: "k"}, auth.Deps{Files: keyFiles(nil)}, w.decl.Datasets); err != nil {
		t.Fatal(err)
	}
	w.service.deps.Follower = newFakeFollower()
	w.service.opts.Tail.MaxTailTime = 10 * time.Millisecond
	page := w.do("GET", "/v1/datasets/open/rows", "")
	const openPath = "/v1/datasets/open"
	const private, never = "Cache-Control: private, no-cache", "Cache-Control: no-store"
	const vary, length, nosniff = "Vary: Accept, Accept-Encoding", "Content-Length", "X-Content-Type-Options: nosniff"
	problem := []string{never, length, "Content-Type: application/problem+json", nosniff, "X-Request-Id"}
	document := func(kind string, more ...string) []string {
		return append([]string{"Cache-Control: no-cache", length, "Content-Type: " + kind, "Etag", vary, nosniff, "X-Request-Id"}, more...)
	}
	for _, tt := range []struct {
		method, path, body string
		headers            []string
		status             int
		want               []string
	}{
		{"GET", "/", "", nil, 200, document("application/json")},
		{"GET", "/healthz", "", nil, 200, document("application/json")},
		{"HEAD", "/healthz", "", nil, 200, document("application/json")},
		{"GET", "/v1/datasets", "", nil, 200, document("application/json")},
		{"GET", openPath, "", nil, 200, document("application/json")},
		{"GET", openPath + "/schema", "", nil, 200, document("application/schema+json")},
		{"GET", "/openapi.json", "", nil, 200, document("application/json")},
		{"GET", "/docs", "", nil, 200, document("text/html; charset=utf-8", "Content-Security-Policy", "Referrer-Policy: no-referrer")},
		{"GET", openPath + "/rows", "", nil, 200, []string{private, length, "Content-Type: application/json", "Etag", "Last-Modified", "Server-Timing", vary, nosniff, "X-Request-Id"}},
		{"GET", openPath + "/rows", "", []string{"If-None-Match", page.Header().Get("Etag")}, 304, []string{private, "Etag", "Server-Timing", vary, nosniff, "X-Request-Id"}},
		{"GET", openPath + "/rows?explain=true", "", nil, 200, []string{never, length, "Content-Type: application/json", "Server-Timing", vary, nosniff, "X-Request-Id"}},
		{"GET", openPath + "/rows?format=ndjson", "", nil, 200, []string{never, "Content-Type: application/x-ndjson", "Latam-End: complete", "Latam-Rows: 1", "Server-Timing", "Trailer: Latam-End, Latam-Rows, Latam-Next-Cursor", vary, nosniff, "X-Request-Id"}},
		{"GET", openPath + "/rows?format=csv", "", nil, 200, []string{never, "Content-Type: text/csv; charset=utf-8; header=present", "Latam-End: complete", "Latam-Rows: 1", "Server-Timing", "Trailer: Latam-End, Latam-Rows, Latam-Next-Cursor", vary, nosniff, "X-Request-Id"}},
		{"GET", openPath + "/rows/x", "", nil, 200, []string{private, length, "Content-Type: application/json", "Etag", "Last-Modified", "Server-Timing", vary, nosniff, "X-Request-Id"}},
		{"POST", openPath + "/rows/batch-get", `{"ids":["x"]}`, []string{"Content-Type", "application/json"}, 200, []string{never, length, "Content-Type: application/json", "Server-Timing", vary, nosniff, "X-Request-Id"}},
		{"GET", openPath + "/aggregate?metric=count", "", nil, 200, []string{never, length, "Content-Type: application/json", "Server-Timing", vary, nosniff, "X-Request-Id"}},
		{"GET", openPath + "/stats", "", nil, 200, []string{never, length, "Content-Type: application/json", "Server-Timing", vary, nosniff, "X-Request-Id"}},
		{"GET", openPath + "/tail", "", nil, 200, []string{never, "Content-Type: text/event-stream", "Server-Timing", "X-Accel-Buffering: no", nosniff, "X-Request-Id"}},
		{"HEAD", openPath + "/tail", "", nil, 200, []string{never, "Content-Type: text/event-stream", "Server-Timing", "X-Accel-Buffering: no", nosniff, "X-Request-Id"}},
		{"POST", openPath + "/records", `{"name":"y"}`, []string{"Content-Type", "application/json"}, 202, []string{never, length, "Content-Type: application/json", "Server-Timing", vary, nosniff, "X-Request-Id"}},
		{"OPTIONS", openPath + "/rows", "", nil, 204, []string{"Allow: GET, HEAD, OPTIONS", never, nosniff, "X-Request-Id"}},
		{"GET", "/nothing", "", nil, 404, problem},
		{"GET", "/v1/datasets/nothing/rows", "", nil, 404, problem},
		{"GET", "/docs?x=1", "", nil, 400, problem},
		{"DELETE", openPath + "/rows", "", nil, 405, append([]string{"Allow: GET, HEAD, OPTIONS"}, problem...)},
		{"GET", openPath + "/rows?limit=0", "", nil, 400, append([]string{"Server-Timing"}, problem...)},
		{"GET", openPath + "/rows/none", "", nil, 404, append([]string{"Server-Timing"}, problem...)},
		{"GET", "/v1/datasets/guarded/rows", "", nil, 401, append([]string{"Www-Authenticate"}, problem...)},
		{"POST", openPath + "/records", `{}`, []string{"Origin", "https://evil.example"}, 403, append([]string{"Connection: close"}, problem...)},
		{"GET", "/" + strings.Repeat("x", 9000), "", nil, 414, append([]string{"Connection: close"}, problem...)},
	} {
		rec := w.do(tt.method, tt.path, tt.body, tt.headers...)
		if rec.Code != tt.status {
			t.Errorf("%s %.60s: %d, want %d: %s", tt.method, tt.path, rec.Code, tt.status, rec.Body)
			continue
		}
		slices.Sort(tt.want)
		if d := cmp.Diff(tt.want, headersOf(rec, tt.want)); d != "" {
			t.Errorf("%s %.60s: headers (-want +got):\n%s", tt.method, tt.path, d)
		}
	}
}

// headersOf lists the headers as "Name: value", or as "Name" where that is what is wanted.
func headersOf(rec *httptest.ResponseRecorder, want []string) []string {
	var got []string
	for name, values := range rec.Header() {
		line := fmt.Sprintf("%s: %s", name, strings.Join(values, ", "))
		if slices.Contains(want, name) {
			line = name
		}
		got = append(got, line)
	}
	slices.Sort(got)
	return got
}

// TestHeadersOfRefusalsOverTheWire: what net/http answers by itself tells nothing either.
func TestHeadersOfRefusalsOverTheWire(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{})
	addr := w.listen(web.Options{})
	for request, status := range map[string]string{
		"GET / HTTP/1.1\r\n\r\n":            "400",
		"nonsense\r\n\r\n":                  "400",
		"GET / HTTP/9.9\r\nHost: x\r\n\r\n": "505",
		"GET / HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 64<<10) + "\r\n\r\n": "431",
		"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n":                                    "200",
		"GET /v1/datasets/flights/rows HTTP/1.1\r\nHost: x\r\n\r\n":                   "200",
	} {
		answer := exchange(t, addr, request)
		head, _, _ := strings.Cut(answer, "\r\n\r\n")
		if !strings.HasPrefix(head, "HTTP/1.1 "+status) {
			t.Errorf("%.40q: %.200q", request, answer)
		}
		for line := range strings.SplitSeq(strings.ToLower(head), "\r\n") {
			name, _, _ := strings.Cut(line, ":")
			if slices.Contains([]string{"server", "x-powered-by", "via", "x-aspnet-version"}, name) || strings.Contains(line, "go1.") {
				t.Errorf("%.40q is answered with %q", request, line)
			}
		}
	}
}

package cli_test

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// askAs sends a request under a Host of its own choice.
func askAs(t *testing.T, method, address, host, body string, headers ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body == "" {
		req.Body, req.ContentLength = http.NoBody, 0
	}
	if host != "" {
		req.Host = host
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(answer)
}

// TestSurface asks the real program on both of its listeners: what operates it is on the admin one
// only, and neither tells what it is made of.
func TestSurface(t *testing.T) {
	t.Parallel()
	_, r := startUp(t, t.TempDir(), "--no-sample", "--engine", "memory")
	admin := map[string]int{
		"/livez": 200, "/readyz": 200, "/metrics": 200, "/data": 200, "/debug/pprof": 302, "/debug/pprof/": 200, "/debug/pprof/goroutine": 200, "/debug/pprof/cmdline": 200,
		"/": 404, "/healthz": 404, "/docs": 404, "/v1/datasets": 404, "/v1/datasets/flights/rows": 404,
	}
	public := map[string]int{
		"/": 200, "/healthz": 200, "/docs": 200, "/openapi.json": 200, "/v1/datasets": 200, "/v1/datasets/flights": 200, "/v1/datasets/flights/schema": 200, "/v1/datasets/flights/rows": 200,
		"/livez": 404, "/readyz": 404, "/metrics": 404, "/data": 404, "/debug/pprof": 404, "/debug/pprof/": 404, "/debug/pprof/goroutine": 404, "/debug/pprof/cmdline": 404, "/debug/vars": 404, "/config": 404,
	}
	for base, want := range map[string]map[string]int{r.API: public, r.Admin: admin} {
		got := map[string]int{}
		for path := range want {
			status, header, body := askAs(t, http.MethodGet, base+path, "", "")
			got[path] = status
			if header.Get("X-Content-Type-Options") != "nosniff" || header.Get("Server") != "" || header.Get("X-Powered-By") != "" || header.Get("X-Request-Id") == "" {
				t.Errorf("%s%s: headers %v", base, path, header)
			}
			if has := header.Get("Content-Security-Policy") != ""; has != (base == r.API && path == "/docs") {
				t.Errorf("%s%s: Content-Security-Policy %q", base, path, header.Get("Content-Security-Policy"))
			}
			if base == r.API && header.Get("Cache-Control") == "" || status >= 400 && header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s%s: Cache-Control %q", base, path, header.Get("Cache-Control"))
			}
			if strings.Contains(body, ".go:") && base == r.API {
				t.Errorf("%s%s shows source", base, path)
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", base, d)
		}
	}
	for _, addr := range []string{r.API, r.Admin, "http://" + r.Pubsub, "http://" + r.Bigtable} {
		host, _, err := net.SplitHostPort(strings.TrimPrefix(addr, "http://"))
		if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
			t.Errorf("%s is not on loopback", addr)
		}
	}
}

// TestPagesOfOtherSitesAreRefused is a browser's DNS rebinding and its cross-site post, against the
// real program.
func TestPagesOfOtherSitesAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, r := startUpWith(t, dir, []string{"LATAM_ALLOW_HOST=dash.example,10.9.9.9"}, "--no-sample", "--engine", "memory")
	const record = `{"origin":"SCL","departed_at":"2001-01-01T08:00:00Z","destination":"LIM"}`
	api, admin := r.API+"/v1/datasets/flights/", r.Admin+"/metrics"
	json := []string{"Content-Type", "application/json"}
	for _, tt := range []struct {
		method, address, host, body string
		headers                     []string
		status                      int
	}{
		{"GET", api + "rows", "", "", nil, 200},
		{"GET", api + "rows", "localhost", "", nil, 200},
		{"GET", api + "rows", "[::1]:9", "", nil, 200},
		{"GET", api + "rows", "dash.example", "", nil, 200},
		{"GET", api + "rows", "10.9.9.9:8080", "", nil, 200},
		{"GET", api + "rows", "rebound.example:8080", "", nil, 403},
		{"GET", r.API + "/docs", "rebound.example", "", nil, 403},
		{"POST", api + "records", "rebound.example", record, append([]string{"Origin", "http://rebound.example", "Sec-Fetch-Site", "same-origin"}, json...), 403},
		{"POST", api + "records", "", record, append([]string{"Origin", "https://evil.example"}, json...), 403},
		{"POST", api + "records", "", record, append([]string{"Origin", "null", "Sec-Fetch-Site", "cross-site"}, json...), 403},
		{"POST", api + "records", "", record, append([]string{"Origin", r.API, "Sec-Fetch-Site", "same-origin"}, json...), 202},
		{"POST", api + "records", "", record, json, 202},
		{"GET", admin, "", "", nil, 200},
		{"GET", admin, "localhost:9", "", nil, 200},
		{"GET", admin, "rebound.example", "", nil, 403},
		{"GET", r.Admin + "/debug/pprof/heap", "rebound.example", "", nil, 403},
	} {
		status, _, body := askAs(t, tt.method, tt.address, tt.host, tt.body, tt.headers...)
		if status != tt.status {
			t.Errorf("%s %s with host %q and %v: %d, want %d: %.300s", tt.method, tt.address, tt.host, tt.headers, status, tt.status, body)
		}
		if status == 403 && !strings.Contains(body, `"FORBIDDEN"`) {
			t.Errorf("%s %s: %s", tt.method, tt.address, body)
		}
	}
	settled(t, r.Admin, "ok", 2)
	if out := run(t, dir, nil, "get", "flights", "-o", "json"); !strings.Contains(out, "SCL") {
		t.Errorf("the command does not get in: %s", out)
	}
}

// TestGuardedDatasetsServeEveryHost: where everybody is asked for credentials, a page has none to send.
func TestGuardedDatasetsServeEveryHost(t *testing.T) {
	t.Parallel()
	const yaml = "version: 1\nname: shop\ndatasets:\n  sales:\n    fields: {number: {type: int64, required: true}}\n    key: [number]\n    api: {auth: api_key}\n"
	for _, tt := range []struct {
		flags  []string
		status int
	}{{nil, 401}, {[]string{"--no-auth"}, 403}, {[]string{"--no-auth", "--insecure-bind"}, 200}} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "latam.yaml"), []byte(yaml), 0o644); err != nil {
			t.Fatal(err)
		}
		_, r := startUp(t, dir, append([]string{"--engine", "memory"}, tt.flags...)...)
		if status, _, body := askAs(t, "GET", r.API+"/v1/datasets/sales/rows", "shop.example", ""); status != tt.status {
			t.Errorf("up %v: %d, want %d: %s", tt.flags, status, tt.status, body)
		}
	}
}

package query

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/telemetry"
	"github.com/latamctl/latamctl/pkg/web"
	"github.com/latamctl/latamctl/pkg/web/auth"
)

// tenantsYAML has two tenants' datasets and one that is open.
const tenantsYAML = `version: 1
name: latam
datasets:
  tenant-a:
    fields: {name: {type: string, required: true}}
    key: [name]
    api: {auth: api_key, quota_per_minute: 1000}
  tenant-b:
    fields: {name: {type: string, required: true}}
    key: [name]
    api: {auth: api_key}
  open:
    fields: {name: {type: string, required: true}}
    key: [name]
`

// keyFiles is the file of the keys in memory.
type keyFiles []byte

func (f keyFiles) ReadFile(string) ([]byte, error) { return f, nil }
func (f keyFiles) Stamp(string) (string, error) {
	if f == nil {
		return "", fs.ErrNotExist
	}
	return "1", nil
}

// tenants is the service with a key for each tenant.
type tenants struct {
	t       *testing.T
	handler http.Handler
	routes  []string
	a, b    string
}

func newTenants(t *testing.T) *tenants {
	t.Helper()
	decl := load(t, tenantsYAML)
	ring := auth.NewKeyring()
	key := func(name string) string {
		text, _, err := ring.Create(name, []string{name}, time.Now(), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		return text.Reveal()
	}
	w := &tenants{t: t, a: key("tenant-a"), b: key("tenant-b")}
	file, err := ring.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	access, err := auth.New(auth.Options{KeysFile: "k", OwnerToken: telemetry.NewSecret("lo_owner")}, auth.Deps{Files: keyFiles(file)}, decl.Datasets)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{}, Deps{Declaration: decl, Store: newFakeStore(), Publisher: &fakeBus{}, Access: access})
	if err != nil {
		t.Fatal(err)
	}
	w.handler, w.routes = s.Handler(), s.Routes()
	return w
}

func (w *tenants) ask(method, path, key string, headers ...string) *httptest.ResponseRecorder {
	w.t.Helper()
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader(`{"name":"x"}`)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Second) // A stream ends with its request.
	defer cancel()
	r := httptest.NewRequestWithContext(ctx, method, path, body)
	r.Header.Set("Content-Type", "application/json")
	if key != "" {
		r.Header.Set("X-Api-Key", key)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, r)
	return rec
}

// publicPaths need no credentials: they show the contract and no data.
func publicPaths() []string {
	return []string{"/", "/healthz", "/docs", "/openapi.json", "/v1/datasets", "/v1/datasets/{dataset}", "/v1/datasets/{dataset}/schema"}
}

// TestEveryDataRouteAsks walks the service's own list of routes, so that a new route that shows data
// cannot be forgotten.
func TestEveryDataRouteAsks(t *testing.T) {
	t.Parallel()
	w := newTenants(t)
	guarded := 0
	for _, route := range w.routes {
		method, pattern, _ := strings.Cut(route, " ")
		path := strings.NewReplacer("{dataset}", "tenant-a", "{id}", "x").Replace(pattern)
		if !strings.HasPrefix(pattern, "/v1/datasets") && !slices.Contains(publicPaths(), pattern) {
			continue // Not of a dataset.
		}
		public := slices.Contains(publicPaths(), pattern)
		if got := w.ask(method, path, "").Code; public != (got == http.StatusOK) || !public && got != http.StatusUnauthorized {
			t.Errorf("%s without a key: status %d, public %v", route, got, public)
		}
		if public {
			continue
		}
		guarded++
		if got := w.ask(method, path, w.b).Code; got != http.StatusForbidden {
			t.Errorf("%s with the key of another tenant: status %d", route, got)
		}
		if got := w.ask(method, path, w.a).Code; got == http.StatusUnauthorized || got == http.StatusForbidden {
			t.Errorf("%s with the tenant's key: status %d", route, got)
		}
		if got := w.ask(method, path, "", "Authorization", "Bearer lo_owner").Code; got == http.StatusUnauthorized || got == http.StatusForbidden {
			t.Errorf("%s with the owner's token: status %d", route, got)
		}
		if method == http.MethodGet {
			if got := w.ask(http.MethodHead, path, "").Code; got != http.StatusUnauthorized {
				t.Errorf("HEAD %s without a key: status %d", path, got)
			}
		}
	}
	if guarded < 3 {
		t.Errorf("only %d routes ask for credentials: %v", guarded, w.routes)
	}
}

// TestTenantsCannotReachEachOther tries what is known to confuse servers about who asks for what.
func TestTenantsCannotReachEachOther(t *testing.T) {
	t.Parallel()
	w := newTenants(t)
	const b = "/v1/datasets/tenant-b/rows"
	forbidden := w.ask(http.MethodGet, b, w.a)
	if forbidden.Code != http.StatusForbidden {
		t.Fatalf("status %d: %s", forbidden.Code, forbidden.Body)
	}
	for _, header := range []string{"X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method", "X-Original-URL", "X-Rewrite-URL", "X-Forwarded-For", "X-Forwarded-Authorization", "X-Apigateway-Api-Userinfo", "X-Forwarded-Host"} {
		for _, value := range []string{"OPTIONS", "GET", "/v1/datasets/open/rows", "127.0.0.1", "Bearer " + w.b, "eyJzdWIiOiJ0ZW5hbnQtYiJ9"} {
			rec := w.ask(http.MethodGet, b, w.a, header, value)
			if rec.Code != http.StatusForbidden || !bytes.Equal(rec.Body.Bytes(), forbidden.Body.Bytes()) {
				t.Errorf("%s: %s: status %d: %s", header, value, rec.Code, rec.Body)
			}
		}
	}
	for _, c := range []struct {
		method, path, key string
		status            int
	}{
		{"GET", "/v1/datasets/tenant%2Db/rows", w.a, 403},
		{"GET", b + "?api_key=" + w.b, w.a, 403},
		{"GET", b + "/x", w.a, 403}, // The same for a row that is there and one that is not.
		{"GET", "/v1/datasets/open/../tenant-b/rows", w.a, 404},
		{"GET", "/v1/datasets/none/rows", w.a, 404},
		{"GET", "/v1/datasets/TENANT-B/rows", w.a, 404},
		{"TRACE", b, w.a, 405},
		{"DELETE", b, w.a, 405},
		{"POST", "/v1/datasets/tenant-b/records", w.a, 403},
		{"POST", "/v1/datasets/tenant-b/records", w.b, 202},
		{"GET", b, w.b, 200},
		{"GET", "/v1/datasets/open/rows", "", 200},
	} {
		if rec := w.ask(c.method, c.path, c.key); rec.Code != c.status {
			t.Errorf("%s %s: status %d, want %d: %s", c.method, c.path, rec.Code, c.status, rec.Body)
		}
	}
}

// TestNothingIsReadForStrangers: a refused request reaches neither the store nor its body.
func TestNothingIsReadForStrangers(t *testing.T) {
	t.Parallel()
	w := newTenants(t)
	r := httptest.NewRequest(http.MethodPost, "/v1/datasets/tenant-a/records", io.NopCloser(failReader{t}))
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, r)
	if rec.Code != http.StatusUnauthorized {
		t.Errorf("status %d", rec.Code)
	}
}

type failReader struct{ t *testing.T }

func (f failReader) Read([]byte) (int, error) {
	f.t.Error("the body of a stranger was read")
	return 0, io.EOF
}

func TestQuotaHeadersOnEveryAnswer(t *testing.T) {
	t.Parallel()
	w := newTenants(t)
	for _, path := range []string{"/v1/datasets/tenant-a/rows", "/v1/datasets/tenant-a/rows/none", "/v1/datasets/tenant-a/rows?bad=1"} {
		if h := w.ask(http.MethodGet, path, w.a).Header(); h.Get("RateLimit") == "" || h.Get("RateLimit-Policy") != `"default";q=1000;w=60` {
			t.Errorf("%s: RateLimit %q, RateLimit-Policy %q", path, h.Get("RateLimit"), h.Get("RateLimit-Policy"))
		}
	}
	if h := w.ask(http.MethodGet, "/v1/datasets/tenant-b/rows", w.b).Header(); h.Get("RateLimit-Policy") != "" {
		t.Error("a dataset without a quota tells one")
	}
}

// TestCallerIsInTheAccessLog: the log says which key asked, and never the key.
func TestCallerIsInTheAccessLog(t *testing.T) {
	t.Parallel()
	w := newTenants(t)
	var log bytes.Buffer
	handler, err := web.Harden(web.Options{}, web.Deps{Handler: w.handler, Log: telemetry.NewLogger(&log, telemetry.LogOptions{Format: "json", Level: slog.LevelDebug})})
	if err != nil {
		t.Fatal(err)
	}
	w.handler = handler
	w.ask(http.MethodGet, "/v1/datasets/tenant-a/rows", w.a)
	id := strings.Split(w.a, "_")[1]
	if !strings.Contains(log.String(), `"caller":"`+id+`"`) || strings.Contains(log.String(), w.a) {
		t.Errorf("the access log is\n%s", log.String())
	}
}

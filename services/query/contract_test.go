package query

import (
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/services/query/openapi"
	"github.com/latamctl/latamctl/services/query/openapi/openapitest"
)

// TestContractCoversRoutes keeps the routes of the service and the operations of its contract equal.
func TestContractCoversRoutes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{})
	doc, err := openapi.Build(w.service.contractOptions())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, path := range doc.Paths {
		for _, op := range path.Value.Operations() {
			// HEAD is served by GET.
			method := strings.Replace(op.Name, "HEAD", "GET", 1)
			got[method+" "+pattern(w, path.Name)] = true
		}
	}
	routes := w.service.Routes()
	slices.Sort(routes)
	var operations []string
	for op := range got {
		operations = append(operations, op)
	}
	slices.Sort(operations)
	if d := cmp.Diff(routes, operations); d != "" {
		t.Errorf("the routes (-) and the contract (+) differ; teach services/query/openapi the route, or take it out of there:\n%s", d)
	}
}

// pattern turns a literal path of the contract into the route's pattern.
func pattern(w *world, path string) string {
	rest, ok := strings.CutPrefix(path, "/v1/datasets/")
	if !ok {
		return path
	}
	name, tail, _ := strings.Cut(rest, "/")
	if w.decl.Dataset(name) == nil {
		return path
	}
	return strings.TrimSuffix("/v1/datasets/{dataset}/"+tail, "/")
}

// checkers keeps the compiled contracts: many tests have the same one.
var checkers sync.Map

// newChecker checks answers against the contract of the world's declaration.
func newChecker(t testing.TB, w *world) *openapitest.Checker {
	t.Helper()
	doc, err := openapi.Build(w.service.contractOptions())
	if err != nil {
		t.Fatal(err)
	}
	text, err := doc.Compact()
	if err != nil {
		t.Fatal(err)
	}
	if known, ok := checkers.Load(string(text)); ok {
		return known.(*openapitest.Checker)
	}
	checker, err := openapitest.New(doc)
	if err != nil {
		t.Fatal(err)
	}
	checkers.Store(string(text), checker)
	return checker
}

// TestAnswersMeetTheContract asks for good and for bad things.
func TestAnswersMeetTheContract(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{})
	w.addFlights()
	checker := newChecker(t, w)
	good := `{"origin":"SCL","departed_at":"2001-01-31T09:00:00Z","destination":"EZE"}`
	for _, c := range [][]string{
		{"GET", "/"}, {"GET", "/healthz"}, {"GET", "/v1/datasets"}, {"GET", "/v1/datasets/flights"}, {"GET", "/v1/datasets/flights/schema"},
		{"GET", "/openapi.json"}, {"GET", "/docs"}, {"HEAD", "/docs"}, {"GET", "/openapi.json?x=1"}, {"GET", "/docs", "", "Accept", "image/png"},
		{"GET", "/v1/datasets/flights/rows?origin=SCL&limit=2"}, {"GET", "/v1/datasets/flights/rows?origin=SCL&fields=origin"}, {"GET", "/v1/datasets/flights/rows"},
		{"GET", "/v1/datasets/flights/rows?destination=SCL"}, {"GET", "/v1/datasets/flights/rows?orgin=SCL"}, {"GET", "/v1/datasets/flights/rows?cursor=x"},
		{"GET", "/v1/datasets/flights/rows?limit=0"}, {"GET", "/v1/datasets/flights/rows?%zz=1"}, {"GET", "/v1/datasets/flights/rows", "", "Accept", "image/png"},
		{"GET", "/v1/datasets/flights/rows/SCL,2001-01-01T09:00:00Z,GRU"}, {"HEAD", "/v1/datasets/flights/rows/SCL,2001-01-01T09:00:00Z,GRU"},
		{"GET", "/v1/datasets/flights/rows/SCL,2001-01-01T09:00:01Z,GRU"}, {"HEAD", "/v1/datasets/flights/rows/SCL,2001-01-01T09:00:01Z,GRU"}, {"GET", "/v1/datasets/flights/rows/x"},
		{"GET", "/v1/datasets/nothing/rows"}, {"GET", "/nothing"}, {"DELETE", "/v1/datasets/flights/rows"}, {"OPTIONS", "/v1/datasets/flights/rows"},
		{"POST", "/v1/datasets/flights/records", good, "Content-Type", "application/json"}, {"POST", "/v1/datasets/flights/records", good + "\n" + good, "Content-Type", "application/x-ndjson"},
		{"POST", "/v1/datasets/flights/records", "{}", "Content-Type", "application/json"}, {"POST", "/v1/datasets/flights/records", good, "Content-Type", "text/plain"},
		{"POST", "/v1/datasets/flights/records", strings.Repeat(" ", 2<<20), "Content-Type", "application/json"},
	} {
		body, headers := "", []string{}
		if len(c) > 2 {
			body, headers = c[2], c[3:]
		}
		rec := w.do(c[0], c[1], body, headers...)
		checker.Check(t, httptest.NewRequest(c[0], c[1], nil), rec.Code, rec.Header(), rec.Body.Bytes())
	}
}

func TestContractDocuments(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{})
	for path, kind := range map[string]string{
		"/openapi.json": "application/json", "/docs": "text/html; charset=utf-8", "/v1/datasets/flights/schema": "application/schema+json",
	} {
		first := w.do("GET", path, "")
		if first.Code != 200 || first.Header().Get("Content-Type") != kind {
			t.Errorf("%s: %d %s", path, first.Code, first.Header().Get("Content-Type"))
		}
		tag := first.Header().Get("Etag")
		if !strings.HasPrefix(tag, `"`) {
			t.Errorf("%s has the tag %s", path, tag)
		}
		for _, same := range []string{tag, "W/" + tag, `"x", ` + tag, "*"} {
			if again := w.do("GET", path, "", "If-None-Match", same); again.Code != 304 || again.Body.Len() > 0 {
				t.Errorf("%s with If-None-Match %s: %d", path, same, again.Code)
			}
		}
		if other := w.do("GET", path, "", "If-None-Match", `"other"`); other.Code != 200 {
			t.Errorf("%s with another tag: %d", path, other.Code)
		}
		for _, accept := range []string{"*/*", kind, strings.Split(kind, "/")[0] + "/*;q=0.1"} {
			if rec := w.do("GET", path, "", "Accept", accept); rec.Code != 200 {
				t.Errorf("%s with Accept %s: %d", path, accept, rec.Code)
			}
		}
		for _, accept := range []string{"image/png", kind + ";q=0", "nonsense"} {
			if rec := w.do("GET", path, "", "Accept", accept); rec.Code != 406 {
				t.Errorf("%s with Accept %s: %d", path, accept, rec.Code)
			}
		}
	}
	policy := w.do("GET", "/docs", "").Header().Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none'; ") || strings.Contains(policy, "unsafe") {
		t.Errorf("policy %s", policy)
	}
}

package verify_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/verify"
)

// TestServing breaks what an instance answers, one thing at a time.
func TestServing(t *testing.T) {
	t.Parallel()
	flights, err := dataset.Load("latam.yaml", []byte("version: 1\nname: latam\ndatasets:\n  flights:\n    fields: {origin: {type: string, required: true}}\n    key: [origin]\n"))
	if err != nil {
		t.Fatal(err)
	}
	type answer struct {
		status     int
		kind, body string
	}
	good := map[string]answer{
		"/healthz":                    {200, "application/json", `{"status":"ok"}`},
		"/v1/datasets":                {200, "application/json", `{"data":[{"name":"flights"}]}`},
		"/openapi.json":               {200, "application/json", `{"paths":{"/v1/datasets/flights/rows":{}}}`},
		"/v1/datasets/flights/schema": {200, "application/json", `{}`},
		"/v1/datasets/flights/rows":   {200, "application/json", `{"data":[]}`},
	}
	problem := answer{401, "application/problem+json", `{"code":"UNAUTHENTICATED","detail":"who are you?"}`}
	for name, test := range map[string]struct {
		path   string
		answer answer
		want   string // "" is that it passes
	}{
		"everything is well":         {"/healthz", good["/healthz"], ""},
		"rows ask for credentials":   {"/v1/datasets/flights/rows", problem, ""},
		"not healthy":                {"/healthz", answer{503, "text/plain", "draining"}, "GET /healthz answers 503, want 200"},
		"credentials for the health": {"/healthz", problem, "GET /healthz answers 401, want 200 (UNAUTHENTICATED: who are you?)"},
		"another declaration":        {"/v1/datasets", answer{200, "application/json", `{"data":[{"name":"orders"}]}`}, "GET /v1/datasets does not list flights, which is declared"},
		"no JSON":                    {"/v1/datasets", answer{200, "text/html", "<html>"}, "GET /v1/datasets answers what is not the expected JSON"},
		"another contract":           {"/openapi.json", answer{200, "application/json", `{"paths":{}}`}, "GET /openapi.json does not describe /v1/datasets/flights/rows"},
		"no schema":                  {"/v1/datasets/flights/schema", answer{404, "", ""}, "GET /v1/datasets/flights/schema answers 404, want 200"},
		"no table":                   {"/v1/datasets/flights/rows", answer{503, "application/problem+json", `{"code":"STORE_UNAVAILABLE","detail":"no table"}`}, "GET /v1/datasets/flights/rows?limit=1 answers 503, want 200, or 401 with a problem document (STORE_UNAVAILABLE: no table)"},
		"a proxy's 401":              {"/v1/datasets/flights/rows", answer{401, "text/html", "<html>"}, "GET /v1/datasets/flights/rows?limit=1 answers 401"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				a := good[r.URL.Path]
				if r.URL.Path == test.path {
					a = test.answer
				}
				w.Header().Set("Content-Type", a.kind)
				w.WriteHeader(a.status)
				_, _ = io.WriteString(w, a.body)
			}))
			t.Cleanup(api.Close)
			open, err := verify.Serving(t.Context(), api.Client(), api.URL, flights.Datasets)
			if want := name == "everything is well"; open != want {
				t.Errorf("open %t, want %t", open, want)
			}
			if got := fmt.Sprint(err); test.want == "" && err != nil || test.want != "" && (err == nil || !strings.HasPrefix(got, test.want) || strings.Contains(got, "\n")) {
				t.Errorf("error %v, want %q and nothing else", err, test.want)
			}
		})
	}
	api := httptest.NewServer(http.NotFoundHandler())
	api.Close()
	if _, err := verify.Serving(t.Context(), http.DefaultClient, api.URL, flights.Datasets); err == nil || strings.Count(err.Error(), "no answer") != 5 {
		t.Errorf("without an API: %v", err)
	}
}

package docpage

import (
	"bytes"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/examples"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/services/query/openapi"
)

func render(t *testing.T, yaml string) (string, string) {
	t.Helper()
	d, err := dataset.Load("latam.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi.Build(openapi.Options{Declaration: d})
	if err != nil {
		t.Fatal(err)
	}
	html, policy, err := Render(doc)
	if err != nil {
		t.Fatal(err)
	}
	return string(html), policy
}

// maxPageBytes is what the page of the example may weigh, with everything that is in it.
const maxPageBytes = 60 << 10

func TestPageIsSmallAndWhole(t *testing.T) {
	t.Parallel()
	html, policy := render(t, string(examples.Declaration))
	if len(html) > maxPageBytes {
		t.Errorf("the page has %d bytes, at most %d are wanted", len(html), maxPageBytes)
	}
	t.Logf("%d bytes", len(html))
	for _, want := range []string{"listFlights", "getFlights", "aggregateFlights", "/v1/datasets/flights/rows/{id}", "IATA code of the airport of departure", "SCAN_REFUSED", "urllib.request", "http.NewRequestWithContext", "await fetch(", "delay_minutes"} {
		if !strings.Contains(html, want) {
			t.Errorf("the page does not show %s", want)
		}
	}
	for _, source := range []string{"default-src 'none'", "connect-src 'self'", "script-src 'sha256-", "style-src 'sha256-"} {
		if !strings.Contains(policy, source) {
			t.Errorf("the policy %s lacks %s", policy, source)
		}
	}
}

// TestPageLoadsNothing looks for what a browser would fetch.
func TestPageLoadsNothing(t *testing.T) {
	t.Parallel()
	html, _ := render(t, string(examples.Declaration))
	for _, no := range []string{" src=", "@import", "url(", "<link rel=\"stylesheet", " onclick=", " style=", "ZgotmplZ", "%!"} {
		if strings.Contains(html, no) {
			t.Errorf("the page has %q", no)
		}
	}
}

// TestPageEscapes puts markup wherever a declaration can have text.
func TestPageEscapes(t *testing.T) {
	t.Parallel()
	html, _ := render(t, `version: 1
name: shop
datasets:
  orders:
    description: "<script>alert(1)</script> & `+"`</code><img src=x>`"+`"
    fields: {a: {type: string, required: true, description: "<b onmouseover=alert(2)>", pattern: "^<i>[a-z]{2}'\"$"}}
    key: [a]
`)
	if strings.Count(html, "<script>") != 1 || strings.Contains(html, "<img") || strings.Contains(html, "<b onmouseover") || strings.Contains(html, "<i>") {
		t.Error("text of the declaration became markup")
	}
	if !strings.Contains(html, "&lt;script&gt;alert(1)") {
		t.Error("the description is not there")
	}
}

func TestPageIsRepeatable(t *testing.T) {
	t.Parallel()
	a, _ := render(t, string(examples.Declaration))
	b, _ := render(t, string(examples.Declaration))
	if !bytes.Equal([]byte(a), []byte(b)) {
		t.Error("the same document gave two pages")
	}
}

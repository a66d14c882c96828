package openapitest

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/examples"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/services/query/openapi"
)

func newChecker(t testing.TB) *Checker {
	t.Helper()
	d, err := dataset.Load("", examples.Declaration)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi.Build(openapi.Options{Declaration: d})
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(doc)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const (
	rows    = "/v1/datasets/flights/rows"
	row     = `{"id":"SFO,2001-01-02T19:10:00Z,LAX","origin":"SFO","departed_at":"2001-01-02T19:10:00Z","destination":"LAX","delay_minutes":-3}`
	meta    = `"next_cursor":null,"next_url":null,"meta":{"dataset":"flights","access":"key","prefix":[],"rows_scanned":1,"as_of":"2001-01-02T19:10:00.000Z"}}`
	problem = `{"type":"https://example.com/e#x","title":"t","status":400,"code":"SCAN_REFUSED"}`
)

// TestChecker shows each thing that the checker notices.
func TestChecker(t *testing.T) {
	t.Parallel()
	c := newChecker(t)
	for _, test := range []struct {
		name, method, target string
		status               int
		kind, body, header   string // header is name=value; -name takes one away
		want                 string // "" = good
	}{
		{name: "page", body: `{"data":[` + row + `],` + meta},
		{name: "a big integer", body: `{"data":[` + strings.Replace(row, "-3", `"-9223372036854775808"`, 1) + `],` + meta},
		{name: "a small integer as a string", body: `{"data":[` + strings.Replace(row, "-3", `"-3"`, 1) + `],` + meta, want: "oneOf"},
		{name: "wrong type", body: `{"data":[` + strings.Replace(row, "-3", `true`, 1) + `],` + meta, want: "oneOf"},
		{name: "null instead of absent", body: `{"data":[` + strings.Replace(row, "-3", `null`, 1) + `],` + meta, want: "oneOf"},
		{name: "pattern", body: `{"data":[` + strings.Replace(row, `"origin":"SFO"`, `"origin":"sfo"`, 1) + `],` + meta, want: "oneOf"},
		{name: "unknown member", body: `{"data":[` + strings.Replace(row, `"origin"`, `"more":1,"origin"`, 1) + `],` + meta, want: "oneOf"},
		{name: "no id", body: `{"data":[{"origin":"SFO"}],` + meta, want: "oneOf"},
		{name: "no meta", body: `{"data":[],"next_cursor":null,"next_url":null}`, want: "oneOf"},
		{name: "not JSON", body: `{"data":[`, want: "not JSON"},
		{name: "status", status: 418, kind: "application/problem+json", body: problem, want: "status 418"},
		{name: "content type", kind: "text/plain", body: "x", want: "content type text/plain"},
		{name: "unknown header", body: `{"data":[],` + meta, header: "X-More=1", want: "header X-More is not described"},
		{name: "bad header", body: `{"data":[],` + meta, header: "Etag=abc", want: "header Etag"},
		{name: "missing header", body: `{"data":[],` + meta, header: "-X-Request-Id", want: "header X-Request-Id is missing"},
		{name: "problem", status: 400, kind: "application/problem+json", body: problem},
		{name: "code of another status", status: 400, kind: "application/problem+json", body: strings.Replace(problem, "SCAN_REFUSED", "INTERNAL", 1), want: "allOf"},
		{name: "code of another operation", target: rows + "/x", status: 400, kind: "application/problem+json", body: problem, want: "allOf"},
		{name: "status in the body", status: 400, kind: "application/problem+json", body: strings.Replace(problem, "400", "401", 1), want: "allOf"},
		{name: "lines", kind: "application/x-ndjson", body: row + "\n" + `{"_end":true,"rows":1,"next_cursor":null}` + "\n"},
		{name: "bad line", kind: "application/x-ndjson", body: row + "\n{}\n", want: "line 2"},
		{name: "csv", kind: "text/csv; charset=utf-8; header=present", body: "id,origin\r\na,b\r\n"},
		{name: "bad csv", kind: "text/csv", body: "id,origin\r\na,b,c\r\n", want: "wrong number of fields"},
		{name: "events", target: "/v1/datasets/flights/tail", kind: "text/event-stream", body: ": hello\n\nid: 1\nevent: row\ndata: " + row + "\n\n"},
		{name: "bad event", target: "/v1/datasets/flights/tail", kind: "text/event-stream", body: "data: {}\n\n", want: "id"},
		{name: "not modified", status: 304},
		{name: "not modified with a body", status: 304, body: "x", want: "there must be none"},
		{name: "head", method: "HEAD"},
		{name: "unknown path", target: "/nothing", status: 404, kind: "application/problem+json", body: `{"type":"https://example.com/e#x","title":"t","status":404,"code":"NOT_FOUND"}`},
		{name: "unknown path served", target: "/nothing", body: "{}", want: "no such operation"},
		{name: "groups", target: "/v1/datasets/flights/aggregate", body: `{"data":[{"origin":"SFO","count":2,"avg:delay_minutes":null,"p95:delay_minutes":3}],"meta":{"dataset":"flights","complete":true}}`},
		{name: "unknown metric", target: "/v1/datasets/flights/aggregate", body: `{"data":[{"avg:origin":1}],"meta":{"dataset":"flights"}}`, want: "avg:origin"},
	} {
		method, target, status, kind := "GET", rows, 200, "application/json"
		if test.method != "" {
			method = test.method
		}
		if test.target != "" {
			target = test.target
		}
		if test.status != 0 {
			status = test.status
		}
		if test.kind != "" {
			kind = test.kind
		}
		h := http.Header{"Content-Type": {kind}, "X-Request-Id": {"abc"}}
		if name, value, ok := strings.Cut(test.header, "="); ok {
			h.Set(name, value)
		} else {
			h.Del(strings.TrimPrefix(test.header, "-"))
		}
		err := c.Validate(httptest.NewRequest(method, target, nil), status, h, []byte(test.body))
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", test.name, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: %v, want %s", test.name, err, test.want)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	c := newChecker(b)
	r := httptest.NewRequest("GET", rows, nil)
	h := http.Header{"Content-Type": {"application/json"}, "X-Request-Id": {"abc"}}
	body := []byte(`{"data":[` + strings.Repeat(row+",", 99) + row + `],` + meta)
	for b.Loop() {
		if err := c.Validate(r, 200, h, body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNew(b *testing.B) {
	d, err := dataset.Load("", examples.Declaration)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		doc, err := openapi.Build(openapi.Options{Declaration: d})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := New(doc); err != nil {
			b.Fatal(err)
		}
	}
}

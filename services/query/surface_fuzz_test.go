package query

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/services/query/openapi"
	"github.com/latamctl/latamctl/services/query/openapi/openapitest"
)

// FuzzSplitList: what is written as the page of the API says comes back, and nothing is made up.
func FuzzSplitList(f *testing.F) {
	for _, text := range []string{"", ",", "a,b", `a\,b,c`, `a\\,b`, `\`, `\\\`, `\a`, `,\,`, "é,\xff"} {
		f.Add(text)
	}
	escape := strings.NewReplacer(`\`, `\\`, `,`, `\,`)
	f.Fuzz(func(t *testing.T, text string) {
		parts := splitList(text)
		if n := 1 + strings.Count(text, ","); len(parts) < 1 || len(parts) > n {
			t.Fatalf("%q has %d parts of at most %d", text, len(parts), n)
		}
		written := make([]string, len(parts))
		for i, part := range parts {
			written[i] = escape.Replace(part)
		}
		if again := splitList(strings.Join(written, ",")); !slices.Equal(again, parts) {
			t.Fatalf("%q is read as %q, and written and read again as %q", text, parts, again)
		}
	})
}

// FuzzParseValues: a list of values is in order, each once, and no longer than it may be; else it is refused.
func FuzzParseValues(f *testing.F) {
	w := newWorld(f, ordersYAML, Options{})
	fields := w.decl.Dataset("orders").Fields
	for i, text := range []string{"1,2,1", "2001-01-01,2001-01-01T00:00:00Z", `open,paid\,later`, "1.0,1,NaN,-0,0", "true,false,true", "2001-02-03", "AAA=,AAA=", "{},1"} {
		f.Add(text, uint8(i))
	}
	f.Add(strings.Repeat("1,", 100)+"1", uint8(0))
	f.Fuzz(func(t *testing.T, text string, at uint8) {
		field := fields[int(at)%len(fields)]
		values, p := parseValues(field, param{field.Name + "[in]", text})
		if p != nil {
			if p.Detail == "" || len(p.Errors) != 1 {
				t.Fatalf("%s in %q: %+v", field.Name, text, p)
			}
			return
		}
		if len(values) < 1 || len(values) > MaxIn {
			t.Fatalf("%d values of %q", len(values), text)
		}
		for i := 1; i < len(values); i++ {
			if values[i-1].Compare(values[i]) >= 0 {
				t.Fatalf("%s in %q: value %d is not behind the one before it", field.Name, text, i)
			}
		}
		for _, v := range values {
			fil := filter{field: field, op: opIn, values: values}
			rec := dataset.Record{Dataset: w.decl.Dataset("orders"), Values: make([]dataset.Value, len(fields))}
			rec.Values[field.Index] = v
			if !fil.match(rec) {
				t.Fatalf("%s in %q does not find one of its own values", field.Name, text)
			}
		}
	})
}

// fuzzWorld is the world for fuzzing, with the checker of its contract.
func fuzzWorld(f *testing.F) (*world, *openapitest.Checker) {
	f.Helper()
	w := newAbuseWorld(f)
	doc, err := openapi.Build(w.service.contractOptions())
	if err != nil {
		f.Fatal(err)
	}
	checker, err := openapitest.New(doc)
	if err != nil {
		f.Fatal(err)
	}
	return w, checker
}

// FuzzListing: any query of a list, by any index and in any format, is answered as the contract says
// and never with a failure of the service.
func FuzzListing(f *testing.F) {
	w, checker := fuzzWorld(f)
	for _, query := range []string{
		"status=open&limit=2", "status[in]=open,paid%5C,%20later&order=desc&index=by_status", "paid=true&total[lt]=3&count=exact", "due[exists]=false", "blob=AAA%3D&order_no[gt]=3",
		"format=ndjson&index=by_due", "format=csv-safe&scan=allow&extra[exists]", "explain=true&status[prefix]=o", "from=-7d&to=now&index=by_due&scan=allow", "fields=id,total&limit=1000", "cursor=v1.AAAA", "order_no[in]=" + strings.Repeat("1,", 99) + "1",
	} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		r := httptest.NewRequest(http.MethodGet, "/v1/datasets/orders/rows", nil)
		r.URL.RawQuery = query
		rec := httptest.NewRecorder()
		w.handler.ServeHTTP(rec, r)
		if rec.Code >= 500 {
			t.Fatalf("%d %s", rec.Code, rec.Body)
		}
		if err := checker.Validate(r, rec.Code, rec.Header(), rec.Body.Bytes()); err != nil {
			t.Fatalf("%d: %v in %s", rec.Code, err, rec.Body)
		}
	})
}

// FuzzBatchGet: any body is answered as the contract says; each id that is asked for comes back once,
// as a row or as missing.
func FuzzBatchGet(f *testing.F) {
	w, checker := fuzzWorld(f)
	for _, body := range []string{`{"ids":["1","7","999"]}`, `{"ids":["1","1"],"fields":["status"]}`, `{"ids":[]}`, `{"ids":["~"]}`, `null`, `{"ids":["1"]}{}`, `{"ids":null,"ids":["2"]}`, "\xff", `{"fields":["a,b"],"ids":["1"]}`} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r := httptest.NewRequest(http.MethodPost, "/v1/datasets/orders/rows/batch-get", io.NopCloser(strings.NewReader(string(body))))
		r.ContentLength = int64(len(body))
		r.Header.Set("Content-Type", "application/json")
		rec := httptest.NewRecorder()
		w.handler.ServeHTTP(rec, r)
		if err := checker.Validate(r, rec.Code, rec.Header(), rec.Body.Bytes()); err != nil || rec.Code >= 500 {
			t.Fatalf("%d: %v in %s", rec.Code, err, rec.Body)
		}
		if rec.Code != http.StatusOK {
			return
		}
		var asked batchRequest
		var got struct {
			Data    []json.RawMessage `json:"data"`
			Missing []string          `json:"missing"`
		}
		if err := json.Unmarshal(body, &asked); err != nil {
			t.Fatalf("%q is no JSON and was answered", body)
		}
		if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil || len(got.Data)+len(got.Missing) != len(asked.IDs) {
			t.Fatalf("%d ids: %s", len(asked.IDs), rec.Body)
		}
	})
}

package query

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/services/query/openapi"
)

// ordersYAML adds to the declaration of the other tests a dataset with indexes, some of whose fields
// are optional, and a field of each type.
const ordersYAML = testYAML + `  orders:
    fields:
      order_no: {type: int64, required: true}
      placed:   {type: timestamp, required: true}
      status:   {type: string}
      total:    {type: float64}
      paid:     {type: bool}
      due:      {type: date}
      blob:     {type: bytes}
      extra:    {type: json}
    key: [order_no]
    time: placed
    indexes: {by_status: [status, placed], by_total: [paid, total], by_due: [due], by_blob: [blob, order_no]}
`

func newAbuseWorld(t testing.TB) *world {
	w := newWorld(t, ordersYAML, Options{Tail: TailOptions{MaxTailTime: time.Millisecond, Heartbeat: time.Millisecond}})
	w.addFlights()
	w.add("days", `{"day":"2001-01-01"}`)
	w.add("days", `{"day":"2001-01-02"}`)
	for i := range 40 {
		status := []string{`"open"`, `"paid, later"`, `"back\\slash"`, `null`}[i%4]
		w.add("orders", fmt.Sprintf(`{"order_no":%d,"placed":"2001-01-%02dT00:00:00Z","status":%s,"total":%d.5,"paid":%v,"due":"2001-02-%02d","blob":"AAA=","extra":{"a":[%d]}}`, i-20, i%28+1, status, i-5, i%3 == 0, i%28+1, i))
	}
	w.service.deps.Follower = newFakeFollower()
	return w
}

// goodValues are values that a field of each type takes.
func goodValues(kind dataset.Type) []string {
	switch kind {
	case dataset.Int64:
		return []string{"0", "-20", "7", "9223372036854775807", "-9223372036854775808"}
	case dataset.Float64:
		return []string{"0", "-0", "1e308", "-4.5", "5e-324", "NaN"}
	case dataset.Bool:
		return []string{"true", "false"}
	case dataset.Timestamp:
		return []string{"2001-01-05T00:00:00Z", "2001-01-05", "2001-01-05T00:00:00.123456789%2B05:30", "9999-12-31T23:59:59.999999999Z", "0000-01-01"}
	case dataset.Date:
		return []string{"2001-02-03", "0000-01-01", "9999-12-31"}
	case dataset.Bytes:
		return []string{"AAA%3D", "AAAA", "%2B/8%3D"}
	}
	return []string{"SCL", "open", "paid\\,%20later", "back\\\\slash", "%5C", "%F0%9F%92%A9", "a%0Ab", "%EF%BF%BF", "="}
}

// hostileFilter compares a field with a value, or with many; now and then with a wrong one.
func hostileFilter(rng *rand.Rand, ds *dataset.Dataset) string {
	f := pick(rng, ds.Fields)
	ops := append(openapi.Operators(f.Type), "")
	if rng.IntN(8) == 0 {
		ops = []string{"eq", "ne", "gt", "gte", "lt", "lte", "in", "prefix", "exists", "like", "IN", "eq]["}
	}
	o := pick(rng, ops)
	value := pick(rng, goodValues(f.Type))
	switch {
	case o == "in":
		list := make([]string, 1+pick(rng, []int{0, 1, 2, 5, 99, 100, 150}))
		for i := range list {
			if list[i] = pick(rng, goodValues(f.Type)); f.Type == dataset.Int64 && rng.IntN(2) == 0 {
				list[i] = fmt.Sprint(i - 20)
			}
		}
		value = strings.Join(list, ",")
	case o == "exists":
		value = pick(rng, []string{"true", "false", "", "maybe"})
	case rng.IntN(10) == 0:
		value = pick(rng, nasty)
	}
	if o != "" {
		o = "[" + o + "]"
	}
	return f.Name + o + "=" + value
}

// randomFields is a list of fields, mostly good.
func randomFields(rng *rand.Rand, ds *dataset.Dataset) string {
	names := make([]string, 1+rng.IntN(4))
	for i := range names {
		names[i] = pick(rng, append(ds.FieldNames(), "id"))
	}
	if rng.IntN(10) == 0 {
		names = append(names, pick(rng, nasty))
	}
	return strings.Join(names, ",")
}

// hostileQuery is nearly a good query of a list, an aggregate or a tail.
func hostileQuery(rng *rand.Rand, ds *dataset.Dataset, kind string, cursors []string) string {
	var ps []string
	for range rng.IntN(4) {
		ps = append(ps, hostileFilter(rng, ds))
	}
	indexes := []string{"key", "nothing"}
	for _, ix := range ds.Indexes {
		indexes = append(indexes, ix.Name)
	}
	maybe := func(oneIn int, name string, values ...string) {
		if rng.IntN(oneIn) == 0 {
			ps = append(ps, name+"="+pick(rng, values))
		}
	}
	maybe(3, "scan", "allow", "allow", "no")
	maybe(6, "from", "2001-01-01", "-7d", "now", "-99999d", "9999-12-31", "never")
	maybe(6, "to", "2001-01-20", "now", "-1ms", "0000-01-01")
	if rng.IntN(5) == 0 {
		ps = append(ps, "fields="+randomFields(rng, ds))
	}
	if kind == "tail" && rng.IntN(3) > 0 {
		return strings.Join(ps, "&")
	}
	maybe(4, "index", indexes...)
	if kind == "aggregate" {
		maybe(2, "metric", "count", "count,avg:total,p95:order_no", "min:placed,max:status", "sum:nothing", "p99:delay_minutes", "sum:"+pick(rng, ds.FieldNames()), strings.Repeat("count,", 20)+"count")
		if rng.IntN(2) == 0 {
			ps = append(ps, "group_by="+randomFields(rng, ds))
		}
		maybe(3, "interval", "1h", "1d", "1s", "0s", "-1h", "9999999h", "1ns")
		return strings.Join(ps, "&")
	}
	maybe(4, "order", "asc", "desc")
	maybe(3, "limit", "1", "2", "1000", "0", "1001")
	maybe(4, "format", "json", "ndjson", "csv", "csv-safe", "xml")
	maybe(5, "count", "none", "estimated", "exact", "all")
	maybe(6, "explain", "true", "false", "1")
	maybe(6, "cursor", cursors...)
	return strings.Join(ps, "&")
}

// randomBatch is nearly the body of a good batch-get.
func randomBatch(rng *rand.Rand) string {
	ids := make([]string, pick(rng, []int{0, 1, 3, 100, 101}))
	for i := range ids {
		if ids[i] = fmt.Sprintf("%q", fmt.Sprint(i-20)); rng.IntN(50) == 0 {
			ids[i] = pick(rng, []string{`""`, `"~zz"`, `"1,2"`, "1", "null", `"` + strings.Repeat("A", 5000) + `"`, `"\ud800"`, `"\u0000"`, `["1"]`})
		}
	}
	body := `{"ids":[` + strings.Join(ids, ",") + `]`
	switch rng.IntN(8) {
	case 0:
		body += `,"fields":["status","total"]`
	case 1:
		body += pick(rng, []string{`,"fields":[]`, `,"fields":null`, `,"fields":["nothing"]`, `,"fields":["status,total"]`, `,"fields":[""]`, `,"more":1`, `,"ids":[]`, `,"IDS":["1"]`})
	case 2:
		return pick(rng, []string{"", "null", "[]", "{", `{"ids":`, `"ids"`, body + "}x", body + "}" + body + "}", strings.Repeat("[", 20_000), "\xff", `{"ids":[` + strings.Repeat(`"1",`, 300_000) + `"1"]}`})
	}
	return body + "}"
}

// surfaceRequest asks for something that the API has, nearly as it should.
func surfaceRequest(rng *rand.Rand, w *world, cursors []string) *http.Request {
	ds := pick(rng, w.decl.Datasets)
	if rng.IntN(2) == 0 {
		ds = w.decl.Dataset("orders")
	}
	kind := pick(rng, []string{"rows", "rows", "rows", "rows", "aggregate", "aggregate", "aggregate", "batch-get", "batch-get", "tail", "stats", "schema", "get", "get"})
	target, method, body := "/v1/datasets/"+ds.Name+"/"+kind, "GET", ""
	switch kind {
	case "rows", "aggregate", "tail":
		target += "?" + hostileQuery(rng, ds, kind, cursors)
	case "get":
		ids := []string{"7", "-20", "-0", "07", "999", "SCL,2001-01-01T09:00:00Z,GRU", "SCL,2001-01-01T09:00:00Z,~47RU", "2001-01-01", pick(rng, nasty)}
		target = "/v1/datasets/" + ds.Name + "/rows/" + pick(rng, ids)
		if rng.IntN(3) == 0 {
			target += "?fields=" + randomFields(rng, ds)
		}
	case "batch-get":
		target, method, body = "/v1/datasets/"+ds.Name+"/rows/batch-get", "POST", randomBatch(rng)
	}
	if rng.IntN(30) == 0 {
		target += pick(rng, []string{"&x=1", "?x=1", "&&&", "&limit=1&limit=2", "#", "/", "%2F"})
	}
	if method == "GET" && rng.IntN(10) == 0 {
		method = pick(rng, []string{"HEAD", "POST", "OPTIONS", "DELETE"})
	}
	u, err := url.ParseRequestURI(target)
	if err != nil || strings.ContainsAny(target, "\r\n ") {
		return nil
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Method, r.URL, r.RequestURI = method, u, target
	if body != "" {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		r.Header.Set("Content-Type", pick(rng, []string{"application/json", "application/json", "application/json", "application/json; charset=UTF-8", "application/x-ndjson", ""}))
	}
	surfaceHeaders(rng, r, kind)
	return r
}

func surfaceHeaders(rng *rand.Rand, r *http.Request, kind string) {
	set := func(oneIn int, name string, values ...string) {
		if rng.IntN(oneIn) == 0 {
			r.Header.Set(name, pick(rng, values))
		}
	}
	set(6, "Accept", "application/json", "application/x-ndjson", "text/csv", "text/event-stream", "*/*", "application/*;q=0.1, text/csv;q=0.9", "text/html", ";q=", "application/json;q=NaN")
	set(6, "Accept-Encoding", "gzip", "zstd", "gzip;q=0, zstd;q=1e400", "*", "br", "identity;q=0", strings.Repeat("gzip,", 1000))
	set(10, "If-None-Match", "*", `"x"`, "W/", strings.Repeat(`"a",`, 1000))
	set(15, "Content-Encoding", "gzip", "identity", "\xff")
	set(20, "Origin", "null", "http://example.com", "http://evil.example")
	set(20, "Sec-Fetch-Site", "cross-site", "same-origin", "none", "odd")
	if kind == "tail" {
		set(3, "Last-Event-ID", "t1.", "t1.AAAA", "v1.AAAA", strings.Repeat("A", 4000), "\xff")
	}
}

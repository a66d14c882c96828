package query

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/pkg/web"
)

func TestRowTags(t *testing.T) {
	t.Parallel()
	w := newWorld(t, strings.Replace(testYAML, "topic: flights-events", "topic: flights-events\n    api: {cache_max_age: 5s}", 1), Options{})
	w.addFlights()
	const path = "/v1/datasets/flights/rows/SCL,2001-01-01T09:00:00Z,GRU"
	first := w.do("GET", path, "")
	tag := first.Header().Get("Etag")
	if !strings.HasPrefix(tag, `"`) || first.Header().Get("Cache-Control") != "private, max-age=5" || first.Header().Get("Vary") != "Accept, Accept-Encoding" ||
		first.Header().Get("Last-Modified") != "Mon, 01 Jan 2001 09:00:00 GMT" || !strings.HasPrefix(first.Header().Get("Server-Timing"), "store;dur=") {
		t.Errorf("headers %v", first.Header())
	}
	for _, match := range []string{tag, "W/" + tag, `"x", ` + tag, "*"} {
		rec := w.do("GET", path, "", "If-None-Match", match)
		if rec.Code != http.StatusNotModified || rec.Body.Len() != 0 || rec.Header().Get("Etag") != tag || rec.Header().Get("Cache-Control") == "" {
			t.Errorf("If-None-Match %s: %d %v", match, rec.Code, rec.Header())
		}
	}
	for _, match := range []string{`"x"`, tag[:len(tag)-2] + `"`, ""} {
		if rec := w.do("GET", path, "", "If-None-Match", match); rec.Code != 200 {
			t.Errorf("If-None-Match %s: %d", match, rec.Code)
		}
	}
	if rec := w.do("GET", path+"?fields=origin", "", "If-None-Match", tag); rec.Code != 200 {
		t.Errorf("another projection has the same tag")
	}
	// The same key and event time again, with another value: the time tells nothing, the tag does.
	w.add("flights", `{"origin":"SCL","departed_at":"2001-01-01T09:00:00Z","destination":"GRU","delay_minutes":31}`)
	if rec := w.do("GET", path, "", "If-None-Match", tag); rec.Code != 200 || rec.Header().Get("Etag") == tag {
		t.Errorf("a replaced row kept its tag: %d", rec.Code)
	}
	if rec := w.do("GET", path, "", "If-Modified-Since", "Mon, 01 Jan 2001 09:00:00 GMT"); rec.Code != 200 {
		t.Errorf("the event time decided that a row has not changed: %d", rec.Code)
	}
	w.add("flights", `{"origin":"SCL","departed_at":"2099-01-01T09:00:00Z","destination":"GRU"}`)
	if got := w.do("GET", "/v1/datasets/flights/rows/SCL,2099-01-01T09:00:00Z,GRU", "").Header().Get("Last-Modified"); got != w.now.Format(http.TimeFormat) {
		t.Errorf("Last-Modified of an event in the future is %s", got)
	}
}

func TestPageTags(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{})
	w.addFlights()
	const path = "/v1/datasets/flights/rows?origin=SCL&limit=2"
	first := w.do("GET", path, "")
	tag := first.Header().Get("Etag")
	if !strings.HasPrefix(tag, `W/"`) || first.Header().Get("Cache-Control") != "private, no-cache" {
		t.Fatalf("headers %v", first.Header())
	}
	w.now = w.now.Add(time.Minute)
	if rec := w.do("GET", path, "", "If-None-Match", tag); rec.Code != http.StatusNotModified {
		t.Errorf("the same rows: %d", rec.Code)
	}
	if rec := w.do("GET", "/v1/datasets/flights/rows?origin=SCL&to=2001-01-01T10:00:00Z&limit=2", "", "If-None-Match", tag); rec.Code != 200 {
		t.Error("a page that is the last has the tag of one that is not")
	}
	w.add("flights", `{"origin":"SCL","departed_at":"2001-01-01T08:00:00Z","destination":"LIM","delay_minutes":1}`)
	if rec := w.do("GET", path, "", "If-None-Match", tag); rec.Code != 200 {
		t.Errorf("a changed row: %d", rec.Code)
	}
}

// decoded undoes the content coding of an answer.
func decoded(t *testing.T, rec *httptest.ResponseRecorder) string {
	t.Helper()
	var r io.Reader = rec.Body
	var err error
	switch rec.Header().Get("Content-Encoding") {
	case "gzip":
		r, err = gzip.NewReader(rec.Body)
	case "zstd":
		var d *zstd.Decoder
		d, err = zstd.NewReader(rec.Body)
		r = d
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestCompression(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{})
	for i := range 200 {
		w.add("tags", fmt.Sprintf(`{"name":"name-%04d","note":"a note that says the same each time"}`, i))
	}
	const path = "/v1/datasets/tags/rows?limit=200"
	plain := w.do("GET", path, "").Body.String()
	tags := map[string]bool{}
	for accept, want := range map[string]string{
		"gzip": "gzip", "zstd": "zstd", "gzip, deflate, br, zstd": "zstd", "gzip;q=1.0, zstd;q=0.5": "gzip", "*": "zstd", "br": "", "identity, gzip;q=0": "",
		"gzip;q=0.5, identity;q=1": "", "GZIP": "gzip", "gzip;q=x": "", "": "",
	} {
		rec := w.do("GET", path, "", "Accept-Encoding", accept)
		if got := rec.Header().Get("Content-Encoding"); got != want {
			t.Errorf("Accept-Encoding %q: coding %q, want %q", accept, got, want)
		}
		if want != "" && rec.Body.Len() > len(plain)/4 {
			t.Errorf("Accept-Encoding %q: %d of %d bytes", accept, rec.Body.Len(), len(plain))
		}
		if got := decoded(t, rec); got != plain {
			t.Errorf("Accept-Encoding %q: another body", accept)
		}
		export := w.do("GET", path+"&format=ndjson", "", "Accept-Encoding", accept)
		if got := decoded(t, export); strings.Count(got, "\n") != 201 || export.Header().Get("Content-Encoding") != want {
			t.Errorf("Accept-Encoding %q: export in %q of %d lines", accept, export.Header().Get("Content-Encoding"), strings.Count(got, "\n"))
		}
	}
	if rec := w.do("GET", "/v1/datasets/tags/rows/name-0001", "", "Accept-Encoding", "gzip"); rec.Header().Get("Content-Encoding") != "" {
		t.Error("a small row was compressed")
	}
	w.add("tags", `{"name":"long","note":"`+strings.Repeat("x", 5000)+`"}`)
	for _, accept := range []string{"gzip", "zstd", "br"} {
		rec := w.do("GET", "/v1/datasets/tags/rows/long", "", "Accept-Encoding", accept)
		tag := rec.Header().Get("Etag")
		if tags[tag] || strings.HasPrefix(tag, "W/") {
			t.Errorf("coding %s has tag %s", accept, tag)
		}
		tags[tag] = true
		if again := w.do("GET", "/v1/datasets/tags/rows/long", "", "Accept-Encoding", accept, "If-None-Match", tag); again.Code != http.StatusNotModified {
			t.Errorf("coding %s: %d", accept, again.Code)
		}
	}
}

func TestBatchGet(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{})
	for _, name := range []string{"a", "b", "batch-get"} {
		w.add("tags", fmt.Sprintf(`{"name":%q,"note":"of %s"}`, name, name))
	}
	const path = "/v1/datasets/tags/rows/batch-get"
	post := func(body string) *httptest.ResponseRecorder {
		return w.do("POST", path, body, "Content-Type", "application/json")
	}
	for body, want := range map[string]string{
		`{"ids":["b","none","a","b"]}`:              `{"data":[{"id":"b","name":"b","note":"of b"},{"id":"a","name":"a","note":"of a"},{"id":"b","name":"b","note":"of b"}],"missing":["none"]}`,
		`{"ids":["a"],"fields":["note"]}`:           `{"data":[{"id":"a","note":"of a"}],"missing":[]}`,
		`{"ids":["x~2Fy"],"fields":["id","name"]} `: `{"data":[],"missing":["x~2Fy"]}`,
	} {
		if rec := post(body); rec.Code != 200 || rec.Body.String() != want {
			t.Errorf("%s: %d %s", body, rec.Code, rec.Body)
		}
	}
	for body, code := range map[string]web.Code{
		`{"ids":[]}`: web.BadRequest, `{}`: web.BadRequest, `[]`: web.BadRequest, `{"ids":["a"]}{}`: web.BadRequest, `{"ids":["a"],"limit":5}`: web.BadRequest, `{"ids":"a"}`: web.BadRequest,
		`{"ids":["a,b"]}`: web.InvalidID, `{"ids":["a"],"fields":["nam"]}`: web.InvalidParameter, `{"ids":["a"],"fields":[""]}`: web.InvalidParameter,
		`{"ids":["` + strings.Repeat(`a","`, 100) + `a"]}`: web.BadRequest,
	} {
		if p := problemOf(t, post(body)); p.Code != code || p.Hint == "" {
			t.Errorf("%.60s: %+v", body, p)
		}
	}
	for body, detail := range map[string]string{
		`{"ids":"a"}`:                          "The body is not what a batch-get takes: ids: expected an array of strings, got string.",
		`{"ids":["a"],"fields":[1]}`:           "The body is not what a batch-get takes: fields: expected an array of strings, got number.",
		`[1]`:                                  "The body is not what a batch-get takes: expected a JSON object, got array.",
		`{"ids":["a"]`:                         "The body is not what a batch-get takes: it ends before the JSON object does.",
		`{"ids":["a",]}`:                       "The body is not what a batch-get takes: it is not JSON from byte 13 on.",
		`{"ids":["a"],"feilds":[]}`:            `The body is not what a batch-get takes: unknown field "feilds".`,
		`{"ids":["a"],"fields":[]}`:            "The body names no fields.",
		`{"ids":["a"],"fields":["name,note"]}`: `Parameter fields: tags has no field "name,note".`,
	} {
		if p := problemOf(t, post(body)); p.Detail != detail {
			t.Errorf("%s: %s", body, p.Detail)
		}
	}
	// A row may be called like the path beside it.
	if rec := w.do("GET", path, ""); rec.Code != 200 || !strings.Contains(rec.Body.String(), "of batch-get") {
		t.Errorf("the row batch-get: %d %s", rec.Code, rec.Body)
	}
	if p := problemOf(t, w.do("PUT", path, "")); p.Code != web.MethodNotAllowed {
		t.Errorf("%+v", p)
	}
}

const indexedYAML = `version: 1
name: latam
datasets:
  orders:
    fields:
      order_no: {type: int64, required: true}
      placed:   {type: timestamp, required: true}
      status:   {type: string}
    key: [order_no]
    time: placed
    indexes: {by_status: [status, placed], by_time: [placed]}
`

func (w *world) addOrders(n int) {
	for i := range n {
		status := []string{`"open"`, `"paid"`, `"shipped"`, `null`}[i%4]
		w.add("orders", fmt.Sprintf(`{"order_no":%d,"placed":"2001-01-01T%02d:00:00Z","status":%s}`, i, i%24, status))
	}
}

func TestIndexes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, indexedYAML, Options{})
	w.addOrders(12)
	const rows = "/v1/datasets/orders/rows?"
	for _, tt := range []struct{ query, ids, access string }{
		{"status=paid", "1,5,9", "index:by_status"},
		{"status=paid&order=desc", "9,5,1", "index:by_status"},
		{"status=paid&from=2001-01-01T05:00:00Z", "5,9", "index:by_status"},
		{"status[in]=shipped,open&limit=4", "0,4,8,2", "index:by_status"},
		{"status[prefix]=s", "2,6,10", "index:by_status"},
		{"status[exists]=false", "3,7,11", "index:by_status"},
		{"status[exists]", "0,4,8,1,5,9,2,6,10", "index:by_status"},
		{"status[lt]=p", "0,4,8", "index:by_status"},
		{"from=2001-01-01T10:00:00Z", "10,11", "index:by_time"},
		{"from=2001-01-01T10:00:00Z&status=paid&order_no=1", "", "index:by_status"},
		{"order_no=5&status=paid", "5", "key"},
		{"order_no[gte]=9", "9,10,11", "key"},
		{"index=by_time&order=desc&limit=2", "11,10", "index:by_time"},
		{"index=key&scan=allow&status=open", "0,4,8", "key"},
		{"status[ne]=open&scan=allow&limit=2", "1,2", "key"},
	} {
		p := w.page(rows + tt.query)
		if got := strings.Join(p.ids(), ","); got != tt.ids || p.Meta.Access != tt.access {
			t.Errorf("%s: %s by %s, want %s by %s", tt.query, got, p.Meta.Access, tt.ids, tt.access)
		}
	}
	// A row that moves is found under its new value only, though its old entry is still there.
	w.add("orders", `{"order_no":1,"placed":"2001-01-01T01:00:00Z","status":"shipped"}`)
	if got := strings.Join(w.page(rows+"status=paid").ids(), ","); got != "5,9" {
		t.Errorf("under the old value: %s", got)
	}
	if got := strings.Join(w.page(rows+"status=shipped").ids(), ","); got != "1,2,6,10" {
		t.Errorf("under the new value: %s", got)
	}
	if p := problemOf(t, w.do("GET", rows+"status[ne]=open", "")); p.Code != web.ScanRefused || !strings.Contains(p.Hint, "index:by_time") {
		t.Errorf("%+v", p)
	}
}

func TestIndexUnderConstruction(t *testing.T) {
	t.Parallel()
	w := newWorld(t, indexedYAML, Options{})
	w.addOrders(4)
	ds := w.decl.Dataset("orders")
	mark := w.store.tables["orders-by_status"].rows[dataset.IndexMark]
	old := mark
	old.Cells = []dataset.Cell{{Column: dataset.IndexMarkColumn, Value: []byte("made of other fields")}}
	w.store.put("orders-by_status", old)

	const rows = "/v1/datasets/orders/rows?"
	for _, query := range []string{"status=paid", "index=by_status"} {
		rec := w.do("GET", rows+query, "")
		if p := problemOf(t, rec); p.Code != web.IndexBuilding || rec.Header().Get("Retry-After") != "1" {
			t.Errorf("%s: %+v", query, p)
		}
	}
	if p := w.page(rows + "status=paid&from=2001-01-01"); p.Meta.Access != "index:by_time" {
		t.Errorf("read by %s", p.Meta.Access)
	}
	if body := w.do("GET", rows+"status=paid&explain=true", "").Body.String(); !strings.Contains(body, "not used: the index does not have all rows yet") {
		t.Error(body)
	}
	w.store.put(ds.IndexTable(ds.Index("by_status")), mark)
	if rec := w.do("GET", rows+"status=paid", ""); rec.Code != 503 {
		t.Errorf("it looks more often than it says: %d", rec.Code)
	}
	w.now = w.now.Add(time.Second)
	if p := w.page(rows + "status=paid"); len(p.Data) != 1 {
		t.Errorf("%d rows", len(p.Data))
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, indexedYAML, Options{})
	w.addOrders(12)
	explain := func(query string) (e explanation) {
		t.Helper()
		rec := w.do("GET", "/v1/datasets/orders/rows?explain=true&"+query, "")
		if err := json.Unmarshal(rec.Body.Bytes(), &e); err != nil || rec.Code != 200 {
			t.Fatalf("%d %s", rec.Code, rec.Body)
		}
		return e
	}
	e := explain("status[in]=paid,open&from=2001-01-01T04:00:00Z&order_no[ne]=5&fields=status&order=desc")
	want := &explained{Access: "index:by_status", Prefix: []string{"status"}, Range: "placed", Filtered: []string{"order_no"}, Ranges: 2,
		Note: "reads only the keys that begin with status, a range of placed"}
	if d := cmp.Diff(want, e.Plan); d != "" {
		t.Error(d)
	}
	if e.Order != "desc" || strings.Join(e.Columns, ",") != "order_no,status" || e.RowsToRead["value"] != 4.0 || e.RowsToRead["relation"] != "eq" || len(e.Considered) != 3 {
		t.Errorf("%+v", e)
	}
	e = explain("status[ne]=paid")
	if e.Plan != nil || e.Refused == nil || e.Refused.Code != web.ScanRefused || e.Considered[0].Note != "reads everything: no filter compares order_no, with which its keys begin" {
		t.Errorf("%+v", e)
	}
	if e := explain("order_no[gt]=5&order_no[lt]=5"); e.Plan.Ranges != 0 || e.RowsToRead["value"] != 0.0 {
		t.Errorf("%+v", e)
	}
}

func TestStats(t *testing.T) {
	t.Parallel()
	w := newWorld(t, indexedYAML, Options{MaxCountedRows: 10})
	w.service.deps.Activity = func(name string) (Activity, bool) {
		return Activity{Stored: 7, PerSecond: 1.5, InFlight: 2, Behind: 1500 * time.Millisecond, Paused: "store", LastCommit: w.now}, name == "orders"
	}
	get := func() (s stats) {
		t.Helper()
		rec := w.do("GET", "/v1/datasets/orders/stats", "")
		if err := json.Unmarshal(rec.Body.Bytes(), &s); err != nil || rec.Code != 200 {
			t.Fatalf("%d %s", rec.Code, rec.Body)
		}
		return s
	}
	if s := get(); s.Rows != (statsCount{0, "eq"}) || s.LastEventTime != "" || s.LagSeconds != nil || *s.Ingest != (statsIngest{7, 1.5, 2, 1.5, "store", "2001-02-01T12:00:00.000Z"}) {
		t.Errorf("%+v", s)
	}
	w.addOrders(10)
	if s := get(); s.Rows.Value != 0 {
		t.Error("the statistics were not reused")
	}
	w.now = w.now.Add(10 * time.Second)
	if s := get(); s.Rows != (statsCount{10, "eq"}) || s.FirstEventTime != "2001-01-01T00:00:00Z" || s.LastEventTime != "2001-01-01T09:00:00Z" || *s.LagSeconds != 2689210 || !s.Indexes[0].Built {
		t.Errorf("%+v", s)
	}
	w.addOrders(24)
	w.now = w.now.Add(10 * time.Second)
	if s := get(); s.Rows != (statsCount{10, "gte"}) || s.LastEventTime != "2001-01-01T23:00:00Z" {
		t.Errorf("beyond the bound, by the index: %+v", s)
	}
}

func TestExport(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{})
	w.addFlights()
	const rows = "/v1/datasets/flights/rows?"
	rec := w.do("GET", rows+"format=ndjson&fields=delay_minutes&origin=SCL", "")
	want := `{"id":"SCL,2001-01-01T08:00:00Z,LIM","delay_minutes":-3}
{"id":"SCL,2001-01-01T09:00:00Z,GRU","delay_minutes":30}
{"id":"SCL,2001-01-02T09:00:00Z,GRU"}
{"id":"SCL,2001-01-31T09:00:00Z,EZE","delay_minutes":15}
{"_end":true,"rows":4,"next_cursor":null}
`
	if d := cmp.Diff(want, rec.Body.String()); d != "" || rec.Header().Get("Content-Type") != "application/x-ndjson" || rec.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%s %v", d, rec.Header())
	}
	trailer := rec.Result().Trailer
	if trailer.Get(trailerEnd) != "complete" || trailer.Get(trailerRows) != "4" || trailer.Get(trailerCursor) != "" {
		t.Errorf("trailer %v", trailer)
	}
	rec = w.do("GET", rows+"fields=destination,delay_minutes&limit=2", "", "Accept", "text/csv")
	want = "id,destination,delay_minutes\r\n\"EZE,2001-01-01T10:00:00Z,SCL\",SCL,4\r\n\"SCL,2001-01-01T08:00:00Z,LIM\",LIM,-3\r\n"
	if d := cmp.Diff(want, rec.Body.String()); d != "" || rec.Header().Get("Content-Type") != "text/csv; charset=utf-8; header=present" {
		t.Errorf("%s %v", d, rec.Header())
	}
	trailer = rec.Result().Trailer
	if trailer.Get(trailerEnd) != "more" || trailer.Get(trailerRows) != "2" {
		t.Errorf("trailer %v", trailer)
	}
	rec = w.do("GET", rows+"format=csv&cursor="+trailer.Get(trailerCursor), "")
	if strings.Count(rec.Body.String(), "\r\n") != 5 || !strings.HasPrefix(rec.Body.String(), "id,destination,delay_minutes\r\n\"SCL,2001-01-01T09") {
		t.Errorf("the rest: %s", rec.Body)
	}
	if p := problemOf(t, w.do("GET", rows+"format=ndjson&limit=0", "")); p.Code != web.InvalidParameter {
		t.Errorf("%+v", p)
	}
}

// TestExportEnds looks at everything that ends an export before its last row: none may look like
// the end of the rows.
func TestExportEnds(t *testing.T) {
	t.Parallel()
	newExport := func(opts Options) *world {
		w := newWorld(t, testYAML, opts)
		for i := range 500 {
			w.add("tags", fmt.Sprintf(`{"name":"n%04d","note":"%s"}`, i, strings.Repeat("x", 1000)))
		}
		return w
	}
	end := func(rec *httptest.ResponseRecorder) (rows int, cursor string) {
		t.Helper()
		lines := strings.Split(strings.TrimSpace(rec.Body.String()), "\n")
		var e struct {
			End        bool `json:"_end"`
			Rows       int
			NextCursor string `json:"next_cursor"`
		}
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &e); err != nil || !e.End || e.Rows != len(lines)-1 {
			t.Fatalf("%d lines, the last is %.100s", len(lines), lines[len(lines)-1])
		}
		return e.Rows, e.NextCursor
	}
	const target = "/v1/datasets/tags/rows?format=ndjson"

	w := newExport(Options{})
	start := w.now
	w.service.deps.Now = func() time.Time { w.now = w.now.Add(3 * time.Minute); return w.now }
	first, cursor := end(w.do("GET", target, ""))
	w.service.deps.Now = func() time.Time { return start }
	if rest, more := end(w.do("GET", target+"&cursor="+cursor, "")); first == 0 || first+rest != 500 || more != "" {
		t.Errorf("time: %d rows, then %d", first, rest)
	}

	w = newExport(Options{})
	w.service.Drain()
	first, cursor = end(w.do("GET", target, ""))
	if first == 0 || first == 500 || cursor == "" {
		t.Errorf("drain: %d rows", first)
	}

	w = newExport(Options{})
	w.store.put("tags", dataset.Row{Key: "n0400\x00\x01", Cells: []dataset.Cell{{Column: "name", Value: []byte("\xff\xff\xfe")}}})
	func() {
		defer func() {
			if cause := recover(); cause != http.ErrAbortHandler {
				t.Errorf("a row that cannot be read in the middle: %v", cause)
			}
		}()
		w.do("GET", target, "")
	}()
	w.store.err = store.ErrUnavailable
	if p := problemOf(t, w.do("GET", target, "")); p.Code != web.Unavailable {
		t.Errorf("before the first row: %+v", p)
	}
}

package query

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/web"
)

func TestDocuments(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{})
	if body := w.do("GET", "/healthz", "").Body.String(); body != `{"status":"ok"}` {
		t.Errorf("healthz %s", body)
	}
	if body := w.do("GET", "/", "").Body.String(); body != `{"links":{"datasets":"/v1/datasets","docs":"/docs","health":"/healthz","openapi":"/openapi.json"},"name":"latamctl"}` {
		t.Errorf("index %s", body)
	}
	var list struct{ Data []struct{ Name string } }
	if err := json.Unmarshal(w.do("GET", "/v1/datasets", "").Body.Bytes(), &list); err != nil || len(list.Data) != 3 || list.Data[0].Name != "flights" {
		t.Errorf("datasets %+v %v", list, err)
	}
	var got map[string]any
	if err := json.Unmarshal(w.do("GET", "/v1/datasets/flights", "").Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	delete(got, "limits")
	got["fields"] = got["fields"].([]any)[:5]
	ops := []any{"eq", "ne", "gt", "gte", "lt", "lte", "in", "exists"}
	texts := []any{"eq", "ne", "gt", "gte", "lt", "lte", "in", "prefix", "exists"}
	want := map[string]any{
		"name": "flights", "description": "Departures and their delay", "time": "departed_at", "retention": "36500d", "topic": "flights-events",
		"key": []any{"origin", "departed_at", "destination"}, "auth": "none",
		"links": map[string]any{"self": "/v1/datasets/flights", "rows": "/v1/datasets/flights/rows", "schema": "/v1/datasets/flights/schema",
			"row": "/v1/datasets/flights/rows/{id}", "batch_get": "/v1/datasets/flights/rows/batch-get", "aggregate": "/v1/datasets/flights/aggregate",
			"stats": "/v1/datasets/flights/stats", "tail": "/v1/datasets/flights/tail", "records": "/v1/datasets/flights/records"},
		"fields": []any{
			map[string]any{"name": "origin", "type": "string", "description": "IATA code", "required": true, "key": true, "pattern": "^[A-Z]{3}$", "operators": texts},
			map[string]any{"name": "departed_at", "type": "timestamp", "required": true, "key": true, "operators": ops},
			map[string]any{"name": "destination", "type": "string", "required": true, "key": true, "pattern": "^[A-Z]{3}$", "operators": texts},
			map[string]any{"name": "delay_minutes", "type": "int64", "required": false, "key": false, "operators": ops},
			map[string]any{"name": "distance_miles", "type": "int64", "required": false, "key": false, "minimum": 0.0, "operators": ops},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestGet(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{})
	w.addFlights()
	const id = "SCL,2001-01-01T09:00:00Z,GRU"
	const path = "/v1/datasets/flights/rows/"
	want := `{"id":"` + id + `","origin":"SCL","departed_at":"2001-01-01T09:00:00Z","destination":"GRU","delay_minutes":30,"crew":["a","b"],"late":true}`
	for _, target := range []string{path + id, path + "SCL,2001-01-01T06:00:00-03:00,GRU", path + "SCL%2C2001-01-01T09%3A00%3A00Z%2CGRU"} {
		rec := w.do("GET", target, "")
		if rec.Code != 200 || rec.Body.String() != want || rec.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s", target, rec.Code, rec.Body)
		}
	}
	if rec := w.do("HEAD", path+id, ""); rec.Code != 200 || rec.Header().Get("Content-Length") != fmt.Sprint(len(want)) {
		t.Errorf("HEAD: %d %v", rec.Code, rec.Header())
	}
	rec := w.do("GET", path+id+"?fields=delay_minutes,id,origin", "")
	if rec.Body.String() != `{"id":"`+id+`","delay_minutes":30,"origin":"SCL"}` {
		t.Errorf("projection: %s", rec.Body)
	}
	if d := cmp.Diff([]string{"origin", "delay_minutes"}, w.store.columns); d != "" {
		t.Error(d)
	}
	if rec := w.do("GET", path+id+"?fields=id", ""); rec.Body.String() != `{"id":"`+id+`"}` {
		t.Errorf("id alone: %s", rec.Body)
	}
}

func TestListPlans(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{})
	w.addFlights()
	const (
		eze  = "EZE,2001-01-01T10:00:00Z,SCL"
		scl1 = "SCL,2001-01-01T08:00:00Z,LIM"
		scl2 = "SCL,2001-01-01T09:00:00Z,GRU"
		scl3 = "SCL,2001-01-02T09:00:00Z,GRU"
		scl4 = "SCL,2001-01-31T09:00:00Z,EZE"
		uio  = "UIO,2001-01-03T00:00:00Z,SCL"
	)
	all := []string{eze, scl1, scl2, scl3, scl4, uio}
	for _, tt := range []struct {
		query    string
		ids      []string
		prefix   string
		ranged   string
		filtered string
		scanned  int
	}{
		{"", all, "", "", "", 6},
		{"scan=allow", all, "", "", "", 6},
		{"order=asc", all, "", "", "", 6},
		{"order=desc", []string{uio, scl4, scl3, scl2, scl1, eze}, "", "", "", 6},
		{"origin=SCL", []string{scl1, scl2, scl3, scl4}, "origin", "", "", 4},
		{"origin[eq]=SCL&order=desc", []string{scl4, scl3, scl2, scl1}, "origin", "", "", 4},
		{"origin[gt]=EZE", []string{scl1, scl2, scl3, scl4, uio}, "", "origin", "", 5},
		{"origin[gte]=EZE&origin[lt]=UIO", []string{eze, scl1, scl2, scl3, scl4}, "", "origin", "", 5},
		{"origin[lte]=SCL", []string{eze, scl1, scl2, scl3, scl4}, "", "origin", "", 5},
		{"origin[lt]=SCL&origin[lte]=UIO", []string{eze}, "", "origin", "", 1},
		{"origin[gt]=SCL&origin[lt]=SCL", nil, "", "origin", "", 0},
		{"origin[gte]=SCL&origin[lte]=SCL", []string{scl1, scl2, scl3, scl4}, "", "origin", "", 4},
		{"origin=SCL&departed_at=2001-01-01T09:00:00Z", []string{scl2}, "origin,departed_at", "", "", 1},
		{"origin=SCL&departed_at=2001-01-01T09:00:00Z&destination=GRU", []string{scl2}, "origin,departed_at,destination", "", "", 1},
		{"origin=SCL&departed_at=2001-01-01T09:00:00Z&destination[gt]=GRU", nil, "origin,departed_at", "destination", "", 0},
		{"origin=SCL&departed_at[gte]=2001-01-02", []string{scl3, scl4}, "origin", "departed_at", "", 2},
		{"origin=SCL&departed_at[gt]=2001-01-01T08:00:00Z&departed_at[lt]=2001-01-31T09:00:00Z", []string{scl2, scl3}, "origin", "departed_at", "", 2},
		{"origin=SCL&from=2001-01-01T09:00:00Z&to=2001-01-02T09:00:00Z", []string{scl2}, "origin", "departed_at", "", 1},
		{"origin=SCL&from=2001-01-01&to=2001-01-03&departed_at[gt]=2001-01-01T08:00:00Z", []string{scl2, scl3}, "origin", "departed_at", "", 2},
		{"origin=SCL&from=-7d", []string{scl4}, "origin", "departed_at", "", 1},
		{"origin=SCL&from=-31d&to=now", []string{scl3, scl4}, "origin", "departed_at", "", 2},
		{"origin=SCL&departed_at=2001-01-01T12:00:00+03:00", []string{scl2}, "origin,departed_at", "", "", 1},
		{"origin=SCL&from=2001-01-02T06:00:00-03:00", []string{scl3, scl4}, "origin", "departed_at", "", 2},
		{"origin=SCL&destination=GRU", []string{scl2, scl3}, "origin", "", "destination", 4},
		{"origin=SCL&delay_minutes[gte]=15", []string{scl2, scl4}, "origin", "", "delay_minutes", 4},
		{"origin=SCL&late=true", []string{scl2}, "origin", "", "late", 4},
		{"origin=SCL&photo=%2F%2F8%3D", []string{scl4}, "origin", "", "photo", 4},
		{"origin[gte]=SCL&delay_minutes[lte]=0", []string{scl1, uio}, "", "origin", "delay_minutes", 5},
		{"origin[gte]=SCL&from=2001-01-03", []string{scl4, uio}, "", "origin", "departed_at", 5},
		{"delay_minutes=30&scan=allow", []string{scl2}, "", "", "delay_minutes", 6},
		{"from=2001-01-02&scan=allow&order=desc", []string{uio, scl4, scl3}, "", "", "departed_at", 6},
		{"origin=SCL&origin[gt]=AAA", []string{scl1, scl2, scl3, scl4}, "origin", "", "origin", 4},
	} {
		p := w.page("/v1/datasets/flights/rows?" + tt.query)
		if d := cmp.Diff(append([]string{}, tt.ids...), p.ids()); d != "" {
			t.Errorf("%s: %s", tt.query, d)
		}
		if got := strings.Join(p.Meta.Prefix, ","); got != tt.prefix {
			t.Errorf("%s: prefix %s", tt.query, got)
		}
		if got := strings.Join(p.Meta.Filtered, ","); p.Meta.Range != tt.ranged || got != tt.filtered {
			t.Errorf("%s: range %s, filtered %s", tt.query, p.Meta.Range, got)
		}
		if p.Meta.RowsScanned != tt.scanned || p.NextCursor != nil || p.NextURL != nil {
			t.Errorf("%s: %d rows read, next %v", tt.query, p.Meta.RowsScanned, p.NextCursor)
		}
		if p.Meta.Access != "key" || p.Meta.Dataset != "flights" || p.Meta.AsOf != "2001-02-01T12:00:00.000Z" {
			t.Errorf("%s: meta %+v", tt.query, p.Meta)
		}
	}
}

func TestDateAsTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{})
	for day := 1; day <= 4; day++ {
		w.add("days", fmt.Sprintf(`{"day":"2001-01-%02d"}`, day))
	}
	for query, want := range map[string][]string{
		"from=2001-01-02":           {"2001-01-02", "2001-01-03", "2001-01-04"},
		"from=2001-01-02T00:00:01Z": {"2001-01-03", "2001-01-04"},
		"to=2001-01-03":             {"2001-01-01", "2001-01-02"},
		"to=2001-01-03T00:00:01Z":   {"2001-01-01", "2001-01-02", "2001-01-03"},
		"from=2001-01-02T10:00:00Z&to=2001-01-02T11:00:00Z":      {},
		"day[gte]=2001-01-02&to=2001-01-04T00:00:00Z&order=desc": {"2001-01-03", "2001-01-02"},
		"from=-30d": {"2001-01-03", "2001-01-04"},
	} {
		if d := cmp.Diff(want, w.page("/v1/datasets/days/rows?"+query).ids()); d != "" {
			t.Errorf("%s: %s", query, d)
		}
	}
}

func TestProjectionReadsOnlyWhatItNeeds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{})
	w.addFlights()
	p := w.page("/v1/datasets/flights/rows?origin=SCL&fields=distance_miles,departed_at&delay_minutes[lt]=0")
	want := []map[string]any{{"id": "SCL,2001-01-01T08:00:00Z,LIM", "distance_miles": 1500.0, "departed_at": "2001-01-01T08:00:00Z"}}
	if d := cmp.Diff(want, p.Data); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"origin", "departed_at", "delay_minutes", "distance_miles"}, w.store.scans[0].Columns); d != "" {
		t.Error(d)
	}
}

func TestAFieldAddedLaterHidesNoRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{})
	w.addFlights()
	for key, row := range w.store.tables["flights"].rows {
		row.Cells = slices.DeleteFunc(row.Cells, func(c dataset.Cell) bool { return c.Column == "photo" })
		w.store.tables["flights"].rows[key] = row
	}
	if p := w.page("/v1/datasets/flights/rows?fields=photo"); len(p.Data) != 6 {
		t.Errorf("%d rows of 6", len(p.Data))
	}
	if rec := w.do("GET", "/v1/datasets/flights/rows/EZE,2001-01-01T10:00:00Z,SCL?fields=photo", ""); rec.Code != 200 {
		t.Errorf("get: %s", rec.Body)
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{})
	w.addFlights()
	first := w.page("/v1/datasets/flights/rows?origin=SCL&from=2001-01-01&limit=2")
	if len(first.Data) != 2 || first.NextCursor == nil || first.Meta.RowsScanned != 3 {
		t.Fatalf("%+v", first)
	}
	rec := w.do("GET", "/v1/datasets/flights/rows?origin=SCL&from=2001-01-01&limit=2", "")
	if link := rec.Header().Get("Link"); !strings.HasPrefix(link, "</v1/datasets/flights/rows?from=2001-01-01&origin=SCL&cursor=v1.") || !strings.HasSuffix(link, `&limit=2>; rel="next"`) {
		t.Errorf("link %s", link)
	}
	cursor := *first.NextCursor
	for name, target := range map[string]string{
		"next_url":          *first.NextURL,
		"cursor alone":      "/v1/datasets/flights/rows?limit=2&cursor=" + cursor,
		"other order":       "/v1/datasets/flights/rows?cursor=" + cursor + "&limit=2&from=2001-01-01&origin=SCL",
		"another limit":     "/v1/datasets/flights/rows?cursor=" + cursor + "&limit=1000",
		"order spelled out": "/v1/datasets/flights/rows?cursor=" + cursor + "&order=asc&from=2001-01-01&origin=SCL",
	} {
		p := w.page(target)
		if d := cmp.Diff([]string{"SCL,2001-01-02T09:00:00Z,GRU", "SCL,2001-01-31T09:00:00Z,EZE"}, p.ids()); d != "" || p.NextCursor != nil {
			t.Errorf("%s: %s next %v", name, d, p.NextCursor)
		}
	}
}

func TestRelativeTimesStayFixedDuringAWalk(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{})
	w.addFlights()
	first := w.page("/v1/datasets/flights/rows?origin=SCL&from=-32d&limit=1")
	w.now = w.now.Add(5 * 24 * time.Hour) // a fresh -32d would now leave out the rows of the first days
	rest := w.page(*first.NextURL + "00")
	if d := cmp.Diff([]string{"SCL,2001-01-02T09:00:00Z,GRU", "SCL,2001-01-31T09:00:00Z,EZE"}, append(first.ids()[1:], rest.ids()[len(rest.ids())-2:]...)); d != "" {
		t.Error(d)
	}
	if got := len(first.ids()) + len(rest.ids()); got != 4 {
		t.Errorf("%d rows in the walk, expected 4", got)
	}
}

func TestLongQueriesAreNotSealedAndNotTooLongForAURL(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{})
	name := strings.Repeat("n", 1500)
	for i := range 3 {
		w.add("tags", fmt.Sprintf(`{"name":"%s%d","note":"x"}`, name, i))
	}
	long := "/v1/datasets/tags/rows?limit=1&name[gte]=" + name
	p := w.page(long)
	if rec := w.do("GET", "/v1/datasets/tags/rows?cursor="+*p.NextCursor, ""); problemOf(t, rec).Code != web.CursorMismatch {
		t.Error("a long query was taken from its cursor")
	}
	if again := w.page(*p.NextURL); len(again.Data) != 1 || again.ids()[0] != name+"1" {
		t.Errorf("next page %v", again.ids())
	}
	// Short enough for one request, too long together with its cursor.
	var q strings.Builder
	for _, f := range []string{"name[gte]", "name[gt]"} {
		q.WriteString("&" + f + "=" + name)
	}
	q.WriteString("&name[lte]=" + strings.Repeat("z", 3500))
	rec := w.do("GET", "/v1/datasets/tags/rows?limit=1"+q.String(), "")
	if problemOf(t, rec).Code != web.URITooLong {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	// A short query with a long key: only the cursor fits, and carries the query.
	w = newWorld(t, testYAML, Options{MaxURLBytes: 3000})
	for i := range 2 {
		w.add("tags", fmt.Sprintf(`{"name":"%s%d"}`, strings.Repeat("k", 1000), i))
	}
	p = w.page("/v1/datasets/tags/rows?limit=1&name[lte]=" + strings.Repeat("z", 900))
	if strings.Contains(*p.NextURL, "name") || len(w.page(*p.NextURL).Data) != 1 {
		t.Errorf("next url %.200s", *p.NextURL)
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	t.Run("rows read", func(t *testing.T) {
		w := newWorld(t, testYAML, Options{MaxScannedRows: 2})
		w.addFlights()
		target := "/v1/datasets/flights/rows?origin=SCL&destination=EZE"
		var sizes []int
		for p := w.page(target); ; p = w.page(*p.NextURL) {
			sizes = append(sizes, len(p.Data))
			if p.Meta.RowsScanned > 3 {
				t.Errorf("%d rows read", p.Meta.RowsScanned)
			}
			if p.NextCursor == nil {
				break
			}
		}
		if d := cmp.Diff([]int{0, 1}, sizes); d != "" {
			t.Error(d)
		}
	})
	t.Run("bytes", func(t *testing.T) {
		w := newWorld(t, testYAML, Options{MaxPageBytes: 250})
		w.addFlights()
		rows := 0
		for p := w.page("/v1/datasets/flights/rows"); ; p = w.page(*p.NextURL) {
			rows += len(p.Data)
			if len(p.Data) == 0 || len(p.Data) > 2 {
				t.Fatalf("a page of %d rows", len(p.Data))
			}
			if p.NextCursor == nil {
				break
			}
		}
		if rows != 6 {
			t.Errorf("%d rows of 6", rows)
		}
	})
	t.Run("time", func(t *testing.T) {
		w := newWorld(t, testYAML, Options{})
		for i := range 200 {
			w.add("days", fmt.Sprintf(`{"day":"%s"}`, time.Unix(int64(i)*86400, 0).UTC().Format(time.DateOnly)))
		}
		w.store.before = func(context.Context) { w.now = w.now.Add(6 * time.Second) }
		if p := w.page("/v1/datasets/days/rows?limit=1000"); len(p.Data) != checkClockEvery-1 || p.NextCursor == nil {
			t.Errorf("%d rows, next %v", len(p.Data), p.NextCursor)
		}
	})
	t.Run("deadlines reach the store", func(t *testing.T) {
		w := newWorld(t, testYAML, Options{})
		w.addFlights()
		for target, limit := range map[string]time.Duration{"/v1/datasets/flights/rows": 10 * time.Second, "/v1/datasets/flights/rows/EZE,2001-01-01T10:00:00Z,SCL": 2 * time.Second} {
			w.store.before = func(ctx context.Context) {
				at, ok := ctx.Deadline()
				if left := time.Until(at); !ok || left > limit || left < limit-time.Second {
					t.Errorf("%s: deadline %v, %s left", target, ok, left)
				}
			}
			w.do("GET", target, "")
		}
	})
}

func TestOverload(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{MaxConcurrentLists: 1, QueueTimeout: time.Millisecond})
	w.addFlights()
	entered, release := make(chan struct{}), make(chan struct{})
	var first = true
	w.store.before = func(context.Context) {
		if first {
			first = false
			close(entered)
			<-release
		}
	}
	done := make(chan int)
	go func() { done <- w.do("GET", "/v1/datasets/flights/rows", "").Code }()
	<-entered
	rec := w.do("GET", "/v1/datasets/flights/rows", "")
	if p := problemOf(t, rec); p.Code != web.Overloaded || rec.Header().Get("Retry-After") != "1" {
		t.Errorf("%s", rec.Body)
	}
	if rec := w.do("GET", "/v1/datasets/days/rows", ""); rec.Code != 200 {
		t.Errorf("another dataset is held up too: %d", rec.Code)
	}
	close(release)
	if status := <-done; status != 200 {
		t.Errorf("the running request: %d", status)
	}
	if rec := w.do("GET", "/v1/datasets/flights/rows", ""); rec.Code != 200 {
		t.Errorf("after it: %d", rec.Code)
	}
}

func TestWaitingInLineIsServed(t *testing.T) {
	t.Parallel()
	g := newGate(1, 10*time.Second)
	if p := g.enter(context.Background()); p != nil {
		t.Fatal(p)
	}
	entered := make(chan *web.Problem)
	go func() { entered <- g.enter(context.Background()) }()
	g.leave()
	if p := <-entered; p != nil {
		t.Error(p)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if p := g.enter(ctx); p == nil || p.Code != web.ClientClosed {
		t.Errorf("%v", p)
	}
}

func TestAccept(t *testing.T) {
	t.Parallel()
	for accept, ok := range map[string]bool{
		"": true, "*/*": true, "application/json": true, "application/*": true, "text/html, */*;q=0.1": true,
		"application/json; charset=utf-8": true, "text/html": false, "application/xml": false, "*/*;q=0": false,
		"application/problem+json": false, "garbage": false, ";;;": false,
	} {
		h := http.Header{}
		if accept != "" {
			h.Set("Accept", accept)
		}
		if _, got := web.Accept(h, typeJSON); got != ok {
			t.Errorf("%q: %v", accept, got)
		}
	}
}

func TestNewRefusesBadInput(t *testing.T) {
	t.Parallel()
	good := Deps{Declaration: load(t, testYAML), Store: newFakeStore(), Publisher: &fakeBus{}}
	if _, err := New(Options{}, good); err != nil {
		t.Fatal(err)
	}
	short := good
	short.CursorKey = []byte("short")
	if _, err := New(Options{}, short); err == nil {
		t.Error("a short cursor key was accepted")
	}
	if _, err := New(Options{}, Deps{}); err == nil {
		t.Error("no dependencies were accepted")
	}
	if _, err := New(Options{MaxFilters: -1, ListTimeout: time.Hour}, good); err == nil || !strings.Contains(err.Error(), "filters") || !strings.Contains(err.Error(), "list timeout") {
		t.Errorf("options: %v", err)
	}
}

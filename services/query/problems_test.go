package query

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/pkg/web"
)

// TestProblems has one case or more for each code that the service itself writes.
func TestProblems(t *testing.T) {
	t.Parallel()
	const rows = "/v1/datasets/flights/rows"
	const records = "/v1/datasets/flights/records"
	const someID = rows + "/SCL,2001-01-01T09:00:00Z,GRU"
	const good = `{"origin":"SCL","departed_at":"2001-01-01T08:00:00Z","destination":"LIM"}`
	get := func(target string) func(*world) *httptest.ResponseRecorder {
		return func(w *world) *httptest.ResponseRecorder { return w.do("GET", target, "") }
	}
	storeFails := func(err error, target string) func(*world) *httptest.ResponseRecorder {
		return func(w *world) *httptest.ResponseRecorder {
			w.store.err = fmt.Errorf("scan table secret-table: %w", err)
			return w.do("GET", target, "")
		}
	}
	post := func(contentType, body string) func(*world) *httptest.ResponseRecorder {
		return func(w *world) *httptest.ResponseRecorder {
			return w.do("POST", records, body, "Content-Type", contentType)
		}
	}
	busFails := func(err error) func(*world) *httptest.ResponseRecorder {
		return func(w *world) *httptest.ResponseRecorder {
			w.bus.err = err
			return w.do("POST", records, good, "Content-Type", "application/json")
		}
	}
	cursorOf := func(w *world, target string) string { return *w.page(target).NextCursor }
	seen := map[web.Code]bool{}
	for _, tt := range []struct {
		name string
		do   func(*world) *httptest.ResponseRecorder
		code web.Code
		says []string
	}{
		{"path", get("/v2"), web.NotFound, nil},
		{"dataset", get("/v1/datasets/fligths/rows"), web.DatasetNotFound, []string{"fligths", "Did you mean flights?"}},
		{"dataset far off", get("/v1/datasets/zzzzzzzz"), web.DatasetNotFound, []string{"GET /v1/datasets"}},
		{"method", func(w *world) *httptest.ResponseRecorder { return w.do("DELETE", someID, "") }, web.MethodNotAllowed, []string{"GET, HEAD, OPTIONS"}},
		{"get records", get(records), web.MethodNotAllowed, []string{"OPTIONS, POST"}},
		{"accept", func(w *world) *httptest.ResponseRecorder { return w.do("GET", rows, "", "Accept", "text/html") }, web.NotAcceptable, []string{"text/csv"}},
		{"accept against format", func(w *world) *httptest.ResponseRecorder {
			return w.do("GET", rows+"?format=csv", "", "Accept", "application/json")
		}, web.NotAcceptable, []string{"text/csv"}},
		{"format", get(rows + "?format=xml"), web.InvalidParameter, []string{"json, ndjson, csv, csv-safe"}},
		{"count of an export", get(rows + "?format=csv&count=exact"), web.InvalidParameter, []string{"last line"}},
		{"count", get(rows + "?count=yes"), web.InvalidParameter, []string{"none, estimated, exact"}},
		{"explain", get(rows + "?explain=1"), web.InvalidParameter, []string{"true, false"}},
		{"index", get(rows + "?index=by_destinaton"), web.InvalidParameter, []string{"Possible: key"}},
		{"empty value of a list", get(rows + "?origin[in]=SCL,,LIM"), web.InvalidParameter, []string{"empty"}},
		{"type in a list", get(rows + "?origin=SCL&delay_minutes[in]=1,two"), web.InvalidParameter, []string{"int64", "two"}},
		{"long list", get(rows + "?delay_minutes[in]=" + strings.Repeat("1,", 100) + "1"), web.InvalidParameter, []string{"101 values", "100"}},
		{"exists", get(rows + "?origin=SCL&late[exists]=maybe"), web.InvalidParameter, []string{"true, false"}},
		{"prefix of a number", get(rows + "?origin=SCL&delay_minutes[prefix]=1"), web.InvalidParameter, []string{"prefix"}},
		{"accept q=0", func(w *world) *httptest.ResponseRecorder {
			return w.do("GET", "/v1/datasets", "", "Accept", "application/json;q=0")
		}, web.NotAcceptable, nil},
		{"no row", get(rows + "/SCL,2001-01-01T09:00:00Z,AAA"), web.RowNotFound, nil},
		{"id parts", get(rows + "/SCL"), web.InvalidID, []string{"3 parts", "origin,departed_at,destination"}},
		{"id time", get(rows + "/SCL,soon,GRU"), web.InvalidID, []string{"departed_at", "timestamp"}},
		{"id escape", get(rows + "/SCL,2001-01-01T09:00:00Z,~G"), web.InvalidID, []string{"part 3"}},
		{"id 4 KiB", get(rows + "/" + strings.Repeat("A", 4096)), web.InvalidID, nil},
		{"get parameter", get(someID + "?origin=SCL"), web.UnknownParameter, nil},
		{"document parameter", get("/v1/datasets?limit=5"), web.UnknownParameter, nil},
		{"unknown field", get(rows + "?orgin=SCL"), web.UnknownParameter, []string{"Did you mean origin?"}},
		{"unknown field with operator", get(rows + "?orgin[gt]=SCL"), web.UnknownParameter, []string{"Did you mean origin?"}},
		{"misspelt general parameter", get(rows + "?limt=5"), web.UnknownParameter, []string{"Did you mean limit?"}},
		{"operator on a general parameter", get(rows + "?limit[gt]=5"), web.UnknownParameter, nil},
		{"id as parameter", get(rows + "?id=5"), web.UnknownParameter, []string{"/rows/{id}"}},
		{"type", get(rows + "?origin=SCL&delay_minutes=ten"), web.InvalidParameter, []string{"delay_minutes", "int64", `"field":"delay_minutes"`}},
		{"base64", get(rows + "?origin=SCL&photo=+A=="), web.InvalidParameter, []string{"base64", "%2B"}},
		{"operator", get(rows + "?origin[like]=S"), web.InvalidParameter, []string{"like", "[eq], [ne], [gt], [gte], [lt], [lte], [in], [prefix], [exists]"}},
		{"operator of bool", get(rows + "?origin=SCL&late[gt]=false"), web.InvalidParameter, []string{"bool", "[eq]"}},
		{"json field", get(rows + "?origin=SCL&crew=1"), web.InvalidParameter, []string{"json", "Supported: [exists]"}},
		{"duplicate", get(rows + "?origin=SCL&origin=LIM"), web.InvalidParameter, []string{"twice"}},
		{"duplicate limit", get(rows + "?limit=5&limit=5"), web.InvalidParameter, []string{"twice"}},
		{"duplicate bound", get(rows + "?origin[gt]=A&origin%5Bgt%5D=B"), web.InvalidParameter, []string{"twice"}},
		{"duplicate equality", get(rows + "?origin=SCL&origin[eq]=LIM"), web.InvalidParameter, []string{"twice"}},
		{"empty", get(rows + "?origin="), web.InvalidParameter, []string{"empty"}},
		{"no value", get(rows + "?origin"), web.InvalidParameter, []string{"empty"}},
		{"nul", get(rows + "?origin=%00"), web.InvalidParameter, nil},
		{"bad utf-8", get(rows + "?origin=%ff"), web.InvalidParameter, nil},
		{"bad escape in a name", get(rows + "?%zz=1"), web.BadRequest, nil},
		{"limit 0", get(rows + "?limit=0"), web.InvalidParameter, []string{"1 to 1000"}},
		{"limit -1", get(rows + "?limit=-1"), web.InvalidParameter, []string{"1 to 1000"}},
		{"limit 1001", get(rows + "?limit=1001"), web.InvalidParameter, []string{"1 to 1000"}},
		{"limit 1e9", get(rows + "?limit=1e9"), web.InvalidParameter, []string{"1 to 1000"}},
		{"limit NaN", get(rows + "?limit=NaN"), web.InvalidParameter, []string{"1 to 1000"}},
		{"order", get(rows + "?order=down"), web.InvalidParameter, []string{"desc, asc"}},
		{"scan", get(rows + "?scan=yes"), web.InvalidParameter, []string{"allow"}},
		{"fields", get(rows + "?fields=origin,delay_minute"), web.InvalidParameter, []string{"Did you mean delay_minutes?"}},
		{"fields twice", get(rows + "?fields=origin,origin"), web.InvalidParameter, nil},
		{"fields empty part", get(rows + "?fields=origin,"), web.InvalidParameter, nil},
		{"from", get(rows + "?origin=SCL&from=yesterday"), web.InvalidParameter, []string{"-15m"}},
		{"from without time", get("/v1/datasets/tags/rows?from=now"), web.InvalidParameter, []string{"no time field"}},
		{"too many filters", get(rows + "?origin=SCL&from=now&to=now&delay_minutes=1&delay_minutes[lt]=1&delay_minutes[gt]=1&delay_minutes[gte]=1&delay_minutes[lte]=1&distance_miles=1&distance_miles[lt]=1&distance_miles[gt]=1&distance_miles[gte]=1&distance_miles[lte]=1&late=true&photo=AAAA&photo[lt]=AAAA&photo[gt]=AAAA"), web.InvalidParameter, []string{"16"}},
		{"scan refused", get(rows + "?delay_minutes=1&late=true"), web.ScanRefused, []string{"scan=allow", "origin", `"usable":[{"access":"key","fields":["origin","departed_at","destination"]}]`, "NOT_A_KEY_PREFIX"}},
		{"scan refused for times", get(rows + "?from=2001-01-01"), web.ScanRefused, []string{"from"}},
		{"scan refused in the middle of the key", get(rows + "?destination=SCL"), web.ScanRefused, nil},
		{"index being built", func(w *world) *httptest.ResponseRecorder {
			i := newWorld(t, indexedYAML, Options{})
			delete(i.store.tables, "orders-by_time")
			return i.do("GET", "/v1/datasets/orders/rows?index=by_time", "")
		}, web.IndexBuilding, []string{"by_time", "order_no"}},
		{"cursor of nobody", get(rows + "?cursor=v1.AAAA"), web.CursorMismatch, nil},
		{"cursor of another dataset", func(w *world) *httptest.ResponseRecorder {
			w.add("tags", `{"name":"a"}`)
			w.add("tags", `{"name":"b"}`)
			return w.do("GET", rows+"?cursor="+cursorOf(w, "/v1/datasets/tags/rows?limit=1"), "")
		}, web.CursorMismatch, []string{"flights"}},
		{"cursor of another query", func(w *world) *httptest.ResponseRecorder {
			return w.do("GET", rows+"?origin=EZE&cursor="+cursorOf(w, rows+"?origin=SCL&limit=1"), "")
		}, web.CursorMismatch, []string{"Repeat the parameters"}},
		{"cursor of another direction", func(w *world) *httptest.ResponseRecorder {
			return w.do("GET", rows+"?order=desc&cursor="+cursorOf(w, rows+"?limit=1"), "")
		}, web.CursorMismatch, nil},
		{"cursor of another projection", func(w *world) *httptest.ResponseRecorder {
			return w.do("GET", rows+"?fields=late&cursor="+cursorOf(w, rows+"?limit=1"), "")
		}, web.CursorMismatch, nil},
		{"cursor of last week", func(w *world) *httptest.ResponseRecorder {
			cursor := cursorOf(w, rows+"?limit=1")
			w.now = w.now.Add(7*24*time.Hour + time.Second)
			return w.do("GET", rows+"?cursor="+cursor, "")
		}, web.CursorExpired, []string{"7d"}},
		{"list: store down", storeFails(store.ErrUnavailable, rows), web.Unavailable, nil},
		{"get: store down", storeFails(store.ErrUnavailable, someID), web.Unavailable, nil},
		{"list: table missing", storeFails(store.ErrMisconfigured, rows), web.Internal, nil},
		{"get: deadline", storeFails(context.DeadlineExceeded, someID), web.DeadlineExceeded, nil},
		{"list: deadline", storeFails(context.DeadlineExceeded, rows), web.DeadlineExceeded, nil},
		{"client gone", func(w *world) *httptest.ResponseRecorder {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			rec := httptest.NewRecorder()
			w.handler.ServeHTTP(rec, httptest.NewRequest("GET", rows, nil).WithContext(ctx))
			return rec
		}, web.ClientClosed, nil},
		{"corrupt row", func(w *world) *httptest.ResponseRecorder {
			w.store.put("flights", dataset.Row{Key: "garbage", Cells: []dataset.Cell{{Column: "late", Value: []byte("true")}}})
			return w.do("GET", rows, "")
		}, web.Internal, nil},
		{"corrupt cell", func(w *world) *httptest.ResponseRecorder {
			ds := w.decl.Dataset("days")
			key, _ := ds.ParseRowID("2001-01-01")
			w.store.put("days", dataset.Row{Key: key, Cells: []dataset.Cell{{Column: "flown", Value: []byte("secret-cell")}}})
			return w.do("GET", "/v1/datasets/days/rows/2001-01-01", "")
		}, web.Internal, nil},
		{"overload", func(w *world) *httptest.ResponseRecorder {
			g := w.service.endpoints["flights"].gets
			for range cap(g.places) {
				g.places <- struct{}{}
			}
			return w.do("GET", someID, "")
		}, web.Overloaded, nil},

		{"no content type", post("", good), web.UnsupportedMediaType, []string{"application/x-ndjson"}},
		{"form", post("application/x-www-form-urlencoded", good), web.UnsupportedMediaType, nil},
		{"latin 1", post("application/json; charset=iso-8859-1", good), web.UnsupportedMediaType, nil},
		{"gzip", func(w *world) *httptest.ResponseRecorder {
			return w.do("POST", records, good, "Content-Type", "application/json", "Content-Encoding", "gzip")
		}, web.UnsupportedMediaType, []string{"gzip"}},
		{"publish parameter", func(w *world) *httptest.ResponseRecorder {
			return w.do("POST", records+"?dry=1", good, "Content-Type", "application/json")
		}, web.UnknownParameter, nil},
		{"empty body", post("application/json", ""), web.InvalidRecord, []string{"no record"}},
		{"blank lines", post("application/x-ndjson", "\n\n \n"), web.InvalidRecord, []string{"no record"}},
		{"array", post("application/json", "["+good+"]"), web.InvalidRecord, []string{"bad_json"}},
		{"two objects as json", post("application/json", good+"\n"+good), web.InvalidRecord, []string{"bad_json"}},
		{"pattern", post("application/json", strings.Replace(good, "LIM", "lim", 1)), web.InvalidRecord, []string{`"line":1`, `"field":"destination"`, `"code":"pattern"`}},
		{"large body", post("application/x-ndjson", strings.Repeat(" ", 1<<20+1)), web.BodyTooLarge, []string{"1048576"}},
		{"many records", post("application/x-ndjson", strings.Repeat("{}\n", 1001)), web.BodyTooLarge, []string{"1001", "1000"}},
		{"bus down", busFails(bus.ErrUnavailable), web.Unavailable, nil},
		{"topic missing", busFails(bus.ErrNotFound), web.Internal, nil},
		{"bus slow", busFails(context.DeadlineExceeded), web.DeadlineExceeded, nil},
	} {
		w := newWorld(t, testYAML, Options{QueueTimeout: time.Millisecond})
		w.addFlights()
		rec := tt.do(w)
		body := rec.Body.String()
		p := problemOf(t, rec)
		seen[p.Code] = true
		if p.Code != tt.code {
			t.Errorf("%s: %s", tt.name, body)
		}
		plain := strings.NewReplacer(`\u0026`, "&", `\u003c`, "<", `\u003e`, ">", `\"`, `"`).Replace(body) + rec.Header().Get("Allow")
		for _, text := range tt.says {
			if !strings.Contains(plain, text) {
				t.Errorf("%s: no %q in %s", tt.name, text, plain)
			}
		}
		if strings.Contains(body, "secret") || strings.Contains(body, ".go:") || p.Status >= 500 && strings.Contains(body, "table") {
			t.Errorf("%s: internals in %s", tt.name, body)
		}
		if p.Status == 503 && rec.Header().Get("Retry-After") != "1" {
			t.Errorf("%s: retry-after %q", tt.name, rec.Header().Get("Retry-After"))
		}
		if len(w.bus.messages) > 0 {
			t.Errorf("%s: published %d messages", tt.name, len(w.bus.messages))
		}
	}
	// These are written and tested elsewhere.
	for _, code := range []web.Code{
		web.URITooLong, web.HeadersTooLarge, web.RequestTimeout, web.PublishIncomplete,
		web.Unauthenticated, web.Forbidden, web.RateLimited,
	} {
		seen[code] = true
	}
	for _, info := range web.Codes() {
		if !seen[info.Code] {
			t.Errorf("no test writes %s", info.Code)
		}
	}
}

func TestCallersValuesAreCut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{})
	long := strings.Repeat("x", 3000)
	for _, target := range []string{
		"/v1/datasets/" + long, "/v1/datasets/flights/rows/" + long, "/v1/datasets/flights/rows/SCL," + long + ",GRU", "/" + long,
		"/v1/datasets/flights/rows?" + long + "=1", "/v1/datasets/flights/rows?limit=" + long, "/v1/datasets/flights/rows?from=" + long,
		"/v1/datasets/flights/rows?delay_minutes=" + long, "/v1/datasets/flights/rows?origin[" + long + "]=1", "/v1/datasets/flights/rows?fields=" + long,
		"/v1/datasets/flights/rows?order=" + long, "/v1/datasets/flights/rows?cursor=" + long,
	} {
		if rec := w.do("GET", target, ""); rec.Code < 400 || strings.Contains(rec.Body.String(), strings.Repeat("x", 65)) {
			t.Errorf("%.60s: %s", target, rec.Body)
		}
	}
}

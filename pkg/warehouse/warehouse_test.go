package warehouse

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// standIn is a BigQuery that answers each request with the next of its answers, and the last one
// again and again.
type standIn struct {
	mu       sync.Mutex
	answers  []http.HandlerFunc
	requests []string // method, path and query
	bodies   []map[string]any
	canceled atomic.Int32
}

func (s *standIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/cancel") {
		s.canceled.Add(1)
		_, _ = io.WriteString(w, `{"job":{}}`)
		return
	}
	body := map[string]any{}
	_ = json.NewDecoder(r.Body).Decode(&body)
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path+"?"+r.URL.RawQuery)
	s.bodies = append(s.bodies, body)
	answer := s.answers[min(len(s.requests), len(s.answers))-1]
	s.mu.Unlock()
	answer(w, r)
}

func (s *standIn) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

func text(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func fault(status int, reason, message string) http.HandlerFunc {
	return text(status, fmt.Sprintf(`{"error":{"code":%d,"message":%q,"errors":[{"message":%q,"domain":"global","reason":%q}]}}`, status, message, message, reason))
}

// The wire shapes, as BigQuery's reference documents them.
const (
	job      = `"jobReference":{"projectId":"my-project","jobId":"job_1","location":"EU"}`
	onePage  = `{"kind":"bigquery#queryResponse",` + job + `,"jobComplete":true,"totalRows":"2","totalBytesProcessed":"1234","cacheHit":true,"schema":{"fields":[{"name":"g0","type":"STRING"},{"name":"m0","type":"INTEGER"}]},"rows":[{"f":[{"v":"SCL"},{"v":"12"}]},{"f":[{"v":null},{"v":"3"}]}]}`
	waiting  = `{"kind":"bigquery#queryResponse",` + job + `,"jobComplete":false}`
	lastPage = `{"kind":"bigquery#getQueryResultsResponse",` + job + `,"jobComplete":true,"totalBytesProcessed":"99","rows":[{"f":[{"v":"UIO"},{"v":"1"}]}]}`
	morePage = `{` + job + `,"jobComplete":true,"pageToken":"t1","rows":[{"f":[{"v":"EZE"},{"v":"2"}]}]}`
)

func open(t *testing.T, change func(*Options), answers ...http.HandlerFunc) (*Client, *standIn) {
	t.Helper()
	s := &standIn{answers: answers}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	opts := Options{Project: "my-project", Dataset: "shop", Location: "EU", Endpoint: server.URL, RetryDelay: time.Millisecond}
	if change != nil {
		change(&opts)
	}
	c, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

func query() Query {
	return Query{SQL: "SELECT 1", Columns: 2, MaxRows: 100, Labels: map[string]string{"app": "latamctl"}}
}

func rows(cells ...string) [][]Cell {
	var all [][]Cell
	for i := 0; i+1 < len(cells); i += 2 {
		all = append(all, []Cell{{Text: cells[i], Null: cells[i] == ""}, {Text: cells[i+1]}})
	}
	return all
}

func TestQuery(t *testing.T) {
	t.Parallel()
	c, s := open(t, nil, text(200, onePage))
	q := query()
	q.Params = []Param{{Name: "p0", Type: "STRING", Value: "SCL"}, {Name: "p1", Type: "STRING"}, {Name: "p2", Type: "INT64", Values: []string{"1", "2"}}, {Name: "p3", Type: "DATE", Values: []string{}}}
	got, err := c.Query(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Result{Rows: rows("SCL", "12", "", "3"), BytesProcessed: 1234, CacheHit: true}, got); d != "" {
		t.Error(d)
	}
	if got, want := s.asked()[0], "POST /bigquery/v2/projects/my-project/queries?alt=json&prettyPrint=false"; got != want {
		t.Errorf("asked %s", got)
	}
	body := s.bodies[0]
	for _, random := range []string{"requestId", "jobTimeoutMs"} {
		if text, _ := body[random].(string); text == "" {
			t.Errorf("%s is %v", random, body[random])
		}
		delete(body, random)
	}
	value := func(text string) map[string]any { return map[string]any{"value": text} }
	typ := func(name string) map[string]any { return map[string]any{"type": name} }
	array := func(of string) map[string]any { return map[string]any{"type": "ARRAY", "arrayType": typ(of)} }
	want := map[string]any{
		"query": "SELECT 1", "useLegacySql": false, "useQueryCache": true, "parameterMode": "NAMED", "location": "EU",
		"maximumBytesBilled": "10737418240", "maxResults": 100.0, "timeoutMs": 2000.0, "labels": map[string]any{"app": "latamctl"},
		"formatOptions": map[string]any{"useInt64Timestamp": true},
		"queryParameters": []any{
			map[string]any{"name": "p0", "parameterType": typ("STRING"), "parameterValue": value("SCL")},
			map[string]any{"name": "p1", "parameterType": typ("STRING"), "parameterValue": value("")},
			map[string]any{"name": "p2", "parameterType": array("INT64"), "parameterValue": map[string]any{"arrayValues": []any{value("1"), value("2")}}},
			map[string]any{"name": "p3", "parameterType": array("DATE"), "parameterValue": map[string]any{"arrayValues": []any{}}},
		},
	}
	if d := cmp.Diff(want, body); d != "" {
		t.Error(d)
	}
	if got := c.View(&dataset.Dataset{Name: "flights"}); got != "`my-project`.`shop`.`flights_latest`" {
		t.Error(got)
	}
}

func TestQueryWaitsAndPages(t *testing.T) {
	t.Parallel()
	c, s := open(t, func(o *Options) { o.PageRows = 7 }, text(200, waiting), text(200, waiting), text(200, morePage), text(200, lastPage))
	got, err := c.Query(t.Context(), query())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Result{Rows: rows("EZE", "2", "UIO", "1"), BytesProcessed: 99}, got); d != "" {
		t.Error(d)
	}
	if len(s.asked()) != 4 {
		t.Fatalf("%q", s.asked())
	}
	for i, r := range s.asked()[1:] {
		for _, part := range []string{"GET /bigquery/v2/projects/my-project/queries/job_1?", "location=EU", "maxResults=7", "formatOptions.useInt64Timestamp=true", "timeoutMs="} {
			if !strings.Contains(r, part) {
				t.Errorf("request %d has no %s: %s", i, part, r)
			}
		}
		if strings.Contains(r, "pageToken=t1") != (i == 2) {
			t.Errorf("request %d: %s", i, r)
		}
	}
}

func TestQueryStopsAtMaxRows(t *testing.T) {
	t.Parallel()
	c, s := open(t, nil, text(200, morePage))
	q := query()
	q.MaxRows = 3
	got, err := c.Query(t.Context(), q)
	if err != nil || len(got.Rows) != 3 || len(s.asked()) != 3 {
		t.Errorf("%d rows after %d requests, %v", len(got.Rows), len(s.asked()), err)
	}
	c, _ = open(t, nil, text(200, onePage))
	q.MaxRows = 1
	if got, err := c.Query(t.Context(), q); err != nil || len(got.Rows) != 1 {
		t.Errorf("%v %v", got, err)
	}
}

func TestQueryFailures(t *testing.T) {
	t.Parallel()
	html := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "<html><body>Sign in to the hotel's network</body></html>")
		}
	}
	hangUp := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	for _, tt := range []struct {
		name     string
		answers  []http.HandlerFunc
		want     error // nil: it works in the end
		requests int
		text     string
	}{
		{"one bad moment", []http.HandlerFunc{fault(503, "backendError", "try again"), text(200, onePage)}, nil, 2, ""},
		{"two bad moments of two kinds", []http.HandlerFunc{html(502), fault(429, "rateLimitExceeded", "slow down"), text(200, onePage)}, nil, 3, ""},
		{"a rate limit as 403", []http.HandlerFunc{fault(403, "rateLimitExceeded", "slow down"), text(200, onePage)}, nil, 2, ""},
		{"a cut connection", []http.HandlerFunc{hangUp, text(200, onePage)}, nil, 2, ""},
		{"a bad moment while waiting", []http.HandlerFunc{text(200, waiting), fault(500, "internalError", "x"), text(200, lastPage)}, nil, 3, ""},
		{"never up", []http.HandlerFunc{fault(503, "backendError", "down")}, ErrUnavailable, 3, "down"},
		{"a proxy", []http.HandlerFunc{html(502)}, ErrUnavailable, 3, "hotel"},
		{"denied", []http.HandlerFunc{fault(403, "accessDenied", "Access Denied: Table flights_latest")}, ErrDenied, 1, "Access Denied"},
		{"no credentials", []http.HandlerFunc{fault(401, "authError", "Login Required")}, ErrDenied, 1, "Login"},
		{"forbidden without a reason", []http.HandlerFunc{text(403, "{}")}, ErrDenied, 1, "403"},
		{"a wrong query", []http.HandlerFunc{fault(400, "invalidQuery", "Unrecognized name: `x`")}, ErrRefused, 1, "Unrecognized"},
		{"no view", []http.HandlerFunc{fault(404, "notFound", "Not found: Table")}, ErrRefused, 1, "Not found"},
		{"too costly", []http.HandlerFunc{fault(400, "bytesBilledLimitExceeded", "Query exceeded limit")}, ErrTooCostly, 1, "exceeded"},
		{"the job timed out", []http.HandlerFunc{text(200, waiting), fault(400, "stopped", "Job timed out")}, context.DeadlineExceeded, 2, ""},
		{"no JSON", []http.HandlerFunc{html(200)}, ErrAnswer, 1, ""},
		{"half an answer", []http.HandlerFunc{text(200, onePage[:200])}, ErrAnswer, 1, ""},
		{"another shape", []http.HandlerFunc{text(200, `[1,2]`)}, ErrAnswer, 1, ""},
		{"a number for a text", []http.HandlerFunc{text(200, strings.Replace(onePage, `"12"`, `12`, 1))}, ErrAnswer, 1, "column 1 is not a text"},
		{"an object for a text", []http.HandlerFunc{text(200, strings.Replace(onePage, `"12"`, `{"v":1}`, 1))}, ErrAnswer, 1, ""},
		{"a column too few", []http.HandlerFunc{text(200, strings.Replace(onePage, `,{"v":"12"}`, ``, 1))}, ErrAnswer, 1, "2 columns"},
		{"no cell", []http.HandlerFunc{text(200, `{"jobComplete":true,"rows":[null]}`)}, ErrAnswer, 1, ""},
		{"a redirect", []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		}}, ErrAnswer, 1, ""},
		{"waiting for nothing", []http.HandlerFunc{text(200, `{"jobComplete":false}`)}, ErrAnswer, 1, "no id"},
		{"complete, then not", []http.HandlerFunc{text(200, morePage), text(200, waiting)}, ErrAnswer, 2, ""},
		{"pages without end", []http.HandlerFunc{text(200, `{`+job+`,"jobComplete":true,"pageToken":"again"}`)}, ErrAnswer, maxCalls + 1, "no end"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, s := open(t, nil, tt.answers...)
			got, err := c.Query(t.Context(), query())
			if !errors.Is(err, tt.want) || tt.want == nil && (err != nil || len(got.Rows) == 0) {
				t.Fatalf("%v, want %v", err, tt.want)
			}
			if len(s.asked()) != tt.requests {
				t.Errorf("%d requests, want %d", len(s.asked()), tt.requests)
			}
			if tt.want != nil && (!strings.Contains(err.Error(), tt.text) || !strings.HasPrefix(err.Error(), "query bigquery dataset shop: ") || len(err.Error()) > 600) {
				t.Errorf("%v", err)
			}
			if len(s.bodies) > 1 && tt.want == nil && s.bodies[1]["requestId"] != nil && s.bodies[1]["requestId"] != s.bodies[0]["requestId"] {
				t.Error("the second attempt is another query")
			}
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		t.Parallel()
		c, _ := open(t, func(o *Options) { o.Endpoint = "http://127.0.0.1:1" }, text(200, onePage))
		if _, err := c.Query(t.Context(), query()); !errors.Is(err, ErrUnavailable) {
			t.Error(err)
		}
	})
}

// TestQueryReadsNoMoreThanItMay sends an answer of 1 GiB, which nobody should wait for or keep.
func TestQueryReadsNoMoreThanItMay(t *testing.T) {
	var sent atomic.Int64
	endless := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"rows":[{"f":[{"v":"`)
			chunk := []byte(strings.Repeat("x", 64<<10))
			for range 1 << 30 / len(chunk) {
				n, err := w.Write(chunk)
				if sent.Add(int64(n)); err != nil {
					return
				}
			}
		}
	}
	for _, status := range []int{200, 400} {
		sent.Store(0)
		c, _ := open(t, nil, endless(status))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := c.Query(t.Context(), query())
		runtime.ReadMemStats(&after)
		if err == nil || sent.Load() > 64<<20 || after.TotalAlloc-before.TotalAlloc > 64<<20 || len(err.Error()) > 2000 {
			t.Errorf("status %d: %d MiB were sent, %d MiB allocated: %.300v", status, sent.Load()>>20, (after.TotalAlloc-before.TotalAlloc)>>20, err)
		}
		if status == 200 && !errors.Is(err, ErrAnswer) {
			t.Errorf("%.300v", err)
		}
	}
	c, _ := open(t, nil, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1073741824")
		w.WriteHeader(200)
	})
	if _, err := c.Query(t.Context(), query()); !errors.Is(err, ErrAnswer) || !strings.Contains(err.Error(), "1073741824") {
		t.Errorf("announced: %v", err)
	}
	c, _ = open(t, func(o *Options) { o.MaxResultBytes = 2000 }, text(200, strings.ReplaceAll(morePage, "EZE", strings.Repeat("E", 500))))
	if _, err := c.Query(t.Context(), query()); !errors.Is(err, ErrAnswer) || !strings.Contains(err.Error(), "2000 bytes") {
		t.Errorf("all pages together: %v", err)
	}
}

func TestQueryEndsWithItsContext(t *testing.T) {
	t.Parallel()
	t.Run("canceled while the job runs", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		c, s := open(t, nil, text(200, waiting), func(_ http.ResponseWriter, r *http.Request) {
			cancel()
			<-r.Context().Done()
		})
		if _, err := c.Query(ctx, query()); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if s.canceled.Load() != 1 {
			t.Errorf("the job was canceled %d times", s.canceled.Load())
		}
	})
	t.Run("the time is over", func(t *testing.T) {
		t.Parallel()
		c, s := open(t, func(o *Options) { o.QueryTimeout = 50 * time.Millisecond }, text(200, waiting))
		if _, err := c.Query(t.Context(), query()); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrUnavailable) {
			t.Error(err)
		}
		if s.canceled.Load() != 1 || len(s.asked()) > 60 {
			t.Errorf("canceled %d times after %d requests", s.canceled.Load(), len(s.asked()))
		}
	})
	t.Run("canceled between attempts", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		c, s := open(t, func(o *Options) { o.RetryDelay = time.Minute }, func(w http.ResponseWriter, r *http.Request) {
			fault(503, "backendError", "x")(w, r)
			context.AfterFunc(r.Context(), cancel)
		})
		if _, err := c.Query(ctx, query()); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if len(s.asked()) != 1 || s.canceled.Load() != 0 {
			t.Errorf("%d requests", len(s.asked()))
		}
	})
	t.Run("a complete job is left alone", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		c, s := open(t, nil, text(200, morePage), func(_ http.ResponseWriter, r *http.Request) {
			cancel()
			<-r.Context().Done()
		})
		if _, err := c.Query(ctx, query()); !errors.Is(err, context.Canceled) || s.canceled.Load() != 0 {
			t.Error(err, s.canceled.Load())
		}
	})
}

func TestOptions(t *testing.T) {
	t.Parallel()
	good := Options{Project: "example.com:my-project", Dataset: DatasetID("my-shop")}.Defaults()
	if err := good.Validate(); err != nil || good.Dataset != "my_shop" {
		t.Error(err)
	}
	for text, change := range map[string]func(*Options){
		"project":                func(o *Options) { o.Project = "a`; DROP" },
		`BigQuery dataset "a-b"`: func(o *Options) { o.Dataset = "a-b" },
		`BigQuery dataset ""`:    func(o *Options) { o.Dataset = "" },
		"view suffix":            func(o *Options) { o.ViewSuffix = "`" },
		"max bytes billed 1 ":    func(o *Options) { o.MaxBytesBilled = 1 },
		"query timeout":          func(o *Options) { o.QueryTimeout = -1 },
		"max response bytes":     func(o *Options) { o.MaxResponseBytes = 1 },
		"max result bytes":       func(o *Options) { o.MaxResultBytes = 1 },
		"page rows":              func(o *Options) { o.PageRows = -1 },
		"attempts":               func(o *Options) { o.Attempts = 11 },
		"retry delay":            func(o *Options) { o.RetryDelay = time.Hour },
		"not a URL":              func(o *Options) { o.Endpoint = "localhost:9050" },
		"http:// on this":        func(o *Options) { o.Endpoint = "http://example.com" },
		"neither at https":       func(o *Options) { o.Endpoint = "ftp://127.0.0.1" },
	} {
		o := good
		change(&o)
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), text) || !strings.HasPrefix(err.Error(), "warehouse: ") {
			t.Errorf("%s: %v", text, err)
		}
		if _, err := Open(t.Context(), o); err == nil && o.QueryTimeout != 0 {
			t.Errorf("%s: opened", text)
		}
	}
}

func TestSchema(t *testing.T) {
	t.Parallel()
	decl, err := dataset.Load("latam.yaml", []byte(`version: 1
name: shop
datasets:
  rows:
    fields:
      a: {type: string, required: true, description: The key}
      b: int64
      c: float64
      d: bool
      e: timestamp
      f: date
      g: bytes
      h: json
    key: [a]
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []Column{
		{"a", "STRING", "REQUIRED", "The key"}, {"b", "INTEGER", "NULLABLE", ""}, {"c", "FLOAT", "NULLABLE", ""}, {"d", "BOOLEAN", "NULLABLE", ""},
		{"e", "TIMESTAMP", "NULLABLE", ""}, {"f", "DATE", "NULLABLE", ""}, {"g", "BYTES", "NULLABLE", ""}, {"h", "JSON", "NULLABLE", ""},
	}
	if d := cmp.Diff(want, Schema(decl.Datasets[0])); d != "" {
		t.Error(d)
	}
}

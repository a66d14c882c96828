package query

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/telemetry"
	"github.com/latamctl/latamctl/pkg/web"
)

func commit() *bigtablepb.ReadRowsResponse_CellChunk_CommitRow {
	return &bigtablepb.ReadRowsResponse_CellChunk_CommitRow{CommitRow: true}
}

func reset() *bigtablepb.ReadRowsResponse_CellChunk_ResetRow {
	return &bigtablepb.ReadRowsResponse_CellChunk_ResetRow{ResetRow: true}
}

// lies are the ways in which the rows of a table come back wrong.
func lies(w *world) []lie {
	at := time.UnixMilli(1)
	changed := func(change func(dataset.Row) dataset.Row) func(*telling) error {
		return func(c *telling) error {
			for _, row := range c.honest {
				row.Cells = slices.Clone(row.Cells)
				if err := c.sendRows(change(row)); err != nil {
					return err
				}
			}
			return nil
		}
	}
	garbage := func(value string) func(*telling) error {
		return changed(func(row dataset.Row) dataset.Row {
			for i := range row.Cells {
				row.Cells[i].Value = []byte(value)
			}
			return row
		})
	}
	raw := func(chunks ...*chunk) func(*telling) error {
		return func(c *telling) error { return c.send(chunks...) }
	}
	all := []lie{
		{name: "wrong family", tell: func(c *telling) error {
			for _, row := range c.honest {
				k := cellOf(row.Key, "x", row.Cells[0].Column, at, row.Cells[0].Value)
				k.RowStatus = commit()
				if err := c.send(k); err != nil {
					return err
				}
			}
			return nil
		}},
		{name: "unknown columns", tell: changed(func(row dataset.Row) dataset.Row {
			row.Cells = append(row.Cells, dataset.Cell{Column: "zzz", Value: []byte("1")}, dataset.Cell{Column: "", Value: []byte("2")}, dataset.Cell{Column: "\xff\x00", Value: []byte("3")})
			return row
		})},
		{name: "columns twice and out of order", tell: changed(func(row dataset.Row) dataset.Row {
			slices.Reverse(row.Cells)
			row.Cells = append(row.Cells, row.Cells...)
			return row
		})},
		{name: "rows in the wrong order", tell: func(c *telling) error {
			slices.Reverse(c.honest)
			return c.sendRows(c.honest...)
		}},
		{name: "rows twice", tell: func(c *telling) error {
			for _, row := range c.honest {
				if err := c.sendRows(row, row); err != nil {
					return err
				}
			}
			return nil
		}},
		{name: "every row, whatever is asked", tell: func(c *telling) error {
			if c.req.GetReversed() {
				slices.Reverse(c.rows)
			}
			return c.sendRows(c.rows...)
		}},
		{name: "the last row, whatever is asked", tell: func(c *telling) error { return c.sendRows(c.rows[len(c.rows)-1]) }},
		{name: "one row for ever", tell: func(c *telling) error {
			for {
				if err := c.sendRows(c.rows[len(c.rows)-1]); err != nil {
					return err
				}
			}
		}},
		{name: "new rows for ever", tell: func(c *telling) error {
			for i := 100; ; i++ {
				n := i
				if c.req.GetReversed() {
					n = 1<<40 - i
				}
				if err := c.sendRows(w.order(n)); err != nil {
					return err
				}
			}
		}},
		{name: "one row without end", tell: func(c *telling) error {
			k := cellOf(c.rows[len(c.rows)-1].Key, dataset.Family, "status", at, bytes.Repeat([]byte("x"), 64<<10))
			for {
				if err := c.send(k); err != nil {
					return err
				}
				k = cellOf("", dataset.Family, "status", at, k.GetValue())
			}
		}},
		{name: "a cell of 100 MiB in parts", tell: func(c *telling) error {
			k := cellOf(c.rows[len(c.rows)-1].Key, dataset.Family, "status", at, bytes.Repeat([]byte("x"), 1<<20))
			k.ValueSize = 100 << 20
			for range 100 {
				if err := c.send(k); err != nil {
					return err
				}
				k = &chunk{Value: k.GetValue(), ValueSize: 100 << 20}
			}
			return nil
		}},
		{name: "a cell that claims 2 GiB", tell: func(c *telling) error {
			k := cellOf(c.rows[len(c.rows)-1].Key, dataset.Family, "status", at, []byte("x"))
			k.ValueSize = 1<<31 - 1
			return errors.Join(c.send(k), c.hang())
		}},
		{name: "a key of 2 MiB", tell: func(c *telling) error {
			k := cellOf(strings.Repeat("\xfe", 2<<20), dataset.Family, "status", at, []byte("x"))
			k.RowStatus = commit()
			return c.send(k)
		}},
		{name: "a key that is none of ours", tell: func(c *telling) error {
			k := cellOf("\xfe\xff\x00\x01", dataset.Family, "status", at, []byte("x"))
			k.RowStatus = commit()
			return c.send(k)
		}},
		{name: "times beyond all times", tell: func(c *telling) error {
			for i, row := range c.honest {
				chunks := chunksOf(row)
				for _, k := range chunks {
					k.TimestampMicros = []int64{-1, -1 << 63, 1<<63 - 1}[i%3]
				}
				if err := c.send(chunks...); err != nil {
					return err
				}
			}
			return nil
		}},
		{name: "half a row", tell: func(c *telling) error { return c.send(chunksOf(c.rows[len(c.rows)-1])[0]) }},
		{name: "half a row, then an error", tell: func(c *telling) error {
			return errors.Join(c.send(chunksOf(c.rows[len(c.rows)-1])[0]), status.Error(codes.Unavailable, "cut"))
		}},
		{name: "hangs at once", tell: func(c *telling) error { return c.hang() }},
		{name: "hangs after a row", tell: func(c *telling) error { return errors.Join(c.sendRows(c.honest[:min(1, len(c.honest))]...), c.hang()) }},
		{name: "hangs within a row", tell: func(c *telling) error {
			return errors.Join(c.send(chunksOf(c.rows[len(c.rows)-1])[0]), c.hang())
		}},
		{name: "a chunk of nothing", tell: raw(&chunk{})},
		{name: "a commit of nothing", tell: raw(&chunk{RowStatus: commit()})},
		{name: "a reset of nothing", tell: raw(&chunk{RowStatus: reset()})},
		{name: "an empty key", tell: raw(&chunk{RowKey: []byte{}, FamilyName: cellOf("", "d", "a", at, nil).FamilyName, Qualifier: cellOf("", "d", "a", at, nil).Qualifier, RowStatus: commit()})},
		{name: "a commit within a value", tell: func(c *telling) error {
			k := cellOf(c.rows[len(c.rows)-1].Key, dataset.Family, "status", at, []byte("x"))
			k.ValueSize, k.RowStatus = 10, commit()
			return c.send(k)
		}},
		{name: "another key within a row", tell: func(c *telling) error {
			k := chunksOf(c.rows[0])
			k[len(k)-1].RowKey = []byte("other")
			return c.send(k...)
		}},
		{name: "a negative size", tell: func(c *telling) error {
			k := cellOf(c.rows[len(c.rows)-1].Key, dataset.Family, "order_no", at, []byte("11"))
			k.ValueSize, k.RowStatus = -5, commit()
			return c.send(k)
		}},
		{name: "nothing but progress", tell: func(c *telling) error {
			for {
				if err := c.stream.Send(&bigtablepb.ReadRowsResponse{LastScannedRowKey: []byte("\xff")}); err != nil {
					return err
				}
			}
		}},
	}
	for _, value := range []string{"\xff\xfe", "<html>", "NaN", "99999999999999999999", strings.Repeat("9", 100_000), "\x00", `{"a":`, "1 "} {
		all = append(all, lie{name: fmt.Sprintf("cells of %.12q", value), tell: garbage(value)})
	}
	for code := codes.Code(1); code < 20; code++ {
		all = append(all, lie{name: "status " + code.String(), tell: func(*telling) error {
			return status.Error(code, "<html>secret-status "+strings.Repeat("x", 5000))
		}})
	}
	return all
}

type ask struct {
	method, target, body string
	check                func(body []byte) error
}

// asks are requests for rows, each with the check of an answer of 200.
var asks = []ask{
	{"GET", "/rows", "", checkPage("asc")},
	{"GET", "/rows?order=desc&limit=3", "", checkPage("desc")},
	{"GET", "/rows?order_no[gte]=5&limit=2&count=exact", "", checkPage("asc")},
	{"GET", "/rows?status=paid&index=by_status", "", checkPage("")},
	{"GET", "/rows?index=by_time&order=desc&limit=5", "", checkPage("")},
	{"GET", "/rows?status[ne]=paid&scan=allow", "", checkPage("asc")},
	{"GET", "/rows/5", "", checkRow("5")},
	{"GET", "/rows/5?fields=status", "", checkRow("5")},
	{"POST", "/rows/batch-get", `{"ids":["1","5","7"]}`, checkBatch},
	{"GET", "/aggregate?metric=count,max:order_no&group_by=status&scan=allow", "", checkJSON},
	{"GET", "/stats", "", checkJSON},
	{"GET", "/rows?format=ndjson", "", checkLines},
	{"GET", "/rows?format=csv&index=by_status", "", checkCSV},
	{"GET", "/rows?explain=true&status=paid", "", checkJSON},
}

func checkJSON(body []byte) error {
	if !json.Valid(body) {
		return errors.New("no JSON")
	}
	return nil
}

type hostileRow struct {
	ID      string `json:"id"`
	OrderNo *int64 `json:"order_no"`
}

// right says whether a row stands under its own id.
func (r hostileRow) right() bool {
	return r.OrderNo == nil || strconv.FormatInt(*r.OrderNo, 10) == r.ID
}

func checkRow(id string) func([]byte) error {
	return func(body []byte) error {
		var row hostileRow
		if err := json.Unmarshal(body, &row); err != nil || row.ID != id || !row.right() {
			return fmt.Errorf("asked for row %s: %w", id, err)
		}
		return nil
	}
}

func checkBatch(body []byte) error {
	var batch struct {
		Data    []hostileRow `json:"data"`
		Missing []string     `json:"missing"`
	}
	if err := json.Unmarshal(body, &batch); err != nil {
		return err
	}
	got := batch.Missing
	for _, row := range batch.Data {
		if !row.right() {
			return fmt.Errorf("a wrong row stands under id %s", row.ID)
		}
		got = append(got, row.ID)
	}
	slices.Sort(got)
	if !slices.Equal(got, []string{"1", "5", "7"}) {
		return fmt.Errorf("asked for 1, 5 and 7, got %v", got)
	}
	return nil
}

func checkPage(order string) func([]byte) error {
	return func(body []byte) error {
		var page struct {
			Data []hostileRow `json:"data"`
		}
		if err := json.Unmarshal(body, &page); err != nil {
			return err
		}
		return checkRows(page.Data, order)
	}
}

func checkRows(rows []hostileRow, order string) error {
	seen := map[string]bool{}
	var last int64
	for i, row := range rows {
		n, err := strconv.ParseInt(row.ID, 10, 64)
		if err != nil || seen[row.ID] || !row.right() {
			return fmt.Errorf("row %d, id %q: twice, or under a wrong id", i, row.ID)
		}
		if i > 0 && (order == "asc" && n <= last || order == "desc" && n >= last) {
			return fmt.Errorf("row %d, id %q is out of order", i, row.ID)
		}
		seen[row.ID], last = true, n
	}
	return nil
}

func checkLines(body []byte) error {
	var rows []hostileRow
	for line := range bytes.Lines(body) {
		var row hostileRow
		if err := json.Unmarshal(line, &row); err != nil {
			return err
		}
		if row.ID != "" {
			rows = append(rows, row)
		}
	}
	return checkRows(rows, "asc")
}

func checkCSV(body []byte) error {
	_, err := csv.NewReader(bytes.NewReader(body)).ReadAll()
	return err
}

// TestStoreThatLies: whatever Bigtable answers, the caller gets an honest page or an honest error, in
// time, and nothing that the server sends can fill the memory.
func TestStoreThatLies(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	t.Run("tables", func(t *testing.T) {
		for _, table := range []string{"orders", "orders-by_status", "orders-by_time"} {
			t.Run(table, func(t *testing.T) { t.Parallel(); testLies(t, table) })
		}
	})
	await(t, "goroutines back", func() bool { return runtime.NumGoroutine() <= goroutines+5 })
}

func testLies(t *testing.T, table string) {
	w, server := newLyingWorld(t, Options{
		GetTimeout: 100 * time.Millisecond, ListTimeout: 150 * time.Millisecond, ExportTimeout: 50 * time.Millisecond, CountTimeout: 50 * time.Millisecond,
		StatsTTL: time.Millisecond, MaxScannedRows: 5000, MaxCountedRows: 5000, Aggregate: AggregateOptions{AggregateTimeout: 75 * time.Millisecond, MaxAggregateRows: 5000},
	}, maxTestRowBytes)
	var log safeBuffer
	logger := telemetry.NewLogger(&log, telemetry.LogOptions{Format: "json"})
	w.service.deps.Log = logger
	var err error
	if w.handler, err = web.Harden(web.Options{}, web.Deps{Handler: w.service.Handler(), Log: logger}); err != nil {
		t.Fatal(err)
	}
	honest := func() bool {
		return !slices.ContainsFunc(asks, func(a ask) bool {
			status, body, _ := w.askLiar(t, a.method, a.target, a.body)
			return status != 200 || a.check(body) != nil
		})
	}
	await(t, "honest answers before the first lie", honest)
	for _, l := range lies(w) {
		l.table = table
		server.lie.Store(&l)
		server.sent.Store(0)
		w.askEverything(t, l)
		if sent := server.sent.Load(); strings.Contains(l.name, "100 MiB") && sent > int64(len(asks))*(maxTestRowBytes+4<<20) {
			t.Errorf("%s: %d bytes were taken", l.name, sent)
		}
	}
	server.lie.Store(nil)
	await(t, "honest answers after the last lie", honest)
	if text := log.String(); strings.Contains(text, "request panicked") || strings.Contains(text, "goroutine ") {
		t.Errorf("a request panicked:\n%.4000s", text[max(0, strings.Index(text, "request panicked")-200):])
	}
}

// askEverything sends all requests at once while the server tells a lie.
func (w *world) askEverything(t *testing.T, l lie) {
	t.Helper()
	var all sync.WaitGroup
	for _, a := range asks {
		all.Go(func() {
			what := fmt.Sprintf("%s of %s: %s %s", l.name, l.table, a.method, a.target)
			begin := time.Now()
			status, body, cut := w.askLiar(t, a.method, a.target, a.body)
			if took := time.Since(begin); took > 4*time.Second {
				t.Errorf("%s took %s", what, took)
			}
			switch {
			case cut: // A part of an export is not taken for the whole.
			case len(body) > 4<<20:
				t.Errorf("%s: %d bytes", what, len(body))
			case status == 200:
				if err := a.check(body); err != nil {
					t.Errorf("%s: %v in %.500s", what, err, body)
				}
			case status == 404 && strings.HasPrefix(a.target, "/rows/") && bytes.Contains(body, []byte("ROW_NOT_FOUND")):
			case status < 500:
				t.Errorf("%s: %d %s", what, status, body)
			case !bytes.Contains(body, []byte(`"code":"`)) || bytes.Contains(body, []byte("secret")) || bytes.Contains(bytes.ToLower(body), []byte("bigtable")) || bytes.Contains(body, []byte("html>")):
				t.Errorf("%s: %d %s", what, status, body)
			}
		})
	}
	all.Wait()
}

// askLiar asks without the checker of contracts, and tells whether the answer was cut.
func (w *world) askLiar(t *testing.T, method, target, body string) (status int, answer []byte, cut bool) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "/v1/datasets/orders"+target, strings.NewReader(body))
	if body == "" {
		r.Body, r.ContentLength = http.NoBody, 0
	}
	r.Header.Set("Content-Type", "application/json")
	rec := httptest.NewRecorder()
	defer func() {
		if cause := recover(); cause != nil {
			err, _ := cause.(error)
			if cut = errors.Is(err, http.ErrAbortHandler); !cut {
				t.Errorf("%s %s: panic %v", method, target, cause)
			}
		}
	}()
	w.handler.ServeHTTP(rec, r)
	answer, _ = io.ReadAll(rec.Body)
	return rec.Code, answer, false
}

// TestStoreThatSendsAHugeMessage: a message beyond 64 MiB is not read, however large rows may be.
func TestStoreThatSendsAHugeMessage(t *testing.T) {
	w, server := newLyingWorld(t, Options{}, 256<<20)
	server.lie.Store(&lie{table: "orders", tell: func(c *telling) error {
		k := cellOf(c.rows[5].Key, dataset.Family, "status", time.UnixMilli(1), make([]byte, 65<<20))
		k.RowStatus = commit()
		return c.send(k)
	}})
	if status, body, _ := w.askLiar(t, "GET", "/rows/5", ""); status < 500 || !bytes.Contains(body, []byte(`"code"`)) {
		t.Errorf("%d with %d bytes", status, len(body))
	}
}

// TestCursorsEndThoughTheStoreLies follows cursors: a server that sends the same rows again and again
// must not keep a client walking for ever.
func TestCursorsEndThoughTheStoreLies(t *testing.T) {
	t.Parallel()
	w, server := newLyingWorld(t, Options{GetTimeout: 250 * time.Millisecond, ListTimeout: 250 * time.Millisecond}, maxTestRowBytes)
	for _, table := range []string{"orders", "orders-by_status"} {
		for _, l := range lies(w) {
			if !strings.Contains(l.name, "row") || l.name == "new rows for ever" { // Those have no end, honestly.
				continue
			}
			l.table = table
			server.lie.Store(&l)
			for _, query := range []string{"?limit=2", "?limit=2&order=desc", "?limit=2&index=by_status&order=desc", "?limit=2&index=by_status"} {
				seen := map[string]bool{}
				pages := 0
				for next := query; next != ""; pages++ {
					status, body, _ := w.askLiar(t, "GET", "/rows"+next, "")
					if status != 200 {
						break
					}
					var page pageBody
					if err := json.Unmarshal(body, &page); err != nil {
						t.Fatal(err)
					}
					next = ""
					if page.NextURL != nil {
						_, after, _ := strings.Cut(*page.NextURL, "/rows")
						next = after
					}
					for _, id := range page.ids() {
						if seen[id] {
							t.Fatalf("%s of %s: %s: row %s comes twice", l.name, table, query, id)
						}
						seen[id] = true
					}
					if pages > 20 {
						t.Fatalf("%s of %s: %s does not end", l.name, table, query)
					}
				}
			}
		}
	}
}

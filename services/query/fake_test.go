package query

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/pkg/web"
	"github.com/latamctl/latamctl/services/query/openapi/openapitest"
)

// fakeStore keeps rows in key order and behaves as Bigtable does: it returns the asked columns
// only, and does not show a row that has none of them.
type fakeStore struct {
	mu     sync.Mutex
	tables map[string]*fakeTable

	err     error                     // returned by every call
	before  func(ctx context.Context) // called first by every call
	scans   []store.Scan
	columns []string // of the last Get
}

type fakeTable struct {
	keys []string
	rows map[string]dataset.Row
}

func newFakeStore() *fakeStore { return &fakeStore{tables: map[string]*fakeTable{}} }

func (s *fakeStore) put(table string, row dataset.Row) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tables[table]
	if t == nil {
		t = &fakeTable{rows: map[string]dataset.Row{}}
		s.tables[table] = t
	}
	if _, ok := t.rows[row.Key]; !ok {
		at := sort.SearchStrings(t.keys, row.Key)
		t.keys = slices.Insert(t.keys, at, row.Key)
	}
	t.rows[row.Key] = row
}

func (s *fakeStore) begin(ctx context.Context) error {
	if s.before != nil {
		s.before(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(ctx.Err(), s.err)
}

func (s *fakeStore) Get(ctx context.Context, table, key string, columns []string) (dataset.Row, error) {
	if err := s.begin(ctx); err != nil {
		return dataset.Row{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.columns = columns
	if t := s.tables[table]; t != nil {
		if row, ok := project(t.rows[key], columns); ok {
			return row, nil
		}
	}
	return dataset.Row{}, fmt.Errorf("read row: %w", store.ErrNotFound)
}

func (s *fakeStore) GetMany(ctx context.Context, table string, keys, columns []string) ([]dataset.Row, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rows := make([]dataset.Row, len(keys))
	for i, key := range keys {
		if t := s.tables[table]; t != nil {
			if row, ok := project(t.rows[key], columns); ok {
				rows[i] = row
			}
		}
	}
	return rows, nil
}

func (s *fakeStore) Scan(ctx context.Context, table string, sc store.Scan, each func(dataset.Row) bool) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	s.scans = append(s.scans, sc)
	var rows []dataset.Row
	if t := s.tables[table]; t != nil {
		rows = t.scan(sc)
	}
	s.mu.Unlock()
	for _, row := range rows {
		if !each(row) {
			return nil
		}
	}
	return nil
}

func (t *fakeTable) scan(sc store.Scan) (rows []dataset.Row) {
	ranges := sc.Ranges
	if ranges == nil {
		ranges = []store.Range{{Start: sc.Start, End: sc.End}}
	}
	var keys []string
	for i, r := range ranges {
		if i > 0 && (ranges[i-1].End == "" || ranges[i-1].End > r.Start) {
			panic(fmt.Sprintf("ranges out of order or overlapping: %q", ranges))
		}
		from, to := sort.SearchStrings(t.keys, r.Start), len(t.keys)
		if r.End != "" {
			to = max(from, sort.SearchStrings(t.keys, r.End))
		}
		keys = append(keys, t.keys[from:to]...)
	}
	if sc.Reverse {
		slices.Reverse(keys)
	}
	for _, k := range keys {
		if sc.Limit > 0 && len(rows) == sc.Limit {
			break
		}
		row, ok := project(t.rows[k], sc.Columns)
		if !ok {
			continue
		}
		if sc.KeysOnly {
			row.Cells = []dataset.Cell{{Column: row.Cells[0].Column}}
		}
		rows = append(rows, row)
	}
	return rows
}

func project(row dataset.Row, columns []string) (dataset.Row, bool) {
	if columns == nil {
		return row, len(row.Cells) > 0
	}
	out := dataset.Row{Key: row.Key, Time: row.Time}
	for _, c := range row.Cells {
		if slices.Contains(columns, c.Column) {
			out.Cells = append(out.Cells, c)
		}
	}
	return out, len(out.Cells) > 0
}

// fakeBus keeps what is published. It fails from the message failAt on, when that is not 0.
type fakeBus struct {
	mu       sync.Mutex
	messages []bus.Message
	topics   []string
	failAt   int
	err      error
}

func (b *fakeBus) Publish(ctx context.Context, topic string, data []byte, attributes map[string]string) (string, error) {
	ids, err := b.PublishBatch(ctx, topic, []bus.Message{{Data: data, Attributes: attributes}})
	if err != nil {
		return "", err
	}
	return ids[0], nil
}

func (b *fakeBus) PublishBatch(ctx context.Context, topic string, messages []bus.Message) ([]string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(messages) > bus.MaxBatchMessages {
		return nil, errors.New("too many messages")
	}
	if b.err != nil && len(b.messages)+len(messages) > b.failAt {
		return nil, fmt.Errorf("publish to topic %s: %w", topic, b.err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var ids []string
	for _, m := range messages {
		b.messages = append(b.messages, m)
		b.topics = append(b.topics, topic)
		ids = append(ids, fmt.Sprint(len(b.messages)))
	}
	return ids, nil
}

const testYAML = `version: 1
name: latam
datasets:
  flights:
    description: Departures and their delay
    fields:
      origin:         {type: string, required: true, pattern: "^[A-Z]{3}$", description: IATA code}
      departed_at:    {type: timestamp, required: true}
      destination:    {type: string, required: true, pattern: "^[A-Z]{3}$"}
      delay_minutes:  {type: int64}
      distance_miles: {type: int64, minimum: 0}
      crew:           {type: json}
      late:           {type: bool}
      photo:          {type: bytes}
    key: [origin, departed_at, destination]
    time: departed_at
    retention: 36500d
    topic: flights-events
  days:
    fields:
      day:   {type: date, required: true}
      flown: {type: int64, minimum: 0, maximum: 1000}
    key: [day]
    time: day
  tags:
    fields:
      name: {type: string, required: true}
      note: {type: string}
    key: [name]
`

func load(t testing.TB, yaml string) *dataset.Declaration {
	t.Helper()
	d, err := dataset.Load("latam.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// world is a service with its fakes and a fixed clock.
type world struct {
	t       testing.TB
	decl    *dataset.Declaration
	store   *fakeStore
	bus     *fakeBus
	now     time.Time
	service *Service
	handler http.Handler

	// unchecked leaves the contract to other tests, where answers are many and large.
	unchecked bool
	checkOnce sync.Once
	checker   *openapitest.Checker
}

func newWorld(t testing.TB, yaml string, opts Options) *world {
	t.Helper()
	w := &world{t: t, decl: load(t, yaml), store: newFakeStore(), bus: &fakeBus{}, now: time.Date(2001, 2, 1, 12, 0, 0, 0, time.UTC)}
	var err error
	w.service, err = New(opts, Deps{
		Declaration: w.decl, Store: w.store, Publisher: w.bus, Now: func() time.Time { return w.now },
		CursorKey: []byte(strings.Repeat("k", 32)),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, ds := range w.decl.Datasets {
		w.mark(ds)
	}
	w.handler, err = web.Harden(web.Options{}, web.Deps{Handler: w.service.Handler()})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// add stores a record given as JSON, with its entries in the indexes.
func (w *world) add(name, record string) {
	w.t.Helper()
	ds := w.decl.Dataset(name)
	rec, err := ds.Decode([]byte(record), w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	w.put(ds, rec)
}

func (w *world) put(ds *dataset.Dataset, rec dataset.Record) {
	row := rec.Row(w.now)
	for i := range ds.Indexes {
		ix := &ds.Indexes[i]
		w.store.put(ds.IndexTable(ix), dataset.Row{Key: ds.IndexKey(ix, rec), Time: row.Time, Cells: []dataset.Cell{{Column: dataset.IndexColumn}}})
	}
	w.store.put(ds.Table(), row)
}

// mark says of an index that it has every row.
func (w *world) mark(ds *dataset.Dataset) {
	for i := range ds.Indexes {
		ix := &ds.Indexes[i]
		cell := dataset.Cell{Column: dataset.IndexMarkColumn, Value: []byte(ds.Signature(ix))}
		w.store.put(ds.IndexTable(ix), dataset.Row{Key: dataset.IndexMark, Cells: []dataset.Cell{cell}})
	}
}

func (w *world) addFlights() {
	w.t.Helper()
	for _, f := range []string{
		`{"origin":"EZE","departed_at":"2001-01-01T10:00:00Z","destination":"SCL","delay_minutes":4}`,
		`{"origin":"SCL","departed_at":"2001-01-01T08:00:00Z","destination":"LIM","delay_minutes":-3,"distance_miles":1500,"late":false}`,
		`{"origin":"SCL","departed_at":"2001-01-01T09:00:00Z","destination":"GRU","delay_minutes":30,"late":true,"crew":["a","b"]}`,
		`{"origin":"SCL","departed_at":"2001-01-02T09:00:00Z","destination":"GRU"}`,
		`{"origin":"SCL","departed_at":"2001-01-31T09:00:00Z","destination":"EZE","delay_minutes":15,"photo":"//8="}`,
		`{"origin":"UIO","departed_at":"2001-01-03T00:00:00Z","destination":"SCL","delay_minutes":0}`,
	} {
		w.add("flights", f)
	}
}

func (w *world) do(method, target, body string, headers ...string) *httptest.ResponseRecorder {
	var rd io.Reader
	if body != "" {
		rd = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, target, rd)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, r)
	if _, fuzzing := w.t.(*testing.F); !fuzzing && !w.unchecked {
		w.checkOnce.Do(func() { w.checker = newChecker(w.t, w) })
		w.checker.Check(w.t, r, rec.Code, rec.Header(), rec.Body.Bytes())
	}
	return rec
}

type pageBody struct {
	Data       []map[string]any `json:"data"`
	NextCursor *string          `json:"next_cursor"`
	NextURL    *string          `json:"next_url"`
	Meta       struct {
		Dataset     string   `json:"dataset"`
		Access      string   `json:"access"`
		Prefix      []string `json:"prefix"`
		Range       string   `json:"range"`
		Filtered    []string `json:"filtered"`
		RowsScanned int      `json:"rows_scanned"`
		Count       *struct {
			Value    int    `json:"value"`
			Relation string `json:"relation"`
		} `json:"count"`
		AsOf string `json:"as_of"`
	} `json:"meta"`
}

func (p pageBody) ids() []string {
	ids := []string{}
	for _, row := range p.Data {
		ids = append(ids, row["id"].(string))
	}
	return ids
}

func (w *world) page(target string) pageBody {
	w.t.Helper()
	rec := w.do("GET", target, "")
	if rec.Code != 200 {
		w.t.Fatalf("GET %s: %d %s", target, rec.Code, rec.Body)
	}
	var p pageBody
	dec := json.NewDecoder(rec.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		w.t.Fatalf("GET %s: %v", target, err)
	}
	return p
}

func problemOf(t testing.TB, rec *httptest.ResponseRecorder) web.Problem {
	t.Helper()
	var p web.Problem
	if ct := rec.Header().Get("Content-Type"); ct != "application/problem+json" {
		t.Fatalf("status %d with content type %q: %.300s", rec.Code, ct, rec.Body)
	}
	if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil {
		t.Fatal(err)
	}
	if p.Status != rec.Code || p.RequestID == "" || p.Title == "" {
		t.Fatalf("incomplete problem %s", rec.Body)
	}
	return p
}

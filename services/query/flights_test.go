package query

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/examples"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/engine"
	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/pkg/web"
)

const flightsYAML = `version: 1
name: latam
datasets:
  flights:
    fields:
      origin:         {type: string, required: true, pattern: "^[A-Z]{3}$"}
      departed_at:    {type: timestamp, required: true}
      destination:    {type: string, required: true, pattern: "^[A-Z]{3}$"}
      delay_minutes:  {type: int64}
      distance_miles: {type: int64, minimum: 0}
    key: [origin, departed_at, destination]
    time: departed_at
    indexes: {by_destination: [destination, departed_at], by_time: [departed_at], by_delay: [delay_minutes]}
`

// flightsWorld is a service on the engine of this machine, through Google's client, with real
// flights: those of the example, or ten times as many where the larger file is at hand.
type flightsWorld struct {
	*world
	ds   *dataset.Dataset
	rows map[string]dataset.Record
	all  []dataset.Record
}

func flightLines(t testing.TB) []byte {
	t.Helper()
	if raceDetector {
		return examples.Flights
	}
	f, err := os.Open(filepath.Join("..", "..", "..", "shared", "data", "flights-20k.ndjson.gz"))
	if err != nil {
		t.Logf("the larger file is not here, so the example's 2,000 flights are used: %v", err)
		return examples.Flights
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func newFlightsWorld(t *testing.T, opts Options) *flightsWorld {
	t.Helper()
	w := &world{t: t, unchecked: true, decl: load(t, flightsYAML), store: newFakeStore(), bus: &fakeBus{}, now: time.Date(2001, 2, 1, 12, 0, 0, 0, time.UTC)}
	fw := &flightsWorld{world: w, ds: w.decl.Dataset("flights"), rows: map[string]dataset.Record{}}
	for lines := bufio.NewScanner(bytes.NewReader(flightLines(t))); lines.Scan(); {
		rec, err := fw.ds.Decode(lines.Bytes(), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		fw.rows[rec.RowKey()] = rec
	}
	for _, rec := range fw.rows {
		fw.all = append(fw.all, rec)
	}
	client := openFlightsStore(t, fw.ds, fw.all)
	var err error
	w.service, err = New(opts, Deps{Declaration: w.decl, Store: client, Publisher: w.bus, CursorKey: []byte(strings.Repeat("k", 32))})
	if err != nil {
		t.Fatal(err)
	}
	if w.handler, err = web.Harden(web.Options{}, web.Deps{Handler: w.service.Handler()}); err != nil {
		t.Fatal(err)
	}
	return fw
}

// openFlightsStore fills the tables as ingest does.
func openFlightsStore(t *testing.T, ds *dataset.Dataset, records []dataset.Record) *store.Client {
	t.Helper()
	e, err := engine.Start(t.Context(), engine.Options{Kind: engine.Memory})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	admin, err := store.OpenAdmin(t.Context(), "latam-local", "latam", e.Bigtable...)
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range store.TablesOf(ds) {
		if err := admin.Ensure(t.Context(), table); err != nil {
			t.Fatal(err)
		}
	}
	client, err := store.Open(t.Context(), store.Options{Project: "latam-local", Instance: "latam", Client: e.Bigtable, CommitTimeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	put := func(table string, rows []dataset.Row) {
		for batch := range slices.Chunk(rows, 2000) {
			for _, err := range client.Put(t.Context(), table, batch) {
				if err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	var rows []dataset.Row
	for _, rec := range records {
		rows = append(rows, rec.Row(time.Now()))
	}
	put(ds.Table(), rows)
	for i := range ds.Indexes {
		ix := &ds.Indexes[i]
		entries := []dataset.Row{{Key: dataset.IndexMark, Time: time.Now(), Cells: []dataset.Cell{{Column: dataset.IndexMarkColumn, Value: []byte(ds.Signature(ix))}}}}
		for j, rec := range records {
			entries = append(entries, dataset.Row{Key: ds.IndexKey(ix, rec), Time: rows[j].Time, Cells: []dataset.Cell{{Column: dataset.IndexColumn}}})
		}
		put(ds.IndexTable(ix), entries)
	}
	return client
}

// query makes a query that finds some flights.
func (fw *flightsWorld) query(rng *rand.Rand) (url.Values, []condition) {
	q, conds := url.Values{}, []condition{}
	some := func(f string) dataset.Value { return pick(rng, fw.all).Value(fw.ds.Field(f)) }
	add := func(field, op string, values ...dataset.Value) {
		name, texts := field+"["+op+"]", []string{}
		for _, v := range values {
			if v.IsMissing() {
				return
			}
			texts = append(texts, v.Text())
		}
		if !q.Has(name) {
			q.Set(name, strings.Join(texts, ","))
			conds = append(conds, condition{fw.ds.Field(field), op, values})
		}
	}
	switch rng.IntN(6) {
	case 0:
		add("origin", "eq", some("origin"))
	case 1:
		add("destination", "eq", some("destination"))
	case 2:
		add("origin", "in", some("origin"), some("origin"), some("origin"))
	case 3:
		add("delay_minutes", "gte", some("delay_minutes"))
	case 4:
		add("destination", "in", some("destination"), some("destination"))
	case 5:
		add("destination", "prefix", some("destination"))
	}
	for range rng.IntN(3) {
		field := pick(rng, []string{"departed_at", "departed_at", "delay_minutes", "distance_miles", "destination"})
		add(field, pick(rng, []string{"gte", "lt", "gt", "lte", "ne", "gte", "lt"}), some(field))
	}
	return q, conds
}

// TestFlights runs on real flights, through the real client and engine.
func TestFlights(t *testing.T) {
	t.Parallel()
	fw := newFlightsWorld(t, Options{})
	t.Run("naive model", func(t *testing.T) { testFlightsAgainstNaiveModel(t, fw) })
	t.Run("walked and exported", func(t *testing.T) { testFlightsWalkedAndExported(t, fw) })
}

// testFlightsAgainstNaiveModel compares generated queries over real flights, through the real
// client and engine, with an evaluation of all records in memory.
func testFlightsAgainstNaiveModel(t *testing.T, fw *flightsWorld) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	found, accesses := 0, map[string]int{}
	for range 60 {
		q, conds := fw.query(rng)
		desc := rng.IntN(2) == 0
		if desc {
			q.Set("order", "desc")
		}
		if len(conds) == 0 {
			continue
		}
		q.Set("scan", "allow")
		if rng.IntN(4) > 0 {
			q.Set("fields", "id")
		}
		got, access := fw.walkFlights(q)
		accesses[access]++
		want := expectedIDs(t, fw.ds, fw.rows, conds, desc, access)
		found += len(want)
		if !slices.Equal(want, got) {
			t.Fatalf("seed %d: %s by %s: %d rows, want %d: %.2000s", seed, q.Encode(), access, len(got), len(want), cmp.Diff(want, got))
		}
	}
	t.Logf("%d rows found, by %v", found, accesses)
	if found == 0 || len(accesses) < 3 {
		t.Errorf("the queries found %d rows by %v", found, accesses)
	}
}

func (fw *flightsWorld) walkFlights(q url.Values) (ids []string, access string) {
	ids = []string{}
	target := "/v1/datasets/flights/rows?limit=1000&" + q.Encode()
	for {
		p := fw.page(target)
		ids, access = append(ids, p.ids()...), p.Meta.Access
		if p.NextURL == nil {
			return ids, access
		}
		target = *p.NextURL
	}
}

// testFlightsWalkedAndExported reads all flights page by page and in one export, in each order.
func testFlightsWalkedAndExported(t *testing.T, fw *flightsWorld) {
	for _, query := range []string{"", "order=desc", "index=by_time", "index=by_delay&order=desc"} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		q.Set("fields", "id")
		walked, access := fw.walkFlights(q)
		rec := fw.do("GET", "/v1/datasets/flights/rows?format=csv&fields=id&"+query, "")
		lines := strings.Split(strings.TrimSuffix(rec.Body.String(), "\r\n"), "\r\n")
		exported := []string{}
		for _, line := range lines[1:] {
			exported = append(exported, strings.Trim(line, `"`))
		}
		if !slices.Equal(walked, exported) || len(walked) != len(fw.all) {
			t.Errorf("%q by %s: %d rows walked, %d exported, %d are there", query, access, len(walked), len(exported), len(fw.all))
		}
		if got := rec.Result().Trailer.Get(trailerRows); got != fmt.Sprint(len(fw.all)) {
			t.Errorf("%q: trailer says %s rows", query, got)
		}
	}
}

package query

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/web"
	"github.com/latamctl/latamctl/services/query/openapi"
)

// samples are few values of each type, so that random filters hit random rows, with those among
// them that order and encoding are most likely to get wrong.
func samples(t dataset.Type) []string {
	switch t {
	case dataset.String:
		return []string{"a", "ab", "b", "A", "a b", "é", "\x01", "~,/%", "zz\x7f", "\U0010FFFF"}
	case dataset.Int64:
		return []string{"-9223372036854775808", "-1", "0", "1", "2", "255", "256", "9223372036854775807"}
	case dataset.Float64:
		return []string{"-1e300", "-1", "-0.5", "0", "0.5", "1", "2", "1e300"}
	case dataset.Bool:
		return []string{"true", "false"}
	case dataset.Timestamp:
		return []string{"1970-01-01T00:00:00Z", "2000-12-31T23:59:59.999999999Z", "2001-01-01T00:00:00Z", "2001-01-01T00:00:00.000000001Z", "2001-01-02T00:00:00Z", "2001-06-01T12:00:00Z"}
	case dataset.Date:
		return []string{"1970-01-01", "2000-12-31", "2001-01-01", "2001-01-02", "2001-06-01"}
	case dataset.Bytes:
		return []string{"\x00", "\x00\x00", "\x00\xff", "\x01", "\xff", "\xff\xff", "a"}
	}
	return []string{`{"a":1}`, `[]`}
}

var scalarTypes = []dataset.Type{dataset.String, dataset.Int64, dataset.Float64, dataset.Bool, dataset.Timestamp, dataset.Date, dataset.Bytes}

func pick[T any](rng *rand.Rand, list []T) T { return list[rng.IntN(len(list))] }

// randomYAML declares one dataset with 1 to 4 key fields and up to 3 others.
func randomYAML(rng *rand.Rand) string {
	var fields, key []string
	timeField := ""
	for i := range 1 + rng.IntN(4) {
		name, typ := fmt.Sprintf("k%d", i), pick(rng, scalarTypes)
		fields = append(fields, fmt.Sprintf("      %s: {type: %s, required: true}", name, typ))
		key = append(key, name)
		if typ == dataset.Timestamp || typ == dataset.Date {
			timeField = name
		}
	}
	for i := range rng.IntN(4) {
		fields = append(fields, fmt.Sprintf("      v%d: {type: %s}", i, pick(rng, append(scalarTypes[:7:7], dataset.JSON))))
	}
	rng.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
	yaml := "version: 1\nname: test\ndatasets:\n  rows:\n    fields:\n" + strings.Join(fields, "\n") + "\n    key: [" + strings.Join(key, ", ") + "]\n"
	if timeField != "" {
		yaml += "    time: " + timeField + "\n"
	}
	return yaml + randomIndexes(rng, fields)
}

// randomIndexes declares up to two indexes over any fields that have an order.
func randomIndexes(rng *rand.Rand, fields []string) string {
	var names []string
	for _, f := range fields {
		if !strings.Contains(f, "json") {
			name, _, _ := strings.Cut(strings.TrimSpace(f), ":")
			names = append(names, name)
		}
	}
	yaml := ""
	for i := range rng.IntN(3) {
		rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		yaml += fmt.Sprintf("      i%d: [%s]\n", i, strings.Join(names[:1+rng.IntN(min(3, len(names)))], ", "))
	}
	if yaml == "" {
		return ""
	}
	return "    indexes:\n" + yaml
}

// leaveStale writes entries as ingest leaves them behind: of rows that are gone, or of another value.
func leaveStale(t *testing.T, rng *rand.Rand, w *world, ds *dataset.Dataset, rows map[string]dataset.Record) {
	for i := range ds.Indexes {
		ix := &ds.Indexes[i]
		for _, rec := range rows {
			if rng.IntN(3) > 0 {
				continue
			}
			old := randomRecord(t, rng, ds)
			if rng.IntN(2) == 0 {
				for _, f := range ds.Key {
					old.Values[f.Index] = rec.Values[f.Index]
				}
			}
			w.store.put(ds.IndexTable(ix), dataset.Row{Key: ds.IndexKey(ix, old), Cells: []dataset.Cell{{Column: dataset.IndexColumn}}})
		}
	}
}

func randomRecord(t *testing.T, rng *rand.Rand, ds *dataset.Dataset) dataset.Record {
	r := dataset.Record{Dataset: ds, Values: make([]dataset.Value, len(ds.Fields))}
	for _, f := range ds.Fields {
		if !f.Required && rng.IntN(4) == 0 {
			continue
		}
		v, err := dataset.ParseText(f, pick(rng, samples(f.Type)))
		if err != nil {
			t.Fatal(err)
		}
		r.Values[f.Index] = v
	}
	return r
}

// condition is a filter as the test understands it, apart from the code under test.
type condition struct {
	field  *dataset.Field
	op     string
	values []dataset.Value
}

func (c condition) holds(r dataset.Record) bool {
	v := r.Values[c.field.Index]
	switch {
	case c.op == "exists":
		return !v.IsMissing()
	case c.op == "absent":
		return v.IsMissing()
	case v.IsMissing():
		return false
	case c.op == "in":
		return slices.ContainsFunc(c.values, func(o dataset.Value) bool { return o == v })
	case c.op == "prefix":
		return strings.HasPrefix(v.Text(), c.values[0].Text())
	}
	switch n := v.Compare(c.values[0]); c.op {
	case "ne":
		return n != 0
	case "gt":
		return n > 0
	case "gte":
		return n >= 0
	case "lt":
		return n < 0
	case "lte":
		return n <= 0
	default:
		return n == 0
	}
}

// helps says whether a condition on the first field of an access narrows what is read.
func (c condition) helps(optional bool) bool {
	switch c.op {
	case "ne":
		return false
	case "exists", "absent":
		return optional
	}
	return true
}

func randomQuery(t *testing.T, rng *rand.Rand, ds *dataset.Dataset) (url.Values, []condition) {
	q, conds := url.Values{}, []condition{}
	for range rng.IntN(5) {
		f := pick(rng, ds.Fields)
		if rng.IntN(2) == 0 {
			f = pick(rng, ds.Key)
		}
		op := pick(rng, append(openapi.Operators(f.Type), openapi.Operators(f.Type)[0]))
		name := f.Name + "[" + op + "]"
		if q.Has(name) || op == "eq" && q.Has(f.Name) {
			continue
		}
		cond := condition{field: f, op: op}
		switch op {
		case "exists":
			present := rng.IntN(2) == 0
			q.Set(name, fmt.Sprint(present))
			if !present {
				cond.op = "absent"
			}
		case "in":
			var texts []string
			for range 1 + rng.IntN(3) {
				text, v := queryValue(t, rng, f)
				texts, cond.values = append(texts, strings.NewReplacer(`\`, `\\`, ",", `\,`).Replace(text)), append(cond.values, v)
			}
			q.Set(name, strings.Join(texts, ","))
		default:
			if op == "eq" && rng.IntN(2) == 0 {
				name = f.Name
			}
			text, v := queryValue(t, rng, f)
			cond.values = []dataset.Value{v}
			q.Set(name, text)
		}
		conds = append(conds, cond)
	}
	if ds.Time != nil && rng.IntN(3) == 0 {
		at := pick(rng, samples(ds.Time.Type))
		v, err := dataset.ParseText(ds.Time, at)
		if err != nil {
			t.Fatal(err)
		}
		if rng.IntN(2) == 0 {
			q.Set("from", at)
			conds = append(conds, condition{ds.Time, "gte", []dataset.Value{v}})
		} else {
			q.Set("to", at)
			conds = append(conds, condition{ds.Time, "lt", []dataset.Value{v}})
		}
	}
	return q, conds
}

// queryValue is a value as it stands in a query.
func queryValue(t *testing.T, rng *rand.Rand, f *dataset.Field) (string, dataset.Value) {
	text := pick(rng, samples(f.Type))
	v, err := dataset.ParseText(f, text)
	if err != nil {
		t.Fatal(err)
	}
	if f.Type == dataset.Bytes {
		text = base64.StdEncoding.EncodeToString([]byte(text))
	}
	return text, v
}

// refused says whether a query reads everything: it has filters, and none of them is on the first
// field of the key or of an index.
func refused(ds *dataset.Dataset, conds []condition, index string) bool {
	served := func(first *dataset.Field, optional bool) bool {
		return slices.ContainsFunc(conds, func(c condition) bool { return c.field == first && c.helps(optional) })
	}
	if len(conds) == 0 || index == "" && served(ds.Key[0], false) {
		return false
	}
	for i := range ds.Indexes {
		first := ds.Indexes[i].Fields[0]
		if (index == "" || index == ds.Indexes[i].Name) && served(first, !first.Required) {
			return false
		}
	}
	return true
}

// expectedIDs is the answer of the naive model: all rows, filtered and sorted by the values of the
// fields that the answer says it went by, then of the key.
func expectedIDs(t *testing.T, ds *dataset.Dataset, rows map[string]dataset.Record, conds []condition, desc bool, access string) []string {
	by := ds.Key
	if name, ok := strings.CutPrefix(access, "index:"); ok {
		by = append(append([]*dataset.Field{}, ds.Index(name).Fields...), ds.Key...)
	}
	var hits []dataset.Record
	for _, r := range rows {
		if !slices.ContainsFunc(conds, func(c condition) bool { return !c.holds(r) }) {
			hits = append(hits, r)
		}
	}
	slices.SortFunc(hits, func(a, b dataset.Record) int {
		for _, f := range by {
			if n := a.Value(f).Compare(b.Value(f)); n != 0 {
				return n
			}
		}
		return 0
	})
	if desc {
		slices.Reverse(hits)
	}
	ids := []string{}
	for _, r := range hits {
		id, err := ds.RowID(r.RowKey())
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

// TestWalksFindEachMatchingRowOnce compares random queries over random datasets with the naive
// model, walking all pages with random limits and all three ways to go on.
func TestWalksFindEachMatchingRowOnce(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	walks, pages := 0, 0
	for range 60 {
		w := newWorld(t, randomYAML(rng), Options{
			MaxScannedRows: pick(rng, []int{1, 3, 50, 50_000}), MaxPageBytes: pick(rng, []int{1, 300, 8 << 20}),
		})
		ds := w.decl.Datasets[0]
		rows := map[string]dataset.Record{}
		for range rng.IntN(60) {
			r := randomRecord(t, rng, ds)
			rows[r.RowKey()] = r
		}
		leaveStale(t, rng, w, ds, rows)
		for _, r := range rows {
			w.put(ds, r)
		}
		for range 15 {
			q, conds := randomQuery(t, rng, ds)
			index := ""
			if len(ds.Indexes) > 0 && rng.IntN(4) == 0 {
				index = pick(rng, ds.Indexes).Name
				q.Set("index", index)
			}
			if refused(ds, conds, index) {
				rec := w.do("GET", "/v1/datasets/rows/rows?"+q.Encode(), "")
				if p := problemOf(t, rec); p.Code != web.ScanRefused {
					t.Fatalf("seed %d: %s: expected a refusal, got %s", seed, q.Encode(), rec.Body)
				}
				q.Set("scan", "allow")
			}
			desc := rng.IntN(2) == 0
			if desc {
				q.Set("order", "desc")
			}
			got, access, n := walk(w, rng, q)
			walks, pages = walks+1, pages+n
			if index != "" && access != "index:"+index {
				t.Fatalf("seed %d: %s: read by %s", seed, q.Encode(), access)
			}
			want := expectedIDs(t, ds, rows, conds, desc, access)
			if d := cmp.Diff(want, got); d != "" {
				t.Fatalf("seed %d: %s over %d rows of key %v by %s: %s", seed, q.Encode(), len(rows), fieldNames(ds.Key), access, d)
			}
			exported := exportIDs(t, w, rng, q)
			if d := cmp.Diff(want, exported); d != "" {
				t.Fatalf("seed %d: export of %s: %s", seed, q.Encode(), d)
			}
			q.Set("count", "exact")
			q.Set("limit", "1")
			if p := w.page("/v1/datasets/rows/rows?" + q.Encode()); p.Meta.Count == nil || p.Meta.Count.Value != len(want) || p.Meta.Count.Relation != "eq" {
				t.Fatalf("seed %d: count of %s is %+v, expected %d", seed, q.Encode(), p.Meta.Count, len(want))
			}
		}
	}
	t.Logf("%d walks over %d pages", walks, pages)
}

func walk(w *world, rng *rand.Rand, q url.Values) (ids []string, access string, pages int) {
	const path = "/v1/datasets/rows/rows?"
	target := path + q.Encode()
	ids = []string{}
	for {
		limited := target
		if rng.IntN(3) > 0 && !strings.Contains(target, "limit=") {
			limited += fmt.Sprintf("&limit=%d", 1+rng.IntN(9))
		}
		p := w.page(limited)
		ids, access, pages = append(ids, p.ids()...), p.Meta.Access, pages+1
		if p.NextCursor == nil {
			return ids, access, pages
		}
		switch rng.IntN(3) {
		case 0:
			target = *p.NextURL
		case 1:
			target = path + "cursor=" + *p.NextCursor
		default:
			target = path + q.Encode() + "&cursor=" + *p.NextCursor
		}
	}
}

// exportIDs exports all rows as NDJSON, in one request or going on where a limit ended one.
func exportIDs(t *testing.T, w *world, rng *rand.Rand, q url.Values) []string {
	t.Helper()
	ids := []string{}
	target := "/v1/datasets/rows/rows?" + q.Encode()
	for {
		limited := target
		if rng.IntN(2) == 0 {
			limited += fmt.Sprintf("&limit=%d", 1+rng.IntN(30))
		}
		rec := w.do("GET", limited+"&format=ndjson", "")
		if rec.Code != 200 {
			t.Fatalf("%s: %d %s", limited, rec.Code, rec.Body)
		}
		lines := strings.Split(strings.TrimSuffix(rec.Body.String(), "\n"), "\n")
		var end struct {
			End        bool `json:"_end"`
			Rows       int
			NextCursor *string `json:"next_cursor"`
		}
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &end); err != nil || !end.End || end.Rows != len(lines)-1 {
			t.Fatalf("end marker of %d lines: %s", len(lines), lines[len(lines)-1])
		}
		for _, line := range lines[:len(lines)-1] {
			var row struct{ ID string }
			if err := json.Unmarshal([]byte(line), &row); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, row.ID)
		}
		if end.NextCursor == nil {
			return ids
		}
		target = "/v1/datasets/rows/rows?cursor=" + *end.NextCursor
	}
}

// TestWalksDuringWrites keeps the promise that a row which is there during the whole walk is seen
// exactly once, in order, whatever is written meanwhile.
func TestWalksDuringWrites(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(7, 7))
	for _, desc := range []bool{false, true} {
		w := newWorld(t, testYAML, Options{})
		name := func(i int) string { return fmt.Sprintf("n%04d", i) }
		for i := 0; i < 400; i += 2 {
			w.add("tags", fmt.Sprintf(`{"name":"%s"}`, name(i)))
		}
		target := "/v1/datasets/tags/rows?limit=7"
		if desc {
			target += "&order=desc"
		}
		var seen []string
		for p := w.page(target); ; p = w.page(*p.NextURL) {
			seen = append(seen, p.ids()...)
			if p.NextCursor == nil {
				break
			}
			for range 5 {
				w.add("tags", fmt.Sprintf(`{"name":"%s"}`, name(rng.IntN(200)*2+1)))
			}
		}
		if desc {
			slices.Reverse(seen)
		}
		if !slices.IsSorted(seen) || len(slices.Compact(slices.Clone(seen))) != len(seen) {
			t.Errorf("desc %v: out of order or twice", desc)
		}
		for i := 0; i < 400; i += 2 {
			if _, ok := slices.BinarySearch(seen, name(i)); !ok {
				t.Errorf("desc %v: %s was not seen", desc, name(i))
			}
		}
	}
}

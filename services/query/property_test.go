package query

import (
	"encoding/base64"
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
	return yaml
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
	field *dataset.Field
	op    string
	value dataset.Value
}

func (c condition) holds(r dataset.Record) bool {
	v := r.Values[c.field.Index]
	if v.IsMissing() {
		return false
	}
	switch n := v.Compare(c.value); c.op {
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

func randomQuery(t *testing.T, rng *rand.Rand, ds *dataset.Dataset) (url.Values, []condition) {
	q, conds := url.Values{}, []condition{}
	for range rng.IntN(5) {
		f := pick(rng, ds.Fields)
		if rng.IntN(2) == 0 {
			f = pick(rng, ds.Key)
		}
		if f.Type == dataset.JSON {
			continue
		}
		op := pick(rng, []string{"", "eq", "gt", "gte", "lt", "lte"})
		if f.Type == dataset.Bool {
			op = ""
		}
		name := f.Name
		if op != "" {
			name += "[" + op + "]"
		}
		if q.Has(name) || op == "eq" && q.Has(f.Name) || op == "" && q.Has(f.Name+"[eq]") {
			continue
		}
		text := pick(rng, samples(f.Type))
		v, err := dataset.ParseText(f, text)
		if err != nil {
			t.Fatal(err)
		}
		if f.Type == dataset.Bytes {
			text = base64.StdEncoding.EncodeToString([]byte(text))
		}
		q.Set(name, text)
		conds = append(conds, condition{f, op, v})
	}
	if ds.Time != nil && rng.IntN(3) == 0 {
		at := pick(rng, samples(ds.Time.Type))
		v, err := dataset.ParseText(ds.Time, at)
		if err != nil {
			t.Fatal(err)
		}
		if rng.IntN(2) == 0 {
			q.Set("from", at)
			conds = append(conds, condition{ds.Time, "gte", v})
		} else {
			q.Set("to", at)
			conds = append(conds, condition{ds.Time, "lt", v})
		}
	}
	return q, conds
}

// refused says whether a query reads everything: it has filters and none of them is on the first key field.
func refused(ds *dataset.Dataset, conds []condition) bool {
	return len(conds) > 0 && !slices.ContainsFunc(conds, func(c condition) bool { return c.field == ds.Key[0] })
}

// expectedIDs is the answer of the naive model: all rows, filtered and sorted by the values of the key.
func expectedIDs(t *testing.T, ds *dataset.Dataset, rows map[string]dataset.Record, conds []condition, desc bool) []string {
	var hits []dataset.Record
	for _, r := range rows {
		if !slices.ContainsFunc(conds, func(c condition) bool { return !c.holds(r) }) {
			hits = append(hits, r)
		}
	}
	slices.SortFunc(hits, func(a, b dataset.Record) int {
		for _, f := range ds.Key {
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
			w.store.put(ds.Table(), r.Row(w.now))
		}
		for range 15 {
			q, conds := randomQuery(t, rng, ds)
			if refused(ds, conds) {
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
			got, n := walk(w, rng, q)
			walks, pages = walks+1, pages+n
			if d := cmp.Diff(expectedIDs(t, ds, rows, conds, desc), got); d != "" {
				t.Fatalf("seed %d: %s over %d rows of key %v: %s", seed, q.Encode(), len(rows), fieldNames(ds.Key), d)
			}
		}
	}
	t.Logf("%d walks over %d pages", walks, pages)
}

func walk(w *world, rng *rand.Rand, q url.Values) (ids []string, pages int) {
	const path = "/v1/datasets/rows/rows?"
	target := path + q.Encode()
	ids = []string{}
	for {
		limited := target
		if rng.IntN(3) > 0 && !strings.Contains(target, "limit=") {
			limited += fmt.Sprintf("&limit=%d", 1+rng.IntN(9))
		}
		p := w.page(limited)
		ids, pages = append(ids, p.ids()...), pages+1
		if p.NextCursor == nil {
			return ids, pages
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

package query

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// question is an aggregate as the test understands it, apart from the code under test.
type question struct {
	metrics  []string // fn or fn:field
	groupBy  []string
	interval time.Duration
}

func (q question) params(into url.Values) {
	if len(q.metrics) > 0 {
		into.Set("metric", strings.Join(q.metrics, ","))
	}
	if len(q.groupBy) > 0 {
		into.Set("group_by", strings.Join(q.groupBy, ","))
	}
	if q.interval > 0 {
		into.Set("interval", dataset.FormatDuration(q.interval))
	}
}

// naiveBucket finds the interval by division that rounds down.
func naiveBucket(at time.Time, interval time.Duration) string {
	origin := time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
	if interval%(7*24*time.Hour) == 0 {
		origin = time.Date(1970, 1, 5, 0, 0, 0, 0, time.UTC)
	}
	n, _ := new(big.Int).DivMod(big.NewInt(at.Unix()-origin.Unix()), big.NewInt(int64(interval.Seconds())), new(big.Int))
	return time.Unix(origin.Unix()+n.Int64()*int64(interval.Seconds()), 0).UTC().Format(time.RFC3339)
}

// naiveGroup is the rows of a group and what they have in common, as JSON.
type naiveGroup struct {
	values  []dataset.Value
	bucket  string
	members map[string]string
	rows    []dataset.Record
}

func naiveGroups(ds *dataset.Dataset, q question, rows []dataset.Record) []*naiveGroup {
	byKey := map[string]*naiveGroup{}
	if len(q.groupBy) == 0 && q.interval == 0 {
		byKey["{}"] = &naiveGroup{members: map[string]string{}}
	}
	for _, r := range rows {
		g := &naiveGroup{members: map[string]string{}}
		for _, name := range q.groupBy {
			v := r.Value(ds.Field(name))
			g.values = append(g.values, v)
			g.members[name] = string(v.AppendJSON(nil))
		}
		if q.interval > 0 {
			g.bucket = naiveBucket(r.Value(ds.Time).Time(), q.interval)
			g.members["interval"] = strconv.Quote(g.bucket)
		}
		text, _ := json.Marshal(g.members)
		if byKey[string(text)] == nil {
			byKey[string(text)] = g
		}
		byKey[string(text)].rows = append(byKey[string(text)].rows, r)
	}
	var groups []*naiveGroup
	for _, g := range byKey {
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(a, b *naiveGroup) int {
		for i := range a.values {
			if c := a.values[i].Compare(b.values[i]); c != 0 {
				return c
			}
		}
		return strings.Compare(a.bucket, b.bucket)
	})
	return groups
}

func rational(v dataset.Value) *big.Rat {
	if v.Type() == dataset.Int64 {
		return new(big.Rat).SetInt64(v.Int())
	}
	return new(big.Rat).SetFloat64(v.Float())
}

// checkMetric compares one number of an answer, as JSON, with the naive evaluation.
func checkMetric(ds *dataset.Dataset, name string, rows []dataset.Record, got string) error {
	fn, fieldName, _ := strings.Cut(name, ":")
	want := strconv.Itoa(len(rows))
	if fieldName != "" {
		f := ds.Field(fieldName)
		var values []dataset.Value
		for _, r := range rows {
			if v := r.Value(f); !v.IsMissing() {
				values = append(values, v)
			}
		}
		slices.SortFunc(values, dataset.Value.Compare)
		switch {
		case fn == "count":
			want = strconv.Itoa(len(values))
		case len(values) == 0:
			want = "null"
		case fn == "min":
			want = string(values[0].AppendJSON(nil))
		case fn == "max":
			want = string(values[len(values)-1].AppendJSON(nil))
		case fn[0] == 'p':
			// The smallest value such that at least p percent of all are not larger.
			p, _ := strconv.Atoi(fn[1:])
			at := 0
			for (at+1)*100 < p*len(values) {
				at++
			}
			want = string(values[at].AppendJSON(nil))
		default:
			return checkSum(fn, f, values, got)
		}
	}
	if got != want {
		return fmt.Errorf("%s is %s, want %s", name, got, want)
	}
	return nil
}

// checkSum demands exact sums and nearest averages of integers, and of floats what compensated
// summation promises.
func checkSum(fn string, f *dataset.Field, values []dataset.Value, got string) error {
	sum, size := new(big.Rat), new(big.Rat)
	for _, v := range values {
		sum.Add(sum, rational(v))
		size.Add(size, new(big.Rat).Abs(rational(v)))
	}
	n := new(big.Rat).SetInt64(int64(len(values)))
	if f.Type == dataset.Int64 && fn == "sum" {
		want := sum.Num().String()
		if new(big.Int).Abs(sum.Num()).Cmp(big.NewInt(1<<53)) >= 0 {
			want = strconv.Quote(want)
		}
		if got != want {
			return fmt.Errorf("sum is %s, want %s", got, want)
		}
		return nil
	}
	if fn == "avg" {
		sum.Quo(sum, n)
		size.Quo(size, n)
	}
	is, err := strconv.ParseFloat(got, 64)
	if err != nil {
		return err
	}
	want, _ := sum.Float64()
	slack := 0.0
	if f.Type == dataset.Float64 {
		const eps = 0x1p-52
		total, _ := size.Float64()
		slack = 3*eps*math.Abs(want) + float64(len(values)*len(values))*eps*eps*total
	}
	if math.Abs(is-want) > slack {
		return fmt.Errorf("%s is %s, want %g ± %g", fn, got, want, slack)
	}
	return nil
}

func checkAnswer(ds *dataset.Dataset, q question, rows []dataset.Record, body []byte) error {
	var got struct {
		Data []map[string]json.RawMessage `json:"data"`
		Meta struct {
			Complete bool `json:"complete"`
			Matched  int  `json:"rows_matched"`
		} `json:"meta"`
	}
	if err := json.Unmarshal(body, &got); err != nil {
		return fmt.Errorf("%w: %s", err, body)
	}
	groups := naiveGroups(ds, q, rows)
	if len(groups) != len(got.Data) || !got.Meta.Complete || got.Meta.Matched != len(rows) {
		return fmt.Errorf("%d groups of %d rows, want %d of %d: %.300s", len(got.Data), got.Meta.Matched, len(groups), len(rows), body)
	}
	metrics := q.metrics
	if len(metrics) == 0 {
		metrics = []string{"count"}
	}
	for i, g := range groups {
		if want := len(g.members) + len(metrics); len(got.Data[i]) != want {
			return fmt.Errorf("group %d has %d members, want %d: %v", i, len(got.Data[i]), want, got.Data[i])
		}
		for name, want := range g.members {
			if string(got.Data[i][name]) != want {
				return fmt.Errorf("group %d: %s is %s, want %s", i, name, got.Data[i][name], want)
			}
		}
		for _, name := range metrics {
			if err := checkMetric(ds, name, g.rows, string(got.Data[i][name])); err != nil {
				return fmt.Errorf("group %v: %w", g.members, err)
			}
		}
	}
	return nil
}

func randomQuestion(rng *rand.Rand, ds *dataset.Dataset) question {
	var q question
	var possible, groupable []string
	for _, f := range ds.Fields {
		possible = append(possible, "count:"+f.Name)
		switch f.Type {
		case dataset.Int64, dataset.Float64:
			for _, fn := range []string{"sum", "avg", "min", "max", "p50", "p95", "p99"} {
				possible = append(possible, fn+":"+f.Name)
			}
		case dataset.Timestamp, dataset.Date, dataset.String:
			possible = append(possible, "min:"+f.Name, "max:"+f.Name)
		}
		if f.Type != dataset.JSON && f.Type != dataset.Bytes && f.Type != dataset.Float64 {
			groupable = append(groupable, f.Name)
		}
	}
	possible = append(possible, "count")
	rng.Shuffle(len(possible), func(i, j int) { possible[i], possible[j] = possible[j], possible[i] })
	rng.Shuffle(len(groupable), func(i, j int) { groupable[i], groupable[j] = groupable[j], groupable[i] })
	q.metrics = possible[:rng.IntN(min(len(possible), 16)+1)]
	q.groupBy = groupable[:rng.IntN(min(len(groupable), 3)+1)]
	if ds.Time != nil && rng.IntN(2) == 0 {
		q.interval = pick(rng, []time.Duration{time.Second, time.Minute, 90 * time.Minute, time.Hour, 24 * time.Hour, 5 * 24 * time.Hour, 7 * 24 * time.Hour, 21 * 24 * time.Hour})
	}
	return q
}

// randomValue is one of the samples, or a number of any size, so that sums round and overflow.
func randomValue(t *testing.T, rng *rand.Rand, f *dataset.Field) dataset.Value {
	text := pick(rng, samples(f.Type))
	switch {
	case f.Type == dataset.Int64 && rng.IntN(2) == 0:
		text = strconv.FormatInt(int64(rng.Uint64())>>rng.IntN(60), 10)
	case f.Type == dataset.Float64 && rng.IntN(2) == 0:
		text = strconv.FormatFloat(rng.NormFloat64()*math.Pow(10, float64(rng.IntN(12)-4)), 'g', -1, 64)
	}
	v, err := dataset.ParseText(f, text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestAggregatesAreThoseOfTheNaiveModel compares random queries over random datasets with sums of
// fractions and sorted values.
func TestAggregatesAreThoseOfTheNaiveModel(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	for range 60 {
		w := newWorld(t, randomYAML(rng), Options{})
		ds := w.decl.Datasets[0]
		rows := map[string]dataset.Record{}
		for range rng.IntN(80) {
			r := randomRecord(t, rng, ds)
			for _, f := range ds.Fields {
				if !f.InKey && !r.Value(f).IsMissing() {
					r.Values[f.Index] = randomValue(t, rng, f)
				}
			}
			rows[r.RowKey()] = r
			w.put(ds, r)
		}
		for range 20 {
			params, conds := randomQuery(t, rng, ds)
			var hits []dataset.Record
			for _, r := range rows {
				if !slices.ContainsFunc(conds, func(c condition) bool { return !c.holds(r) }) {
					hits = append(hits, r)
				}
			}
			q := randomQuestion(rng, ds)
			q.params(params)
			params.Set("scan", "allow")
			target := "/v1/datasets/rows/aggregate?" + params.Encode()
			rec := w.do("GET", target, "")
			if rec.Code != 200 {
				t.Fatalf("seed %d: %s: %s", seed, target, rec.Body)
			}
			if err := checkAnswer(ds, q, hits, rec.Body.Bytes()); err != nil {
				t.Fatalf("seed %d: %s over %d rows: %v", seed, target, len(hits), err)
			}
		}
	}
}

// flightRecords are the real flights.
func flightRecords(t testing.TB, ds *dataset.Dataset, now time.Time) []dataset.Record {
	t.Helper()
	rows := map[string]dataset.Record{}
	lines := bufio.NewScanner(bytes.NewReader(flightLines(t)))
	for lines.Scan() {
		rec, err := ds.Decode(lines.Bytes(), now)
		if err != nil {
			t.Fatal(err)
		}
		rows[rec.RowKey()] = rec
	}
	keys := make([]string, 0, len(rows))
	for key := range rows {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	records := make([]dataset.Record, len(keys))
	for i, key := range keys {
		records[i] = rows[key]
	}
	return records
}

func TestAggregatesOfRealFlights(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{})
	ds := w.decl.Dataset("flights")
	records := flightRecords(t, ds, w.now)
	table := &fakeTable{rows: map[string]dataset.Row{}}
	for _, r := range records {
		row := r.Row(w.now)
		table.keys, table.rows[row.Key] = append(table.keys, row.Key), row
	}
	w.store.tables[ds.Table()] = table
	for _, q := range []question{
		{},
		{metrics: []string{"count", "sum:delay_minutes", "avg:delay_minutes", "min:delay_minutes", "max:delay_minutes", "max:departed_at"}, groupBy: []string{"origin"}},
		{metrics: []string{"sum:distance_miles", "p95:delay_minutes", "count:delay_minutes"}, interval: 24 * time.Hour, groupBy: []string{"origin"}},
		{metrics: []string{"avg:delay_minutes"}, groupBy: []string{"destination"}, interval: 7 * 24 * time.Hour},
	} {
		params := url.Values{}
		q.params(params)
		rec := w.do("GET", "/v1/datasets/flights/aggregate?"+params.Encode(), "")
		if err := checkAnswer(ds, q, records, rec.Body.Bytes()); err != nil {
			t.Errorf("%s over %d flights: %v", params.Encode(), len(records), err)
		}
	}
}

func TestBucketStart(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		at       int64
		interval time.Duration
		want     int64
	}{
		{0, time.Hour, 0}, {3599, time.Hour, 0}, {3600, time.Hour, 3600}, {-1, time.Hour, -3600},
		{0, week, -3 * 86400}, {firstMonday, week, firstMonday}, {firstMonday - 1, week, firstMonday - 7*86400}, {firstMonday, 2 * week, firstMonday},
	} {
		if got := bucketStart(tt.at, tt.interval); got != tt.want {
			t.Errorf("%d by %s: %d, want %d", tt.at, tt.interval, got, tt.want)
		}
	}
}

// TestAddAllocatesNothing keeps the cost of a row of a known group at its decoding.
func TestAddAllocatesNothing(t *testing.T) {
	w := newWorld(t, testYAML, Options{})
	w.addFlights()
	a, records := benchAggregation(t, w, nil)
	for _, r := range records {
		a.add("key", r)
	}
	if n := testing.AllocsPerRun(100, func() {
		for _, r := range records {
			a.add("key", r)
		}
	}); n > 0 {
		t.Errorf("%d rows allocate %v times", len(records), n)
	}
}

// benchAggregation groups by origin and week, without percentiles, which must keep every value.
func benchAggregation(t testing.TB, w *world, records []dataset.Record) (*aggregation, []dataset.Record) {
	ep := w.service.endpoints["flights"]
	q, p := ep.parseAggregate([]param{
		{"group_by", "origin"}, {"interval", "1w"}, {"metric", "count,sum:delay_minutes,avg:delay_minutes,min:distance_miles,max:departed_at"},
	}, w.now, 16)
	if p != nil {
		t.Fatal(p)
	}
	if records == nil {
		for _, row := range w.store.tables["flights"].rows {
			rec, err := ep.ds.Record(row)
			if err != nil {
				t.Fatal(err)
			}
			records = append(records, rec)
		}
	}
	return newAggregation(ep.ds, q, AggregateOptions{MaxAggregateRows: math.MaxInt}.Defaults(), func() time.Time { return w.now }), records
}

func BenchmarkAggregate20kRows(b *testing.B) {
	w := newWorld(b, testYAML, Options{})
	ds := w.decl.Dataset("flights")
	records := flightRecords(b, ds, w.now)
	_, _ = benchAggregation(b, w, records)
	var body []byte
	groups := 0
	b.ReportAllocs()
	for b.Loop() {
		a, _ := benchAggregation(b, w, records)
		for _, r := range records {
			if !a.add("key", r) {
				b.Fatalf("stopped by %s", a.stopped)
			}
		}
		body, groups = a.appendData(body[:0]), len(a.groups)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(records)), "ns/row")
	b.ReportMetric(float64(groups), "groups")
}

// TestFloatSumsLoseNothingToOrder adds numbers whose plain sum depends on their order.
func TestFloatSumsLoseNothingToOrder(t *testing.T) {
	t.Parallel()
	f := &dataset.Field{Name: "f", Type: dataset.Float64}
	for _, tt := range []struct{ values, sum, avg string }{
		{"1 1e100 1 -1e100", "2", "0.5"},
		{"1e100 1 -1e100 1", "2", "0.5"},
		{"0.1 0.2 0.3 -0.6", "2.7755575615628914e-17", "6.938893903907228e-18"},
		{"1e308 1e308", "null", "null"},
		{"0.5", "0.5", "0.5"},
	} {
		var s state
		for text := range strings.FieldsSeq(tt.values) {
			v, err := dataset.ParseText(f, text)
			if err != nil {
				t.Fatal(err)
			}
			s.add(slot{field: f, sums: true}, v)
		}
		for fn, want := range map[string]string{fnSum: tt.sum, fnAvg: tt.avg} {
			if got := string(s.appendMetric(nil, metric{fn: fn, field: f})); got != want {
				t.Errorf("%s of %s is %s, want %s", fn, tt.values, got, want)
			}
		}
	}
}

package query

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/pkg/web"
)

// aggregateBody is an answer; the numbers keep their text.
type aggregateBody struct {
	Data []map[string]any `json:"data"`
	Meta struct {
		Dataset        string   `json:"dataset"`
		Source         string   `json:"source"`
		Access         string   `json:"access"`
		Prefix         []string `json:"prefix"`
		Range          string   `json:"range"`
		Filtered       []string `json:"filtered"`
		Groups         int      `json:"groups"`
		Complete       bool     `json:"complete"`
		Stopped        string   `json:"stopped"`
		StoppedBefore  string   `json:"stopped_before"`
		RowsScanned    int      `json:"rows_scanned"`
		RowsMatched    int      `json:"rows_matched"`
		BytesProcessed int64    `json:"bytes_processed"`
		CacheHit       bool     `json:"cache_hit"`
		AsOf           string   `json:"as_of"`
	} `json:"meta"`
}

func (w *world) aggregate(target string) aggregateBody {
	w.t.Helper()
	rec := w.do("GET", target, "")
	if rec.Code != 200 {
		w.t.Fatalf("GET %s: %d %s", target, rec.Code, rec.Body)
	}
	var b aggregateBody
	dec := json.NewDecoder(rec.Body)
	dec.DisallowUnknownFields()
	dec.UseNumber()
	if err := dec.Decode(&b); err != nil {
		w.t.Fatalf("GET %s: %v", target, err)
	}
	return b
}

// data is the array of groups as text.
func (w *world) data(target string) string {
	w.t.Helper()
	rec := w.do("GET", target, "")
	text, _, found := strings.Cut(strings.TrimPrefix(rec.Body.String(), `{"data":`), `,"meta":`)
	if rec.Code != 200 || !found {
		w.t.Fatalf("GET %s: %d %s", target, rec.Code, rec.Body)
	}
	return text
}

func TestAggregate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{})
	w.addFlights()
	w.add("days", `{"day":"2001-01-01","flown":1}`)
	w.add("days", `{"day":"2001-01-08","flown":3}`)
	w.add("days", `{"day":"2001-01-07"}`)
	w.add("days", `{"day":"1970-01-01","flown":9}`)
	for _, tt := range []struct{ name, target, want string }{
		{"the count of all", "flights", `[{"count":6}]`},
		{"only some rows have the field", "flights?metric=count,count:delay_minutes,count:crew", `[{"count":6,"count:delay_minutes":5,"count:crew":1}]`},
		{"all functions", "flights?metric=sum:delay_minutes,avg:delay_minutes,min:delay_minutes,max:delay_minutes,p50:delay_minutes,p95:delay_minutes,p99:delay_minutes",
			`[{"sum:delay_minutes":46,"avg:delay_minutes":9.2,"min:delay_minutes":-3,"max:delay_minutes":30,"p50:delay_minutes":4,"p95:delay_minutes":30,"p99:delay_minutes":30}]`},
		{"times and strings have an order", "flights?metric=min:departed_at,max:destination", `[{"min:departed_at":"2001-01-01T08:00:00Z","max:destination":"SCL"}]`},
		{"groups are sorted", "flights?group_by=origin", `[{"origin":"EZE","count":1},{"origin":"SCL","count":4},{"origin":"UIO","count":1}]`},
		{"members in the order that was asked", "flights?group_by=destination,origin&origin=EZE&metric=max:delay_minutes,count", `[{"destination":"SCL","origin":"EZE","max:delay_minutes":4,"count":1}]`},
		{"rows without the group's field come first", "flights?group_by=late&metric=count,avg:delay_minutes",
			`[{"late":null,"count":4,"avg:delay_minutes":6.333333333333333},{"late":false,"count":1,"avg:delay_minutes":-3},{"late":true,"count":1,"avg:delay_minutes":30}]`},
		{"a group without a value", "flights?origin=SCL&from=2001-01-02&to=2001-01-03&metric=count:delay_minutes,sum:delay_minutes,avg:delay_minutes,min:delay_minutes,p50:delay_minutes",
			`[{"count:delay_minutes":0,"sum:delay_minutes":null,"avg:delay_minutes":null,"min:delay_minutes":null,"p50:delay_minutes":null}]`},
		{"the whole of no rows", "flights?origin=XXX&metric=count,sum:delay_minutes", `[{"count":0,"sum:delay_minutes":null}]`},
		{"no groups of no rows", "flights?origin=XXX&group_by=destination", `[]`},
		{"an impossible range", "flights?origin=SCL&from=2002-01-01&to=2001-01-01", `[{"count":0}]`},
		{"by the hour", "flights?origin=SCL&to=2001-01-02&interval=1h", `[{"interval":"2001-01-01T08:00:00Z","count":1},{"interval":"2001-01-01T09:00:00Z","count":1}]`},
		{"groups, then time", "flights?origin=SCL&group_by=destination&interval=1d",
			`[{"destination":"EZE","interval":"2001-01-31T00:00:00Z","count":1},{"destination":"GRU","interval":"2001-01-01T00:00:00Z","count":1},{"destination":"GRU","interval":"2001-01-02T00:00:00Z","count":1},{"destination":"LIM","interval":"2001-01-01T00:00:00Z","count":1}]`},
		{"weeks begin on Monday", "days?interval=1w&metric=count,sum:flown",
			`[{"interval":"1969-12-29T00:00:00Z","count":1,"sum:flown":9},{"interval":"2001-01-01T00:00:00Z","count":2,"sum:flown":1},{"interval":"2001-01-08T00:00:00Z","count":1,"sum:flown":3}]`},
		{"seven days are a week", "days?interval=7d&day[gt]=2001-01-07", `[{"interval":"2001-01-08T00:00:00Z","count":1}]`},
		{"other days count from the epoch", "days?interval=2d&day[lt]=2001-01-02", `[{"interval":"1970-01-01T00:00:00Z","count":1},{"interval":"2000-12-31T00:00:00Z","count":1}]`},
		{"a scan that is allowed", "flights?delay_minutes[gte]=4&scan=allow&group_by=origin", `[{"origin":"EZE","count":1},{"origin":"SCL","count":2}]`},
		{"json is the format", "flights?format=json", `[{"count":6}]`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name, query, _ := strings.Cut(tt.target, "?")
			if got := w.data("/v1/datasets/" + name + "/aggregate?" + query); got != tt.want {
				t.Errorf("%s\n got %s\nwant %s", tt.target, got, tt.want)
			}
		})
	}
}

func TestAggregateMeta(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{})
	w.addFlights()
	got := w.aggregate("/v1/datasets/flights/aggregate?origin=SCL&from=2001-01-01&delay_minutes[gt]=0&group_by=destination").Meta
	var want aggregateBody
	m := &want.Meta
	m.Dataset, m.Source, m.Access, m.Prefix, m.Range = "flights", "rows", "key", []string{"origin"}, "departed_at"
	m.Filtered, m.Groups, m.Complete, m.RowsScanned, m.RowsMatched, m.AsOf = []string{"delay_minutes"}, 2, true, 4, 2, "2001-02-01T12:00:00.000Z"
	if d := cmp.Diff(want.Meta, got); d != "" {
		t.Error(d)
	}
	if scan := w.store.scans[len(w.store.scans)-1]; scan.KeysOnly || cmp.Diff([]string{"origin", "destination", "delay_minutes"}, scan.Columns) != "" {
		t.Errorf("read %+v", scan)
	}
	w.aggregate("/v1/datasets/flights/aggregate?origin=SCL")
	if scan := w.store.scans[len(w.store.scans)-1]; !scan.KeysOnly || len(scan.Ranges) != 1 || scan.Ranges[0].Start == "" || scan.Ranges[0].End == "" {
		t.Errorf("a count reads keys only, in their range: %+v", scan)
	}
}

func TestAggregateRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{MaxFilters: 2})
	many := strings.TrimSuffix(strings.Repeat("count,", 17), ",")
	for _, tt := range []struct {
		target string
		code   web.Code
		texts  []string
	}{
		{"flights?metric=average:delay_minutes", web.InvalidParameter, []string{`no metric "average:delay_minutes"`, "avg:FIELD", "p99:FIELD"}},
		{"flights?metric=cuont", web.InvalidParameter, []string{`"cuont"`, "Did you mean count?"}},
		{"flights?metric=p59:delay_minutes", web.InvalidParameter, []string{"Did you mean p50:delay_minutes?"}},
		{"flights?metric=sum", web.InvalidParameter, []string{"sum needs a field", "sum:delay_minutes, sum:distance_miles"}},
		{"flights?metric=sum:", web.InvalidParameter, []string{`no field ""`, "Possible: sum:delay_minutes"}},
		{"flights?metric=sum:delay_minuts", web.InvalidParameter, []string{`flights has no field "delay_minuts"`, "Did you mean sum:delay_minutes?"}},
		{"flights?metric=sum:origin", web.InvalidParameter, []string{"sum is not defined for the field origin of type string", "Possible: sum:delay_minutes, sum:distance_miles."}},
		{"flights?metric=min:late", web.InvalidParameter, []string{"of type bool", "min:departed_at"}},
		{"tags?metric=p95:name", web.InvalidParameter, []string{"tags has no field that p95 is defined for"}},
		{"flights?metric=count,count", web.InvalidParameter, []string{"twice"}},
		{"flights?metric=count,", web.InvalidParameter, []string{`no metric ""`}},
		{"flights?metric=" + strings.Replace(many, "count,", "sum:delay_minutes,count:origin,", 1), web.InvalidParameter, []string{"twice"}},
		{"flights?metric=", web.InvalidParameter, []string{"empty"}},
		{"flights?group_by=orgin", web.InvalidParameter, []string{`no field "orgin"`, "Did you mean origin?"}},
		{"flights?group_by=crew", web.InvalidParameter, []string{"crew of type json", "written in many ways", "Possible: origin, departed_at, destination, delay_minutes, distance_miles, late."}},
		{"flights?group_by=photo", web.InvalidParameter, []string{"photo of type bytes"}},
		{"flights?group_by=origin,origin", web.InvalidParameter, []string{"twice"}},
		{"flights?group_by=origin,destination,late,delay_minutes,distance_miles", web.InvalidParameter, []string{"more than 4 fields"}},
		{"flights?interval=500ms", web.InvalidParameter, []string{`"500ms"`, "1s, 15m, 1h, 1d or 1w"}},
		{"flights?interval=1500ms", web.InvalidParameter, []string{"whole number of seconds"}},
		{"flights?interval=-1h", web.InvalidParameter, []string{`"-1h"`}},
		{"flights?interval=month", web.InvalidParameter, []string{`expected a duration, got "month"`}},
		{"tags?interval=1h", web.InvalidParameter, []string{"tags declares no time field", "group_by"}},
		{"flights?format=csv", web.InvalidParameter, []string{"json"}},
		{"flights?limit=3", web.UnknownParameter, []string{`"limit"`, "all groups at once"}},
		{"flights?cursor=x", web.UnknownParameter, []string{"all groups at once"}},
		{"flights?order=desc", web.UnknownParameter, []string{"all groups at once"}},
		{"flights?fields=origin", web.UnknownParameter, []string{"all groups at once"}},
		{"flights?count=exact", web.UnknownParameter, []string{`"count"`}},
		{"flights?metrik=count", web.UnknownParameter, []string{"Did you mean metric?"}},
		{"flights?metric[eq]=count", web.UnknownParameter, []string{"metric[eq]"}},
		{"flights?delay_minutes=1", web.ScanRefused, []string{"origin", "scan=allow"}},
		{"flights?delay_minutes=x", web.InvalidParameter, []string{"expected an int64"}},
		{"flights?origin=SCL&delay_minutes[gt]=1&delay_minutes[lt]=9", web.InvalidParameter, []string{"at most 2"}},
		{"flihgts", web.DatasetNotFound, []string{"Did you mean flights?"}},
	} {
		name, query, _ := strings.Cut(tt.target, "?")
		p := problemOf(t, w.do("GET", "/v1/datasets/"+name+"/aggregate?"+query, ""))
		if p.Code != tt.code {
			t.Errorf("%s: %s %s", tt.target, p.Code, p.Detail)
		}
		for _, text := range tt.texts {
			if !strings.Contains(p.Detail+" "+p.Hint, text) {
				t.Errorf("%s: %q is not in %q %q", tt.target, text, p.Detail, p.Hint)
			}
		}
	}
	var seventeen []string
	for _, f := range []string{"delay_minutes", "distance_miles"} {
		for _, fn := range metricFunctions() {
			seventeen = append(seventeen, fn+":"+f)
		}
	}
	if got := w.aggregate("/v1/datasets/flights/aggregate?metric=" + strings.Join(seventeen, ",")); len(got.Data[0]) != 16 {
		t.Errorf("16 metrics: %v", got.Data)
	}
	if p := problemOf(t, w.do("GET", "/v1/datasets/flights/aggregate?metric=count,"+strings.Join(seventeen, ","), "")); !strings.Contains(p.Detail, "more than 16 metrics") {
		t.Errorf("17 metrics: %s", p.Detail)
	}
	if rec := w.do("GET", "/v1/datasets/flights/aggregate", "", "Accept", "text/csv"); problemOf(t, rec).Code != web.NotAcceptable {
		t.Errorf("csv: %s", rec.Body)
	}
	if rec := w.do("POST", "/v1/datasets/flights/aggregate", "{}"); problemOf(t, rec).Code != web.MethodNotAllowed {
		t.Errorf("POST: %s", rec.Body)
	}
}

// addTags stores n rows, a tenth of them with each note.
func (w *world) addTags(n int) {
	w.t.Helper()
	for i := range n {
		w.add("tags", fmt.Sprintf(`{"name":"n%05d","note":"note %d"}`, i, i%10))
	}
}

func TestAggregateBounds(t *testing.T) {
	t.Parallel()
	const path = "/v1/datasets/tags/aggregate?"
	world := func(o AggregateOptions, rows int) *world {
		w := newWorld(t, testYAML, Options{})
		w.service.opts.Aggregate = o.Defaults()
		w.addTags(rows)
		return w
	}
	t.Run("rows", func(t *testing.T) {
		w := world(AggregateOptions{MaxAggregateRows: 25}, 26)
		b := w.aggregate(path + "group_by=note")
		if m := b.Meta; m.Complete || m.Stopped != "rows" || m.StoppedBefore != "n00025" || m.RowsScanned != 25 || m.RowsMatched != 25 {
			t.Errorf("%+v", m)
		}
		if got, want := fmt.Sprint(b.Data[4:6]), "[map[count:3 note:note 4] map[count:2 note:note 5]]"; got != want {
			t.Errorf("counts up to the bound: %s", got)
		}
		if scan := w.store.scans[0]; scan.Limit != 26 {
			t.Errorf("asks for %d rows", scan.Limit)
		}
		if m := w.aggregate(path + "name[lt]=n00025").Meta; !m.Complete || m.Stopped != "" || m.RowsScanned != 25 {
			t.Errorf("as many rows as the bound are complete: %+v", m)
		}
		// Rows that do not match were read all the same.
		if m := w.aggregate(path + "scan=allow&note=none").Meta; m.Stopped != "rows" || m.RowsScanned != 25 || m.RowsMatched != 0 {
			t.Errorf("%+v", m)
		}
	})
	t.Run("groups", func(t *testing.T) {
		w := world(AggregateOptions{MaxGroups: 4}, 20)
		b := w.aggregate(path + "group_by=note")
		if m := b.Meta; m.Complete || m.Stopped != "groups" || m.StoppedBefore != "n00004" || m.RowsScanned != 4 || m.RowsMatched != 4 || m.Groups != 4 || len(b.Data) != 4 {
			t.Errorf("%+v", m)
		}
		if m := w.aggregate(path + "group_by=note&name[lt]=n00004").Meta; !m.Complete {
			t.Errorf("as many groups as the bound are complete: %+v", m)
		}
	})
	t.Run("memory", func(t *testing.T) {
		w := world(AggregateOptions{MaxAggregateBytes: 10 * groupBytes}, 100)
		m := w.aggregate(path + "group_by=name").Meta
		if m.Complete || m.Stopped != "memory" || m.Groups < 8 || m.Groups > 11 || m.StoppedBefore != fmt.Sprintf("n%05d", m.RowsScanned) {
			t.Errorf("%+v", m)
		}
		w = newWorld(t, testYAML, Options{})
		w.service.opts.Aggregate = AggregateOptions{MaxAggregateBytes: 4 << 10}.Defaults()
		for i := range 2000 {
			w.add("days", fmt.Sprintf(`{"day":%q,"flown":%d}`, time.Unix(int64(i)*86400, 0).UTC().Format(time.DateOnly), i%1000))
		}
		if m := w.aggregate("/v1/datasets/days/aggregate?metric=p50:flown").Meta; m.Stopped != "memory" || m.RowsScanned < 200 || m.RowsScanned > 700 {
			t.Errorf("values of percentiles count: %+v", m)
		}
		if m := w.aggregate("/v1/datasets/days/aggregate?metric=sum:flown").Meta; !m.Complete || m.RowsScanned != 2000 {
			t.Errorf("sums need no memory: %+v", m)
		}
	})
	t.Run("time", func(t *testing.T) {
		w := world(AggregateOptions{AggregateTimeout: time.Second}, 500)
		start, looks := w.now, 0
		w.service.deps.Now = func() time.Time { looks++; return start.Add(time.Duration(looks) * 200 * time.Millisecond) }
		m := w.aggregate(path).Meta
		if m.Complete || m.Stopped != "time" || m.RowsScanned%checkClockEvery != 0 || m.RowsScanned == 0 || m.StoppedBefore != fmt.Sprintf("n%05d", m.RowsScanned) {
			t.Errorf("%+v", m)
		}
	})
}

func TestAggregateOverload(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{QueueTimeout: time.Millisecond})
	w.addFlights()
	ep := w.service.endpoints["flights"]
	for range cap(ep.aggregates.places) {
		if p := ep.aggregates.enter(t.Context()); p != nil {
			t.Fatal(p)
		}
	}
	if cap(ep.aggregates.places) != 4 {
		t.Errorf("%d places", cap(ep.aggregates.places))
	}
	rec := w.do("GET", "/v1/datasets/flights/aggregate", "")
	if p := problemOf(t, rec); p.Code != web.Overloaded || rec.Header().Get("Retry-After") == "" {
		t.Errorf("%s", rec.Body)
	}
	if rec := w.do("GET", "/v1/datasets/flights/rows", ""); rec.Code != 200 {
		t.Errorf("lists are apart: %s", rec.Body)
	}
	ep.aggregates.leave()
	w.aggregate("/v1/datasets/flights/aggregate")
}

func TestAggregateOptions(t *testing.T) {
	t.Parallel()
	if err := (AggregateOptions{}).Defaults().Validate(); err != nil {
		t.Error(err)
	}
	err := AggregateOptions{MaxGroups: -1, AggregateTimeout: time.Hour}.Defaults().Validate()
	if err == nil || !strings.Contains(err.Error(), "max groups -1") || !strings.Contains(err.Error(), "aggregate timeout 1h") {
		t.Errorf("%v", err)
	}
}

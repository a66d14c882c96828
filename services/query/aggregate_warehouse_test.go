package query

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/warehouse"
	"github.com/latamctl/latamctl/pkg/web"
)

// fakeWarehouse answers every query with the same rows.
type fakeWarehouse struct {
	result  warehouse.Result
	err     error
	queries []warehouse.Query
	before  func(context.Context)
}

func (f *fakeWarehouse) View(ds *dataset.Dataset) string { return testView(ds) }

func (f *fakeWarehouse) Query(ctx context.Context, q warehouse.Query) (warehouse.Result, error) {
	f.queries = append(f.queries, q)
	if f.before != nil {
		f.before(ctx)
	}
	return f.result, f.err
}

func cells(texts ...string) []warehouse.Cell {
	row := make([]warehouse.Cell, len(texts))
	for i, text := range texts {
		row[i] = warehouse.Cell{Text: text, Null: text == "NULL"}
	}
	return row
}

func warehouseWorld(t *testing.T, fake *fakeWarehouse) *world {
	t.Helper()
	w := newWorldOn(t, warehouseYAML, Deps{Warehouse: fake})
	w.store.before = func(context.Context) { t.Error("the rows were read") }
	return w
}

func newWorldOn(t *testing.T, yaml string, deps Deps) *world {
	t.Helper()
	w := newWorld(t, testYAML, Options{})
	w.decl = load(t, yaml)
	deps.Declaration, deps.Store, deps.Publisher, deps.Now = w.decl, w.store, w.bus, func() time.Time { return w.now }
	service, err := New(Options{}, deps)
	if err != nil {
		t.Fatal(err)
	}
	w.service = service
	if w.handler, err = web.Harden(web.Options{}, web.Deps{Handler: service.Handler()}); err != nil {
		t.Fatal(err)
	}
	return w
}

func TestAggregateInWarehouse(t *testing.T) {
	t.Parallel()
	fake := &fakeWarehouse{result: warehouse.Result{BytesProcessed: 1 << 20, CacheHit: true, Rows: [][]warehouse.Cell{
		// origin, late, booked, interval; COUNT(*), SUM, COUNT, MIN(departed_at), PERCENTILE_DISC of two types, SUM of floats
		cells("NULL", "NULL", "NULL", "978307200000000", "3", "NULL", "0", "NULL", "NULL", "NULL", "NULL"),
		cells(`S"L`, "false", "2001-01-31", "978310800000000", "9007199254740993", "-27670116110564327421", "3", "978310800123456", "9007199254740993", "1.0E300", "Infinity"),
	}}}
	w := warehouseWorld(t, fake)
	target := "/v1/datasets/flights/aggregate?group_by=origin,late,booked&interval=1h&delay_minutes[gt]=5" +
		"&metric=count,sum:delay_minutes,avg:delay_minutes,min:departed_at,p95:delay_minutes,p50:price,sum:price"
	want := `[{"origin":null,"late":null,"booked":null,"interval":"2001-01-01T00:00:00Z","count":3,"sum:delay_minutes":null,"avg:delay_minutes":null,"min:departed_at":null,"p95:delay_minutes":null,"p50:price":null,"sum:price":null},` +
		`{"origin":"S\"L","late":false,"booked":"2001-01-31","interval":"2001-01-01T01:00:00Z","count":"9007199254740993","sum:delay_minutes":"-27670116110564327421","avg:delay_minutes":-9223372036854776000,"min:departed_at":"2001-01-01T01:00:00.123456Z","p95:delay_minutes":"9007199254740993","p50:price":1e+300,"sum:price":null}]`
	if got := w.data(target); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	got := w.aggregate(target).Meta
	var meta aggregateBody
	m := &meta.Meta
	m.Dataset, m.Source, m.Groups, m.Complete, m.BytesProcessed, m.CacheHit, m.AsOf = "flights", "bigquery", 2, true, 1<<20, true, "2001-02-01T12:00:00.000Z"
	if d := cmp.Diff(meta.Meta, got); d != "" {
		t.Error(d)
	}
	q := fake.queries[0]
	if q.MaxRows != 10_001 || q.Columns != 11 || len(q.Params) != 1 || q.Params[0].Value != "5" || q.Labels["dataset"] != "flights" || !strings.Contains(q.SQL, "LIMIT 10001") {
		t.Errorf("%+v", q)
	}
	for range 9_999 {
		fake.result.Rows = append(fake.result.Rows, fake.result.Rows[0])
	}
	if b := w.aggregate(target); b.Meta.Complete || b.Meta.Stopped != "groups" || b.Meta.Groups != 10_000 || len(b.Data) != 10_000 {
		t.Errorf("%+v", b.Meta)
	}
}

func TestAggregateOnRowsWhereThereIsNoWarehouse(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, warehouseYAML, Deps{AggregateOnRows: true})
	w.add("days", `{"day":"2001-01-01","flown":1}`)
	if b := w.aggregate("/v1/datasets/days/aggregate"); b.Meta.Source != "rows" || fmt.Sprint(b.Data) != "[map[count:1]]" {
		t.Errorf("%+v", b)
	}
	_, err := New(Options{}, Deps{Declaration: w.decl, Store: w.store, Publisher: w.bus})
	if !errors.Is(err, ErrNoWarehouse) || !strings.Contains(err.Error(), "dataset flights") {
		t.Errorf("%v", err)
	}
}

func TestAggregateWarehouseProblems(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		fake  fakeWarehouse
		code  web.Code
		retry bool
	}{
		{"unavailable", fakeWarehouse{err: fmt.Errorf("query: %w", warehouse.ErrUnavailable)}, web.Unavailable, true},
		{"denied", fakeWarehouse{err: warehouse.ErrDenied}, web.Internal, false},
		{"refused", fakeWarehouse{err: warehouse.ErrRefused}, web.Internal, false},
		{"too costly", fakeWarehouse{err: warehouse.ErrTooCostly}, web.ScanRefused, false},
		{"too late", fakeWarehouse{err: context.DeadlineExceeded}, web.DeadlineExceeded, false},
		{"unusable", fakeWarehouse{err: warehouse.ErrAnswer}, web.Internal, false},
		{"a count that is none", fakeWarehouse{result: warehouse.Result{Rows: [][]warehouse.Cell{cells("SCL", "many")}}}, web.Internal, false},
		{"a column too few", fakeWarehouse{result: warehouse.Result{Rows: [][]warehouse.Cell{cells("SCL")}}}, web.Internal, false},
	} {
		w := warehouseWorld(t, &tt.fake)
		rec := w.do("GET", "/v1/datasets/flights/aggregate?group_by=origin", "")
		p := problemOf(t, rec)
		if p.Code != tt.code || (rec.Header().Get("Retry-After") != "") != tt.retry || strings.Contains(rec.Body.String(), "many") {
			t.Errorf("%s: %s", tt.name, rec.Body)
		}
	}
	w := warehouseWorld(t, &fakeWarehouse{})
	if p := problemOf(t, w.do("GET", "/v1/datasets/flights/aggregate?departed_at[lt]=0000-01-01", "")); p.Code != web.InvalidParameter || !strings.Contains(p.Detail, "year 1") {
		t.Errorf("%+v", p)
	}
}

// evaluator runs a statement over records, as BigQuery's reference describes its functions. A value
// is nil for NULL, bool, string, *big.Int, *big.Rat for floats, time.Time, or a slice of them.
type evaluator struct {
	row    map[string]any   // the columns or aliases of one row
	group  []map[string]any // the rows of a group, in the last step
	params map[string]any
}

func (ev evaluator) eval(e sqlExpr) any {
	switch e.kind {
	case sqlColumn, sqlAlias:
		return ev.row[e.text]
	case sqlParam:
		return ev.params[e.text]
	case sqlLiteral:
		if e.text == "FALSE" {
			return false
		}
		n, _ := new(big.Int).SetString(e.text, 10)
		return n
	case sqlCountRows:
		return big.NewInt(int64(len(ev.group)))
	case sqlIsNull:
		return ev.eval(e.args[0]) == nil
	case sqlCast:
		return ev.eval(e.args[0])
	case sqlIn:
		v := ev.eval(e.args[0])
		return v != nil && slices.ContainsFunc(ev.eval(e.args[1]).([]any), func(o any) bool { return order(v, o) == 0 })
	case sqlCall:
		switch e.text {
		case "COUNT", "SUM", "AVG", "MIN", "MAX", "ANY_VALUE":
			return ev.aggregate(e)
		}
	}
	args := make([]any, len(e.args))
	for i, a := range e.args {
		if args[i] = ev.eval(a); args[i] == nil {
			return nil
		}
	}
	return scalar(e, args)
}

func scalar(e sqlExpr, args []any) any {
	integer := func(i int) *big.Int { return args[i].(*big.Int) }
	switch e.text {
	case "=":
		return order(args[0], args[1]) == 0
	case "!=":
		return order(args[0], args[1]) != 0
	case "<":
		return order(args[0], args[1]) < 0
	case "<=":
		return order(args[0], args[1]) <= 0
	case ">":
		return order(args[0], args[1]) > 0
	case ">=":
		return order(args[0], args[1]) >= 0
	case "NOT":
		return !args[0].(bool)
	case "STARTS_WITH":
		return strings.HasPrefix(args[0].(string), args[1].(string))
	case "+":
		return new(big.Int).Add(integer(0), integer(1))
	case "-":
		return new(big.Int).Sub(integer(0), integer(1))
	case "*":
		return new(big.Int).Mul(integer(0), integer(1))
	case "MOD":
		return new(big.Int).Rem(integer(0), integer(1)) // The sign is that of the first.
	case "UNIX_SECONDS":
		return big.NewInt(args[0].(time.Time).Unix())
	case "UNIX_DATE":
		return big.NewInt(args[0].(time.Time).Unix() / 86400)
	case "TIMESTAMP_SECONDS":
		return time.Unix(integer(0).Int64(), 0).UTC()
	}
	panic("no function " + e.text)
}

func order(a, b any) int {
	switch a := a.(type) {
	case string:
		return strings.Compare(a, b.(string))
	case *big.Int:
		return a.Cmp(b.(*big.Int))
	case *big.Rat:
		return a.Cmp(b.(*big.Rat))
	case time.Time:
		return a.Compare(b.(time.Time))
	case bool:
		switch {
		case a == b.(bool):
			return 0
		case a:
			return 1
		}
		return -1
	}
	panic(fmt.Sprintf("no order for %T", a))
}

// values evaluates an expression on each row of the group, without NULLs, in order.
func (ev evaluator) values(e sqlExpr) []any {
	var values []any
	for _, row := range ev.group {
		if v := (evaluator{row: row}).eval(e); v != nil {
			values = append(values, v)
		}
	}
	return values
}

func (ev evaluator) aggregate(e sqlExpr) any {
	values := ev.values(e.args[0])
	if e.text == "COUNT" {
		return big.NewInt(int64(len(values)))
	}
	if len(values) == 0 {
		return nil
	}
	switch e.text {
	case "MIN":
		return slices.MinFunc(values, order)
	case "MAX":
		return slices.MaxFunc(values, order)
	case "ANY_VALUE":
		return values[0]
	}
	if _, integers := values[0].(*big.Int); integers {
		sum := new(big.Int)
		for _, v := range values {
			sum.Add(sum, v.(*big.Int))
		}
		return sum
	}
	sum := new(big.Rat)
	for _, v := range values {
		sum.Add(sum, v.(*big.Rat))
	}
	if e.text == "AVG" {
		sum.Quo(sum, new(big.Rat).SetInt64(int64(len(values))))
	}
	return sum
}

// sqlValue is a text of a type as the evaluator has it.
func sqlValue(t *testing.T, typ, text string) any {
	t.Helper()
	var v any
	ok := true
	switch typ {
	case "INT64":
		v, ok = new(big.Int).SetString(text, 10)
	case "FLOAT64":
		f, err := strconv.ParseFloat(text, 64)
		v, ok = new(big.Rat).SetFloat64(f), err == nil
	case "BOOL":
		v = text == "true"
	case "DATE":
		at, err := time.Parse(time.DateOnly, text)
		v, ok = at, err == nil
	case "TIMESTAMP":
		at, err := time.Parse("2006-01-02 15:04:05.999999-07:00", text)
		v, ok = at.UTC(), err == nil
	case "BYTES":
		raw, err := base64.StdEncoding.DecodeString(text)
		v, ok = string(raw), err == nil
	default:
		v = text
	}
	if !ok {
		t.Fatalf("%q is no %s", text, typ)
	}
	return v
}

// wire is a value as BigQuery answers it.
func wire(v any) warehouse.Cell {
	switch v := v.(type) {
	case nil:
		return warehouse.Cell{Null: true}
	case *big.Rat:
		f, _ := v.Float64()
		return warehouse.Cell{Text: strconv.FormatFloat(f, 'E', -1, 64)}
	case time.Time:
		return warehouse.Cell{Text: strconv.FormatInt(v.UnixMicro(), 10)}
	}
	return warehouse.Cell{Text: fmt.Sprint(v)}
}

func groupText(row map[string]any, groups []sqlExpr) string {
	var parts []string
	for _, g := range groups {
		parts = append(parts, fmt.Sprintf("%T %v", row[g.text], row[g.text]))
	}
	return strings.Join(parts, "\x00")
}

// run evaluates the steps of a statement.
func (st *sqlStatement) run(t *testing.T, records []map[string]any, dates []int) [][]warehouse.Cell {
	params := map[string]any{}
	for _, p := range st.params {
		if p.Values == nil {
			params[p.Name] = sqlValue(t, p.Type, p.Value)
			continue
		}
		list := []any{}
		for _, text := range p.Values {
			list = append(list, sqlValue(t, p.Type, text))
		}
		params[p.Name] = list
	}
	var rows []map[string]any
	for _, rec := range records {
		ev := evaluator{row: rec, params: params}
		if slices.ContainsFunc(st.where, func(e sqlExpr) bool { met, _ := ev.eval(e).(bool); return !met }) {
			continue
		}
		row := map[string]any{}
		for _, it := range st.source {
			row[it.alias] = ev.eval(it.expr)
		}
		rows = append(rows, row)
	}
	for _, row := range rows {
		for _, it := range st.ranked {
			partition := it.expr.args[1:]
			mine := slices.DeleteFunc(slices.Clone(rows), func(o map[string]any) bool { return groupText(o, partition) != groupText(row, partition) })
			row[it.alias] = percentileDisc(it.expr.args[0], mine)
		}
	}
	var keys []sqlExpr
	for _, g := range st.groups {
		keys = append(keys, g.expr)
	}
	groups := map[string][]map[string]any{}
	if len(keys) == 0 {
		groups[""] = nil
	}
	for _, row := range rows {
		text := groupText(row, keys)
		groups[text] = append(groups[text], row)
	}
	sorted := slices.SortedFunc(maps.Values(groups), func(a, b []map[string]any) int {
		for _, k := range keys {
			switch x, y := a[0][k.text], b[0][k.text]; {
			case x == nil && y == nil:
			case x == nil:
				return -1
			case y == nil:
				return 1
			default:
				if c := order(x, y); c != 0 {
					return c
				}
			}
		}
		return 0
	})
	var result [][]warehouse.Cell
	for _, group := range sorted {
		var row []warehouse.Cell
		for i, k := range keys {
			cell := wire(group[0][k.text])
			if at, isTime := group[0][k.text].(time.Time); isTime && slices.Contains(dates, i) {
				cell.Text = at.Format(time.DateOnly)
			}
			row = append(row, cell)
		}
		for _, it := range st.values {
			row = append(row, wire(evaluator{group: group}.eval(it.expr)))
		}
		result = append(result, row)
	}
	return result
}

// percentileDisc is the first value in order whose cumulative distribution is at least the percentile.
func percentileDisc(e sqlExpr, rows []map[string]any) any {
	values := evaluator{group: rows}.values(e.args[0])
	slices.SortFunc(values, order)
	p, _ := new(big.Rat).SetString(e.args[1].text)
	for _, v := range values {
		upTo := 0
		for _, o := range values {
			if order(o, v) <= 0 {
				upTo++
			}
		}
		if big.NewRat(int64(upTo), int64(len(values))).Cmp(p) >= 0 {
			return v
		}
	}
	return nil
}

// TestWarehouseAndRowsAgree runs the statements of random queries over random datasets, and compares
// the answers with those of the rows, byte by byte.
func TestWarehouseAndRowsAgree(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	for range 60 {
		ds := load(t, randomYAML(rng)).Datasets[0]
		ep, err := newEndpoint(ds, Options{}.Defaults())
		if err != nil {
			t.Fatal(err)
		}
		var records []dataset.Record
		var table []map[string]any
		for range rng.IntN(40) {
			rec, row := randomRecord(t, rng, ds), map[string]any{}
			for _, f := range ds.Fields {
				v := exactValue(t, f, rec.Value(f))
				if rec.Values[f.Index] = v; v.IsMissing() {
					continue
				}
				text, _, _, p := warehouseText(filter{field: f}, v)
				if p != nil {
					t.Fatal(p)
				}
				row[f.Name] = sqlValue(t, warehouse.SQLType(f.Type), text)
			}
			records, table = append(records, rec), append(table, row)
		}
		for range 15 {
			params, _ := randomQuery(t, rng, ds)
			question := randomQuestion(rng, ds)
			// Times and dates are told apart by their field only where they are groups.
			question.metrics = slices.DeleteFunc(slices.Clone(question.metrics), func(m string) bool {
				fn, name, _ := strings.Cut(m, ":")
				return (fn == "min" || fn == "max") && ds.Field(name).Type == dataset.Date
			})
			question.params(params)
			agree(t, ep, params, records, table, seed)
		}
	}
}

// exactValue keeps what BigQuery keeps, and floats whose sums are exact in any order.
func exactValue(t *testing.T, f *dataset.Field, v dataset.Value) dataset.Value {
	if v.IsMissing() || f.Type != dataset.Timestamp && f.Type != dataset.Float64 {
		return v
	}
	text := "0.25"
	if f.Type == dataset.Timestamp {
		text = v.Time().Truncate(time.Microsecond).Format(time.RFC3339Nano)
	} else if v.Float() > -1e10 && v.Float() < 1e10 {
		return v
	}
	v, err := dataset.ParseText(f, text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func agree(t *testing.T, ep *endpoint, params url.Values, records []dataset.Record, table []map[string]any, seed uint64) {
	t.Helper()
	ps, p := parseParams(params.Encode())
	if p != nil {
		t.Fatal(p)
	}
	q, p := ep.parseAggregate(ps, time.Now(), 100)
	if p != nil {
		t.Fatalf("seed %d: %s: %s", seed, params.Encode(), p.Detail)
	}
	a := newAggregation(ep.ds, q, AggregateOptions{}.Defaults(), time.Now)
	for _, rec := range records {
		if !slices.ContainsFunc(q.list.filters, func(f filter) bool { return !f.match(rec) }) {
			a.add("", rec)
		}
	}
	want := string(a.appendData(nil))
	st, p := makeStatement(ep.ds, q, testView(ep.ds), 10_001)
	if p != nil {
		t.Fatalf("seed %d: %s: %s", seed, params.Encode(), p.Detail)
	}
	if err := st.check(ep.ds); err != nil {
		t.Fatalf("seed %d: %s: %v\n%s", seed, params.Encode(), err, st.show())
	}
	var dates []int
	for i, f := range q.groupBy {
		if f.Type == dataset.Date {
			dates = append(dates, i)
		}
	}
	got := []byte{'['}
	for i, row := range st.run(t, table, dates) {
		if i > 0 {
			got = append(got, ',')
		}
		var err error
		if got, err = st.appendGroup(append(got, '{'), q, row); err != nil {
			t.Fatalf("seed %d: %s: %v", seed, params.Encode(), err)
		}
		got = append(got, '}')
	}
	if got = append(got, ']'); string(got) != want || !json.Valid(got) {
		t.Fatalf("seed %d: %s\n sql %s\nrows %s\n%s", seed, params.Encode(), got, want, st.show())
	}
}

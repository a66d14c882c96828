package query

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/warehouse"
)

var update = flag.Bool("update", false, "write the golden files anew")

const warehouseYAML = `version: 1
name: shop
datasets:
  flights:
    fields:
      origin:        {type: string, required: true}
      departed_at:   {type: timestamp, required: true}
      destination:   {type: string, required: true}
      delay_minutes: {type: int64}
      price:         {type: float64}
      late:          {type: bool}
      booked:        {type: date}
      photo:         {type: bytes}
      crew:          {type: json}
      select:        {type: int64}
      v0:            {type: int64}
    key: [origin, departed_at, destination]
    time: departed_at
    api: {aggregate: bigquery}
  days:
    fields:
      day:   {type: date, required: true}
      flown: {type: int64}
    key: [day]
    time: day
    api: {aggregate: bigquery}
`

func testView(ds *dataset.Dataset) string { return "`my-project`.`shop`.`" + ds.Name + "_latest`" }

func statement(t testing.TB, ds *dataset.Dataset, rawQuery string, extra ...filter) *sqlStatement {
	t.Helper()
	ep, err := newEndpoint(ds, Options{}.Defaults())
	if err != nil {
		t.Fatal(err)
	}
	ps, p := parseParams(rawQuery)
	if p != nil {
		t.Fatalf("%s: %s", rawQuery, p.Detail)
	}
	q, p := ep.parseAggregate(ps, time.Date(2001, 2, 1, 12, 0, 0, 0, time.UTC), 16)
	if p != nil {
		t.Fatalf("%s: %s", rawQuery, p.Detail)
	}
	q.list.filters = append(q.list.filters, extra...)
	st, p := makeStatement(ds, q, testView(ds), 10_001)
	if p != nil {
		t.Fatalf("%s: %s", rawQuery, p.Detail)
	}
	return st
}

// show writes a statement with its parameters, as the golden files have it.
func (st *sqlStatement) show() string {
	var b strings.Builder
	b.WriteString(st.String())
	for _, p := range st.params {
		if p.Values != nil {
			fmt.Fprintf(&b, "-- @%s ARRAY<%s> %q\n", p.Name, p.Type, p.Values)
			continue
		}
		fmt.Fprintf(&b, "-- @%s %s %q\n", p.Name, p.Type, p.Value)
	}
	return b.String()
}

func sqlQueries() map[string]string {
	return map[string]string{
		"count":              "flights?",
		"groups":             "flights?metric=count,avg:delay_minutes,sum:delay_minutes,sum:price,avg:price&group_by=origin,late",
		"percentiles":        "flights?metric=p50:delay_minutes,p95:delay_minutes,p95:price,p99:price,count:price&group_by=destination",
		"percentiles-of-all": "flights?metric=p95:delay_minutes",
		"interval":           "flights?interval=1h&from=2001-01-01&to=2001-02-01&metric=min:departed_at,max:booked,min:origin",
		"interval-weeks":     "flights?interval=2w&group_by=origin&metric=p50:v0,sum:v0",
		"interval-of-dates":  "days?interval=1w&metric=count,sum:flown&day[gt]=2001-01-01",
		"filters":            "flights?origin=SCL'%20OR%201=1%20--&departed_at[gt]=2001-01-01T00:00:00.123456Z&price[lte]=1e300&late=true&booked[lt]=2001-01-31&photo[gte]=//8=&select=7",
		"between-micros":     "flights?departed_at[gte]=2001-01-01T00:00:00.000000001Z&departed_at[lte]=2001-01-01T00:00:00.000001999Z",
		"never":              "flights?departed_at=2001-01-01T00:00:00.000000001Z",
		"reserved-words":     "flights?metric=sum:select&group_by=select,v0",
	}
}

func TestStatementsAreTheGoldenOnes(t *testing.T) {
	t.Parallel()
	decl := load(t, warehouseYAML)
	for name, query := range sqlQueries() {
		set, params, _ := strings.Cut(query, "?")
		got := "-- " + query + "\n" + statement(t, decl.Dataset(set), params).show()
		file := filepath.Join("testdata", "aggregate-sql", name+".sql")
		if *update {
			if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(got), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil || string(want) != got {
			t.Errorf("%s (%v)\n got:\n%s\nwant:\n%s", name, err, got, want)
		}
	}
}

// sqlChecker gives each expression its type, from the schema of the declaration and the signatures
// of BigQuery's functions. What it does not know is an error.
type sqlChecker struct {
	columns map[string]string // of the view
	aliases map[string]string // of the steps before
	params  map[string]string
}

// ordered are the types that have MIN, MAX, comparisons and PERCENTILE_DISC.
var orderedTypes = []string{"INT64", "FLOAT64", "STRING", "BOOL", "TIMESTAMP", "DATE", "BYTES", "BIGNUMERIC"}

func (c sqlChecker) typeOf(e sqlExpr) (string, error) {
	var args []string
	for _, a := range e.args {
		t, err := c.typeOf(a)
		if err != nil {
			return "", err
		}
		args = append(args, t)
	}
	found := func(in map[string]string) (string, error) {
		if t, ok := in[e.text]; ok {
			return t, nil
		}
		return "", fmt.Errorf("there is no %s", e)
	}
	wrong := fmt.Errorf("%s: no signature for %s", e, args)
	switch e.kind {
	case sqlColumn:
		return found(c.columns)
	case sqlAlias:
		return found(c.aliases)
	case sqlParam:
		return found(c.params)
	case sqlLiteral:
		switch {
		case e.text == "FALSE":
			return "BOOL", nil
		case strings.Contains(e.text, "."):
			return "FLOAT64", nil
		}
		return "INT64", nil
	case sqlCountRows:
		return "INT64", nil
	case sqlCast:
		if e.text == "BIGNUMERIC" && slices.Equal(args, []string{"INT64"}) {
			return "BIGNUMERIC", nil
		}
	case sqlIsNull:
		if len(args) == 1 {
			return "BOOL", nil
		}
	case sqlIn:
		if len(args) == 2 && args[1] == "ARRAY<"+args[0]+">" {
			return "BOOL", nil
		}
	case sqlWindow:
		for _, t := range args[1:] {
			if t == "JSON" || t == "FLOAT64" {
				return "", wrong
			}
		}
		if e.args[0].kind == sqlCall && e.args[0].text == "PERCENTILE_DISC" {
			return args[0], nil
		}
	case sqlInfix:
		if len(args) != 2 || args[0] != args[1] || !slices.Contains(orderedTypes, args[0]) {
			return "", wrong
		}
		switch e.text {
		case "=", "!=", "<", "<=", ">", ">=":
			return "BOOL", nil
		case "+", "-", "*":
			if args[0] == "INT64" {
				return "INT64", nil
			}
		}
	case sqlCall:
		return callType(e, args, wrong)
	}
	return "", wrong
}

func callType(e sqlExpr, args []string, wrong error) (string, error) {
	for _, sig := range [][]string{ // name, result, arguments
		{"UNIX_SECONDS", "INT64", "TIMESTAMP"}, {"UNIX_DATE", "INT64", "DATE"}, {"TIMESTAMP_SECONDS", "TIMESTAMP", "INT64"},
		{"MOD", "INT64", "INT64", "INT64"}, {"SUM", "BIGNUMERIC", "BIGNUMERIC"}, {"SUM", "FLOAT64", "FLOAT64"}, {"AVG", "FLOAT64", "FLOAT64"},
		{"STARTS_WITH", "BOOL", "STRING", "STRING"}, {"STARTS_WITH", "BOOL", "BYTES", "BYTES"}, {"NOT", "BOOL", "BOOL"},
	} {
		if sig[0] == e.text && slices.Equal(sig[2:], args) {
			return sig[1], nil
		}
	}
	switch {
	case e.text == "COUNT" && len(args) == 1:
		return "INT64", nil
	case e.text == "ANY_VALUE" && len(args) == 1:
		return args[0], nil
	case (e.text == "MIN" || e.text == "MAX") && len(args) == 1 && slices.Contains(orderedTypes, args[0]):
		return args[0], nil
	case e.text == "PERCENTILE_DISC" && len(args) == 2 && slices.Contains(orderedTypes, args[0]) && args[1] == "FLOAT64" && e.args[1].kind == sqlLiteral:
		return args[0], nil
	}
	return "", wrong
}

// check types the steps of a statement one after the other.
func (st *sqlStatement) check(ds *dataset.Dataset) error {
	sqlNames := map[string]string{"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}
	c := sqlChecker{columns: map[string]string{}, aliases: map[string]string{}, params: map[string]string{}}
	for _, column := range warehouse.Schema(ds) {
		c.columns[column.Name] = column.Type
		if t, ok := sqlNames[column.Type]; ok {
			c.columns[column.Name] = t
		}
	}
	for _, p := range st.params {
		c.params[p.Name] = p.Type
		if p.Values != nil {
			c.params[p.Name] = "ARRAY<" + p.Type + ">"
		}
	}
	for _, e := range st.where {
		if t, err := c.typeOf(e); err != nil || t != "BOOL" {
			return fmt.Errorf("WHERE %s is %s: %w", e, t, err)
		}
	}
	source := c
	for i, step := range [][]sqlItem{st.source, st.ranked, st.groups, st.values} {
		next := map[string]string{}
		for name, t := range c.aliases {
			next[name] = t
		}
		for _, it := range step {
			t, err := source.typeOf(it.expr)
			if err != nil {
				return err
			}
			if _, twice := next[it.alias]; twice && it.expr.String() != it.alias {
				return fmt.Errorf("alias %s stands twice", it.alias)
			}
			next[it.alias] = t
		}
		if c.aliases = next; i == 0 {
			c.columns = nil // The view is seen by the source only.
		}
		source = c
	}
	for _, g := range st.groups {
		if t := c.aliases[g.alias]; t == "JSON" || t == "FLOAT64" || t == "" {
			return fmt.Errorf("GROUP BY %s of type %q", g.alias, t)
		}
	}
	return nil
}

// TestStatementsFitTheSchema types every golden query, and all metrics and filters of all fields.
func TestStatementsFitTheSchema(t *testing.T) {
	t.Parallel()
	decl := load(t, warehouseYAML)
	n := 0
	check := func(set, params string, extra ...filter) {
		n++
		ds := decl.Dataset(set)
		if err := statement(t, ds, params, extra...).check(ds); err != nil {
			t.Errorf("%s?%s: %v", set, params, err)
		}
	}
	for _, query := range sqlQueries() {
		set, params, _ := strings.Cut(query, "?")
		check(set, params)
	}
	for _, ds := range decl.Datasets {
		for _, f := range ds.Fields {
			group := ""
			if ungroupable(f.Type) == "" {
				group = "&group_by=" + f.Name + "&interval=1d"
			}
			for _, fn := range metricFunctions() {
				if takes(fn, f.Type) {
					check(ds.Name, "metric="+fn+":"+f.Name+group)
				}
			}
			if f.Type == dataset.JSON {
				continue
			}
			for _, o := range []op{opEq, opGt, opGte, opLt, opLte} {
				for _, text := range samples(f.Type) {
					v, err := dataset.ParseText(f, text)
					if err != nil {
						t.Fatal(err)
					}
					check(ds.Name, "", filter{parameter: f.Name, field: f, op: o, value: v})
				}
			}
		}
	}
	t.Logf("%d statements", n)
	// The checker itself must see what is wrong.
	ds := decl.Dataset("flights")
	for what, spoil := range map[string]func(*sqlStatement){
		"a column that is not declared": func(st *sqlStatement) { st.source[0].expr.text = "orgin" },
		"a function of another type":    func(st *sqlStatement) { st.values[0].expr = call("SUM", alias("g0")) },
		"a percentile that is no literal": func(st *sqlStatement) {
			st.values[0].expr = call("PERCENTILE_DISC", alias("v1"), call("AVG", alias("v1")))
		},
		"a parameter of another type": func(st *sqlStatement) { st.params[0].Type = "INT64" },
		"a parameter that is missing": func(st *sqlStatement) { st.params = nil },
		"a function that is unknown":  func(st *sqlStatement) { st.values[0].expr.text = "MEDIAN" },
		"the view seen too late":      func(st *sqlStatement) { st.values[0].expr.args[0] = sqlExpr{kind: sqlColumn, text: "price"} },
	} {
		st := statement(t, ds, "metric=sum:price&group_by=origin&origin=SCL")
		if err := st.check(ds); err != nil {
			t.Fatal(err)
		}
		if spoil(st); st.check(ds) == nil {
			t.Errorf("%s is not seen in\n%s", what, st)
		}
	}
}

// TestStatementsHaveNoValues looks for the caller's values in the text of a statement.
func TestStatementsHaveNoValues(t *testing.T) {
	t.Parallel()
	ds := load(t, warehouseYAML).Dataset("flights")
	allowed := regexp.MustCompile("^[A-Za-z0-9_@`(),.*=<>!+\\s-]*$")
	for _, evil := range []string{"'; DROP TABLE x --", "`", "\\", "@p9", "\n", "\"", "/*", "EVIL"} {
		v, err := dataset.ParseText(ds.Field("origin"), evil)
		if err != nil {
			t.Fatal(err)
		}
		st := statement(t, ds, "", filter{parameter: "origin", field: ds.Field("origin"), op: opEq, value: v})
		plain := statement(t, ds, "origin=SCL")
		if st.String() != plain.String() || st.params[0].Value != evil || !allowed.MatchString(st.String()) {
			t.Errorf("%q: %s", evil, st.show())
		}
	}
}

// TestConditions writes the operators that a list may have, also those that filters do not use.
func TestConditions(t *testing.T) {
	t.Parallel()
	ds := load(t, warehouseYAML).Dataset("flights")
	value := func(field, text string) dataset.Value {
		v, err := dataset.ParseText(ds.Field(field), text)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	const between = "2001-01-01T00:00:00.0000005Z"
	for _, tt := range []struct {
		field string
		c     filter
		want  string
	}{
		{"origin", filter{op: opNe, value: value("origin", "SCL")}, "(`origin` != @p0) STRING SCL"},
		{"origin", filter{op: opPrefix, value: value("origin", "S")}, "STARTS_WITH(`origin`, @p0) STRING S"},
		{"photo", filter{op: opPrefix, value: value("photo", "\xff")}, "STARTS_WITH(`photo`, @p0) BYTES /w=="},
		{"late", filter{op: opIn, values: []dataset.Value{value("late", "true")}}, "`late` IN UNNEST(@p0) BOOL [true]"},
		{"departed_at", filter{op: opIn, values: []dataset.Value{value("departed_at", between), value("departed_at", "2001-01-01")}}, "`departed_at` IN UNNEST(@p0) TIMESTAMP [2001-01-01 00:00:00+00:00]"},
		{"crew", filter{op: opExists, present: true}, "NOT(`crew` IS NULL)"},
		{"crew", filter{op: opExists}, "`crew` IS NULL"},
		{"departed_at", filter{op: opEq, value: value("departed_at", between)}, "FALSE"},
		{"departed_at", filter{op: opNe, value: value("departed_at", between)}, "NOT(`departed_at` IS NULL)"},
		{"departed_at", filter{op: opGte, value: value("departed_at", between)}, "(`departed_at` >= @p0) TIMESTAMP 2001-01-01 00:00:00.000001+00:00"},
		{"departed_at", filter{op: opGt, value: value("departed_at", between)}, "(`departed_at` > @p0) TIMESTAMP 2001-01-01 00:00:00+00:00"},
		{"departed_at", filter{op: opLt, value: value("departed_at", between)}, "(`departed_at` < @p0) TIMESTAMP 2001-01-01 00:00:00.000001+00:00"},
		{"departed_at", filter{op: opLte, value: value("departed_at", between)}, "(`departed_at` <= @p0) TIMESTAMP 2001-01-01 00:00:00+00:00"},
	} {
		st := &sqlStatement{source: []sqlItem{{literal(1), "one"}}, values: []sqlItem{{sqlExpr{kind: sqlCountRows}, "m0"}}}
		tt.c.parameter, tt.c.field = tt.field, ds.Field(tt.field)
		e, p := st.compare(tt.c)
		if p != nil {
			t.Errorf("%s %s: %s", tt.field, tt.c.op, p.Detail)
			continue
		}
		got := e.String()
		for _, p := range st.params {
			got += " " + p.Type + " " + p.Value
			if p.Values != nil {
				got += fmt.Sprint(p.Values)
			}
		}
		if got != tt.want {
			t.Errorf("%s %s\n got %s\nwant %s", tt.field, tt.c.op, got, tt.want)
		}
		st.where = []sqlExpr{e}
		if err := st.check(ds); err != nil {
			t.Error(err)
		}
	}
	st := &sqlStatement{}
	if _, p := st.compare(filter{parameter: "origin[like]", field: ds.Field("origin"), op: "like", value: value("origin", "x")}); p == nil {
		t.Error("an unknown operator must not be ignored")
	}
	if _, p := st.compare(filter{parameter: "booked", field: ds.Field("booked"), op: opEq, value: value("booked", "0000-12-31")}); p == nil || !strings.Contains(p.Detail, "before the year 1") {
		t.Error("BigQuery has no year 0")
	}
}

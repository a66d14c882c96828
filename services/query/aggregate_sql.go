package query

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/warehouse"
	"github.com/latamctl/latamctl/pkg/web"
)

// sqlExpr is an expression of GoogleSQL. Values of the caller are parameters; texts come from the
// declaration or from this file.
type sqlExpr struct {
	kind sqlKind
	text string // the name or the literal, see sqlKind
	args []sqlExpr
}

type sqlKind uint8

const (
	sqlColumn    sqlKind = iota // a column of the view
	sqlAlias                    // a column of a step before
	sqlParam                    // a parameter
	sqlLiteral                  // a number or TRUE, FALSE
	sqlCall                     // a function and its arguments
	sqlInfix                    // an operator between its arguments, in parentheses
	sqlCast                     // its argument as the type text
	sqlIsNull                   // its argument is NULL
	sqlIn                       // the first argument is in the array of the second
	sqlWindow                   // a call, its first argument, over partitions by the others
	sqlCountRows                // COUNT(*)
)

func call(fn string, args ...sqlExpr) sqlExpr  { return sqlExpr{sqlCall, fn, args} }
func infix(op string, args ...sqlExpr) sqlExpr { return sqlExpr{sqlInfix, op, args} }
func alias(name string) sqlExpr                { return sqlExpr{kind: sqlAlias, text: name} }
func literal(n int64) sqlExpr                  { return sqlExpr{kind: sqlLiteral, text: strconv.FormatInt(n, 10)} }

// String writes the expression. Names of fields are letters, digits and underscores.
func (e sqlExpr) String() string {
	args := make([]string, len(e.args))
	for i, a := range e.args {
		args[i] = a.String()
	}
	switch e.kind {
	case sqlColumn:
		return "`" + e.text + "`"
	case sqlParam:
		return "@" + e.text
	case sqlCall:
		return e.text + "(" + strings.Join(args, ", ") + ")"
	case sqlInfix:
		return "(" + strings.Join(args, " "+e.text+" ") + ")"
	case sqlCast:
		return "CAST(" + args[0] + " AS " + e.text + ")"
	case sqlIsNull:
		return args[0] + " IS NULL"
	case sqlIn:
		return args[0] + " IN UNNEST(" + args[1] + ")"
	case sqlWindow:
		over := ""
		if len(args) > 1 {
			over = "PARTITION BY " + strings.Join(args[1:], ", ")
		}
		return args[0] + " OVER (" + over + ")"
	case sqlCountRows:
		return "COUNT(*)"
	}
	return e.text
}

// sqlItem is an expression with the alias that it has from there on.
type sqlItem struct {
	expr  sqlExpr
	alias string
}

// sqlStatement computes an aggregate in up to three steps: source has the columns of the rows that
// meet the filters, ranked adds percentiles, which BigQuery has as window functions only, and the
// last step makes the groups.
type sqlStatement struct {
	view   string
	source []sqlItem
	where  []sqlExpr
	ranked []sqlItem
	groups []sqlItem // the first columns of the result
	values []sqlItem // the others
	parts  [][]int   // of each metric: the columns of the result that it is made of
	limit  int
	params []warehouse.Param
}

// makeStatement writes a query as SQL. The result has the groups, the interval and then
// values; see appendGroup.
func makeStatement(ds *dataset.Dataset, q aggregateQuery, view string, limit int) (*sqlStatement, *web.Problem) {
	st := &sqlStatement{view: view, limit: limit}
	for _, f := range q.groupBy {
		st.addGroup(sqlExpr{kind: sqlColumn, text: f.Name})
	}
	if q.interval > 0 {
		st.addGroup(bucketExpr(ds.Time, q.interval))
	}
	for _, m := range q.metrics {
		var parts []int
		for _, v := range st.valuesOf(m) {
			parts = append(parts, st.columnOf(v))
		}
		st.parts = append(st.parts, parts)
	}
	if len(st.source) == 0 {
		st.source = []sqlItem{{literal(1), "one"}}
	}
	for _, f := range q.list.filters {
		e, p := st.compare(f)
		if p != nil {
			return nil, p
		}
		st.where = append(st.where, e)
	}
	return st, nil
}

func (st *sqlStatement) addGroup(e sqlExpr) {
	name := "g" + strconv.Itoa(len(st.groups))
	st.source = append(st.source, sqlItem{e, name})
	st.groups = append(st.groups, sqlItem{alias(name), name})
}

// sourceOf returns the alias of a field among the columns of the source.
func (st *sqlStatement) sourceOf(f *dataset.Field) sqlExpr {
	return itemOf(&st.source, sqlExpr{kind: sqlColumn, text: f.Name}, "v")
}

// itemOf finds or adds an item that is not a group, and returns its alias.
func itemOf(items *[]sqlItem, e sqlExpr, prefix string) sqlExpr {
	text := e.String()
	for _, it := range *items {
		if strings.HasPrefix(it.alias, prefix) && it.expr.String() == text {
			return alias(it.alias)
		}
	}
	name := prefix + strconv.Itoa(len(*items))
	*items = append(*items, sqlItem{e, name})
	return alias(name)
}

// valuesOf are the values that a metric is made of. Averages of integers are made here of the exact
// sum and the count, as on rows.
func (st *sqlStatement) valuesOf(m metric) []sqlExpr {
	if m.field == nil {
		return []sqlExpr{{kind: sqlCountRows}}
	}
	v := st.sourceOf(m.field)
	integers := m.field.Type == dataset.Int64
	exact := call("SUM", sqlExpr{sqlCast, "BIGNUMERIC", []sqlExpr{v}})
	switch m.fn {
	case fnCount:
		return []sqlExpr{call("COUNT", v)}
	case fnSum:
		if integers {
			return []sqlExpr{exact}
		}
		return []sqlExpr{call("SUM", v)}
	case fnAvg:
		if integers {
			return []sqlExpr{exact, call("COUNT", v)}
		}
		return []sqlExpr{call("AVG", v)}
	case fnMin:
		return []sqlExpr{call("MIN", v)}
	case fnMax:
		return []sqlExpr{call("MAX", v)}
	}
	window := []sqlExpr{call("PERCENTILE_DISC", v, sqlExpr{kind: sqlLiteral, text: fmt.Sprintf("0.%02d", percent(m.fn))})}
	for _, g := range st.groups {
		window = append(window, alias(g.alias))
	}
	return []sqlExpr{call("ANY_VALUE", itemOf(&st.ranked, sqlExpr{kind: sqlWindow, args: window}, "q"))}
}

// columnOf finds or adds a value, and returns its column in the result.
func (st *sqlStatement) columnOf(e sqlExpr) int {
	name := itemOf(&st.values, e, "m")
	return len(st.groups) + slices.IndexFunc(st.values, func(it sqlItem) bool { return it.alias == name.text })
}

// bucketExpr is the start of the interval of a time, as bucketStart computes it.
func bucketExpr(f *dataset.Field, interval time.Duration) sqlExpr {
	column := sqlExpr{kind: sqlColumn, text: f.Name}
	sec := call("UNIX_SECONDS", column)
	if f.Type == dataset.Date {
		sec = infix("*", call("UNIX_DATE", column), literal(86400))
	}
	width, since := literal(int64(interval/time.Second)), sec
	if origin := intervalOrigin(interval); origin != 0 {
		since = infix("-", sec, literal(origin))
	}
	into := call("MOD", infix("+", call("MOD", since, width), width), width)
	return call("TIMESTAMP_SECONDS", infix("-", sec, into))
}

// compare is one filter. As on rows, only the absence of a field is met by a row without it.
func (st *sqlStatement) compare(f filter) (sqlExpr, *web.Problem) {
	column := sqlExpr{kind: sqlColumn, text: f.field.Name}
	switch f.op {
	case opExists:
		if null := (sqlExpr{sqlIsNull, "", []sqlExpr{column}}); !f.present {
			return null, nil
		}
		return present(column), nil
	case opIn:
		list, p := st.list(f, f.values)
		return sqlExpr{sqlIn, "", []sqlExpr{column, list}}, p
	}
	text, up, exact, prob := warehouseText(f, f.value)
	if prob != nil {
		return column, prob
	}
	operator := sqlOperator(f.op)
	switch {
	case operator == "":
		return column, invalid(f.parameter, fmt.Sprintf("aggregates on BigQuery have no operator %q", f.op), "Use another operator.")
	case exact:
	case f.op == opEq:
		return sqlExpr{kind: sqlLiteral, text: "FALSE"}, nil
	case f.op == opNe:
		return present(column), nil
	case f.op == opGte || f.op == opLt:
		text = up // Nothing lies between two microseconds.
	}
	param := st.param(warehouse.Param{Type: warehouse.SQLType(f.field.Type), Value: text})
	if f.op == opPrefix {
		return call(operator, column, param), nil
	}
	return infix(operator, column, param), nil
}

func present(column sqlExpr) sqlExpr {
	return call("NOT", sqlExpr{sqlIsNull, "", []sqlExpr{column}})
}

func sqlOperator(o op) string {
	switch o {
	case opEq:
		return "="
	case opNe:
		return "!="
	case opGt:
		return ">"
	case opGte:
		return ">="
	case opLt:
		return "<"
	case opLte:
		return "<="
	case opPrefix:
		return "STARTS_WITH"
	}
	return ""
}

// list is a parameter with those of the values that a column can have.
func (st *sqlStatement) list(f filter, values []dataset.Value) (sqlExpr, *web.Problem) {
	p := warehouse.Param{Type: warehouse.SQLType(f.field.Type), Values: []string{}}
	for _, v := range values {
		text, _, exact, prob := warehouseText(f, v)
		if prob != nil {
			return sqlExpr{}, prob
		}
		if exact {
			p.Values = append(p.Values, text)
		}
	}
	return st.param(p), nil
}

func (st *sqlStatement) param(p warehouse.Param) sqlExpr {
	p.Name = "p" + strconv.Itoa(len(st.params))
	st.params = append(st.params, p)
	return sqlExpr{kind: sqlParam, text: p.Name}
}

// warehouseText writes a value as a parameter has it. BigQuery has times from the year 1 to 9999 in
// whole microseconds; for a time in between, text is the one before and up the one after.
func warehouseText(f filter, v dataset.Value) (text, up string, exact bool, p *web.Problem) {
	switch f.field.Type {
	case dataset.Bytes:
		text = base64.StdEncoding.EncodeToString([]byte(v.Text()))
		return text, text, true, nil
	case dataset.Timestamp, dataset.Date:
		if v.Time().Year() < 1 {
			return "", "", false, invalid(f.parameter, fmt.Sprintf("%q is before the year 1, where the times of BigQuery begin", v.Text()), "")
		}
	}
	if f.field.Type != dataset.Timestamp {
		return v.Text(), v.Text(), true, nil
	}
	const layout = "2006-01-02 15:04:05.999999-07:00"
	down := v.Time().Truncate(time.Microsecond)
	if down.Equal(v.Time()) {
		return down.Format(layout), down.Format(layout), true, nil
	}
	next := down.Add(time.Microsecond)
	if next.Year() > 9999 {
		next = down // Nothing comes after it.
	}
	return down.Format(layout), next.Format(layout), false, nil
}

// String writes the statement.
func (st *sqlStatement) String() string {
	var b strings.Builder
	b.WriteString("WITH source AS (\n  SELECT ")
	b.WriteString(joinItems(st.source))
	b.WriteString("\n  FROM " + st.view)
	for i, e := range st.where {
		word := "\n  WHERE "
		if i > 0 {
			word = "\n    AND "
		}
		b.WriteString(word + e.String())
	}
	from := "source"
	if len(st.ranked) > 0 {
		b.WriteString("\n), ranked AS (\n  SELECT *, " + joinItems(st.ranked) + "\n  FROM source")
		from = "ranked"
	}
	b.WriteString("\n)\nSELECT " + joinItems(append(st.groups[:len(st.groups):len(st.groups)], st.values...)) + "\nFROM " + from)
	if len(st.groups) > 0 {
		var names, order []string
		for _, g := range st.groups {
			names, order = append(names, g.alias), append(order, g.alias+" ASC NULLS FIRST")
		}
		b.WriteString("\nGROUP BY " + strings.Join(names, ", ") + "\nORDER BY " + strings.Join(order, ", "))
	}
	b.WriteString("\nLIMIT " + strconv.Itoa(st.limit) + "\n")
	return b.String()
}

func joinItems(items []sqlItem) string {
	texts := make([]string, len(items))
	for i, it := range items {
		texts[i] = it.expr.String()
		if texts[i] != it.alias {
			texts[i] += " AS " + it.alias
		}
	}
	return strings.Join(texts, ", ")
}

package openapi

import (
	"fmt"
	"strings"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// Operators lists what can be asked of a field of a type, as it is written in brackets.
func Operators(t dataset.Type) []string {
	switch t {
	case dataset.JSON:
		return []string{"exists"}
	case dataset.Bool:
		return []string{"eq", "ne", "in", "exists"}
	case dataset.String, dataset.Bytes:
		return []string{"eq", "ne", "gt", "gte", "lt", "lte", "in", "prefix", "exists"}
	}
	return []string{"eq", "ne", "gt", "gte", "lt", "lte", "in", "exists"}
}

// operatorText says what an operator asks for.
func operatorText(op, field string) string {
	switch op {
	case "eq":
		return field + " is this value."
	case "ne":
		return field + " has a value, and it is another than this."
	case "gt":
		return field + " is greater than this value."
	case "gte":
		return field + " is this value or greater."
	case "lt":
		return field + " is less than this value."
	case "lte":
		return field + " is this value or less."
	case "in":
		return field + ` is one of these values, by comma; a comma of a value itself is written \,.`
	case "prefix":
		return field + " begins with this value."
	}
	return field + " has a value (true) or has none (false)."
}

// queryValue is the schema of a field's value in a query string. Patterns and bounds of the
// declaration do not apply: a filter may ask for what no row has.
func queryValue(f *dataset.Field) *Schema {
	switch f.Type {
	case dataset.Int64:
		return &Schema{Type: typeInteger, Format: "int64"}
	case dataset.Float64:
		return &Schema{Type: typeNumber, Format: "double"}
	case dataset.Bool:
		return &Schema{Type: typeBoolean}
	case dataset.Date:
		return &Schema{Type: typeString, Format: "date"}
	}
	return &Schema{Type: typeString, MinLength: 1}
}

// queryHint says how a value of a type is written, where that is not plain.
func queryHint(t dataset.Type) string {
	switch t {
	case dataset.Timestamp:
		return " RFC 3339, or a date for its midnight in UTC."
	case dataset.Bytes:
		return " Standard base64, + written %2B."
	}
	return ""
}

// addFilters adds the parameters that filter by the fields of a dataset. Each operator is a parameter
// of its own, delay_minutes[gte]: a deepObject delay_minutes could not stand next to the plain
// delay_minutes, has one description for all operators, and few generators and no form know it.
func (b *builder) addFilters(ds *datasetNames) {
	for _, f := range ds.Fields {
		for _, op := range Operators(f.Type) {
			p := &Parameter{Name: f.Name + "[" + op + "]", In: "query", Description: operatorText(op, f.Name) + queryHint(f.Type), Schema: queryValue(f)}
			switch op {
			case "in":
				p.Style, p.Explode = "form", new(bool)
				p.Schema = &Schema{Type: typeArray, Items: queryValue(f), MinItems: 1, MaxItems: b.o.Limits.MaxIn}
				p.Description = operatorText(op, f.Name)
			case "exists":
				p.Schema = &Schema{Type: typeBoolean}
				p.Description = operatorText(op, f.Name)
			case "eq":
				plain := *p
				plain.Name, plain.Description = f.Name, fmt.Sprintf("The same as %s[eq]: %s", f.Name, p.Description)
				if v, ok := ds.example.values[f.Name]; ok {
					plain.Example = v
				}
				b.parameter(ds.Name+"."+f.Name, &plain)
			}
			b.parameter(ds.Name+"."+f.Name+"."+op, p)
		}
	}
}

func (b *builder) parameter(name string, p *Parameter) { b.doc.Components.Parameters.Set(name, p) }

func parameterRefs(names ...string) []*Parameter {
	list := make([]*Parameter, len(names))
	for i, name := range names {
		list[i] = &Parameter{Ref: "#/components/parameters/" + name}
	}
	return list
}

// filterRefs refers to all filters of a dataset.
func filterRefs(ds *datasetNames) []*Parameter {
	var list []string
	for _, f := range ds.Fields {
		for _, op := range Operators(f.Type) {
			if op == "eq" {
				list = append(list, ds.Name+"."+f.Name)
			}
			list = append(list, ds.Name+"."+f.Name+"."+op)
		}
	}
	return parameterRefs(list...)
}

// addSharedParameters adds the parameters that are the same for all datasets.
func (b *builder) addSharedParameters() {
	choice := func(name, description, def string, values ...any) {
		s := &Schema{Type: typeString, Enum: values}
		if def != "" {
			s.Default = def
		}
		b.parameter(name, &Parameter{Name: name, In: "query", Description: description, Schema: s})
	}
	text := func(name, description string, example any) {
		b.parameter(name, &Parameter{Name: name, In: "query", Description: description, Schema: &Schema{Type: typeString, MinLength: 1}, Example: example})
	}
	text("from", "Rows of this event time or later: RFC 3339, a date, now, or before now such as -15m or -7d.", "2001-01-01")
	text("to", "Rows before this event time, written as from.", "2001-02-01T00:00:00Z")
	choice("order", "The order of the rows by the key, or by the index that serves the query.", "asc", "asc", "desc")
	limit := &Schema{Type: typeInteger, Minimum: number(1), Default: b.o.Limits.DefaultLimit}
	what := fmt.Sprintf("How many rows a page has at most: up to %d, by default %d. A page may have fewer and still not be the last.", b.o.Limits.MaxLimit, b.o.Limits.DefaultLimit)
	if b.d.v30 {
		limit.Maximum = number(int64(b.o.Limits.MaxLimit))
	} else {
		limit.Default = nil
		what += " An export has no such bound and returns everything by default."
	}
	b.parameter("limit", &Parameter{Name: "limit", In: "query", Description: what, Schema: limit, Example: 10})
	text("cursor", "next_cursor of the page before. The other parameters are repeated or left out; limit, format and count may change.", nil)
	choice("count", "Counts the rows that meet the filters, within bounds: meta.count says whether there may be more.", "none", "none", "estimated", "exact")
	choice("scan", "Allows a query that no key and no index serves, so that it reads everything.", "", "allow")
	b.parameter("explain", &Parameter{Name: "explain", In: "query", Description: "Returns how the query would be served instead of its rows.", Schema: &Schema{Type: typeBoolean, Default: false}})
	if !b.d.v30 {
		choice("format", "How the rows are written; what Accept prefers by default. ndjson and csv stream all rows; csv-safe writes no cell that a spreadsheet takes for a formula.", "", "json", "ndjson", "csv", "csv-safe")
	}
}

// addDatasetParameters adds the other parameters of a dataset.
func (b *builder) addDatasetParameters(ds *datasetNames) {
	list := func(name, description string, values []any, most int) *Parameter {
		return &Parameter{
			Name: name, In: "query", Description: description, Style: "form", Explode: new(bool),
			Schema: &Schema{Type: typeArray, Items: &Schema{Type: typeString, Enum: values}, MinItems: 1, MaxItems: most, UniqueItems: true},
		}
	}
	fields, groups := []any{dataset.IDMember}, []any{}
	for _, f := range ds.Fields {
		fields = append(fields, f.Name)
		if groupable(f.Type) {
			groups = append(groups, f.Name)
		}
	}
	b.parameter(ds.Name+".fields", list("fields", "The fields to return, by comma; all by default. The id always comes.", fields, b.o.Limits.MaxFields))
	access := []any{"key"}
	for _, ix := range ds.Indexes {
		access = append(access, ix.Name)
	}
	b.parameter(ds.Name+".index", &Parameter{Name: "index", In: "query", Description: "Serves the query by this index, or by the key; the best one by default.", Schema: &Schema{Type: typeString, Enum: access}})
	id := &Parameter{Name: "id", In: "path", Required: true, Description: idDescription(ds.Dataset), Schema: &Schema{Type: typeString, MinLength: 1}}
	if ds.example.id != "" {
		id.Example = ds.example.id
	}
	b.parameter(ds.Name+".id", id)
	metrics := metricsOf(ds.Dataset)
	metric := list("metric", "What to compute, by comma: count, or a function and a field. By default count.", metrics, b.o.Limits.MaxMetrics)
	metric.Example = []any{"count"}
	if len(metrics) > 1 {
		metric.Example = []any{"count", metrics[len(metrics)-1]}
	}
	b.parameter(ds.Name+".metric", metric)
	if len(groups) > 0 {
		group := list("group_by", "The fields to group by, by comma; one group of everything by default.", groups, b.o.Limits.MaxGroupBy)
		group.Example = groups[:1]
		b.parameter(ds.Name+".group_by", group)
	}
}

func groupable(t dataset.Type) bool {
	return t != dataset.JSON && t != dataset.Bytes && t != dataset.Float64
}

// metricsOf lists the metrics that a dataset has.
func metricsOf(ds *dataset.Dataset) []any {
	list := []any{"count"}
	for _, f := range ds.Fields {
		for _, fn := range []string{"count", "sum", "avg", "min", "max", "p50", "p95", "p99"} {
			if metricTakes(fn, f.Type) {
				list = append(list, fn+":"+f.Name)
			}
		}
	}
	return list
}

func metricTakes(fn string, t dataset.Type) bool {
	number := t == dataset.Int64 || t == dataset.Float64
	switch fn {
	case "count":
		return true
	case "min", "max":
		return number || t == dataset.Timestamp || t == dataset.Date || t == dataset.String
	}
	return number
}

// listParameters are those of a list, in the order in which they are read.
func (b *builder) listParameters(ds *datasetNames) []*Parameter {
	list := filterRefs(ds)
	list = append(list, b.timeParameters(ds)...)
	list = append(list, parameterRefs("order", ds.Name+".fields", "limit", "cursor", ds.Name+".index", "count")...)
	if !b.d.v30 {
		list = append(list, parameterRefs("format")...)
	}
	return append(list, parameterRefs("explain", "scan")...)
}

func (b *builder) timeParameters(ds *datasetNames) []*Parameter {
	if ds.Time == nil {
		return nil
	}
	return parameterRefs("from", "to")
}

func (b *builder) aggregateParameters(ds *datasetNames) []*Parameter {
	list := parameterRefs(ds.Name + ".metric")
	if _, ok := b.doc.Components.Parameters.Get(ds.Name + ".group_by"); ok {
		list = append(list, parameterRefs(ds.Name+".group_by")...)
	}
	if ds.Time != nil {
		list = append(list, &Parameter{
			Name: "interval", In: "query", Description: "Also groups by the event time, in steps this long such as 15m, 1h, 1d or 1w, counted from 1970 in UTC; weeks begin on Monday.",
			Schema: &Schema{Type: typeString, Pattern: `^[0-9.]+[a-z]`}, Example: "1d",
		})
	}
	list = append(append(list, filterRefs(ds)...), b.timeParameters(ds)...)
	return append(list, parameterRefs(ds.Name+".index", "scan")...)
}

// joined lists names for a text.
func joined(fields []*dataset.Field) string { return strings.Join(names(fields), ", ") }

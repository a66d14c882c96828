package query

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/web"
)

// The parameters of an aggregate that are not those of a list.
const (
	paramMetric   = "metric"
	paramGroupBy  = "group_by"
	paramInterval = "interval"
)

// What one aggregate may ask for.
const (
	maxMetrics     = 16
	maxGroupFields = 4
	minInterval    = time.Second
)

// The functions of a metric.
const (
	fnCount = "count"
	fnSum   = "sum"
	fnAvg   = "avg"
	fnMin   = "min"
	fnMax   = "max"
	fnP50   = "p50"
	fnP95   = "p95"
	fnP99   = "p99"
)

func metricFunctions() []string {
	return []string{fnCount, fnSum, fnAvg, fnMin, fnMax, fnP50, fnP95, fnP99}
}

// percent is which percentile a function is, 0 when it is none.
func percent(fn string) int64 {
	switch fn {
	case fnP50:
		return 50
	case fnP95:
		return 95
	case fnP99:
		return 99
	}
	return 0
}

// takes says whether a function is defined for a type.
func takes(fn string, t dataset.Type) bool {
	switch fn {
	case fnCount:
		return true
	case fnMin, fnMax:
		return t == dataset.Int64 || t == dataset.Float64 || t == dataset.Timestamp || t == dataset.Date || t == dataset.String
	}
	return t == dataset.Int64 || t == dataset.Float64
}

// metric is one number to compute. The field is nil for the count of rows.
type metric struct {
	name  string // as the caller wrote it: the name of the member
	fn    string
	field *dataset.Field
}

// aggregateQuery is the parameters of an aggregate, understood.
type aggregateQuery struct {
	list     listQuery
	metrics  []metric
	groupBy  []*dataset.Field
	interval time.Duration // 0 = none
}

// parseAggregate reads all parameters of an aggregate. Relative times are relative to at.
func (ep *endpoint) parseAggregate(ps []param, at time.Time, maxFilters int) (q aggregateQuery, p *web.Problem) {
	var rest []param
	q.metrics = []metric{{name: fnCount, fn: fnCount}}
	for _, param := range ps {
		switch param.name {
		case paramMetric:
			q.metrics, p = ep.parseMetrics(param.value)
		case paramGroupBy:
			q.groupBy, p = ep.parseGroupBy(param.value)
		case paramInterval:
			q.interval, p = ep.parseInterval(param.value)
		case paramFormat:
			_, p = parseChoice(param, "json")
		default:
			rest, p = append(rest, param), ep.checkAggregateParameter(param.name)
		}
		if p != nil {
			return q, p
		}
	}
	q.list, p = ep.parseListQuery(rest, at, maxFilters)
	return q, p
}

// checkAggregateParameter refuses what only a list takes, and names the parameters of an aggregate
// when it does not know one.
func (ep *endpoint) checkAggregateParameter(name string) *web.Problem {
	known := append(ep.ds.FieldNames(), paramMetric, paramGroupBy, paramInterval, paramFrom, paramTo, paramIndex, paramScan, paramFormat)
	base, _, _ := strings.Cut(name, "[")
	if base == name && slices.Contains(known, name) || ep.ds.Field(base) != nil {
		return nil
	}
	p := unknownParameter(name, known)
	switch name {
	case paramLimit, paramCursor, paramOrder, paramFields:
		p.Hint = "An aggregate returns all groups at once, in the order of their values: choose them with group_by and filters."
	}
	return p
}

// parseMetrics reads a list such as count,avg:delay_minutes.
func (ep *endpoint) parseMetrics(list string) ([]metric, *web.Problem) {
	var metrics []metric
	for name := range strings.SplitSeq(list, ",") {
		if len(metrics) == maxMetrics {
			return nil, invalid(paramMetric, fmt.Sprintf("the list has more than %d metrics", maxMetrics), "Ask in several requests.")
		}
		if slices.ContainsFunc(metrics, func(m metric) bool { return m.name == name }) {
			return nil, invalid(paramMetric, fmt.Sprintf("%q stands twice in the list", web.Quote(name)), "Give it once.")
		}
		m, p := ep.parseMetric(name)
		if p != nil {
			return nil, p
		}
		metrics = append(metrics, m)
	}
	return metrics, nil
}

func (ep *endpoint) parseMetric(name string) (metric, *web.Problem) {
	fn, fieldName, hasField := strings.Cut(name, ":")
	if !slices.Contains(metricFunctions(), fn) {
		hint := "Possible: count and count:FIELD, " + strings.Join(metricFunctions()[1:], ":FIELD, ") + ":FIELD."
		if near := dataset.Nearest(fn, metricFunctions()); near != "" {
			hint = fmt.Sprintf("Did you mean %s? %s", strings.TrimSuffix(near+":"+fieldName, ":"), hint)
		}
		return metric{}, invalid(paramMetric, fmt.Sprintf("there is no metric %q", web.Quote(name)), hint)
	}
	if !hasField && fn == fnCount {
		return metric{name: name, fn: fn}, nil
	}
	usable := fieldsFor(ep.ds, func(t dataset.Type) bool { return takes(fn, t) })
	if !hasField {
		return metric{}, invalid(paramMetric, fmt.Sprintf("%s needs a field", fn), possibleMetrics(ep.ds, fn, usable))
	}
	field := ep.ds.Field(fieldName)
	if field == nil {
		hint := possibleMetrics(ep.ds, fn, usable)
		if near := dataset.Nearest(fieldName, usable); near != "" {
			hint = fmt.Sprintf("Did you mean %s:%s?", fn, near)
		}
		return metric{}, invalid(paramMetric, fmt.Sprintf("%q: %s has no field %q", web.Quote(name), ep.ds.Name, web.Quote(fieldName)), hint)
	}
	if !takes(fn, field.Type) {
		p := invalid(paramMetric, fmt.Sprintf("%s is not defined for the field %s of type %s", fn, field.Name, field.Type), possibleMetrics(ep.ds, fn, usable))
		p.Errors[0].Field = field.Name
		return metric{}, p
	}
	return metric{name: name, fn: fn, field: field}, nil
}

func possibleMetrics(ds *dataset.Dataset, fn string, usable []string) string {
	if len(usable) == 0 {
		return fmt.Sprintf("%s has no field that %s is defined for.", ds.Name, fn)
	}
	return fmt.Sprintf("Possible: %s:%s.", fn, strings.Join(usable, ", "+fn+":"))
}

// fieldsFor names the fields with a type that will do.
func fieldsFor(ds *dataset.Dataset, good func(dataset.Type) bool) []string {
	var names []string
	for _, f := range ds.Fields {
		if good(f.Type) {
			names = append(names, f.Name)
		}
	}
	return names
}

func (ep *endpoint) parseGroupBy(list string) ([]*dataset.Field, *web.Problem) {
	var fields []*dataset.Field
	usable := fieldsFor(ep.ds, func(t dataset.Type) bool { return ungroupable(t) == "" })
	possible := "Possible: " + strings.Join(usable, ", ") + "."
	for name := range strings.SplitSeq(list, ",") {
		if len(fields) == maxGroupFields {
			return nil, invalid(paramGroupBy, fmt.Sprintf("the list has more than %d fields", maxGroupFields), "Leave some out.")
		}
		f := ep.ds.Field(name)
		if f == nil {
			hint := possible
			if near := dataset.Nearest(name, usable); near != "" {
				hint = fmt.Sprintf("Did you mean %s?", near)
			}
			return nil, invalid(paramGroupBy, fmt.Sprintf("%s has no field %q", ep.ds.Name, web.Quote(name)), hint)
		}
		if slices.Contains(fields, f) {
			return nil, invalid(paramGroupBy, fmt.Sprintf("%q stands twice in the list", name), "Give it once.")
		}
		if why := ungroupable(f.Type); why != "" {
			p := invalid(paramGroupBy, fmt.Sprintf("rows cannot be grouped by the field %s of type %s: %s", f.Name, f.Type, why), possible)
			p.Errors[0].Field = f.Name
			return nil, p
		}
		fields = append(fields, f)
	}
	return fields, nil
}

// ungroupable says why a type makes no groups, "" when it does.
func ungroupable(t dataset.Type) string {
	switch t {
	case dataset.JSON:
		return "equal values can be written in many ways"
	case dataset.Bytes:
		return "they are no label"
	case dataset.Float64:
		return "nearly every row has a value of its own"
	}
	return ""
}

func (ep *endpoint) parseInterval(text string) (time.Duration, *web.Problem) {
	const write = "Write whole seconds or more, such as 1s, 15m, 1h, 1d or 1w."
	if ep.ds.Time == nil {
		return 0, invalid(paramInterval, fmt.Sprintf("%s declares no time field", ep.ds.Name), "Use group_by instead.")
	}
	d, err := dataset.ParseDuration(text)
	if err != nil {
		return 0, invalid(paramInterval, fmt.Sprintf("expected a duration, got %q", web.Quote(text)), write)
	}
	if d < minInterval || d%time.Second != 0 {
		return 0, invalid(paramInterval, fmt.Sprintf("%q is not a whole number of seconds, 1 or more", web.Quote(text)), write)
	}
	return d, nil
}

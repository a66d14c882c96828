package query

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/web"
)

// op is a comparison.
type op uint8

const (
	opEq op = iota
	opGt
	opGte
	opLt
	opLte
)

// filter is one condition on one field. A row without the field never meets it.
type filter struct {
	parameter string // as the caller wrote it
	field     *dataset.Field
	op        op
	value     dataset.Value
}

func (f filter) match(r dataset.Record) bool {
	v := r.Value(f.field)
	if v.IsMissing() {
		return false
	}
	c := v.Compare(f.value)
	switch f.op {
	case opGt:
		return c > 0
	case opGte:
		return c >= 0
	case opLt:
		return c < 0
	case opLte:
		return c <= 0
	}
	return c == 0
}

func parseOp(name string) (op, bool) {
	switch name {
	case "eq":
		return opEq, true
	case "gt":
		return opGt, true
	case "gte":
		return opGte, true
	case "lt":
		return opLt, true
	case "lte":
		return opLte, true
	}
	return 0, false
}

// operators lists what can be asked of a type, as it is written in a parameter.
func operators(t dataset.Type) []string {
	switch t {
	case dataset.JSON:
		return nil
	case dataset.Bool:
		return []string{"eq"}
	}
	return []string{"eq", "gt", "gte", "lt", "lte"}
}

// parseFilter reads field=value or field[op]=value.
func (ep *endpoint) parseFilter(p param) (filter, *web.Problem) {
	name, opName := p.name, "eq"
	if at := strings.IndexByte(name, '['); at > 0 && strings.HasSuffix(name, "]") {
		name, opName = name[:at], name[at+1:len(name)-1]
	}
	field := ep.ds.Field(name)
	if field == nil {
		return filter{}, unknownParameter(p.name, ep.parameters)
	}
	supported := operators(field.Type)
	comparison, known := parseOp(opName)
	if !known || len(supported) == 0 || comparison != opEq && len(supported) == 1 {
		hint := fmt.Sprintf("Fields of type %s cannot be filtered.", field.Type)
		if len(supported) > 0 {
			hint = fmt.Sprintf("Supported: %s=value (the same as [eq]) and the operators [%s].", field.Name, strings.Join(supported, "], ["))
		}
		return filter{}, invalid(p.name, fmt.Sprintf("the field %s of type %s has no operator %q", field.Name, field.Type, web.Quote(opName)), hint)
	}
	value, prob := parseValue(field, p)
	return filter{parameter: p.name, field: field, op: comparison, value: value}, prob
}

func parseValue(field *dataset.Field, p param) (dataset.Value, *web.Problem) {
	text := p.value
	if field.Type == dataset.Bytes {
		raw, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil {
			return dataset.Value{}, wrongType(field, p)
		}
		text = string(raw)
	}
	v, err := dataset.ParseText(field, text)
	if err != nil {
		return v, wrongType(field, p)
	}
	return v, nil
}

func wrongType(field *dataset.Field, p param) *web.Problem {
	prob := invalid(p.name, fmt.Sprintf("field %s: expected %s, got %q", field.Name, expected(field.Type), web.Quote(p.value)), plusHint(field, p.value))
	prob.Errors[0].Field = field.Name
	return prob
}

// plusHint explains a slip that base64 invites: a plus sign in a query string means a space.
func plusHint(field *dataset.Field, value string) string {
	if field.Type == dataset.Bytes && strings.Contains(value, " ") {
		return "In a query string write + as %2B."
	}
	return ""
}

// expected says in words what a value of a type looks like.
func expected(t dataset.Type) string {
	switch t {
	case dataset.Int64:
		return "an int64 such as 42"
	case dataset.Float64:
		return "a float64 such as 1.5"
	case dataset.Bool:
		return "a bool, true or false"
	case dataset.Timestamp:
		return "a timestamp such as 2001-01-31T08:30:00Z or 2001-01-31"
	case dataset.Date:
		return "a date such as 2001-01-31"
	case dataset.Bytes:
		return "bytes in standard base64"
	}
	return "a string"
}

// parseTimeBound turns from and to into a bound of the event time: [from, to).
func (ep *endpoint) parseTimeBound(p param, at time.Time) (filter, *web.Problem) {
	field := ep.ds.Time
	if field == nil {
		return filter{}, invalid(p.name, fmt.Sprintf("%s declares no time field", ep.ds.Name), "Filter on a field instead.")
	}
	t, ok := parseInstant(p.value, at)
	if !ok {
		return filter{}, invalid(p.name, fmt.Sprintf("expected a time, got %q", web.Quote(p.value)),
			"Write 2001-01-31T08:30:00Z, 2001-01-31, a time before now such as -15m or -7d, or now.")
	}
	text := t.UTC().Format(time.RFC3339Nano)
	if field.Type == dataset.Date {
		// A date stands for its midnight, so a bound within a day begins at the next one.
		day := t.UTC().Truncate(24 * time.Hour)
		if day.Before(t) {
			day = day.Add(24 * time.Hour)
		}
		text = day.Format(time.DateOnly)
	}
	v, err := dataset.ParseText(field, text)
	if err != nil {
		return filter{}, invalid(p.name, fmt.Sprintf("%q is beyond the times that can be stored", web.Quote(p.value)), "")
	}
	f := filter{parameter: p.name, field: field, op: opGte, value: v}
	if p.name == paramTo {
		f.op = opLt
	}
	return f, nil
}

func parseInstant(text string, at time.Time) (time.Time, bool) {
	if text == "now" {
		return at, true
	}
	if strings.HasPrefix(text, "-") {
		d, err := dataset.ParseDuration(text)
		return at.Add(d), err == nil
	}
	v, err := dataset.ParseText(&dataset.Field{Type: dataset.Timestamp}, text)
	return v.Time(), err == nil
}

package query

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/web"
	"github.com/latamctl/latamctl/services/query/openapi"
)

// op is a comparison, as it is written in brackets.
type op string

const (
	opEq     op = "eq"
	opNe     op = "ne"
	opGt     op = "gt"
	opGte    op = "gte"
	opLt     op = "lt"
	opLte    op = "lte"
	opIn     op = "in"
	opPrefix op = "prefix"
	opExists op = "exists"
)

// filter is one condition on one field. Only exists=false is met by a row without the field.
type filter struct {
	parameter string // as the caller wrote it
	field     *dataset.Field
	op        op
	value     dataset.Value
	values    []dataset.Value // of in: in order, each once
	present   bool            // of exists
}

func (f filter) match(r dataset.Record) bool {
	v := r.Value(f.field)
	if f.op == opExists {
		return v.IsMissing() != f.present
	}
	if v.IsMissing() {
		return false
	}
	switch f.op {
	case opIn:
		_, found := slices.BinarySearchFunc(f.values, v, dataset.Value.Compare)
		return found
	case opPrefix:
		return strings.HasPrefix(v.Text(), f.value.Text())
	}
	c := v.Compare(f.value)
	switch f.op {
	case opNe:
		return c != 0
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

func matchAll(filters []filter, r dataset.Record) bool {
	for _, f := range filters {
		if !f.match(r) {
			return false
		}
	}
	return true
}

// parseFilter reads field=value or field[op]=value.
func (ep *endpoint) parseFilter(p param) (filter, *web.Problem) {
	name, opName := p.name, string(opEq)
	if at := strings.IndexByte(name, '['); at > 0 && strings.HasSuffix(name, "]") {
		name, opName = name[:at], name[at+1:len(name)-1]
	}
	field := ep.ds.Field(name)
	if field == nil {
		return filter{}, unknownParameter(p.name, ep.parameters)
	}
	supported := openapi.Operators(field.Type)
	if !slices.Contains(supported, opName) {
		hint := fmt.Sprintf("Supported: %s=value (the same as [eq]) and the operators [%s].", field.Name, strings.Join(supported, "], ["))
		if !slices.Contains(supported, string(opEq)) {
			hint = fmt.Sprintf("Supported: [%s].", strings.Join(supported, "], ["))
		}
		return filter{}, invalid(p.name, fmt.Sprintf("the field %s of type %s has no operator %q", field.Name, field.Type, web.Quote(opName)), hint)
	}
	f := filter{parameter: p.name, field: field, op: op(opName)}
	var prob *web.Problem
	switch f.op {
	case opExists:
		f.present, prob = parseChoice(p, "true", "false")
	case opIn:
		f.values, prob = parseValues(field, p)
	default:
		f.value, prob = parseValue(field, p.name, p.value)
	}
	return f, prob
}

// MaxIn is how many values the operator in takes.
const MaxIn = 100

// parseValues reads a list by comma; a comma of a value itself is written \, and a backslash \\.
func parseValues(field *dataset.Field, p param) ([]dataset.Value, *web.Problem) {
	texts := splitList(p.value)
	if len(texts) > MaxIn {
		return nil, invalid(p.name, fmt.Sprintf("the list has %d values, at most %d are possible", len(texts), MaxIn), "Ask in several requests.")
	}
	values := make([]dataset.Value, 0, len(texts))
	for _, text := range texts {
		if text == "" {
			return nil, invalid(p.name, "a value of the list is empty", "Write the values by comma, a comma inside of a value as \\,.")
		}
		v, prob := parseValue(field, p.name, text)
		if prob != nil {
			return nil, prob
		}
		values = append(values, v)
	}
	slices.SortFunc(values, dataset.Value.Compare)
	return slices.Compact(values), nil
}

func splitList(text string) []string {
	if strings.IndexByte(text, '\\') < 0 {
		return strings.Split(text, ",")
	}
	var parts []string
	var part strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text) && (text[i+1] == ',' || text[i+1] == '\\'):
			i++
			part.WriteByte(text[i])
		case text[i] == ',':
			parts = append(parts, part.String())
			part.Reset()
		default:
			part.WriteByte(text[i])
		}
	}
	return append(parts, part.String())
}

func parseValue(field *dataset.Field, parameter, text string) (dataset.Value, *web.Problem) {
	raw := text
	if field.Type == dataset.Bytes {
		b, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil {
			return dataset.Value{}, wrongType(field, parameter, text)
		}
		raw = string(b)
	}
	v, err := dataset.ParseText(field, raw)
	if err != nil {
		return v, wrongType(field, parameter, text)
	}
	return v, nil
}

func wrongType(field *dataset.Field, parameter, text string) *web.Problem {
	prob := invalid(parameter, fmt.Sprintf("field %s: expected %s, got %q", field.Name, expected(field.Type), web.Quote(text)), plusHint(field, text))
	prob.Errors[0].Field = field.Name
	return prob
}

// plusHint explains a slip that base64 and offsets invite: a plus sign in a query string means a space.
func plusHint(field *dataset.Field, value string) string {
	if (field.Type == dataset.Bytes || field.Type == dataset.Timestamp) && strings.Contains(value, " ") {
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

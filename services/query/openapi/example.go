package openapi

import (
	"encoding/json"
	"regexp"
	"regexp/syntax"
	"strings"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// example is a record that the declaration takes, with the row it becomes. Without one, where a
// pattern has no easy match, the documents have no example of it.
type example struct {
	record, row Map[any]
	id          string
	values      map[string]any
}

// exampleTime is when the examples happen.
func exampleTime() time.Time { return time.Date(2001, 1, 31, 8, 30, 0, 0, time.UTC) }

func newExample(ds *dataset.Dataset) example {
	e := example{values: map[string]any{}}
	for _, f := range ds.Fields {
		if v, ok := exampleValue(f); ok {
			e.values[f.Name] = v
			e.record.Set(f.Name, v)
		}
	}
	text, err := encode(e.record)
	if err != nil {
		return example{values: e.values}
	}
	r, err := ds.Decode(text, exampleTime())
	if err != nil {
		return example{values: e.values}
	}
	if e.id, err = ds.RowID(r.RowKey()); err != nil {
		return example{values: e.values}
	}
	e.row = append(Map[any]{{dataset.IDMember, e.id}}, e.record...)
	return e
}

func exampleValue(f *dataset.Field) (any, bool) {
	switch f.Type {
	case dataset.Int64, dataset.Float64:
		text := map[dataset.Type]string{dataset.Int64: "42", dataset.Float64: "1.5"}[f.Type]
		v, err := dataset.ParseText(f, text)
		v = within(f, v)
		if f.Type == dataset.Int64 && (v.Int() > maxSafeInt || v.Int() < -maxSafeInt) {
			return v.Text(), err == nil
		}
		return json.RawMessage(v.Text()), err == nil
	case dataset.Bool:
		return true, true
	case dataset.Timestamp, dataset.Date:
		v, err := dataset.ParseText(f, exampleTime().Format(map[dataset.Type]string{dataset.Timestamp: time.RFC3339, dataset.Date: time.DateOnly}[f.Type]))
		return within(f, v).Text(), err == nil
	case dataset.Bytes:
		return "aGVsbG8=", true
	case dataset.JSON:
		return Map[any]{{"any", "value"}}, true
	}
	if f.Pattern == nil {
		return "text", true
	}
	return match(f.Pattern)
}

// within moves a value into the declared range.
func within(f *dataset.Field, v dataset.Value) dataset.Value {
	if f.Minimum != nil && v.Compare(*f.Minimum) < 0 {
		return *f.Minimum
	}
	if f.Maximum != nil && v.Compare(*f.Maximum) > 0 {
		return *f.Maximum
	}
	return v
}

// maxExampleRunes bounds how long an example of a pattern becomes.
const maxExampleRunes = 64

// match makes a short string that a pattern matches.
func match(pattern *regexp.Regexp) (string, bool) {
	parsed, err := syntax.Parse(pattern.String(), syntax.Perl)
	if err != nil {
		return "", false
	}
	var b strings.Builder
	ok := writeMatch(&b, parsed.Simplify())
	return b.String(), ok && pattern.MatchString(b.String())
}

// writeMatch writes a match of a part of a pattern; the runes of a class are taken in turn, so that
// AAA is not the example of everything.
func writeMatch(b *strings.Builder, re *syntax.Regexp) bool {
	if b.Len() > maxExampleRunes {
		return false
	}
	switch re.Op {
	case syntax.OpLiteral:
		b.WriteString(string(re.Rune))
	case syntax.OpCharClass:
		if len(re.Rune) == 0 {
			return false
		}
		low, high := re.Rune[0], re.Rune[1]
		b.WriteRune(low + rune(b.Len())%(min(high-low, maxExampleRunes)+1))
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		b.WriteByte('a')
	case syntax.OpCapture, syntax.OpPlus:
		return writeMatch(b, re.Sub[0])
	case syntax.OpAlternate:
		return writeMatch(b, re.Sub[0])
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			if !writeMatch(b, sub) {
				return false
			}
		}
	}
	return true // Anchors and what may be left out add nothing; the caller checks the whole.
}

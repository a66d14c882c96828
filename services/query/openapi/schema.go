package openapi

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// The JSON types.
const (
	typeString  = "string"
	typeInteger = "integer"
	typeNumber  = "number"
	typeBoolean = "boolean"
	typeObject  = "object"
	typeArray   = "array"
	typeNull    = "null"
)

// maxSafeInt is the largest integer that every JSON reader keeps exactly; beyond it the API writes a string.
const maxSafeInt = 1<<53 - 1

// The forms of values that JSON carries as a string.
const (
	timestampPattern = `^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})$`
	datePattern      = `^[0-9]{4}-[0-9]{2}-[0-9]{2}$`
	base64Pattern    = `^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$`
	bigDigits        = `[1-9][0-9]{15,18}$`
)

// dialect writes the schemas of one version: 3.1 uses JSON Schema 2020-12, 3.0 its own subset.
type dialect struct{ v30 bool }

// orNull allows null as well.
func (d dialect) orNull(s *Schema) *Schema {
	t, single := s.Type.(string)
	switch {
	case d.v30:
		s.Nullable = true
	case single:
		s.Type = []string{t, typeNull}
	case s.OneOf != nil:
		s.OneOf = append(s.OneOf, &Schema{Type: typeNull})
	}
	return s
}

// example gives a schema an example of its own.
func (d dialect) example(s *Schema, v any) *Schema {
	if d.v30 {
		s.Example = v
	} else {
		s.Examples = []any{v}
	}
	return s
}

// value is the schema of a field's values as the API returns them.
func (d dialect) value(f *dataset.Field) *Schema {
	s := d.ofType(f)
	s.Description = describeField(f)
	return s
}

func (d dialect) ofType(f *dataset.Field) *Schema {
	switch f.Type {
	case dataset.Int64:
		return d.integer(f)
	case dataset.Float64:
		return &Schema{Type: typeNumber, Format: "double", Minimum: bound(f.Minimum), Maximum: bound(f.Maximum)}
	case dataset.Bool:
		return &Schema{Type: typeBoolean}
	case dataset.Timestamp:
		return &Schema{Type: typeString, Format: "date-time", Pattern: timestampPattern}
	case dataset.Date:
		return &Schema{Type: typeString, Format: "date", Pattern: datePattern}
	case dataset.Bytes:
		s := &Schema{Type: typeString, Pattern: base64Pattern}
		if d.v30 {
			s.Format = "byte"
		} else {
			s.ContentEncoding = "base64"
		}
		return s
	case dataset.JSON:
		return &Schema{}
	}
	s := &Schema{Type: typeString}
	if f.Pattern != nil && portable(f.Pattern.String()) {
		s.Pattern = f.Pattern.String()
	}
	return s
}

// integer is a number, or where the declared range goes beyond what JSON readers keep exactly, also
// a string of digits.
func (d dialect) integer(f *dataset.Field) *Schema {
	low, high := int64(-maxSafeInt), int64(maxSafeInt)
	beyondLow, beyondHigh := true, true
	if f.Minimum != nil {
		low, beyondLow = max(low, f.Minimum.Int()), f.Minimum.Int() < -maxSafeInt
	}
	if f.Maximum != nil {
		high, beyondHigh = min(high, f.Maximum.Int()), f.Maximum.Int() > maxSafeInt
	}
	number := &Schema{Type: typeInteger, Format: "int64", Minimum: number(low), Maximum: number(high)}
	if !beyondLow && !beyondHigh {
		return number
	}
	sign := "-?"
	switch {
	case !beyondLow:
		sign = ""
	case !beyondHigh:
		sign = "-"
	}
	digits := &Schema{Type: typeString, Pattern: "^" + sign + bigDigits, Description: "An integer beyond 2^53-1, which many readers of JSON would round."}
	return &Schema{OneOf: []*Schema{number, digits}}
}

func number(n int64) json.RawMessage { return json.RawMessage(fmt.Sprint(n)) }

func bound(v *dataset.Value) json.RawMessage {
	if v == nil {
		return nil
	}
	return json.RawMessage(v.Text())
}

// portable says whether a pattern of Go means the same to the regular expressions of ECMA-262, which
// JSON Schema uses.
func portable(pattern string) bool {
	for i := 0; i < len(pattern); i++ {
		switch rest := pattern[i:]; {
		case rest[0] == '\\' && len(rest) > 1:
			if strings.IndexByte(`AzQEaCpPxb`, rest[1]) >= 0 {
				return false
			}
			i++
		case strings.HasPrefix(rest, "(?") && !strings.HasPrefix(rest, "(?:"), strings.HasPrefix(rest, "[["), strings.HasPrefix(rest, "[^["):
			return false
		}
	}
	return true
}

// describeField is what the declaration says of a field, and what a schema cannot.
func describeField(f *dataset.Field) string {
	var parts []string
	if f.Description != "" {
		parts = append(parts, sentence(f.Description))
	}
	if f.InKey {
		parts = append(parts, "Part of the key.")
	}
	if f.Pattern != nil && !portable(f.Pattern.String()) {
		parts = append(parts, fmt.Sprintf("It matches the pattern `%s` (RE2 syntax).", f.Pattern))
	}
	switch f.Type {
	case dataset.Timestamp:
		parts = append(parts, "An RFC 3339 timestamp; the API returns UTC.")
	case dataset.Bytes:
		parts = append(parts, "Bytes in standard base64.")
	case dataset.JSON:
		parts = append(parts, "Any JSON value.")
	}
	if f.Type == dataset.Timestamp || f.Type == dataset.Date {
		if f.Minimum != nil {
			parts = append(parts, fmt.Sprintf("Not before %s.", f.Minimum.Text()))
		}
		if f.Maximum != nil {
			parts = append(parts, fmt.Sprintf("Not after %s.", f.Maximum.Text()))
		}
	}
	return strings.Join(parts, " ")
}

// sentence ends a text with a full stop.
func sentence(text string) string {
	text = strings.TrimSpace(text)
	if text == "" || strings.HasSuffix(text, ".") || strings.HasSuffix(text, "!") || strings.HasSuffix(text, "?") {
		return text
	}
	return text + "."
}

// row is the schema of a row in answers. Only the id is always there: a projection leaves fields out,
// and so does a row that has no value for them.
func (d dialect) row(ds *dataset.Dataset) *Schema {
	s := &Schema{
		Type: typeObject, Description: sentence("A row of " + ds.Name + ". A field without a value is absent, and so are those that fields leaves out"),
		Required: []string{dataset.IDMember}, AdditionalProperties: false,
	}
	s.Properties.Set(dataset.IDMember, &Schema{Type: typeString, MinLength: 1, Description: idDescription(ds)})
	for _, f := range ds.Fields {
		s.Properties.Set(f.Name, d.value(f))
	}
	return s
}

func idDescription(ds *dataset.Dataset) string {
	return fmt.Sprintf("The row's id: %s joined by commas, bytes outside A-Z a-z 0-9 . _ : - written ~XX.", strings.Join(names(ds.Key), ", "))
}

func names(fields []*dataset.Field) []string {
	list := make([]string, len(fields))
	for i, f := range fields {
		list[i] = f.Name
	}
	return list
}

// record is the schema of a record to publish.
func (d dialect) record(ds *dataset.Dataset) *Schema {
	s := &Schema{Type: typeObject, Description: recordDescription(ds), AdditionalProperties: false}
	s.Properties.Set(dataset.IDMember, &Schema{Type: typeString, Description: "May be left out. " + idDescription(ds) + " Another id than that of the record's key is refused."})
	for _, f := range ds.Fields {
		v := d.published(f)
		v.Description = describeField(f)
		if f.Required {
			s.Required = append(s.Required, f.Name)
		} else {
			v = d.orNull(v)
		}
		s.Properties.Set(f.Name, v)
	}
	return s
}

// published is the schema of a value in a record: more than what is returned is understood.
func (d dialect) published(f *dataset.Field) *Schema {
	if f.Type == dataset.JSON && f.Required && !d.v30 {
		return &Schema{Type: []string{typeObject, typeArray, typeString, typeNumber, typeBoolean}}
	}
	s := d.ofType(f)
	if f.Type != dataset.Int64 {
		return s
	}
	// Larger numbers than JavaScript's are taken as they are, when the sender can write them.
	low, high := json.RawMessage("-9223372036854775808"), json.RawMessage("9223372036854775807")
	if f.Minimum != nil {
		low = bound(f.Minimum)
	}
	if f.Maximum != nil {
		high = bound(f.Maximum)
	}
	of := s
	if len(s.OneOf) > 0 {
		of = s.OneOf[0]
	}
	of.Minimum, of.Maximum = low, high
	return s
}

func recordDescription(ds *dataset.Dataset) string {
	parts := []string{sentence("A record of " + ds.Name)}
	if ds.Description != "" {
		parts = append(parts, sentence(ds.Description))
	}
	parts = append(parts, fmt.Sprintf("The key %s is its identity: the same key again replaces the row.", strings.Join(names(ds.Key), ", ")))
	if ds.Time != nil {
		parts = append(parts, fmt.Sprintf("The event time %s is not before 1970.", ds.Time.Name))
	}
	if ds.Retention > 0 {
		parts = append(parts, fmt.Sprintf("A record older than %s is refused.", dataset.FormatDuration(ds.Retention)))
	}
	if ds.MaxAhead > 0 {
		parts = append(parts, fmt.Sprintf("A record more than %s ahead of its publication is refused.", dataset.FormatDuration(ds.MaxAhead)))
	}
	parts = append(parts, fmt.Sprintf("A record has at most %d bytes, its row key at most %d; a member stands once; null is the same as absent.", dataset.MaxRecordBytes, dataset.MaxKeyBytes))
	return strings.Join(parts, " ")
}

// RecordSchema is the JSON Schema (2020-12) of a dataset's records. What passes it is taken by the
// declaration but for what its description names: the event time and how old or new it may be, sizes, and members
// that stand twice.
func RecordSchema(ds *dataset.Dataset) ([]byte, error) {
	s := dialect{}.record(ds)
	s.Dialect, s.Title = "https://json-schema.org/draft/2020-12/schema", ds.Name
	body, err := encode(s)
	if err != nil {
		return nil, fmt.Errorf("write the JSON Schema of dataset %s: %w", ds.Name, err)
	}
	return body, nil
}

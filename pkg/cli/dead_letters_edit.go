package cli

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// edit is one member that --set or --unset changes in every record.
type edit struct {
	field string
	value json.RawMessage // nil removes the member
}

// readEdits reads --set field=value and --unset field. A value is read by the field's type, so that
// the shell needs no quotes for it.
func (a *app) readEdits(ds *dataset.Dataset, set, unset []string) ([]edit, error) {
	var edits []edit
	add := func(e edit) error {
		if slices.ContainsFunc(edits, func(other edit) bool { return other.field == e.field }) {
			return failf(exitUsage, "say once what it is to be", "field %s is changed twice", e.field)
		}
		edits = append(edits, e)
		return nil
	}
	for _, text := range set {
		name, value, ok := strings.Cut(text, "=")
		if !ok {
			return nil, failf(exitUsage, "for example --set "+ds.Fields[0].Name+"=VALUE; field=null clears it", "--set %s is not field=value", shellQuote(text))
		}
		f := ds.Field(name)
		if f == nil {
			return nil, failf(exitUsage, didYouMean(name, ds.FieldNames(), "fields: "), "--set: dataset %s has no field %q", ds.Name, name)
		}
		raw, err := memberValue(f, value)
		if err != nil {
			return nil, fail(exitUsage, "", fmt.Errorf("--set: %w", err))
		}
		if err := add(edit{name, raw}); err != nil {
			return nil, err
		}
	}
	for _, name := range unset {
		// Any name: what the declaration does not have is what there is most often to remove.
		if f := ds.Field(name); f != nil && f.Required {
			return nil, failf(exitUsage, "give it a value with --set "+name+"=VALUE", "--unset: field %s is required", name)
		}
		if err := add(edit{name, nil}); err != nil {
			return nil, err
		}
	}
	return edits, nil
}

// memberValue is the JSON of a value that a person has typed for a field. null clears the field. The
// text "null" itself, and any other text, can be given as a JSON string, in its double quotes.
func memberValue(f *dataset.Field, text string) (json.RawMessage, error) {
	switch {
	case text == "null" && f.Type != dataset.JSON && f.Required:
		return nil, fmt.Errorf("field %s is required and cannot be null", f.Name)
	case text == "null":
		return json.RawMessage("null"), nil
	case f.Type == dataset.Bytes:
		if _, err := base64.StdEncoding.Strict().DecodeString(text); err != nil {
			return nil, fmt.Errorf("field %s: expected bytes in standard base64, got %q", f.Name, text)
		}
		return json.Marshal(text)
	case f.Type == dataset.String && strings.HasPrefix(text, `"`):
		var quoted string
		if json.Unmarshal([]byte(text), &quoted) == nil {
			text = quoted
		}
	}
	v, err := dataset.ParseText(f, text)
	if err != nil {
		return nil, err
	}
	return v.AppendJSON(nil), nil
}

// member is one name and value of a JSON object as it was written.
type member struct {
	name  string
	value json.RawMessage
}

// readMembers takes a JSON object apart, names that stand twice included.
func readMembers(object []byte) ([]member, error) {
	dec := json.NewDecoder(bytes.NewReader(object))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("it is not a JSON object")
	}
	var members []member
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("it is not valid JSON: %w", err)
		}
		m := member{name: name.(string)} // In front of a colon the decoder lets nothing else pass.
		if err := dec.Decode(&m.value); err != nil {
			return nil, fmt.Errorf("it is not valid JSON: %w", err)
		}
		members = append(members, m)
	}
	if _, err := dec.Token(); err != nil {
		return nil, fmt.Errorf("it is not valid JSON: %w", err)
	}
	if _, err := dec.Token(); err == nil || dec.More() {
		return nil, errors.New("something stands after the JSON object")
	}
	return members, nil
}

// change is one member before and after; nil is none.
type change struct {
	Field  string          `json:"field"`
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
}

// applyEdits changes members of a JSON object and leaves all others as they were written. A name that
// stands twice is there once afterwards. The id that the API adds to a row is made from the key, so
// that it goes when a part of the key changes.
func applyEdits(ds *dataset.Dataset, object []byte, edits []edit) ([]byte, []change, error) {
	members, err := readMembers(object)
	if err != nil {
		return nil, nil, err
	}
	if slices.ContainsFunc(edits, func(e edit) bool { f := ds.Field(e.field); return f != nil && f.InKey }) {
		edits = append(slices.Clone(edits), edit{dataset.IDMember, nil})
	}
	var changes []change
	for _, e := range edits {
		var changed *change
		members, changed = applyEdit(members, e)
		if changed != nil {
			changes = append(changes, *changed)
		}
	}
	if len(changes) == 0 {
		return object, nil, nil
	}
	return writeMembers(members), changes, nil
}

func applyEdit(members []member, e edit) ([]member, *change) {
	c := &change{Field: e.field, After: e.value}
	var kept []member
	found := 0
	for _, m := range members {
		if m.name != e.field {
			kept = append(kept, m)
			continue
		}
		if found++; found == 1 {
			c.Before = m.value
			if e.value != nil {
				kept = append(kept, member{m.name, e.value})
			}
		}
	}
	switch {
	case found == 0 && e.value == nil, found == 1 && bytes.Equal(c.Before, e.value):
		return members, nil
	case found == 0:
		kept = append(kept, member{e.field, e.value})
	}
	return kept, c
}

func writeMembers(members []member) []byte {
	b := []byte{'{'}
	for i, m := range members {
		if i > 0 {
			b = append(b, ',')
		}
		name, _ := json.Marshal(m.name) // A string always encodes.
		b = append(append(append(b, name...), ':'), m.value...)
	}
	return append(b, '}')
}

package contract

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Schema checks JSON values. It knows the part of JSON Schema 2020-12 that the API's documents use;
// a schema that uses more is refused when it is compiled, so that nothing is left unchecked unsaid.
type Schema struct {
	types      []string
	format     string
	enum       []any
	pattern    *regexp.Regexp
	minLength  int
	maxLength  int // -1: no bound, as below
	minimum    json.Number
	maximum    json.Number
	items      *Schema
	minItems   int
	maxItems   int
	unique     bool
	required   []string
	properties map[string]*Schema
	closed     bool // no other members than the properties
	additional *Schema
	all, one   []*Schema
	ref        *Schema
}

// maxDepth bounds how deep a value may be nested, and how far references lead.
const maxDepth = 64

// Validate returns what is wrong with a value that was decoded with json.Number, and where.
func (s *Schema) Validate(v any) error { return s.check(v, "", 0) }

// ValidateJSON decodes a text and validates it.
func (s *Schema) ValidateJSON(text []byte) error {
	v, err := decode(text)
	if err != nil {
		return fmt.Errorf("it is not JSON: %w", err)
	}
	return s.Validate(v)
}

var errTooDeep = errors.New("it is nested too deep")

func (s *Schema) check(v any, at string, depth int) error {
	if depth > maxDepth {
		return errTooDeep
	}
	if s.ref != nil {
		if err := s.ref.check(v, at, depth+1); err != nil {
			return err
		}
	}
	if len(s.types) > 0 && !slices.ContainsFunc(s.types, func(t string) bool { return isType(v, t) }) {
		return fault(at, "expected %s, got %s", strings.Join(s.types, " or "), shown(v))
	}
	if len(s.enum) > 0 && !slices.ContainsFunc(s.enum, func(e any) bool { return equal(e, v) }) {
		return fault(at, "expected %s, got %s", oneOf(s.enum), shown(v))
	}
	if err := s.checkKind(v, at, depth); err != nil {
		return err
	}
	for _, sub := range s.all {
		if err := sub.check(v, at, depth+1); err != nil {
			return err
		}
	}
	return s.checkOne(v, at, depth)
}

func (s *Schema) checkKind(v any, at string, depth int) error {
	switch v := v.(type) {
	case string:
		return s.checkString(v, at)
	case json.Number:
		return s.checkNumber(v, at)
	case []any:
		return s.checkArray(v, at, depth)
	case map[string]any:
		return s.checkObject(v, at, depth)
	}
	return nil
}

// checkOne says for alternatives that all fail why the one fails that comes nearest: the one of the
// right type.
func (s *Schema) checkOne(v any, at string, depth int) error {
	if len(s.one) == 0 {
		return nil
	}
	fits := 0
	var near error
	for _, sub := range s.one {
		err := sub.check(v, at, depth+1)
		switch {
		case err == nil:
			fits++
		case errors.Is(err, errTooDeep):
			return err
		case near == nil || !strings.HasPrefix(err.Error(), place(at)+": expected") && strings.HasPrefix(near.Error(), place(at)+": expected"):
			near = err
		}
	}
	switch fits {
	case 1:
		return nil
	case 0:
		return near
	}
	return fault(at, "it fits %d of the alternatives, not one", fits)
}

func (s *Schema) checkString(v, at string) error {
	n := utf8.RuneCountInString(v)
	switch {
	case n < s.minLength:
		return fault(at, "%s is shorter than %d", shown(v), s.minLength)
	case s.maxLength >= 0 && n > s.maxLength:
		return fault(at, "%s is longer than %d", shown(v), s.maxLength)
	case s.pattern != nil && !s.pattern.MatchString(v):
		return fault(at, "%s does not match %s", shown(v), s.pattern)
	}
	var err error
	switch s.format {
	case "date-time":
		_, err = time.Parse(time.RFC3339Nano, strings.ToUpper(v))
	case "date":
		_, err = time.Parse(time.DateOnly, v)
	case "uri":
		var u *url.URL
		if u, err = url.Parse(v); err == nil && !u.IsAbs() {
			err = errors.New("it is relative")
		}
	}
	if err != nil {
		return fault(at, "%s is not a %s", shown(v), s.format)
	}
	return nil
}

func (s *Schema) checkNumber(v json.Number, at string) error {
	if s.minimum != "" && compare(v, s.minimum) < 0 {
		return fault(at, "%s is less than %s", v, s.minimum)
	}
	if s.maximum != "" && compare(v, s.maximum) > 0 {
		return fault(at, "%s is greater than %s", v, s.maximum)
	}
	return nil
}

func (s *Schema) checkArray(v []any, at string, depth int) error {
	switch {
	case len(v) < s.minItems:
		return fault(at, "%d items are fewer than %d", len(v), s.minItems)
	case s.maxItems >= 0 && len(v) > s.maxItems:
		return fault(at, "%d items are more than %d", len(v), s.maxItems)
	}
	for i, item := range v {
		if s.unique && slices.ContainsFunc(v[:i], func(other any) bool { return equal(other, item) }) {
			return fault(at, "item %d comes twice", i)
		}
		if s.items == nil {
			continue
		}
		if err := s.items.check(item, at+"/"+strconv.Itoa(i), depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (s *Schema) checkObject(v map[string]any, at string, depth int) error {
	for _, name := range s.required {
		if _, ok := v[name]; !ok {
			return fault(at, "the member %q is missing", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v)) {
		sub, known := s.properties[name]
		switch {
		case known:
		case s.closed:
			return fault(at, "the member %q is not described", name)
		case s.additional != nil:
			sub = s.additional
		default:
			continue
		}
		if err := sub.check(v[name], at+"/"+name, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// place names where a value stands: a path with slashes.
func place(at string) string {
	if at == "" {
		return "the value"
	}
	return at
}

func fault(at, format string, args ...any) error {
	return fmt.Errorf("%s: "+format, append([]any{place(at)}, args...)...)
}

func isType(v any, t string) bool {
	switch v := v.(type) {
	case nil:
		return t == "null"
	case bool:
		return t == "boolean"
	case string:
		return t == "string"
	case json.Number:
		return t == "number" || t == "integer" && isInteger(v)
	case []any:
		return t == "array"
	case map[string]any:
		return t == "object"
	}
	return false
}

// maxDigits bounds the exponents that are worked out exactly; what JSON carries beyond them is no
// number that the API sends.
const maxDigits = 1000

func isInteger(n json.Number) bool {
	r, ok := exact(n)
	return ok && r.IsInt()
}

func exact(n json.Number) (*big.Rat, bool) {
	if _, exponent, ok := strings.Cut(strings.ToLower(n.String()), "e"); ok {
		if e, err := strconv.Atoi(exponent); err != nil || e > maxDigits || e < -maxDigits {
			return nil, false
		}
	}
	return new(big.Rat).SetString(n.String())
}

func compare(a, b json.Number) int {
	x, okX := exact(a)
	y, okY := exact(b)
	if okX && okY {
		return x.Cmp(y)
	}
	f, _ := a.Float64() // Out of range it is an infinity, which compares rightly.
	g, _ := b.Float64()
	return big.NewFloat(f).Cmp(big.NewFloat(g))
}

// equal compares values as JSON Schema does: numbers by value.
func equal(a, b any) bool {
	switch a := a.(type) {
	case json.Number:
		n, ok := b.(json.Number)
		return ok && compare(a, n) == 0
	case []any:
		other, ok := b.([]any)
		return ok && slices.EqualFunc(a, other, equal)
	case map[string]any:
		other, ok := b.(map[string]any)
		return ok && maps.EqualFunc(a, other, equal)
	}
	switch b.(type) {
	case []any, map[string]any:
		return false // They cannot be compared with ==.
	}
	return a == b
}

const maxShown = 60

// shown is a value in a message.
func shown(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return "something else"
	}
	if len(text) > maxShown {
		return strings.ToValidUTF8(string(text[:maxShown]), "") + "…"
	}
	return string(text)
}

func oneOf(values []any) string {
	if len(values) == 1 {
		return shown(values[0])
	}
	parts := make([]string, len(values))
	for i, v := range values {
		parts[i] = shown(v)
	}
	const most = 8
	if len(parts) > most {
		parts = append(parts[:most], "…")
	}
	return "one of " + strings.Join(parts, ", ")
}

// decode reads one JSON value to its end.
func decode(text []byte) (v any, err error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the value")
	}
	return v, nil
}

// marshal writes a decoded value again; it always can be.
func marshal(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return "null"
	}
	return string(text)
}

package declare

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/strictyaml"
)

// shape says what a value of a file may be. The reader checks files against shapes, and the JSON
// Schema is written from them, so that an editor and latamctl agree.
type shape struct {
	form    form
	doc     string
	fixed   bool              // ${} is not filled in here
	noun    string            // what a record is, for messages; its name follows
	keys    []key             // of a record
	most    int               // how many items a list may have; 0 for any number
	of      *shape            // the values of a table, the items of a list
	names   *regexp.Regexp    // the keys of a table
	choices []string          // of a text
	instead map[string]string // hints for texts that are no choice
	pattern *regexp.Regexp    // of a text
	like    string            // an example of what the pattern or the names take
	min     *float64          // of a number
	max     *float64
	either  []*shape // of a union; their forms differ
}

type form uint8

const (
	anything form = iota
	text
	num
	integer
	boolean
	list
	table  // a map with keys that its writer chooses
	record // a map with known keys
	union
)

type key struct {
	name   string
	shape  *shape
	needed bool
}

// formNames are the forms as messages name them.
func (f form) String() string {
	return [...]string{"any value", "text", "a number", "a whole number", "true or false", "a list", "a map", "a map", ""}[f]
}

func (s *shape) describe() string {
	if s.form != union {
		return s.form.String()
	}
	var names []string
	for _, one := range s.either {
		if n := one.form.String(); !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return strings.Join(names, " or ")
}

func (s *shape) keyNames() []string {
	names := make([]string, len(s.keys))
	for i, k := range s.keys {
		names[i] = k.name
	}
	return names
}

func (s *shape) key(name string) *key {
	for i := range s.keys {
		if s.keys[i].name == name {
			return &s.keys[i]
		}
	}
	return nil
}

// accepts tells whether v has the form of s, whatever is in it.
func (s *shape) accepts(v *value) bool {
	switch s.form {
	case anything:
		return true
	case list:
		return v.kind == strictyaml.List
	case table, record:
		return v.kind == strictyaml.Map
	case union:
		return slices.ContainsFunc(s.either, func(one *shape) bool { return one.accepts(v) })
	}
	if v.kind != strictyaml.Scalar {
		return false
	}
	switch s.form {
	case text:
		_, ok := v.scalar.(string)
		return ok
	case boolean:
		_, ok := v.scalar.(bool)
		return ok
	}
	n, ok := number(v.scalar)
	return ok && !math.IsNaN(n) && !math.IsInf(n, 0) && (s.form != integer || n == math.Trunc(n))
}

// checker compares values with shapes.
type checker struct {
	// loose accepts a text with ${} for anything, because it is not known yet what it becomes.
	loose bool
	// needs reports keys that are missing.
	needs bool
	bad   bool
}

// check reports what is wrong with v; what names it in messages, where says whose it is.
func (c *checker) check(v *value, s *shape, what, where string) {
	switch {
	case v.broken:
		c.bad = true
	case s.fixed && c.loose:
		strict := &checker{needs: true}
		strict.check(v, s, what, where)
		c.bad = c.bad || strict.bad
	case c.loose && v.kind == strictyaml.Scalar && strings.Contains(v.text(), "${"):
	case s.accepts(v):
		c.inside(v, s, what, where)
	case what == "":
		c.fault(v, s.hint(v), "expected %s%s, got %s", s.describe(), where, v)
	default:
		c.fault(v, s.hint(v), "%s%s must be %s, got %s", what, where, s.describe(), v)
	}
}

// inside checks a value that has the form of its shape.
func (c *checker) inside(v *value, s *shape, what, where string) {
	switch s.form {
	case union:
		i := slices.IndexFunc(s.either, func(one *shape) bool { return one.accepts(v) })
		c.check(v, s.either[i], what, where)
	case list:
		if s.most > 0 && len(v.items) > s.most {
			c.fault(v, "", "%s%s has %d entries, at most %d are taken", what, where, len(v.items), s.most)
			return
		}
		for _, item := range v.items {
			c.check(item, s.of, "an entry of "+what, where)
		}
	case table:
		c.table(v, s, what, where)
	case record:
		c.record(v, s, what, where)
	case text:
		c.text(v, s, what, where)
	case num, integer:
		n, _ := v.number()
		if s.min != nil && n < *s.min || s.max != nil && n > *s.max {
			c.fault(v, "", "%s%s must be %s, got %s", what, where, s.bounds(), v)
		}
	}
}

func (c *checker) fault(v *value, hint, format string, args ...any) {
	c.bad = true
	v.fault(hint, format, args...)
}

func (s *shape) hint(v *value) string {
	switch {
	case s.form == text && v.kind == strictyaml.Scalar && v.scalar != nil:
		return "put it in quotes"
	case s.form == list:
		return "write [a, b]"
	case s.form == record:
		return "its keys are " + strings.Join(s.keyNames(), ", ")
	}
	return ""
}

func (s *shape) bounds() string {
	switch {
	case s.min != nil && s.max != nil && *s.min == *s.max:
		return fmt.Sprint(*s.min)
	case s.min == nil:
		return fmt.Sprintf("at most %v", *s.max)
	case s.max == nil:
		return fmt.Sprintf("at least %v", *s.min)
	}
	return fmt.Sprintf("%v to %v", *s.min, *s.max)
}

func (c *checker) text(v *value, s *shape, what, where string) {
	t := v.text()
	switch {
	case len(t) > maxTextBytes:
		c.fault(v, "", "%s%s has %d bytes, at most %d are taken", what, where, len(t), maxTextBytes)
	case s.choices != nil && !slices.Contains(s.choices, t):
		hint := s.instead[t]
		if hint == "" {
			hint = didYouMean(t, s.choices, "")
		}
		c.fault(v, hint, "%s%s must be one of %s, got %s", what, where, strings.Join(s.choices, ", "), v)
	case s.pattern != nil && !s.pattern.MatchString(t):
		c.fault(v, "write it like "+s.like, "%s%s has an unexpected form: %s", what, where, strictyaml.Quote(t))
	}
}

func (c *checker) table(v *value, s *shape, what, where string) {
	for _, e := range v.entries {
		if s.names != nil && !s.names.MatchString(e.key) {
			c.bad = true
			v.file.fault(e.at, "write it like "+s.like, "the name %s in %s%s has an unexpected form", strictyaml.Quote(e.key), what, where)
			continue
		}
		if e.value.isNull() && s.of.form != anything {
			c.bad = true
			v.file.fault(e.at, "give it a value or remove it", "%s in %s%s has no value", strictyaml.Quote(e.key), what, where)
			continue
		}
		if s.of.noun == "" {
			c.check(e.value, s.of, e.key+" in "+what, where)
			continue
		}
		own := &checker{loose: c.loose, needs: c.needs}
		own.check(e.value, s.of, "", " in "+s.of.noun+" "+e.key)
		e.value.bad = own.bad
		c.bad = c.bad || own.bad
	}
}

func (c *checker) record(v *value, s *shape, what, where string) {
	prefix := " in " + what
	if what == "" {
		prefix = ""
	}
	for _, e := range v.entries {
		k := s.key(e.key)
		switch {
		case k == nil:
			c.bad = true
			v.file.fault(e.at, didYouMean(e.key, s.keyNames(), "the known keys are "+strings.Join(s.keyNames(), ", ")), "unknown key %s%s%s", strictyaml.Quote(e.key), prefix, where)
		case e.value.isNull():
			c.bad = true
			v.file.fault(e.at, "give it a value or remove it", "the key %q%s%s has no value", e.key, prefix, where)
		default:
			name := e.key
			if what != "" {
				name = what + "." + e.key
			}
			c.check(e.value, k.shape, name, where)
		}
	}
	if !c.needs {
		return
	}
	for _, k := range s.keys {
		if k.needed && v.entryOf(k.name) == nil {
			c.fault(v, k.shape.doc, "the key %q is missing%s%s", k.name, prefix, where)
		}
	}
}

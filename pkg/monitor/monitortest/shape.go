package monitortest

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// check tells what is wrong with a JSON value at a place, or "".
type check func(at string, v any) string

func text(at string, v any) string {
	s, ok := v.(string)
	switch {
	case !ok:
		return wrong(at, v, "string")
	case strings.Contains(s, "${"):
		return fmt.Sprintf("%s: %q has a placeholder", at, s)
	}
	return ""
}

func number(at string, v any) string {
	if _, ok := v.(float64); !ok {
		return wrong(at, v, "number")
	}
	return ""
}

func integer(at string, v any) string {
	if n, ok := v.(float64); !ok || n != math.Trunc(n) {
		return wrong(at, v, "integer")
	}
	return ""
}

func boolean(at string, v any) string {
	if _, ok := v.(bool); !ok {
		return wrong(at, v, "boolean")
	}
	return ""
}

func anything(string, any) string { return "" }

// between is an integer within bounds.
func between(low, high float64) check {
	return func(at string, v any) string {
		if n, ok := v.(float64); integer(at, v) != "" || !ok || n < low || n > high {
			return fmt.Sprintf("%s: %v is not an integer from %v to %v", at, v, low, high)
		}
		return ""
	}
}

func nullable(c check) check {
	return func(at string, v any) string {
		if v == nil {
			return ""
		}
		return c(at, v)
	}
}

func enum(words ...string) check {
	return func(at string, v any) string {
		if s, ok := v.(string); !ok || !slices.Contains(words, s) {
			return fmt.Sprintf("%s: %v is not one of ['%s']", at, v, strings.Join(words, "', '"))
		}
		return ""
	}
}

func list(c check) check {
	return func(at string, v any) string {
		items, ok := v.([]any)
		if !ok {
			return wrong(at, v, "array")
		}
		for i, item := range items {
			if fault := c(fmt.Sprintf("%s[%d]", at, i), item); fault != "" {
				return fault
			}
		}
		return ""
	}
}

func mapOf(c check) check {
	return func(at string, v any) string {
		m, ok := v.(map[string]any)
		if !ok {
			return wrong(at, v, "object")
		}
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if fault := c(at+"."+key, m[key]); fault != "" {
				return fault
			}
		}
		return ""
	}
}

// object is an object with these fields and no others. Fields with a star must be there.
func object(fields map[string]check) check {
	known, required := map[string]check{}, []string{}
	for name, c := range fields {
		if strings.HasSuffix(name, "*") {
			required = append(required, strings.TrimSuffix(name, "*"))
		}
		known[strings.TrimSuffix(name, "*")] = c
	}
	slices.Sort(required)
	return func(at string, v any) string {
		m, ok := v.(map[string]any)
		if !ok {
			return wrong(at, v, "object")
		}
		for _, name := range required {
			if _, ok := m[name]; !ok {
				return fmt.Sprintf("%s: '%s' is a required property", at, name)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(m)) {
			c := known[name]
			if c == nil {
				return fmt.Sprintf("%s: Additional properties are not allowed ('%s' was unexpected)", at, name)
			}
			if fault := c(at+"."+name, m[name]); fault != "" {
				return fault
			}
		}
		return ""
	}
}

func wrong(at string, v any, want string) string {
	return fmt.Sprintf("%s: %v is not of type '%s'", at, v, want)
}

// get reads what is at a path of an object's fields, or nil.
func get(v any, path ...string) any {
	for _, name := range path {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}

func str(v any) string { s, _ := v.(string); return s }

func strs(v any) []string {
	items, _ := v.([]any)
	texts := make([]string, 0, len(items))
	for _, item := range items {
		texts = append(texts, str(item))
	}
	return texts
}

package stack

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	tfjson "github.com/hashicorp/terraform-json"

	"github.com/latamctl/latamctl/pkg/plan"
)

const (
	maxAttributes = 40  // of one object; a plan is for people
	maxValue      = 120 // characters of one value
)

// attributes are the differences of one change. Nothing that is sensitive, or has something
// sensitive in it, is in them.
func attributes(c *tfjson.Change, hidden secrets) []plan.Attribute {
	w := differ{secrets: hidden}
	w.walk("", c.Before, c.After, c.BeforeSensitive, c.AfterSensitive, c.AfterUnknown)
	return w.found
}

type differ struct {
	found   []plan.Attribute
	secrets secrets
}

func (w *differ) walk(path string, before, after, hiddenBefore, hiddenAfter, unknown any) {
	if len(w.found) >= maxAttributes || !anyTrue(unknown) && (reflect.DeepEqual(before, after) || void(before) && void(after)) {
		return
	}
	if hiddenBefore == true || hiddenAfter == true {
		w.found = append(w.found, plan.Attribute{Path: path, Sensitive: true})
		return
	}
	if unknown == true {
		a := plan.Attribute{Path: path, Unknown: true}
		if anyTrue(hiddenBefore) || anyTrue(hiddenAfter) || w.secrets.in(before) {
			a.Sensitive = true
		} else {
			a.Before = valueText(before)
		}
		w.found = append(w.found, a)
		return
	}
	if w.within(path, before, after, hiddenBefore, hiddenAfter, unknown) {
		return
	}
	if anyTrue(hiddenBefore) || anyTrue(hiddenAfter) || w.secrets.in(before) || w.secrets.in(after) {
		w.found = append(w.found, plan.Attribute{Path: path, Sensitive: true})
		return
	}
	w.found = append(w.found, plan.Attribute{Path: path, Before: valueText(before), After: valueText(after), Unknown: anyTrue(unknown)})
}

// void tells whether a value is one of the forms of nothing, which providers do not tell apart when
// they read an object back.
func void(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

// within looks at the members of two maps, or of two lists of the same length, one by one.
func (w *differ) within(path string, before, after, hiddenBefore, hiddenAfter, unknown any) bool {
	beforeMap, isMap := before.(map[string]any)
	afterMap, alsoMap := after.(map[string]any)
	if isMap && alsoMap {
		keys := maps.Clone(beforeMap)
		maps.Copy(keys, afterMap)
		for key := range asMap(unknown) {
			keys[key] = nil
		}
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			w.walk(step(path, key), beforeMap[key], afterMap[key], member(hiddenBefore, key), member(hiddenAfter, key), member(unknown, key))
		}
		return true
	}
	beforeList, isList := before.([]any)
	afterList, alsoList := after.([]any)
	if isList && alsoList && len(beforeList) == len(afterList) {
		for i := range beforeList {
			w.walk(fmt.Sprintf("%s[%d]", path, i), beforeList[i], afterList[i], element(hiddenBefore, i), element(hiddenAfter, i), element(unknown, i))
		}
		return true
	}
	return false
}

func step(path, key string) string {
	if path == "" {
		return key
	}
	if strings.ContainsFunc(key, func(r rune) bool {
		return r != '_' && r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) {
		return path + "[" + strconv.Quote(key) + "]"
	}
	return path + "." + key
}

func asMap(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

func member(v any, key string) any {
	if v == true {
		return true
	}
	return asMap(v)[key]
}

func element(v any, i int) any {
	list, ok := v.([]any)
	if v == true {
		return true
	}
	if !ok || i >= len(list) {
		return nil
	}
	return list[i]
}

// anyTrue tells whether a marker, or one within it, is set.
func anyTrue(v any) bool {
	switch v := v.(type) {
	case bool:
		return v
	case map[string]any:
		for _, inner := range v {
			if anyTrue(inner) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, anyTrue)
	}
	return false
}

// valueText is a value for people, cut to a sane length; null is nothing.
func valueText(v any) string {
	var text string
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		text = v
	default:
		data, err := json.Marshal(v)
		if err != nil {
			return ""
		}
		text = string(data)
	}
	if r := []rune(text); len(r) > maxValue {
		return string(r[:maxValue-1]) + "…"
	}
	return text
}

// forces are the attributes that force a replacement.
func forces(c *tfjson.Change) []string {
	var out []string
	for _, p := range c.ReplacePaths {
		steps, ok := p.([]any)
		if !ok {
			continue
		}
		path := ""
		for _, s := range steps {
			switch s := s.(type) {
			case string:
				path = step(path, s)
			default:
				path = fmt.Sprintf("%s[%v]", path, s)
			}
		}
		out = union(out, []string{path})
	}
	return out
}

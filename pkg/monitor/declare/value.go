package declare

import (
	"fmt"
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/strictyaml"
)

// file is one file that is read, with its faults.
type file struct {
	strictyaml.Reader
	path string
	own  bool // of the team, not built in
	root *value
	tags []string
	seen map[string]bool
}

// value is a value of a file. It knows its file, because what an object says may stand in several:
// in a profile, in a template, in the object that it extends.
type value struct {
	file    *file
	at      strictyaml.Place
	kind    strictyaml.Kind
	scalar  any
	items   []*value
	entries []entry
	broken  bool // at fault and reported by strictyaml
	bad     bool // an object in which something is at fault and reported
}

type entry struct {
	key   string
	at    strictyaml.Place
	value *value
}

// newValue copies a tree. The size of trees is bounded by strictyaml, aliases written out.
func newValue(f *file, n *strictyaml.Node) *value {
	v := &value{file: f, at: n.At, kind: n.Kind, scalar: n.Value, broken: n.Broken}
	for _, item := range n.Items {
		v.items = append(v.items, newValue(f, item))
	}
	for _, e := range n.Entries {
		v.entries = append(v.entries, entry{e.Key, e.At, newValue(f, e.Value)})
	}
	return v
}

// get returns the value of a key; nil when there is none.
func (v *value) get(key string) *value {
	if v == nil {
		return nil
	}
	for _, e := range v.entries {
		if e.key == key && !e.value.isNull() {
			return e.value
		}
	}
	return nil
}

func (v *value) isNull() bool {
	return v.kind == strictyaml.Scalar && v.scalar == nil && !v.broken
}

// text returns a text, "" of anything else.
func (v *value) text() string {
	if v == nil {
		return ""
	}
	s, _ := v.scalar.(string)
	return s
}

// number returns a number; ok is false of anything else.
func (v *value) number() (n float64, ok bool) {
	if v == nil {
		return 0, false
	}
	return number(v.scalar)
}

func number(v any) (float64, bool) {
	switch n := v.(type) {
	case int:
		return float64(n), true
	case int64:
		return float64(n), true
	case uint64:
		return float64(n), true
	case float64:
		return n, true
	}
	return 0, false
}

// truth returns a boolean, false of anything else.
func (v *value) truth() bool {
	if v == nil {
		return false
	}
	b, _ := v.scalar.(bool)
	return b
}

// texts returns the texts of a list, or the one text that stands in its place.
func (v *value) texts() []*value {
	switch {
	case v == nil:
		return nil
	case v.kind == strictyaml.List:
		return v.items
	}
	return []*value{v}
}

// json returns the value in JSON's types.
func (v *value) json() any {
	switch v.kind {
	case strictyaml.List:
		list := make([]any, len(v.items))
		for i, item := range v.items {
			list[i] = item.json()
		}
		return list
	case strictyaml.Map:
		m := make(map[string]any, len(v.entries))
		for _, e := range v.entries {
			m[e.key] = e.value.json()
		}
		return m
	}
	if n, ok := number(v.scalar); ok {
		return n
	}
	return v.scalar
}

// String describes the value for a message.
func (v *value) String() string {
	return (&strictyaml.Node{Kind: v.kind, Value: v.scalar}).String()
}

// fault reports what is wrong with the value.
func (v *value) fault(hint, format string, args ...any) {
	v.file.fault(v.at, hint, format, args...)
}

// fault reports a fault once, however many objects come of the place.
func (f *file) fault(at strictyaml.Place, hint, format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	id := fmt.Sprintf("%d:%d:%s", at.Line, at.Column, message)
	if f.seen[id] {
		return
	}
	f.seen[id] = true
	f.Fault(at, hint, "%s", message)
}

// merge lays the entries of over upon those of under. The maps under the names in deep are merged as well.
func merge(under, over *value, deep ...string) *value {
	if under.kind != strictyaml.Map || over.kind != strictyaml.Map {
		return over
	}
	out := *over
	out.entries = nil
	for _, e := range under.entries {
		if o := over.entryOf(e.key); o != nil {
			under := e.value
			e = *o
			if slices.Contains(deep, e.key) {
				e.value = merge(under, o.value)
			}
		}
		out.entries = append(out.entries, e)
	}
	for _, e := range over.entries {
		if under.entryOf(e.key) == nil {
			out.entries = append(out.entries, e)
		}
	}
	return &out
}

func (v *value) entryOf(key string) *entry {
	for i := range v.entries {
		if v.entries[i].key == key {
			return &v.entries[i]
		}
	}
	return nil
}

// didYouMean is the hint for a name that is not among those that there are.
func didYouMean(name string, candidates []string, otherwise string) string {
	if near := strictyaml.Nearest(name, candidates); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return otherwise
}

// known is the hint that lists what there is, as long as it can be read.
func known(what string, names []string) string {
	const most = 30
	if len(names) == 0 {
		return "there are no " + what
	}
	if len(names) > most {
		return fmt.Sprintf("there are %d %s", len(names), what)
	}
	return "the " + what + " are " + strings.Join(names, ", ")
}

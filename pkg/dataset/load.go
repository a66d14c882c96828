package dataset

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// declarationVersion is the version of the declaration that Load reads.
const declarationVersion = 1

// Load reads a declaration. file is the path for messages; "" means the
// built-in example. When the text is at fault, the error is a *Problems with
// every problem found, in the order of the file.
func Load(file string, src []byte) (*Declaration, error) {
	l := &loader{
		yamlReader: yamlReader{anchors: map[string]*yamlNode{}},
		decl:       &Declaration{File: file},
		faulty:     map[*Field]bool{},
	}
	if root := l.read(src); root != nil {
		l.declaration(root)
	}
	if len(l.problems) > 0 {
		p := &Problems{File: file, List: l.problems}
		p.sort()
		return nil, p
	}
	return l.decl, nil
}

// loader reads the tree of a file into a Declaration. It goes on after a
// problem, so that all of them can be mended at once.
type loader struct {
	yamlReader
	decl   *Declaration
	places []datasetPlaces
	// faulty are the fields with a problem of their own, of which no other follows.
	faulty map[*Field]bool
}

// section is a map of the declaration, by key.
type section struct {
	at      place
	where   string // " in dataset flights", "" at the top
	entries []yamlEntry
}

// get returns the value of a key; nil when it is absent, has no value or is broken.
func (s section) get(key string) *yamlNode {
	for _, e := range s.entries {
		if e.key == key && !e.value.isNull() && !e.value.broken {
			return e.value
		}
	}
	return nil
}

// section checks that n is a map of known keys. ok is false when it is no map.
func (l *loader) section(n *yamlNode, at place, where string, known ...string) (s section, ok bool) {
	if n.broken {
		return section{}, false
	}
	if n.kind != yamlMap {
		l.fault(n.at, "its keys are "+strings.Join(known, ", "), "expected a map%s, got %s", where, n)
		return section{}, false
	}
	for _, e := range n.entries {
		switch {
		case !slices.Contains(known, e.key):
			hint := "the known keys are " + strings.Join(known, ", ")
			if near := Nearest(e.key, known); near != "" {
				hint = fmt.Sprintf("did you mean %q?", near)
			}
			l.fault(e.at, hint, "unknown key %s%s", quoteCut(e.key), where)
		case e.value.isNull():
			l.fault(e.at, "give it a value or remove it", "the key %q%s has no value", e.key, where)
		}
	}
	return section{at: at, where: where, entries: n.entries}, true
}

// need returns the value of a key that must be there. A key without a value
// has been reported before.
func (l *loader) need(s section, key, hint string) *yamlNode {
	n := s.get(key)
	if n == nil && !slices.ContainsFunc(s.entries, func(e yamlEntry) bool { return e.key == key }) {
		l.fault(s.at, hint, "the key %q is missing%s", key, s.where)
	}
	return n
}

func (l *loader) declaration(root *yamlNode) {
	s, ok := l.section(root, root.at, "", "version", "name", "datasets", "environments")
	if !ok {
		return
	}
	if n := l.need(s, "version", `write "version: 1"`); n != nil && n.value != int64(declarationVersion) {
		l.fault(n.at, "", "version must be %d, the one that this latamctl reads, got %s", declarationVersion, n)
	}
	if n := l.need(s, "name", `write "name: latam", the prefix of every cloud resource`); n != nil {
		if name, ok := l.text(n, "name"); ok {
			l.decl.Name = name
			if fault := checkName(name); fault != "" {
				l.fault(n.at, "", "name %s %s", quoteCut(name), fault)
			}
		}
	}
	if n := l.need(s, "datasets", "declare at least one dataset"); n != nil {
		l.datasets(n)
	}
	if n := s.get("environments"); n != nil {
		l.environments(n)
	}
}

func (l *loader) datasets(n *yamlNode) {
	if n.kind != yamlMap {
		l.fault(n.at, "write each dataset as its name and a map", "datasets must be a map of datasets by name, got %s", n)
		return
	}
	if len(n.entries) == 0 {
		l.fault(n.at, "declare at least one dataset", "datasets is empty")
	}
	for _, e := range n.entries {
		l.dataset(e)
	}
	l.checkClashes()
}

func (l *loader) environments(n *yamlNode) {
	if n.kind != yamlMap {
		l.fault(n.at, "", "environments must be a map of settings by environment, got %s", n)
		return
	}
	for _, e := range n.entries {
		env := Environment{Name: e.key}
		if e.key == "" {
			l.fault(e.at, "", "the name of an environment is empty")
		}
		if e.value.kind != yamlMap && !e.value.isNull() && !e.value.broken {
			l.fault(e.value.at, "", "environment %s must be a map of settings, got %s", e.key, e.value)
		}
		for _, s := range e.value.entries {
			env.Settings = append(env.Settings, Setting{Key: s.key, Value: s.value.any(), Line: s.at.line, Column: s.at.column})
		}
		l.decl.Environments = append(l.decl.Environments, env)
	}
}

// text reads a string; what names it in messages.
func (l *loader) text(n *yamlNode, what string) (string, bool) {
	if n.broken {
		return "", false
	}
	s, ok := n.value.(string)
	if n.kind != yamlScalar || !ok {
		hint := ""
		if n.kind == yamlScalar {
			hint = "put it in quotes"
		}
		l.fault(n.at, hint, "%s must be text, got %s", what, n)
		return "", false
	}
	return s, true
}

// duration reads a duration greater than zero.
func (l *loader) duration(n *yamlNode, what, example string) time.Duration {
	s, ok := n.value.(string)
	if !ok {
		hint := ""
		if n.kind == yamlScalar {
			hint = fmt.Sprintf("write it with a unit, such as %q", example)
		}
		l.fault(n.at, hint, "%s must be a duration, got %s", what, n)
		return 0
	}
	d, err := ParseDuration(s)
	switch {
	case err != nil:
		l.fault(n.at, "", "%s %s is no duration: %v", what, quoteCut(s), err)
	case d <= 0:
		l.fault(n.at, "", "%s must be greater than zero, got %s", what, quoteCut(s))
	}
	return d
}

// names reads a list of texts; an empty list is a problem.
func (l *loader) names(n *yamlNode, what, example string) []*yamlNode {
	if n.broken {
		return nil
	}
	if n.kind != yamlList {
		l.fault(n.at, "write "+example, "%s must be a list of field names, got %s", what, n)
		return nil
	}
	if len(n.items) == 0 {
		l.fault(n.at, "write "+example, "%s is empty", what)
	}
	var out []*yamlNode
	for _, item := range n.items {
		if _, ok := l.text(item, "a field name in "+what); ok {
			out = append(out, item)
		}
	}
	return out
}

// limit reads a minimum or maximum of a field; nil when it is at fault.
func (l *loader) limit(n *yamlNode, f *Field, what string) *Value {
	k := kindOf(f.Type)
	switch k {
	case kindMissing:
		return nil // The type is at fault and reported.
	case kindInt64, kindFloat64, kindTimestamp, kindDate:
	default:
		l.fault(n.at, "it applies to int64, float64, timestamp and date", "field %s: %s does not apply to the type %s", f.Name, what, f.Type)
		return nil
	}
	text, ok := limitText(n, k)
	if ok {
		if v, err := ParseText(f, text); err == nil {
			return &v
		}
	}
	l.fault(n.at, "", "field %s: %s must be %s, got %s", f.Name, what, k.expected(), n)
	return nil
}

// limitText is the text of a limit for ParseText. YAML's own ways to write a
// number count; a number in quotes is no number.
func limitText(n *yamlNode, k kind) (string, bool) {
	number := k == kindInt64 || k == kindFloat64
	switch v := n.value.(type) {
	case string:
		return v, !number
	case int64:
		return strconv.FormatInt(v, 10), number
	case uint64:
		return strconv.FormatUint(v, 10), number
	case float64:
		if k == kindInt64 && v == math.Trunc(v) && math.Abs(v) < 1<<63 {
			return strconv.FormatInt(int64(v), 10), true
		}
		return string(appendFloat(nil, v)), number
	}
	return "", false
}

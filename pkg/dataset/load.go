package dataset

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/latamctl/latamctl/pkg/strictyaml"
)

// declarationVersion is the version of the declaration that Load reads.
const declarationVersion = 1

// Problems are the faults of a declaration in the order of the file.
type Problems = strictyaml.Problems

// Problem is one fault. Line and Column count from 1, columns in characters.
type Problem = strictyaml.Problem

// Nearest returns the candidate that name was probably meant to be: the one
// with the fewest typing errors, regardless of case; "" when none is near.
func Nearest(name string, candidates []string) string { return strictyaml.Nearest(name, candidates) }

// Load reads a declaration. file is the path for messages; "" means the
// built-in example. When the text is at fault, the error is a *Problems with
// every problem found, in the order of the file.
func Load(file string, src []byte) (*Declaration, error) {
	l := &loader{decl: &Declaration{File: file}, faulty: map[*Field]bool{}}
	if root := l.Read(src, `a declaration begins with "version: 1"`); root != nil {
		l.declaration(root)
	}
	if err := l.Err(file); err != nil {
		return nil, err
	}
	return l.decl, nil
}

// loader reads the tree of a file into a Declaration. It goes on after a
// problem, so that all of them can be mended at once.
type loader struct {
	strictyaml.Reader
	decl   *Declaration
	places []datasetPlaces
	// faulty are the fields with a problem of their own, of which no other follows.
	faulty map[*Field]bool
}

func (l *loader) declaration(root *strictyaml.Node) {
	s, ok := l.Section(root, root.At, "", "version", "name", "datasets", "environments")
	if !ok {
		return
	}
	if n := l.Need(s, "version", `write "version: 1"`); n != nil && n.Value != int64(declarationVersion) {
		l.Fault(n.At, "", "version must be %d, the one that this latamctl reads, got %s", declarationVersion, n)
	}
	if n := l.Need(s, "name", `write "name: latam", the prefix of every cloud resource`); n != nil {
		if name, ok := l.Text(n, "name"); ok {
			l.decl.Name = name
			if fault := checkName(name); fault != "" {
				l.Fault(n.At, "", "name %s %s", quoteCut(name), fault)
			}
		}
	}
	if n := l.Need(s, "datasets", "declare at least one dataset"); n != nil {
		l.datasets(n)
	}
	if n := s.Get("environments"); n != nil {
		l.environments(n)
	}
}

func (l *loader) datasets(n *strictyaml.Node) {
	if n.Kind != strictyaml.Map {
		l.Fault(n.At, "write each dataset as its name and a map", "datasets must be a map of datasets by name, got %s", n)
		return
	}
	if len(n.Entries) == 0 {
		l.Fault(n.At, "declare at least one dataset", "datasets is empty")
	}
	for _, e := range n.Entries {
		l.dataset(e)
	}
	l.checkClashes()
}

func (l *loader) environments(n *strictyaml.Node) {
	if n.Kind != strictyaml.Map {
		l.Fault(n.At, "", "environments must be a map of settings by environment, got %s", n)
		return
	}
	for _, e := range n.Entries {
		env := Environment{Name: e.Key}
		if e.Key == "" {
			l.Fault(e.At, "", "the name of an environment is empty")
		}
		if e.Value.Kind != strictyaml.Map && !e.Value.IsNull() && !e.Value.Broken {
			l.Fault(e.Value.At, "", "environment %s must be a map of settings, got %s", e.Key, e.Value)
		}
		for _, s := range e.Value.Entries {
			env.Settings = append(env.Settings, Setting{Key: s.Key, Value: s.Value.Any(), Line: s.At.Line, Column: s.At.Column})
		}
		l.decl.Environments = append(l.decl.Environments, env)
	}
}

// duration reads a duration greater than zero.
func (l *loader) duration(n *strictyaml.Node, what, example string) time.Duration {
	s, ok := n.Value.(string)
	if !ok {
		hint := ""
		if n.Kind == strictyaml.Scalar {
			hint = fmt.Sprintf("write it with a unit, such as %q", example)
		}
		l.Fault(n.At, hint, "%s must be a duration, got %s", what, n)
		return 0
	}
	d, err := ParseDuration(s)
	switch {
	case err != nil:
		l.Fault(n.At, "", "%s %s is no duration: %v", what, quoteCut(s), err)
	case d <= 0:
		l.Fault(n.At, "", "%s must be greater than zero, got %s", what, quoteCut(s))
	}
	return d
}

// names reads a list of texts; an empty list is a problem.
func (l *loader) names(n *strictyaml.Node, what, example string) []*strictyaml.Node {
	if n.Broken {
		return nil
	}
	if n.Kind != strictyaml.List {
		l.Fault(n.At, "write "+example, "%s must be a list of field names, got %s", what, n)
		return nil
	}
	if len(n.Items) == 0 {
		l.Fault(n.At, "write "+example, "%s is empty", what)
	}
	var out []*strictyaml.Node
	for _, item := range n.Items {
		if _, ok := l.Text(item, "a field name in "+what); ok {
			out = append(out, item)
		}
	}
	return out
}

// limit reads a minimum or maximum of a field; nil when it is at fault.
func (l *loader) limit(n *strictyaml.Node, f *Field, what string) *Value {
	k := kindOf(f.Type)
	switch k {
	case kindMissing:
		return nil // The type is at fault and reported.
	case kindInt64, kindFloat64, kindTimestamp, kindDate:
	default:
		l.Fault(n.At, "it applies to int64, float64, timestamp and date", "field %s: %s does not apply to the type %s", f.Name, what, f.Type)
		return nil
	}
	text, ok := limitText(n, k)
	if ok {
		if v, err := ParseText(f, text); err == nil {
			return &v
		}
	}
	l.Fault(n.At, "", "field %s: %s must be %s, got %s", f.Name, what, k.expected(), n)
	return nil
}

// limitText is the text of a limit for ParseText. YAML's own ways to write a
// number count; a number in quotes is no number.
func limitText(n *strictyaml.Node, k kind) (string, bool) {
	number := k == kindInt64 || k == kindFloat64
	switch v := n.Value.(type) {
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

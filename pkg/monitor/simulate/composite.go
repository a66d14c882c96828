package simulate

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/monitor/query"
)

// compositeSource combines the states of other monitors.
type compositeSource struct {
	query   *query.Composite
	members map[string]*machine
}

func (w *world) composite(m *machine, q *query.Composite, path []string) error {
	if slices.Contains(path, m.object.Key.Name) {
		return notEvaluable(q, "a composite that is part of itself")
	}
	src := &compositeSource{query: q, members: map[string]*machine{}}
	for _, id := range operands(q.Expr) {
		name, ok := reference(id, declare.Monitor)
		if !ok {
			return notEvaluable(q, "the monitor %s, which is not named by ${ref:monitor.NAME}", id)
		}
		o := w.set.Lookup(declare.Key{Kind: declare.Monitor, Name: name})
		if o == nil {
			return notEvaluable(q, "the monitor %s, which is not declared", name)
		}
		member, err := w.machine(o, append(slices.Clone(path), m.object.Key.Name)...)
		if err != nil {
			return fmt.Errorf("%s: %w", o.Key, err)
		}
		src.members[id] = member
	}
	m.source = src
	return nil
}

// reference returns the name in ${ref:kind.name}.
func reference(id string, kind declare.Kind) (string, bool) {
	name, ok := strings.CutPrefix(id, "${ref:"+string(kind)+".")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(name, "}")
}

func operands(l query.Logic) []string {
	switch l := l.(type) {
	case *query.Operand:
		return []string{l.ID}
	case *query.Not:
		return operands(l.Of)
	case *query.And:
		return append(operands(l.Left), operands(l.Right)...)
	case *query.Or:
		return append(operands(l.Left), operands(l.Right)...)
	}
	return nil
}

func (s *compositeSource) at(t int) ([]sample, error) {
	var by []string
	groups := map[string][]tag{}
	grouped := false
	for _, id := range operands(s.query.Expr) {
		m := s.members[id]
		if err := m.advance(t); err != nil {
			return nil, err
		}
		for _, g := range m.groups {
			if g.key == "" {
				continue
			}
			keys := make([]string, len(g.tags))
			for i, t := range g.tags {
				keys[i] = t.key
			}
			slices.Sort(keys)
			if grouped && !slices.Equal(by, keys) {
				return nil, notEvaluable(s.query, "monitors with different groups")
			}
			grouped, by = true, keys
			groups[g.key] = g.tags
		}
	}
	if !grouped {
		groups[""] = nil
	}
	var out []sample
	for key, tags := range groups {
		if !s.common(key) {
			continue
		}
		out = append(out, sample{key: key, tags: tags, value: math.NaN(), state: s.state(key)})
	}
	slices.SortFunc(out, func(a, b sample) int { return strings.Compare(a.key, b.key) })
	return out, nil
}

// common reports whether every monitor has the group or has no groups.
func (s *compositeSource) common(key string) bool {
	for _, m := range s.members {
		if _, ok := m.groups[key]; !ok && m.groups[""] == nil {
			return len(m.groups) == 0 && key == ""
		}
	}
	return true
}

func (s *compositeSource) state(key string) State {
	holds, worst := s.logic(s.query.Expr, key)
	switch {
	case !holds:
		return OK
	case worst == OK:
		return Alert // Only negations hold.
	}
	return worst
}

// logic evaluates a condition: warning, alert and no data hold. worst is the worst of the states that make it hold.
func (s *compositeSource) logic(l query.Logic, key string) (holds bool, worst State) {
	both := func(left, right query.Logic) (bool, bool, State) {
		a, first := s.logic(left, key)
		b, second := s.logic(right, key)
		worst := OK
		if a && first.severity() > worst.severity() {
			worst = first
		}
		if b && second.severity() > worst.severity() {
			worst = second
		}
		return a, b, worst
	}
	switch l := l.(type) {
	case *query.Operand:
		m := s.members[l.ID]
		g := m.groups[key]
		if g == nil {
			g = m.groups[""]
		}
		if g == nil || g.state == "" {
			return true, NoData
		}
		return g.state != OK, g.state
	case *query.Not:
		inner, _ := s.logic(l.Of, key)
		return !inner, OK
	case *query.And:
		a, b, worst := both(l.Left, l.Right)
		return a && b, worst
	case *query.Or:
		a, b, worst := both(l.Left, l.Right)
		return a || b, worst
	}
	return false, OK
}

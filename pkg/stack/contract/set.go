package contract

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/strictyaml"
)

// Set is all stacks of one run. It is read-only after Load.
type Set struct {
	// Stacks are in an order in which they can be applied, the same for the same set.
	Stacks []*Stack
}

// UnknownError says that there is no stack of a name.
type UnknownError struct {
	Name string
	// Near is the stack that was probably meant, or empty.
	Near string
	// Known are the names of all stacks.
	Known []string
}

func (e *UnknownError) Error() string {
	hint := "the stacks are " + strings.Join(e.Known, ", ")
	switch {
	case e.Near != "":
		hint = fmt.Sprintf("did you mean %s?", e.Near)
	case len(e.Known) == 0:
		hint = "there are no stacks at all"
	}
	return fmt.Sprintf("there is no stack %s; %s", strictyaml.Quote(e.Name), hint)
}

// Names returns the names of the stacks in their order.
func (s *Set) Names() []string {
	names := make([]string, len(s.Stacks))
	for i, st := range s.Stacks {
		names[i] = st.Name
	}
	return names
}

// Get returns the stack with that name, nil when there is none.
func (s *Set) Get(name string) *Stack {
	for _, st := range s.Stacks {
		if st.Name == name {
			return st
		}
	}
	return nil
}

// Lookup returns the stack with that name, else an *UnknownError.
func (s *Set) Lookup(name string) (*Stack, error) {
	if st := s.Get(name); st != nil {
		return st, nil
	}
	return nil, &UnknownError{Name: name, Near: strictyaml.Nearest(name, s.Names()), Known: s.Names()}
}

// Dependents returns the stacks that need the named one themselves, in their order.
func (s *Set) Dependents(name string) []string {
	var out []string
	for _, st := range s.Stacks {
		if slices.Contains(st.Needs, name) {
			out = append(out, st.Name)
		}
	}
	return out
}

// WithDeps returns the named stacks and everything that they need, in their order.
func (s *Set) WithDeps(names ...string) ([]*Stack, error) { return s.Select(names, true, false) }

// WithDependents returns the named stacks and everything that needs them, in their order.
func (s *Set) WithDependents(names ...string) ([]*Stack, error) { return s.Select(names, false, true) }

// Select returns the named stacks in their order, with all that they need and with all that needs
// them where asked for. No names select all stacks. The error for a name of no stack is an *UnknownError.
func (s *Set) Select(names []string, withDeps, withDependents bool) ([]*Stack, error) {
	if len(names) == 0 {
		return slices.Clone(s.Stacks), nil
	}
	down, up := map[string]bool{}, map[string]bool{}
	for _, name := range names {
		if _, err := s.Lookup(name); err != nil {
			return nil, err
		}
		down[name], up[name] = true, true
	}
	// One pass each way is enough because Stacks are in order.
	if withDependents {
		for _, st := range s.Stacks {
			for _, need := range st.Needs {
				up[st.Name] = up[st.Name] || up[need]
			}
		}
	}
	if withDeps {
		for _, st := range slices.Backward(s.Stacks) {
			for _, need := range st.Needs {
				down[need] = down[need] || down[st.Name]
			}
		}
	}
	var out []*Stack
	for _, st := range s.Stacks {
		if down[st.Name] || up[st.Name] {
			out = append(out, st)
		}
	}
	return out, nil
}

// Depth is how many stacks the longest chain has that begins with this stack and goes on through
// those that need it: 1 when nothing does, 0 for a stack that does not exist. What is deeper is
// worth starting first.
func (s *Set) Depth(name string) int {
	depth := map[string]int{}
	for _, st := range slices.Backward(s.Stacks) {
		depth[st.Name]++
		for _, need := range st.Needs {
			depth[need] = max(depth[need], depth[st.Name])
		}
	}
	return depth[name]
}

// order sorts stacks so that each stands after those that it needs, by name where that is free. When
// that cannot be, it returns the names of a cycle, its first one repeated at the end.
func order(stacks []*Stack) (sorted []*Stack, cycle []string) {
	left := slices.Clone(stacks)
	slices.SortFunc(left, func(a, b *Stack) int { return cmp.Compare(a.Name, b.Name) })
	done := map[string]bool{}
	for len(left) > 0 {
		next := slices.IndexFunc(left, func(st *Stack) bool {
			return !slices.ContainsFunc(st.Needs, func(need string) bool { return !done[need] })
		})
		if next < 0 {
			return nil, findCycle(left)
		}
		done[left[next].Name] = true
		sorted = append(sorted, left[next])
		left = slices.Delete(left, next, next+1)
	}
	return sorted, nil
}

// findCycle follows needs among stacks of which each needs another one until a name comes again.
func findCycle(stacks []*Stack) []string {
	byName := map[string]*Stack{}
	for _, st := range stacks {
		byName[st.Name] = st
	}
	var path []string
	for at := stacks[0].Name; ; {
		if i := slices.Index(path, at); i >= 0 {
			return append(path[i:], at)
		}
		path = append(path, at)
		for _, need := range byName[at].Needs {
			if byName[need] != nil {
				at = need
				break
			}
		}
	}
}

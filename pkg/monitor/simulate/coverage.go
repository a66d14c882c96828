package simulate

import (
	"slices"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/monitor/query"
)

// Covered is how a monitor or an SLO is tested.
type Covered struct {
	Key declare.Key
	// Tests are those that are run.
	Tests int
	// Fires tells whether a test expects that it warns, alerts or has no data, Quiet whether one expects nothing but ok.
	Fires, Quiet bool
	// Skipped are the reasons why tests of it are not run.
	Skipped []string
}

// Coverage returns how each monitor and SLO of the set is tested. The alerts of an SLO are tested with
// it, and a monitor that tells nobody with the composites that it is a part of.
func Coverage(set *declare.Set, tests []Test) []Covered {
	var out []Covered
	for _, o := range set.Objects {
		if o.Key.Kind != declare.Monitor && o.Key.Kind != declare.SLO {
			continue
		}
		keys := []declare.Key{o.Key}
		switch {
		case isSLOAlert(o):
			keys = append(keys, o.Refs...)
		case len(o.Notify) == 0 && len(o.Roles) == 0:
			keys = append(keys, composites(set, o.Key)...)
		}
		c := Covered{Key: o.Key}
		for i := range tests {
			if slices.Contains(keys, tests[i].Target) {
				c.add(&tests[i])
			}
		}
		out = append(out, c)
	}
	return out
}

// composites are the composites that a monitor is a part of.
func composites(set *declare.Set, part declare.Key) []declare.Key {
	var out []declare.Key
	for _, o := range set.Objects {
		if _, ok := o.Query.(*query.Composite); ok && slices.Contains(o.Refs, part) {
			out = append(out, o.Key)
		}
	}
	return out
}

func (c *Covered) add(t *Test) {
	if t.Skip != "" {
		c.Skipped = append(c.Skipped, t.Skip)
		return
	}
	c.Tests++
	if t.detected() == OK {
		c.Quiet = true
	} else {
		c.Fires = true
	}
}

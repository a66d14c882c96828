package simulate

import (
	"slices"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
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

// Coverage returns how each monitor and SLO of the set is tested. The alerts of an SLO are tested with it.
func Coverage(set *declare.Set, tests []Test) []Covered {
	var out []Covered
	for _, o := range set.Objects {
		if o.Key.Kind != declare.Monitor && o.Key.Kind != declare.SLO {
			continue
		}
		keys := []declare.Key{o.Key}
		if isSLOAlert(o) {
			keys = append(keys, o.Refs...)
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

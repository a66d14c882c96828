package plan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Guard refuses plans that could lose what nobody named. The zero value protects what is marked so
// and sets no other limit.
type Guard struct {
	// Allow are the addresses of protected objects that may be deleted or replaced: section/address,
	// the address alone, or section/* for all of a section.
	Allow []string
	// MaxDeletes limits deletions and replacements together, named ones left out.
	MaxDeletes Limit
	// Existing is how many objects there are, for a limit in percent.
	Existing int
}

// Limit is a number or a share. The zero value is no limit; Set makes a limit of zero.
type Limit struct {
	Set     bool
	Value   int
	Percent bool // Value is percent of what exists
}

// ParseLimit reads "10", "25%", or "" for no limit.
func ParseLimit(text string) (Limit, error) {
	if text == "" {
		return Limit{}, nil
	}
	digits, percent := strings.CutSuffix(text, "%")
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 || percent && n > 100 {
		return Limit{}, fmt.Errorf("limit %q is not a number such as 10, or a share such as 25%%", text)
	}
	return Limit{Set: true, Value: n, Percent: percent}, nil
}

// most is the number that a limit stands for. A share is rounded down: the guard errs on the side of asking.
func (l Limit) most(existing int) int {
	if l.Percent {
		return existing * l.Value / 100
	}
	return l.Value
}

func (l Limit) String() string {
	switch {
	case !l.Set:
		return ""
	case l.Percent:
		return strconv.Itoa(l.Value) + "%"
	}
	return strconv.Itoa(l.Value)
}

// Refusal says what a Guard did not let through.
type Refusal struct {
	// Protected are the changes that need their address named, as section/address, in the order of the plan.
	Protected []string
	// Losses is how many objects would go when that is more than Most; else both are 0.
	Losses, Most int
}

// shownAddresses is how many addresses an error spells out.
const shownAddresses = 10

func (r *Refusal) Error() string {
	var parts []string
	if n := len(r.Protected); n > 0 {
		shown := r.Protected
		more := ""
		if n > shownAddresses {
			shown, more = shown[:shownAddresses], fmt.Sprintf(" and %d more", n-shownAddresses)
		}
		parts = append(parts, fmt.Sprintf("%s protected would be deleted or replaced: %s%s",
			quantity(n, "object that is", "objects that are"), strings.Join(shown, ", "), more))
	}
	if r.Losses > 0 {
		parts = append(parts, fmt.Sprintf("%s would be deleted or replaced, at most %d may", quantity(r.Losses, "object", "objects"), r.Most))
	}
	return strings.Join(parts, "; ")
}

// Check returns a *Refusal, or nil when the plan may be carried out.
func (g Guard) Check(p *Plan) error {
	var r Refusal
	losses := 0
	for i := range p.Sections {
		s := &p.Sections[i]
		for j := range s.Changes {
			c := &s.Changes[j]
			if !c.Action.loses() || g.allows(s.Name, c.Address) {
				continue
			}
			losses++
			if c.Protected {
				r.Protected = append(r.Protected, s.Name+"/"+c.Address)
			}
		}
	}
	if most := g.MaxDeletes.most(g.Existing); g.MaxDeletes.Set && losses > most {
		r.Losses, r.Most = losses, most
	}
	if len(r.Protected) == 0 && r.Losses == 0 {
		return nil
	}
	return &r
}

func (g Guard) allows(section, address string) bool {
	return slices.ContainsFunc(g.Allow, func(a string) bool {
		return a == address || a == section+"/"+address || a == section+"/*"
	})
}

// Unused are the entries of Allow that name nothing that would be lost, which is often a spelling mistake.
func (g Guard) Unused(p *Plan) []string {
	var unused []string
	for _, a := range g.Allow {
		one := Guard{Allow: []string{a}}
		used := p.some(func(s *Section) bool {
			return slices.ContainsFunc(s.Changes, func(c Change) bool { return c.Action.loses() && one.allows(s.Name, c.Address) })
		})
		if !used {
			unused = append(unused, a)
		}
	}
	return unused
}

// loses tells whether an action can lose data.
func (a Action) loses() bool { return a == Delete || a == Replace }

// quantity is a number with its noun.
func quantity(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

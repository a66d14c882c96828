package stack

import (
	"slices"
	"strings"

	tfjson "github.com/hashicorp/terraform-json"
)

// secrets are the values that a plan marks as sensitive somewhere. Terraform's marks do not follow a
// value through a provider: what comes back from one may hold a secret and bear no mark.
type secrets []string

// minSecret is the length from which a text is looked for in others: a shorter one is everywhere.
const minSecret = 8

// secretsOf finds what is sensitive in a plan: variables, outputs, and attributes of objects.
func secretsOf(p *tfjson.Plan) secrets {
	var s secrets
	if p.Config != nil && p.Config.RootModule != nil {
		for name, v := range p.Config.RootModule.Variables {
			if given := p.Variables[name]; v.Sensitive && given != nil {
				s.add(given.Value, true)
			}
		}
	}
	for _, c := range p.OutputChanges {
		s.addChange(c)
	}
	for _, rc := range slices.Concat(p.ResourceChanges, p.ResourceDrift) {
		s.addChange(rc.Change)
	}
	slices.Sort(s)
	return slices.Compact(s)
}

func (s *secrets) addChange(c *tfjson.Change) {
	if c != nil {
		s.add(c.Before, c.BeforeSensitive)
		s.add(c.After, c.AfterSensitive)
	}
}

// add takes the texts of a value where its marker is set.
func (s *secrets) add(v, hidden any) {
	switch v := v.(type) {
	case string:
		if hidden == true && len(v) >= minSecret && v != knownAfterApply {
			*s = append(*s, v)
		}
	case map[string]any:
		for key, inner := range v {
			s.add(inner, member(hidden, key))
		}
	case []any:
		for i, inner := range v {
			s.add(inner, element(hidden, i))
		}
	}
}

// in tells whether a value has a secret in it.
func (s secrets) in(v any) bool {
	switch v := v.(type) {
	case string:
		return slices.ContainsFunc(s, func(secret string) bool { return strings.Contains(v, secret) })
	case map[string]any:
		for _, inner := range v {
			if s.in(inner) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, s.in)
	}
	return false
}

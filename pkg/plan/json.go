package plan

import "math"

// Document is a plan for programs.
type Document struct {
	Schema      string            `json:"schema"`
	Environment string            `json:"environment"`
	Pending     bool              `json:"pending"`
	Drifted     bool              `json:"drifted"`
	Failed      bool              `json:"failed"`
	Counts      Counts            `json:"counts"`
	Sections    []SectionDocument `json:"sections"`
}

// SectionDocument is a section for programs.
type SectionDocument struct {
	Section
	Counts  Counts  `json:"counts"`
	Seconds float64 `json:"seconds"`
}

// NewDocument returns a plan as JSON of that schema, such as latamctl.plan/v1. Sensitive values are
// left out whatever the plan holds.
func NewDocument(schema string, p *Plan) Document {
	d := Document{
		Schema: schema, Environment: p.Environment, Pending: p.Pending(), Drifted: p.Drifted(), Failed: p.Failed(),
		Counts: p.Counts(), Sections: []SectionDocument{},
	}
	for i := range p.Sections {
		s := p.Sections[i]
		counts := s.Counts()
		s.Changes, s.Drift = masked(s.Changes), masked(s.Drift)
		d.Sections = append(d.Sections, SectionDocument{Section: s, Counts: counts, Seconds: math.Round(s.Took.Seconds()*1000) / 1000})
	}
	return d
}

// masked copies changes in their order for readers, without the values of sensitive attributes.
func masked(changes []Change) []Change {
	out := sorted(changes)
	if out == nil {
		out = []Change{}
	}
	for i := range out {
		attributes := make([]Attribute, 0, len(out[i].Attributes))
		for _, a := range out[i].Attributes {
			if a.Sensitive {
				a.Before, a.After = "", ""
			}
			attributes = append(attributes, a)
		}
		out[i].Attributes = attributes
	}
	return out
}

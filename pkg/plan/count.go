package plan

// Counts are how many objects change, by what happens to them.
type Counts struct {
	Create  int `json:"create"`
	Update  int `json:"update"`
	Replace int `json:"replace"`
	Delete  int `json:"delete"`
	Import  int `json:"import"`
	Forget  int `json:"forget"`
	Drift   int `json:"drift"`
}

// Counts counts the changes of a section.
func (s *Section) Counts() Counts {
	c := Counts{Drift: len(s.Drift)}
	for i := range s.Changes {
		switch s.Changes[i].Action {
		case Create:
			c.Create++
		case Update:
			c.Update++
		case Replace:
			c.Replace++
		case Delete:
			c.Delete++
		case Import:
			c.Import++
		case Forget:
			c.Forget++
		}
	}
	return c
}

// Pending tells whether an apply of the section would do something. Drift alone is not pending: it
// was done already, by someone else.
func (s *Section) Pending() bool { return len(s.Changes) > 0 || len(s.Outputs) > 0 }

// Failed tells whether the section could not be planned.
func (s *Section) Failed() bool { return s.Error != "" || s.Blocked != "" }

// Counts sums up all sections.
func (p *Plan) Counts() Counts {
	var sum Counts
	for i := range p.Sections {
		c := p.Sections[i].Counts()
		sum.Create += c.Create
		sum.Update += c.Update
		sum.Replace += c.Replace
		sum.Delete += c.Delete
		sum.Import += c.Import
		sum.Forget += c.Forget
		sum.Drift += c.Drift
	}
	return sum
}

// Pending tells whether an apply would do something.
func (p *Plan) Pending() bool { return p.some((*Section).Pending) }

// Drifted tells whether something was changed outside.
func (p *Plan) Drifted() bool { return p.some(func(s *Section) bool { return len(s.Drift) > 0 }) }

// Failed tells whether a section could not be planned.
func (p *Plan) Failed() bool { return p.some((*Section).Failed) }

func (p *Plan) some(is func(*Section) bool) bool {
	for i := range p.Sections {
		if is(&p.Sections[i]) {
			return true
		}
	}
	return false
}

package simulate

import (
	"time"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/strictyaml"
)

// Test is a test of a monitor, or of an SLO with its alerts.
type Test struct {
	Name   string
	Target declare.Key
	// Interval is the time between two points.
	Interval time.Duration
	Expect   []Expectation
	// DetectWithin is how long it may take at most until what is expected to happen does; 0 for no limit.
	DetectWithin time.Duration
	// BadSince is when it begins to be bad; nil stands for the first change of a series.
	BadSince *time.Duration
	// Skip says why the test is not run.
	Skip string
	// File and At are where it stands.
	File string
	At   strictyaml.Place

	series []series
}

// Expectation is what a test expects at a time.
type Expectation struct {
	At time.Duration
	// State is of the group, or the worst of all groups; empty when nothing is expected of it.
	State State
	// Group names a group, such as host:a; empty for all.
	Group string
	// Notified are roles or handles that were told since the state began, NotNotified those that were not.
	Notified, NotNotified []string
	// Message is what a message that was sent since the state began contains.
	Message string
	// Alerts are the states of an SLO's alerts by their tiers.
	Alerts map[string]State
}

// last is the last point that is evaluated.
func (t *Test) last() int {
	last := 0
	for i := range t.series {
		last = max(last, t.series[i].length()-1)
	}
	for _, e := range t.Expect {
		last = max(last, int(e.At/t.Interval))
	}
	return last
}

// badSince is the time from which on detection is measured.
func (t *Test) badSince() time.Duration {
	if t.BadSince != nil {
		return *t.BadSince
	}
	first := -1
	for i := range t.series {
		if c := t.series[i].firstChange(); c >= 0 && (first < 0 || c < first) {
			first = c
		}
	}
	return time.Duration(max(first, 0)) * t.Interval
}

// detected is the state whose beginning is the detection: the worst that is expected, OK when nothing bad is.
func (t *Test) detected() State {
	worst := OK
	take := func(s State) {
		if s != "" && s.severity() > worst.severity() {
			worst = s
		}
	}
	for _, e := range t.Expect {
		take(e.State)
		for _, s := range e.Alerts {
			take(s)
		}
	}
	return worst
}

// tiers are the tiers of which the state is expected at least once.
func (t *Test) tiers(want State) map[string]bool {
	out := map[string]bool{}
	for _, e := range t.Expect {
		for tier, s := range e.Alerts {
			if s == want {
				out[tier] = true
			}
		}
	}
	return out
}

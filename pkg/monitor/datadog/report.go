package datadog

// Report compares a history with a target.
type Report struct {
	History
	Target float64 // percent
	// HasData tells whether anything was counted. Without it nothing below means anything.
	HasData bool
	Percent float64
	Met     bool
	// Bad, Budget and Left are in the history's unit: what was not good, what may not be, and what may still be.
	Bad, Budget, Left float64
	// LeftPercent is the part of the budget that is left; below 0 when more was used than there is.
	LeftPercent float64
}

// NewReport does the arithmetic. The target lies between 0 and 100.
func NewReport(h History, target float64) Report {
	r := Report{History: h, Target: target, HasData: h.Total > 0}
	if !r.HasData {
		return r
	}
	r.Percent = 100 * h.Good / h.Total
	r.Bad = h.Total - h.Good
	r.Budget = h.Total * (100 - target) / 100
	r.Left = r.Budget - r.Bad
	// A history is a sum of rounded parts, so what differs in the last digits only has met the target.
	r.Met = 100*h.Good >= target*h.Total*(1-1e-12)
	if r.Budget > 0 {
		r.LeftPercent = 100 * r.Left / r.Budget
	}
	return r
}

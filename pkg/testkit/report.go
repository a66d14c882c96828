package testkit

import (
	"fmt"
	"slices"
	"strings"
)

// Report is what a check found. The figures named first are counts that say how much was checked;
// every other one must be 0.
type Report struct {
	// Published counts attempts, Acked those that the system acknowledged.
	Published, Acked int
	// Rows are the rows read, Delivered the distinct messages delivered.
	Rows, Delivered int
	// UnansweredKept are attempts that took effect although nobody was told: proof that a crash
	// met the system between the write and the answer.
	UnansweredKept int
	// DeadOK are attempts with a reason that ended as the dead letter they had to become.
	DeadOK int
	// Redelivered are deliveries of a message that had been delivered before.
	Redelivered int

	// Lost are acknowledged attempts without any trace.
	Lost int
	// DuplicateRows are rows beyond the first of one identity.
	DuplicateRows int
	// ExtraCells are cells beyond one for each column.
	ExtraCells int
	// WrongPayload are rows, letters and deliveries that do not hold what was sent, or hold only a
	// part of it, or an older version than the one acknowledged last.
	WrongPayload int
	// Foreign are rows, letters and messages that nobody sent.
	Foreign int
	// DeadHealthy are dead letters of healthy attempts.
	DeadHealthy int
	// WrongReason are dead letters with another reason than the one due, or none.
	WrongReason int
	// RepeatedIDs are acknowledged publishes whose message id another one has too.
	RepeatedIDs int

	// Violations describe the first of what must not be, for a person.
	Violations []string
}

// maxViolations bounds how many a report describes; its figures count them all.
const maxViolations = 20

// violate counts a violation and describes it.
func (r *Report) violate(figure *int, format string, args ...any) {
	*figure++
	if len(r.Violations) < maxViolations {
		r.Violations = append(r.Violations, fmt.Sprintf(format, args...))
	}
}

// Plus returns the sum of two reports.
func (r Report) Plus(o Report) Report {
	sum := r
	for _, f := range []struct {
		to  *int
		add int
	}{
		{&sum.Published, o.Published},
		{&sum.Acked, o.Acked},
		{&sum.Rows, o.Rows},
		{&sum.Delivered, o.Delivered},
		{&sum.UnansweredKept, o.UnansweredKept},
		{&sum.DeadOK, o.DeadOK},
		{&sum.Redelivered, o.Redelivered},
		{&sum.Lost, o.Lost},
		{&sum.DuplicateRows, o.DuplicateRows},
		{&sum.ExtraCells, o.ExtraCells},
		{&sum.WrongPayload, o.WrongPayload},
		{&sum.Foreign, o.Foreign},
		{&sum.DeadHealthy, o.DeadHealthy},
		{&sum.WrongReason, o.WrongReason},
		{&sum.RepeatedIDs, o.RepeatedIDs},
	} {
		*f.to += f.add
	}
	sum.Violations = slices.Concat(r.Violations, o.Violations)
	return sum
}

// OK tells whether nothing is there that must not be.
func (r Report) OK() bool {
	return r.Lost+r.DuplicateRows+r.ExtraCells+r.WrongPayload+r.Foreign+r.DeadHealthy+r.WrongReason+r.RepeatedIDs == 0
}

// String is one line of figures.
func (r Report) String() string {
	var b strings.Builder
	for _, f := range []struct {
		name string
		n    int
	}{
		{"published", r.Published},
		{"acked", r.Acked},
		{"rows", r.Rows},
		{"delivered", r.Delivered},
		{"lost", r.Lost},
		{"duplicate_rows", r.DuplicateRows},
		{"extra_cells", r.ExtraCells},
		{"wrong_payload", r.WrongPayload},
		{"foreign", r.Foreign},
		{"dead_ok", r.DeadOK},
		{"dead_healthy", r.DeadHealthy},
		{"wrong_reason", r.WrongReason},
		{"repeated_ids", r.RepeatedIDs},
		{"unanswered_kept", r.UnansweredKept},
		{"redelivered", r.Redelivered},
	} {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%s=%d", f.name, f.n)
	}
	return b.String()
}

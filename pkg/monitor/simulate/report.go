package simulate

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// Schema names the JSON document of a report.
const Schema = "latamctl.monitors-test/v1"

// Report is the JSON document of the results.
type Report struct {
	Schema  string         `json:"schema"`
	Passed  int            `json:"passed"`
	Failed  int            `json:"failed"`
	Skipped int            `json:"skipped"`
	Tests   []ReportedTest `json:"tests"`
}

// ReportedTest is a test in a Report.
type ReportedTest struct {
	Name    string `json:"name"`
	Target  string `json:"target"` // such as monitor.ingest-errors
	File    string `json:"file"`
	Line    int    `json:"line"`
	Outcome string `json:"outcome"` // passed, failed or skipped
	Reason  string `json:"reason,omitempty"`
	// NotEvaluable tells that it failed because a query holds what is not evaluated.
	NotEvaluable bool `json:"not_evaluable,omitempty"`
	// DetectionSeconds is there when what is expected to happen did.
	DetectionSeconds *float64             `json:"detection_seconds,omitempty"`
	Told             []string             `json:"told,omitempty"`
	Timeline         []ReportedTransition `json:"timeline,omitempty"`
}

// ReportedTransition is a Transition in a Report.
type ReportedTransition struct {
	AtSeconds float64  `json:"at_seconds"`
	Monitor   string   `json:"monitor"`
	Group     string   `json:"group,omitempty"`
	From      State    `json:"from,omitempty"`
	To        State    `json:"to"`
	Value     *float64 `json:"value,omitempty"`
	Event     string   `json:"event,omitempty"`
	Told      []string `json:"told,omitempty"`
	Roles     []string `json:"roles,omitempty"`
	Message   string   `json:"message,omitempty"`
}

// NewReport makes the document of some results.
func NewReport(results []Result) Report {
	r := Report{Schema: Schema, Tests: make([]ReportedTest, len(results))}
	for i := range results {
		res := &results[i]
		t := &r.Tests[i]
		*t = ReportedTest{
			Name: res.Test.Name, Target: res.Test.Target.String(), File: res.Test.File, Line: res.Test.At.Line,
			Outcome: res.outcome(), Reason: res.Reason, NotEvaluable: res.NotEvaluable, Told: res.Told,
		}
		switch {
		case res.Skipped:
			r.Skipped++
		case res.Passed:
			r.Passed++
		default:
			r.Failed++
		}
		if res.Detected {
			seconds := res.Detection.Seconds()
			t.DetectionSeconds = &seconds
		}
		for _, tr := range res.Timeline {
			one := ReportedTransition{
				AtSeconds: tr.At.Seconds(), Monitor: tr.Monitor, Group: tr.Group, From: tr.From, To: tr.To,
				Event: string(tr.Event), Told: tr.Told, Roles: tr.Roles, Message: tr.Message,
			}
			if !math.IsNaN(tr.Value) {
				one.Value = &tr.Value
			}
			t.Timeline = append(t.Timeline, one)
		}
	}
	return r
}

func (r *Result) outcome() string {
	switch {
	case r.Skipped:
		return "skipped"
	case r.Passed:
		return "passed"
	}
	return "failed"
}

// WriteText writes a line for each test, what happened in those that failed, and how many there are.
func WriteText(w io.Writer, results []Result) error {
	var b strings.Builder
	for i := range results {
		results[i].write(&b)
	}
	r := NewReport(results)
	fmt.Fprintf(&b, "%d passed, %d failed, %d skipped\n", r.Passed, r.Failed, r.Skipped)
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Result) write(b *strings.Builder) {
	switch {
	case r.Skipped:
		fmt.Fprintf(b, "SKIP  %s: %s\n", r.Test.Name, r.Reason)
		return
	case r.Passed:
		fmt.Fprintf(b, "PASS  %s  (%s)\n", r.Test.Name, r.summary())
		return
	}
	fmt.Fprintf(b, "FAIL  %s\n      %s:%d: %s\n", r.Test.Name, r.Test.File, r.Test.At.Line, strings.ReplaceAll(r.Reason, "; at ", "\n      at "))
	if len(r.Timeline) > 0 {
		b.WriteString("      what happened:\n")
	}
	for i, tr := range r.Timeline {
		if i == maxShownTransitions {
			fmt.Fprintf(b, "        and %d more\n", len(r.Timeline)-i)
			break
		}
		b.WriteString("        " + tr.String() + "\n")
	}
}

// maxShownTransitions is how much of a timeline the text shows.
const maxShownTransitions = 20

// summary is what a passed test found.
func (r *Result) summary() string {
	target := r.Test.Target.Name
	if !r.Detected {
		return target + ": quiet"
	}
	text := fmt.Sprintf("%s: %s", target, r.Test.detected())
	if r.Detection > 0 {
		text += " after " + dataset.FormatDuration(r.Detection)
	}
	if told := slices.Compact(sorted(r.Told)); len(told) > 0 {
		text += ", told " + strings.Join(told, ", ")
	}
	return text
}

// String is such as 6m: ok → alert (11), told @pagerduty-latam.
func (t Transition) String() string {
	from := string(t.From)
	if from == "" {
		from = "new"
	}
	text := fmt.Sprintf("%s: %s → %s", dataset.FormatDuration(t.At), from, t.To)
	if t.From == t.To {
		text = fmt.Sprintf("%s: still %s", dataset.FormatDuration(t.At), t.To)
	}
	if !math.IsNaN(t.Value) {
		text += " (" + formatValue(t.Value) + ")"
	}
	if t.Group != "" {
		text += " " + t.Group
	}
	if t.Monitor != "" {
		text += " " + t.Monitor
	}
	if told := append(slices.Clone(t.Told), t.Roles...); t.Event != "" && len(told) > 0 {
		text += ", told " + strings.Join(told, ", ")
	}
	return text
}

package cli

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/latamctl/latamctl/pkg/plan"
	"github.com/latamctl/latamctl/pkg/stack"
)

// reportDocument is the end of a run for programs.
type reportDocument struct {
	Schema      string            `json:"schema"`
	Environment string            `json:"environment"`
	Run         string            `json:"run"`
	OK          bool              `json:"ok"`
	Interrupted bool              `json:"interrupted"`
	Stacks      []outcomeDocument `json:"stacks"`
	Plan        *plan.Document    `json:"plan,omitempty"`
}

type outcomeDocument struct {
	stack.Outcome
	Error   string  `json:"error,omitempty"`
	Seconds float64 `json:"seconds"`
}

// failedStacks are the stacks that are not as they should be.
func failedStacks(r *stack.Report) []string {
	var names []string
	for i := range r.Outcomes {
		if phase := r.Outcomes[i].Phase; phase == stack.Broken || phase == stack.Blocked {
			names = append(names, r.Outcomes[i].Stack)
		}
	}
	return names
}

// showReport writes how a run ended: one line per stack, then what failed and where its log is.
func (a *app) showReport(o outcome, r *stack.Report, interrupted bool, err error) error {
	if a.global.output == outputJSON {
		doc := reportDocument{
			Schema: o.schema, Environment: a.global.env, Run: r.Run, OK: err == nil && len(failedStacks(r)) == 0, Interrupted: interrupted,
			Stacks: []outcomeDocument{},
		}
		for i := range r.Outcomes {
			doc.Stacks = append(doc.Stacks, outcomeDocument{
				Outcome: r.Outcomes[i], Error: errorText(r.Outcomes[i].Err), Seconds: math.Round(r.Outcomes[i].Took.Seconds()*1000) / 1000,
			})
		}
		if r.Plan != nil {
			d := plan.NewDocument("latamctl.plan/v1", r.Plan)
			doc.Plan = &d
		}
		return json.NewEncoder(a.proc.Out).Encode(doc)
	}
	return a.reportTable(r)
}

func (a *app) reportTable(r *stack.Report) error {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STACK\tOUTCOME\tCREATED\tCHANGED\tDELETED\tTIME\t")
	for i := range r.Outcomes {
		out := &r.Outcomes[i]
		took := ""
		if out.Took > 0 {
			took = out.Took.Round(100 * time.Millisecond).String()
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%s\t%s\n", plan.Clean(out.Stack), out.Phase, out.Created, out.Changed, out.Deleted, took, remark(out))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for i := range r.Outcomes {
		out := &r.Outcomes[i]
		if out.Err == nil || out.Phase == stack.Blocked {
			continue
		}
		fmt.Fprintf(&b, "\n%s %s\n", a.paint(a.proc.OutTerminal, red, plan.Clean(out.Stack)+":"), indented(out.Err.Error()))
		if out.Log != "" && !strings.Contains(out.Err.Error(), out.Log) {
			fmt.Fprintf(&b, "  log: %s\n", out.Log)
		}
	}
	for line := range strings.Lines(b.String()) {
		fmt.Fprint(a.proc.Out, strings.TrimRight(line, " \n")+"\n")
	}
	return nil
}

// remark is what the numbers of an outcome do not say.
func remark(o *stack.Outcome) string {
	var parts []string
	if o.Blocked != "" {
		parts = append(parts, "waits for "+plan.Clean(o.Blocked))
	}
	if o.Retries == 1 {
		parts = append(parts, "planned again once")
	} else if o.Retries > 1 {
		parts = append(parts, fmt.Sprintf("planned again %d times", o.Retries))
	}
	return strings.Join(parts, "; ")
}

// indented is text of several lines below a label.
func indented(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(plan.Clean(lines[i]), " ")
	}
	return strings.Join(lines, "\n  ")
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// reportMarkdown is the end of a run for the summary of a CI job: what failed, then what was done.
func reportMarkdown(title string, r *stack.Report) string {
	shown := plan.Plan{}
	if r.Plan != nil {
		shown = *r.Plan
	}
	sections := map[string]plan.Section{}
	for _, s := range shown.Sections {
		sections[s.Name] = s
	}
	shown.Sections = nil
	for i := range r.Outcomes {
		o := &r.Outcomes[i]
		s := sections[o.Stack]
		s.Name, s.Error, s.Blocked = o.Stack, "", o.Blocked
		s.Note = string(o.Phase)
		if o.Phase == stack.Broken {
			s.Error = errorText(o.Err)
			if s.Error == "" {
				s.Error = string(o.Phase)
			}
		}
		shown.Sections = append(shown.Sections, s)
	}
	var b strings.Builder
	_ = plan.Markdown(&b, title, &shown) // A builder takes everything.
	return b.String()
}

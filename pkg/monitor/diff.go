package monitor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/plan"
)

// DiffOptions say what is compared and how it is shown.
type DiffOptions struct {
	// Names limits the comparison to objects by name, or kind.name.
	Names []string
	// Roles are the handles of each role, for Difference.Live.
	Roles map[string][]string
}

// Difference is how an object at Datadog differs from what is declared.
type Difference struct {
	Key    declare.Key
	ID     string // empty when Datadog has no such object
	Action plan.Action
	Reason string
	// Text are the lines that differ, of both sides as YAML: - is live, + is declared. Ids of own objects are references.
	Text string
	// Live is what Datadog has, as it would be declared, and is empty when that cannot be said in a file.
	Live string
}

// Diff compares Datadog with what is declared, line by line. What is not declared any more is shown as
// lines that go. Objects that are the same are left out.
func (s *Syncer) Diff(ctx context.Context, o DiffOptions) ([]Difference, error) {
	none := 0
	p, err := s.Plan(ctx, PlanOptions{Names: o.Names, ExpectExisting: &none, Prune: true})
	if err != nil {
		return nil, err
	}
	list := make([]Difference, 0, len(p.steps))
	for _, st := range p.steps {
		d := Difference{Key: st.key, Action: st.action, Reason: st.reason}
		live, declared := map[string]any{}, map[string]any{}
		switch {
		case st.live != nil:
			d.ID, live = st.live.live.ID, st.live.normal
			d.Live = s.paste(st.live, p.inv.known, o.Roles)
		case st.metric != nil:
			d.ID, live = st.metric.ID, normalise(declare.Metric, st.metric.Payload)
		}
		if st.object != nil {
			declared = normalise(st.key.Kind, st.want)
		}
		if d.Text = unified(lines(live), lines(declared)); d.Text == "" {
			d.Text = attributeLines(st.attributes)
		}
		d.Text = fmt.Sprintf("--- %s at Datadog\n+++ %s as declared\n%s", d.Key, d.Key, d.Text)
		list = append(list, d)
	}
	return list, nil
}

// attributeLines are differences that the normal forms do not show, such as ids.
func attributeLines(attributes []plan.Attribute) string {
	var b strings.Builder
	for _, a := range attributes {
		after := a.After
		if a.Unknown {
			after = "(known after the sync)"
		}
		fmt.Fprintf(&b, "- %s: %s\n+ %s: %s\n", a.Path, a.Before, a.Path, after)
	}
	return b.String()
}

func lines(normal map[string]any) []string {
	if len(normal) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(yamlText(normal), "\n"), "\n")
}

// contextLines stand around each change.
const contextLines = 3

// unified writes the difference of two texts in the unified format, without a header; it is empty when they are equal.
func unified(before, after []string) string {
	edits := editScript(before, after)
	if !slices.ContainsFunc(edits, func(e edit) bool { return e.sign != ' ' }) {
		return ""
	}
	near := make([]bool, len(edits))
	for i, e := range edits {
		if e.sign != ' ' {
			for j := max(0, i-contextLines); j <= min(len(edits)-1, i+contextLines); j++ {
				near[j] = true
			}
		}
	}
	var b strings.Builder
	oldLine, newLine := 1, 1
	for i := 0; i < len(edits); {
		end := i
		for end < len(edits) && near[end] == near[i] {
			end++
		}
		gone, come := count(edits[i:end])
		if near[i] {
			fmt.Fprintf(&b, "@@ -%s +%s @@\n", span(oldLine, gone), span(newLine, come))
			for _, e := range edits[i:end] {
				fmt.Fprintf(&b, "%c%s\n", e.sign, e.line)
			}
		}
		oldLine, newLine, i = oldLine+gone, newLine+come, end
	}
	return b.String()
}

func span(line, n int) string {
	if n == 0 {
		line--
	}
	return fmt.Sprintf("%d,%d", line, n)
}

// edit is a line that both sides have, or that goes or comes.
type edit struct {
	sign byte // ' ', '-' or '+'
	line string
}

// count is how many lines of each side edits stand for.
func count(edits []edit) (before, after int) {
	for _, e := range edits {
		if e.sign != '+' {
			before++
		}
		if e.sign != '-' {
			after++
		}
	}
	return before, after
}

// maxCells bounds the table of the longest common lines; texts beyond it are shown as replaced as a whole.
const maxCells = 16 << 20

// editScript turns one list of lines into another with the fewest changes.
func editScript(before, after []string) []edit {
	var head, tail []edit
	for len(before) > 0 && len(after) > 0 && before[0] == after[0] {
		head = append(head, edit{' ', before[0]})
		before, after = before[1:], after[1:]
	}
	for len(before) > 0 && len(after) > 0 && before[len(before)-1] == after[len(after)-1] {
		tail = append(tail, edit{' ', before[len(before)-1]})
		before, after = before[:len(before)-1], after[:len(after)-1]
	}
	slices.Reverse(tail)
	return slices.Concat(head, middle(before, after), tail)
}

func middle(before, after []string) []edit {
	var edits []edit
	if len(before)*len(after) > maxCells {
		for _, line := range before {
			edits = append(edits, edit{'-', line})
		}
		for _, line := range after {
			edits = append(edits, edit{'+', line})
		}
		return edits
	}
	// common[i][j] is how many lines before[i:] and after[j:] have in common, in their order.
	common := make([][]int32, len(before)+1)
	for i := range common {
		common[i] = make([]int32, len(after)+1)
	}
	for i := len(before) - 1; i >= 0; i-- {
		for j := len(after) - 1; j >= 0; j-- {
			if before[i] == after[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(before) || j < len(after) {
		switch {
		case i < len(before) && j < len(after) && before[i] == after[j]:
			edits = append(edits, edit{' ', before[i]})
			i, j = i+1, j+1
		case j == len(after) || i < len(before) && common[i+1][j] >= common[i][j+1]:
			edits = append(edits, edit{'-', before[i]})
			i++
		default:
			edits = append(edits, edit{'+', after[j]})
			j++
		}
	}
	return edits
}

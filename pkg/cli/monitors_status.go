package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/monitor"
	"github.com/latamctl/latamctl/pkg/plan"
)

func monitorsStatusCmd(a *app) *cobra.Command {
	var o monitorOptions
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what alerts now, and what has no data",
		Long: `status asks Datadog how the monitors of this environment are doing and lists those that alert, warn
or have no data, with the groups that do. It is a report: the exit code is 0 whatever it finds.`,
		Example: "  latamctl monitors status --env prod\n  latamctl monitors status --env prod -o json",
		Args:    cobra.NoArgs,
	}
	cmd.RunE = a.run(settings, func(ctx context.Context, _ []string) error { return a.runMonitorsStatus(ctx, &o) })
	addMonitorFlags(cmd, &o)
	return cmd
}

// stateDocument is a monitor's state for programs.
type stateDocument struct {
	Name     string          `json:"name"`
	Title    string          `json:"title"`
	ID       string          `json:"id"`
	State    string          `json:"state"`
	Since    string          `json:"since,omitempty"`
	Pages    bool            `json:"pages"`
	Declared bool            `json:"declared"`
	Groups   []groupDocument `json:"groups"`
}

type groupDocument struct {
	Name  string `json:"name"`
	State string `json:"state"`
	Since string `json:"since,omitempty"`
}

// The states of Datadog that a person looks at, the worst first.
func badStates() []string { return []string{"Alert", "Warn", "No Data", "Unknown"} }

func (a *app) runMonitorsStatus(ctx context.Context, o *monitorOptions) error {
	s, err := a.openMonitors(o)
	if err != nil {
		return err
	}
	defer s.close()
	states, err := s.syncer.Status(ctx)
	if err != nil {
		return s.fault(ctx, "status", err)
	}
	counts := map[string]int{}
	docs := make([]stateDocument, 0, len(states))
	for i := range states {
		counts[states[i].State]++
		docs = append(docs, stateOf(&states[i]))
	}
	if a.global.output == outputJSON {
		return json.NewEncoder(a.proc.Out).Encode(map[string]any{
			"schema": "latamctl.monitors-status/v1", "environment": a.global.env, "stack": a.stackName(), "counts": counts, "monitors": docs,
		})
	}
	return a.printStates(docs, counts)
}

func stateOf(s *monitor.Status) stateDocument {
	doc := stateDocument{
		Name: s.Key.Name, Title: s.Name, ID: s.ID, State: s.State, Since: moment(s.Since), Pages: s.Pages, Declared: s.Declared, Groups: []groupDocument{},
	}
	for _, g := range s.Groups {
		doc.Groups = append(doc.Groups, groupDocument{Name: g.Name, State: g.State, Since: moment(g.Since)})
	}
	return doc
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func (a *app) printStates(docs []stateDocument, counts map[string]int) error {
	if len(docs) == 0 {
		fmt.Fprintf(a.proc.Out, "Datadog has no monitors of %s; latamctl monitors sync --env %s makes them.\n", a.stackName(), a.global.env)
		return nil
	}
	parts := []string{fmt.Sprintf("%d OK", counts["OK"])}
	for _, state := range badStates() {
		if n := counts[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	fmt.Fprintf(a.proc.Out, "%s: %s of %d monitors\n", a.stackName(), strings.Join(parts, ", "), len(docs))
	w := tabwriter.NewWriter(a.proc.Out, 0, 0, 2, ' ', 0)
	header := "\nSTATE\tSINCE\tPAGES\tMONITOR\tTITLE\n"
	for _, d := range docs {
		if !slices.Contains(badStates(), d.State) {
			continue
		}
		pages := ""
		if d.Pages {
			pages = "yes"
		}
		fmt.Fprintf(w, "%s%s\t%s\t%s\t%s\t%s\n", header, d.State, d.Since, pages, plan.Clean(d.Name), plan.Clean(d.Title))
		header = ""
		for _, g := range d.Groups {
			fmt.Fprintf(w, "\t%s\t\t  %s\t%s\n", g.Since, plan.Clean(g.Name), g.State)
		}
	}
	return w.Flush()
}

package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/monitor"
	"github.com/latamctl/latamctl/pkg/plan"
)

func monitorsDiffCmd(a *app) *cobra.Command {
	var o monitorOptions
	var reverse bool
	cmd := &cobra.Command{
		Use:   "diff [NAME]...",
		Short: "Show line by line how Datadog differs from what is declared",
		Long: `diff compares objects at Datadog with what is declared, as YAML: - is what Datadog has, + is what is
declared, ids of own objects are names. --reverse prints what Datadog has as it would be declared,
to be pasted into a file of yours. Exit 3 when something differs.`,
		Example:           "  latamctl monitors diff --env prod\n  latamctl monitors diff --env prod ingest-errors\n  latamctl monitors diff --env prod ingest-errors --reverse",
		ValidArgsFunction: monitorNames(a, &o),
	}
	cmd.RunE = a.run(settings, func(ctx context.Context, args []string) error { return a.runMonitorsDiff(ctx, args, &o, reverse) })
	cmd.Flags().BoolVar(&reverse, "reverse", false, "print what Datadog has as a declaration")
	config.MarkInvocation(cmd.Flags(), "reverse")
	addMonitorFlags(cmd, &o)
	return cmd
}

// diffDocument is one object that differs, for programs.
type diffDocument struct {
	Name   string      `json:"name"`
	ID     string      `json:"id,omitempty"`
	Action plan.Action `json:"action"`
	Reason string      `json:"reason,omitempty"`
	Diff   string      `json:"diff"`
	Live   string      `json:"live,omitempty"`
}

func (a *app) runMonitorsDiff(ctx context.Context, names []string, o *monitorOptions, reverse bool) error {
	s, err := a.openMonitors(o)
	if err != nil {
		return err
	}
	defer s.close()
	differences, err := s.syncer.Diff(ctx, monitor.DiffOptions{Names: names})
	if err != nil {
		return s.fault(ctx, "diff", err)
	}
	docs := make([]diffDocument, 0, len(differences))
	for _, d := range differences {
		docs = append(docs, diffDocument{Name: d.Key.String(), ID: d.ID, Action: d.Action, Reason: d.Reason, Diff: d.Text, Live: d.Live})
	}
	switch {
	case a.global.output == outputJSON:
		err = json.NewEncoder(a.proc.Out).Encode(map[string]any{"schema": "latamctl.monitors-diff/v1", "environment": a.global.env, "stack": s.set.Stack, "objects": docs})
	case len(docs) == 0:
		fmt.Fprintf(a.proc.Out, "%s: nothing differs\n", s.set.Stack)
	case reverse:
		a.printLive(docs)
	default:
		a.printDiffs(docs)
	}
	if err == nil && len(docs) > 0 {
		return endsWith(exitPending)
	}
	return err
}

func (a *app) printDiffs(docs []diffDocument) {
	for _, d := range docs {
		for line := range strings.Lines(d.Diff) {
			colour := ""
			switch {
			case strings.HasPrefix(line, "-"):
				colour = red
			case strings.HasPrefix(line, "+"):
				colour = green
			case strings.HasPrefix(line, "@"):
				colour = cyan
			}
			line = plan.Clean(strings.TrimRight(line, "\n"))
			if colour != "" {
				line = a.paint(a.proc.OutTerminal, colour, line)
			}
			fmt.Fprintln(a.proc.Out, line)
		}
		if d.Reason != "" {
			fmt.Fprintln(a.proc.Out, a.paint(a.proc.OutTerminal, gray, "# "+d.Reason))
		}
		fmt.Fprintln(a.proc.Out)
	}
}

// printLive prints declarations of what is live. What cannot be declared, or is not there, is named on
// standard error, so that standard output can be pasted.
func (a *app) printLive(docs []diffDocument) {
	for _, d := range docs {
		switch {
		case d.ID == "":
			fmt.Fprintf(a.proc.Err, "%s: Datadog does not have it\n", d.Name)
		case d.Live == "":
			fmt.Fprintf(a.proc.Err, "%s: a file cannot say what Datadog has\n", d.Name)
		default:
			fmt.Fprint(a.proc.Out, d.Live)
		}
	}
}

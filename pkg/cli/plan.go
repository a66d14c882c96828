package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/stack"
)

// The formats of a plan for people; programs say -o json.
const (
	formatTable    = "table"
	formatMarkdown = "md"
)

// planOptions are the flags of plan.
type planOptions struct {
	driveOptions
	out, format                         string
	destroy, changed, noRefresh, detail bool
}

func planCmd(a *app) *cobra.Command {
	var o planOptions
	cmd := &cobra.Command{
		Use: "plan", GroupID: groupCloud,
		Short: "Show what up would change in an environment on Google Cloud",
		Long: `plan compares the declaration with what runs, stack by stack, and changes nothing. What can lose
data comes first. The grade says how far a stack's plan can be relied on: exact as it stands;
predicted and provisional are planned again before they are applied, because a stack before them
changes. Exit 3 when changes are pending.`,
		Example: `  latamctl plan --env prod
  latamctl plan --env prod -s storage --detail
  latamctl plan --env prod --out plan.d && latamctl up --env prod --plan plan.d
  latamctl plan --env prod --format md >> "$GITHUB_STEP_SUMMARY"`,
		Args: cobra.NoArgs,
	}
	cmd.RunE = a.run(settings, func(ctx context.Context, _ []string) error { return a.runPlan(ctx, o) })
	f := cmd.Flags()
	f.StringVar(&o.out, "out", "", "write the plan to this folder, so that up --plan applies exactly it")
	f.BoolVar(&o.destroy, "destroy", false, "show what down would delete")
	f.BoolVar(&o.changed, "changed", false, "leave out stacks whose inputs are those of their last apply, without asking the cloud")
	f.BoolVar(&o.noRefresh, "no-refresh", false, "trust the states instead of asking the cloud about every object")
	f.BoolVar(&o.detail, "detail", false, "show every change with its attributes")
	f.StringVar(&o.format, "format", formatTable, "format for people: table, or md for a pull request")
	config.MarkInvocation(f, "out", "destroy", "changed", "no-refresh", "detail", "format")
	addDriveFlags(cmd, &o.driveOptions)
	return cmd
}

func (a *app) runPlan(ctx context.Context, o planOptions) error {
	if err := a.needCloud("plan"); err != nil {
		return err
	}
	if err := a.checkFormat(o.format, o.events); err != nil {
		return err
	}
	o.deleting, a.again = o.destroy, "plan"
	s, err := a.openSession(ctx, o.driveOptions)
	if err != nil {
		return err
	}
	defer s.close()
	p, err := s.driver.Plan(ctx, stack.PlanOptions{
		Selection: o.selection(), Bundle: o.out, Destroy: o.destroy, NoRefresh: o.noRefresh, Changed: o.changed,
	})
	s.close()
	title := fmt.Sprintf("Plan for %s", a.global.env)
	if p != nil {
		if shown := a.showPlan(p, "latamctl.plan/v1", title, o.format, o.detail); shown != nil {
			return shown
		}
		a.planSummary(title, p)
	}
	switch {
	case err != nil:
		if f := s.interruptedFault(ctx, "", err); f != nil {
			return f
		}
		return planFailure(p, a.cloudFault(ctx, err))
	case p.Failed():
		return planFailure(p, nil)
	case o.out != "" && !a.global.quiet:
		fmt.Fprintf(a.proc.Err, "written to %s; latamctl up --env %s --plan %s applies it\n", o.out, a.global.env, o.out)
	}
	if p.Pending() {
		return endsWith(exitPending)
	}
	return nil
}

// checkFormat refuses formats that do not exist, or that would share standard output.
func (a *app) checkFormat(format, events string) error {
	switch {
	case format != formatTable && format != formatMarkdown:
		return failf(exitUsage, "programs say -o json", "format %q is not table or md", format)
	case format == formatMarkdown && a.global.output == outputJSON:
		return failf(exitUsage, "choose one", "-o json and --format md both say what standard output is")
	case events == "-" && format == formatMarkdown:
		return failf(exitUsage, "write the events to a file: --events FILE", "--events - and --format md both write to standard output")
	}
	return nil
}

package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/plan"
)

// driftOptions are the flags of drift.
type driftOptions struct {
	driveOptions
	format string
}

func driftCmd(a *app) *cobra.Command {
	var o driftOptions
	cmd := &cobra.Command{
		Use: "drift", GroupID: groupCloud,
		Short: "Find what was changed outside, without taking a lock",
		Long: `drift compares what runs with what was applied last, and with what is declared. It takes no
lock and changes nothing, so that it can run beside everything else: a stack that someone else
works on is reported as busy. Exit 3 when something differs.`,
		Example: "  latamctl drift --env prod\n  latamctl drift --env prod -o json",
		Args:    cobra.NoArgs,
	}
	cmd.RunE = a.run(settings, func(ctx context.Context, _ []string) error { return a.runDrift(ctx, o) })
	cmd.Flags().StringVar(&o.format, "format", formatTable, "format for people: table, or md for an issue")
	config.MarkInvocation(cmd.Flags(), "format")
	addDriveFlags(cmd, &o.driveOptions)
	return cmd
}

func (a *app) runDrift(ctx context.Context, o driftOptions) error {
	if err := a.needCloud("drift"); err != nil {
		return err
	}
	if err := a.checkFormat(o.format, o.events); err != nil {
		return err
	}
	a.again = "drift"
	s, err := a.openSession(ctx, o.driveOptions)
	if err != nil {
		return err
	}
	defer s.close()
	p, err := s.driver.Drift(ctx, o.selection())
	s.close()
	title := fmt.Sprintf("Drift of %s", a.global.env)
	if p != nil {
		if shown := a.showPlan(p, "latamctl.drift/v1", title, o.format, true); shown != nil {
			return shown
		}
		if p.Pending() || p.Drifted() || p.Failed() {
			a.planSummary(title, p)
		}
	}
	switch {
	case err != nil:
		if f := s.interruptedFault(ctx, "", err); f != nil {
			return f
		}
		return planFailure(p, a.cloudFault(ctx, err))
	case p.Failed():
		return planFailure(p, nil)
	case !p.Pending() && !p.Drifted():
		return nil
	}
	if !a.global.quiet && a.global.output != outputJSON {
		fmt.Fprintf(a.proc.Err, "latamctl up --env %s%s makes it as it is declared\n", a.global.env, differing(p))
	}
	return endsWith(exitPending)
}

// differing are the flags that select the stacks that differ.
func differing(p *plan.Plan) string {
	var b strings.Builder
	for i := range p.Sections {
		if s := &p.Sections[i]; s.Pending() || len(s.Drift) > 0 {
			b.WriteString(" -s " + s.Name)
		}
	}
	return b.String()
}

package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/monitor"
)

// monitorsDeleteOptions are the flags of monitors delete.
type monitorsDeleteOptions struct {
	monitorOptions
	all, force bool
	confirm    string
}

func monitorsDeleteCmd(a *app) *cobra.Command {
	var o monitorsDeleteOptions
	cmd := &cobra.Command{
		Use:   "delete NAME... | --all --confirm STACK",
		Short: "Delete objects of this environment at Datadog",
		Long: `delete removes objects of this environment by name, kind.name or id, or all of them. Each is saved to
.latamctl/monitors first. What other objects refer to is refused unless --force is given. What is
not this environment's cannot be named. A deleted object that is still declared comes back with the
next sync.`,
		Example: `  latamctl monitors delete --env prod ingest-errors
  latamctl monitors delete --env prod 12345678
  latamctl monitors delete --env staging --all --confirm latam-staging`,
		ValidArgsFunction: monitorNames(a, &o.monitorOptions),
	}
	cmd.RunE = a.run(settings, func(ctx context.Context, args []string) error { return a.runMonitorsDelete(ctx, args, o) })
	f := cmd.Flags()
	f.BoolVar(&o.all, "all", false, "delete everything of the stack; --confirm repeats its name")
	f.StringVar(&o.confirm, "confirm", "", "name of the stack, NAME-ENV, that --all deletes")
	f.BoolVar(&o.force, "force", false, "delete what other objects refer to all the same")
	config.MarkInvocation(f, "all", "confirm", "force")
	addMonitorFlags(cmd, &o.monitorOptions)
	return cmd
}

func (a *app) runMonitorsDelete(ctx context.Context, names []string, o monitorsDeleteOptions) error {
	switch {
	case o.all && len(names) > 0:
		return failf(exitUsage, "say either", "--all deletes everything, so that names say nothing more")
	case !o.all && len(names) == 0:
		return failf(exitUsage, "latamctl monitors delete NAME, or --all --confirm "+a.stackName(), "nothing is named that is to be deleted")
	case !o.all && o.confirm != "":
		return failf(exitUsage, "", "--confirm goes with --all only")
	}
	s, err := a.openMonitors(&o.monitorOptions)
	if err != nil {
		return err
	}
	defer s.close()
	a.proc.SurviveClosedPipes()
	report, err := s.syncer.Delete(ctx, monitor.DeleteOptions{Names: names, All: o.all, Confirm: o.confirm, Force: o.force})
	err = s.fault(ctx, "delete", err)
	if report == nil || err != nil && len(report.Done)+len(report.Failed) == 0 {
		return err
	}
	if !o.all && !a.global.quiet && a.global.output != outputJSON {
		for i := range report.Done {
			if d := &report.Done[i]; d.Reason != "" {
				fmt.Fprintf(a.proc.Err, "%s: %s\n", d.Key, d.Reason)
			}
		}
	}
	return s.conclude("latamctl.monitors-delete/v1", report, err)
}

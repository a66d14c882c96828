package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/monitor"
	"github.com/latamctl/latamctl/pkg/plan"
)

// monitorsPlanOptions are the flags of monitors plan.
type monitorsPlanOptions struct {
	monitorOptions
	out, format            string
	offline, detail, prune bool
	expect                 int
}

// anyNumber is --expect-existing when it is not given.
const anyNumber = -1

func monitorsPlanCmd(a *app) *cobra.Command {
	var o monitorsPlanOptions
	cmd := &cobra.Command{
		Use:   "plan [NAME]...",
		Short: "Show what sync would change at Datadog",
		Long: `plan compares what is declared with what Datadog has, lets Datadog validate what is new or changed,
and changes nothing. Each change says why: the declaration changed, or somebody changed the object
at Datadog, which is drift. An object is predicted when it names one that does not exist yet. Names
limit the plan to these and what they need. --offline asks nobody. Exit 3 when changes are pending.`,
		Example: `  latamctl monitors plan --offline
  latamctl monitors plan --env prod --detail
  latamctl monitors plan --env prod ingest-errors
  latamctl monitors plan --env prod --out monitors.json && latamctl monitors sync --env prod --plan monitors.json
  latamctl monitors plan --env prod --format md >> "$GITHUB_STEP_SUMMARY"`,
		ValidArgsFunction: monitorNames(a, &o.monitorOptions),
	}
	cmd.RunE = a.run(settings, func(ctx context.Context, args []string) error { return a.runMonitorsPlan(ctx, args, o) })
	f := cmd.Flags()
	f.StringVar(&o.out, "out", "", "write the plan to this file, so that sync --plan does exactly it")
	f.StringVar(&o.format, "format", formatTable, "format for people: table, or md for a pull request")
	f.BoolVar(&o.offline, "offline", false, "ask nobody: show everything as new; needs no keys")
	f.BoolVar(&o.detail, "detail", false, "show every change with its attributes")
	f.BoolVar(&o.prune, "prune", false, "show what sync --prune would delete: what is of this stack and not declared any more")
	addExpectFlag(cmd, &o.expect)
	config.MarkInvocation(f, "out", "format", "offline", "detail", "prune")
	addMonitorFlags(cmd, &o.monitorOptions)
	return cmd
}

func addExpectFlag(cmd *cobra.Command, expect *int) {
	cmd.Flags().IntVar(expect, "expect-existing", anyNumber, "refuse when Datadog has fewer objects of this stack; 0 believes an empty list (default no opinion)")
	cmd.Flags().Lookup("expect-existing").DefValue = ""
	config.MarkInvocation(cmd.Flags(), "expect-existing")
}

func (a *app) runMonitorsPlan(ctx context.Context, names []string, o monitorsPlanOptions) error {
	if err := a.checkFormat(o.format, ""); err != nil {
		return err
	}
	title := "Monitors of " + a.global.env
	if o.offline {
		return a.planOffline(title, names, o)
	}
	s, err := a.openMonitors(&o.monitorOptions)
	if err != nil {
		return err
	}
	defer s.close()
	planned, err := s.syncer.Plan(ctx, monitor.PlanOptions{Prune: o.prune, Names: names, Validate: true, ExpectExisting: expected(o.expect)})
	if err != nil {
		return s.fault(ctx, "plan", err)
	}
	a.warnOf(s.set)
	if err := a.showPlan(planned.Plan, "latamctl.monitors-plan/v1", title, o.format, o.detail); err != nil {
		return err
	}
	a.planSummary(title, planned.Plan)
	if o.out != "" {
		if err := s.save(planned, o.out); err != nil {
			return err
		}
	}
	if planned.Pending() || planned.Plan.Drifted() {
		return endsWith(exitPending)
	}
	return nil
}

// expected is what --expect-existing says.
func expected(n int) *int {
	if n < 0 {
		return nil
	}
	return &n
}

// save writes a plan to a file for sync.
func (s *monitorSession) save(planned *monitor.Planned, file string) error {
	content, err := s.syncer.Save(planned)
	if err != nil {
		return err
	}
	if err := s.a.proc.WriteSecretFile(file, content); err != nil {
		return failf(exitUsage, "choose a file that can be written with --out", "write the plan: %w", err)
	}
	if !s.a.global.quiet {
		fmt.Fprintf(s.a.proc.Err, "written to %s; latamctl monitors sync --env %s --plan %s does exactly it\n", file, s.a.global.env, file)
	}
	return nil
}

// planOffline shows what there would be at a Datadog that has nothing.
func (a *app) planOffline(title string, names []string, o monitorsPlanOptions) error {
	var wrong []string
	for _, f := range []struct {
		name  string
		given bool
	}{{"--out", o.out != ""}, {"--prune", o.prune}, {"--expect-existing", o.expect >= 0}, {"NAME", len(names) > 0}} {
		if f.given {
			wrong = append(wrong, f.name)
		}
	}
	if len(wrong) > 0 {
		return failf(exitUsage, "leave it out, or leave out --offline", "%s: offline nothing is known of what Datadog has", strings.Join(wrong, ", "))
	}
	set, err := a.loadMonitors(&o.monitorOptions)
	if err != nil {
		return err
	}
	p := monitor.Offline(set)
	if !p.Failed() {
		a.warnOf(set)
	}
	if err := a.showPlan(p, "latamctl.monitors-plan/v1", title+", as if Datadog had none of them", o.format, o.detail); err != nil {
		return err
	}
	if p.Failed() {
		return planFailure(p, fail(exitInvalid, "correct the files", errInvalidMonitors))
	}
	if !a.global.quiet && a.global.output != outputJSON && o.format == formatTable {
		fmt.Fprintf(a.proc.Err, "nobody was asked, and --detail lists all; latamctl monitors plan --env %s compares it with Datadog\n", a.global.env)
	}
	return nil
}

// notes are what a plan remarks beside its changes, such as what is not declared any more.
func notes(p *plan.Plan) []string {
	var lines []string
	for i := range p.Sections {
		if note := p.Sections[i].Note; note != "" {
			lines = append(lines, p.Sections[i].Name+": "+note)
		}
	}
	return lines
}

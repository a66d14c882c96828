package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/monitor"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/plan"
)

// monitorsSyncOptions are the flags of monitors sync.
type monitorsSyncOptions struct {
	monitorOptions
	plan, take, maxDeletes string
	prune, noVerify        bool
	expect                 int
}

func monitorsSyncCmd(a *app) *cobra.Command {
	var o monitorsSyncOptions
	cmd := &cobra.Command{
		Use:   "sync [NAME]...",
		Short: "Make Datadog match what is declared",
		Long: `sync plans and does it: metrics, monitors, SLOs, their alerts, dashboards, each after what it needs.
It asks nothing, because it deletes nothing unless --prune is given. What somebody changed at
Datadog is restored; what was changed on both sides is a conflict, which is refused until --take
says which side wins. Every object that is deleted is saved to .latamctl/monitors first. At the end
everything is read again and must be as declared; of what another sync made at the same time, one of
each is kept.

An interrupt lets the writes under way end. Running it again goes on: nothing is made twice.`,
		Example: `  latamctl monitors sync --env prod
  latamctl monitors sync --env prod --plan monitors.json
  latamctl monitors sync --env prod --prune --max-deletes 5
  latamctl monitors sync --env prod --take code`,
		ValidArgsFunction: monitorNames(a, &o.monitorOptions),
	}
	cmd.RunE = a.run(settings, func(ctx context.Context, args []string) error { return a.runMonitorsSync(ctx, args, o) })
	f := cmd.Flags()
	f.StringVar(&o.plan, "plan", "", "do exactly the plan in this file; refused when anything moved since")
	f.BoolVar(&o.prune, "prune", false, "delete what is of this stack and not declared any more")
	f.StringVar(&o.maxDeletes, "max-deletes", "", "most deletions and replacements, as 20 or 10% (default 10%, and at least 3)")
	f.StringVar(&o.take, "take", "", "what wins where both sides changed: code overwrites Datadog's, live leaves those objects alone")
	f.BoolVar(&o.noVerify, "no-verify", false, "do not read everything again at the end")
	addExpectFlag(cmd, &o.expect)
	config.MarkInvocation(f, "plan", "prune", "take", "no-verify")
	_ = cmd.RegisterFlagCompletionFunc("take", cobra.FixedCompletions([]string{string(monitor.TakeCode), string(monitor.TakeLive)}, cobra.ShellCompDirectiveNoFileComp)) // It fails only for an unknown flag.
	addMonitorFlags(cmd, &o.monitorOptions)
	return cmd
}

func (a *app) runMonitorsSync(ctx context.Context, names []string, o monitorsSyncOptions) error {
	limit, err := plan.ParseLimit(o.maxDeletes)
	take := monitor.Take(o.take)
	switch {
	case err != nil:
		return fail(exitUsage, "", fmt.Errorf("--max-deletes: %w", err))
	case take != monitor.TakeNone && take != monitor.TakeCode && take != monitor.TakeLive:
		return failf(exitUsage, "", "--take %s is not code or live", o.take)
	case o.plan != "" && (o.prune || o.expect >= 0 || len(names) > 0):
		return failf(exitUsage, "say it to monitors plan --out", "the plan in %s says what is done: it does not go with --prune, --expect-existing or names", o.plan)
	}
	s, err := a.openMonitors(&o.monitorOptions)
	if err != nil {
		return err
	}
	defer s.close()
	a.proc.SurviveClosedPipes()
	planned, err := s.plan(ctx, names, o)
	if err != nil {
		return s.fault(ctx, "sync", err)
	}
	a.warnOf(s.set)
	if !a.global.quiet && a.global.output != outputJSON {
		for _, line := range notes(planned.Plan) {
			fmt.Fprintln(a.proc.Err, line)
		}
	}
	report, err := s.syncer.Sync(ctx, planned, monitor.SyncOptions{MaxDeletes: limit, Take: take, Verify: !o.noVerify})
	err = s.fault(ctx, "sync", err)
	if report == nil || exitCode(ctx, err) == exitRefused && len(report.Done)+len(report.Failed) == 0 {
		return err
	}
	a.stepSummary(s.markdown("Sync of monitors in "+a.global.env, planned.Plan, report, err))
	return s.conclude("latamctl.monitors-sync/v1", report, err)
}

// plan is what sync does: the saved one, or one that is made now.
func (s *monitorSession) plan(ctx context.Context, names []string, o monitorsSyncOptions) (*monitor.Planned, error) {
	if o.plan == "" {
		return s.syncer.Plan(ctx, monitor.PlanOptions{Prune: o.prune, Names: names, Validate: true, ExpectExisting: expected(o.expect)})
	}
	content, err := s.a.proc.ReadFileLimit(o.plan, monitor.MaxSavedBytes)
	if err != nil {
		return nil, failf(exitUsage, "latamctl monitors plan --out FILE writes one", "read the plan: %w", err)
	}
	saved, err := monitor.ReadSaved(content)
	if err != nil {
		return nil, fail(exitUsage, "latamctl monitors plan --out FILE writes one", fmt.Errorf("read the plan %s: %w", o.plan, err))
	}
	return s.syncer.Resume(ctx, saved)
}

// monitorsReport is the end of a sync or a deletion for programs.
type monitorsReport struct {
	Schema      string            `json:"schema"`
	Environment string            `json:"environment"`
	Stack       string            `json:"stack"`
	OK          bool              `json:"ok"`
	Interrupted bool              `json:"interrupted"`
	Verified    bool              `json:"verified"`
	Done        []monitorDocument `json:"done"`
	Failed      []monitorDocument `json:"failed"`
	Waiting     []monitorDocument `json:"waiting"`
	LeftAlone   []string          `json:"left_alone"`
	Doubled     []string          `json:"doubled"`
	Backups     string            `json:"backups,omitempty"`
}

type monitorDocument struct {
	Kind    declare.Kind `json:"kind"`
	Name    string       `json:"name"`
	Action  plan.Action  `json:"action"`
	ID      string       `json:"id,omitempty"`
	Reason  string       `json:"reason,omitempty"`
	Error   string       `json:"error,omitempty"`
	Seconds float64      `json:"seconds"`
}

// conclude says what was done and what was not. The error that it returns names what failed, without
// the reasons, which the progress showed.
func (s *monitorSession) conclude(schema string, r *monitor.Report, err error) error {
	a := s.a
	interrupted := exitCodeOf(err) == exitInterrupted
	if a.global.output == outputJSON {
		doc := monitorsReport{
			Schema: schema, Environment: a.global.env, Stack: s.set.Stack, OK: err == nil, Interrupted: interrupted, Verified: r.Verified, Backups: r.Backups,
			Done: documents(r.Done), Failed: documents(r.Failed), Waiting: documents(r.Waiting), LeftAlone: keyNames(r.LeftAlone), Doubled: keyNames(r.Doubled),
		}
		if shown := json.NewEncoder(a.proc.Out).Encode(doc); shown != nil {
			return shown
		}
	} else {
		fmt.Fprintln(a.proc.Out, s.summary(r))
		if n := len(r.Doubled); n > 0 && !a.global.quiet {
			fmt.Fprintf(a.proc.Err, "another sync made %d of the same objects at the same time; the ones made here were deleted again\n", n)
		}
		if r.Backups != "" && !a.global.quiet {
			fmt.Fprintf(a.proc.Err, "what was deleted is saved in %s\n", r.Backups)
		}
	}
	if err == nil || interrupted || len(r.Failed) == 0 {
		return err
	}
	f := &fault{code: exitFailed}
	_ = errors.As(err, &f) // Otherwise it is a failure like any other.
	failed := make([]string, 0, len(r.Failed))
	for i := range r.Failed {
		failed = append(failed, r.Failed[i].Key.String())
	}
	return failf(f.code, f.hint, "not done: %s", someNames(failed))
}

func keyNames(keys []declare.Key) []string {
	names := make([]string, len(keys))
	for i, key := range keys {
		names[i] = key.String()
	}
	return names
}

func exitCodeOf(err error) int { return exitCode(context.Background(), err) }

func documents(outcomes []monitor.Outcome) []monitorDocument {
	docs := make([]monitorDocument, 0, len(outcomes))
	for i := range outcomes {
		o := &outcomes[i]
		docs = append(docs, monitorDocument{
			Kind: o.Key.Kind, Name: o.Key.Name, Action: o.Action, ID: o.ID, Reason: o.Reason, Error: errorText(o.Err),
			Seconds: math.Round(o.Took.Seconds()*1000) / 1000,
		})
	}
	return docs
}

// summary is a report in one line.
func (s *monitorSession) summary(r *monitor.Report) string {
	counts := map[plan.Action]int{}
	for i := range r.Done {
		counts[r.Done[i].Action]++
	}
	var parts []string
	for _, c := range []struct {
		action plan.Action
		word   string
	}{{plan.Create, "created"}, {plan.Update, "changed"}, {plan.Replace, "replaced"}, {plan.Delete, "deleted"}} {
		if n := counts[c.action]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, c.word))
		}
	}
	switch {
	case len(parts) > 0:
	case len(r.Failed)+len(r.Waiting) > 0:
		parts = append(parts, "nothing done")
	default:
		parts = append(parts, "nothing to do")
	}
	for _, c := range []struct {
		n    int
		word string
	}{{len(r.LeftAlone), "left alone"}, {len(r.Failed), "failed"}, {len(r.Waiting), "not begun"}} {
		if c.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c.n, c.word))
		}
	}
	line := s.set.Stack + ": " + strings.Join(parts, ", ")
	if r.Verified && len(r.Done) > 0 {
		line += "; Datadog was read again and is as declared"
	}
	return line
}

// markdown is the end of a sync for the summary of a CI job.
func (s *monitorSession) markdown(title string, p *plan.Plan, r *monitor.Report, err error) string {
	shown := *p
	shown.Sections = append([]plan.Section{}, p.Sections...)
	for i := range shown.Sections {
		var failed []string
		for j := range r.Failed {
			if f := &r.Failed[j]; strings.HasPrefix(shown.Sections[i].Name, string(f.Key.Kind)) {
				failed = append(failed, f.Key.Name+": "+errorText(f.Err))
			}
		}
		shown.Sections[i].Error = strings.Join(failed, "\n")
	}
	var b strings.Builder
	_ = plan.Markdown(&b, title, &shown) // A builder takes everything.
	fmt.Fprintf(&b, "\n%s\n", plan.Clean(s.summary(r)))
	if err != nil && len(r.Failed) == 0 {
		fmt.Fprintf(&b, "\n%s\n", plan.Clean(err.Error()))
	}
	return b.String()
}

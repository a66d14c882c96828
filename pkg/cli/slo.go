package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/monitor"
	"github.com/latamctl/latamctl/pkg/monitor/datadog"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

func sloCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "slo", GroupID: groupWatch,
		Short: "Report how well the service levels were kept",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(sloReportCmd(a))
	return cmd
}

// sloOptions are the flags of slo report.
type sloOptions struct {
	monitorOptions
	window retention
	target float64
}

// maxSLOWindow is how far back Datadog keeps what SLOs counted: 15 months.
const maxSLOWindow = 456 * 24 * time.Hour

func sloReportCmd(a *app) *cobra.Command {
	o := sloOptions{window: retention(365 * 24 * time.Hour)}
	cmd := &cobra.Command{
		Use:   "report [NAME]...",
		Short: "Compare the SLOs with their targets over a year, or another span",
		Long: `report asks Datadog for what each SLO of the environment counted, in spans of 90 days, which is as far
as an SLO itself reaches, and adds it up: events of those that count events, time of those that
judge each minute. The target is the declared one of the year, or --target. Datadog takes time
without data for good; how much that is stands beside it. SLOs that counted nothing at all are named.
Exit 3 when a target was missed, and 1 when no SLO has data: then nothing is known of any.`,
		Example:           "  latamctl slo report --env prod\n  latamctl slo report --env prod --window 30d --target 99 -o json",
		ValidArgsFunction: monitorNames(a, &o.monitorOptions, declare.SLO),
	}
	cmd.RunE = a.run(settings, func(ctx context.Context, args []string) error { return a.runSLOReport(ctx, args, &o) })
	cmd.Flags().Var(&o.window, "window", "how far back, such as 365d or 12h; at most 456d")
	cmd.Flags().Float64Var(&o.target, "target", 0, "target in percent for all (default the declared one of each)")
	cmd.Flags().Lookup("target").DefValue = ""
	config.MarkInvocation(cmd.Flags(), "window", "target")
	addMonitorFlags(cmd, &o.monitorOptions)
	return cmd
}

// sloLine is an SLO of the report.
type sloLine struct {
	Name    string  `json:"name"`
	ID      string  `json:"id"`
	Target  float64 `json:"target"`
	HasData bool    `json:"has_data"`
	Met     bool    `json:"met"`
	Percent float64 `json:"percent"`
	Good    float64 `json:"good"`
	Total   float64 `json:"total"`
	Unit    string  `json:"unit"`
	// BudgetLeft is the part of the budget in percent, below 0 when more was used than there is.
	BudgetLeft     float64 `json:"budget_left_percent"`
	NoDataSeconds  float64 `json:"no_data_seconds"`
	MissingSeconds float64 `json:"missing_seconds"`
}

func (a *app) runSLOReport(ctx context.Context, names []string, o *sloOptions) error {
	window := time.Duration(o.window)
	switch {
	case window < time.Minute || window > maxSLOWindow:
		return failf(exitUsage, "say --window 365d", "--window %s is not from 1 minute to 456 days", &o.window)
	case o.target < 0 || o.target >= 100:
		return failf(exitUsage, "say --target 95", "--target %v is not between 0 and 100", o.target)
	}
	set, err := a.loadMonitors(&o.monitorOptions)
	if err != nil {
		return err
	}
	wanted, err := objectKeys(set, names, declare.SLO)
	if err != nil {
		return err
	}
	client, err := a.openDatadog(o.settings.DatadogSite)
	if err != nil {
		return err
	}
	lives, err := client.List(ctx, declare.SLO, set.Stack, nil)
	if err != nil {
		return a.monitorFault(ctx, err)
	}
	to := a.proc.Now()
	var lines []sloLine
	for _, live := range lives {
		key, ours := monitor.Owned(live, set.Stack)
		if ours && (len(wanted) == 0 || slices.Contains(wanted, key)) {
			lines = append(lines, sloLine{Name: key.Name, ID: live.ID, Target: yearlyTarget(set.Lookup(key), live, o.target)})
		}
	}
	if len(lines) == 0 {
		return failf(exitFailed, "latamctl monitors sync --env "+a.global.env+" makes them", "Datadog has no such SLO of %s", set.Stack)
	}
	slices.SortFunc(lines, func(x, y sloLine) int { return strings.Compare(x.Name, y.Name) })
	if err := measure(ctx, client, lines, to.Add(-window), to); err != nil {
		return a.monitorFault(ctx, err)
	}
	return a.showSLOs(lines, to.Add(-window), to)
}

// yearlyTarget is the target that was asked for, the declared one of a year, or else the one of 90
// or of 30 days, of an SLO that is not declared any more as Datadog has it.
func yearlyTarget(o *declare.Object, live declare.Live, asked float64) float64 {
	switch {
	case asked > 0:
		return asked
	case o != nil && o.SLI != nil && o.SLI.YearlyPercent > 0:
		return o.SLI.YearlyPercent
	case o != nil && o.SLI != nil:
		for _, timeframe := range []string{"90d", "30d", "7d"} {
			if t := o.SLI.Targets[timeframe]; t > 0 {
				return t
			}
		}
	}
	target := 0.0
	thresholds, _ := live.Payload["thresholds"].([]any)
	for _, entry := range thresholds {
		if t, ok := entry.(map[string]any); ok {
			percent, _ := strconv.ParseFloat(fmt.Sprint(t["target"]), 64) // 0 when there is none.
			target = max(target, percent)
		}
	}
	return target
}

// measure fills in what each SLO counted.
func measure(ctx context.Context, client *datadog.Client, lines []sloLine, from, to time.Time) error {
	const sideBySide = 4
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(sideBySide)
	for i := range lines {
		line := &lines[i]
		group.Go(func() error {
			h, err := client.History(ctx, line.ID, from, to, line.Target)
			if err != nil {
				return fmt.Errorf("slo %s: %w", line.Name, err)
			}
			r := datadog.NewReport(h, line.Target)
			line.HasData, line.Met, line.Percent, line.BudgetLeft = r.HasData, r.Met, r.Percent, r.LeftPercent
			line.Good, line.Total, line.Unit = h.Good, h.Total, h.Unit
			line.NoDataSeconds, line.MissingSeconds = h.NoData.Seconds(), h.Missing.Seconds()
			return nil
		})
	}
	return group.Wait()
}

// showSLOs prints the report, and ends with the code of a missed target when there is one. Of SLOs
// without data nobody knows whether they were kept, so that a report of such alone is no success.
func (a *app) showSLOs(lines []sloLine, from, to time.Time) error {
	missed := slices.ContainsFunc(lines, func(l sloLine) bool { return l.HasData && !l.Met })
	var without []string
	for i := range lines {
		if !lines[i].HasData {
			without = append(without, lines[i].Name)
		}
	}
	unknown := len(without) == len(lines)
	if err := a.printSLOs(lines, from, to, !missed && !unknown); err != nil {
		return err
	}
	switch {
	case unknown:
		return failf(exitFailed, "latamctl monitors status --env "+a.global.env+" shows whether metrics arrive at all",
			"nothing is known: none of %d SLOs counted anything from %s to %s", len(lines), from.UTC().Format(time.RFC3339), to.UTC().Format(time.RFC3339))
	case len(without) > 0:
		a.note("%d of %d SLOs have no data, so nothing is known of them: %s", len(without), len(lines), strings.Join(without, ", "))
	}
	if missed {
		return endsWith(exitPending)
	}
	return nil
}

func (a *app) printSLOs(lines []sloLine, from, to time.Time, met bool) error {
	if a.global.output == outputJSON {
		return json.NewEncoder(a.proc.Out).Encode(map[string]any{
			"schema": "latamctl.slo-report/v1", "environment": a.global.env, "stack": a.stackName(), "met": met,
			"from": from.UTC().Format(time.RFC3339), "to": to.UTC().Format(time.RFC3339), "slos": lines,
		})
	}
	fmt.Fprintf(a.proc.Out, "%s to %s\n\n", from.UTC().Format(time.DateOnly), to.UTC().Format(time.DateOnly))
	w := tabwriter.NewWriter(a.proc.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SLO\tTARGET\tMEASURED\tBUDGET LEFT\tGOOD OF ALL\t")
	for i := range lines {
		l := &lines[i]
		if !l.HasData {
			fmt.Fprintf(w, "%s\t%s\tno data\t\t\t\n", l.Name, percent(l.Target))
			continue
		}
		verdict := "met"
		if !l.Met {
			verdict = "MISSED"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", l.Name, percent(l.Target), percent(l.Percent), percent(l.BudgetLeft), amounts(l), verdict+gaps(l))
	}
	return w.Flush()
}

// percent is a share with at most three digits after the point. It is cut and not rounded: 94.9996 does not become 95.
func percent(p float64) string {
	return strconv.FormatFloat(math.Floor(p*1000+1e-6)/1000, 'f', -1, 64) + "%"
}

// amounts are what was counted.
func amounts(l *sloLine) string {
	if l.Unit == datadog.Seconds {
		hours := func(seconds float64) string { return strconv.FormatFloat(math.Floor(seconds/360)/10, 'f', 1, 64) }
		return hours(l.Good) + " of " + hours(l.Total) + " h"
	}
	return fmt.Sprintf("%.0f of %.0f", l.Good, l.Total)
}

// gaps says how much of the span nothing is known of.
func gaps(l *sloLine) string {
	text := ""
	for _, g := range []struct {
		seconds float64
		words   string
	}{{l.NoDataSeconds, "without data, which counts as good"}, {l.MissingSeconds, "not measured"}} {
		if g.seconds > 0 {
			text += fmt.Sprintf("; %s %s", (time.Duration(g.seconds) * time.Second).Round(time.Minute), g.words)
		}
	}
	return text
}

package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/monitor/simulate"
)

// monitorsTestOptions are the flags of monitors test.
type monitorsTestOptions struct {
	monitorOptions
	coverage bool
}

func monitorsTestCmd(a *app) *cobra.Command {
	var o monitorsTestOptions
	cmd := &cobra.Command{
		Use:   "test [NAME]...",
		Short: "Prove on synthetic series that the alerts fire, and who is told",
		Long: `test evaluates the declared monitors and SLOs on the series of the tests and compares states,
notifications and the time to detection. It needs no network and no keys. What the evaluator does
not know fails a test and never passes it. Tests are in the folder tests beside the files: the
built-in ones, and those of --dir. Names limit it to the tests of these monitors and SLOs.
--coverage lists what has no test that fires it, or none that does not. Exit 1 when a test fails.`,
		Example: `  latamctl monitors test
  latamctl monitors test --dir monitors orders-missing
  latamctl monitors test --coverage
  latamctl monitors test -o json`,
		ValidArgsFunction: monitorNames(a, &o.monitorOptions, declare.Monitor, declare.SLO),
	}
	cmd.RunE = a.run(settings, func(_ context.Context, args []string) error { return a.runMonitorsTest(args, &o) })
	cmd.Flags().BoolVar(&o.coverage, "coverage", false, "list the monitors and SLOs that lack a test")
	config.MarkInvocation(cmd.Flags(), "coverage")
	addMonitorFlags(cmd, &o.monitorOptions)
	return cmd
}

// testDocument is the report for programs, with the coverage when it was asked for.
type testDocument struct {
	simulate.Report
	Uncovered []coverageDocument `json:"uncovered,omitempty"`
}

type coverageDocument struct {
	Name  string   `json:"name"`
	Fires bool     `json:"fires"`
	Quiet bool     `json:"quiet"`
	Why   []string `json:"skipped,omitempty"`
}

func (a *app) runMonitorsTest(names []string, o *monitorsTestOptions) error {
	in, err := a.monitorInput(&o.monitorOptions)
	if err != nil {
		return err
	}
	set, err := a.loadMonitors(&o.monitorOptions)
	if err != nil {
		return err
	}
	tests, err := simulate.Load(in, set)
	if err != nil {
		return fail(exitInvalid, "docs/monitors-test.md describes tests", err)
	}
	keys, err := objectKeys(set, names, declare.Monitor, declare.SLO)
	if err != nil {
		return err
	}
	if len(keys) > 0 {
		tests = slices.DeleteFunc(tests, func(t simulate.Test) bool { return !slices.Contains(keys, t.Target) })
	}
	if len(tests) == 0 {
		return failf(exitUsage, "tests are in the folder tests beside the files; docs/monitors-test.md describes them", "there is no test%s", of(names))
	}
	results := simulate.Run(set, tests)
	report := simulate.NewReport(results)
	var uncovered []coverageDocument
	if o.coverage {
		uncovered = uncoveredBy(set, tests, keys)
	}
	if err := a.showTests(results, testDocument{report, uncovered}, o.coverage); err != nil {
		return err
	}
	if report.Failed > 0 {
		return failf(exitFailed, "the timeline shows what happened; latamctl monitors test NAME repeats the tests of one", "%d of %d tests failed", report.Failed, len(tests))
	}
	return nil
}

func of(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return " of " + strings.Join(names, ", ")
}

// uncoveredBy are the monitors and SLOs that no test fires, or that no test sees quiet.
func uncoveredBy(set *declare.Set, tests []simulate.Test, keys []declare.Key) []coverageDocument {
	var out []coverageDocument
	for _, c := range simulate.Coverage(set, tests) {
		if c.Fires && c.Quiet || len(keys) > 0 && !slices.Contains(keys, c.Key) {
			continue
		}
		out = append(out, coverageDocument{Name: c.Key.String(), Fires: c.Fires, Quiet: c.Quiet, Why: c.Skipped})
	}
	return out
}

func (a *app) showTests(results []simulate.Result, doc testDocument, coverage bool) error {
	if a.global.output == outputJSON {
		return json.NewEncoder(a.proc.Out).Encode(doc)
	}
	if err := simulate.WriteText(a.proc.Out, results); err != nil {
		return err
	}
	if !coverage {
		return nil
	}
	if len(doc.Uncovered) == 0 {
		fmt.Fprintln(a.proc.Out, "\nevery monitor and SLO has a test that fires it and one that does not")
		return nil
	}
	fmt.Fprintln(a.proc.Out)
	w := tabwriter.NewWriter(a.proc.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NO TEST OF\tTHAT FIRES\tTHAT IS QUIET\t")
	for _, c := range doc.Uncovered {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", c.Name, mark(c.Fires), mark(c.Quiet), strings.Join(c.Why, "; "))
	}
	return w.Flush()
}

func mark(has bool) string {
	if has {
		return "yes"
	}
	return "no"
}

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/verify"
)

// verifyOptions are the flags of verify.
type verifyOptions struct {
	api            apiOptions
	wait           time.Duration
	only, skip     []string
	load           rate
	during         time.Duration
	junit, summary string
	watch          time.Duration
	admin          string
	appProfile     string
	monitors       monitorOptions
	drive          driveOptions
}

func verifyCmd(a *app) *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use: "verify", GroupID: groupCheck,
		Short: "Prove that the running system works, end to end",
		Long: `verify checks the system hop by hop and names the one that is broken: declaration (the API runs
with this latam.yaml), resources (topics, subscriptions and tables), canary (records published and
read back: fresh, twice, out of order, and one that breaks the declaration), api (every operation of
the contract, paging, caching, errors), access (auth and quota), latency (with --load, against the
service levels), infrastructure (drift) and monitors (at Datadog). Each check says what was expected,
what was seen and what to do next. Exit 6 when one fails.

Canaries never touch existing rows, and are removed whatever happens. What cannot be seen from here is
skipped, with the reason: the address of an API alone is enough. docs/verify.md describes each check.`,
		Example: `  latamctl verify
  latamctl verify --only canary,api --skip paging
  latamctl verify --load 50/s --for 30s
  latamctl verify --env prod --url https://api.example.com --junit verify.xml --summary verify.md
  latamctl verify --env prod --url https://api.example.com --watch 5m --admin :9090`,
		Args: cobra.NoArgs,
		RunE: a.run(settings, func(ctx context.Context, _ []string) error { return a.runVerify(ctx, o) }),
	}
	f := cmd.Flags()
	addAPIFlags(cmd, &o.api)
	f.StringSliceVar(&o.only, "only", nil, "hops and checks to run, such as canary or api/paging (default all)")
	f.StringSliceVar(&o.skip, "skip", nil, "hops and checks to leave out")
	f.DurationVar(&o.wait, "wait", 15*time.Second, "longest wait for a record to come out at the other end")
	f.Var(&o.load, "load", "requests to offer while latencies are measured, such as 50/s (default none)")
	f.DurationVar(&o.during, "for", 30*time.Second, "how long the load of each dataset lasts")
	f.StringVar(&o.junit, "junit", "", "write the outcome as JUnit XML to this file")
	f.StringVar(&o.summary, "summary", "", "write the outcome as Markdown to this file")
	f.DurationVar(&o.watch, "watch", 0, "verify again and again at this interval, until it is stopped")
	f.StringVar(&o.admin, "admin", "", "with --watch, address of probes and metrics")
	f.StringVar(&o.appProfile, "app-profile", "", "Bigtable app profile (default the instance's)")
	f.StringVar(&o.monitors.dir, "monitors-dir", "", "folder with monitors of your own, as --dir of latamctl monitors")
	config.MarkInvocation(f, "only", "skip", "wait", "load", "for", "junit", "summary", "watch", "admin", "monitors-dir")
	complete := func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return verify.Names(), cobra.ShellCompDirectiveNoFileComp
	}
	for _, name := range []string{"only", "skip"} {
		_ = cmd.RegisterFlagCompletionFunc(name, complete) // It fails only for an unknown flag.
	}
	addTerraformFlags(cmd, &o.drive)
	addObjectFlags(cmd, &o.drive)
	addMonitorSettings(cmd, &o.monitors)
	return cmd
}

// rate is a number a second.
type rate int

const maxLoad = 10_000

// Set reads 50/s, and 50 as the same.
func (r *rate) Set(text string) error {
	n, err := strconv.Atoi(strings.TrimSuffix(text, "/s"))
	if err != nil || n < 1 || n > maxLoad {
		return fmt.Errorf("expected a rate such as 50/s, of at most %d", maxLoad)
	}
	*r = rate(n)
	return nil
}

// Type is what help calls it.
func (r *rate) Type() string { return "rate" }

func (r *rate) String() string {
	if *r == 0 {
		return ""
	}
	return fmt.Sprintf("%d/s", int(*r))
}

func (o *verifyOptions) check() error {
	for _, flag := range []struct {
		name  string
		names []string
	}{{"--only", o.only}, {"--skip", o.skip}} {
		for _, name := range flag.names {
			if !slices.Contains(verify.Names(), name) {
				return failf(exitUsage, didYouMean(name, verify.Names(), "hops: "+strings.Join(verify.Hops(), ", ")+"; checks: "), "%s: there is no hop or check %q", flag.name, name)
			}
		}
	}
	const shortest, longest = time.Millisecond, 10 * time.Minute
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"--wait", o.wait}, {"--for", o.during}} {
		if d.value < shortest || d.value > longest {
			return failf(exitUsage, "", "%s %s is not in %s..%s", d.name, d.value, shortest, longest)
		}
	}
	switch {
	case o.watch < 0 || o.watch > 0 && o.watch < time.Second:
		return failf(exitUsage, "choose an interval such as 5m", "--watch %s is shorter than a second", o.watch)
	case o.admin != "" && o.watch == 0:
		return failf(exitUsage, "add --watch 5m, or leave it out", "--admin: only a standing probe has probes and metrics")
	}
	return nil
}

func (a *app) runVerify(ctx context.Context, o verifyOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	o.drive.settings = o.monitors.settings
	t, err := a.openVerify(ctx, o)
	if err != nil {
		return err
	}
	defer t.close()
	if o.watch > 0 {
		return a.watchVerify(ctx, o, t)
	}
	if a.global.output == outputTable {
		t.deps.Done = func(r verify.Result) {
			if !a.global.quiet || r.Status == verify.Fail {
				a.printCheck(r)
			}
		}
	}
	report := verify.Run(ctx, t.options(o), t.deps)
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := a.writeVerify(o, report); err != nil {
		return err
	}
	if a.global.output == outputJSON {
		if err := json.NewEncoder(a.proc.Out).Encode(report); err != nil {
			return err
		}
	} else if !a.global.quiet {
		fmt.Fprintf(a.proc.Out, "\n%s\n", report.Summary())
	}
	switch {
	case len(report.Results) == 0:
		return failf(exitUsage, "leave one of them out", "--only and --skip leave no check")
	case report.Passed+report.Failed == 0:
		return failf(exitUnavailable, "each skipped check says why", "nothing could be verified from here: all %d checks were skipped", report.Skipped)
	case !report.OK:
		return failf(exitVerify, "each failed check says what to do next", "verification failed at %s: %d of %d checks", strings.Join(report.Broken, ", "), report.Failed, len(report.Results))
	}
	return nil
}

// writeVerify writes the files that were asked for, and the summary of the CI job.
func (a *app) writeVerify(o verifyOptions, report verify.Report) error {
	var markdown bytes.Buffer
	if err := report.Markdown(&markdown, "Verification of "+a.global.env); err != nil {
		return err
	}
	a.stepSummary(markdown.String())
	files := map[string][]byte{}
	if o.summary != "" {
		files[o.summary] = markdown.Bytes()
	}
	if o.junit != "" {
		var junit bytes.Buffer
		if err := report.JUnit(&junit); err != nil {
			return err
		}
		files[o.junit] = junit.Bytes()
	}
	for file, content := range files {
		if err := a.proc.WriteFile(file, content); err != nil {
			return failf(exitUsage, "choose a file that can be written with --junit and --summary", "write the outcome: %w", err)
		}
	}
	return nil
}

// printCheck prints one line for a check, and what to do when it failed.
func (a *app) printCheck(r verify.Result) {
	label, colour := map[verify.Status]string{verify.Pass: "PASS", verify.Fail: "FAIL", verify.Skip: "SKIP"}[r.Status],
		map[verify.Status]string{verify.Pass: green, verify.Fail: red, verify.Skip: gray}[r.Status]
	fmt.Fprintf(a.proc.Out, "%s  %s (%.0f ms): %s\n", a.paint(a.proc.OutTerminal, colour, label), r.Name(), r.Milliseconds, r.Seen)
	if r.Status == verify.Fail {
		fmt.Fprintf(a.proc.Out, "      expected: %s\n      next:     %s\n", r.Expected, r.Next)
	}
}

package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/engine"
	"github.com/latamctl/latamctl/pkg/verify"
)

// verifyOptions are the flags of verify.
type verifyOptions struct {
	api   apiOptions
	wait  time.Duration
	cloud cloudOptions
}

func verifyCmd(a *app) *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use: "verify", GroupID: groupCheck,
		Short: "Prove that the running system works, end to end",
		Long: `verify asks the API for its health and, for each dataset, publishes a canary and reads it
back over HTTP, then publishes a record that breaks the declaration and finds it among the
dead letters with its reason. Canaries never touch existing rows and are removed. Exit 6
when a check fails.`,
		Example: `  latamctl verify
  latamctl verify --env prod --url https://api.example.com -o json`,
		Args: cobra.NoArgs,
		RunE: a.run(settings, func(ctx context.Context, _ []string) error { return a.runVerify(ctx, o) }),
	}
	f := cmd.Flags()
	addAPIFlags(cmd, &o.api)
	f.DurationVar(&o.wait, "wait", 15*time.Second, "longest wait for a record to come out at the other end")
	addCloudFlags(cmd, &o.cloud)
	config.MarkInvocation(f, "wait")
	return cmd
}

func (a *app) runVerify(ctx context.Context, o verifyOptions) error {
	p, api, err := a.verifyTarget(ctx, o)
	if err != nil {
		return err
	}
	defer a.close(p)
	api.http.Timeout = fetchTimeout
	deps := verify.Deps{HTTP: api.http, Now: a.proc.Now, Bus: p.bus, Rows: p.store}
	if a.global.output == outputTable {
		deps.Done = a.printCheck
	}
	report := verify.Run(ctx, verify.Options{URL: api.base, Datasets: a.decl.Datasets, Wait: o.wait}, deps)
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if a.global.output == outputJSON {
		if err := json.NewEncoder(a.proc.Out).Encode(report); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(a.proc.Out, "\n%d passed, %d failed, %d skipped at %s\n", report.Passed, report.Failed, report.Skipped, api.base)
	}
	if !report.OK {
		return failf(exitVerify, "each failed check says where to look", "verification failed: %d of %d checks", report.Failed, len(report.Results))
	}
	return nil
}

// verifyTarget opens the environment's Pub/Sub and Bigtable and finds its API.
func (a *app) verifyTarget(ctx context.Context, o verifyOptions) (*platform, apiTarget, error) {
	kind, err := a.engineKind()
	if err != nil {
		return nil, apiTarget{}, err
	}
	if kind != engine.Embedded && kind != engine.Memory && o.api.url == "" {
		return nil, apiTarget{}, failf(exitUsage, "name the API with --url", "engine %s: no API is known", kind)
	}
	eng, stack, err := a.clientEngine(ctx, o.api.dataDir, true, true)
	if err != nil {
		return nil, apiTarget{}, err
	}
	if stack != nil {
		o.cloud.project, o.cloud.instance = stack.Project, stack.Instance
	}
	api, err := a.api(ctx, o.api)
	if err != nil {
		return nil, apiTarget{}, err
	}
	p, err := a.openPlatform(ctx, "verify", eng, o.cloud)
	return p, api, err
}

// printCheck prints one line for a check, and what to do when it failed.
func (a *app) printCheck(r verify.Result) {
	label, colour := map[verify.Status]string{verify.Pass: "PASS", verify.Fail: "FAIL", verify.Skip: "SKIP"}[r.Status],
		map[verify.Status]string{verify.Pass: green, verify.Fail: red, verify.Skip: gray}[r.Status]
	name := r.Check
	if r.Dataset != "" {
		name = r.Dataset + ": " + r.Check
	}
	fmt.Fprintf(a.proc.Out, "%s  %s (%.0f ms): %s\n", a.paint(a.proc.OutTerminal, colour, label), name, r.Milliseconds, r.Seen)
	if r.Status == verify.Fail {
		fmt.Fprintf(a.proc.Out, "      expected: %s\n      next:     %s\n", r.Expected, r.Next)
	}
}

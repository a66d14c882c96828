package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/deploy"
	"github.com/latamctl/latamctl/pkg/plan"
	"github.com/latamctl/latamctl/pkg/proc"
	"github.com/latamctl/latamctl/pkg/stack"
	"github.com/latamctl/latamctl/pkg/verify"
)

// deployOptions are the flags of deploy.
type deployOptions struct {
	driveOptions
	release          deploy.ReleaseOptions
	status, noVerify bool
}

func deployCmd(a *app) *cobra.Command {
	o := deployOptions{release: deploy.ReleaseOptions{}.Defaults()}
	cmd := &cobra.Command{
		Use: "deploy", GroupID: groupCloud,
		Short: "Release an image, blue/green, with a way back",
		Long: `deploy gives the image to the colour of serve that is not live, waits for its pods, verifies one
of them through the API server, moves the requests to it, verifies again, rolls ingest, and takes the
pods of the old colour away, which keeps its image for --rollback. When a step fails the requests go
back to where they were, and it exits 6 with what the cluster says. Which colour is live is read from
the cluster. Interrupted or killed, the same command goes on. It changes images and pods only:
everything else of an environment is up's, which leaves the released image as it is.`,
		Example: `  latamctl deploy --env prod --image us-central1-docker.pkg.dev/my-project/latam/latamctl@sha256:…
  latamctl deploy --env prod --status
  latamctl deploy --env prod --rollback`,
		Args: cobra.NoArgs,
	}
	cmd.RunE = a.run(settings, func(ctx context.Context, _ []string) error { return a.runDeploy(ctx, o) })
	f := cmd.Flags()
	f.BoolVar(&o.release.Rollback, "rollback", false, "release the image that was live before the present one")
	f.BoolVar(&o.status, "status", false, "show what runs and who is at it, and change nothing")
	f.BoolVar(&o.noVerify, "no-verify", false, "release what gets ready, without asking its API anything")
	f.DurationVar(&o.release.RolloutTimeout, "rollout-timeout", o.release.RolloutTimeout, "longest wait for the pods of one step to get ready")
	f.DurationVar(&o.release.Settle, "settle", o.release.Settle, "how long the old colour keeps its pods after the switch, for load balancers that still know them")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "cluster to release into (default the one that the stack cluster makes)")
	config.MarkInvocation(f, "rollback", "status", "no-verify")
	cmd.MarkFlagsMutuallyExclusive("rollback", "status")
	for _, name := range []string{"rollback", "status", "no-verify", "rollout-timeout", "settle", "kubeconfig"} {
		annotate(f.Lookup(name), cloudOnly)
	}
	addTerraformFlags(cmd, &o.driveOptions)
	addCloudSettings(cmd, &o.settings)
	return cmd
}

func (a *app) runDeploy(ctx context.Context, o deployOptions) error {
	if err := a.needCloud("deploy"); err != nil {
		return err
	}
	objects, cluster, err := a.openRelease(ctx, &o)
	if err != nil {
		return err
	}
	if o.status {
		return a.showRunning(ctx, objects, cluster)
	}
	if !o.release.Rollback {
		o.release.Image = o.settings.Image
	}
	if err := o.release.Validate(); err != nil {
		return fail(exitUsage, "say --image REPOSITORY@sha256:…, as docker push prints it, or --rollback", err)
	}
	if !o.noVerify {
		o.release.Verify = a.verifyPod
	}
	show := &patient{w: a.proc.Err}
	o.release.On = func(e deploy.Event) {
		if !a.global.quiet {
			text := plan.Clean(e.Message)
			if e.Cluster {
				text = a.paint(a.proc.ErrTerminal, gray, text)
			}
			fmt.Fprintf(show, "%s  %-7s  %s\n", a.proc.Now().UTC().Format(time.TimeOnly), e.Step, text)
		}
	}
	a.proc.SurviveClosedPipes()
	out, err := objects.Release(ctx, cluster, o.release)
	if err != nil {
		return a.releaseFault(ctx, o, err)
	}
	return a.showOutcome(out)
}

// verifyPod proves that the API of one pod works: it serves what is declared, its contract is the declared
// one, and its operations answer as the contract says where rows are answered without credentials.
func (a *app) verifyPod(ctx context.Context, baseURL string) error {
	client := &http.Client{Timeout: fetchTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	open, err := verify.Serving(ctx, client, baseURL, a.decl.Datasets)
	if err != nil {
		return err
	}
	opts := verify.Options{
		URL: baseURL, Datasets: a.decl.Datasets, Only: []string{verify.HopDeclaration, verify.HopAPI + "/contract"},
		Skip: []string{verify.HopAPI + "/publish"}, // Nothing is published that could not be removed.
	}
	if open {
		opts.Only = []string{verify.HopDeclaration, verify.HopAPI}
	}
	report := verify.Run(ctx, opts, verify.Deps{HTTP: client, Anonymous: client, Now: a.proc.Now})
	errs := []error{context.Cause(ctx)} // What an interrupt leaves out did not pass.
	for _, r := range report.Results {
		if r.Status == verify.Fail {
			errs = append(errs, fmt.Errorf("%s: %s, expected: %s", r.Name(), r.Seen, r.Expected))
		}
	}
	return errors.Join(errs...)
}

// openRelease finds the cluster of the environment and what names its objects. Of a rollback and of
// the status the image is not known yet.
func (a *app) openRelease(ctx context.Context, o *deployOptions) (*deploy.Manifests, deploy.Cluster, error) {
	var cluster deploy.Cluster
	e, err := a.describeEnvironment(&o.driveOptions)
	if err != nil {
		return nil, cluster, err
	}
	if o.kubeconfig == "" {
		if e, err = a.openEnvironment(ctx, &o.driveOptions); err != nil {
			return nil, cluster, err
		}
		found, err := stack.FindCluster(ctx, e.states)
		if err != nil {
			return nil, cluster, a.cloudFault(ctx, err)
		}
		if found.Endpoint == "" {
			return nil, cluster, failf(exitFailed, "latamctl up --env "+a.global.env+" makes it", "environment %s has no cluster yet", a.global.env)
		}
		cluster = deploy.Cluster(found)
	}
	opts, err := a.manifestOptions(o.driveOptions, e)
	if err != nil {
		return nil, cluster, err
	}
	if o.status || o.release.Rollback || opts.Values.Image == "" { // What is released is checked where it is released.
		opts.Values.Image = noImage
	}
	objects, err := deploy.New(opts)
	if err != nil {
		return nil, cluster, a.manifestFault(err)
	}
	return objects, cluster, nil
}

// showRunning prints what an environment runs.
func (a *app) showRunning(ctx context.Context, objects *deploy.Manifests, cluster deploy.Cluster) error {
	r, err := objects.Running(ctx, cluster)
	if err != nil {
		return a.releaseFault(ctx, deployOptions{}, err)
	}
	if a.global.output == outputJSON {
		return json.NewEncoder(a.proc.Out).Encode(struct {
			Schema string `json:"schema"`
			*deploy.Running
		}{"latamctl.deploy.status/v1", r})
	}
	w := tabwriter.NewWriter(a.proc.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "DEPLOYMENT\tLIVE\tREADY\tIMAGE")
	for _, p := range r.Parts {
		live := "no"
		if p.Live {
			live = "yes"
		}
		fmt.Fprintf(w, "%s\t%s\t%d/%d\t%s\n", p.Name, live, p.Ready, p.Pods, plan.Clean(p.Image))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, line := range []struct{ text, value string }{
		{"being changed by", r.Lock}, {"not finished: the release of", r.Unfinished}, {"a rollback goes to", r.Before},
	} {
		if line.value != "" {
			fmt.Fprintf(a.proc.Out, "%s %s\n", line.text, plan.Clean(line.value))
		}
	}
	return nil
}

// showOutcome prints how the environment is after a release.
func (a *app) showOutcome(out *deploy.Outcome) error {
	if a.global.output == outputJSON {
		return json.NewEncoder(a.proc.Out).Encode(struct {
			Schema string `json:"schema"`
			*deploy.Outcome
		}{"latamctl.deploy/v1", out})
	}
	switch {
	case out.Switched:
		fmt.Fprintf(a.proc.Out, "%s: %s is live with %s\nback again: latamctl deploy --env %s --rollback\n", a.global.env, out.Live, plan.Clean(out.Image), a.global.env)
	case out.Changed:
		fmt.Fprintf(a.proc.Out, "%s: %s is live with %s; the rest of its release is done\n", a.global.env, out.Live, plan.Clean(out.Image))
	default:
		fmt.Fprintf(a.proc.Out, "%s: %s is live with %s already; nothing to do\n", a.global.env, out.Live, plan.Clean(out.Image))
	}
	return nil
}

// releaseFault gives the errors of a release their exit codes, and prints the evidence.
func (a *app) releaseFault(ctx context.Context, o deployOptions, err error) error {
	again := "latamctl deploy --env " + a.global.env
	var failed *deploy.ReleaseError
	var held *deploy.HeldError
	var missing *deploy.MissingError
	switch {
	case errors.As(err, &held):
		return fail(exitLocked, "wait until it ends; "+again+" --status shows it", err)
	case errors.As(err, &missing):
		return fail(exitFailed, "latamctl up --env "+a.global.env+" makes them; it needs image and backend_host", err)
	case errors.Is(err, deploy.ErrNothingBefore):
		return fail(exitRefused, again+" --status shows what there is", err)
	case errors.Is(err, deploy.ErrLockLost):
		return fail(exitLocked, again+" --status shows who has it", err)
	case errors.As(err, &failed):
		if shown := a.showEvidence(failed); shown != nil {
			return shown
		}
		code, hint := exitVerify, "the evidence is above; mend it and release again"
		switch {
		case errors.Is(err, deploy.ErrDenied):
			code, hint = exitDenied, strings.ReplaceAll(loginHint, "%s", a.global.env)
		case errors.Is(err, deploy.ErrUnavailable):
			code, hint = exitUnavailable, "run it again, it goes on from here; "+again+" --status shows where it stands"
		case failed.Undo != nil:
			hint = again + " --status shows where it stands; run it again, or go back with --rollback"
		}
		return failf(code, hint, "release failed at %s; %s", failed.Step, failed.Standing())
	case errors.Is(context.Cause(ctx), proc.ErrInterrupted):
		what := " with the same --image"
		if o.release.Rollback {
			what = " --rollback"
		}
		return fail(exitInterrupted, again+what+" goes on from here; "+again+" --rollback goes back", err)
	}
	return a.cloudFault(ctx, err)
}

// showEvidence prints what the cluster says about a failed release, and adds it to the summary of a CI job.
func (a *app) showEvidence(failed *deploy.ReleaseError) error {
	if a.global.output == outputJSON {
		return json.NewEncoder(a.proc.Out).Encode(map[string]any{
			"schema": "latamctl.deploy.failure/v1", "step": failed.Step, "error": failed.Err.Error(), "evidence": failed.Evidence,
			"live": failed.Live, "image": failed.Image, "went_back": failed.WentBack,
		})
	}
	lines := evidenceLines(failed)
	_, err := fmt.Fprintln(a.proc.Out, strings.Join(lines, "\n"))
	a.stepSummary("### Release into " + a.global.env + " failed at " + failed.Step + "\n\n```\n" + strings.ReplaceAll(strings.Join(lines, "\n"), "```", "'''") + "\n```")
	return err
}

func evidenceLines(failed *deploy.ReleaseError) []string {
	e := failed.Evidence
	var lines []string
	block := func(title string, items []string) {
		if len(items) > 0 {
			lines = append(lines, title)
		}
		for _, item := range items {
			lines = append(lines, "  "+plan.Clean(item))
		}
	}
	block("failed at "+failed.Step+":", strings.Split(failed.Err.Error(), "\n"))
	block(e.Deployment+":", e.Conditions)
	for _, p := range e.Pods {
		log := slices.Clone(p.Log)
		if p.LogError != "" {
			log = append(log, "(no log: "+p.LogError+")")
		}
		block("pod "+p.Name+": "+plan.Clean(p.State), log)
	}
	block("events:", e.Events)
	return lines
}

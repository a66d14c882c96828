package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/deploy"
	"github.com/latamctl/latamctl/pkg/plan"
	"github.com/latamctl/latamctl/pkg/stack"
	"github.com/latamctl/latamctl/pkg/telemetry"
)

// manifestsStack is the stack after which the Kubernetes objects are applied, and whose folder has them.
const manifestsStack = "apps"

// What --manifests can be.
const (
	manifestsApply = "apply"
	manifestsSkip  = "skip"
)

func stacksManifestsCmd(a *app) *cobra.Command {
	var o driveOptions
	var live string
	cmd := &cobra.Command{
		Use:   "manifests [DIR]",
		Short: "Print the Kubernetes objects of an environment, or write them as a kustomization",
		Long: `manifests renders the Kubernetes objects that up applies to an environment's cluster. With a folder
it writes them as a kustomization: base, and an overlay with the values of the environment, for
kubectl apply -k or Argo CD; up --manifests skip then leaves them alone. It needs no network.

The Secret serve-cursor is in neither: up makes it once. Where something else applies the objects,
make it by hand: kubectl create secret generic serve-cursor --from-literal key=$(openssl rand -hex 32)`,
		Example: `  latamctl stacks manifests --env prod
  latamctl stacks manifests --env prod deploy && kubectl apply -k deploy/overlays/prod`,
		Args: cobra.MaximumNArgs(1),
	}
	cmd.RunE = a.run(settings, func(_ context.Context, args []string) error { return a.runManifests(&o, live, args) })
	cmd.Flags().StringVar(&live, "live", deploy.Blue, "colour of serve that gets the requests: blue or green")
	config.MarkInvocation(cmd.Flags(), "live")
	_ = cmd.RegisterFlagCompletionFunc("live", cobra.FixedCompletions([]string{deploy.Blue, deploy.Green}, cobra.ShellCompDirectiveNoFileComp)) // It fails only for an unknown flag.
	addTerraformFlags(cmd, &o)
	addCloudSettings(cmd, &o.settings)
	return cmd
}

func (a *app) runManifests(o *driveOptions, live string, args []string) error {
	if err := a.needCloud("stacks manifests"); err != nil {
		return err
	}
	e, err := a.describeEnvironment(o)
	if err != nil {
		return err
	}
	base, values, err := a.manifestValues(e)
	if err != nil {
		return err
	}
	values.Live = live
	if err := values.Validate(); err != nil {
		return a.manifestFault(err)
	}
	if len(args) == 0 {
		return a.printManifests(base, values)
	}
	files, err := deploy.Files(base, values)
	if err != nil {
		return err
	}
	dir := strings.TrimSuffix(args[0], "/")
	paths := make([]string, len(files))
	for i, f := range files {
		paths[i] = dir + "/" + f.Path
		if err := a.proc.WriteFile(paths[i], f.Data); err != nil {
			return failf(exitFailed, "check that the folder can be written to", "write the kustomization: %w", err)
		}
	}
	if a.global.output == outputJSON {
		return json.NewEncoder(a.proc.Out).Encode(map[string]any{"schema": "latamctl.stacks.manifests/v1", "files": paths})
	}
	fmt.Fprintf(a.proc.Out, "%d files; apply them with: kubectl apply -k %s/overlays/%s\n", len(files), dir, values.Environment)
	return nil
}

func (a *app) manifestFault(err error) error {
	return fail(exitInvalid, "set what is missing in environments."+a.global.env+", by LATAM_* or by flag; latamctl config show --origin says where a setting comes from", err)
}

// otlpService is where the Datadog Agent of stack observability takes metrics and traces.
const otlpService = "http://datadog.datadog:4318"

// manifestValues are the base and what an environment puts into it.
func (a *app) manifestValues(e *environment) (fs.FS, deploy.Values, error) {
	c := e.contract
	v := deploy.Values{
		Environment: c.Name, Name: c.Declaration.Name, Project: c.Settings.Project, Image: c.Settings.Image,
		Instance: c.Names().BigtableInstance, BackendHost: c.Settings.BackendHost, Declaration: a.source,
	}
	if agent := e.stacks.Get("observability"); agent != nil && c.Off(agent) == "" {
		v.OTLPEndpoint, v.ScaleOnLag = otlpService, c.Settings.ScaleOnLag
	}
	s := e.stacks.Get(manifestsStack)
	if s == nil {
		return nil, v, failf(exitFailed, "", "there is no stack %s, which has the Kubernetes objects", manifestsStack)
	}
	base, err := fs.Sub(s.Files, "kubernetes")
	return base, v, err
}

// manifests gives the Kubernetes objects to the driver of stacks.
type manifests struct{ objects *deploy.Manifests }

func (m manifests) Plan(ctx context.Context, c stack.Cluster) (plan.Section, error) {
	return m.objects.Plan(ctx, deploy.Cluster(c))
}

func (m manifests) PlanDelete(ctx context.Context, c stack.Cluster) (plan.Section, error) {
	return m.objects.PlanDelete(ctx, deploy.Cluster(c))
}

func (m manifests) Apply(ctx context.Context, c stack.Cluster, on func(string)) (plan.Section, error) {
	return m.objects.Apply(ctx, deploy.Cluster(c), on)
}

func (m manifests) Delete(ctx context.Context, c stack.Cluster, on func(string)) (plan.Section, error) {
	return m.objects.Delete(ctx, deploy.Cluster(c), on)
}

// noImage stands for the image where objects are only deleted: they are found by their names.
const noImage = "none@sha256:0000000000000000000000000000000000000000000000000000000000000000"

// openManifests returns the Kubernetes objects, or why the environment has none yet. Both are empty
// where something else applies them.
func (a *app) openManifests(o driveOptions, e *environment) (objects stack.Manifests, off string, err error) {
	switch o.manifests {
	case manifestsSkip:
		return nil, "", nil
	case manifestsApply:
	default:
		return nil, "", failf(exitUsage, "say --manifests apply or --manifests skip", "--manifests %q is neither apply nor skip", o.manifests)
	}
	s := e.stacks.Get(manifestsStack)
	switch {
	case s == nil:
		return nil, "", nil
	case e.contract.Off(s) != "":
		return nil, "stack " + manifestsStack + " is off", nil
	case e.contract.Settings.Image == "" && !o.deleting:
		return nil, "set image", nil
	}
	m, err := a.newManifests(o, e)
	return m, "", err
}

func (a *app) newManifests(o driveOptions, e *environment) (stack.Manifests, error) {
	opts, err := a.manifestOptions(o, e)
	if err != nil {
		return nil, err
	}
	if opts.Values.Image == "" {
		opts.Values.Image = noImage
	}
	objects, err := deploy.New(opts)
	if err != nil {
		return nil, a.manifestFault(err)
	}
	return manifests{objects}, nil
}

// manifestOptions are what the Kubernetes objects of an environment are made with, and where.
func (a *app) manifestOptions(o driveOptions, e *environment) (deploy.Options, error) {
	base, values, err := a.manifestValues(e)
	if err != nil {
		return deploy.Options{}, err
	}
	host, user := a.proc.Owner()
	opts := deploy.Options{
		Base: base, Values: values, DatadogKey: telemetry.NewSecret(a.proc.Env("DD_API_KEY")), TakeOver: o.takeOver, Log: a.log,
		Holder: user + " on " + host,
	}
	if o.kubeconfig != "" {
		if opts.Kubeconfig, err = a.proc.ReadFile(o.kubeconfig); err != nil {
			return opts, failf(exitUsage, "name a file with --kubeconfig, or leave it out to use the cluster of the stack cluster", "read the kubeconfig: %w", err)
		}
	}
	return opts, nil
}

func (a *app) printManifests(base fs.FS, values deploy.Values) error {
	objects, err := deploy.Render(base, values)
	if err != nil {
		return err
	}
	if a.global.output == outputJSON {
		return json.NewEncoder(a.proc.Out).Encode(map[string]any{"schema": "latamctl.stacks.manifests/v1", "objects": objects})
	}
	text, err := deploy.Text(objects)
	if err != nil {
		return err
	}
	_, err = a.proc.Out.Write(text)
	return err
}

package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/deploy"
	"github.com/latamctl/latamctl/stacks"
)

// manifestsOptions are the flags of stacks manifests.
type manifestsOptions struct {
	project, image, backendHost, otlpEndpoint, live string
}

func stacksCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "stacks", GroupID: groupCheck,
		Short: "Look at what an environment is made of",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(manifestsCmd(a))
	return cmd
}

func manifestsCmd(a *app) *cobra.Command {
	var o manifestsOptions
	cmd := &cobra.Command{
		Use:   "manifests [DIR]",
		Short: "Print the Kubernetes objects of an environment, or write them as a kustomization",
		Long: `manifests renders the Kubernetes objects that up applies to an environment's cluster. With a folder
it writes them as a kustomization: base, and an overlay with the values of the environment, for
kubectl apply -k or Argo CD. It needs no network.

The Secret serve-cursor is in neither: up makes it once. Where something else applies the objects,
make it by hand: kubectl create secret generic serve-cursor --from-literal key=$(openssl rand -hex 32)`,
		Example: `  latamctl stacks manifests --env prod
  latamctl stacks manifests --env prod deploy && kubectl apply -k deploy/overlays/prod`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.run(settings, func(_ context.Context, args []string) error { return a.runManifests(o, args) }),
	}
	f := cmd.Flags()
	f.StringVar(&o.project, "project", "", "Google Cloud project")
	f.StringVar(&o.image, "image", "", "image of the services by digest, such as us-central1-docker.pkg.dev/my-project/latam/latamctl@sha256:…")
	f.StringVar(&o.backendHost, "backend-host", "", "DNS name under which API Gateway reaches serve, such as backend.latam.example.com")
	f.StringVar(&o.otlpEndpoint, "otlp-endpoint", "", "where the services send metrics and traces, such as http://datadog.datadog.svc.cluster.local:4318 (default nowhere)")
	f.StringVar(&o.live, "live", deploy.Blue, "colour of serve that gets the requests: blue or green")
	config.MarkInvocation(f, "live")
	_ = cmd.RegisterFlagCompletionFunc("live", cobra.FixedCompletions([]string{deploy.Blue, deploy.Green}, cobra.ShellCompDirectiveNoFileComp)) // It fails only for an unknown flag.
	return cmd
}

func (a *app) runManifests(o manifestsOptions, args []string) error {
	base, values, err := a.manifestValues(o)
	if err != nil {
		return err
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

// manifestValues are the base and what an environment puts in it.
func (a *app) manifestValues(o manifestsOptions) (fs.FS, deploy.Values, error) {
	values := deploy.Values{
		Environment: a.global.env, Name: a.decl.Name, Project: o.project, Image: o.image, BackendHost: o.backendHost,
		OTLPEndpoint: o.otlpEndpoint, Live: cmp.Or(o.live, deploy.Blue),
	}
	if a.global.env == localEnv {
		return nil, values, failf(exitUsage, "say which environment, such as --env prod", "environment %s runs in one process, not in a cluster", localEnv)
	}
	var err error
	if values.Declaration, err = a.proc.ReadFile(a.decl.File); err != nil {
		return nil, values, failf(exitInvalid, "", "read declaration: %w", err)
	}
	if err := values.Validate(); err != nil {
		return nil, values, fail(exitInvalid, "set what is missing in environments."+a.global.env+", by LATAM_* or by flag; latamctl config show --origin says where a setting comes from", err)
	}
	base, err := fs.Sub(stacks.FS(), "apps/kubernetes")
	return base, values, err
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

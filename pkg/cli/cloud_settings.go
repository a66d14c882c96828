package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/engine"
	"github.com/latamctl/latamctl/pkg/stack/contract"
)

// The sides that a flag can belong to, as annotations: up has flags of both.
const (
	cloudOnly = "latam.cloud"  // of an environment on Google Cloud
	localOnly = "latam.local"  // of this machine
	folded    = "latam.folded" // not spelled out in the help of a command
)

// addCloudSettings adds the settings of an environment. They are folded in the help, because a
// person writes them into latam.yaml once.
func addCloudSettings(cmd *cobra.Command, s *contract.Settings) {
	*s = contract.DefaultSettings()
	f := cmd.Flags()
	for _, field := range s.Fields() {
		name := field.Flag()
		switch value := field.Value.(type) {
		case *string:
			f.StringVar(value, name, *value, field.Usage)
		case *int:
			f.IntVar(value, name, *value, field.Usage)
		case *bool:
			f.BoolVar(value, name, *value, field.Usage)
		case *float64:
			f.Float64Var(value, name, *value, field.Usage)
		case *[]string:
			f.StringSliceVar(value, name, *value, field.Usage)
		case *time.Duration:
			f.Var((*retention)(value), name, field.Usage)
		default:
			continue // A test misses its flag.
		}
		annotate(f.Lookup(name), cloudOnly)
		annotate(f.Lookup(name), folded)
	}
	foldCloudSettings(cmd)
}

// retention is a duration as latam.yaml writes it, such as 7d.
type retention time.Duration

// Set reads days and weeks too.
func (r *retention) Set(text string) error {
	d, err := dataset.ParseDuration(text)
	if err == nil {
		*r = retention(d)
	}
	return err
}

// Type is what help calls it.
func (r *retention) Type() string { return "duration" }

func (r *retention) String() string {
	const day = 24 * time.Hour
	if d := time.Duration(*r); d%day == 0 && d > 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	return time.Duration(*r).String()
}

func annotate(f *pflag.Flag, key string) {
	if f.Annotations == nil {
		f.Annotations = map[string][]string{}
	}
	f.Annotations[key] = nil
}

func annotated(f *pflag.Flag, key string) bool {
	_, ok := f.Annotations[key]
	return ok
}

// foldCloudSettings shows the settings of an environment by their names only.
func foldCloudSettings(cmd *cobra.Command) {
	help := (&cobra.Command{}).HelpFunc()
	cmd.SetHelpFunc(func(c *cobra.Command, args []string) {
		var names []string
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if annotated(f, folded) {
				f.Hidden = true
				names = append(names, "--"+f.Name)
			}
		})
		help(c, args)
		c.Flags().VisitAll(func(f *pflag.Flag) { f.Hidden = f.Hidden && !annotated(f, folded) })
		fmt.Fprintf(c.OutOrStdout(), "\nSettings of an environment on Google Cloud, best written into environments of latam.yaml\n(project: my-project); docs/cli.md explains them, latamctl config show --origin lists them:\n%s\n", wrap(names, 90))
	})
}

// wrap puts words into indented lines of at most so many columns.
func wrap(words []string, columns int) string {
	var lines []string
	line := " "
	for _, w := range words {
		if len(line)+1+len(w) > columns {
			lines, line = append(lines, line), " "
		}
		line += " " + w
	}
	return strings.Join(append(lines, line), "\n")
}

// onlySide refuses flags that belong to the other kind of environment.
func (a *app) onlySide(flags *pflag.FlagSet, unwanted, why string) error {
	var wrong []string
	flags.Visit(func(f *pflag.Flag) {
		if annotated(f, unwanted) {
			wrong = append(wrong, "--"+f.Name)
		}
	})
	if len(wrong) == 0 {
		return nil
	}
	return failf(exitUsage, "leave it out, or choose another environment with --env", "%s: %s", strings.Join(wrong, ", "), why)
}

// inCloud tells whether the environment is one on Google Cloud.
func (a *app) inCloud() (bool, error) {
	kind, err := a.declaredEngine(engine.Kind(a.global.engine))
	return kind == engine.GCP, err
}

// needCloud refuses a command that only an environment on Google Cloud has.
func (a *app) needCloud(what string) error {
	cloud, err := a.inCloud()
	if err != nil || cloud {
		return err
	}
	var names []string
	for _, e := range a.decl.Environments {
		for _, s := range e.Settings {
			if s.Key == "engine" && s.Value == string(engine.GCP) {
				names = append(names, "--env "+e.Name)
			}
		}
	}
	slices.Sort(names)
	hint := "declare one in latam.yaml: environments: {prod: {engine: gcp, project: my-project, region: us-central1}}"
	if len(names) > 0 {
		hint = "say " + strings.Join(names, " or ")
	}
	return failf(exitUsage, hint, "environment %s runs on this machine: %s is for environments with engine: gcp", a.global.env, what)
}

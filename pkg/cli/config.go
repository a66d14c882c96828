package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/telemetry"
)

func configCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", GroupID: groupCheck,
		Short: "Show the settings in force",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var origin bool
	show := &cobra.Command{
		Use:   "show",
		Short: "Show every setting, and with --origin where it comes from",
		Long: `show resolves the settings of all commands: a flag wins over LATAM_* variables, they over the
environment in latam.yaml, and that over the default. Secrets are not shown.`,
		Example: "  latamctl config show --origin\n  latamctl config show --env prod -o json",
		Args:    cobra.NoArgs,
		RunE:    a.run(settings, func(context.Context, []string) error { return a.runConfigShow(origin) }),
	}
	show.Flags().BoolVar(&origin, "origin", false, "show where each value comes from")
	config.MarkInvocation(show.Flags(), "origin")
	cmd.AddCommand(show)
	return cmd
}

func (a *app) runConfigShow(origin bool) error {
	all, err := a.allSettings()
	if err != nil {
		return err
	}
	if a.global.output == outputJSON {
		return json.NewEncoder(a.proc.Out).Encode(map[string]any{"schema": "latamctl.config/v1", "environment": a.global.env, "settings": all})
	}
	w := tabwriter.NewWriter(a.proc.Out, 0, 0, 2, ' ', 0)
	for _, s := range all {
		if origin {
			fmt.Fprintf(w, "%s\t%s\t%s\n", s.Key, s.Value, s.Origin)
		} else {
			fmt.Fprintf(w, "%s\t%s\n", s.Key, s.Value)
		}
	}
	return w.Flush()
}

// allSettings resolves the settings of every command.
func (a *app) allSettings() ([]config.Setting, error) {
	flags := pflag.NewFlagSet("all", pflag.ContinueOnError)
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if config.IsSetting(f) && flags.Lookup(f.Name) == nil {
				flags.AddFlag(f)
			}
		})
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(a.root)
	file, err := a.environmentSettings()
	if err != nil {
		return nil, err
	}
	all, err := config.Resolve(flags, a.proc.Getenv, file)
	if err != nil {
		return nil, err
	}
	for i, s := range all {
		if slices.Contains(telemetry.SecretKeys(), s.Key) && s.Value != "" {
			all[i].Value = telemetry.Redacted
		}
	}
	slices.SortFunc(all, func(x, y config.Setting) int { return strings.Compare(x.Key, y.Key) })
	return all, nil
}

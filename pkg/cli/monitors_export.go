package cli

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/monitor/export"
)

func monitorsExportCmd(a *app) *cobra.Command {
	var o monitorOptions
	var format, out string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write all that is declared for another tool: JSON, Terraform or OpenSLO",
		Long: `export writes every monitor, SLO and dashboard of the environment: json has the bodies of Datadog's
API with references by name, terraform is HCL for the provider DataDog/datadog, openslo has the
SLOs with their alerts. The same input gives the same bytes. It needs no keys.`,
		Example: "  latamctl monitors export --format terraform --env prod --out datadog.tf\n  latamctl monitors export --format openslo",
		Args:    cobra.NoArgs,
	}
	cmd.RunE = a.run(settings, func(context.Context, []string) error { return a.runMonitorsExport(&o, format, out) })
	cmd.Flags().StringVar(&format, "format", export.JSON, "format: "+strings.Join(export.Formats(), ", "))
	cmd.Flags().StringVar(&out, "out", "", "write to this file instead of standard output")
	config.MarkInvocation(cmd.Flags(), "format", "out")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(export.Formats(), cobra.ShellCompDirectiveNoFileComp)) // It fails only for an unknown flag.
	addMonitorFlags(cmd, &o)
	return cmd
}

func (a *app) runMonitorsExport(o *monitorOptions, format, out string) error {
	switch {
	case !slices.Contains(export.Formats(), format):
		return failf(exitUsage, "", "format %q is not one of %s", format, strings.Join(export.Formats(), ", "))
	case a.global.output == outputJSON && format != export.JSON:
		return failf(exitUsage, "choose one", "-o json and --format %s both say what standard output is", format)
	}
	set, err := a.loadMonitors(o)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := export.Write(&b, set, format); err != nil {
		return fmt.Errorf("export the monitors of %s: %w", a.global.env, err)
	}
	a.warnOf(set)
	return a.deliver(out, b.Bytes())
}

// deliver writes a document to a file, or to standard output when none is named.
func (a *app) deliver(file string, document []byte) error {
	if file == "" {
		_, err := a.proc.Out.Write(document)
		return err
	}
	if err := a.proc.WriteFile(file, document); err != nil {
		return failf(exitUsage, "choose a file that can be written with --out", "write %s: %w", file, err)
	}
	if !a.global.quiet {
		fmt.Fprintf(a.proc.Err, "written to %s\n", file)
	}
	return nil
}

func monitorsSchemaCmd(a *app) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the files, for editors",
		Long: `schema prints the JSON Schema of the files that declare monitors, SLOs and dashboards. An editor
completes and checks them with it: # yaml-language-server: $schema=monitors.schema.json`,
		Example: "  latamctl monitors schema --out monitors.schema.json",
		Args:    cobra.NoArgs,
	}
	cmd.RunE = a.run(nothing, func(context.Context, []string) error {
		schema, err := declare.Schema()
		if err != nil {
			return fmt.Errorf("make the schema: %w", err)
		}
		return a.deliver(out, append(bytes.TrimSpace(schema), '\n'))
	})
	cmd.Flags().StringVar(&out, "out", "", "write to this file instead of standard output")
	config.MarkInvocation(cmd.Flags(), "out")
	return cmd
}

package cli

import (
	"bytes"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

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

package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/engine"
)

const (
	groupRun   = "run"
	groupData  = "data"
	groupCheck = "check"
	groupWatch = "watch"
	groupCloud = "cloud"
)

// newRoot is the table of contents of the program.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "latamctl",
		Short: "A data platform from one declaration: Pub/Sub to Bigtable to HTTP",
		Long: `latamctl runs a data platform from one declaration, latam.yaml: records published to
Pub/Sub are checked, stored in Bigtable and served over HTTP. On this machine it
brings both with it; in production it uses Google Cloud's.`,
		Example: `  latamctl up                                    # everything, on this machine
  latamctl publish flights -f flights.ndjson.gz  # send records
  latamctl get flights origin=SFO --limit 5      # read them back
  latamctl verify                                # prove that it works`,
		SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fail(exitUsage, fmt.Sprintf("%s --help shows its flags", cmd.CommandPath()), err)
	})
	root.AddGroup(
		&cobra.Group{ID: groupRun, Title: "Run:"},
		&cobra.Group{ID: groupCloud, Title: "Google Cloud:"},
		&cobra.Group{ID: groupData, Title: "Data:"},
		&cobra.Group{ID: groupWatch, Title: "Watch:"},
		&cobra.Group{ID: groupCheck, Title: "Check:"},
	)
	addGlobalFlags(root, &a.global)
	root.AddCommand(
		upCmd(a), ingestCmd(a), serveCmd(a),
		planCmd(a), downCmd(a), driftCmd(a), deployCmd(a), outputCmd(a), stacksCmd(a), unlockCmd(a), estimateCmd(a),
		publishCmd(a), deadLettersCmd(a), replayCmd(a), backfillCmd(a), getCmd(a), tailCmd(a), dataCmd(a), keysCmd(a),
		monitorsCmd(a), sloCmd(a),
		validateCmd(a), verifyCmd(a), healthCmd(a), benchCmd(a), doctorCmd(a), configCmd(a),
		openapiCmd(a), explainCmd(a),
		versionCmd(a),
	)
	usageErrors(root)
	return root
}

// usageErrors gives wrong arguments the exit code of wrong usage.
func usageErrors(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return fail(exitUsage, usageHint(cmd, args), err)
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		usageErrors(sub)
	}
}

// usageHint says how a command is used: one that only has others below it, by their names.
func usageHint(cmd *cobra.Command, args []string) string {
	if !cmd.HasAvailableSubCommands() || len(args) == 0 {
		return "usage: " + cmd.UseLine()
	}
	var names []string
	for _, sub := range cmd.Commands() {
		names = append(names, sub.Name())
	}
	if near := dataset.Nearest(args[0], names); near != "" {
		return fmt.Sprintf("did you mean %s %s?", cmd.CommandPath(), near)
	}
	return cmd.CommandPath() + " has " + strings.Join(names, ", ")
}

func addGlobalFlags(root *cobra.Command, g *globalOptions) {
	f := root.PersistentFlags()
	f.StringVar(&g.config, "config", "", "declaration to read (default ./latam.yaml, else the built-in example)")
	f.StringVar(&g.env, "env", localEnv, "environment of the declaration")
	f.StringVar(&g.engine, "engine", "", fmt.Sprintf("where Pub/Sub and Bigtable run: %s, %s, %s or %s\n(default %s, or %s when its variables are set)",
		engine.Embedded, engine.Memory, engine.Emulator, engine.GCP, engine.Embedded, engine.Emulator))
	f.StringVarP(&g.output, "output", "o", outputTable, "output format: table or json")
	f.BoolVarP(&g.quiet, "quiet", "q", false, "log and report errors only")
	f.BoolVarP(&g.verbose, "verbose", "v", false, "log what happens")
	f.StringVar(&g.logFormat, "log-format", "", "log format: text or json (default text on a terminal, else json)")
	f.BoolVar(&g.noColor, "no-color", false, "no colours, even on a terminal")
	f.BoolVar(&g.yes, "yes", false, "answer questions with yes")
	f.BoolVar(&g.noInput, "no-input", false, "never ask: a question without --yes is an error")
	f.DurationVar(&g.timeout, "timeout", 0, "give up after this long; 0 waits")
	config.MarkInvocation(f, "config", "env", "yes")
}

// datasetArg completes the first argument with the declared datasets.
func datasetArg(a *app) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		decl, err := a.readDeclaration()
		if err != nil || len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return decl.Names(), cobra.ShellCompDirectiveNoFileComp
	}
}

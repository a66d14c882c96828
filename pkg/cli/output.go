package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/stack/contract"
	"github.com/latamctl/latamctl/pkg/stack/state"
)

// outputOptions are the flags of output.
type outputOptions struct {
	driveOptions
	format string
	reveal bool
}

func outputCmd(a *app) *cobra.Command {
	var o outputOptions
	cmd := &cobra.Command{
		Use: "output [STACK] [NAME]", GroupID: groupCloud,
		Short: "Show what the stacks of an environment give out",
		Long: `output reads the outputs of all stacks, of one, or one of them by its name, from the states:
no terraform is started. Sensitive values are masked; the formats for programs leave them out.
--reveal shows them.`,
		Example: `  latamctl output --env prod
  latamctl output --env prod gateway url --format raw
  eval "$(latamctl output --env prod network --format env)"
  latamctl output --env prod --format github >> "$GITHUB_OUTPUT"`,
		Args: cobra.MaximumNArgs(2),
	}
	cmd.RunE = a.run(settings, func(ctx context.Context, args []string) error { return a.runOutput(ctx, args, o) })
	names := make([]string, 0, len(state.OutputFormats()))
	for _, f := range state.OutputFormats() {
		names = append(names, string(f))
	}
	f := cmd.Flags()
	f.StringVar(&o.format, "format", formatTable, "format: "+strings.Join(names, ", "))
	f.BoolVar(&o.reveal, "reveal", false, "show sensitive values")
	config.MarkInvocation(f, "format", "reveal")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp)) // It fails only for an unknown flag.
	addTerraformFlags(cmd, &o.driveOptions)
	addCloudSettings(cmd, &o.settings)
	return cmd
}

func (a *app) runOutput(ctx context.Context, args []string, o outputOptions) error {
	if err := a.needCloud("output"); err != nil {
		return err
	}
	format, err := a.outputFormat(o.format, args)
	if err != nil {
		return err
	}
	e, err := a.openEnvironment(ctx, &o.driveOptions)
	if err != nil {
		return err
	}
	chosen := e.stacks.Stacks
	if len(args) > 0 {
		one, err := a.stack(e.stacks, args[0])
		if err != nil {
			return err
		}
		chosen = []*contract.Stack{one}
	}
	var all []state.StackOutputs
	for _, s := range chosen {
		outputs, err := a.readOutputs(ctx, e, s, args)
		if err != nil {
			return err
		}
		if len(outputs) > 0 {
			all = append(all, state.StackOutputs{Stack: s.Name, Outputs: outputs})
		}
	}
	if len(all) == 0 && !a.global.quiet {
		fmt.Fprintf(a.proc.Err, "nothing is given out in environment %s yet; latamctl up --env %s applies its stacks\n", a.global.env, a.global.env)
	}
	masked, err := state.FormatOutputs(a.proc.Out, format, all, o.reveal)
	if errors.Is(err, state.ErrMasked) {
		return fail(exitRefused, "say --reveal to show it", err)
	}
	if err != nil {
		return err
	}
	if len(masked) > 0 && !a.global.quiet {
		fmt.Fprintf(a.proc.Err, "not shown, because they are sensitive: %s; --reveal shows them\n", strings.Join(masked, ", "))
	}
	return nil
}

// outputFormat is the format that was asked for, by either flag.
func (a *app) outputFormat(name string, args []string) (state.OutputFormat, error) {
	format := state.OutputFormat(name)
	switch {
	case !slices.Contains(state.OutputFormats(), format):
		return "", failf(exitUsage, "", "format %q is not one of %v", name, state.OutputFormats())
	case a.global.output == outputJSON && format != state.OutputTable && format != state.OutputJSON:
		return "", failf(exitUsage, "choose one", "-o json and --format %s both say what standard output is", name)
	case format == state.OutputRaw && len(args) < 2:
		return "", failf(exitUsage, "latamctl output STACK NAME --format raw", "format raw is for one output")
	case a.global.output == outputJSON:
		return state.OutputJSON, nil
	}
	return format, nil
}

// readOutputs reads one stack's outputs; one that was named must be there.
func (a *app) readOutputs(ctx context.Context, e *environment, s *contract.Stack, args []string) ([]state.Output, error) {
	st, err := e.states.Read(ctx, s.Name)
	if err != nil {
		return nil, a.cloudFault(ctx, err)
	}
	if len(args) == 0 {
		return st.Outputs, nil
	}
	if !st.Applied() {
		return nil, failf(exitFailed, fmt.Sprintf("latamctl up --env %s -s %s --with-deps applies it", a.global.env, s.Name), "stack %s is not applied yet in environment %s", s.Name, a.global.env)
	}
	if len(args) == 1 {
		return st.Outputs, nil
	}
	one, ok := st.Output(args[1])
	if !ok {
		names := make([]string, 0, len(st.Outputs))
		for _, o := range st.Outputs {
			names = append(names, o.Name)
		}
		return nil, failf(exitUsage, didYouMean(args[1], names, "outputs: "), "stack %s has no output %q", s.Name, args[1])
	}
	return []state.Output{one}, nil
}

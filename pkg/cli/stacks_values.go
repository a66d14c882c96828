package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/stack/contract"
)

// valuesOptions are the flags of stacks values.
type valuesOptions struct {
	driveOptions
	reveal bool
}

func stacksValuesCmd(a *app) *cobra.Command {
	var o valuesOptions
	cmd := &cobra.Command{
		Use:   "values STACK",
		Short: "Print the Terraform variables of a stack, as JSON",
		Long: `values prints what up gives to a stack: the variables that are derived from the declaration and
the settings, and the outputs of other stacks that it takes, from their states. It is a file for
terraform -var-file. Sensitive values are left out unless --reveal is given.`,
		Example: `  latamctl stacks values storage --env prod
  latamctl stacks values storage --env prod > storage.tfvars.json`,
		Args: cobra.ExactArgs(1),
	}
	cmd.RunE = a.run(settings, func(ctx context.Context, args []string) error { return a.runStacksValues(ctx, args[0], o) })
	cmd.Flags().BoolVar(&o.reveal, "reveal", false, "print sensitive values too")
	config.MarkInvocation(cmd.Flags(), "reveal")
	addTerraformFlags(cmd, &o.driveOptions)
	addCloudSettings(cmd, &o.settings)
	return cmd
}

func (a *app) runStacksValues(ctx context.Context, name string, o valuesOptions) error {
	if err := a.needCloud("stacks values"); err != nil {
		return err
	}
	e, err := a.openEnvironment(ctx, &o.driveOptions)
	if err != nil {
		return err
	}
	s, err := a.stack(e.stacks, name)
	if err != nil {
		return err
	}
	if e.contract.StateBucket != "" && hasInput(s, "adopt_state_bucket") { // Only this needs Google to answer.
		if e.contract.AdoptStateBucket, err = e.bucketExists(ctx); err != nil {
			return a.cloudFault(ctx, err)
		}
	}
	values, left, err := a.stackValues(ctx, e, s, o.reveal)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(values, "", "  ")
	if err != nil {
		return fmt.Errorf("write the variables of stack %s as JSON: %w", name, err)
	}
	fmt.Fprintln(a.proc.Out, string(text))
	if len(left) > 0 && !a.global.quiet {
		fmt.Fprintln(a.proc.Err, "left out: "+strings.Join(left, ", "))
	}
	return nil
}

func hasInput(s *contract.Stack, name string) bool {
	for _, in := range s.Inputs {
		if in.Name == name {
			return true
		}
	}
	return false
}

// stackValues are the variables of a stack, and why some are left out.
func (a *app) stackValues(ctx context.Context, e *environment, s *contract.Stack, reveal bool) (values map[string]any, left []string, err error) {
	if values, err = e.contract.Values(s); err != nil {
		return nil, nil, err
	}
	for _, in := range s.Inputs {
		from, output := in.Source()
		switch {
		case in.Sensitive && !reveal:
			delete(values, in.Name)
			left = append(left, in.Name+" (sensitive)")
			continue
		case from == "":
			continue
		}
		st, err := e.states.Read(ctx, from)
		if err != nil {
			return nil, nil, a.cloudFault(ctx, err)
		}
		value, ok := st.Output(output)
		switch {
		case !ok || string(value.Value) == "null":
			left = append(left, fmt.Sprintf("%s (%s does not exist yet)", in.Name, in.From))
		case value.Sensitive && !reveal:
			left = append(left, in.Name+" (sensitive)")
		default:
			values[in.Name] = value.Value
		}
	}
	return values, left, nil
}

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/stack/contract"
)

func stacksCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "stacks", GroupID: groupCloud,
		Short: "List, check and add the stacks that make up an environment",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(stacksListCmd(a), stacksGraphCmd(a), stacksCheckCmd(a), stacksNewCmd(a), stacksValuesCmd(a), stacksManifestsCmd(a))
	return cmd
}

func stacksListCmd(a *app) *cobra.Command {
	var o driveOptions
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the stacks in the order in which they are applied",
		Example: "  latamctl stacks list\n  latamctl stacks list --stacks-dir infra -o json",
		Args:    cobra.NoArgs,
	}
	cmd.RunE = a.run(settings, func(context.Context, []string) error { return a.runStacksList(&o) })
	addTerraformFlags(cmd, &o)
	addCloudSettings(cmd, &o.settings)
	return cmd
}

// stackDocument is a stack for programs.
type stackDocument struct {
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Needs       []string `json:"needs"`
	Keep        bool     `json:"keep"`
	Protected   []string `json:"protected"`
	Own         bool     `json:"own"`
	Off         string   `json:"off,omitempty"`
}

func (a *app) runStacksList(o *driveOptions) error {
	set, err := a.loadStacks(o.stacksDir)
	if err != nil {
		return err
	}
	inCloud, err := a.inCloud()
	if err != nil {
		return err
	}
	e := &contract.Environment{Name: a.global.env, Declaration: a.decl, Settings: o.settings.Defaults(), Stacks: set}
	docs := make([]stackDocument, 0, len(set.Stacks))
	for _, s := range set.Stacks {
		doc := stackDocument{
			Name: s.Name, Description: s.Description, Keep: s.Keep, Own: s.Own,
			Needs: append([]string{}, s.Needs...), Protected: append([]string{}, s.Protected...),
		}
		if inCloud {
			doc.Off = e.Off(s)
		}
		docs = append(docs, doc)
	}
	if a.global.output == outputJSON {
		return json.NewEncoder(a.proc.Out).Encode(map[string]any{"schema": "latamctl.stacks/v1", "environment": a.global.env, "stacks": docs})
	}
	w := tabwriter.NewWriter(a.proc.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STACK\tNEEDS\tWHAT")
	for _, d := range docs {
		what := d.Description
		if d.Off != "" {
			what = "off: " + d.Off
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", d.Name, strings.Join(d.Needs, ", "), what)
	}
	return w.Flush()
}

func stacksGraphCmd(a *app) *cobra.Command {
	var o driveOptions
	var format string
	cmd := &cobra.Command{
		Use:     "graph",
		Short:   "Draw which stack needs which, with the outputs that they read",
		Example: "  latamctl stacks graph | dot -Tsvg > stacks.svg\n  latamctl stacks graph --format mermaid",
		Args:    cobra.NoArgs,
	}
	cmd.RunE = a.run(settings, func(context.Context, []string) error { return a.runStacksGraph(&o, format) })
	cmd.Flags().StringVar(&format, "format", "dot", "format: dot, mermaid or json")
	config.MarkInvocation(cmd.Flags(), "format")
	addTerraformFlags(cmd, &o)
	return cmd
}

func (a *app) runStacksGraph(o *driveOptions, format string) error {
	set, err := a.loadStacks(o.stacksDir)
	if err != nil {
		return err
	}
	if a.global.output == outputJSON {
		format = outputJSON
	}
	switch format {
	case "dot":
		fmt.Fprint(a.proc.Out, set.DOT())
	case "mermaid":
		fmt.Fprint(a.proc.Out, set.Mermaid())
	case outputJSON:
		doc, err := set.GraphJSON()
		if err != nil {
			return err
		}
		fmt.Fprintln(a.proc.Out, strings.TrimSpace(string(doc)))
	default:
		return failf(exitUsage, "", "format %q is not dot, mermaid or json", format)
	}
	return nil
}

func stacksCheckCmd(a *app) *cobra.Command {
	var o driveOptions
	var write bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Prove offline that stacks and contracts fit together",
		Long: `check reads every stack's contract.yaml and its HCL: variables with their types, outputs,
references between stacks, the order, and whether the generated files are current. It starts no
terraform and needs no network. --write makes the generated files of your stacks current.`,
		Example: "  latamctl stacks check\n  latamctl stacks check --stacks-dir infra --write",
		Args:    cobra.NoArgs,
	}
	cmd.RunE = a.run(settings, func(context.Context, []string) error { return a.runStacksCheck(&o, write) })
	cmd.Flags().BoolVar(&write, "write", false, "write generated files of the stacks in --stacks-dir that are not current")
	config.MarkInvocation(cmd.Flags(), "write")
	addTerraformFlags(cmd, &o)
	return cmd
}

func (a *app) runStacksCheck(o *driveOptions, write bool) error {
	if write && o.stacksDir == "" {
		return failf(exitUsage, "say --stacks-dir FOLDER", "--write writes into the folder of your own stacks, which is not named")
	}
	set, err := a.loadStacks(o.stacksDir)
	if err != nil {
		return err
	}
	stale, err := staleFiles(set, write)
	if err != nil {
		return err
	}
	if write {
		for _, f := range stale {
			if err := a.proc.WriteFile(path.Join(o.stacksDir, f.Path), f.Data); err != nil {
				return fmt.Errorf("write %s: %w", f.Path, err)
			}
		}
		if set, err = a.loadStacks(o.stacksDir); err != nil {
			return err
		}
	}
	if err := contract.Check(set); err != nil {
		return fail(exitInvalid, "correct the stack, or its contract.yaml", err)
	}
	if !write && len(stale) > 0 {
		names := make([]string, 0, len(stale))
		for _, f := range stale {
			names = append(names, f.Path)
		}
		return failf(exitInvalid, writeHint(o.stacksDir), "generated files are not current: %s", strings.Join(names, ", "))
	}
	if a.global.output == outputJSON {
		written := make([]string, 0, len(stale))
		for _, f := range stale {
			written = append(written, f.Path)
		}
		return json.NewEncoder(a.proc.Out).Encode(map[string]any{"schema": "latamctl.stacks/v1", "ok": true, "stacks": set.Names(), "written": written})
	}
	for _, f := range stale {
		fmt.Fprintf(a.proc.Out, "written: %s\n", f.Path)
	}
	fmt.Fprintf(a.proc.Out, "%d stacks fit together: %s\n", len(set.Stacks), strings.Join(set.Names(), ", "))
	return nil
}

// writeHint is how generated files become current.
func writeHint(dir string) string {
	if dir == "" {
		return "these stacks are built in, so the program is; in its sources: go test ./pkg/stack/contract -update"
	}
	return "latamctl stacks check --write --stacks-dir " + shellQuote(dir) + " makes those in that folder current"
}

// staleFiles are the generated files that are not current; of the user's own stacks only, when asked.
func staleFiles(set *contract.Set, onlyOwn bool) ([]contract.NewFile, error) {
	var stale []contract.NewFile
	for _, s := range set.Stacks {
		files, err := contract.Stale(s)
		if err != nil {
			return nil, fail(exitInvalid, "", err)
		}
		if s.Own || !onlyOwn {
			stale = append(stale, files...)
		}
	}
	return stale, nil
}

// newStackOptions are the flags of stacks new.
type newStackOptions struct {
	driveOptions
	after       []string
	description string
	keep        bool
	dryRun      bool
}

func stacksNewCmd(a *app) *cobra.Command {
	var o newStackOptions
	cmd := &cobra.Command{
		Use:     "new NAME",
		Short:   "Begin a stack of your own: contract, variables, outputs, test",
		Long:    "new writes the files of a stack that validates as it is, into a folder of its own. It overwrites nothing.",
		Example: "  latamctl stacks new reports --after storage --stacks-dir infra\n  latamctl stacks new reports --dry-run",
		Args:    cobra.ExactArgs(1),
	}
	cmd.RunE = a.run(settings, func(_ context.Context, args []string) error { return a.runStacksNew(args[0], o) })
	f := cmd.Flags()
	f.StringSliceVar(&o.after, "after", nil, "stacks that it needs")
	f.StringVar(&o.description, "description", "", "what it is, in one sentence")
	f.BoolVar(&o.keep, "keep", false, "leave it alone in down unless it is named")
	f.BoolVar(&o.dryRun, "dry-run", false, "show the files instead of writing them")
	config.MarkInvocation(f, "after", "description", "keep", "dry-run")
	addTerraformFlags(cmd, &o.driveOptions)
	return cmd
}

// defaultStacksDir is where stacks new writes when no folder is named.
const defaultStacksDir = "stacks"

func (a *app) runStacksNew(name string, o newStackOptions) error {
	dir := o.stacksDir
	if dir == "" {
		dir = defaultStacksDir
	}
	existing := ""
	if a.proc.Exists(dir) {
		existing = dir
	}
	set, err := a.loadStacks(existing)
	if err != nil {
		return err
	}
	files, err := set.New(name, contract.NewOptions{After: o.after, Description: o.description, Keep: o.keep})
	var unknown *contract.UnknownError
	switch {
	case errors.Is(err, contract.ErrExists):
		return fail(exitRefused, "the names that are taken: "+strings.Join(set.Names(), ", "), err)
	case errors.As(err, &unknown):
		return fail(exitUsage, "stacks: "+strings.Join(set.Names(), ", "), err)
	case err != nil:
		return fail(exitUsage, "", err)
	}
	if o.dryRun {
		for _, f := range files {
			fmt.Fprintf(a.proc.Out, "--- %s\n%s\n", path.Join(dir, f.Path), strings.TrimRight(string(f.Data), "\n"))
		}
		return nil
	}
	return a.writeNew(dir, files, "latamctl stacks check --stacks-dir "+dir)
}

// writeNew writes files where there are none yet; one that is there refuses all of them.
func (a *app) writeNew(dir string, files []contract.NewFile, next string) error {
	for _, f := range files {
		if target := path.Join(dir, f.Path); a.proc.Exists(target) {
			return failf(exitRefused, "choose another name, or move it away", "%s is there already, and nothing is overwritten", target)
		}
	}
	for _, f := range files {
		target := path.Join(dir, f.Path)
		if err := a.proc.WriteFile(target, f.Data); err != nil {
			return fmt.Errorf("write %s: %w", target, err)
		}
		fmt.Fprintln(a.proc.Out, target)
	}
	if !a.global.quiet {
		fmt.Fprintln(a.proc.Err, "next: "+next)
	}
	return nil
}

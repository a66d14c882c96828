package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/web"
)

func explainCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "explain [CODE]", GroupID: groupCheck,
		Short: "Explain an error code of the HTTP API or the reason of a dead letter",
		Long: `explain says what an error code of the HTTP API means and what to do about it; without a code
it lists them all. Problems carry their code as the member code. It also explains the reasons for
which records are rejected, which dead letters carry in their attribute latam.reason.`,
		Example: `  latamctl explain SCAN_REFUSED
  latamctl explain too_old
  latamctl explain`,
		Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return append(codeNames(), reasonNames()...), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: a.run(nothing, func(_ context.Context, args []string) error {
			if len(args) == 0 {
				return a.listCodes()
			}
			return a.explainCode(args[0])
		}),
	}
}

// explained is an error code as explain prints it with -o json.
type explained struct {
	Code        web.Code `json:"code"`
	Status      int      `json:"status"`
	Title       string   `json:"title"`
	Explanation string   `json:"explanation"`
}

// explainedReason is a reason as explain prints it with -o json.
type explainedReason struct {
	Reason      dataset.Reason `json:"reason"`
	Title       string         `json:"title"`
	Explanation string         `json:"explanation"`
}

const explainSchema = "latamctl.explain/v1"

func (a *app) explainCode(name string) error {
	name = strings.ReplaceAll(name, "-", "_")
	if reason, ok := dataset.LookupReason(strings.ToLower(name)); ok {
		return a.explainReason(reason)
	}
	info, ok := web.LookupCode(name)
	if near := dataset.Nearest(strings.ToLower(name), reasonNames()); !ok && near != "" {
		return failf(exitUsage, "did you mean "+near+"?", "there is no error code and no reason %q", web.Quote(name))
	}
	if !ok {
		return failf(exitUsage, didYouMean(strings.ToUpper(name), codeNames(), "codes: "), "there is no error code %q", web.Quote(name))
	}
	if a.global.output == outputJSON {
		return json.NewEncoder(a.proc.Out).Encode(struct {
			Schema string `json:"schema"`
			explained
		}{explainSchema, explained(info)})
	}
	_, err := fmt.Fprintf(a.proc.Out, "%s (%d): %s\n\n%s\n", info.Code, info.Status, info.Title, wrapped(info.Explanation, explainWidth))
	return err
}

func (a *app) explainReason(info dataset.ReasonInfo) error {
	if a.global.output == outputJSON {
		return json.NewEncoder(a.proc.Out).Encode(struct {
			Schema string `json:"schema"`
			explainedReason
		}{explainSchema, explainedReason(info)})
	}
	_, err := fmt.Fprintf(a.proc.Out, "%s: %s\n\n%s\n", info.Reason, info.Title, wrapped(info.Explanation, explainWidth))
	return err
}

func (a *app) listCodes() error {
	if a.global.output == outputJSON {
		all := struct {
			Schema  string            `json:"schema"`
			Codes   []explained       `json:"codes"`
			Reasons []explainedReason `json:"reasons"`
		}{Schema: explainSchema}
		for _, info := range dataset.Reasons() {
			all.Reasons = append(all.Reasons, explainedReason(info))
		}
		for _, info := range web.Codes() {
			all.Codes = append(all.Codes, explained(info))
		}
		return json.NewEncoder(a.proc.Out).Encode(all)
	}
	w := tabwriter.NewWriter(a.proc.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CODE\tSTATUS\tTITLE")
	for _, info := range web.Codes() {
		fmt.Fprintf(w, "%s\t%d\t%s\n", info.Code, info.Status, info.Title)
	}
	fmt.Fprintln(w, "\nREASON\t\tTITLE")
	for _, info := range dataset.Reasons() {
		fmt.Fprintf(w, "%s\t\t%s\n", info.Reason, info.Title)
	}
	return w.Flush()
}

func codeNames() []string {
	var names []string
	for _, info := range web.Codes() {
		names = append(names, string(info.Code))
	}
	return names
}

func reasonNames() []string {
	var names []string
	for _, info := range dataset.Reasons() {
		names = append(names, string(info.Reason))
	}
	return names
}

// explainWidth is how long the lines of an explanation are, in characters.
const explainWidth = 80

// wrapped breaks a text into lines between words.
func wrapped(text string, width int) string {
	var b strings.Builder
	line := 0
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == 0:
		case line+1+len(word) > width:
			b.WriteByte('\n')
			line = 0
		default:
			b.WriteByte(' ')
			line++
		}
		b.WriteString(word)
		line += len(word)
	}
	return b.String()
}

package cli

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/proc"
	"github.com/latamctl/latamctl/pkg/telemetry"
	"github.com/latamctl/latamctl/pkg/web"
)

var update = flag.Bool("update", false, "write the generated pages instead of comparing them")

// TestGeneratedPages keeps the generated pages equal to the code: make docs writes them.
func TestGeneratedPages(t *testing.T) {
	for name, want := range map[string]string{
		"cli.md":     commandPage(),
		"errors.md":  errorPage(),
		"metrics.md": metricPage(),
	} {
		path := filepath.Join("..", "..", "docs", name)
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(got), want); diff != "" {
			t.Errorf("docs/%s is out of date, run make docs:\n%s", name, diff)
		}
	}
}

func commandPage() string {
	var b strings.Builder
	root := newRoot(&app{proc: &proc.Process{}})
	b.WriteString("# Commands\n\nGenerated from the program; `make docs` writes it anew. Every setting can also be given as `LATAM_…` or in an\nenvironment of `latam.yaml`: a flag wins over the variable, the variable over the file.\n\n## Flags of every command\n\n")
	writeFlags(&b, root.PersistentFlags())
	writeCloudSettings(&b, root)
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Runnable() && c != root && !c.HasSubCommands() {
			fmt.Fprintf(&b, "\n## %s\n\n%s\n\n", c.CommandPath(), strings.TrimSpace(c.Short+".\n\n"+c.Long))
			if c.Example != "" {
				fmt.Fprintf(&b, "```sh\n%s\n```\n\n", strings.ReplaceAll(strings.TrimSpace(c.Example), "\n  ", "\n"))
			}
			writeFlags(&b, c.LocalNonPersistentFlags())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
	b.WriteString("\n## Exit codes\n\n| code | meaning |\n|---|---|\n")
	for _, e := range []struct {
		code int
		text string
	}{
		{exitOK, "done"}, {exitFailed, "failed"}, {exitUsage, "the command line is wrong"}, {exitPending, "changes are pending, or drift was found"}, {exitDenied, "not authenticated or not allowed"},
		{exitInvalid, "the declaration or a setting is invalid"}, {exitVerify, "verification failed"}, {exitUnavailable, "a dependency is unavailable"},
		{exitRefused, "refused by a guard"}, {exitLocked, "locked by someone else"}, {exitTimeout, "timed out"}, {exitInterrupted, "interrupted, safe to resume"},
	} {
		fmt.Fprintf(&b, "| %d | %s |\n", e.code, e.text)
	}
	return b.String()
}

// writeCloudSettings explains once what all commands of an environment on Google Cloud have.
func writeCloudSettings(b *strings.Builder, root *cobra.Command) {
	b.WriteString("\n## Settings of an environment on Google Cloud\n\n`plan`, `up`, `down`, `drift` and the other commands of such an environment have these flags too. They belong into\n`environments.<env>` of `latam.yaml`, with `_` for `-`: see [cloud.md](cloud.md).\n\n")
	plan, _, err := root.Find([]string{"plan"})
	if err != nil {
		panic(err)
	}
	settings := pflag.NewFlagSet("", pflag.ContinueOnError)
	plan.Flags().VisitAll(func(f *pflag.Flag) {
		if annotated(f, folded) {
			copied := *f
			copied.Annotations = nil
			settings.AddFlag(&copied)
		}
	})
	writeFlags(b, settings)
}

func writeFlags(b *strings.Builder, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	b.WriteString("| flag | default | variable | meaning |\n|---|---|---|---|\n")
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" || f.Hidden || annotated(f, folded) {
			return
		}
		env := ""
		if config.IsSetting(f) || f.Name == "config" || f.Name == "env" {
			env = "`" + config.EnvName(f.Name) + "`"
		}
		name := "`--" + f.Name + "`"
		if f.Shorthand != "" {
			name += ", `-" + f.Shorthand + "`"
		}
		value := f.DefValue
		if value != "" {
			value = "`" + value + "`"
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", name, value, env, strings.ReplaceAll(f.Usage, "\n", " "))
	})
}

func errorPage() string {
	var b strings.Builder
	b.WriteString("# Errors of the HTTP API\n\nGenerated from the program; `make docs` writes it anew. Errors are `application/problem+json`; `code` is stable.\n")
	for _, c := range web.Codes() {
		fmt.Fprintf(&b, "\n## %s\n\n%d: %s. %s\n", strings.ToLower(string(c.Code)), c.Status, c.Title, c.Explanation)
	}
	b.WriteString("\n# Reasons for which a record is rejected\n\nA dead letter carries its reason in the attribute `latam.reason`, and a refused publication in `errors[].code`.\n\n| reason | meaning |\n|---|---|\n")
	for _, r := range dataset.Reasons() {
		fmt.Fprintf(&b, "| `%s` | %s. %s |\n", r.Reason, r.Title, r.Explanation)
	}
	return b.String()
}

func metricPage() string {
	var b strings.Builder
	b.WriteString("# Metrics\n\nGenerated from the program; `make docs` writes it anew. They are at `/metrics` of the admin address, and go out over OTLP when\n`OTEL_EXPORTER_OTLP_ENDPOINT` is set.\n\n| metric | kind | unit | attributes | meaning |\n|---|---|---|---|---|\n")
	for _, m := range telemetry.Catalogue() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", m.Name, m.Kind, m.Unit, "`"+strings.Join(m.Attributes, "` `")+"`", m.Description)
	}
	return b.String()
}

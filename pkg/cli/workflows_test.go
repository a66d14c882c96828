package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/pkg/proc"
)

var (
	runsLatamctl = regexp.MustCompile(`(?:^|[\s;&|(])(?:bin/)?latamctl((?: +(?:"[^"]*"|'[^']*'|[^\s"'|;&<>()]+))*)`)
	shellWord    = regexp.MustCompile(`"[^"]*"|'[^']*'|\S+`)
	optionalWord = regexp.MustCompile(`\$\{\w+:\+"\$\w+"\}`)
)

// commandLines finds what a script runs latamctl with. A variable stands for one word; one that may be
// missing (${x:+"$x"}) is left out.
func commandLines(script string) (lines [][]string) {
	for line := range strings.Lines(strings.ReplaceAll(script, "\\\n", " ")) {
		line, _, _ = strings.Cut(" "+line, " # ")
		if strings.HasPrefix(strings.TrimSpace(line), "#") || strings.HasPrefix(strings.TrimSpace(line), "- name:") {
			continue
		}
		for _, m := range runsLatamctl.FindAllStringSubmatch(optionalWord.ReplaceAllString(line, ""), -1) {
			var args []string
			for _, word := range shellWord.FindAllString(m[1], -1) {
				args = append(args, strings.Trim(word, `"'`))
			}
			if len(args) > 0 {
				lines = append(lines, args)
			}
		}
	}
	return lines
}

// checkCommandLine says what the program would say about the words of a command line, without running it.
func checkCommandLine(args []string) error {
	root := newRoot(&app{proc: &proc.Process{}})
	cmd, rest, err := root.Find(args)
	if err != nil {
		return err
	}
	if !cmd.Runnable() || cmd.HasSubCommands() {
		return failf(exitUsage, usageHint(cmd, rest), "%s does nothing by itself", cmd.CommandPath())
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}

// TestCommandsOfWorkflows follows every command line of the workflows, the image and the way to a
// release to a command and flags that exist.
func TestCommandsOfWorkflows(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("..", "..", ".github", "workflows", "*.yml"))
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, path := range append(files, filepath.Join("..", "..", "docs", "release.md")) {
		src, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text := string(src)
		if filepath.Ext(path) == ".md" {
			text = strings.Join(shellBlocks(text), "\n")
		} else {
			text = regexp.MustCompile(`(?m)^(\s*- |\s*)(run|if|env): *`).ReplaceAllString(text, "")
			text = regexp.MustCompile(`(?m)^\s*(- )?(name|path): .*$`).ReplaceAllString(text, "")
		}
		for _, args := range commandLines(text) {
			checked++
			if err := checkCommandLine(args); err != nil {
				t.Errorf("%s: latamctl %s: %v", filepath.Base(path), strings.Join(args, " "), err)
			}
		}
	}
	if checked < 20 {
		t.Errorf("only %d command lines were found", checked)
	}
}

// shellBlocks are the commands of a page.
func shellBlocks(page string) (blocks []string) {
	for _, m := range regexp.MustCompile("(?s)```(?:sh)?\n(.*?)```").FindAllStringSubmatch(page, -1) {
		blocks = append(blocks, m[1])
	}
	return blocks
}

// TestCommandLinesGoRed knows the mistakes that the test above is there for.
func TestCommandLinesGoRed(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]string{
		`bin/latamctl plan --env "$ENVIRONMENT" --format md > comment/plan.md || [ $? -eq 3 ] # 3: pending`: "",
		`exec latamctl up --plan plans/stacks --yes`:                                                        "",
		`x=$(bin/latamctl output registry repository --format raw)`:                                         "",
		`latamctl monitors plan ${offline:+"$offline"} --format md`:                                         "",
		`latamctl plans --env prod`:                                                                         `unknown command "plans"`,
		`latamctl plan --formatt md`:                                                                        "unknown flag: --formatt",
		`latamctl monitors plann`:                                                                           "does nothing by itself",
		`true && latamctl up --plan`:                                                                        "needs an argument",
		`latamctl version extra`:                                                                            "unknown command",
		`latamctl output a b c`:                                                                             "accepts",
		`echo "$X" | latamctl plan --env prod --nope x`:                                                     "unknown flag: --nope",
	} {
		lines := commandLines(script)
		if len(lines) != 1 {
			t.Errorf("%s: %q", script, lines)
			continue
		}
		got := ""
		if err := checkCommandLine(lines[0]); err != nil {
			got = err.Error()
		}
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", script, got, want)
		}
	}
}

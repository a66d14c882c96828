package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/pkg/proc"
)

// inlineCommand is a command in the text of a page.
var inlineCommand = regexp.MustCompile("`(latamctl [^`]+)`")

// documentedCommands are the commands of a page: lines of its code blocks, and code in its text.
func documentedCommands(page string) []string {
	var commands []string
	inBlock := false
	for line := range strings.Lines(page) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "```"):
			inBlock = !inBlock
		case inBlock && strings.HasPrefix(line, "latamctl "):
			commands = append(commands, line)
		case !inBlock:
			for _, match := range inlineCommand.FindAllStringSubmatch(line, -1) {
				commands = append(commands, match[1])
			}
		}
	}
	return commands
}

// checkCommand tells whether the program has a command with these flags and takes these arguments. It runs nothing.
func checkCommand(line string) error {
	line, _, _ = strings.Cut(line, " #")
	var args []string
	for _, word := range strings.Fields(line)[1:] {
		if strings.ContainsAny(word, "|><;&") {
			break
		}
		args = append(args, strings.Trim(word, `'"`))
	}
	cmd, rest, err := newRoot(&app{proc: &proc.Process{}}).Find(args)
	if err != nil {
		return err
	}
	if !cmd.Runnable() || cmd.HasSubCommands() {
		return fmt.Errorf("%s does nothing by itself", cmd.CommandPath())
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}

// TestDocumentedCommands keeps what the guides tell people to type in step with the program.
func TestDocumentedCommands(t *testing.T) {
	t.Parallel()
	for name, least := range map[string]int{"operations.md": 40, "capacity.md": 2, "slo.md": 2, "dead-letters.md": 7, "runbooks/dead-letters.md": 4} {
		page, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
		if err != nil {
			t.Fatal(err)
		}
		commands := documentedCommands(string(page))
		if len(commands) < least {
			t.Errorf("docs/%s: only %d commands were found", name, len(commands))
		}
		for _, line := range commands {
			if err := checkCommand(line); err != nil {
				t.Errorf("docs/%s: %s: %v", name, line, err)
			}
		}
	}
}

// TestCheckCommand: the check itself finds what is wrong with a line.
func TestCheckCommand(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"latamctl up --env prod -s storage  # one stack": "",
		"latamctl plan --env prod --format md > plan.md": "",
		"latamctl dwon --env prod":                       `unknown command "dwon"`,
		"latamctl up --rate 5":                           "unknown flag: --rate",
		"latamctl estimate --rate 5 --size 1B":           "expected a rate",
		"latamctl keys create":                           "arg",
		"latamctl monitors --env prod":                   "does nothing by itself",
	} {
		err := checkCommand(line)
		if want == "" {
			if err != nil {
				t.Errorf("%s: %v", line, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", line, err, want)
		}
	}
	if got := documentedCommands("a `latamctl up` b\n```\nlatamctl plan\nother\n   latamctl down -s x\n```\n"); strings.Join(got, "|") != "latamctl up|latamctl plan|latamctl down -s x" {
		t.Errorf("%q", got)
	}
}

package stacks_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestStacksAreLinted holds every stack to all rules that tflint has built in. Nothing is downloaded.
func TestStacksAreLinted(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("tflint"); err != nil {
		t.Skip("tflint is not on PATH: go install github.com/terraform-linters/tflint@latest")
	}
	config, err := filepath.Abs(".tflint.hcl")
	if err != nil {
		t.Fatal(err)
	}
	for _, stack := range stackNames(t) {
		t.Run(stack, func(t *testing.T) {
			for _, finding := range lint(t, stack, config) {
				t.Error(finding)
			}
		})
	}
	t.Run("finds what is bad", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "main.tf"), []byte(`variable "unused" { type = string }`), 0o600); err != nil {
			t.Fatal(err)
		}
		if len(lint(t, dir, config)) == 0 {
			t.Error("a variable that nothing uses was let through")
		}
	})
}

// lint returns what tflint finds in a folder.
func lint(t *testing.T, dir, config string) []string {
	t.Helper()
	// The exit code says that something was found; what was found is in the output.
	out, err := exec.CommandContext(t.Context(), "tflint", "--chdir="+dir, "--config="+config, "--format=json").Output()
	var report struct {
		Issues []struct {
			Rule    struct{ Name string }
			Message string
			Range   struct{ Filename string }
		}
		Errors []struct{ Message string }
	}
	if parseErr := json.Unmarshal(out, &report); parseErr != nil {
		t.Fatalf("tflint in %s: %v: %v in %q", dir, err, parseErr, out)
	}
	var found []string
	for _, e := range report.Errors {
		t.Fatalf("tflint in %s: %s", dir, e.Message)
	}
	for _, i := range report.Issues {
		found = append(found, i.Range.Filename+": "+i.Rule.Name+": "+i.Message)
	}
	return found
}

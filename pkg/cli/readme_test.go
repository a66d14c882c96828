package cli_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// TestReadmeCommands runs the commands of the README as they stand there, against a stack on free ports.
func TestReadmeCommands(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(string(readme), "\n"); lines > 150 {
		t.Errorf("README.md has %d lines, at most 150 are read", lines)
	}
	blocks := shellBlock.FindAllStringSubmatch(string(readme), -1)
	if len(blocks) < 2 || !strings.HasPrefix(blocks[0][1], "go run ./cmd/latamctl up ") || !strings.Contains(blocks[0][1], "\ngo test ./...") {
		t.Fatalf("the README does not begin with its two commands: %q", blocks)
	}

	dir := t.TempDir()
	_, r := startUp(t, dir)
	settled(t, r.Admin, "ok", 2000)
	ran := 0
	for _, block := range blocks[1:] {
		for line := range strings.Lines(block[1]) {
			runShell(t, dir, r, strings.TrimSpace(line))
			ran++
		}
	}
	if ran < 5 {
		t.Errorf("only %d commands were found", ran)
	}
}

// runShell runs one line as a reader would paste it, with the stack's real address.
func runShell(t *testing.T, dir string, r ready, line string) {
	t.Helper()
	bin := programFolder(t, dir)
	script := strings.ReplaceAll(line, "http://127.0.0.1:8080", r.API)
	script = strings.ReplaceAll(script, "curl ", "curl --fail-with-body --silent --show-error ")
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), asProgram+"=1", "PATH="+bin+":"+os.Getenv("PATH"), "PUBSUB_EMULATOR_HOST=", "BIGTABLE_EMULATOR_HOST=")
	out, err := cmd.CombinedOutput()
	if err != nil || len(out) == 0 {
		t.Errorf("%s\n%v\n%s", line, err, out)
	}
}

// programFolder is a folder in which latamctl is this test binary.
func programFolder(t *testing.T, dir string) string {
	t.Helper()
	bin := filepath.Join(dir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(exe, filepath.Join(bin, "latamctl")); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
	return bin
}

//go:build fault

package fault_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// fullDisk mounts a file system of 64 KiB at $1 in a namespace of its own, puts an older version of
// the target $2 there, fills the rest and runs the command that follows. Afterwards the target has to
// be the older one, and the names of what is there follow the exit code.
const fullDisk = `
set -e
mount -t tmpfs -o size=64k tmpfs "$1"
cd "$1"
[ -z "$2" ] || cp "$OLD" "$2"
dd if=/dev/zero of=fill bs=4k 2>/dev/null || true
shift 2
set +e
LATAMCTL_TEST_AS_PROGRAM=1 "$@" 2> "$MESSAGE" > /dev/null
echo "exit $?"
[ -z "$TARGET" ] || cmp -s "$OLD" "$TARGET" || echo CHANGED
ls -A
`

// TestF15DiskFull runs every command that writes files on a disk without room: it fails with a message
// that names the file, and leaves what was there, whole, and nothing beside it.
func TestF15DiskFull(t *testing.T) {
	t.Parallel()
	if out, err := exec.Command("unshare", "-Urm", "true").CombinedOutput(); err != nil {
		t.Skipf("no namespace can be made here: %v: %s", err, out)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	old := filepath.Join(dir, "old")
	create := exec.Command(exe, "keys", "create", "old", "--keys-file", old)
	create.Env = append(os.Environ(), asProgram+"=1")
	if out, err := create.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	prod := strings.Replace(flightsDeclaration, "  local: {engine: embedded}", "  prod: {engine: gcp, project: my-project, region: us-central1, backend_host: backend.latam.example.com, image: us-central1-docker.pkg.dev/p/latam/latamctl@sha256:"+strings.Repeat("0", 64)+"}", 1)
	if err := os.WriteFile(filepath.Join(dir, "latam.yaml"), []byte(prod), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, target string // the file that the command replaces, or the name that its message has to have
		args         []string
		makes        bool // the target is a folder that the command makes
	}{
		{"keys", "keys.json", []string{"keys", "create", "etl", "--keys-file", "keys.json"}, false},
		{"schema", "schema.json", []string{"monitors", "schema", "--out", "schema.json"}, false},
		{"export", "datadog.tf", []string{"monitors", "export", "--format", "terraform", "--out", "datadog.tf"}, false},
		{"manifests", "deploy", []string{"stacks", "manifests", "--config", filepath.Join(dir, "latam.yaml"), "--env", "prod", "deploy"}, true},
		{"new stack", "infra", []string{"stacks", "new", "reports", "--after", "storage", "--stacks-dir", "infra"}, true},
		{"up", ".latam", []string{"up", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--pubsub", "127.0.0.1:0", "--bigtable", "127.0.0.1:0"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			disk := filepath.Join(dir, strings.ReplaceAll(c.name, " ", "-"))
			if err := os.Mkdir(disk, 0o755); err != nil {
				t.Fatal(err)
			}
			target := c.target
			if c.makes {
				target = ""
			}
			cmd := exec.Command("unshare", append([]string{"-Urm", "sh", "-c", fullDisk, "sh", disk, target, exe}, c.args...)...)
			cmd.Env = append(os.Environ(), "MESSAGE="+disk+".message", "OLD="+old, "TARGET="+target, "PUBSUB_EMULATOR_HOST=", "BIGTABLE_EMULATOR_HOST=")
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			said, err := os.ReadFile(disk + ".message")
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Fields(strings.TrimPrefix(string(out), "exit "))
			if lines[0] == "0" {
				t.Error("exit 0 on a full disk")
			}
			if !strings.Contains(string(said), c.target) || !strings.Contains(string(said), "no space left") || strings.Contains(string(said), "goroutine ") {
				t.Errorf("the message does not say that there is no room for %s:\n%s", c.target, said)
			}
			for _, left := range lines[1:] {
				if left != c.target && left != "fill" && !strings.HasSuffix(left, ".lock") {
					t.Errorf("it left %s behind: %s", left, out)
				}
			}
		})
	}
}

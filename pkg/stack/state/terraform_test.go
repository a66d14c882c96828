package state_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/bucket"
	"github.com/latamctl/latamctl/pkg/proc"
	"github.com/latamctl/latamctl/pkg/stack/state"
	"github.com/latamctl/latamctl/pkg/testkit/gcstest"
)

// sources apply two objects and wait, while the second is made, for the file "go" when "hold" is set.
const sources = `
terraform { required_version = ">= 1.9" }
variable "hold" { default = false }
resource "terraform_data" "a" {
  for_each = toset(["one", "t\"wo"])
  input    = each.key
}
resource "terraform_data" "held" {
  count            = var.hold ? 1 : 0
  depends_on       = [terraform_data.a]
  provisioner "local-exec" { command = "touch held; i=0; while [ ! -e go ] && [ $i -lt 400 ]; do sleep 0.05; i=$((i+1)); done" }
}
output "names" { value = [for a in terraform_data.a : a.output] }
output "password" {
  value     = "canary-secret"
  sensitive = true
}
`

// work is a folder of one stack in which the real terraform runs.
type work struct {
	t   *testing.T
	dir string
	bin string
	env []string
}

func newWork(t *testing.T, b bucket.Bucket, prefix string) work {
	t.Helper()
	bin, err := exec.LookPath("terraform")
	if err != nil {
		t.Skip("terraform is not on PATH: its backends are not tried")
	}
	w := work{t: t, dir: t.TempDir(), bin: bin}
	kind, config := b.Backend(prefix)
	backend, err := json.Marshal(map[string]any{"terraform": map[string]any{"backend": map[string]any{kind: config}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"main.tf": sources, "backend.tf.json": string(backend), "rc": ""} {
		if err := os.WriteFile(filepath.Join(w.dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Nothing of the user's own credentials: the metadata server's address leads nowhere.
	w.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.dir, "CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1", "TF_CLI_CONFIG_FILE=" + filepath.Join(w.dir, "rc"),
		"GOOGLE_OAUTH_ACCESS_TOKEN=token", "GCE_METADATA_HOST=127.0.0.1:1"}
	w.run("init", "-input=false", "-no-color")
	return w
}

func (w work) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(w.t.Context(), w.bin, args...)
	cmd.Dir, cmd.Env = w.dir, w.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}

func (w work) run(args ...string) string {
	w.t.Helper()
	out, err := w.command(args...).CombinedOutput()
	if err != nil {
		w.t.Fatalf("terraform %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// hold starts an apply and returns once it waits within, with the lock held.
func (w work) hold() *exec.Cmd {
	w.t.Helper()
	cmd := w.command("apply", "-auto-approve", "-no-color", "-var=hold=true")
	out := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
		if _, err := os.Stat(filepath.Join(w.dir, "held")); err == nil {
			return cmd
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("the apply did not come to its wait: %s", out)
		}
	}
}

func bothBuckets(t *testing.T, test func(t *testing.T, b bucket.Managed)) {
	t.Run("gcs", func(t *testing.T) {
		t.Parallel()
		s := gcstest.New()
		t.Cleanup(s.Close)
		s.RequireToken("token")
		s.AddBucket("states", "my-project", nil)
		test(t, openBucket(t, "gs://states", s.URL))
	})
	t.Run("folder", func(t *testing.T) {
		t.Parallel()
		b := openBucket(t, filepath.Join(t.TempDir(), "states"), "")
		if _, err := b.Ensure(t.Context(), bucket.Settings{}); err != nil {
			t.Fatal(err)
		}
		test(t, b)
	})
}

func testProcess() *proc.Process {
	return &proc.Process{Now: time.Now, Getenv: func(key string) (string, bool) {
		value, ok := map[string]string{"GOOGLE_OAUTH_ACCESS_TOKEN": "token"}[key]
		return value, ok
	}}
}

func openBucket(t *testing.T, location, endpoint string) bucket.Managed {
	t.Helper()
	b, err := bucket.Open(t.Context(), location, bucket.Options{Proc: testProcess(), Endpoint: endpoint, RetryDelay: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestTerraformStates has the real terraform keep its state where we read it.
func TestTerraformStates(t *testing.T) {
	t.Parallel()
	bothBuckets(t, func(t *testing.T, b bucket.Managed) {
		states := state.New(b, "prod")
		if s, err := states.Read(t.Context(), "network"); err != nil || s.Applied() {
			t.Fatalf("before the first apply: %+v, %v", s, err)
		}
		w := newWork(t, b, states.Prefix("network"))
		w.run("apply", "-auto-approve", "-no-color")
		s, err := states.Read(t.Context(), "network")
		if err != nil || !s.Applied() || s.Serial == 0 || s.Version == "" || !strings.HasPrefix(s.Terraform, "1.") {
			t.Fatalf("after the apply: %+v, %v", s, err)
		}
		var got []string
		for _, r := range s.Resources {
			got = append(got, r.Address)
		}
		want := strings.Fields(w.run("state", "list", "-no-color"))
		slices.Sort(want)
		if !slices.Equal(got, want) || len(got) != 2 {
			t.Errorf("addresses %q, terraform has %q", got, want)
		}
		if o, ok := s.Output("password"); !ok || !o.Sensitive || string(o.Value) != `"canary-secret"` {
			t.Errorf("output password: %+v", o)
		}
		if out := w.run("plan", "-no-color", "-detailed-exitcode"); !strings.Contains(out, "No changes") {
			t.Errorf("a second plan: %s", out)
		}
		if lock, err := states.Lock(t.Context(), "network"); err != nil || lock != nil {
			t.Errorf("a lock is left: %+v, %v", lock, err)
		}
		w.run("destroy", "-auto-approve", "-no-color")
		if s, err := states.Read(t.Context(), "network"); err != nil || len(s.Resources) != 0 || s.Lineage == "" {
			t.Errorf("after the destroy: %+v, %v", s, err)
		}
	})
}

// TestTerraformLocks kills the real terraform in an apply and takes away what it leaves.
func TestTerraformLocks(t *testing.T) {
	t.Parallel()
	bothBuckets(t, func(t *testing.T, b bucket.Managed) {
		states := state.New(b, "prod")
		w := newWork(t, b, states.Prefix("network"))
		cmd := w.hold()
		lock, err := states.Lock(t.Context(), "network")
		if err != nil || lock == nil {
			t.Fatalf("no lock while an apply runs: %v", err)
		}
		if lock.Operation != "OperationTypeApply" || !strings.Contains(lock.Who, "@") || lock.Age(time.Now()) > time.Minute || lock.Created.IsZero() {
			t.Errorf("the lock says %+v", lock)
		}
		out, err := w.command("plan", "-no-color", "-lock-timeout=0s").CombinedOutput()
		if err == nil || !strings.Contains(string(out), lock.ID) {
			t.Errorf("a second terraform: %v, it should name lock %s: %s", err, lock.ID, out)
		}
		living := func(context.Context, state.Lock) (string, error) { return "terraform with process 7", nil }
		if _, err := states.Unlock(t.Context(), "network", lock.ID, living); !errors.Is(err, state.ErrAlive) {
			t.Errorf("unlock while it lives: %v", err)
		}
		if err := cmd.Cancel(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // It was killed.
		afterKill(t, b, states, *lock)
		w.run("plan", "-no-color", "-lock-timeout=0s")
	})
}

// afterKill expects a lock that is left in a Google bucket, and none in a folder, whose locks the kernel keeps.
func afterKill(t *testing.T, b bucket.Bucket, states *state.States, held state.Lock) {
	t.Helper()
	if held.PID != 0 {
		if lock, err := states.Lock(t.Context(), "network"); err != nil || lock != nil {
			t.Errorf("the lock of a dead process: %+v, %v", lock, err)
		}
		if _, err := states.Unlock(t.Context(), "network", held.ID, nil); !errors.Is(err, state.ErrNotLocked) {
			t.Errorf("unlock what the kernel unlocked: %v", err)
		}
		return
	}
	dead := func(context.Context, state.Lock) (string, error) { return "", nil }
	if _, err := states.Unlock(t.Context(), "network", "12345", dead); !errors.Is(err, state.ErrOtherLock) || !strings.Contains(err.Error(), held.ID) {
		t.Errorf("unlock with a wrong id: %v", err)
	}
	if locks, err := states.Locks(t.Context(), []string{"storage", "network"}); err != nil || len(locks) != 1 || locks[0].ID != held.ID {
		t.Errorf("locks %+v, %v", locks, err)
	}
	if _, err := states.Unlock(t.Context(), "network", held.Written, dead); err != nil {
		t.Errorf("unlock: %v", err)
	}
	if keys, err := b.List(t.Context(), "prod/network/"); err != nil || slices.Contains(keys, "prod/network/default.tflock") {
		t.Errorf("after unlock: %q, %v", keys, err)
	}
}

// TestTerraformAsksTheBucketOnly sees that everything that terraform asks goes to the bucket.
func TestTerraformAsksTheBucketOnly(t *testing.T) {
	t.Parallel()
	s := gcstest.New()
	t.Cleanup(s.Close)
	s.RequireToken("token")
	s.AddBucket("states", "my-project", nil)
	b := openBucket(t, "gs://states", s.URL)
	w := newWork(t, b, "prod/network")
	s.Inject(gcstest.Fault{Method: "POST", Status: 503, Times: 2}) // Google's client tries again.
	w.run("apply", "-auto-approve", "-no-color")
	for _, r := range s.Requests() {
		if !strings.Contains(r, "states") {
			t.Errorf("terraform asked %s", r)
		}
	}
	if n := s.Versions("states", "prod/network/default.tfstate"); n < 1 {
		t.Errorf("%d versions of the state", n)
	}
}

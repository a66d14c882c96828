package terraform

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/proc"
)

// parentVariable makes the test program run one apply and end, as latamctl does.
const parentVariable = "LATAM_TEST_PARENT"

// parentOrder is what such a program is asked to do.
type parentOrder struct {
	Workspace Workspace0
	Plan      string
	Record    string
	// Hold keeps it in Started for ever, so that it can be killed there.
	Hold bool
}

// Workspace0 is a Workspace that can be written as JSON.
type Workspace0 struct{ Stack, Dir, VarFile, RunDir string }

func TestMain(m *testing.M) {
	Become(proc.OS())
	if text := os.Getenv(parentVariable); text != "" {
		if err := runParent(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func runParent(text string) error {
	var o parentOrder
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	t, err := newRunner(nil)
	if err != nil {
		return err
	}
	w := Workspace{Stack: o.Workspace.Stack, Dir: o.Workspace.Dir, VarFile: o.Workspace.VarFile, RunDir: o.Workspace.RunDir}
	w.Started = func(r Running) error {
		b, err := json.Marshal(r)
		if err != nil {
			return err
		}
		if err := t.proc.WriteSecretFile(o.Record, b); err != nil {
			return err
		}
		if o.Hold {
			select {}
		}
		return nil
	}
	_, err = t.Apply(context.Background(), w, o.Plan, nil)
	return err
}

// newRunner returns a runner of the terraform on the path with the test program as leader.
func newRunner(change func(*Options)) (*Terraform, error) {
	bin, err := exec.LookPath("terraform")
	if err != nil {
		return nil, err
	}
	leader, err := os.Executable()
	if err != nil {
		return nil, err
	}
	o := Options{
		Bin: bin, Version: "1.11.4", Leader: leader, Poll: 10 * time.Millisecond, LockTimeout: time.Millisecond,
		Env: map[string]string{"PATH": os.Getenv("PATH"), "HOME": "/nonexistent", "CHECKPOINT_DISABLE": "1"},
	}
	if change != nil {
		change(&o)
	}
	return New(proc.OS(), o)
}

// runner is newRunner for a test, which is skipped where there is no terraform.
func runner(t *testing.T, change func(*Options)) *Terraform {
	t.Helper()
	if _, err := exec.LookPath("terraform"); err != nil {
		t.Skip("no terraform on the PATH")
	}
	r, err := newRunner(change)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// chain are three objects that are made one after the other. The file of an object in the world says
// that it exists.
const chain = `
variable "world" { type = string }
locals { pause = %s }
resource "terraform_data" "a" {
  input = "a"
  provisioner "local-exec" { command = "sleep ${local.pause} && touch ${var.world}/a" }
}
resource "terraform_data" "b" {
  input = terraform_data.a.id
  provisioner "local-exec" { command = "sleep ${local.pause} && touch ${var.world}/b" }
}
resource "terraform_data" "c" {
  input = terraform_data.b.id
  provisioner "local-exec" { command = "sleep ${local.pause} && touch ${var.world}/c" }
}
output "last" { value = terraform_data.c.id }
`

func chainOf(pause string) string { return fmt.Sprintf(chain, strconv.Quote(pause)) }

// workspace makes a stack of one file.
func workspace(t *testing.T, source string) Workspace {
	t.Helper()
	dir := t.TempDir()
	w := Workspace{Stack: "demo", Dir: filepath.Join(dir, "work"), RunDir: filepath.Join(dir, "run"), VarFile: filepath.Join(dir, "vars.json")}
	write(t, filepath.Join(w.Dir, "main.tf"), source)
	write(t, w.VarFile, fmt.Sprintf(`{"world": %q}`, world(t, w)))
	return w
}

func world(t *testing.T, w Workspace) string {
	t.Helper()
	dir := filepath.Join(filepath.Dir(w.Dir), "world")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// planned prepares a stack and returns its plan file.
func planned(t *testing.T, r *Terraform, w Workspace) string {
	t.Helper()
	w.Started = nil
	if err := r.Init(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(w.RunDir, "demo.tfplan")
	if _, err := r.Plan(t.Context(), w, PlanOptions{Out: file}, nil); err != nil {
		t.Fatal(err)
	}
	return file
}

// objects returns what the local state of a stack holds, and which of it is tainted.
func objects(t *testing.T, w Workspace) (all, tainted string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(w.Dir, "terraform.tfstate"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return objectsIn(t, b)
}

func objectsIn(t *testing.T, b []byte) (all, tainted string) {
	t.Helper()
	var s struct {
		Resources []struct {
			Name      string
			Instances []struct{ Status string }
		}
	}
	if len(b) == 0 {
		return "", ""
	}
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	for _, r := range s.Resources {
		for _, i := range r.Instances {
			all += r.Name
			if i.Status == "tainted" {
				tainted += r.Name
			}
		}
	}
	return all, tainted
}

// exists returns the names of the objects in the world.
func exists(t *testing.T, w Workspace) string {
	t.Helper()
	entries, err := os.ReadDir(world(t, w))
	if err != nil {
		t.Fatal(err)
	}
	var names string
	for _, e := range entries {
		names += e.Name()
	}
	return names
}

// isUnlocked tells whether nobody holds the lock of a local state. A lock is left when a terraform is killed.
func isUnlocked(t *testing.T, w Workspace) bool {
	t.Helper()
	_, err := os.Stat(filepath.Join(w.Dir, ".terraform.tfstate.lock.info"))
	return os.IsNotExist(err)
}

// isEmpty plans again and wants nothing to change.
func wantNoChanges(t *testing.T, r *Terraform, w Workspace) {
	t.Helper()
	w.Started = nil
	s, err := r.Plan(t.Context(), w, PlanOptions{}, nil)
	if err != nil || len(s.Changes) != 0 || s.Add+s.Change+s.Remove != 0 {
		t.Errorf("plan again: %v, %+v; want no changes", err, s)
	}
}

const patience = 60 * time.Second

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not after %s", what, patience)
		}
	}
}

// lines counts the lines of a file.
func lines(path string) int {
	b, _ := os.ReadFile(path)
	return strings.Count(string(b), "\n")
}

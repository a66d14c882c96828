package stack

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/latamctl/latamctl/pkg/bucket"
	"github.com/latamctl/latamctl/pkg/plan"
	"github.com/latamctl/latamctl/pkg/proc"
	"github.com/latamctl/latamctl/pkg/stack/contract"
	"github.com/latamctl/latamctl/pkg/stack/terraform"
)

func TestMain(m *testing.M) {
	terraform.Become(proc.OS())
	os.Exit(m.Run())
}

// declared are the values of variables by stack.
type declared map[string]map[string]any

func (v declared) Values(s *contract.Stack) (map[string]any, error) { return v[s.Name], nil }
func (declared) Off(*contract.Stack) string                         { return "" }

// realDriver drives three stacks of terraform_data with the real program and states in a folder. The
// stack middle has an output that only its apply knows, and last takes it.
func realDriver(t *testing.T) (*Driver, *Options, declared) {
	t.Helper()
	p := proc.OS()
	p.Dir = t.TempDir()
	program, err := terraform.Find(t.Context(), p, "")
	if errors.Is(err, terraform.ErrNotFound) {
		t.Skip("terraform is not on PATH")
	}
	if err != nil {
		t.Fatal(err)
	}
	self, err := p.Executable()
	if err != nil {
		t.Fatal(err)
	}
	env := terraform.Env(p)
	delete(env, "TF_CLI_CONFIG_FILE") // No provider is needed.
	runner, err := terraform.New(p, terraform.Options{Bin: program.Path, Version: program.Version, Digest: program.Digest, Leader: self, Env: env})
	if err != nil {
		t.Fatal(err)
	}
	states, err := bucket.Open(t.Context(), "states", bucket.Options{Proc: p})
	if err != nil {
		t.Fatal(err)
	}
	const variable = "variable \"v\" { type = string }\nvariable \"secret\" {\n  type = string\n  sensitive = true\n}\n"
	files := func(text string) fstest.MapFS { return fstest.MapFS{"main.tf": {Data: []byte(text)}} }
	inputs := []contract.Input{{Name: "v", Type: "string"}, {Name: "secret", Type: "string", Sensitive: true}}
	set := &contract.Set{Stacks: []*contract.Stack{
		{Name: "first", Inputs: inputs, Protected: []string{"terraform_data"}, Files: files(variable + `
resource "terraform_data" "a" {
  input            = { text = var.v, secret = var.secret }
  triggers_replace = var.v
}
`)},
		{Name: "middle", Needs: []string{"first"}, Inputs: inputs, Files: files(variable + `
resource "terraform_data" "b" { input = var.v }
output "id" { value = terraform_data.b.id }
`)},
		{Name: "last", Needs: []string{"middle"}, Inputs: append(inputs, contract.Input{Name: "id", Type: "string", From: "middle.id"}), Files: files(variable + `
variable "id" { type = string }
resource "terraform_data" "c" { input = "${var.id} ${var.v}" }
`)},
	}}
	values := declared{}
	for _, s := range set.Stacks {
		values[s.Name] = map[string]any{"v": "1", "secret": "canary-77ab"}
	}
	o := Options{
		Environment: "test", Stacks: set, Inputs: values, State: states, Terraform: runner, TerraformVersion: program.Version,
		TerraformDigest: program.Digest, Dir: "work", Proc: p, RetryDelay: time.Millisecond,
	}
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return d, &o, values
}

func TestRealTerraform(t *testing.T) {
	if testing.Short() {
		t.Skip("runs terraform some 20 times")
	}
	d, o, values := realDriver(t)
	var asked []*plan.Plan
	approve := func(_ context.Context, p *plan.Plan) error { asked = append(asked, p); return nil }
	up := func(o UpOptions, want string) {
		t.Helper()
		o.Approve = approve
		r, err := d.Up(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		wantPhases(t, r, want)
	}
	up(UpOptions{}, "first done, middle done, last done")
	if s := sectionOf(asked[0], "last"); s.Grade != plan.Provisional {
		t.Errorf("last was planned as %+v", s)
	}
	up(UpOptions{}, "first unchanged, middle unchanged, last unchanged")
	if len(asked) != 1 {
		t.Errorf("asked %d times, want once", len(asked))
	}
	p, err := d.Drift(t.Context(), Selection{})
	if err != nil || len(p.Sections) != 3 {
		t.Fatal(err)
	}
	for _, s := range p.Sections {
		if len(s.Drift)+len(s.Changes) > 0 || s.Note != "" || s.Error != "" {
			t.Errorf("drift of what was just applied: %+v", s)
		}
	}

	values["first"]["v"] = "2"
	if p, err = d.Plan(t.Context(), PlanOptions{Bundle: "bundle", Changed: true}); err != nil {
		t.Fatal(err)
	}
	first := sectionOf(p, "first")
	if len(first.Changes) != 1 || first.Changes[0].Action != plan.Replace || !first.Changes[0].Protected || strings.Join(first.Changes[0].Forces, ",") != "triggers_replace" {
		t.Fatalf("first is %+v", first)
	}
	if sectionOf(p, "last").Note != "unchanged since the last apply" {
		t.Errorf("last is %+v", sectionOf(p, "last"))
	}
	var refused *Refused
	if _, err := d.Up(t.Context(), UpOptions{Bundle: "bundle", Approve: approve}); !errors.As(err, &refused) {
		t.Fatalf("a protected object would be replaced: %v", err)
	}
	up(UpOptions{Bundle: "bundle", AllowDelete: []string{"first/terraform_data.a"}}, "first done, middle unchanged, last unchanged")
	var stale *StaleBundle
	if _, err := d.Up(t.Context(), UpOptions{Bundle: "bundle", Approve: approve}); !errors.As(err, &stale) {
		t.Errorf("a bundle that was applied: %v", err)
	}

	r, err := d.Down(t.Context(), DownOptions{Approve: approve, AllowDelete: []string{"first/*"}})
	if err != nil {
		t.Fatal(err)
	}
	wantPhases(t, r, "last done, middle done, first done")
	noSecrets(t, o.Proc)
}

// noSecrets looks for the sensitive variable in all that a run leaves, but the states.
func noSecrets(t *testing.T, p *proc.Process) {
	t.Helper()
	for _, pattern := range []string{"work/*/*", "work/*/*/*", "work/*/*/*/*"} {
		paths, err := p.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if data, err := p.ReadFile(path); err == nil && strings.Contains(string(data), "canary-77ab") {
				t.Errorf("%s has a sensitive value", path)
			}
		}
	}
}

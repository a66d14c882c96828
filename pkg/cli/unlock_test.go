package cli

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/pkg/plan"
	"github.com/latamctl/latamctl/pkg/proc"
	"github.com/latamctl/latamctl/pkg/stack"
	"github.com/latamctl/latamctl/pkg/stack/contract"
	"github.com/latamctl/latamctl/pkg/stack/state"
	"github.com/latamctl/latamctl/pkg/stack/terraform"
)

// TestLivingApply: a lock stays while the program of a recorded apply runs, and only then.
func TestLivingApply(t *testing.T) {
	t.Parallel()
	p := testProcess(strings.NewReader(""))
	p.Dir = t.TempDir()
	identity, err := proc.OS().ProcessIdentity(os.Getpid())
	if err != nil || identity == "" {
		t.Fatal(identity, err)
	}
	write := func(run, env, stack string, running *terraform.Running) {
		t.Helper()
		b, err := json.Marshal(map[string]any{"version": 1, "run": run, "environment": env, "stacks": map[string]any{stack: map[string]any{"running": running}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.WriteFile(defaultWorkDir+"/runs/"+run+"/run.json", b); err != nil {
			t.Fatal(err)
		}
	}
	write("1", "prod", "storage", &terraform.Running{PID: os.Getpid(), Identity: identity})
	write("2", "prod", "network", &terraform.Running{PID: os.Getpid(), Identity: "of an earlier process"})
	write("3", "staging", "cluster", &terraform.Running{PID: os.Getpid(), Identity: identity})
	write("4", "prod", "apps", nil)
	a := &app{proc: p, global: globalOptions{env: "prod"}}
	for stack, want := range map[string]string{"storage": "of run 1", "network": "", "cluster": "", "apps": "", "gateway": ""} {
		got, err := a.livingApply(defaultWorkDir)(t.Context(), state.Lock{Stack: stack})
		if err != nil || (got != "") != (want != "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, %v; want %q", stack, got, err, want)
		}
	}
}

// TestSettingsOfContractsAreFlags: each is a flag of plan, a key of an environment, and keeps its default.
func TestSettingsOfContractsAreFlags(t *testing.T) {
	t.Parallel()
	root := newRoot(&app{proc: &proc.Process{}})
	keys := (&app{root: root}).settingKeys()
	plan, _, err := root.Find([]string{"plan"})
	if err != nil {
		t.Fatal(err)
	}
	defaults := contract.DefaultSettings()
	for _, field := range defaults.Fields() {
		f := plan.Flags().Lookup(field.Flag())
		if f == nil || !slices.Contains(keys, field.Key) {
			t.Errorf("setting %s is no flag or no key", field.Key)
			continue
		}
		if err := f.Value.Set(f.Value.String()); err != nil && f.DefValue != "[]" {
			t.Errorf("setting %s does not take its own default %s: %v", field.Key, f.DefValue, err)
		}
	}
}

// TestFaultCodes of the driver's and terraform's errors, which scripts rely on.
func TestFaultCodes(t *testing.T) {
	t.Parallel()
	a := &app{global: globalOptions{env: "prod"}}
	for name, tt := range map[string]struct {
		err  error
		code int
		hint string
	}{
		"guard":     {&stack.Refused{Doing: "apply", Why: "x", Cause: &plan.Refusal{Protected: []string{"s/a.b"}}}, exitRefused, "--allow-delete 's/a.b'"},
		"refused":   {&stack.Refused{Doing: "destroy", Why: "apps needs it", Hint: "say --cascade"}, exitRefused, "say --cascade"},
		"stale":     {&stack.StaleBundle{Folder: "p.d", Mismatches: []string{"x"}}, exitRefused, "--out p.d"},
		"locked":    {&stack.LockedError{What: "stack storage", Holder: "ci", Hint: "h"}, exitLocked, "latamctl unlock --env prod storage"},
		"busy":      {&stack.LockedError{What: "environment prod", Holder: "ci", Hint: "h"}, exitLocked, "--lock-timeout"},
		"interrupt": {&stack.Interrupted{Run: "1"}, exitInterrupted, "up --resume"},
		"denied":    {&stack.Failed{Stacks: []string{"s"}, Errs: []error{&terraform.Failure{Command: "plan", Stack: "s", Kind: terraform.Denied}}}, exitDenied, "gcloud auth"},
		"held":      {&terraform.Failure{Command: "plan", Stack: "s", Kind: terraform.Locked}, exitLocked, "latamctl unlock --env prod s"},
		"failed":    {&stack.Failed{Stacks: []string{"s"}, Errs: []error{errors.New("x")}}, exitFailed, "up --resume"},
	} {
		err := a.cloudFault(t.Context(), tt.err)
		var f *fault
		if !errors.As(err, &f) || f.code != tt.code || !strings.Contains(f.hint, tt.hint) {
			t.Errorf("%s: %#v, want code %d and %q", name, err, tt.code, tt.hint)
		}
	}
}

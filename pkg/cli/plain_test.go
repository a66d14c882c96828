package cli

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/plan"
	"github.com/latamctl/latamctl/pkg/stack"
	"github.com/latamctl/latamctl/pkg/stack/terraform"
)

// TestPlainLines: where lines cannot be redrawn, only those that say something are written.
func TestPlainLines(t *testing.T) {
	t.Parallel()
	event := func(kind, address, message string) *terraform.Event {
		return &terraform.Event{Type: kind, Address: address, Message: message}
	}
	for _, tt := range []struct {
		step stack.Step
		want string
	}{
		{stack.Step{Phase: stack.Preparing}, ""},
		{stack.Step{Phase: stack.Preparing, Message: "saving a state"}, "storage: preparing: saving a state"},
		{stack.Step{Phase: stack.Planned, Message: "2 to create"}, "storage: planned: 2 to create"},
		{stack.Step{Phase: stack.Applying, Total: 3}, "storage: applying 3 changes"},
		{stack.Step{Phase: stack.Planning, Event: event("apply_complete", "data.google_project.this", "data.google_project.this: Refresh complete after 0s")}, ""},
		{stack.Step{Phase: stack.Applying, Event: event("apply_complete", "a.b", "a.b: Creation complete after 2s [id=projects/p/a/b]")}, "storage: a.b: Creation complete after 2s"},
		{stack.Step{Phase: stack.Stopped, Err: errors.New("apply of stack storage: interrupted; all output is in x")}, "storage: interrupted; what it did is in its state"},
		{stack.Step{Phase: stack.Broken, Err: errors.New("403\nmore")}, "storage: failed: 403"},
	} {
		p := &progress{lines: map[string]*stackLine{}}
		tt.step.Stack = "storage"
		if got := p.plainLine(tt.step); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.step, got, tt.want)
		}
	}
}

// TestReportTellsOnce: a failure is told in the report with its log, and the error after it only names the stack.
func TestReportTellsOnce(t *testing.T) {
	t.Parallel()
	r := &stack.Report{Outcomes: []stack.Outcome{
		{Stack: "network", Phase: stack.Done, Took: time.Second},
		{Stack: "storage", Phase: stack.Broken, Err: errors.New("apply of stack storage: 403; all output is in runs/1/storage.ndjson"), Log: "runs/1/storage.ndjson"},
		{Stack: "messaging", Phase: stack.Stopped, Err: errors.New("apply of stack messaging: interrupted")},
	}}
	p := testProcess(strings.NewReader(""))
	var out strings.Builder
	p.Out = &out
	a := &app{proc: p, global: globalOptions{env: "prod"}}
	if err := a.reportTable(r); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.Count(got, "runs/1/storage.ndjson") != 1 || strings.Contains(got, "messaging: apply") || !strings.Contains(got, "messaging  interrupted") {
		t.Errorf("the report:\n%s", got)
	}
	err := reportFailure(r, fail(exitDenied, "ask for it", errors.New("long text")))
	var f *fault
	if !errors.As(err, &f) || f.code != exitDenied || f.hint != "ask for it" || err.Error() != "not done: storage, messaging" {
		t.Errorf("%+v", err)
	}
	if err := reportFailure(nil, errors.New("as it is")); err.Error() != "as it is" {
		t.Error(err)
	}
	if begun(&stack.Report{Outcomes: []stack.Outcome{{Phase: stack.Skipped}}}) || !begun(r) {
		t.Error("a run that only skipped has nothing to report")
	}
}

// TestHintsOfFailures name the command that was run, and what to do about providers.
func TestHintsOfFailures(t *testing.T) {
	t.Parallel()
	for again, want := range map[string]string{"": "latamctl up --resume --env prod", "plan": "latamctl plan --env prod", "drift": "latamctl drift --env prod"} {
		a := &app{global: globalOptions{env: "prod"}, again: again}
		var f *fault
		if err := a.stackFault(&terraform.Failure{Kind: terraform.Invalid}); !errors.As(err, &f) || !strings.HasSuffix(f.hint, want) {
			t.Errorf("%q: %+v", again, f)
		}
	}
	a := &app{global: globalOptions{env: "prod"}}
	var f *fault
	if err := a.stackFault(&terraform.Failure{Kind: terraform.NoProviders}); !errors.As(err, &f) || f.code != exitUnavailable || !strings.Contains(f.hint, "TF_CLI_CONFIG_FILE") {
		t.Errorf("%+v", f)
	}
	if err := a.stackFault(&stack.NoStackError{Name: "nope", Stacks: []string{"network"}}); !errors.As(err, &f) || f.code != exitUsage {
		t.Errorf("%+v", f)
	}
	locked := &stack.LockedError{What: "stack storage", Holder: "ana", Hint: "wait for it"}
	if err := a.stackFault(locked); strings.Contains(err.Error(), "wait") || !errors.As(err, &f) || f.code != exitLocked {
		t.Errorf("%v", err)
	}
}

// TestManyProtectedObjects: so many flags are more than a person reads, so whole stacks are named.
func TestManyProtectedObjects(t *testing.T) {
	t.Parallel()
	r := refusalOf("storage/a.one", "storage/a.two")
	if got := hintOf(t, r); got != "if that is meant, name each: --allow-delete 'storage/a.one' --allow-delete 'storage/a.two'" {
		t.Error(got)
	}
	many := slices.Repeat([]string{"storage/a.x", "messaging/b.y"}, 5)
	if got := hintOf(t, refusalOf(many...)); got != "if that is meant, name each, or all of a stack: --allow-delete 'storage/*' --allow-delete 'messaging/*'" {
		t.Error(got)
	}
}

func refusalOf(protected ...string) *plan.Refusal { return &plan.Refusal{Protected: protected} }

func hintOf(t *testing.T, r *plan.Refusal) string {
	t.Helper()
	var f *fault
	if err := refusalFault(r); !errors.As(err, &f) {
		t.Fatal(err)
	}
	return f.hint
}

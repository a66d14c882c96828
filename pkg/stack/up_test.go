package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	tfjson "github.com/hashicorp/terraform-json"

	"github.com/latamctl/latamctl/pkg/plan"
	"github.com/latamctl/latamctl/pkg/proc"
	"github.com/latamctl/latamctl/pkg/stack/contract"
	"github.com/latamctl/latamctl/pkg/stack/terraform"
)

// chained is a network, a cluster with an output that only its apply makes, and apps that take it.
func chained(t *testing.T) *fixture {
	f := newFixture(t)
	f.add("network")
	f.add("cluster", "network")
	f.stacks["cluster"].outputs = map[string]string{"endpoint": "10.0.0.1"}
	f.add("apps", "cluster").Inputs = []contract.Input{{Name: "cluster_endpoint", Type: "string", From: "cluster.endpoint"}}
	f.add("registry")
	return f
}

func TestUpFresh(t *testing.T) {
	f := chained(t)
	r := f.mustUp(UpOptions{})
	wantPhases(t, r, "network done, cluster done, apps done, registry done")
	if len(f.asked) != 1 {
		t.Fatalf("asked %d times, want once", len(f.asked))
	}
	if got := sectionOf(f.asked[0], "apps"); got.Grade != plan.Provisional || len(got.Changes) != 2 {
		t.Errorf("apps was planned as %+v, want provisional with 2 changes", got)
	}
	if got := f.world.values["apps"]["cluster_endpoint"]; got != "10.0.0.1" {
		t.Errorf("apps was applied with the endpoint %v", got)
	}
	if r.Outcomes[0].Created != 2 {
		t.Errorf("network created %d, want 2", r.Outcomes[0].Created)
	}
	apply := func(stack string) int { return slices.Index(f.calls, "apply "+stack) }
	if apply("network") > apply("cluster") || apply("cluster") > apply("apps") {
		t.Errorf("applied in a wrong order: %v", f.calls)
	}

	f.calls = nil
	wantPhases(t, f.mustUp(UpOptions{}), "network unchanged, cluster unchanged, apps unchanged, registry unchanged")
	if len(f.asked) != 1 || f.count("apply") != 0 || f.count("plan") != 4 || f.count("show") != 0 {
		t.Errorf("an up of what is there asked %d times and called %v", len(f.asked), f.calls)
	}

	f.calls = nil
	p, err := f.driver().Plan(t.Context(), PlanOptions{Changed: true})
	if err != nil || len(f.calls) != 0 {
		t.Fatalf("plan of what changed: %v, calls %v", err, f.calls)
	}
	for _, s := range p.Sections {
		if s.Note != "unchanged since the last apply" {
			t.Errorf("section %s has the note %q", s.Name, s.Note)
		}
	}
	left, err := f.proc.Glob(filepath.Join("work", "runs", "*", "*.tf*"))
	if err != nil || len(left) != 0 {
		t.Errorf("files with secrets are left: %v %v", left, err)
	}
}

func TestChangedSeesEveryDifference(t *testing.T) {
	for what, differ := range map[string]func(f *fixture){
		"values":    func(f *fixture) { f.values["project"] = "other" },
		"sources":   func(f *fixture) { f.set.Stacks[0].Files = f.set.Stacks[1].Files },
		"terraform": func(f *fixture) { f.opts.TerraformDigest = "sha256:2" },
		"state":     func(f *fixture) { f.save("network", true) },
	} {
		t.Run(what, func(t *testing.T) {
			f := chained(t)
			f.mustUp(UpOptions{})
			f.calls = nil
			differ(f)
			if _, err := f.driver().Plan(t.Context(), PlanOptions{Changed: true}); err != nil || f.count("plan network") != 1 {
				t.Errorf("%v, calls %v: want network to be planned", err, f.calls)
			}
		})
	}
}

func TestGrades(t *testing.T) {
	f := chained(t)
	f.stacks["cluster"].known = map[string]bool{"endpoint": true}
	p, err := f.driver().Plan(t.Context(), PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if s := sectionOf(p, "apps"); s.Grade != plan.Predicted || f.world.values["apps"]["cluster_endpoint"] != "10.0.0.1" {
		t.Errorf("with a known output apps is %+v with %v", s, f.world.values["apps"])
	}
	f.stacks["cluster"].sensitive = map[string]bool{"endpoint": true}
	if p, err = f.driver().Plan(t.Context(), PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	if s := sectionOf(p, "apps"); s.Grade != plan.Provisional || f.world.values["apps"]["cluster_endpoint"] != knownAfterApply {
		t.Errorf("with a sensitive output apps is %+v with %v", s, f.world.values["apps"])
	}
	if s := sectionOf(p, "cluster"); s.Grade != plan.Exact {
		t.Errorf("cluster is %s, want exact: it takes no output", s.Grade)
	}
	// A placeholder that Terraform cannot take is no failure.
	f.fail("plan", "apps", fault{kind: terraform.Invalid})
	if p, err = f.driver().Plan(t.Context(), PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	if s := sectionOf(p, "apps"); s.Error != "" || s.Note != "planned when these exist: cluster.endpoint" {
		t.Errorf("apps with a placeholder that is refused: %+v", s)
	}
}

// TestUpMovedOutput applies a cluster whose endpoint changes although its plan did not say so.
func TestUpMovedOutput(t *testing.T) {
	f := chained(t)
	f.mustUp(UpOptions{})
	f.stacks["cluster"].resources = append(f.stacks["cluster"].resources, "thing.more")
	f.hook = func(_ context.Context, call string) {
		if call == "apply cluster" {
			f.mu.Lock()
			f.stacks["cluster"].outputs["endpoint"] = "10.9.9.9"
			f.mu.Unlock()
		}
	}
	f.calls = nil
	f.mustUp(UpOptions{})
	if f.world.values["apps"]["cluster_endpoint"] != "10.9.9.9" || f.count("plan apps") != 2 {
		t.Errorf("apps was planned with %v, calls %v", f.world.values["apps"], f.calls)
	}
}

func TestUpMissingUpstream(t *testing.T) {
	f := chained(t)
	_, err := f.up(UpOptions{Selection: Selection{Stacks: []string{"apps"}}})
	if err == nil || !strings.Contains(err.Error(), "latamctl up --env prod -s cluster") || f.count("apply") != 0 {
		t.Errorf("got %v, calls %v", err, f.calls)
	}
}

// TestUpRandom compares what a run does of random graphs with random failures with a naive model.
func TestUpRandom(t *testing.T) {
	for seed := range uint64(24) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { t.Parallel(); upRandom(t, seed) })
	}
}

func upRandom(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	f := newFixture(t)
	n := 1 + random.IntN(9)
	needs := map[string][]string{}
	bad, badPlan := map[string]bool{}, map[string]bool{}
	for i := range n {
		name := fmt.Sprintf("s%d", i)
		for j := range i {
			if random.IntN(3) == 0 {
				needs[name] = append(needs[name], fmt.Sprintf("s%d", j))
			}
		}
		f.add(name, needs[name]...)
		switch random.IntN(6) {
		case 0:
			f.fail("apply", name, fault{kind: terraform.Denied, done: random.IntN(2)})
			bad[name] = true
		case 1:
			f.fail("plan", name, fault{kind: terraform.Denied})
			badPlan[name] = true
		case 2:
			f.fail("apply", name, fault{kind: terraform.Transient, done: random.IntN(2)})
		}
	}
	f.opts.Parallel = 1 + random.IntN(4)
	r, err := f.up(UpOptions{})
	if (err != nil) != (len(bad)+len(badPlan) > 0) {
		t.Fatalf("seed %d: error %v, failures %v %v", seed, err, bad, badPlan)
	}
	phase := map[string]Phase{}
	for i := range n {
		name := fmt.Sprintf("s%d", i)
		phase[name] = Done
		if bad[name] || badPlan[name] {
			phase[name] = Broken
		}
		for _, need := range needs[name] {
			if phase[need] != Done {
				phase[name] = Blocked
			}
		}
	}
	for _, o := range r.Outcomes {
		if o.Phase != phase[o.Stack] {
			t.Errorf("seed %d: stack %s is %s, the model says %s (%s)", seed, o.Stack, o.Phase, phase[o.Stack], phases(r))
		}
		if o.Phase == Blocked && !bad[o.Blocked] && !badPlan[o.Blocked] {
			t.Errorf("seed %d: stack %s is blocked by %q, which did not fail", seed, o.Stack, o.Blocked)
		}
		if applied := f.count("apply " + o.Stack); (applied > 0) != (phase[o.Stack] == Done || bad[o.Stack] && phase[o.Stack] == Broken) {
			t.Errorf("seed %d: stack %s was applied %d times and is %s", seed, o.Stack, applied, o.Phase)
		}
	}
	if f.most > f.opts.Parallel {
		t.Errorf("seed %d: %d programs at once, want %d at most", seed, f.most, f.opts.Parallel)
	}
	// What failed is mended: resuming does the rest, and only that.
	f.calls, f.faults = nil, map[string][]fault{}
	r, err = f.up(UpOptions{Resume: true})
	if err != nil {
		t.Fatalf("seed %d: resume: %v", seed, err)
	}
	for _, o := range r.Outcomes {
		want := Unchanged
		if phase[o.Stack] != Done {
			want = Done
		}
		if o.Phase != want || want == Unchanged && f.count("plan "+o.Stack) > 0 {
			t.Errorf("seed %d: resumed, stack %s is %s, want %s; calls %v", seed, o.Stack, o.Phase, want, f.calls)
		}
	}
}

func TestUpFailFast(t *testing.T) {
	f := newFixture(t)
	f.add("a")
	f.add("b")
	f.opts.Parallel = 1
	f.fail("apply", "a", fault{kind: terraform.Denied})
	r, err := f.up(UpOptions{FailFast: true})
	var failed *Failed
	if !errors.As(err, &failed) {
		t.Fatalf("got %v, want *Failed", err)
	}
	wantPhases(t, r, "a failed, b skipped")
}

func TestUpRetries(t *testing.T) {
	for _, c := range []struct {
		name    string
		faults  []fault
		phase   Phase
		applies int
		retries int
	}{
		{"once", []fault{{terraform.Transient, 1}}, Done, 2, 1},
		{"twice", []fault{{terraform.Transient, 0}, {terraform.Transient, 1}}, Done, 3, 2},
		{"after all was done", []fault{{terraform.Transient, 2}}, Done, 1, 1},
		{"too often", []fault{{terraform.Transient, 0}, {terraform.Transient, 1}, {terraform.Transient, 0}}, Broken, 3, 2},
		{"denied", []fault{{terraform.Denied, 1}}, Broken, 1, 0},
		{"killed", []fault{{terraform.Killed, 1}}, Broken, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			f.add("a")
			f.fail("apply", "a", c.faults...)
			r, _ := f.up(UpOptions{})
			o := r.Outcomes[0]
			if o.Phase != c.phase || o.Retries != c.retries || f.count("apply") != c.applies || f.count("plan") != c.retries+1 || len(f.asked) != 1 {
				t.Errorf("got %+v, calls %v, asked %d", o, f.calls, len(f.asked))
			}
		})
	}
}

func TestUpAsksAgain(t *testing.T) {
	f := newFixture(t)
	f.add("a").Protected = []string{"table"}
	f.fail("apply", "a", fault{terraform.Transient, 1})
	f.hook = func(_ context.Context, call string) {
		if call == "apply a" {
			f.mu.Lock()
			f.stacks["a"].resources = append(f.stacks["a"].resources, "thing.new")
			f.mu.Unlock()
			f.hook = nil
		}
	}
	r := f.mustUp(UpOptions{})
	wantPhases(t, r, "a done")
	if len(f.asked) != 2 || len(f.asked[1].Sections) != 1 || len(f.asked[1].Sections[0].Changes) != 2 {
		t.Fatalf("asked %d times, want again about the one section", len(f.asked))
	}

	f.have["a"] = append(f.have["a"], "table.t")
	f.save("a", true)
	f.stacks["a"].resources = append(f.stacks["a"].resources, "table.t", "thing.last")
	f.fail("apply", "a", fault{terraform.Transient, 0})
	f.hook = func(_ context.Context, call string) {
		if call == "apply a" {
			f.mu.Lock()
			f.stacks["a"].resources = slices.DeleteFunc(f.stacks["a"].resources, func(a string) bool { return a == "table.t" })
			f.mu.Unlock()
		}
	}
	_, err := f.up(UpOptions{})
	var refused *Refused
	if !errors.As(err, &refused) || len(f.asked) != 3 || !slices.Contains(f.have["a"], "table.t") {
		t.Errorf("a table that would be lost after a retry: %v, asked %d times, have %v", err, len(f.asked), f.have["a"])
	}
}

func TestUpRefusesLosses(t *testing.T) {
	f := newFixture(t)
	f.add("a").Protected = []string{"table"}
	f.stacks["a"].resources = []string{"table.t"}
	f.mustUp(UpOptions{})
	f.changes["table.t"] = &tfjson.Change{
		Actions: tfjson.Actions{tfjson.ActionDelete, tfjson.ActionCreate}, ReplacePaths: []any{[]any{"name"}},
		Before: map[string]any{"deletion_protection": true},
	}
	_, err := f.up(UpOptions{})
	var refused *Refused
	var refusal *plan.Refusal
	if !errors.As(err, &refused) || !errors.As(err, &refusal) || len(f.asked) != 1 || f.count("apply") != 1 {
		t.Fatalf("got %v, asked %d times", err, len(f.asked))
	}
	wantPhases(t, f.mustUp(UpOptions{AllowDelete: []string{"a/table.t"}}), "a done")
	if got := f.asked[1].Sections[0].Changes[0].Forces; !slices.Equal(got, []string{"name"}) {
		t.Errorf("forced by %v, want name", got)
	}
	if note := f.asked[1].Sections[0].Note; !strings.Contains(note, "refuse to delete table.t: run up with --deletion-protection=false") {
		t.Errorf("deletion protection is not said: %q", note)
	}
}

func TestUpRefused(t *testing.T) {
	f := chained(t)
	f.answer = errors.New("no")
	if r, err := f.up(UpOptions{}); !errors.Is(err, f.answer) || f.count("apply") != 0 || r == nil {
		t.Errorf("got %v, calls %v", err, f.calls)
	}
}

func TestUpLocked(t *testing.T) {
	f := chained(t)
	d := f.driver()
	r, err := d.newRun()
	if err != nil {
		t.Fatal(err)
	}
	_, release, err := d.lock(t.Context(), r, "up")
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.up(UpOptions{})
	var locked *LockedError
	if !errors.As(err, &locked) || !strings.Contains(locked.Holder, "latamctl up --env prod") || len(f.calls) != 0 {
		t.Fatalf("got %v, calls %v", err, f.calls)
	}
	release()
	f.fail("plan", "network", fault{kind: terraform.Locked})
	_, err = f.up(UpOptions{})
	if !errors.As(err, &locked) || locked.What != "stack network" {
		t.Errorf("a locked state: %v", err)
	}
}

// TestUpWithoutStates plans before there is a bucket, and applies nothing of that plan.
func TestUpWithoutStates(t *testing.T) {
	f := chained(t)
	f.memory.absent = true
	created := false
	f.opts.CreateState = func(context.Context) error {
		if len(f.asked) != 1 {
			t.Error("the bucket was created before the approval")
		}
		created, f.memory.absent = true, false
		return nil
	}
	p, err := f.driver().Plan(t.Context(), PlanOptions{})
	if err != nil || created || sectionOf(p, "network").Grade != plan.Predicted || len(sectionOf(p, "network").Changes) != 2 {
		t.Fatalf("plan: %v %+v", err, p)
	}
	wantPhases(t, f.mustUp(UpOptions{}), "network done, cluster done, apps done, registry done")
	if f.count("plan network") != 3 || len(f.asked) != 1 {
		t.Errorf("calls %v, asked %d times", f.calls, len(f.asked))
	}
}

func TestUpInterrupted(t *testing.T) {
	f := chained(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	f.hook = func(_ context.Context, call string) {
		if call == "apply network" {
			cancel(proc.ErrInterrupted)
		}
	}
	f.opts.Parallel = 1
	f.set.Stacks = f.set.Stacks[:3]
	r, err := f.driver().Up(ctx, UpOptions{Approve: f.approve})
	var interrupted *Interrupted
	if !errors.As(err, &interrupted) || !errors.Is(err, proc.ErrInterrupted) {
		t.Fatalf("got %v", err)
	}
	wantPhases(t, r, "network done, cluster skipped, apps skipped")
	if f.memory.objects["prod/latamctl.lock"] != nil {
		t.Error("the lock of the environment is still held")
	}
	f.hook, f.answer = nil, errors.New("no")
	if _, err := f.up(UpOptions{Resume: true}); !errors.Is(err, f.answer) {
		t.Errorf("got %v", err)
	}
	f.answer, f.calls = nil, nil // A run that was refused is not the one to resume.
	wantPhases(t, f.mustUp(UpOptions{Resume: true}), "network unchanged, cluster done, apps done")
	if f.count("plan network") != 0 {
		t.Error("what was finished was planned again")
	}
}

func TestResumeNothing(t *testing.T) {
	f := chained(t)
	if _, err := f.up(UpOptions{Resume: true}); err == nil || !strings.Contains(err.Error(), "leave --resume out") {
		t.Errorf("got %v", err)
	}
}

// TestUpAdopts leaves a record as a run that was killed does.
func TestUpAdopts(t *testing.T) {
	for _, end := range []error{nil, errors.New("it failed")} {
		f := newFixture(t)
		f.add("a")
		f.mustUp(UpOptions{})
		paths, err := f.proc.Glob("work/runs/*/run.json")
		if err != nil || len(paths) != 1 {
			t.Fatal(paths, err)
		}
		data, _ := f.proc.ReadFile(paths[0])
		var rec record
		if err := json.Unmarshal(data, &rec); err != nil {
			t.Fatal(err)
		}
		if rec.Ended.IsZero() || rec.Stacks["a"].Phase != Done || rec.Stacks["a"].Running == nil || !strings.HasPrefix(rec.Stacks["a"].Plan, "sha256:") {
			t.Fatalf("the record of a run: %s", data)
		}
		text := strings.Replace(string(data), `"ended"`, `"was_ended"`, 1)
		text = strings.Replace(text, `"phase": "done"`, `"phase": "applying"`, 1)
		if err := f.proc.WriteSecretFile(paths[0], []byte(text)); err != nil {
			t.Fatal(err)
		}
		rec = record{}
		if err := json.Unmarshal([]byte(text), &rec); err != nil || !rec.Ended.IsZero() {
			t.Fatalf("%v: %s", err, text)
		}
		if err := f.memory.Delete(t.Context(), "prod/a/latamctl.json", ""); err != nil {
			t.Fatal(err)
		}
		f.wait, f.calls = map[string]error{"a": end}, nil
		wantPhases(t, f.mustUp(UpOptions{Resume: true}), "a unchanged")
		if f.count("wait a") != 1 || (f.count("plan a") == 0) != (end == nil) {
			t.Errorf("an apply that ended with %v: calls %v", end, f.calls)
		}
		f.calls = nil
		f.mustUp(UpOptions{})
		if f.count("wait") != 0 {
			t.Error("it was adopted twice")
		}
	}
}

// TestUpRemovesSecretsOfAKilledRun: a kill between the end of a run and its cleaning leaves its files.
func TestUpRemovesSecretsOfAKilledRun(t *testing.T) {
	f := newFixture(t)
	f.add("a")
	f.mustUp(UpOptions{})
	paths, err := f.proc.Glob("work/runs/*/run.json")
	if err != nil || len(paths) != 1 {
		t.Fatal(paths, err)
	}
	for _, name := range []string{"a.tfvars.json", "a.tfplan"} {
		if err := f.proc.WriteSecretFile(filepath.Join(filepath.Dir(paths[0]), name), []byte("secret")); err != nil {
			t.Fatal(err)
		}
	}
	f.mustUp(UpOptions{})
	for _, pattern := range []string{"work/runs/*/*.tfvars.json", "work/runs/*/*.tfplan"} {
		if left, err := f.proc.Glob(pattern); err != nil || len(left) > 0 {
			t.Errorf("%v are left, %v", left, err)
		}
	}
}

func TestNothingStartsAfterTheEnd(t *testing.T) {
	var ran atomic.Int32
	nodes := []*node{{name: "a"}, {name: "b", needs: []string{"a"}}}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	q := queue{nodes: nodes, parallel: 2, before: func(n *node) []string { return n.needs }, run: func(context.Context, *node) error { ran.Add(1); return nil }}
	if ends := q.do(ctx); ran.Load() != 0 || ends["a"].phase != Skipped || ends["b"].phase != Skipped {
		t.Errorf("ran %d, ends %v", ran.Load(), ends)
	}
}

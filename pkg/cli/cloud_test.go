package cli

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/pkg/bucket"
	"github.com/latamctl/latamctl/pkg/plan"
	"github.com/latamctl/latamctl/pkg/stack"
	"github.com/latamctl/latamctl/pkg/stack/terraform"
)

func TestPlanCommand(t *testing.T) {
	t.Parallel()
	unchanged := &plan.Plan{Environment: "prod", Sections: []plan.Section{{Name: "network", Grade: plan.Exact}}}
	broken := &plan.Plan{Environment: "prod", Sections: []plan.Section{{Name: "network", Error: "no such region"}, {Name: "apps", Blocked: "network"}}}
	for _, tt := range []struct {
		name string
		args string
		d    *fakeDriver
		code int
		out  []string
		err  []string
	}{
		{"changes are exit 3, and no error", "plan --env prod", &fakeDriver{plan: somePlan()}, 3, []string{"- storage/google_bigtable_table", "STACK", "1 to delete"}, nil},
		{"nothing is exit 0", "plan --env prod", &fakeDriver{plan: unchanged}, 0, []string{"nothing to change"}, nil},
		{"a failed stack is exit 1", "plan --env prod", &fakeDriver{plan: broken}, 1, []string{"no such region", "waits for network"}, []string{"could not be planned: network"}},
		{"markdown", "plan --env prod --format md", &fakeDriver{plan: somePlan()}, 3, []string{"### Plan for prod", "| network |"}, nil},
		{"a bundle", "plan --env prod --out p.d", &fakeDriver{plan: somePlan()}, 3, nil, []string{"latamctl up --env prod --plan p.d"}},
		{"no terraform", "plan --env prod", nil, 7, nil, []string{"terraform is not installed", "latamctl doctor --install-terraform"}},
		{"not allowed", "plan --env prod", &fakeDriver{err: errors.Join(bucket.ErrDenied)}, 4, nil, []string{"gcloud auth application-default login", "doctor --env prod"}},
		{"no way to the bucket", "plan --env prod", &fakeDriver{err: bucket.ErrUnavailable}, 7, nil, []string{"doctor --env prod"}},
		{"this machine", "plan", &fakeDriver{}, 2, nil, []string{"environment local runs on this machine", "say --env prod or --env staging"}},
		{"format", "plan --env prod --format html", &fakeDriver{}, 2, nil, []string{`format "html" is not table or md`}},
		{"two formats", "plan --env prod --format md -o json", &fakeDriver{}, 2, nil, []string{"-o json and --format md"}},
		{"negative", "plan --env prod -j -1", &fakeDriver{}, 2, nil, []string{"not negative"}},
	} {
		r := call(t, tt.d, person{args: args(tt.args)})
		if r.code != tt.code {
			t.Errorf("%s: exit %d, want %d\n%s%s", tt.name, r.code, tt.code, r.out, r.err)
		}
		for _, want := range tt.out {
			if !strings.Contains(r.out, want) {
				t.Errorf("%s: %q is not in %s", tt.name, want, r.out)
			}
		}
		for _, want := range tt.err {
			if !strings.Contains(r.err, want) {
				t.Errorf("%s: %q is not in %s", tt.name, want, r.err)
			}
		}
		if tt.err == nil && strings.Contains(r.err, "error") {
			t.Errorf("%s: %s", tt.name, r.err)
		}
	}
}

func TestPlanOptionsReachTheDriver(t *testing.T) {
	t.Parallel()
	d := &fakeDriver{plan: harmless()}
	r := call(t, d, person{
		args: args("plan --env prod -s storage -s apps --with-deps --with-dependents --out p --destroy --no-refresh --changed -j 3 --retries 5 --lock-timeout 9m --terraform-bin tofu --stacks-dir mine --bigtable-min-nodes 2 -o json"),
		env:  map[string]string{"LATAM_NODE_MAX": "9"},
	})
	want := stack.PlanOptions{Selection: stack.Selection{Stacks: []string{"storage", "apps"}, WithDeps: true, WithDependents: true}, Bundle: "p", Destroy: true, NoRefresh: true, Changed: true}
	if d := cmp.Diff(want, d.planAsk); d != "" || r.code != 3 {
		t.Errorf("exit %d, -want +got:\n%s%s", r.code, d, r.err)
	}
	s := d.o.settings
	if d.o.parallel != 3 || d.o.retries != 5 || d.o.lockTimeout != 9*time.Minute || d.o.terraformBin != "tofu" || d.o.stacksDir != "mine" {
		t.Errorf("options %+v", d.o)
	}
	if s.Project != "my-project" || s.Region != "us-central1" || s.BigtableMaxNodes != 3 || s.BigtableMinNodes != 2 || s.NodeMax != 9 || s.DeletionProtection || s.TopicRetention != 7*24*time.Hour || !cmp.Equal(s.BudgetEmails, []string{"a@example.com", "b@example.com"}) {
		t.Errorf("settings %+v", s)
	}
	var doc plan.Document
	if err := json.Unmarshal([]byte(r.out), &doc); err != nil || doc.Schema != "latamctl.plan/v1" || !doc.Pending || doc.Counts.Create != 1 {
		t.Errorf("%v: %s", err, r.out)
	}
}

func TestDriftCommand(t *testing.T) {
	t.Parallel()
	drifted := &plan.Plan{Environment: "prod", Sections: []plan.Section{
		{Name: "network", Grade: plan.Exact, Note: "busy: held by ci"},
		{Name: "storage", Grade: plan.Exact, Drift: []plan.Change{{Address: "t.x", Action: plan.Update, Attributes: []plan.Attribute{{Path: "labels", Before: "a", After: "b"}}}}},
	}}
	r := call(t, &fakeDriver{plan: drifted}, person{args: args("drift --env prod")})
	if r.code != 3 || !strings.Contains(r.out, "labels: a -> b") || !strings.Contains(r.out, "busy: held by ci") || !strings.Contains(r.err, "latamctl up --env prod -s storage makes") {
		t.Errorf("exit %d: %s%s", r.code, r.out, r.err)
	}
	r = call(t, &fakeDriver{plan: drifted}, person{args: args("drift --env prod -o json")})
	if r.code != 3 || !strings.HasPrefix(r.out, `{"schema":"latamctl.drift/v1"`) || r.err != "" {
		t.Errorf("exit %d: %s%s", r.code, r.out, r.err)
	}
	if r = call(t, &fakeDriver{plan: &plan.Plan{Environment: "prod"}}, person{args: args("drift --env prod")}); r.code != 0 {
		t.Errorf("exit %d: %s%s", r.code, r.out, r.err)
	}
}

// TestApproval is who may say yes to what.
func TestApproval(t *testing.T) {
	t.Parallel()
	allow := []string{"--allow-delete", `storage/google_bigtable_table.table["orders"]`}
	for _, tt := range []struct {
		name     string
		who      person
		plan     *plan.Plan
		again    *plan.Plan
		code     int
		approved int
		err      string
	}{
		{"yes is typed", person{args: args("up --env prod"), input: "yes\n", terminal: true}, harmless(), nil, 0, 1, "Apply these changes to environment prod? Only 'yes' is accepted"},
		{"y is not yes", person{args: args("up --env prod"), input: "y\n", terminal: true}, harmless(), nil, 8, 0, "nothing was applied"},
		{"the end is not yes", person{args: args("up --env prod"), terminal: true}, harmless(), nil, 8, 0, "nothing was applied"},
		{"--yes", person{args: args("up --env prod --yes")}, harmless(), nil, 0, 1, ""},
		{"nobody to ask", person{args: args("up --env prod"), input: "yes\n"}, harmless(), nil, 8, 0, "say --yes"},
		{"--no-input", person{args: args("up --env prod --no-input"), input: "yes\n", terminal: true}, harmless(), nil, 8, 0, "say --yes"},
		{"CI", person{args: args("up --env prod"), input: "yes\n", terminal: true, env: map[string]string{"CI": "true"}}, harmless(), nil, 8, 0, "say --yes"},
		{"--yes does not lift the guard", person{args: args("up --env prod --yes")}, somePlan(), nil, 8, 0, `--allow-delete 'storage/google_bigtable_table.table["orders"]'`},
		{"the guard comes before the question", person{args: args("up --env prod"), input: "yes\n", terminal: true}, somePlan(), nil, 8, 0, "protected"},
		{"named", person{args: append(args("up --env prod --yes"), allow...)}, somePlan(), nil, 0, 1, ""},
		{"misspelled", person{args: args("up --env prod --yes --allow-delete tabel")}, harmless(), nil, 0, 1, "names nothing"},
		{"a bundle was read", person{args: args("up --env prod --plan p.d")}, harmless(), nil, 0, 1, ""},
		{"a bundle with losses", person{args: args("up --env prod --plan p.d --yes")}, somePlan(), nil, 8, 0, "protected"},
		{"a bundle does not say it", person{args: args("up --env prod --plan p.d --yes")}, harmless(), harmless(), 8, 1, "does not say these changes"},
		{"it turned out otherwise", person{args: args("up --env prod --yes")}, harmless(), harmless(), 0, 2, "Planned again, because"},
		{"the guard has its say again", person{args: args("up --env prod --yes")}, harmless(), somePlan(), 8, 1, "protected"},
		{"the name is typed", person{args: append(args("down --env prod"), allow...), input: "prod\n", terminal: true}, somePlan(), nil, 0, 1, "Type the name of the environment"},
		{"yes is not the name", person{args: append(args("down --env prod"), allow...), input: "yes\n", terminal: true}, somePlan(), nil, 8, 0, "nothing was deleted"},
		{"--yes is not enough", person{args: append(args("down --env prod --yes"), allow...)}, somePlan(), nil, 8, 0, "--yes and --confirm prod"},
		{"--confirm is not enough", person{args: append(args("down --env prod --confirm prod"), allow...)}, somePlan(), nil, 8, 0, "--yes and --confirm prod"},
		{"both", person{args: append(args("down --env prod --yes --confirm prod"), allow...)}, somePlan(), nil, 0, 1, ""},
		{"both, not named", person{args: args("down --env prod --yes --confirm prod")}, somePlan(), nil, 8, 0, "protected"},
		{"another name", person{args: args("down --env prod --yes --confirm staging")}, somePlan(), nil, 8, 0, "--confirm staging is not the environment"},
	} {
		d := &fakeDriver{plan: tt.plan, report: goodReport()}
		if tt.again != nil {
			d.planned = []*plan.Plan{tt.again}
		}
		r := call(t, d, tt.who)
		if r.code != tt.code || d.approved != tt.approved || !strings.Contains(r.err, tt.err) {
			t.Errorf("%s: exit %d, %d approvals, want %d, %d and %q:\n%s", tt.name, r.code, d.approved, tt.code, tt.approved, tt.err, r.err)
		}
	}
}

func TestSides(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"up --env prod --http 127.0.0.1:0":       "--http: environment prod runs on Google Cloud",
		"up --env prod --no-sample --reset":      "--no-sample, --reset: environment prod runs on Google Cloud",
		"up --resume":                            "--resume: environment local runs on this machine",
		"up --region us-east1 -s storage":        "--region, --stack: environment local runs on this machine",
		"up --env prod --plan p --resume":        "--plan applies a plan from before",
		"up --env prod --plan p -s storage":      "--plan and --stack exclude each other",
		"down":                                   "down is for environments with engine: gcp",
		"drift":                                  "drift is for environments with engine: gcp",
		"plan --env prod --events - --format md": "--events - and --format md",
	} {
		if r := call(t, &fakeDriver{}, person{args: args(line)}); r.code != 2 || !strings.Contains(r.err, want) {
			t.Errorf("%s: exit %d, want %q:\n%s", line, r.code, want, r.err)
		}
	}
}

func TestReports(t *testing.T) {
	t.Parallel()
	d := &fakeDriver{report: someReport(), err: errors.New("2 of 3 stacks are not done")}
	r := call(t, d, person{args: args("up --env prod --yes")})
	for _, want := range []string{"network  done", "storage  failed", "planned again 2 times", "waits for storage", "denied\n  second line", "log: .latamctl/runs/1/storage.apply.ndjson"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("%q is not in\n%s", want, r.out)
		}
	}
	if r.code != 1 || !strings.Contains(r.err, "2 of 3") {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
	summary := filepath.Join(t.TempDir(), "summary.md")
	d.err, d.plan = nil, harmless()
	r = call(t, d, person{args: args("up --env prod --yes -o json"), env: map[string]string{"GITHUB_STEP_SUMMARY": summary}})
	var doc reportDocument
	if err := json.Unmarshal([]byte(r.out), &doc); err != nil {
		t.Fatal(err, r.out)
	}
	if r.code != 1 || doc.OK || doc.Schema != "latamctl.up/v1" || doc.Run == "" || len(doc.Stacks) != 3 || !strings.Contains(doc.Stacks[1].Error, "403") || doc.Stacks[0].Seconds != 1.5 {
		t.Errorf("exit %d: %s", r.code, r.out)
	}
	if !strings.Contains(r.err, `"exit_code":1`) || !strings.Contains(r.err, "up --resume --env prod") {
		t.Errorf("the error does not say how to go on: %s", r.err)
	}
	md, err := os.ReadFile(summary)
	if err != nil || !strings.Contains(string(md), "### Applied to prod") || !strings.Contains(string(md), "! apply storage: Error 403") {
		t.Errorf("%v: %s", err, md)
	}
	if r := call(t, &fakeDriver{report: goodReport()}, person{args: args("up --env prod -q --yes")}); r.code != 0 || r.err != "" {
		t.Errorf("exit %d: %q", r.code, r.err)
	}
}

// TestEvents: every step is one line of JSON, and other lines say what happens elsewhere than on a terminal.
func TestEvents(t *testing.T) {
	t.Parallel()
	steps := []stack.Step{
		{Stack: "storage", Phase: stack.Applying, Done: 1, Total: 2},
		{Stack: "storage", Phase: stack.Applying, Event: &terraform.Event{Type: "apply_complete", Address: "a.b", Action: "create", Message: "a.b: Creation complete\x1b[2J", Elapsed: 3 * time.Second}},
		{Stack: "storage", Phase: stack.Broken, Err: errors.New("first\nsecond")},
	}
	file := filepath.Join(t.TempDir(), "events")
	r := call(t, &fakeDriver{plan: harmless(), report: goodReport(), steps: steps}, person{args: args("up --env prod --yes --events " + file)})
	for _, want := range []string{"storage: applying 2 changes\n", "storage: a.b: Creation complete", "storage: failed: first\n"} {
		if !strings.Contains(r.err, want) {
			t.Errorf("%q is not in %s", want, r.err)
		}
	}
	if strings.Contains(r.err, "\x1b") {
		t.Error("a message moves the cursor")
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got []stepEvent
	for line := range strings.Lines(string(b)) {
		var e stepEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Schema != "latamctl.event/v1" || e.Time == "" {
			t.Fatal(err, line)
		}
		got = append(got, e)
	}
	if len(got) != 3 || got[0].Total != 2 || got[1].Address != "a.b" || got[1].Elapsed != 3 || got[2].Error != "first\nsecond" {
		t.Errorf("events %+v", got)
	}
	r = call(t, &fakeDriver{plan: harmless(), report: goodReport(), steps: steps}, person{args: args("up --env prod --yes --events - -o json")})
	if lines := strings.Split(strings.TrimSpace(r.out), "\n"); len(lines) != 4 || !strings.Contains(lines[3], "latamctl.up/v1") {
		t.Errorf("the report is not the last line: %s", r.out)
	}
}

// TestRegionIsASetting of every command, because one environment serves them all.
func TestRegionIsASetting(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"validate --env prod", "config show --env prod --origin"} {
		if r := call(t, nil, person{args: args(line)}); r.code != 0 {
			t.Errorf("%s: exit %d: %s", line, r.code, r.err)
		}
	}
	r := call(t, nil, person{args: args("config show --env prod --origin")})
	if !strings.Contains(r.out, "us-central1") || !strings.Contains(r.out, "node_machine_type") {
		t.Errorf("settings: %s", r.out)
	}
}

func TestApproveEndsWithTheContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	a := &app{}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = errors.Join(r.Close(), w.Close()) }()
	a.proc = testProcess(r)
	cause := errors.New("interrupted")
	cancel(cause)
	if _, err := a.ask(ctx, "? "); !errors.Is(err, cause) {
		t.Errorf("the question goes on: %v", err)
	}
}

package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/plan"
	"github.com/latamctl/latamctl/pkg/proc"
	"github.com/latamctl/latamctl/pkg/stack"
	"github.com/latamctl/latamctl/pkg/stack/terraform"
)

// cloudYAML declares an environment of each kind.
const cloudYAML = `version: 1
name: shop
datasets:
  orders:
    fields: {number: {type: int64, required: true}}
    key: [number]
environments:
  staging: {engine: gcp, project: my-staging, region: us-central1}
  prod: {engine: gcp, project: my-project, region: us-central1, bigtable_max_nodes: 3, budget_emails: [a@example.com, b@example.com], deletion_protection: false, image: "r/i@sha256:00"}
`

// fakeDriver answers as it was told and notes what it was asked.
type fakeDriver struct {
	o       driveOptions
	plan    *plan.Plan
	planned []*plan.Plan // of further approvals
	report  *stack.Report
	err     error
	steps   []stack.Step
	during  func(ctx context.Context, o driveOptions) // what happens before the end

	approved int
	planAsk  stack.PlanOptions
	upAsk    stack.UpOptions
	downAsk  stack.DownOptions
}

func (d *fakeDriver) act(ctx context.Context) {
	for _, s := range d.steps {
		d.o.observe(s)
	}
	if d.during != nil {
		d.during(ctx, d.o)
	}
}

func (d *fakeDriver) Plan(ctx context.Context, o stack.PlanOptions) (*plan.Plan, error) {
	d.planAsk = o
	d.act(ctx)
	return d.plan, d.err
}

func (d *fakeDriver) Drift(ctx context.Context, o stack.Selection) (*plan.Plan, error) {
	d.planAsk.Selection = o
	d.act(ctx)
	return d.plan, d.err
}

func (d *fakeDriver) approve(ctx context.Context, ask func(context.Context, *plan.Plan) error) error {
	for _, p := range append([]*plan.Plan{d.plan}, d.planned...) {
		if p == nil {
			continue
		}
		if err := ask(ctx, p); err != nil {
			return err
		}
		d.approved++
	}
	return nil
}

func (d *fakeDriver) Up(ctx context.Context, o stack.UpOptions) (*stack.Report, error) {
	d.upAsk = o
	if err := d.approve(ctx, o.Approve); err != nil {
		return nil, err
	}
	d.act(ctx)
	return d.report, d.err
}

func (d *fakeDriver) Down(ctx context.Context, o stack.DownOptions) (*stack.Report, error) {
	d.downAsk = o
	if err := d.approve(ctx, o.Approve); err != nil {
		return nil, err
	}
	d.act(ctx)
	return d.report, d.err
}

// result is what a run of the program left behind.
type result struct {
	code     int
	out, err string
	dir      string
}

// person is how the program is called.
type person struct {
	args     []string
	env      map[string]string
	input    string
	terminal bool
}

// call runs the program in this process with a fake driver.
func call(t *testing.T, d *fakeDriver, who person) result {
	t.Helper()
	dir := t.TempDir()
	var out, errs bytes.Buffer
	p := &proc.Process{
		Args: who.args, Dir: dir, In: strings.NewReader(who.input), Out: &out, Err: &errs,
		InTerminal: who.terminal, ErrTerminal: who.terminal, Now: time.Now,
		Getenv: func(key string) (string, bool) { v, ok := who.env[key]; return v, ok },
		Exit:   func(code int) { t.Errorf("exit with %d", code) },
	}
	if err := p.WriteFile("latam.yaml", []byte(cloudYAML)); err != nil {
		t.Fatal(err)
	}
	code := mainWith(p, func(_ context.Context, o driveOptions) (driver, error) {
		if d == nil {
			return nil, terraform.ErrNotFound
		}
		d.o = o
		return d, nil
	})
	return result{code: code, out: out.String(), err: errs.String(), dir: dir}
}

func args(line string) []string { return strings.Fields(line) }

// somePlan has what a guard refuses.
func somePlan() *plan.Plan {
	return &plan.Plan{Environment: "prod", Sections: []plan.Section{
		{Name: "network", Grade: plan.Exact, Changes: []plan.Change{{Address: "google_compute_network.main", Action: plan.Create}}},
		{Name: "storage", Grade: plan.Exact, Changes: []plan.Change{{Address: `google_bigtable_table.table["orders"]`, Action: plan.Delete, Protected: true}}},
	}}
}

// harmless is a plan that only creates.
func harmless() *plan.Plan {
	p := somePlan()
	p.Sections = p.Sections[:1]
	return p
}

// someReport has one stack of each end.
func someReport() *stack.Report {
	return &stack.Report{Run: "20260103T040000Z-1", Begun: true, Outcomes: []stack.Outcome{
		{Stack: "network", Phase: stack.Done, Created: 3, Took: 1500 * time.Millisecond},
		{Stack: "storage", Phase: stack.Broken, Retries: 2, Err: errors.New("apply storage: Error 403: denied\nsecond line"), Log: ".latamctl/runs/1/storage.apply.ndjson"},
		{Stack: "apps", Phase: stack.Blocked, Blocked: "storage"},
	}}
}

func goodReport() *stack.Report {
	r := someReport()
	r.Outcomes = r.Outcomes[:1]
	return r
}

// MainWithFakeDriver is the program with a driver that applies one stack until standard input ends,
// or until it is killed.
func MainWithFakeDriver(p *proc.Process) int {
	stdin := p.In
	p.In = strings.NewReader("")
	return mainWith(p, func(_ context.Context, o driveOptions) (driver, error) {
		address := "google_bigtable_instance.main"
		begin := []stack.Step{
			{Stack: "network", Phase: stack.Done},
			{Stack: "storage", Phase: stack.Applying},
			{Stack: "storage", Phase: stack.Applying, Event: &terraform.Event{Type: "apply_start", Address: address, Message: address + ": Creating..."}},
		}
		d := &fakeDriver{o: o, plan: harmless(), report: goodReport(), steps: begin}
		d.during = func(ctx context.Context, o driveOptions) {
			finished := make(chan struct{})
			go func() {
				defer close(finished)
				_, _ = io.Copy(io.Discard, stdin)
			}()
			select {
			case <-finished:
			case <-o.kill:
				d.err = errors.New("terraform was killed")
				return
			}
			if ctx.Err() != nil {
				d.err = context.Cause(ctx)
			}
			for range 2000 { // More than any pipe holds.
				o.observe(stack.Step{Stack: "storage", Phase: stack.Applying, Event: &terraform.Event{Type: "apply_complete", Address: address, Message: address + ": Creation complete after 4m10s"}})
			}
			o.observe(stack.Step{Stack: "storage", Phase: stack.Done})
			_ = p.WriteFile(filepath.Join("finished"), []byte("yes\n"))
		}
		return d, nil
	})
}

func testProcess(in io.Reader) *proc.Process {
	return &proc.Process{In: in, Out: io.Discard, Err: io.Discard, Now: time.Now, Getenv: func(string) (string, bool) { return "", false }}
}

package stack

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	tfjson "github.com/hashicorp/terraform-json"

	"github.com/latamctl/latamctl/pkg/bucket"
	"github.com/latamctl/latamctl/pkg/plan"
	"github.com/latamctl/latamctl/pkg/proc"
	"github.com/latamctl/latamctl/pkg/stack/contract"
	"github.com/latamctl/latamctl/pkg/stack/terraform"
)

// memory is a bucket in memory.
type memory struct {
	mu      sync.Mutex
	absent  bool
	objects map[string][]byte
}

func generation(data []byte) bucket.Generation {
	return bucket.Generation(fmt.Sprintf("%x", sha256.Sum256(data)))
}

func (m *memory) Read(_ context.Context, key string) ([]byte, bucket.Generation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.absent {
		return nil, "", bucket.ErrNoBucket
	}
	data, ok := m.objects[key]
	if !ok {
		return nil, "", bucket.ErrNotExist
	}
	return data, generation(data), nil
}

func (m *memory) Write(_ context.Context, key string, data []byte, version bucket.Generation) (bucket.Generation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.absent {
		return "", bucket.ErrNoBucket
	}
	old, ok := m.objects[key]
	if version != bucket.Any && (ok != (version != "") || ok && generation(old) != version) {
		return "", bucket.ErrConflict
	}
	m.objects[key] = data
	return generation(data), nil
}

func (m *memory) Delete(_ context.Context, key string, _ bucket.Generation) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, key)
	return nil
}

func (m *memory) List(_ context.Context, prefix string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(m.objects)), func(k string) bool { return !strings.HasPrefix(k, prefix) }), nil
}

func (m *memory) URL() string { return "gs://states" }
func (m *memory) Backend(prefix string) (string, map[string]any) {
	return "gcs", map[string]any{"bucket": "states", "prefix": prefix}
}
func (m *memory) StateKey(prefix string) string { return prefix + "/default.tfstate" }
func (m *memory) LockKey(prefix string) string  { return prefix + "/default.tflock" }

// fakeStack is what a stack should have, and what it makes of it.
type fakeStack struct {
	resources []string // addresses TYPE.NAME
	outputs   map[string]string
	sensitive map[string]bool
	known     map[string]bool // outputs whose value the plan knows
	drift     []string
}

// fakeFile is the plan file of the fake.
type fakeFile struct {
	Number  int // no two plans are the same file
	Stack   string
	Serial  uint64
	Lineage string
	Local   bool
	Changes []terraform.StreamChange
	Destroy bool
}

// fault is one scripted failure of a command.
type fault struct {
	kind terraform.Kind
	done int // how many changes an apply carries out before it fails
}

// world is a scripted terraform with its world.
type world struct {
	t       *testing.T
	mu      sync.Mutex
	memory  *memory
	proc    *proc.Process
	stacks  map[string]*fakeStack
	serial  map[string]uint64
	have    map[string][]string
	faults  map[string][]fault // by command and stack, such as "apply a"
	calls   []string
	applied map[string]int // plan files, by content: none may be applied twice
	values  map[string]map[string]any
	hook    func(ctx context.Context, call string)
	wait    map[string]error // the end of programs that were left running
	changes map[string]*tfjson.Change
	flying  int
	plans   int
	most    int
}

func (w *world) fail(command, stack string, faults ...fault) {
	w.faults[command+" "+stack] = append(w.faults[command+" "+stack], faults...)
}

// enter records a call and returns the fault that it meets.
func (w *world) enter(ctx context.Context, command, stack string) *fault {
	w.mu.Lock()
	call := command + " " + stack
	w.calls = append(w.calls, call)
	hook := w.hook
	var f *fault
	if list := w.faults[call]; len(list) > 0 {
		f, w.faults[call] = &list[0], list[1:]
	}
	w.flying++
	w.most = max(w.most, w.flying)
	w.mu.Unlock()
	if hook != nil {
		hook(ctx, call)
	}
	return f
}

func (w *world) leave() { w.mu.Lock(); w.flying--; w.mu.Unlock() }

func (w *world) count(prefix string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(slices.DeleteFunc(slices.Clone(w.calls), func(c string) bool { return !strings.HasPrefix(c, prefix) }))
}

func failure(command, stack string, f *fault) error {
	return &terraform.Failure{Command: command, Stack: stack, Kind: f.kind, Output: "/log/" + stack}
}

func (w *world) Init(ctx context.Context, ws terraform.Workspace) error {
	defer w.leave()
	if f := w.enter(ctx, "init", ws.Stack); f != nil {
		return failure("init", ws.Stack, f)
	}
	return nil
}

func change(address, action string) terraform.StreamChange {
	kind, _, _ := strings.Cut(address, ".")
	return terraform.StreamChange{Address: address, Type: kind, Action: action}
}

func (w *world) Plan(ctx context.Context, ws terraform.Workspace, o terraform.PlanOptions, _ func(terraform.Event)) (*terraform.Summary, error) {
	defer w.leave()
	if f := w.enter(ctx, "plan", ws.Stack); f != nil {
		return &terraform.Summary{}, failure("plan", ws.Stack, f)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	backend, err := w.proc.ReadFile(ws.Dir + "/backend.tf.json")
	variables, err2 := w.proc.ReadFile(ws.VarFile)
	values := map[string]any{}
	if err != nil || err2 != nil || json.Unmarshal(variables, &values) != nil {
		w.t.Errorf("stack %s is not prepared: %v %v", ws.Stack, err, err2)
	}
	w.values[ws.Stack] = values
	w.plans++
	file := fakeFile{Number: w.plans, Stack: ws.Stack, Serial: w.serial[ws.Stack], Lineage: w.lineage(ws.Stack), Local: strings.Contains(string(backend), `"local"`), Destroy: o.Destroy}
	s, have := w.stacks[ws.Stack], w.have[ws.Stack]
	want := s.resources
	if o.Destroy {
		want = nil
	}
	if file.Local {
		have = nil
	}
	for _, address := range want {
		if c := w.changes[address]; c != nil && slices.Contains(have, address) {
			file.Changes = append(file.Changes, change(address, fakeAction(c)))
		} else if !slices.Contains(have, address) {
			file.Changes = append(file.Changes, change(address, "create"))
		}
	}
	for _, address := range have {
		if !slices.Contains(want, address) {
			file.Changes = append(file.Changes, change(address, "delete"))
		}
	}
	summary := &terraform.Summary{Changes: file.Changes, Outputs: map[string]terraform.OutputChange{}}
	for _, address := range s.drift {
		summary.Drift = append(summary.Drift, change(address, "update"))
	}
	old := w.stateOutputs(ws.Stack)
	for name, value := range s.outputs {
		if quoted, _ := json.Marshal(value); string(old[name]) != string(quoted) {
			c := terraform.OutputChange{Action: "create", Sensitive: s.sensitive[name]}
			if s.known[name] { // The driver must not use a sensitive one.
				c.Value = quoted
			}
			summary.Outputs[name] = c
		}
	}
	data, _ := json.Marshal(file)
	if err := w.proc.WriteSecretFile(o.Out, data); err != nil {
		w.t.Error(err)
	}
	return summary, nil
}

func fakeAction(c *tfjson.Change) string {
	if c.Actions.Replace() {
		return "replace"
	}
	return "update"
}

func (w *world) Show(ctx context.Context, ws terraform.Workspace, file string) (*tfjson.Plan, error) {
	defer w.leave()
	w.enter(ctx, "show", ws.Stack)
	w.mu.Lock()
	defer w.mu.Unlock()
	data, err := w.proc.ReadFile(file)
	var f fakeFile
	if err != nil || json.Unmarshal(data, &f) != nil {
		w.t.Errorf("show of %s: %v", ws.Stack, err)
	}
	shown := &tfjson.Plan{}
	for _, c := range f.Changes {
		rc := &tfjson.ResourceChange{Address: c.Address, Type: c.Type, Change: w.changes[c.Address]}
		if rc.Change == nil {
			rc.Change = &tfjson.Change{}
		}
		shown.ResourceChanges = append(shown.ResourceChanges, rc)
	}
	return shown, nil
}

func (w *world) Apply(ctx context.Context, ws terraform.Workspace, path string, on func(terraform.Event)) (*terraform.Summary, error) {
	defer w.leave()
	if ws.Started != nil {
		if err := ws.Started(terraform.Running{PID: 4711, Identity: "x", Command: "apply"}); err != nil {
			return nil, err
		}
	}
	fault := w.enter(ctx, "apply", ws.Stack)
	w.mu.Lock()
	defer w.mu.Unlock()
	data, err := w.proc.ReadFile(path)
	var f fakeFile
	if err != nil || json.Unmarshal(data, &f) != nil {
		w.t.Errorf("apply of %s: %v", ws.Stack, err)
	}
	if f.Local {
		w.t.Errorf("stack %s: a plan without its state was applied", ws.Stack)
	}
	if f.Serial != w.serial[ws.Stack] || f.Lineage != w.lineage(ws.Stack) {
		return nil, &terraform.Failure{Command: "apply", Stack: ws.Stack, Kind: terraform.Stale}
	}
	if w.applied[string(data)]++; w.applied[string(data)] > 1 {
		w.t.Errorf("stack %s: the same plan was applied twice", ws.Stack)
	}
	for i, c := range f.Changes {
		if fault != nil && i >= fault.done {
			break
		}
		switch c.Action {
		case "create":
			w.have[ws.Stack] = append(w.have[ws.Stack], c.Address)
		case "delete":
			w.have[ws.Stack] = slices.DeleteFunc(w.have[ws.Stack], func(a string) bool { return a == c.Address })
		default:
			delete(w.changes, c.Address)
		}
		on(terraform.Event{Type: "apply_complete", Address: c.Address, Action: c.Action})
	}
	if fault == nil || fault.done > 0 {
		w.save(ws.Stack, fault == nil && !f.Destroy)
	}
	if fault != nil {
		return nil, failure("apply", ws.Stack, fault)
	}
	return &terraform.Summary{}, nil
}

func (w *world) lineage(stack string) string {
	if w.serial[stack] == 0 {
		return ""
	}
	return "lineage-" + stack
}

func (w *world) key(stack string) string { return w.memory.StateKey("prod/" + stack) }

func (w *world) stateOutputs(stack string) map[string]json.RawMessage {
	var st struct {
		Outputs map[string]struct {
			Value json.RawMessage `json:"value"`
		} `json:"outputs"`
	}
	_ = json.Unmarshal(w.memory.objects[w.key(stack)], &st)
	out := map[string]json.RawMessage{}
	for name, o := range st.Outputs {
		out[name] = o.Value
	}
	return out
}

// save writes the state of a stack.
func (w *world) save(stack string, withOutputs bool) {
	w.serial[stack]++
	outputs, resources := map[string]any{}, []any{}
	if withOutputs {
		for name, value := range w.stacks[stack].outputs {
			outputs[name] = map[string]any{"value": value, "type": "string", "sensitive": w.stacks[stack].sensitive[name]}
		}
	}
	for _, address := range w.have[stack] {
		kind, name, _ := strings.Cut(address, ".")
		resources = append(resources, map[string]any{"mode": "managed", "type": kind, "name": name, "instances": []any{map[string]any{}}})
	}
	data, _ := json.Marshal(map[string]any{
		"version": 4, "serial": w.serial[stack], "lineage": "lineage-" + stack, "outputs": outputs, "resources": resources,
	})
	w.memory.mu.Lock()
	defer w.memory.mu.Unlock()
	w.memory.objects[w.key(stack)] = data
}

func (w *world) Alive(terraform.Running) (bool, error) { return true, nil }

func (w *world) Wait(_ context.Context, ws terraform.Workspace, _ terraform.Running, _ func(terraform.Event)) (*terraform.Summary, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, "wait "+ws.Stack)
	return nil, w.wait[ws.Stack]
}

// fixture is an environment with its driver.
type fixture struct {
	*world
	set    *contract.Set
	opts   Options
	off    map[string]string
	values map[string]any
	asked  []*plan.Plan
	answer error
}

func (f *fixture) Values(*contract.Stack) (map[string]any, error) { return maps.Clone(f.values), nil }
func (f *fixture) Off(s *contract.Stack) string                   { return f.off[s.Name] }

// add adds a stack that needs others.
func (f *fixture) add(name string, needs ...string) *contract.Stack {
	s := &contract.Stack{Name: name, Needs: needs, Files: fstest.MapFS{"main.tf": {Data: []byte("# " + name)}}}
	f.set.Stacks = append(f.set.Stacks, s)
	f.stacks[name] = &fakeStack{resources: []string{"thing." + name + "1", "thing." + name + "2"}}
	return s
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	p := &proc.Process{Dir: t.TempDir(), PID: 1, Now: time.Now, Getenv: func(string) (string, bool) { return "", false }}
	w := &world{
		t: t, memory: &memory{objects: map[string][]byte{}}, proc: p, stacks: map[string]*fakeStack{}, serial: map[string]uint64{},
		have: map[string][]string{}, faults: map[string][]fault{}, applied: map[string]int{}, values: map[string]map[string]any{},
		changes: map[string]*tfjson.Change{},
	}
	f := &fixture{world: w, set: &contract.Set{}, off: map[string]string{}, values: map[string]any{"project": "p"}}
	f.opts = Options{
		Environment: "prod", Stacks: f.set, Inputs: f, State: w.memory, Terraform: w, TerraformVersion: "1.11.4", TerraformDigest: "sha256:1",
		Dir: "work", Proc: p, Parallel: 3, RetryDelay: time.Nanosecond,
	}
	return f
}

func (f *fixture) driver() *Driver {
	f.t.Helper()
	d, err := New(f.opts)
	if err != nil {
		f.t.Fatal(err)
	}
	return d
}

func (f *fixture) approve(_ context.Context, p *plan.Plan) error {
	f.asked = append(f.asked, p)
	return f.answer
}

func (f *fixture) up(o UpOptions) (*Report, error) {
	f.t.Helper()
	o.Approve = f.approve
	return f.driver().Up(f.t.Context(), o)
}

func (f *fixture) mustUp(o UpOptions) *Report {
	f.t.Helper()
	r, err := f.up(o)
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

func (f *fixture) down(o DownOptions) (*Report, error) {
	f.t.Helper()
	o.Approve = f.approve
	return f.driver().Down(f.t.Context(), o)
}

// phases are how the stacks ended, as "a done, b failed".
func phases(r *Report) string {
	var parts []string
	for _, o := range r.Outcomes {
		text := o.Stack + " " + string(o.Phase)
		if o.Blocked != "" {
			text += " by " + o.Blocked
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

func wantPhases(t *testing.T, r *Report, want string) {
	t.Helper()
	if r == nil {
		t.Fatal("there is no report")
	}
	if got := phases(r); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

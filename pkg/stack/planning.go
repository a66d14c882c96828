package stack

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	tfjson "github.com/hashicorp/terraform-json"

	"github.com/latamctl/latamctl/pkg/plan"
	"github.com/latamctl/latamctl/pkg/stack/state"
	"github.com/latamctl/latamctl/pkg/stack/terraform"
)

// planned is what planning one node came to.
type planned struct {
	node    *node
	section plan.Section
	// file is the saved plan. It may be applied only when appliable is set.
	file      string
	appliable bool
	// ready says that the working folder is prepared for this very run.
	ready     bool
	throwaway bool
	unchanged bool // by its note: Terraform was not asked
	workspace terraform.Workspace
	digests   digests
	inputs    string // digests and the program, as one
	serial    uint64
	lineage   string
	summary   *terraform.Summary
	err       error
}

// planning is the plans of one run so far.
type planning struct {
	mu     sync.Mutex
	byName map[string]*planned
}

func newPlanning() *planning { return &planning{byName: map[string]*planned{}} }

func (p *planning) get(name string) *planned {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.byName[name]
}

func (p *planning) put(one *planned) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.byName[one.node.name] = one
}

// failed is a *Failed with the nodes that could not be planned, or nil.
func (p *planning) failed(nodes []*node) error {
	failed := &Failed{}
	for _, n := range nodes {
		if one := p.get(n.name); one.err != nil {
			failed.Stacks, failed.Errs = append(failed.Stacks, n.name), append(failed.Errs, one.err)
		}
	}
	if len(failed.Stacks) == 0 {
		return nil
	}
	return failed
}

// how are the variants of planning one stack.
type how struct {
	destroy, noRefresh bool
	// changed says whose notes may answer instead of Terraform. Nil asks Terraform about all.
	changed   func(stack string) bool
	drift     bool // without a lock, and outside changes matter
	throwaway bool // the states do not exist yet
}

// planAll plans nodes in parallel. Only those that take outputs wait for those that make them.
func (d *Driver) planAll(ctx context.Context, r *run, nodes []*node, h how) (*plan.Plan, *planning) {
	plans := newPlanning()
	upstream := plans
	if h.destroy || h.drift {
		upstream = nil // What exists is what counts.
	}
	q := queue{
		nodes: nodes, parallel: d.opts.Parallel,
		before: func(n *node) []string {
			if upstream == nil || n.off != "" {
				return nil
			}
			if n.stack == nil {
				return []string{d.opts.ManifestsCluster}
			}
			return sourcesOf(n.stack)
		},
		run: func(ctx context.Context, n *node) error {
			one := d.planNode(ctx, r, n, h, upstream)
			plans.put(one)
			return one.err
		},
	}
	for name, end := range q.do(ctx) {
		n := find(nodes, name)
		switch end.phase {
		case Blocked:
			plans.put(&planned{node: n, section: plan.Section{Name: name, Blocked: end.blocked}})
		case Skipped:
			plans.put(&planned{node: n, section: plan.Section{Name: name, Error: "not planned: the run was ended before"}, err: context.Cause(ctx)})
		}
	}
	p := &plan.Plan{Environment: d.opts.Environment, Sections: make([]plan.Section, 0, len(nodes))}
	for _, n := range nodes {
		p.Sections = append(p.Sections, plans.get(n.name).section)
	}
	return p, plans
}

func (d *Driver) planNode(ctx context.Context, r *run, n *node, h how, upstream *planning) *planned {
	begun := d.opts.Proc.Now()
	one := &planned{node: n, throwaway: h.throwaway, section: plan.Section{Name: n.name, Grade: plan.Exact}}
	switch {
	case n.off != "":
		one.section.Note = "off: " + n.off
	case n.stack == nil:
		one.err = d.planManifests(ctx, one, h, upstream)
	default:
		one.err = d.planStack(ctx, r, one, h, upstream)
	}
	one.section.Took = d.opts.Proc.Now().Sub(begun)
	if one.err != nil {
		one.section.Error = one.err.Error()
		one.appliable = false
		d.step(Step{Stack: n.name, Phase: Broken, Err: one.err})
	} else {
		d.step(Step{Stack: n.name, Phase: Planned, Message: one.section.Brief()})
	}
	return one
}

// planStack plans one stack, again after failures that may pass.
func (d *Driver) planStack(ctx context.Context, r *run, one *planned, h how, upstream *planning) error {
	for retry := 0; ; retry++ {
		err := d.planOnce(ctx, r, one, h, upstream)
		if err == nil || !isTransient(err) || retry >= d.opts.Retries {
			return d.explain(err)
		}
		d.step(Step{Stack: one.node.name, Phase: Retrying, Message: "plan again", Err: err})
		if d.pause(ctx, retry) != nil {
			return d.explain(err)
		}
	}
}

func (d *Driver) planOnce(ctx context.Context, r *run, one *planned, h how, upstream *planning) error {
	s := one.node.stack
	d.step(Step{Stack: s.Name, Phase: Preparing})
	st, over, err := d.before(ctx, one, h)
	if err != nil || over {
		return err
	}
	in, err := d.resolve(ctx, s, upstream)
	if err != nil {
		return err
	}
	one.serial, one.lineage, one.section.Grade = st.Serial, st.Lineage, in.grade
	if one.digests, err = d.digests(s, in); err != nil {
		return err
	}
	one.inputs = one.digests.inputs(d.program())
	if h.changed != nil && h.changed(s.Name) && in.grade == plan.Exact {
		if one.unchanged, err = d.sameAsApplied(ctx, one); err != nil || one.unchanged {
			one.section.Note = "unchanged since the last apply"
			return err
		}
	}
	if one.workspace, err = d.prepare(r, s, in, h.throwaway); err != nil {
		return err
	}
	if err := d.rescue(ctx, r, one); err != nil {
		return err
	}
	if err := d.opts.Terraform.Init(ctx, one.workspace); err != nil {
		return err
	}
	one.ready = !h.throwaway
	return d.planPrepared(ctx, one, h, in)
}

// before looks at what is known without Terraform; over says that there is no need to run it.
func (d *Driver) before(ctx context.Context, one *planned, h how) (st *state.State, over bool, err error) {
	name := one.node.name
	if h.throwaway {
		return &state.State{}, false, nil
	}
	if st, err = d.states.Read(ctx, name); err != nil {
		return nil, false, err
	}
	switch {
	case h.destroy && len(st.Resources) == 0:
		one.section.Note, one.appliable = "nothing to destroy", true
		return st, true, nil
	case h.drift && !st.Applied():
		one.section.Note = "not applied yet"
		return st, true, nil
	case h.drift:
		lock, err := d.states.Lock(ctx, name)
		if err != nil || lock == nil {
			return st, false, err
		}
		one.section.Note = fmt.Sprintf("busy: held by %s (%s)", lock.Who, lock.Operation)
		return st, true, nil
	}
	return st, false, nil
}

func (d *Driver) sameAsApplied(ctx context.Context, one *planned) (bool, error) {
	note, ok, err := d.states.Note(ctx, one.node.name)
	return ok && note.Inputs == one.inputs && note.Serial == one.serial && note.Lineage == one.lineage, err
}

func (d *Driver) planPrepared(ctx context.Context, one *planned, h how, in inputs) error {
	s := one.node.stack
	d.step(Step{Stack: s.Name, Phase: Planning})
	one.file = filepath.Join(one.workspace.RunDir, s.Name+".tfplan")
	o := terraform.PlanOptions{Out: one.file, Destroy: h.destroy, NoLock: h.drift, NoRefresh: h.noRefresh}
	summary, err := d.opts.Terraform.Plan(ctx, one.workspace, o, func(e terraform.Event) {
		d.step(Step{Stack: s.Name, Phase: Planning, Event: &e})
	})
	var f *terraform.Failure
	if errors.As(err, &f) && f.Kind == terraform.Invalid && in.grade == plan.Provisional {
		// A placeholder may be no certificate, address or name. What is planned later is asked about later.
		one.section.Note = "planned when these exist: " + strings.Join(in.missing, ", ")
		return nil
	}
	if err != nil {
		return err
	}
	one.summary = summary
	if err := d.fill(ctx, one, h); err != nil {
		return err
	}
	if h.throwaway {
		one.section.Grade = worse(one.section.Grade, plan.Predicted)
		one.section.Note = "planned without a state: " + d.opts.State.URL() + " does not exist yet"
	}
	if len(in.missing) > 0 {
		one.section.Note = "with placeholders for " + strings.Join(in.missing, ", ")
	}
	one.appliable = one.section.Grade == plan.Exact && !h.throwaway && !h.drift
	return nil
}

// fill turns what Terraform said into the section. It reads the plan file only when something changes.
func (d *Driver) fill(ctx context.Context, one *planned, h how) error {
	s := one.node.stack
	one.section.Changes, one.section.Drift, one.section.Outputs = nil, nil, nil
	for name, o := range one.summary.Outputs {
		if !unchangedAction(o.Action) {
			one.section.Outputs = append(one.section.Outputs, name)
		}
	}
	slices.Sort(one.section.Outputs)
	for _, c := range one.summary.Changes {
		one.section.Changes = append(one.section.Changes, changeOf(c, s.Protected))
	}
	if h.drift || !h.destroy {
		for _, c := range one.summary.Drift {
			drifted := changeOf(c, s.Protected)
			drifted.Reason = changedOutside
			if drifted.Action == plan.Delete {
				drifted.Reason = "deleted outside"
			}
			one.section.Drift = append(one.section.Drift, drifted)
		}
	}
	if len(one.section.Changes)+len(one.section.Drift) == 0 {
		return nil
	}
	shown, err := d.opts.Terraform.Show(ctx, one.workspace, one.file)
	if err != nil {
		return err
	}
	hidden := secretsOf(shown)
	detail(one.section.Changes, shown.ResourceChanges, hidden)
	detail(one.section.Drift, shown.ResourceDrift, hidden)
	one.section.Drift = slices.DeleteFunc(one.section.Drift, func(c plan.Change) bool { return saysNothing(c, shown.ResourceDrift) })
	if !h.drift {
		one.section.Note = undeletable(shown.ResourceChanges)
	}
	return nil
}

func changeOf(c terraform.StreamChange, protected []string) plan.Change {
	out := plan.Change{
		Address: c.Address, Type: c.Type, Action: plan.Action(c.Action),
		Protected: slices.Contains(protected, c.Type), Reason: strings.ReplaceAll(c.Reason, "_", " "),
	}
	switch c.Action {
	case "move":
		out.Action, out.Reason = plan.Update, "moved from "+c.PreviousAddress
	case "remove":
		out.Action = plan.Forget
	}
	return out
}

// changedOutside is the reason of a change that somebody else made.
const changedOutside = "changed outside"

// imported marks an update of an object that the same plan takes into the state.
const imported = "imported"

// detail adds what only the plan file knows.
func detail(changes []plan.Change, shown []*tfjson.ResourceChange, hidden secrets) {
	for i := range changes {
		c := &changes[i]
		for _, rc := range shown {
			if rc.Address != c.Address || rc.Change == nil || rc.DeposedKey != "" {
				continue
			}
			if c.Action == plan.Replace {
				c.Forces = forces(rc.Change)
			}
			if c.Action == plan.Replace || c.Action == plan.Update {
				c.Attributes = attributes(rc.Change, hidden)
			}
			if rc.Change.Importing != nil && c.Action == plan.Update {
				c.Reason = imported
			}
			break
		}
	}
}

// saysNothing tells whether an outside change is none: reading an object back gave the same values in
// another form, such as an empty list for a null.
func saysNothing(c plan.Change, shown []*tfjson.ResourceChange) bool {
	return c.Action == plan.Update && len(c.Attributes) == 0 && c.Reason == changedOutside &&
		slices.ContainsFunc(shown, func(rc *tfjson.ResourceChange) bool { return rc.Address == c.Address && rc.DeposedKey == "" })
}

// undeletable names the objects whose deletion the cloud will refuse.
func undeletable(shown []*tfjson.ResourceChange) string {
	var guarded []string
	for _, rc := range shown {
		if rc.Change == nil || !rc.Change.Actions.Delete() && !rc.Change.Actions.Replace() {
			continue
		}
		switch asMap(rc.Change.Before)["deletion_protection"] {
		case true, "true", "PROTECTED":
			guarded = append(guarded, rc.Address)
		}
	}
	if len(guarded) == 0 {
		return ""
	}
	return fmt.Sprintf("deletion protection is on, so the cloud will refuse to delete %s: run up with --deletion-protection=false first, with it declared as before", strings.Join(guarded, ", "))
}

// planManifests compares the manifests with the cluster.
func (d *Driver) planManifests(ctx context.Context, one *planned, h how, upstream *planning) error {
	d.step(Step{Stack: one.node.name, Phase: Planning})
	var cluster Cluster
	var err error
	if !h.throwaway {
		if cluster, err = d.cluster(ctx); err != nil {
			return err
		}
	}
	switch {
	case h.destroy && cluster.Endpoint == "":
		one.section.Note = "there is no cluster"
		return nil
	case h.drift && cluster.Endpoint == "":
		one.section.Note = "not applied yet"
		return nil
	case h.destroy:
		one.section, err = d.planManifestsDelete(ctx, cluster)
	default:
		one.section, err = d.opts.Manifests.Plan(ctx, cluster)
	}
	one.section.Name = one.node.name
	if c := upstream.get(d.opts.ManifestsCluster); c != nil && len(c.section.Changes) > 0 && one.section.Grade == plan.Exact {
		one.section.Grade = plan.Predicted
	}
	return err
}

// deletePlanner is Manifests that can say what Delete would delete.
type deletePlanner interface {
	PlanDelete(ctx context.Context, cluster Cluster) (plan.Section, error)
}

func (d *Driver) planManifestsDelete(ctx context.Context, cluster Cluster) (plan.Section, error) {
	if p, ok := d.opts.Manifests.(deletePlanner); ok {
		return p.PlanDelete(ctx, cluster)
	}
	return plan.Section{Grade: plan.Predicted, Note: "all objects of the manifests"}, nil
}

// clusterStack is the stack that makes the cluster, unless the options name another one.
const clusterStack = "cluster"

// FindCluster says how to reach the cluster that the stack cluster made, as far as there is one.
func FindCluster(ctx context.Context, states *state.States) (Cluster, error) {
	st, err := states.Read(ctx, clusterStack)
	if err != nil {
		return Cluster{}, err
	}
	return clusterOf(st)
}

// clusterOf reads the outputs endpoint and ca. The authority is PEM, or PEM in base64 as GKE gives it.
func clusterOf(st *state.State) (Cluster, error) {
	var c Cluster
	for name, to := range map[string]func(string){
		"endpoint": func(s string) { c.Endpoint = s },
		"ca": func(s string) {
			c.CA = []byte(s)
			if decoded, err := base64.StdEncoding.DecodeString(s); err == nil {
				c.CA = decoded
			}
		},
	} {
		output, ok := st.Output(name)
		if !ok || string(output.Value) == "null" {
			continue
		}
		var text string
		if err := json.Unmarshal(output.Value, &text); err != nil {
			return Cluster{}, fmt.Errorf("read output %s of the cluster: want a text: %w", name, err)
		}
		to(text)
	}
	return c, nil
}

// rescue saves a state that an earlier apply could not save, before anything else is done with the
// stack. Only a run that changes the environment does; Terraform refuses a state that is older.
func (d *Driver) rescue(ctx context.Context, r *run, one *planned) error {
	rescuer, ok := d.opts.Terraform.(rescuer)
	if !ok || one.throwaway {
		return nil
	}
	file := rescuer.Errored(one.workspace)
	if file == "" {
		return nil
	}
	if r.record == nil {
		return fmt.Errorf("plan stack %s: an earlier apply could not save its state, which is in %s; latamctl up --env %s saves it first",
			one.node.name, file, d.opts.Environment)
	}
	d.step(Step{Stack: one.node.name, Phase: Preparing, Message: "saving the state that an earlier apply could not save"})
	if err := d.opts.Terraform.Init(ctx, one.workspace); err != nil {
		return err
	}
	if err := rescuer.StatePush(ctx, one.workspace, file); err != nil {
		return fmt.Errorf("save the state of stack %s from %s: %w; look at both with terraform state pull in %s before you remove one", one.node.name, file, err, one.workspace.Dir)
	}
	st, err := d.states.Read(ctx, one.node.name)
	if err != nil {
		return err
	}
	one.serial, one.lineage = st.Serial, st.Lineage
	return nil
}

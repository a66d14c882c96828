package stack

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/latamctl/latamctl/pkg/plan"
	"github.com/latamctl/latamctl/pkg/stack/terraform"
)

// applying is one run that changes the environment.
type applying struct {
	d        *Driver
	r        *run
	guard    plan.Guard
	approve  func(ctx context.Context, p *plan.Plan) error
	failFast bool
	destroy  bool

	nodes  []*node
	planOf *plan.Plan
	plans  *planning
	asking sync.Mutex // one question at a time

	mu       sync.Mutex
	outcomes map[string]*Outcome
}

// outcome changes how a stack ended so far.
func (a *applying) outcome(stack string, f func(*Outcome)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.outcomes[stack] == nil {
		a.outcomes[stack] = &Outcome{Stack: stack, Phase: Skipped}
	}
	f(a.outcomes[stack])
}

// carryOut applies all nodes in their order.
func (a *applying) carryOut(ctx context.Context) {
	if err := a.r.record.change(func(rec *record) { rec.Begun = true }); err != nil {
		a.d.opts.Log.Warn("the beginning of the run was not recorded", "run", a.r.id, "error", err)
	}
	q := queue{
		nodes: a.nodes, parallel: a.d.opts.Parallel, failFast: a.failFast,
		before: func(n *node) []string { return n.needs },
		run: func(ctx context.Context, n *node) error {
			begun := a.d.opts.Proc.Now()
			err := a.applyNode(ctx, n)
			a.outcome(n.name, func(o *Outcome) { o.Took = a.since(begun) })
			return err
		},
		ended: a.ended,
	}
	q.do(ctx)
}

// ended records how a node ended.
func (a *applying) ended(n *node, e ending) {
	var final Outcome
	a.outcome(n.name, func(o *Outcome) {
		if e.phase != Done { // Else its own phase says whether it was done, unchanged or off.
			o.Phase = e.phase
		}
		o.Blocked, o.Err = e.blocked, e.err
		if log := outputOf(e.err); log != "" {
			o.Log = log
		}
		final = *o
	})
	err := a.r.record.stack(n.name, func(s *stackRecord) {
		s.Phase, s.Blocked, s.Ended = final.Phase, final.Blocked, a.d.opts.Proc.Now().UTC()
	})
	if err != nil {
		a.d.opts.Log.Warn("the end of a stack was not recorded", "stack", n.name, "error", err)
	}
	message := ""
	if final.Blocked != "" {
		message = "waits for " + final.Blocked + ", which failed"
	}
	a.d.step(Step{Stack: n.name, Phase: final.Phase, Message: message, Err: final.Err})
}

func (a *applying) applyNode(ctx context.Context, n *node) error {
	one := a.plans.get(n.name)
	switch {
	case one.err != nil:
		return one.err
	case one.section.Blocked != "":
		return fmt.Errorf("apply stack %s: it was not planned because %s failed", n.name, one.section.Blocked)
	case n.off != "":
		return nil
	case n.stack == nil:
		return a.applyManifests(ctx, one)
	case one.unchanged:
		a.outcome(n.name, func(o *Outcome) { o.Phase = Unchanged })
		return nil
	}
	return a.applyStack(ctx, one)
}

// applyStack applies the plan of a stack. One that is not exact is made again first; so is one whose
// apply failed for a reason that may pass, because the old file is of no use once something was done.
func (a *applying) applyStack(ctx context.Context, one *planned) error {
	approved := one.section.Changes
	moved, err := a.moved(ctx, one)
	if err != nil {
		return err
	}
	if !one.appliable || moved {
		if one, err = a.planAgain(ctx, one, &approved); err != nil {
			return err
		}
	}
	for retry := 0; ; retry++ {
		if !one.section.Pending() {
			return a.settled(ctx, one, retry > 0)
		}
		err := a.applyOnce(ctx, one)
		if err == nil {
			a.outcome(one.node.name, func(o *Outcome) { o.Phase = Done })
			a.d.remember(context.WithoutCancel(ctx), a.r.id, one.node.name, one.inputs, a.destroy)
			return nil
		}
		if !isTransient(err) || retry >= a.d.opts.Retries {
			return a.d.explain(err)
		}
		a.outcome(one.node.name, func(o *Outcome) { o.Retries++ })
		a.d.step(Step{Stack: one.node.name, Phase: Retrying, Message: "plan again", Err: err})
		if a.d.pause(ctx, retry) != nil {
			return a.d.explain(err)
		}
		if one, err = a.planAgain(ctx, one, &approved); err != nil {
			return err
		}
	}
}

// moved tells whether an exact plan was made with outputs of other stacks that are not the same any
// more. Terraform does not check that: it would apply the old values.
func (a *applying) moved(ctx context.Context, one *planned) (bool, error) {
	if a.destroy || !one.appliable || len(sourcesOf(one.node.stack)) == 0 {
		return false, nil
	}
	in, err := a.d.resolve(ctx, one.node.stack, nil)
	if err != nil {
		return false, err
	}
	now, err := a.d.digests(one.node.stack, in)
	return now.Consumed != one.digests.Consumed, err
}

// settled ends a stack that needs nothing, or nothing more.
func (a *applying) settled(ctx context.Context, one *planned, worked bool) error {
	phase := Unchanged
	if worked {
		phase = Done
	}
	a.outcome(one.node.name, func(o *Outcome) { o.Phase = phase })
	if a.destroy || len(one.section.Drift) > 0 {
		return nil // What was changed outside is not as it was applied.
	}
	if same, err := a.d.sameAsApplied(ctx, one); err == nil && !same && one.lineage != "" {
		a.d.remember(ctx, a.r.id, one.node.name, one.inputs, false)
	}
	return nil
}

// planAgain makes a plan from what exists now, and has it approved when it does more than what was.
func (a *applying) planAgain(ctx context.Context, old *planned, approved *[]plan.Change) (*planned, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	one := &planned{node: old.node, section: plan.Section{Name: old.node.name, Grade: plan.Exact}}
	var in inputs
	var err error
	if in, err = a.d.resolve(ctx, old.node.stack, nil); err != nil {
		return nil, err
	}
	if len(in.missing) > 0 {
		return nil, a.d.incomplete(old.node.name, in.missing)
	}
	if err := a.d.planStack(ctx, a.r, one, how{destroy: a.destroy}, nil); err != nil {
		return nil, err
	}
	if !one.appliable {
		return nil, fmt.Errorf("apply stack %s: its plan is %s although all that it takes exists; run the command again", one.node.name, one.section.Grade)
	}
	return one, a.approveMore(ctx, one.section, approved)
}

// approveMore asks again about a section that does more than what was approved.
func (a *applying) approveMore(ctx context.Context, s plan.Section, approved *[]plan.Change) error {
	more := beyond(*approved, s.Changes)
	if len(more) == 0 {
		return nil
	}
	err := a.ask(ctx, &plan.Plan{Environment: a.d.opts.Environment, Sections: []plan.Section{s}})
	if err == nil {
		*approved = s.Changes
		return nil
	}
	var refused *Refused
	if errors.As(err, &refused) || ctx.Err() != nil {
		return err
	}
	return &Refused{
		Doing: "apply stack " + s.Name, Cause: err,
		Why: fmt.Sprintf("its plan now has %d changes that were not approved, the first is %s %s", len(more), more[0].Action, more[0].Address),
	}
}

// beyond are the changes that go further than what was approved. An object that was to be created
// may be taken into the state instead, which does less to it.
func beyond(approved, now []plan.Change) []plan.Change {
	allowed := map[string]map[plan.Action]bool{}
	for i := range approved {
		c := &approved[i]
		if allowed[c.Address] == nil {
			allowed[c.Address] = map[plan.Action]bool{}
		}
		allowed[c.Address][c.Action] = true
	}
	var more []plan.Change
	for i := range now {
		c := now[i]
		ok := allowed[c.Address]
		if ok[c.Action] || ok[plan.Create] && (c.Action == plan.Import || c.Action == plan.Update && c.Reason == imported) {
			continue
		}
		more = append(more, c)
	}
	return more
}

// applyOnce applies the plan file of a stack, with a record of it before and after.
func (a *applying) applyOnce(ctx context.Context, one *planned) error {
	name := one.node.name
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if err := a.makeReady(ctx, one); err != nil {
		return err
	}
	digest, err := a.d.fileDigest(one.file)
	if err != nil {
		return fmt.Errorf("apply stack %s: read its plan: %w", name, err)
	}
	err = a.r.record.stack(name, func(s *stackRecord) {
		*s = stackRecord{Phase: Applying, Inputs: one.inputs, Plan: digest, Started: a.d.opts.Proc.Now().UTC()}
	})
	if err != nil {
		return err // What is not recorded is not begun.
	}
	one.workspace.Started = func(running terraform.Running) error {
		return a.r.record.stack(name, func(s *stackRecord) { s.Running = &running })
	}
	_, err = a.d.opts.Terraform.Apply(ctx, one.workspace, one.file, a.counter(one))
	return err
}

// makeReady prepares the working folder of a plan from before.
func (a *applying) makeReady(ctx context.Context, one *planned) error {
	if one.ready {
		return nil
	}
	in, err := a.d.resolve(ctx, one.node.stack, nil)
	if err != nil {
		return err
	}
	a.d.step(Step{Stack: one.node.name, Phase: Preparing})
	if one.workspace, err = a.d.prepare(a.r, one.node.stack, in, false); err != nil {
		return err
	}
	if err := a.d.opts.Terraform.Init(ctx, one.workspace); err != nil {
		return err
	}
	one.ready = true
	return nil
}

// counter follows the events of an apply.
func (a *applying) counter(one *planned) func(terraform.Event) {
	total := 0
	for i := range one.section.Changes {
		switch one.section.Changes[i].Action {
		case plan.Replace:
			total += 2
		case plan.Create, plan.Update, plan.Delete:
			total++
		}
	}
	done := 0
	a.d.step(Step{Stack: one.node.name, Phase: Applying, Total: total})
	return func(e terraform.Event) {
		if e.Type == "apply_complete" {
			a.outcome(one.node.name, func(o *Outcome) {
				switch e.Action {
				case string(plan.Create):
					o.Created++
				case string(plan.Update):
					o.Changed++
				case string(plan.Delete):
					o.Deleted++
				default:
					return
				}
				done++
			})
		}
		a.d.step(Step{Stack: one.node.name, Phase: Applying, Event: &e, Done: done, Total: max(total, done)})
	}
}

// applyManifests applies the manifests, or deletes them, with what the cluster has now.
func (a *applying) applyManifests(ctx context.Context, one *planned) error {
	name := one.node.name
	cluster, err := a.d.cluster(ctx)
	if err != nil {
		return err
	}
	if cluster.Endpoint == "" {
		if a.destroy {
			a.outcome(name, func(o *Outcome) { o.Phase = Unchanged })
			return nil
		}
		return fmt.Errorf("apply the manifests: there is no cluster yet; apply it first: latamctl up --env %s -s %s", a.d.opts.Environment, a.d.opts.ManifestsCluster)
	}
	say := func(message string) { a.d.step(Step{Stack: name, Phase: Applying, Message: message}) }
	var done plan.Section
	if a.destroy {
		a.d.step(Step{Stack: name, Phase: Applying})
		done, err = a.d.opts.Manifests.Delete(ctx, cluster, say)
	} else {
		section, planErr := a.d.opts.Manifests.Plan(ctx, cluster)
		if planErr != nil {
			return planErr
		}
		section.Name = name
		if !section.Pending() {
			a.outcome(name, func(o *Outcome) { o.Phase = Unchanged })
			return nil
		}
		approved := one.section.Changes
		if err := a.approveMore(ctx, section, &approved); err != nil {
			return err
		}
		a.d.step(Step{Stack: name, Phase: Applying, Total: len(section.Changes)})
		done, err = a.d.opts.Manifests.Apply(ctx, cluster, say)
	}
	counts := done.Counts()
	a.outcome(name, func(o *Outcome) {
		o.Created, o.Changed, o.Deleted = counts.Create+counts.Replace, counts.Update, counts.Delete+counts.Replace
		o.Phase = Done
	})
	return err
}

// report is how the run ended, in the order of its nodes.
func (a *applying) report() *Report {
	report := &Report{Run: a.r.id, Begun: a.r.record.begun(), Plan: a.planOf, Outcomes: make([]Outcome, 0, len(a.nodes))}
	for _, n := range a.nodes {
		a.outcome(n.name, func(o *Outcome) { report.Outcomes = append(report.Outcomes, *o) })
	}
	return report
}

func (a *applying) interrupted(ctx context.Context) error {
	command := "up --resume"
	switch {
	case a.destroy:
		command = "down"
	case !a.r.record.begun():
		command = "up"
	}
	return &Interrupted{Run: a.r.id, Hint: fmt.Sprintf("latamctl %s --env %s goes on", command, a.d.opts.Environment), Cause: context.Cause(ctx)}
}

// verdict is the error of the whole run.
func (a *applying) verdict(ctx context.Context) error {
	failed := &Failed{}
	unfinished, lost := false, false
	for _, n := range a.nodes {
		a.outcome(n.name, func(o *Outcome) {
			switch o.Phase {
			case Broken:
				failed.Stacks, failed.Errs = append(failed.Stacks, n.name), append(failed.Errs, o.Err)
				unfinished, lost = true, lost || isLost(o.Err)
			case Stopped:
				unfinished = true
			case Blocked, Skipped:
				unfinished = unfinished || n.off == ""
			}
		})
	}
	switch {
	case ctx.Err() != nil && unfinished && !lost:
		return a.interrupted(ctx)
	case len(failed.Stacks) > 0:
		return failed
	}
	return nil
}

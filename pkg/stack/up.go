package stack

import (
	"context"
	"errors"
	"time"

	"github.com/latamctl/latamctl/pkg/plan"
)

// Up makes the environment match its declaration: it plans, asks once, and applies what was
// approved. The report says how each stack ended, and is there as soon as a run has begun. The error
// is a *Failed when stacks failed, *Refused, *StaleBundle, *LockedError or *Interrupted, what Approve
// returned, or another that ended the whole run.
func (d *Driver) Up(ctx context.Context, o UpOptions) (*Report, error) {
	if o.Approve == nil {
		return nil, errors.New("options of up: Approve must be set")
	}
	exists, err := d.hasState(ctx)
	if err != nil {
		return nil, err
	}
	r, err := d.newRun()
	if err != nil {
		return nil, err
	}
	defer d.clean(r)
	a := &applying{d: d, r: r, guard: plan.Guard{Allow: o.AllowDelete}, approve: o.Approve, failFast: o.FailFast, outcomes: map[string]*Outcome{}}
	if exists {
		locked, release, err := d.lock(ctx, r, "up")
		if err != nil {
			return nil, err
		}
		defer release()
		ctx = locked
	}
	h := how{throwaway: !exists}
	if err := a.begin(ctx, &o, &h); err != nil {
		return nil, err
	}
	defer r.record.end()
	if err := a.plan(ctx, o, h); err != nil {
		return a.report(), err
	}
	defer d.killOnDemand(a.nodes)()
	if ctx.Err() != nil {
		return a.report(), a.interrupted(ctx)
	}
	if a.nothing() {
		a.carryOut(ctx) // It only notes that all is as declared.
		return a.report(), a.verdict(ctx)
	}
	if err := a.ask(ctx, a.planOf); err != nil {
		return a.report(), err
	}
	if !exists {
		locked, release, err := a.createState(ctx)
		if err != nil {
			return a.report(), err
		}
		defer release()
		ctx = locked
	}
	a.carryOut(ctx)
	return a.report(), a.verdict(ctx)
}

// begin opens the record, takes over what killed runs left, and finds what to resume.
func (a *applying) begin(ctx context.Context, o *UpOptions, h *how) error {
	if o.Resume {
		last, err := a.d.lastUp(a.r.id)
		if err != nil {
			return err
		}
		o.Selection = last.Selection
		// The record is read again below, when runs that were killed have been taken over.
		h.changed = func(stack string) bool {
			s := last.Stacks[stack]
			return s != nil && (s.Phase == Done || s.Phase == Unchanged || s.Phase == Applying)
		}
	}
	var err error
	if a.r.record, err = a.d.openJournal(a.r, "up", o.Selection); err != nil {
		return err
	}
	if h.throwaway {
		return nil
	}
	if err := a.d.adopt(ctx, a.r); err != nil {
		a.r.record.end()
		return err
	}
	return nil
}

// plan plans everything, or reads a plan from before.
func (a *applying) plan(ctx context.Context, o UpOptions, h how) error {
	var err error
	if o.Bundle != "" {
		a.planOf, a.plans, a.nodes, err = a.d.readBundle(ctx, a.r, o.Bundle)
		return err
	}
	if a.nodes, err = a.d.choose(o.Selection); err != nil {
		return err
	}
	stop := a.d.killOnDemand(a.nodes)
	defer stop()
	a.planOf, a.plans = a.d.planAll(ctx, a.r, a.nodes, h)
	return nil
}

// createState makes the place of the states after the approval, and takes its lock.
func (a *applying) createState(ctx context.Context) (context.Context, func(), error) {
	a.d.step(Step{Phase: Preparing, Message: "creating " + a.d.opts.State.URL() + " for the states"})
	if err := a.d.opts.CreateState(ctx); err != nil {
		return nil, nil, err
	}
	return a.d.lock(ctx, a.r, "up")
}

// nothing tells whether an apply would do nothing at all.
func (a *applying) nothing() bool {
	for i := range a.planOf.Sections {
		s := &a.planOf.Sections[i]
		if s.Pending() || s.Grade == plan.Provisional && !s.Failed() {
			return false
		}
	}
	return true
}

// ask lets the guard and then the person say whether a plan may be carried out.
func (a *applying) ask(ctx context.Context, p *plan.Plan) error {
	a.asking.Lock()
	defer a.asking.Unlock()
	if err := a.guard.Check(p); err != nil {
		return &Refused{Doing: a.doing(), Why: "it would lose what is protected", Cause: err, Hint: "if that is meant, name each with --allow-delete"}
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	return a.approve(ctx, p)
}

func (a *applying) doing() string {
	if a.destroy {
		return "destroy environment " + a.d.opts.Environment
	}
	return "apply to environment " + a.d.opts.Environment
}

func (a *applying) since(t time.Time) time.Duration { return a.d.opts.Proc.Now().Sub(t) }

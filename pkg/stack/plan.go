package stack

import (
	"context"
	"errors"

	"github.com/latamctl/latamctl/pkg/plan"
)

// Plan says what would change. Stacks that cannot be planned have an error in their section, and the
// error is a *Failed with all of them; the plan is there all the same.
func (d *Driver) Plan(ctx context.Context, o PlanOptions) (*plan.Plan, error) {
	if o.Destroy && o.Bundle != "" {
		return nil, errors.New("plan to destroy: such a plan is not saved; latamctl down plans, asks and destroys")
	}
	nodes, notes, err := d.planNodes(ctx, o)
	if err != nil {
		return nil, err
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
	defer d.killOnDemand(nodes)()
	h := how{destroy: o.Destroy, noRefresh: o.NoRefresh, throwaway: !exists}
	if o.Changed {
		h.changed = func(string) bool { return true }
	}
	p, plans := d.planAll(ctx, r, nodes, h)
	p.Sections = append(p.Sections, notes...)
	if ctx.Err() != nil {
		return p, &Interrupted{Run: r.id, Hint: "plan again", Cause: context.Cause(ctx)}
	}
	if o.Bundle != "" {
		if err := d.writeBundle(r, o.Bundle, p, plans, nodes); err != nil {
			return p, err
		}
	}
	return p, plans.failed(nodes)
}

func (d *Driver) planNodes(ctx context.Context, o PlanOptions) ([]*node, []plan.Section, error) {
	if !o.Destroy {
		nodes, err := d.choose(o.Selection)
		return nodes, nil, err
	}
	nodes, stay, err := d.chooseDown(ctx, DownOptions{Selection: o.Selection})
	return reversed(nodes), stay, err
}

// Drift says what was changed outside, and what of the declaration was not applied. It locks nothing.
// Its errors are those of Plan.
func (d *Driver) Drift(ctx context.Context, s Selection) (*plan.Plan, error) {
	nodes, err := d.choose(s)
	if err != nil {
		return nil, err
	}
	r, err := d.newRun()
	if err != nil {
		return nil, err
	}
	defer d.clean(r)
	defer d.killOnDemand(nodes)()
	p, plans := d.planAll(ctx, r, nodes, how{drift: true})
	if ctx.Err() != nil {
		return p, &Interrupted{Run: r.id, Hint: "look again", Cause: context.Cause(ctx)}
	}
	return p, plans.failed(nodes)
}

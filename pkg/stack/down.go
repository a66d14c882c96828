package stack

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/latamctl/latamctl/pkg/plan"
)

// Down destroys stacks in reverse order. Its errors are those of Up.
func (d *Driver) Down(ctx context.Context, o DownOptions) (*Report, error) {
	if o.Approve == nil {
		return nil, errors.New("options of down: Approve must be set")
	}
	exists, err := d.hasState(ctx)
	if err != nil {
		return nil, err
	}
	if !exists {
		return nil, fmt.Errorf("destroy environment %s: there is nothing: %s does not exist", d.opts.Environment, d.opts.State.URL())
	}
	r, err := d.newRun()
	if err != nil {
		return nil, err
	}
	defer d.clean(r)
	ctx, release, err := d.lock(ctx, r, "down")
	if err != nil {
		return nil, err
	}
	defer release()
	if r.record, err = d.openJournal(r, "down", o.Selection); err != nil {
		return nil, err
	}
	defer r.record.end()
	if err := d.adopt(ctx, r); err != nil {
		return nil, err
	}
	a := &applying{d: d, r: r, guard: plan.Guard{Allow: o.AllowDelete}, approve: o.Approve, destroy: true, outcomes: map[string]*Outcome{}}
	nodes, kept, err := d.chooseDown(ctx, o)
	if err != nil {
		return nil, err
	}
	a.nodes = reversed(nodes)
	defer d.killOnDemand(a.nodes)()
	a.planOf, a.plans = d.planAll(ctx, r, a.nodes, how{destroy: true})
	a.planOf.Sections = append(a.planOf.Sections, kept...)
	if ctx.Err() != nil {
		return a.report(), a.interrupted(ctx)
	}
	if !a.nothingToDestroy() {
		if err := a.ask(ctx, a.planOf); err != nil {
			return a.report(), err
		}
	}
	a.carryOut(ctx)
	return a.report(), a.verdict(ctx)
}

// nothingToDestroy tells whether no section deletes anything. Manifests that cannot say what they
// would delete are predicted.
func (a *applying) nothingToDestroy() bool {
	return !slices.ContainsFunc(a.planOf.Sections, func(s plan.Section) bool {
		return s.Pending() || s.Name == ManifestsName && s.Grade == plan.Predicted
	})
}

// chooseDown returns the nodes to destroy, in the order of their creation, and a section for each
// stack that stays. Stacks that something which stays still needs are refused, or stay as well when
// nobody named them.
func (d *Driver) chooseDown(ctx context.Context, o DownOptions) (nodes []*node, stay []plan.Section, err error) {
	all := d.allNodes()
	if nodes, err = d.chosenForDown(all, o); err != nil {
		return nil, nil, err
	}
	why := map[string]string{}
	for _, n := range nodes {
		if n.stack != nil && n.stack.Keep && !slices.Contains(o.IncludeKept, n.name) {
			why[n.name] = "stays: name it with --include-kept " + n.name + " to destroy it"
		}
	}
	leaves := func(name string) bool { return has(nodes, name) && why[name] == "" }
	// From the last to the first, so that what stays keeps all that it needs.
	for _, n := range slices.Backward(all) {
		if !leaves(n.name) {
			continue
		}
		user, err := d.userOf(ctx, n, all, leaves)
		if err != nil {
			return nil, nil, err
		}
		if user == "" {
			continue
		}
		if err := refuseNeeded(o, n.name, user, why[user] != ""); err != nil {
			return nil, nil, err
		}
		why[n.name] = "stays: " + user + " needs it"
	}
	for _, n := range nodes {
		if why[n.name] != "" {
			stay = append(stay, plan.Section{Name: n.name, Grade: plan.Exact, Note: why[n.name]})
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(n *node) bool {
		// The manifests go with what they run on.
		ground := n.stack == nil && (leaves(d.opts.ManifestsAfter) || leaves(d.opts.ManifestsCluster))
		return !leaves(n.name) && !ground
	}), stay, nil
}

// chosenForDown are the nodes that were asked for, with those that need them when they go too.
func (d *Driver) chosenForDown(all []*node, o DownOptions) ([]*node, error) {
	for _, name := range o.IncludeKept {
		if !has(all, name) {
			return nil, &NoStackError{Name: name, Stacks: names(all)}
		}
	}
	nodes, err := d.choose(o.Selection)
	if err != nil || !o.Cascade {
		return nodes, err
	}
	return slices.DeleteFunc(slices.Clone(all), func(n *node) bool {
		return !has(nodes, n.name) && !slices.ContainsFunc(n.needs, func(need string) bool { return has(nodes, need) })
	}), nil
}

// refuseNeeded refuses to destroy a stack that was named while another one that stays needs it.
func refuseNeeded(o DownOptions, name, user string, kept bool) error {
	doing := "destroy stack " + name
	switch {
	case len(o.Stacks) > 0 && !kept:
		return &Refused{Doing: doing, Why: "stack " + user + " needs it and still has resources", Hint: "destroy that first, or both with --cascade"}
	case slices.Contains(o.Stacks, name):
		return &Refused{Doing: doing, Why: "stack " + user + " needs it and is kept", Hint: "add --include-kept " + user + " if that is to go too"}
	}
	return nil
}

// userOf returns a stack that stays, needs the node and has resources, or "".
func (d *Driver) userOf(ctx context.Context, n *node, all []*node, leaves func(name string) bool) (string, error) {
	for _, user := range all {
		if user.stack == nil || leaves(user.name) || !slices.Contains(user.needs, n.name) {
			continue
		}
		st, err := d.states.Read(ctx, user.name)
		if err != nil {
			return "", err
		}
		if len(st.Resources) > 0 {
			return user.name, nil
		}
	}
	return "", nil
}

// reversed are nodes in the order of their destruction: each waits for those that needed it. A stack that is off may still have resources from before.
func reversed(nodes []*node) []*node {
	out := make([]*node, 0, len(nodes))
	for _, n := range slices.Backward(nodes) {
		r := &node{name: n.name, stack: n.stack}
		if n.stack == nil {
			r.off = n.off // Manifests that are off cannot be deleted either: nobody has rendered them.
		}
		for _, user := range nodes {
			if slices.Contains(user.needs, n.name) {
				r.needs = append(r.needs, user.name)
			}
		}
		out = append(out, r)
	}
	return out
}

package stack

import (
	"slices"

	"github.com/latamctl/latamctl/pkg/stack/contract"
)

// ManifestsName is the name of the section with the Kubernetes manifests.
const ManifestsName = "kubernetes"

// node is one stack, or the manifests, in the order of an environment.
type node struct {
	name  string
	stack *contract.Stack // nil for the manifests
	needs []string        // all nodes that must come before it, also those in between
	off   string          // why it is left out, or empty
}

// nodes are all nodes of the environment, in an order in which they can be applied.
func (d *Driver) allNodes() []*node {
	var nodes []*node
	wanted := d.opts.Manifests != nil || d.opts.ManifestsOff != ""
	placed := false
	manifests := func() {
		n := &node{name: ManifestsName, off: d.opts.ManifestsOff}
		for _, need := range nodes {
			if need.name == d.opts.ManifestsAfter || need.name == d.opts.ManifestsCluster {
				n.needs = union(union(n.needs, need.needs), []string{need.name})
			}
		}
		nodes, placed = append(nodes, n), true
	}
	for _, s := range d.opts.Stacks.Stacks {
		n := &node{name: s.Name, stack: s, off: d.opts.Inputs.Off(s)}
		for _, before := range nodes {
			if slices.Contains(s.Needs, before.name) {
				n.needs = union(union(n.needs, before.needs), []string{before.name})
			}
		}
		nodes = append(nodes, n)
		// The cluster may stand after the stack that the manifests wait for.
		if wanted && !placed && has(nodes, d.opts.ManifestsAfter) && d.placed(nodes, d.opts.ManifestsCluster) {
			manifests()
		}
	}
	if wanted && !placed {
		manifests()
	}
	return nodes
}

// placed tells whether a stack stands in the nodes so far, or nowhere.
func (d *Driver) placed(nodes []*node, name string) bool {
	return has(nodes, name) || !slices.ContainsFunc(d.opts.Stacks.Stacks, func(s *contract.Stack) bool { return s.Name == name })
}

func has(nodes []*node, name string) bool { return find(nodes, name) != nil }

func find(nodes []*node, name string) *node {
	for _, n := range nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

func union(a, b []string) []string {
	for _, s := range b {
		if !slices.Contains(a, s) {
			a = append(a, s)
		}
	}
	return a
}

func names(nodes []*node) []string {
	out := make([]string, len(nodes))
	for i, n := range nodes {
		out[i] = n.name
	}
	return out
}

// choose returns the nodes of a selection, in their order.
func (d *Driver) choose(s Selection) ([]*node, error) {
	all := d.allNodes()
	if len(s.Stacks) == 0 {
		return all, nil
	}
	for _, name := range s.Stacks {
		if !has(all, name) {
			return nil, &NoStackError{Name: name, Stacks: names(all)}
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(n *node) bool {
		return !slices.ContainsFunc(s.Stacks, func(name string) bool {
			chosen := find(all, name)
			return n == chosen || s.WithDeps && slices.Contains(chosen.needs, n.name) || s.WithDependents && slices.Contains(n.needs, name)
		})
	}), nil
}

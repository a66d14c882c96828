package stack

import (
	"context"
	"slices"

	"github.com/latamctl/latamctl/pkg/stack/terraform"
)

// ending is how one node of a queue ended.
type ending struct {
	phase   Phase  // Done, Broken, Stopped, Blocked or Skipped
	blocked string // the node that failed, when the phase is Blocked
	err     error
}

// queue runs something for every node, those first that others wait for.
type queue struct {
	nodes []*node
	// parallel is how many stacks are worked on at once. The manifests run no program, so they take
	// no slot of it.
	parallel int
	failFast bool
	// before are the nodes that a node waits for; those that are not in nodes are taken for done.
	before func(*node) []string
	// run does the work of one node.
	run func(context.Context, *node) error
	// ended is told of every node that did not run, and of those that did after they have. May be nil.
	ended func(*node, ending)
}

// do runs all nodes and returns how each ended, by name. A node that fails blocks those that wait
// for it, and no others. Nothing new is started once the context has ended.
func (q queue) do(ctx context.Context) map[string]ending {
	ends := make(map[string]ending, len(q.nodes))
	end := func(n *node, e ending) {
		ends[n.name] = e
		if q.ended != nil {
			q.ended(n, e)
		}
	}
	type result struct {
		n   *node
		err error
	}
	results := make(chan result)
	running, programs, failed := 0, 0, false
	waiting := q.longestChainFirst()
	for {
		stop := ctx.Err() != nil || failed && q.failFast
		waiting = slices.DeleteFunc(waiting, func(n *node) bool {
			ready, e := q.look(n, ends)
			switch {
			case e.phase != "":
				end(n, e)
			case stop:
				end(n, ending{phase: Skipped})
			case !ready || programs+n.programs() > q.parallel:
				return false
			default:
				running++
				programs += n.programs()
				go func() { results <- result{n, q.run(ctx, n)} }()
			}
			return true
		})
		if running == 0 {
			if len(waiting) == 0 {
				return ends
			}
			continue // What was found blocked blocks others.
		}
		r := <-results
		running--
		programs -= r.n.programs()
		switch {
		case r.err != nil && ctx.Err() != nil && terraform.KindOf(r.err) == terraform.Interrupted:
			end(r.n, ending{phase: Stopped, err: r.err})
		case r.err != nil:
			failed = true
			end(r.n, ending{phase: Broken, err: r.err})
		default:
			end(r.n, ending{phase: Done})
		}
	}
}

// programs is how many terraform programs the work of a node runs at a time.
func (n *node) programs() int {
	if n.stack == nil {
		return 0
	}
	return 1
}

// longestChainFirst sorts the nodes by how long the chain is that waits for them, and keeps their
// order else. A node waits only for nodes that stand before it.
func (q queue) longestChainFirst() []*node {
	depth := make(map[string]int, len(q.nodes))
	for _, n := range slices.Backward(q.nodes) {
		for _, before := range q.before(n) {
			depth[before] = max(depth[before], depth[n.name]+1)
		}
	}
	sorted := slices.Clone(q.nodes)
	slices.SortStableFunc(sorted, func(a, b *node) int { return depth[b.name] - depth[a.name] })
	return sorted
}

// look tells whether a node can start, or how it has ended without having started.
func (q queue) look(n *node, ends map[string]ending) (ready bool, e ending) {
	ready = true
	skipped := false
	for _, name := range q.before(n) {
		if !has(q.nodes, name) {
			continue
		}
		before, over := ends[name]
		switch {
		case !over:
			ready = false
		case before.phase == Broken:
			return false, ending{phase: Blocked, blocked: name}
		case before.phase == Blocked:
			return false, ending{phase: Blocked, blocked: before.blocked}
		case before.phase == Skipped, before.phase == Stopped:
			skipped = true
		}
	}
	if ready && skipped {
		return false, ending{phase: Skipped}
	}
	return ready, ending{}
}

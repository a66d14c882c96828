package stack

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestLongestChainFirst(t *testing.T) {
	f := newFixture(t)
	f.add("a")
	f.add("b")
	f.add("c", "b")
	var order []string
	q := queue{nodes: f.driver().allNodes(), parallel: 1, before: func(n *node) []string { return n.needs }, run: func(_ context.Context, n *node) error { order = append(order, n.name); return nil }}
	q.do(t.Context())
	if !slices.Equal(order, []string{"b", "a", "c"}) {
		t.Errorf("ran in the order %v", order)
	}
}

// TestManifestsTakeNoSlot has the manifests wait for a stack that runs beside them.
func TestManifestsTakeNoSlot(t *testing.T) {
	f := newFixture(t)
	f.add("cluster")
	f.add("apps", "cluster")
	f.add("gateway")
	f.opts.Manifests = &objects{}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	running := make(chan struct{})
	q := queue{
		nodes: f.driver().allNodes(), parallel: 1, before: func(n *node) []string {
			if n.stack == nil {
				return []string{"cluster"}
			}
			return nil
		},
		run: func(ctx context.Context, n *node) error {
			switch n.name {
			case ManifestsName:
				close(running)
			case "apps":
				select {
				case <-running:
				case <-ctx.Done():
					return errors.New("the manifests were not begun while a stack ran")
				}
			}
			return nil
		},
	}
	for name, end := range q.do(ctx) {
		if end.err != nil {
			t.Errorf("%s: %v", name, end.err)
		}
	}
}

// TestPlanningOrder has the stacks first whose outputs others take, however many are applied before them.
func TestPlanningOrder(t *testing.T) {
	f := chained(t)
	f.opts.Parallel = 1
	if _, err := f.driver().Plan(t.Context(), PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, call := range f.calls {
		if name, ok := strings.CutPrefix(call, "plan "); ok {
			order = append(order, name)
		}
	}
	if !slices.Equal(order, []string{"cluster", "network", "apps", "registry"}) {
		t.Errorf("planned in the order %v", order)
	}
}

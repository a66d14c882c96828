package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/latamctl/latamctl/pkg/plan"
)

// errNoCluster is the answer to writing where nothing is.
var errNoCluster = errors.New("there is no cluster yet: apply the stack cluster first")

// Apply makes the cluster match and waits for nothing: the section is what it changed, complete or
// not. It compares everything first and changes nothing when something has to be refused; applying
// again goes on where it was interrupted. While a release is at work it is a HeldError. on is told about each change, and may be nil.
func (m *Manifests) Apply(ctx context.Context, cluster Cluster, on func(message string)) (plan.Section, error) {
	start := time.Now()
	if !m.exists(cluster) {
		return section(plan.Exact, nil, start), fmt.Errorf("apply the Kubernetes objects: %w", errNoCluster)
	}
	c, err := m.connect(cluster)
	if err != nil {
		return section(plan.Exact, nil, start), err
	}
	p, steps, err := m.steps(ctx, c)
	if err != nil {
		return section(plan.Exact, nil, start), err
	}
	if pending(steps) && p.namespaces[m.opts.Values.Name] {
		lock := m.newLease(c, m.opts.Holder)
		if ctx, err = lock.hold(ctx); err != nil {
			return section(plan.Exact, nil, start), fmt.Errorf("apply the Kubernetes objects: %w", err)
		}
		defer lock.let(ctx, false)
		if p, steps, err = m.steps(ctx, c); err != nil { // A release may have ended in between.
			return section(plan.Exact, nil, start), err
		}
	}
	done, err := p.run(ctx, steps, on)
	return section(plan.Exact, done, start), err
}

func pending(steps []step) bool {
	return slices.ContainsFunc(steps, func(s step) bool { return s.change != nil })
}

// run does the steps in order, and returns those that were done.
func (p *planner) run(ctx context.Context, steps []step, on func(string)) (done []step, err error) {
	past := map[plan.Action]string{plan.Create: "created ", plan.Update: "updated ", plan.Delete: "deleted "}
	for _, s := range steps {
		if s.change == nil {
			continue
		}
		if err := ctx.Err(); err != nil {
			return done, fmt.Errorf("apply the Kubernetes objects: stopped before %s: %w", s.change.Address, err)
		}
		if err := p.do(ctx, s); err != nil {
			return done, scrub(err, s.object)
		}
		done = append(done, s)
		if on != nil {
			on(past[s.change.Action] + s.change.Address)
		}
	}
	return done, nil
}

// attempts is how often an object is compared again because it changed in between.
const attempts = 3

func (p *planner) do(ctx context.Context, s step) error {
	switch {
	case s.object == nil:
		return p.c.remove(ctx, s.live)
	case s.once:
		return p.c.create(ctx, s.object)
	}
	for attempt := 1; ; attempt++ {
		_, err := p.c.apply(ctx, s.object, false, s.force)
		if declared := conflictsOf(err, address(s.object)); len(declared) > 0 {
			return &ConflictError{Conflicts: declared}
		}
		if !apierrors.IsConflict(err) || attempt == attempts {
			return err
		}
		s.object.SetResourceVersion("")
		if s, err = p.one(ctx, s.object); err != nil {
			return err
		}
		if err := p.refusals(); err != nil {
			return err
		}
	}
}

// create makes an object unless it is there by now.
func (c *client) create(ctx context.Context, o *unstructured.Unstructured) error {
	in, err := c.on(ctx, o.GroupVersionKind(), o.GetNamespace())
	if err != nil {
		return err
	}
	return c.try(ctx, "create "+address(o), func(ctx context.Context) error {
		_, err := in.Create(ctx, o, metav1.CreateOptions{FieldManager: manager, FieldValidation: metav1.FieldValidationStrict})
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	})
}

// PlanDelete says what Delete would remove.
func (m *Manifests) PlanDelete(ctx context.Context, cluster Cluster) (plan.Section, error) {
	start := time.Now()
	_, steps, err := m.deletions(ctx, cluster)
	return section(plan.Exact, steps, start), err
}

// Delete removes what Apply made: objects in our namespace with our labels, our secrets, and the
// namespace itself when nobody else has anything in it. The namespace of the Datadog Agent stays.
func (m *Manifests) Delete(ctx context.Context, cluster Cluster, on func(message string)) (plan.Section, error) {
	start := time.Now()
	p, steps, err := m.deletions(ctx, cluster)
	if err != nil {
		return section(plan.Exact, nil, start), err
	}
	done, err := p.run(ctx, steps, on)
	return section(plan.Exact, done, start), err
}

func (m *Manifests) deletions(ctx context.Context, cluster Cluster) (*planner, []step, error) {
	p := &planner{m: m, namespaces: map[string]bool{}}
	if !m.exists(cluster) {
		return p, nil, nil
	}
	var err error
	if p.c, err = m.connect(cluster); err != nil {
		return p, nil, err
	}
	name := m.opts.Values.Name
	ns, err := p.c.get(ctx, namespaceKind(), "", name)
	if err != nil {
		return p, nil, err
	}
	p.namespaces[name] = ns != nil
	all, err := p.owned(ctx)
	if err != nil {
		return p, nil, err
	}
	for _, other := range []struct {
		kind            schema.GroupVersionKind
		namespace, name string
	}{
		{secretKind(), name, cursorSecret}, {secretKind(), m.opts.DatadogNamespace, m.opts.DatadogSecret},
		{secretKind(), m.opts.DatadogNamespace, tokenSecret}, {leaseKind(), name, leaseName},
	} {
		live, err := p.c.get(ctx, other.kind, other.namespace, other.name)
		if err != nil {
			return p, nil, err
		}
		if live != nil && m.ours(live) {
			all = append(all, live)
		}
	}
	if ns != nil && m.ours(ns) {
		others, err := p.others(ctx, all)
		if err != nil {
			return p, nil, err
		}
		if others == "" {
			all = append(all, ns)
		} else {
			m.opts.Log.Info("the namespace stays", "namespace", name, "because_of", others)
		}
	}
	var steps []step
	for _, o := range all {
		steps = append(steps, step{live: o, change: change(o, plan.Delete)})
	}
	return p, steps, nil
}

// others names something in our namespace that is not ours and that nobody's controller made; "" is
// nothing. A namespace takes everything in it along.
func (p *planner) others(ctx context.Context, ours []*unstructured.Unstructured) (string, error) {
	mine := map[string]bool{}
	for _, o := range ours {
		mine[address(o)] = true
	}
	kinds := append(ownKinds(), secretKind(), schema.GroupVersionKind{Version: "v1", Kind: "Pod"}, schema.GroupVersionKind{Version: "v1", Kind: "PersistentVolumeClaim"})
	for _, kind := range []string{"StatefulSet", "DaemonSet", "ReplicaSet"} {
		kinds = append(kinds, schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: kind})
	}
	for _, kind := range []string{"Job", "CronJob"} {
		kinds = append(kinds, schema.GroupVersionKind{Group: "batch", Version: "v1", Kind: kind})
	}
	for _, gvk := range kinds {
		items, err := p.c.list(ctx, gvk, p.m.opts.Values.Name, "")
		if err != nil {
			return "", err
		}
		i := slices.IndexFunc(items, func(o unstructured.Unstructured) bool {
			o.SetGroupVersionKind(gvk)
			byKubernetes := gvk.Kind == "ConfigMap" && o.GetName() == "kube-root-ca.crt" || gvk.Kind == "ServiceAccount" && o.GetName() == "default"
			return !mine[address(&o)] && !byKubernetes && metav1.GetControllerOfNoCopy(&o) == nil && o.GetDeletionTimestamp() == nil
		})
		if i >= 0 {
			return gvk.Kind + "/" + items[i].GetName(), nil
		}
	}
	return "", nil
}

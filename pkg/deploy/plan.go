package deploy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/latamctl/latamctl/pkg/plan"
)

// step is one object with what happens to it.
type step struct {
	object *unstructured.Unstructured // what is applied; nil when live is deleted
	live   *unstructured.Unstructured // nil when there is none yet
	change *plan.Change               // nil when it stays as it is
	// outside says that somebody edited what we declare; force takes it back, or over.
	outside, force bool
	once           bool // it is created when it is missing and never changed
}

// Plan says what Apply would change, and changes nothing. Objects that were changed outside are in
// the section's Drift too. Without a cluster everything is created, and the grade is provisional.
// Errors are MissingAPIError, ForeignError, ConflictError, ErrDenied and ErrUnavailable.
func (m *Manifests) Plan(ctx context.Context, cluster Cluster) (plan.Section, error) {
	start := time.Now()
	if !m.exists(cluster) {
		steps, err := m.fresh()
		return section(plan.Provisional, steps, start), err
	}
	c, err := m.connect(cluster)
	if err != nil {
		return section(plan.Exact, nil, start), err
	}
	p, steps, err := m.steps(ctx, c)
	s := section(plan.Exact, steps, start)
	s.Note = p.note()
	return s, err
}

// section shows steps as a section of a plan.
func section(grade plan.Grade, steps []step, start time.Time) plan.Section {
	s := plan.Section{Name: SectionName, Grade: grade, Took: time.Since(start)}
	for _, step := range steps {
		if step.change == nil {
			continue
		}
		s.Changes = append(s.Changes, *step.change)
		if step.outside {
			s.Drift = append(s.Drift, *step.change)
		}
	}
	return s
}

// change describes what happens to an object.
func change(o *unstructured.Unstructured, action plan.Action) *plan.Change {
	return &plan.Change{Address: address(o), Type: o.GetKind(), Action: action}
}

// fresh are the steps for a cluster that does not exist yet.
func (m *Manifests) fresh() ([]step, error) {
	objects, err := Render(m.opts.Base, m.opts.Values)
	if err != nil {
		return nil, err
	}
	var steps []step
	for _, o := range slices.Concat(objects, m.datadogNamespace(), m.secrets()) {
		steps = append(steps, step{object: o, change: change(o, plan.Create)})
	}
	return steps, nil
}

// planner compares the objects with a cluster.
type planner struct {
	m *Manifests
	c *client
	// namespaces are those that exist.
	namespaces map[string]bool
	// live is the colour that gets the requests.
	live string
	// lagMissing tells that ScaleOnLag is set, and the cluster does not have what it takes.
	lagMissing bool
	// scaled are the Deployments that an autoscaler counts the pods of.
	scaled map[string]bool

	mu        sync.Mutex
	foreign   []string
	conflicts []Conflict
	released  map[string][]string // the images that releases put in place of the declared one, with their Deployments
}

// steps compares everything. They are in the order in which they are done: what others refer to is
// made first and removed last.
func (m *Manifests) steps(ctx context.Context, c *client) (*planner, []step, error) {
	p := &planner{m: m, c: c, namespaces: map[string]bool{}, scaled: map[string]bool{}, released: map[string][]string{}}
	objects, err := p.render(ctx)
	if err != nil {
		return p, nil, err
	}
	if err := p.checkAPIs(ctx, objects); err != nil {
		return p, nil, err
	}
	for _, name := range []string{m.opts.Values.Name, m.opts.DatadogNamespace} {
		ns, err := c.get(ctx, namespaceKind(), "", name)
		if err != nil {
			return p, nil, err
		}
		p.namespaces[name] = ns != nil
	}
	steps, err := p.compare(ctx, objects)
	if err != nil {
		return p, nil, err
	}
	secrets, err := p.secretSteps(ctx)
	if err != nil {
		return p, nil, err
	}
	pruned, err := p.prune(ctx, objects)
	if err != nil {
		return p, nil, err
	}
	// The secrets come after the namespace and before the pods that read them.
	at := slices.IndexFunc(steps, func(s step) bool { return rank(s.object.GetKind()) > rank("Secret") })
	return p, slices.Concat(steps[:at], secrets, steps[at:], pruned), p.refusals()
}

func namespaceKind() schema.GroupVersionKind {
	return schema.GroupVersionKind{Version: "v1", Kind: "Namespace"}
}

// render makes the objects with the colour that is live in the cluster.
func (p *planner) render(ctx context.Context) ([]*unstructured.Unstructured, error) {
	v := p.m.opts.Values
	service, err := p.c.get(ctx, schema.GroupVersionKind{Version: "v1", Kind: "Service"}, v.Name, "serve")
	if err != nil {
		return nil, err
	}
	if service != nil {
		colour, _, _ := unstructured.NestedString(service.Object, "spec", "selector", labelColour)
		if colour == Blue || colour == Green {
			v.Live = colour
		}
	}
	p.live = v.Live
	if v.ScaleOnLag, err = p.lagIsTold(ctx); err != nil {
		return nil, err
	}
	objects, err := Render(p.m.opts.Base, v)
	for _, o := range objects {
		if o.GetKind() == "HorizontalPodAutoscaler" {
			target, _, _ := unstructured.NestedString(o.Object, "spec", "scaleTargetRef", "name")
			p.scaled[target] = true
		}
	}
	return objects, err
}

// lagIsTold says whether the autoscaler of ingest gets its metric of Datadog. Its kind comes with the
// Agent, which may be applied after this or not at all, and the rest must not wait for it: without
// the metric the autoscaler has CPU and memory.
func (p *planner) lagIsTold(ctx context.Context) (bool, error) {
	if !p.m.opts.Values.ScaleOnLag {
		return false, nil
	}
	_, found, err := p.c.resource(ctx, metricKind())
	p.lagMissing = !found
	return found, err
}

// note is what a reader of the plan should know besides.
func (p *planner) note() string {
	released := p.releasedNote()
	if !p.lagMissing {
		return released
	}
	const missing = "ingest does not scale on its lag yet: the cluster has no DatadogMetric, which the stack observability brings; then plan again"
	if released == "" {
		return missing
	}
	return released + "; " + missing
}

// checkAPIs finds kinds that the cluster does not have before anything is sent.
func (p *planner) checkAPIs(ctx context.Context, objects []*unstructured.Unstructured) error {
	missing := map[string]string{}
	for _, o := range objects {
		gvk := o.GroupVersionKind()
		_, found, err := p.c.resource(ctx, gvk)
		if err != nil {
			return err
		}
		if gv := gvk.GroupVersion().String(); !found && missing[gv] == "" {
			missing[gv] = gvk.Kind
		} else if !found {
			missing[gv] += ", " + gvk.Kind
		}
	}
	if len(missing) == 0 {
		return nil
	}
	e := &MissingAPIError{}
	for _, gv := range slices.Sorted(maps.Keys(missing)) {
		e.APIs = append(e.APIs, gv+" ("+missing[gv]+")")
	}
	return e
}

// compare asks for the objects, a few at a time.
func (p *planner) compare(ctx context.Context, objects []*unstructured.Unstructured) ([]step, error) {
	steps := make([]step, len(objects))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(p.m.opts.Parallel)
	for i, o := range objects {
		g.Go(func() (err error) {
			steps[i], err = p.one(ctx, o)
			return err
		})
	}
	return steps, g.Wait()
}

// one compares an object with the cluster.
func (p *planner) one(ctx context.Context, o *unstructured.Unstructured) (step, error) {
	s := step{object: o}
	var err error
	if s.live, err = p.c.get(ctx, o.GroupVersionKind(), o.GetNamespace(), o.GetName()); err != nil {
		return s, err
	}
	if s.live == nil {
		s.change = change(o, plan.Create)
		if ns := o.GetNamespace(); ns == "" || p.namespaces[ns] { // In a namespace that is missing, no dry run is possible.
			_, err = p.c.apply(ctx, o, true, false)
		}
		return s, err
	}
	if !p.m.ours(s.live) && !p.m.opts.TakeOver {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.foreign = append(p.foreign, address(o))
		return s, nil
	}
	if o.GetKind() == "Deployment" {
		if p.scaled[o.GetName()] {
			settleReplicas(o, s.live)
		}
		p.settleImage(o, s.live)
	}
	return p.update(ctx, s)
}

// update finds out what an apply would change in an object that exists.
func (p *planner) update(ctx context.Context, s step) (step, error) {
	s.force = p.m.opts.TakeOver
	result, err := p.c.apply(ctx, s.object, true, s.force)
	outside := conflictsOf(err, address(s.object))
	if len(outside) > 0 {
		if declared := declaredElsewhere(outside, s.live); len(declared) > 0 {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.conflicts = append(p.conflicts, declared...)
			return s, nil
		}
		// Somebody edited it. It is taken back, as long as it is what was looked at here.
		s.outside, s.force = true, true
		s.object.SetResourceVersion(s.live.GetResourceVersion())
		result, err = p.c.apply(ctx, s.object, true, true)
	}
	if err != nil {
		return s, err
	}
	attributes := diff(s.live, result)
	if len(attributes) > 0 {
		s.change = change(s.object, plan.Update)
		s.change.Attributes = attributes
		if s.outside {
			s.change.Reason = "changed outside by " + managersOf(outside)
		}
	}
	return s, nil
}

// ours tells whether an object was made for this environment.
func (m *Manifests) ours(o *unstructured.Unstructured) bool {
	labels := o.GetLabels()
	return labels[labelManagedBy] == manager && labels[labelPartOf] == m.opts.Values.Name
}

func (m *Manifests) selector() string {
	return labelManagedBy + "=" + manager + "," + labelPartOf + "=" + m.opts.Values.Name
}

// refusals are the reasons not to apply anything.
func (p *planner) refusals() error {
	var errs []error
	if len(p.foreign) > 0 {
		slices.Sort(p.foreign)
		errs = append(errs, &ForeignError{Addresses: p.foreign})
	}
	if len(p.conflicts) > 0 {
		slices.SortFunc(p.conflicts, func(a, b Conflict) int { return compareText(a.Address+a.Field, b.Address+b.Field) })
		errs = append(errs, &ConflictError{Conflicts: p.conflicts})
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("plan the Kubernetes objects of %s: %w", p.m.opts.Values.Environment, err)
	}
	return nil
}

// prune finds our objects that are no longer rendered, the last to be made first.
func (p *planner) prune(ctx context.Context, objects []*unstructured.Unstructured) ([]step, error) {
	rendered := map[string]bool{}
	for _, o := range objects {
		rendered[address(o)] = true
	}
	all, err := p.owned(ctx)
	if err != nil {
		return nil, err
	}
	used, err := p.configMapsInUse(ctx)
	if err != nil {
		return nil, err
	}
	var steps []step
	for _, o := range all {
		if rendered[address(o)] || o.GetKind() == "ConfigMap" && used[o.GetName()] {
			continue
		}
		s := step{live: o, change: change(o, plan.Delete)}
		s.change.Reason = "no longer among the objects"
		steps = append(steps, s)
	}
	return steps, nil
}

// owned lists our objects in our namespace, the last to be made first. What a controller made of
// them bears our labels as well, and goes with its owner.
func (p *planner) owned(ctx context.Context) ([]*unstructured.Unstructured, error) {
	if !p.namespaces[p.m.opts.Values.Name] {
		return nil, nil
	}
	var all []*unstructured.Unstructured
	for _, gvk := range ownKinds() {
		items, err := p.c.list(ctx, gvk, p.m.opts.Values.Name, p.m.selector())
		if err != nil {
			return nil, err
		}
		for i := range items {
			o := &items[i]
			if metav1.GetControllerOfNoCopy(o) == nil && o.GetDeletionTimestamp() == nil && p.m.ours(o) {
				o.SetGroupVersionKind(gvk)
				all = append(all, o)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b *unstructured.Unstructured) int {
		if d := rank(b.GetKind()) - rank(a.GetKind()); d != 0 {
			return d
		}
		return compareText(address(a), address(b))
	})
	return all, nil
}

// configMapsInUse are those that a ReplicaSet of ours names: pods of an earlier release may still be
// started, by a rollout that is not finished or one that is undone.
func (p *planner) configMapsInUse(ctx context.Context) (map[string]bool, error) {
	sets, err := p.c.list(ctx, schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "ReplicaSet"}, p.m.opts.Values.Name, p.m.selector())
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, set := range sets {
		volumes, _, _ := unstructured.NestedSlice(set.Object, "spec", "template", "spec", "volumes")
		containers, _, _ := unstructured.NestedSlice(set.Object, "spec", "template", "spec", "containers")
		collect(used, volumes, "configMap")
		for _, c := range containers {
			if c, ok := c.(map[string]any); ok {
				from, _, _ := unstructured.NestedSlice(c, "envFrom")
				collect(used, from, "configMapRef")
			}
		}
	}
	return used, nil
}

// collect takes the names under a key of each element.
func collect(names map[string]bool, list []any, key string) {
	for _, item := range list {
		if item, ok := item.(map[string]any); ok {
			if name, _, _ := unstructured.NestedString(item, key, "name"); name != "" {
				names[name] = true
			}
		}
	}
}

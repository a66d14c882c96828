package monitor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/plan"
)

// PlanOptions say what is planned.
type PlanOptions struct {
	// Prune plans to delete what is of the stack and not declared any more.
	Prune bool
	// Names limits the plan to objects by their name, or kind.name, and to what they need that does not exist.
	Names []string
	// Validate asks Datadog about the content of the monitors that are made or changed.
	Validate bool
	// ExpectExisting is how many objects the stack has at least; with fewer the plan is refused. Zero
	// says that none are expected, so that an empty list is believed. Nil says nothing.
	ExpectExisting *int
	// made are the ids that the run under way made; of these it mends what another sync made too.
	made map[string]bool
}

// The reasons that a plan gives.
const (
	reasonDeclared  = "declaration changed"
	reasonOutside   = "changed outside"
	reasonConflict  = "conflict: changed here and outside"
	reasonMark      = "the mark is out of date"
	reasonStale     = "not declared any more"
	reasonLeft      = "left over from a replacement"
	reasonTwice     = "another sync had made it already"
	reasonReference = "what it names has a new id"
)

// step is one object with what happens to it.
type step struct {
	key    declare.Key
	action plan.Action
	reason string
	object *declare.Object // nil when it is deleted
	live   *found          // nil when it is made, and for metrics
	metric *Live           // of a metric that is configured
	// want is what is sent, with marks and references. sum is the digest of it without marks.
	want       map[string]any
	sum        string
	attributes []plan.Attribute
	// outside are the differences to what was applied, of an object that somebody edited.
	outside  []plan.Attribute
	conflict bool
	// waits are the objects that it names and that do not exist yet.
	waits []declare.Key
	level int
}

// Planned is a plan with what it takes to carry it out.
type Planned struct {
	Plan *plan.Plan
	// Owned is how many objects the stack has at Datadog, without metrics.
	Owned int
	steps []*step
	inv   *inventory
	// ids are those of the declared objects that exist.
	ids     map[declare.Key]string
	options PlanOptions
}

// Pending tells whether a sync would do something.
func (p *Planned) Pending() bool { return len(p.steps) > 0 }

// Conflicts are the objects that were changed both here and outside.
func (p *Planned) Conflicts() []declare.Key {
	var keys []declare.Key
	for _, st := range p.steps {
		if st.conflict {
			keys = append(keys, st.key)
		}
	}
	return keys
}

// Plan compares Datadog with what is declared, and changes nothing. A *Refusal says that what Datadog
// answers cannot be relied on. Declared monitors that Datadog would not take are *Rejected, all of them joined.
func (s *Syncer) Plan(ctx context.Context, o PlanOptions) (*Planned, error) {
	start := s.o.Now()
	inv, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	p, err := s.decide(inv, o)
	if err != nil {
		return nil, err
	}
	if err := s.believe(p); err != nil {
		return nil, err
	}
	stale := s.stale(inv)
	if err := s.narrow(p, o.Names, stale); err != nil {
		return nil, err
	}
	if o.Validate {
		if err := s.validate(ctx, p); err != nil {
			return nil, err
		}
	}
	p.Plan = s.render(p, stale, s.o.Now().Sub(start))
	return p, nil
}

// decide makes the steps, in the order in which they are done.
func (s *Syncer) decide(inv *inventory, o PlanOptions) (*Planned, error) {
	p := &Planned{inv: inv, options: o, ids: map[declare.Key]string{}}
	for _, list := range inv.objects {
		p.Owned += len(list)
	}
	levels := levelsOf(s.o.Set)
	var errs []error
	replaced := map[declare.Key]bool{}
	byKey := map[declare.Key]*step{}
	var left []*step
	more := s.repeated(inv)
	for _, object := range s.o.Set.Objects {
		st, leftovers, err := s.step(inv, object, o.made)
		if again := (*doubled)(nil); errors.As(err, &again) {
			more = append(more, again)
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		st.level = levels[object.Key]
		byKey[object.Key] = st
		replaced[object.Key] = st.action == plan.Create || st.action == plan.Replace
		if st.live != nil {
			p.ids[object.Key] = st.live.live.ID
		}
		left = append(left, st.beside(leftovers, o.made)...)
	}
	if len(more) > 0 {
		errs = append(errs, s.refuse(more...))
	}
	for _, object := range s.o.Set.Objects {
		st := byKey[object.Key]
		if st == nil {
			continue
		}
		st.follow(replaced, p.ids)
		if st.action != "" {
			p.steps = append(p.steps, st)
		}
	}
	p.steps = append(p.steps, left...)
	if o.Prune {
		p.steps = append(p.steps, s.stale(inv)...)
	}
	slices.SortStableFunc(p.steps, order)
	return p, errors.Join(errs...)
}

// beside are the steps that delete what stands beside the object of a step.
func (st *step) beside(left []*found, made map[string]bool) []*step {
	steps := make([]*step, len(left))
	for i, f := range left {
		steps[i] = &step{key: st.key, action: plan.Delete, reason: reasonLeft, live: f, level: st.level}
		if made[f.live.ID] {
			steps[i].reason = reasonTwice
		}
	}
	return steps
}

// order is how steps are done: by level, deletions last and in reverse.
func order(x, y *step) int {
	xGoes, yGoes := x.action == plan.Delete, y.action == plan.Delete
	switch {
	case xGoes != yGoes && xGoes:
		return 1
	case xGoes != yGoes:
		return -1
	case x.level != y.level && xGoes:
		return y.level - x.level
	case x.level != y.level:
		return x.level - y.level
	}
	return compareKeys(x.key, y.key)
}

// step compares one object. Its action is empty when it stays as it is.
func (s *Syncer) step(inv *inventory, object *declare.Object, made map[string]bool) (*step, []*found, error) {
	if object.Key.Kind == declare.Metric {
		return metricStep(inv, object), nil, nil
	}
	if stray := strayReference(object.Key.Kind, object.Payload); stray != "" {
		return nil, nil, fmt.Errorf("%s: %s %s: %s stands where Datadog has no id, so it would never be filled in", place(object.File, object.At), object.Key.Kind, object.Key.Name, stray)
	}
	f, left, err := inv.one(object.Key, object)
	if again := (*doubled)(nil); made != nil && errors.As(err, &again) {
		if first, own, ok := again.own(made); ok {
			f, left, err = first, own, nil
		}
	}
	if err != nil {
		return nil, nil, err
	}
	normal := normalise(object.Key.Kind, object.Payload)
	st := &step{key: object.Key, object: object, live: f, sum: digest(object.Key.Kind, normal)}
	st.want = sign(object.Payload, s.stack, mark{key: object.Key, hash: st.sum})
	if f == nil {
		st.action, st.attributes = plan.Create, differences(nil, normal)
		return st, left, nil
	}
	inv.explain(f, object)
	st.attributes = differences(f.normal, normal)
	st.classify(normal)
	if st.action != "" && kindOf(object.Key.Kind, f.live.Payload) != kindOf(object.Key.Kind, object.Payload) {
		st.action = plan.Replace
	}
	return st, left, nil
}

// classify tells by three hashes who changed an object: what is declared, what was applied, and what
// Datadog has now.
func (st *step) classify(normal map[string]any) {
	declared, applied, live := st.sum, st.live.hash, st.live.sum
	switch {
	case declared == live && applied == declared:
	case declared == live:
		st.action, st.reason = plan.Update, reasonMark
	case !current(applied), live == applied:
		st.action, st.reason = plan.Update, reasonDeclared
	case declared == applied:
		st.action, st.reason = plan.Update, reasonOutside
		st.outside = differences(normal, st.live.normal)
	default:
		st.action, st.reason, st.conflict = plan.Update, reasonConflict, true
	}
}

// follow lets an object be updated when one that it names gets another id.
func (st *step) follow(fresh map[declare.Key]bool, ids map[declare.Key]string) {
	if st.object == nil || st.key.Kind == declare.Metric {
		return
	}
	for _, ref := range references(st.key.Kind, st.object.Payload) {
		if fresh[ref] || ids[ref] == "" {
			st.waits = append(st.waits, ref)
		}
	}
	if st.action != "" {
		return
	}
	for _, ref := range st.waits {
		st.attributes = append(st.attributes, plan.Attribute{Path: "id of " + ref.String(), Before: ids[ref], Unknown: true})
	}
	if len(st.waits) == 0 {
		// The objects exist, and this one may still name those that they took the place of.
		resolved, _ := resolve(st.key.Kind, st.object.Payload, ids)
		st.attributes = differences(normalise(st.key.Kind, st.live.live.Payload), normalise(st.key.Kind, resolved))
	}
	if len(st.attributes) > 0 {
		st.action, st.reason = plan.Update, reasonReference
	}
}

// metricStep compares how a metric is kept. It is the whole organisation's, so nothing is ever taken away.
func metricStep(inv *inventory, object *declare.Object) *step {
	normal := normalise(declare.Metric, object.Payload)
	st := &step{key: object.Key, object: object, want: object.Payload, sum: digest(declare.Metric, normal)}
	live, ok := inv.metrics[metricName(object)]
	if !ok {
		st.action, st.attributes = plan.Create, differences(nil, normal)
		return st
	}
	st.metric = &live
	was := normalise(declare.Metric, live.Payload)
	union := wordSet(append(slices.Clone(wordSet(was["tags"], all)), wordSet(normal["tags"], all)...), all)
	st.want = map[string]any{"metric": metricName(object), "include_percentiles": true, "tags": union}
	if object.Payload["include_percentiles"] != true {
		st.want["include_percentiles"] = was["include_percentiles"] == true
	}
	st.attributes = differences(pick(was, "include_percentiles", "tags"), normalise(declare.Metric, pick(st.want, "include_percentiles", "tags")))
	if len(st.attributes) > 0 {
		st.action, st.reason = plan.Update, "percentiles or tags are missing"
	}
	return st
}

// levelsOf gives each declared object the level at which it is made: after all that it names, and after the
// kinds before it. Objects of one level know nothing of each other.
func levelsOf(set *declare.Set) map[declare.Key]int {
	refs := map[declare.Key][]declare.Key{}
	for _, o := range set.Objects {
		refs[o.Key] = references(o.Key.Kind, o.Payload)
	}
	return levels(refs)
}

func levels(refs map[declare.Key][]declare.Key) map[declare.Key]int {
	const ofDashboards = 100 // Far more than composites of composites need.
	out := map[declare.Key]int{}
	var of func(key declare.Key) int
	of = func(key declare.Key) int {
		if level, ok := out[key]; ok {
			return level
		}
		level := 0
		switch {
		case key.Kind == declare.Dashboard:
			level = ofDashboards
		case key.Kind == declare.SLO:
			level = 2
		case key.Kind == declare.Monitor && len(refs[key]) > 0:
			level = 3
		case key.Kind == declare.Monitor:
			level = 1
		}
		out[key] = level // Before what it names, so that a circle has an end.
		for _, ref := range refs[key] {
			if _, known := refs[ref]; known {
				level = max(level, of(ref)+1)
			}
		}
		out[key] = level
		return level
	}
	for _, key := range slices.SortedFunc(maps.Keys(refs), compareKeys) {
		of(key)
	}
	return out
}

package monitor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/latamctl/latamctl/pkg/monitor/datadog"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/plan"
	"github.com/latamctl/latamctl/pkg/strictyaml"
)

// render shows the steps.
func (s *Syncer) render(p *Planned, stale []*step, took time.Duration) *plan.Plan {
	out := &plan.Plan{Environment: s.o.Set.Environment, Noun: "kind"}
	for _, kind := range declare.Kinds() {
		section := plan.Section{Name: sectionName(kind), Grade: plan.Exact}
		conflicts, forgotten := 0, 0
		for _, st := range p.steps {
			if st.key.Kind != kind {
				continue
			}
			change := plan.Change{Address: st.key.Name, Type: string(kind), Action: st.action, Attributes: st.attributes, Reason: st.reason}
			if st.action == plan.Replace {
				change.Forces = []string{"type"}
			}
			section.Changes = append(section.Changes, change)
			if st.outside != nil {
				change.Attributes = st.outside
				section.Drift = append(section.Drift, change)
			}
			if len(st.waits) > 0 {
				section.Grade = plan.Predicted
			}
			if st.conflict {
				conflicts++
			}
		}
		for _, st := range stale {
			if st.key.Kind == kind {
				forgotten++
			}
		}
		section.Note = note(conflicts, forgotten, p.options.Prune)
		if kind == declare.Metric {
			section.Took = took
		}
		out.Sections = append(out.Sections, section)
	}
	return out
}

// note is what a plan remarks about a kind beside the changes.
func note(conflicts, forgotten int, prune bool) string {
	var parts []string
	if conflicts > 0 {
		parts = append(parts, fmt.Sprintf("changed here and at Datadog: %d (sync wants --take)", conflicts))
	}
	if forgotten > 0 && !prune {
		parts = append(parts, fmt.Sprintf("not declared any more: %d (sync --prune deletes them)", forgotten))
	}
	return strings.Join(parts, "; ")
}

// Offline is the plan for a Datadog that has nothing of the stack; nobody is asked.
func Offline(set *declare.Set) *plan.Plan {
	s := New(Options{Set: set})
	inv, _ := take(nil, set.Stack)
	p, err := s.decide(inv, PlanOptions{})
	out := s.render(p, nil, 0)
	if err != nil {
		out.Sections[0].Error = err.Error()
	}
	return out
}

// narrow keeps the steps of some names, and what they need.
func (s *Syncer) narrow(p *Planned, wanted []string, stale []*step) error {
	if len(wanted) == 0 {
		return nil
	}
	keep := map[declare.Key]bool{}
	for _, name := range wanted {
		keys := s.named(name, stale)
		if len(keys) == 0 {
			return s.unknown(name)
		}
		for _, key := range keys {
			keep[key] = true
		}
	}
	for grown := true; grown; {
		grown = false
		for _, st := range p.steps {
			for _, ref := range st.waits {
				if keep[st.key] && !keep[ref] {
					keep[ref], grown = true, true
				}
			}
		}
	}
	p.steps = slices.DeleteFunc(p.steps, func(st *step) bool { return !keep[st.key] })
	return nil
}

// named are the objects of a name or kind.name, declared or not declared any more.
func (s *Syncer) named(name string, stale []*step) []declare.Key {
	var keys []declare.Key
	is := func(k declare.Key) bool { return k.Name == name || k.String() == strings.ToLower(name) }
	for _, o := range s.o.Set.Objects {
		if is(o.Key) {
			keys = append(keys, o.Key)
		}
	}
	for _, st := range stale {
		if is(st.key) {
			keys = append(keys, st.key)
		}
	}
	return keys
}

// unknown is the error for a name that nothing has.
func (s *Syncer) unknown(name string) error {
	candidates := make([]string, 0, len(s.o.Set.Objects))
	for _, o := range s.o.Set.Objects {
		candidates = append(candidates, o.Key.Name)
	}
	text := fmt.Sprintf("nothing of %s is called %s", s.stack, strictyaml.Quote(name))
	if near := strictyaml.Nearest(name, candidates); near != "" {
		text += fmt.Sprintf("; did you mean %s?", near)
	}
	return &UnknownName{Name: name, text: text}
}

// UnknownName says that an object was asked for which is neither declared nor at Datadog.
type UnknownName struct{ Name, text string }

func (u *UnknownName) Error() string { return u.text }

// believe refuses a plan that would make again what Datadog probably has: a list came back empty
// although objects exist that are only ever made after the ones of that list.
func (s *Syncer) believe(p *Planned) error {
	expected := p.options.ExpectExisting
	if expected != nil && p.Owned < *expected {
		return refusef(fmt.Sprintf("if they are gone, --expect-existing %d makes the rest again", p.Owned),
			"Datadog answers %s of %s, and at least %d should exist", quantity(p.Owned, "object", "objects"), s.stack, *expected)
	}
	if expected != nil && *expected == 0 {
		return nil
	}
	const few = 2 // So many are made without suspicion.
	levels := levelsOf(s.o.Set)
	for kind, base := range map[declare.Kind]int{declare.Monitor: 1, declare.SLO: 2} {
		toMake, later := 0, 0
		for key, level := range levels {
			switch exists := len(p.inv.objects[key]) > 0; {
			case level == base && !exists:
				toMake++
			case level > base && exists:
				later++
			}
		}
		if len(p.inv.known[kind]) == 0 && toMake > few && later > 0 {
			return refusef("if they were deleted, --expect-existing 0 makes them again",
				"Datadog answers no %s of %s although %s that are made after them exist: all %d would be made again", plural(kind), s.stack, quantity(later, "object", "objects"), toMake)
		}
	}
	return nil
}

// stale are the steps that delete what is not declared any more.
func (s *Syncer) stale(inv *inventory) []*step {
	refs := map[declare.Key][]declare.Key{}
	for key, list := range inv.objects {
		for _, f := range list {
			refs[key] = append(refs[key], references(key.Kind, symbolic(key.Kind, f.live.Payload, inv.known))...)
		}
	}
	level := levels(refs)
	var steps []*step
	for key, list := range inv.objects {
		if s.o.Set.Lookup(key) != nil {
			continue
		}
		for _, f := range list {
			steps = append(steps, &step{key: key, action: plan.Delete, reason: reasonStale, live: f, level: level[key]})
		}
	}
	slices.SortFunc(steps, order)
	return steps
}

// repeated finds objects that exist more than once and are not declared any more.
func (s *Syncer) repeated(inv *inventory) []*doubled {
	var more []*doubled
	for key, list := range inv.objects {
		if len(list) > 1 && s.o.Set.Lookup(key) == nil {
			more = append(more, twice(key, list))
		}
	}
	return more
}

// validate asks about monitors that can be asked about: what they name exists and stays.
func (s *Syncer) validate(ctx context.Context, p *Planned) error {
	var mu sync.Mutex
	var refused []*Rejected
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(s.o.Parallel)
	for _, st := range p.steps {
		if st.key.Kind != declare.Monitor || st.want == nil || len(st.waits) > 0 {
			continue
		}
		group.Go(func() error {
			payload, _ := resolve(st.key.Kind, st.want, p.ids)
			id := ""
			if st.action == plan.Update {
				id = st.live.live.ID
			}
			err := s.o.Remote.Validate(ctx, id, payload)
			if failed := new(datadog.Error); errors.As(err, &failed) && failed.Duplicate != "" {
				_, err = s.twin(ctx, st.key, failed) // Another sync may have made it a moment ago.
			}
			if !errors.Is(err, datadog.ErrInvalid) {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			refused = append(refused, &Rejected{Key: st.key, File: st.object.File, At: st.object.At, Err: err})
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("validate the monitors: %w", err)
	}
	slices.SortFunc(refused, func(x, y *Rejected) int { return strings.Compare(x.Key.Name, y.Key.Name) })
	errs := make([]error, len(refused))
	for i, r := range refused {
		errs[i] = r
	}
	return errors.Join(errs...)
}

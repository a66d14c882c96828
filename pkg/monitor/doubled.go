package monitor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/plan"
)

// errDoubled is why a plan is refused when objects exist more than once.
var errDoubled = errors.New("two syncs may have run at the same time")

// doubled is an object that exists more than once, as when two syncs made it at the same time.
type doubled struct {
	key declare.Key
	// copies begin with the one that was made first.
	copies []*found
}

func (d *doubled) Error() string {
	return fmt.Sprintf("%s (%s)", d.key, strings.Join(d.ids(), ", "))
}

func (d *doubled) ids() []string {
	ids := make([]string, len(d.copies))
	for i, f := range d.copies {
		ids[i] = f.live.ID
	}
	return ids
}

func twice(key declare.Key, list []*found) *doubled {
	return &doubled{key: key, copies: slices.SortedFunc(slices.Values(list), earlier)}
}

// earlier orders copies by when they were made. Every sync finds the same order.
func earlier(x, y *found) int {
	return cmp.Or(strings.Compare(madeAt(x), madeAt(y)), len(x.live.ID)-len(y.live.ID), strings.Compare(x.live.ID, y.live.ID))
}

// madeAt is when an object was made, as a text that sorts by time.
func madeAt(f *found) string {
	for _, field := range []string{"created", "created_at"} {
		switch at := f.live.Payload[field].(type) {
		case string:
			return at
		case float64:
			return fmt.Sprintf("%020.3f", at)
		}
	}
	return ""
}

// refuse says which objects exist more than once, and how to delete all but the first of each.
func (s *Syncer) refuse(list ...*doubled) error {
	slices.SortFunc(list, func(x, y *doubled) int { return compareKeys(x.key, y.key) })
	shown := make([]string, len(list))
	var later []string
	for i, d := range list {
		shown[i] = d.Error()
		later = append(later, d.ids()[1:]...)
	}
	return &Refusal{
		What: quantity(len(list), "object exists", "objects exist") + " more than once at Datadog: " + some(shown),
		Hint: fmt.Sprintf("latamctl monitors delete --env %s %s deletes the later of them; the next sync mends what names them", s.o.Set.Environment, strings.Join(later, " ")),
		Err:  errDoubled,
	}
}

// own are the copies that a run made although another sync had made the object: they can go when all copies are
// what was applied and the same. The first one of all stays, so that two syncs never delete both.
func (d *doubled) own(made map[string]bool) (first *found, own []*found, ok bool) {
	first = d.copies[0]
	for _, f := range d.copies {
		if !f.intact() || f.sum != first.sum {
			return nil, nil, false
		}
		if f != first && made[f.live.ID] {
			own = append(own, f)
		}
	}
	return first, own, true
}

// mend deletes what this run made a second time, after what names it was pointed to the first.
func (r *run) mend(ctx context.Context, o PlanOptions) error {
	r.mu.Lock()
	o.made = r.made
	r.mu.Unlock()
	p, err := r.s.Plan(ctx, o)
	if err != nil {
		return fmt.Errorf("read again what was done: %w", err)
	}
	todo := matching(p.steps, func(st *step) bool {
		return st.action == plan.Delete && st.reason == reasonTwice || st.action == plan.Update && st.reason == reasonReference
	})
	r.mu.Lock()
	r.ids, r.total = p.ids, r.total+len(todo)
	r.mu.Unlock()
	return r.all(ctx, todo)
}

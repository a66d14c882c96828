package monitor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/latamctl/latamctl/pkg/monitor/datadog"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

const (
	// looks is how often an object is looked for in vain before its create is sent again: Datadog may
	// show it late.
	looks = 2
	// longestWait bounds the waits, which double.
	longestWait = 30 * time.Second
)

// makeLevel does the steps of a level. A create whose answer got lost is looked for, and sent again only when it did
// not happen.
func (r *run) makeLevel(ctx context.Context, steps []*step) {
	lost := r.attempt(ctx, steps)
	wait, vain := r.s.o.Backoff, 0
	for round := 1; len(lost) > 0; wait = min(2*wait, longestWait) {
		if err := pause(ctx, wait); err != nil {
			r.lose(lost, fmt.Errorf("%w: %w; the next sync finds it", datadog.ErrAmbiguous, err))
			return
		}
		rest, err := r.find(lost)
		if vain++; err != nil || vain < looks && len(rest) > 0 {
			if vain >= looks*r.s.o.Rounds {
				r.lose(lost, fmt.Errorf("%w, and looking for it: %w", datadog.ErrAmbiguous, err))
				return
			}
			lost = rest
			continue
		}
		if round++; round > r.s.o.Rounds && len(rest) > 0 {
			r.lose(rest, fmt.Errorf("%w, %d times", datadog.ErrAmbiguous, r.s.o.Rounds))
			return
		}
		lost, vain = r.attempt(ctx, rest), 0
	}
}

func (r *run) lose(steps []*step, err error) {
	for _, st := range steps {
		r.done(st, "", 0, err)
	}
}

// find looks for objects by their marks, books those that are there and returns the others. With an
// error all of them are still open.
func (r *run) find(lost []*step) ([]*step, error) {
	objects := map[declare.Kind]*inventory{}
	for _, st := range lost {
		if objects[st.key.Kind] != nil {
			continue
		}
		if st.key.Kind == declare.Metric { // Its settings may be sent again: they are added to what is there.
			objects[st.key.Kind] = &inventory{}
			continue
		}
		lives, err := r.s.o.Remote.List(r.writes, st.key.Kind, r.s.stack, nil)
		if err != nil {
			return lost, err
		}
		if objects[st.key.Kind], err = take(lives, r.s.stack); err != nil {
			return lost, err
		}
	}
	var rest []*step
	for _, st := range lost {
		var made []*found
		for _, f := range objects[st.key.Kind].objects[st.key] {
			if st.live == nil || f.live.ID != st.live.live.ID {
				made = append(made, f)
			}
		}
		switch len(made) {
		case 0:
			rest = append(rest, st)
		case 1:
			r.done(st, made[0].live.ID, 0, nil)
		default:
			r.done(st, "", 0, r.s.refuse(twice(st.key, made)))
		}
	}
	return rest, nil
}

// twin is the monitor that Datadog says is the same as a new one, when it may become the new one.
func (s *Syncer) twin(ctx context.Context, key declare.Key, failed *datadog.Error) (Live, error) {
	live, err := s.o.Remote.Get(ctx, key.Kind, failed.Duplicate)
	if err != nil {
		return live, errors.Join(failed, err)
	}
	m, ours, err := readMark(live, s.stack)
	switch {
	case err != nil:
		return live, err
	case !ours:
		return live, fmt.Errorf("monitor %s of somebody else is the same; latamctl monitors import %s takes it over: %w", live.ID, live.ID, failed)
	case m.key != key && s.o.Set.Lookup(m.key) != nil:
		return live, fmt.Errorf("%s is the same, give one of them another title or query: %w", m.key, failed)
	}
	return live, nil
}

// duplicate decides about a monitor that Datadog has already, as it says. It becomes the declared one
// only when it is of this stack: the same one, or one that is not declared any more.
func (r *run) duplicate(st *step, payload map[string]any, failed *datadog.Error) (id string, err error) {
	live, err := r.s.twin(r.writes, st.key, failed)
	if err != nil {
		return "", err
	}
	r.mu.Lock()
	r.kept[live.ID] = true
	r.mu.Unlock()
	_, err = r.s.o.Remote.Update(r.writes, st.key.Kind, live.ID, cleared(st.key.Kind, payload))
	return live.ID, err
}

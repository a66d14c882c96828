package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/latamctl/latamctl/pkg/monitor/datadog"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/plan"
)

// DeleteOptions say what is deleted.
type DeleteOptions struct {
	// Names are names, kind.name, or ids, of objects of the stack.
	Names []string
	// All deletes the whole stack; then Confirm must be its name.
	All     bool
	Confirm string
	// Force deletes what other objects still need.
	Force bool
}

// Delete deletes objects of the stack, declared or not, after a backup of each. Without Force nothing
// is deleted when one of them is needed by something that stays.
func (s *Syncer) Delete(ctx context.Context, o DeleteOptions) (*Report, error) {
	r := s.begin(ctx)
	defer r.end()
	if o.All && o.Confirm != s.stack {
		return r.report, refusef("repeat the name of the stack: --all --confirm "+s.stack, "everything of %s would be deleted, and the confirmation is %q", s.stack, o.Confirm)
	}
	inv, err := s.read(ctx)
	if err != nil {
		return r.report, err
	}
	steps, err := s.selected(inv, o)
	if err != nil {
		return r.report, err
	}
	if !o.Force {
		if err := s.deletable(ctx, steps, inv); err != nil {
			return r.report, err
		}
	}
	r.total = len(steps)
	for level := range sameLevel(steps) {
		if r.stopped(ctx) {
			r.skip(level)
			continue
		}
		r.deleteLevel(ctx, level, o.Force)
	}
	return r.report, r.result(ctx)
}

// selected are the steps that delete what was named.
func (s *Syncer) selected(inv *inventory, o DeleteOptions) ([]*step, error) {
	everything := (&Syncer{o: Options{Set: &declare.Set{}}, stack: s.stack}).stale(inv)
	if o.All {
		return everything, nil
	}
	var steps []*step
	for _, name := range o.Names {
		matches := matching(everything, func(st *step) bool { return st.live.live.ID == name })
		if len(matches) == 0 {
			matches = matching(everything, func(st *step) bool { return st.key.Name == name || st.key.String() == name })
		}
		for _, st := range matches {
			if list := inv.objects[st.key]; len(list) > 1 && st.live.live.ID != name {
				return nil, s.refuse(twice(st.key, list))
			}
			if !slices.Contains(steps, st) {
				steps = append(steps, st)
			}
		}
		if len(matches) == 0 {
			return nil, s.unknown(name)
		}
	}
	for _, st := range steps {
		st.reason = ""
		if s.o.Set.Lookup(st.key) != nil {
			st.reason = "it is declared: the next sync makes it again"
		}
	}
	slices.SortFunc(steps, order)
	return steps, nil
}

func matching(steps []*step, is func(*step) bool) []*step {
	return slices.DeleteFunc(slices.Clone(steps), func(st *step) bool { return !is(st) })
}

// deletable refuses when something that stays needs one of the objects. Those that only objects
// of the same selection need are asked about when these are gone.
func (s *Syncer) deletable(ctx context.Context, steps []*step, inv *inventory) error {
	needed := map[declare.Key]bool{}
	for _, st := range steps {
		for _, ref := range references(st.key.Kind, symbolic(st.key.Kind, st.live.live.Payload, inv.known)) {
			needed[ref] = true
		}
	}
	denied, err := s.denied(ctx, matching(steps, func(st *step) bool { return !needed[st.key] }))
	if err != nil || len(denied) == 0 {
		return err
	}
	var reasons []string
	for _, st := range steps {
		if reason, ok := denied[st]; ok {
			reasons = append(reasons, st.key.String()+": "+reason)
		}
	}
	return refusef("delete those first, or delete all the same with --force",
		"%s needed by others: %s", quantity(len(reasons), "object is", "objects are"), strings.Join(reasons, "; "))
}

// denied asks which objects cannot be deleted, and why.
func (s *Syncer) denied(ctx context.Context, steps []*step) (map[*step]string, error) {
	out := map[*step]string{}
	for _, kind := range []declare.Kind{declare.Monitor, declare.SLO} {
		of := matching(steps, func(st *step) bool { return st.key.Kind == kind })
		if len(of) == 0 {
			continue
		}
		ids := make([]string, len(of))
		for i, st := range of {
			ids[i] = st.live.live.ID
		}
		reasons, err := s.o.Remote.Deletable(ctx, kind, ids)
		if err != nil {
			return nil, fmt.Errorf("ask what can be deleted: %w", err)
		}
		for i, st := range of {
			if reason, ok := reasons[ids[i]]; ok {
				out[st] = reason
			}
		}
	}
	return out, nil
}

// deleteLevel deletes objects that know nothing of each other.
func (r *run) deleteLevel(ctx context.Context, steps []*step, force bool) {
	steps = slices.DeleteFunc(slices.Clone(steps), func(st *step) bool { return r.kept[st.live.live.ID] })
	var denied map[*step]string
	if !force {
		var err error
		if denied, err = r.s.denied(r.writes, steps); err != nil {
			r.lose(steps, err)
			return
		}
	}
	var group errgroup.Group
	group.SetLimit(r.s.o.Parallel)
	for _, st := range steps {
		group.Go(func() error {
			if ended(ctx) {
				r.skip([]*step{st})
				return nil
			}
			r.openFolder()
			start := r.s.o.Now()
			r.observe(Step{Key: st.key, Action: plan.Delete})
			err := r.remove(st, denied[st], force)
			r.done(st, st.live.live.ID, r.s.o.Now().Sub(start), err)
			return nil
		})
	}
	_ = group.Wait() // Each step reports its own error.
}

// remove deletes one object when it still is ours, after a backup of what it is now.
func (r *run) remove(st *step, denied string, force bool) error {
	if denied != "" {
		return fmt.Errorf("%w: %s", datadog.ErrReferenced, denied)
	}
	id := st.live.live.ID
	live, err := r.s.o.Remote.Get(r.writes, st.key.Kind, id)
	switch {
	case errors.Is(err, datadog.ErrNotFound):
		return nil // Somebody else was faster.
	case err != nil:
		return err
	}
	if m, ours, err := readMark(live, r.s.stack); err != nil || !ours || m.key != st.key {
		return errors.Join(fmt.Errorf("%s %s is not %s of %s any more: it is left alone", st.key.Kind, id, st.key, r.s.stack), err)
	}
	if err := r.backup(st.key, live); err != nil {
		return err
	}
	if err := r.s.o.Remote.Delete(r.writes, st.key.Kind, id, force); !errors.Is(err, datadog.ErrNotFound) {
		return err
	}
	return nil
}

// maxFolders bounds how many runs of one second have a folder of their own.
const maxFolders = 100

// openFolder chooses a new folder for the backups of this run.
func (r *run) openFolder() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.folder != "" {
		return
	}
	base := filepath.Join(r.s.o.Dir, r.s.o.Now().UTC().Format("20060102T150405Z"))
	r.folder = base
	for n := 2; n < maxFolders && r.s.o.Process.Exists(r.folder); n++ {
		r.folder = fmt.Sprintf("%s-%d", base, n)
	}
}

func (r *run) backup(key declare.Key, live Live) error {
	content, err := json.MarshalIndent(live.Payload, "", "  ")
	if err != nil {
		return fmt.Errorf("it is not deleted without a backup: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	path := filepath.Join(r.folder, key.String()+".json")
	if r.s.o.Process.Exists(path) {
		path = filepath.Join(r.folder, key.String()+"-"+live.ID+".json")
	}
	if err := r.s.o.Process.WriteSecretFile(path, append(content, '\n')); err != nil {
		return fmt.Errorf("it is not deleted without a backup: %w", err)
	}
	r.report.Backups = r.folder
	return nil
}

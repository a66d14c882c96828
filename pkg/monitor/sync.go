package monitor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/latamctl/latamctl/pkg/monitor/datadog"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/plan"
)

// Take says what wins where both sides changed.
type Take string

// The sides of a conflict.
const (
	TakeNone Take = ""     // Refuse.
	TakeCode Take = "code" // Overwrite what was changed outside.
	TakeLive Take = "live" // Leave those objects alone.
)

// SyncOptions say how far a sync may go.
type SyncOptions struct {
	// MaxDeletes limits deletions and replacements. Not set, it is a tenth of what the stack has, and at least 3.
	MaxDeletes plan.Limit
	Take       Take
	// Verify plans once more at the end, and wants to see nothing.
	Verify bool
}

// Outcome is what became of one object.
type Outcome struct {
	Key    declare.Key
	Action plan.Action
	ID     string
	Reason string
	Err    error
	Took   time.Duration
}

// Report is what a sync or a deletion did. It is complete also when it failed.
type Report struct {
	Done, Failed []Outcome
	// Waiting was not begun, because something failed or the context ended.
	Waiting []Outcome
	// LeftAlone were changed on both sides, and the live one was taken.
	LeftAlone []declare.Key
	// Doubled were made here and by another sync at the same time; the ones made here were deleted again.
	Doubled []declare.Key
	// Backups is the folder with the deleted objects; empty when nothing was deleted.
	Backups string
	// Verified tells that Datadog was read again and matched.
	Verified bool
}

// fewDeletes are always allowed, so that a small stack can be changed without flags.
const (
	fewDeletes     = 3
	deletesPercent = 10
)

// Sync carries out a plan. Objects are made in the order in which they need each other and deleted in
// the opposite one, after everything else. When something fails, the rest of its level is finished and
// no other is begun; a sync after it goes on from there. A *Refusal says that nothing was touched.
func (s *Syncer) Sync(ctx context.Context, p *Planned, o SyncOptions) (*Report, error) {
	r := s.begin(ctx)
	defer r.end()
	todo, err := s.permit(p, o, r.report)
	if err != nil {
		return r.report, err
	}
	r.ids, r.total = maps.Clone(p.ids), len(todo)
	if err := r.all(ctx, todo); err != nil {
		return r.report, err
	}
	if o.Verify && len(r.report.Done) > 0 {
		return r.report, r.verify(ctx, p.options)
	}
	r.report.Verified = len(todo) == 0
	return r.report, nil
}

// permit refuses conflicts and too many deletions, and returns the steps that are left.
func (s *Syncer) permit(p *Planned, o SyncOptions, report *Report) ([]*step, error) {
	todo := slices.Clone(p.steps)
	if conflicts := p.Conflicts(); len(conflicts) > 0 {
		switch o.Take {
		case TakeCode:
		case TakeLive:
			todo = slices.DeleteFunc(todo, func(st *step) bool { return st.conflict })
			report.LeftAlone = conflicts
		case TakeNone:
			return nil, refusef("latamctl monitors diff shows both sides; --take code overwrites what was changed at Datadog, --take live leaves those objects alone",
				"%s changed both here and at Datadog: %s", quantity(len(conflicts), "object was", "objects were"), some(names(conflicts)))
		}
	}
	limit := o.MaxDeletes
	if !limit.Set {
		limit = plan.Limit{Set: true, Value: max(fewDeletes, p.Owned*deletesPercent/100)}
	}
	guard := plan.Guard{MaxDeletes: limit, Existing: p.Owned}
	if err := guard.Check(s.render(&Planned{steps: todo}, nil, 0)); err != nil {
		return nil, &Refusal{What: "the plan deletes too much", Hint: "latamctl monitors plan --detail --prune lists them; if they are meant, --max-deletes N allows so many", Err: err}
	}
	return todo, nil
}

// How often a sync reads at its end what it did: again when Datadog lags behind, and more often while another
// sync mends what both made.
const (
	readings       = 2
	readingsOfBoth = 5
)

// verify reads Datadog again. What this run and another one both made is mended.
func (r *run) verify(ctx context.Context, o PlanOptions) error {
	none := 0
	o.Validate, o.ExpectExisting = false, &none
	most, wait := readings, r.s.o.Backoff
	for try := 1; ; try++ {
		again, err := r.s.Plan(ctx, o)
		if errors.Is(err, errDoubled) {
			most = readingsOfBoth
			if failed := r.mend(ctx, o); failed != nil {
				err = failed
			}
		}
		switch {
		case try < most && errors.Is(err, errDoubled):
		case try < readingsOfBoth && errors.Is(err, datadog.ErrPartial): // Others write while this one reads.
		case err != nil:
			return fmt.Errorf("read again what was done: %w", err)
		default:
			differ := r.differing(again)
			if len(differ) == 0 {
				r.report.Verified = true
				return nil
			}
			if try >= most {
				return &Unverified{Keys: differ}
			}
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
		if most == readingsOfBoth {
			wait *= 2
		}
	}
}

// differing are the objects that a plan would change, but for those that were left alone on purpose.
func (r *run) differing(p *Planned) []declare.Key {
	var keys []declare.Key
	for _, st := range p.steps {
		if !slices.Contains(r.report.LeftAlone, st.key) {
			keys = append(keys, st.key)
		}
	}
	return keys
}

// run is a sync or a deletion under way.
type run struct {
	s *Syncer
	// writes ends a while after the caller's context, so that a write that was begun can end.
	writes context.Context
	end    func()
	folder string // of backups

	mu sync.Mutex
	// ids grow as objects are made.
	ids map[declare.Key]string
	// kept are the ids of objects that were to be deleted, and became others.
	kept map[string]bool
	// made are the ids of objects that this run certainly made itself.
	made map[string]bool
	// left are what replacements leave over.
	left   []*step
	report *Report
	total  int
}

func (s *Syncer) begin(ctx context.Context) *run {
	writes, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		if pause(writes, s.o.Grace) == nil {
			cancel()
		}
	})
	return &run{
		s: s, writes: writes, ids: map[declare.Key]string{}, kept: map[string]bool{}, made: map[string]bool{}, report: &Report{},
		end: func() {
			stop()
			cancel()
		},
	}
}

// all does the steps level by level, deletions last.
func (r *run) all(ctx context.Context, todo []*step) error {
	makes, deletes := todo, []*step(nil)
	if i := slices.IndexFunc(todo, func(st *step) bool { return st.action == plan.Delete }); i >= 0 {
		makes, deletes = todo[:i], todo[i:]
	}
	for level := range sameLevel(makes) {
		if !r.stopped(ctx) {
			r.makeLevel(ctx, level)
			continue
		}
		r.skip(level)
	}
	r.mu.Lock()
	deletes, r.left = slices.Concat(deletes, r.left), nil
	r.mu.Unlock()
	slices.SortStableFunc(deletes, order)
	for level := range sameLevel(deletes) {
		if !r.stopped(ctx) {
			r.deleteLevel(ctx, level, false)
			continue
		}
		r.skip(level)
	}
	return r.result(ctx)
}

// sameLevel parts steps, which are in their order, where the level changes.
func sameLevel(steps []*step) func(yield func([]*step) bool) {
	return func(yield func([]*step) bool) {
		for len(steps) > 0 {
			n := slices.IndexFunc(steps, func(st *step) bool { return st.level != steps[0].level })
			if n < 0 {
				n = len(steps)
			}
			if !yield(steps[:n]) {
				return
			}
			steps = steps[n:]
		}
	}
}

func (r *run) stopped(ctx context.Context) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return ctx.Err() != nil || len(r.report.Failed) > 0
}

func (r *run) skip(steps []*step) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, st := range steps {
		r.report.Waiting = append(r.report.Waiting, Outcome{Key: st.key, Action: st.action, Reason: st.reason})
	}
}

// result sorts the report and joins what failed.
func (r *run) result(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, list := range []*[]Outcome{&r.report.Done, &r.report.Failed, &r.report.Waiting} {
		slices.SortStableFunc(*list, func(x, y Outcome) int { return compareKeys(x.Key, y.Key) })
	}
	if ctx.Err() != nil {
		errs = append(errs, context.Cause(ctx))
	}
	for _, f := range r.report.Failed {
		errs = append(errs, fmt.Errorf("%s %s: %w", f.Action, f.Key, f.Err))
	}
	return errors.Join(errs...)
}

// attempt does steps of one level side by side. It returns those of which it is not known whether they happened.
func (r *run) attempt(ctx context.Context, steps []*step) []*step {
	var group errgroup.Group
	group.SetLimit(r.s.o.Parallel)
	var mu sync.Mutex
	var lost []*step
	for _, st := range steps {
		group.Go(func() error {
			if ended(ctx) {
				r.skip([]*step{st})
				return nil
			}
			if r.do(st) {
				mu.Lock()
				defer mu.Unlock()
				lost = append(lost, st)
			}
			return nil
		})
	}
	_ = group.Wait() // Each step reports its own error.
	slices.SortFunc(lost, order)
	return lost
}

// do carries out one step, except for deletions. lost tells that a create may have happened or not.
func (r *run) do(st *step) (lost bool) {
	start := r.s.o.Now()
	r.observe(Step{Key: st.key, Action: st.action})
	id, err := r.write(st)
	if errors.Is(err, datadog.ErrAmbiguous) {
		return true
	}
	r.done(st, id, r.s.o.Now().Sub(start), err)
	return false
}

func (r *run) write(st *step) (id string, err error) {
	r.mu.Lock()
	payload, missing := resolve(st.key.Kind, st.want, r.ids)
	r.mu.Unlock()
	if len(missing) > 0 {
		return "", fmt.Errorf("it names %s, which does not exist", some(names(missing)))
	}
	switch {
	case st.metric != nil:
		_, err = r.s.o.Remote.Update(r.writes, declare.Metric, st.metric.ID, payload)
		return st.metric.ID, err
	case st.action == plan.Update:
		id = st.live.live.ID
		if _, err = r.s.o.Remote.Update(r.writes, st.key.Kind, id, cleared(st.key.Kind, payload)); errors.Is(err, datadog.ErrNotFound) {
			err = fmt.Errorf("it was deleted since it was read, and the next sync makes it again: %w", err)
		}
		return id, err
	}
	live, err := r.s.o.Remote.Create(r.writes, st.key.Kind, payload)
	if failed := new(datadog.Error); errors.As(err, &failed) && failed.Duplicate != "" {
		return r.duplicate(st, payload, failed)
	}
	if err == nil {
		r.mu.Lock()
		r.made[live.ID] = true
		r.mu.Unlock()
	}
	return live.ID, err
}

// cleared adds what an update has to say of values that are not declared any more: Datadog keeps
// those that it is not told about.
func cleared(kind declare.Kind, payload map[string]any) map[string]any {
	unsaid := map[string]any{}
	switch kind {
	case declare.Monitor:
		unsaid["priority"], unsaid["message"] = nil, ""
	case declare.SLO:
		unsaid["description"] = ""
	case declare.Metric, declare.Dashboard:
	}
	for key, value := range payload {
		unsaid[key] = value
	}
	return unsaid
}

// done books a step.
func (r *run) done(st *step, id string, took time.Duration, err error) {
	outcome := Outcome{Key: st.key, Action: st.action, ID: id, Reason: st.reason, Err: err, Took: took}
	r.mu.Lock()
	if err != nil {
		r.report.Failed = append(r.report.Failed, outcome)
	} else {
		r.report.Done = append(r.report.Done, outcome)
		if st.action != plan.Delete && id != "" {
			r.ids[st.key] = id
		}
		if st.reason == reasonTwice {
			r.report.Doubled = append(r.report.Doubled, st.key)
		}
		if st.action == plan.Replace {
			r.left = append(r.left, &step{key: st.key, action: plan.Delete, reason: reasonLeft, live: st.live, level: st.level})
			r.total++
		}
	}
	r.mu.Unlock()
	r.s.o.Log.Debug("monitors: "+string(st.action), "object", st.key.String(), "id", id, "error", cmp.Or(err, errors.New("")).Error())
	r.observe(Step{Key: st.key, Action: st.action, Done: true, Err: err, Took: took})
}

func (r *run) observe(step Step) {
	if r.s.o.Observe == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	step.Finished, step.Total = len(r.report.Done)+len(r.report.Failed), r.total
	r.s.o.Observe(step)
}

func ended(ctx context.Context) bool { return ctx.Err() != nil }

// pause waits, unless the context ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

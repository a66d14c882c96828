package simulate

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/monitor/query"
)

// The series of an SLO's test that are counts of its events and no metrics.
const (
	goodEvents = "good"
	badEvents  = "bad"
)

// record is what an SLO counted. Before the first point there were as many events in each interval
// as in the first one, all good.
type record struct {
	before    float64   // events in each interval before the first point
	bad, all  []float64 // sums of the first i points
	evaluated int
}

// add appends an interval.
func (r *record) add(good, bad float64) {
	if r.evaluated == 0 {
		r.before, r.bad, r.all = good+bad, []float64{0}, []float64{0}
	}
	r.bad = append(r.bad, r.bad[r.evaluated]+bad)
	r.all = append(r.all, r.all[r.evaluated]+good+bad)
	r.evaluated++
}

// roundTo hides the error of binary fractions: 36 % of 5 % is a burn rate of 7.2, not a little less.
const roundTo = 1e9

// burn is how many times the budget was spent in the last points up to t. It is NaN without events.
func (r *record) burn(t, points int, budget float64) float64 {
	to := min(t+1, r.evaluated)
	from := t + 1 - points
	old := float64(max(0, -from))
	from = min(max(from, 0), r.evaluated)
	all := r.all[to] - r.all[from] + old*r.before
	bad := r.bad[to] - r.bad[from]
	if all <= 0 {
		return math.NaN()
	}
	return math.Round(bad/all/budget*roundTo) / roundTo
}

// record counts the events of an SLO for all points of the test.
func (w *world) record(o *declare.Object) (*record, error) {
	count := w.metricEvents
	if w.hasEvents() {
		count = w.givenEvents
	} else if o.SLI.Slice != nil {
		if want := time.Duration(o.SLI.SliceSeconds) * time.Second; w.data.interval != want {
			return nil, fmt.Errorf("%w: slices of %v with points of %v: set interval to %v", errNotEvaluable, want, w.data.interval, want)
		}
		count = w.slice
	}
	rec := &record{}
	for i := range w.last + 1 {
		good, bad, err := count(o.SLI, i)
		if err != nil {
			return nil, err
		}
		rec.add(good, bad)
	}
	return rec, nil
}

// hasEvents reports whether the test gives the events themselves.
func (w *world) hasEvents() bool {
	for i := range w.data.series {
		if m := w.data.series[i].metric; m == goodEvents || m == badEvents {
			return true
		}
	}
	return false
}

func (w *world) givenEvents(_ *declare.SLI, i int) (good, bad float64, err error) {
	for j := range w.data.series {
		s := &w.data.series[j]
		if s.distribution() {
			return 0, 0, errors.New("good and bad are numbers of events")
		}
		if v := s.at(i); !math.IsNaN(v) {
			switch s.metric {
			case goodEvents:
				good += v
			case badEvents:
				bad += v
			}
		}
	}
	return good, bad, nil
}

func (w *world) metricEvents(sli *declare.SLI, i int) (good, bad float64, err error) {
	if sli.Good == nil || sli.Bad == nil {
		return 0, 0, fmt.Errorf("%w: an SLO without counts of good and bad events", errNotEvaluable)
	}
	for _, side := range []struct {
		of   query.Expr
		into *float64
	}{{sli.Good, &good}, {sli.Bad, &bad}} {
		f, err := w.data.window(side.of, "sum", span{i - 1, i})
		if err != nil {
			return 0, 0, err
		}
		for _, l := range f.lines {
			*side.into += sum(present(l.v))
		}
	}
	return good, bad, nil
}

// slice is one good slice when the condition holds for every group. Without data it holds.
func (w *world) slice(sli *declare.SLI, i int) (good, bad float64, err error) {
	holds, ok := comparison(sli.SliceOp)
	if !ok {
		return 0, 0, notEvaluable(sli.Slice, "the comparison %s", sli.SliceOp)
	}
	f, err := w.data.window(sli.Slice, "sum", span{i - 1, i})
	if err != nil {
		return 0, 0, err
	}
	for _, l := range f.lines {
		for _, v := range present(l.v) {
			if !holds(v, sli.SliceBound) {
				return 0, 1, nil
			}
		}
	}
	return 1, 0, nil
}

// sloSource evaluates an alert on the budget of an SLO.
type sloSource struct {
	query  *query.SLOAlert
	sli    *declare.SLI
	record *record
	budget float64 // the share that may be bad, such as 0.05
	over   int
	long   int
	short  int
}

func (w *world) sloAlert(m *machine, q *query.SLOAlert) error {
	name, ok := reference(q.ID, declare.SLO)
	o := w.set.Lookup(declare.Key{Kind: declare.SLO, Name: name})
	if !ok || o == nil || o.SLI == nil {
		return notEvaluable(q, "the SLO %s, which is not declared", q.ID)
	}
	target, ok := o.SLI.Targets[q.Over]
	if !ok {
		return notEvaluable(q, "%s has no target over %s", o.Key, q.Over)
	}
	rec := w.slos[name]
	if rec == nil {
		var err error
		if rec, err = w.record(o); err != nil {
			return fmt.Errorf("%s: %w", o.Key, err)
		}
		w.slos[name] = rec
	}
	src := &sloSource{query: q, sli: o.SLI, record: rec, budget: (100 - target) / 100}
	over, err := overDays(q.Over)
	if err != nil {
		return notEvaluable(q, "%s", err)
	}
	for _, x := range []struct {
		of   time.Duration
		into *int
	}{{over, &src.over}, {q.LongWindow, &src.long}, {q.ShortWindow, &src.short}} {
		n, whole := w.data.points(x.of)
		if x.of > 0 && (!whole || n == 0) {
			return notEvaluable(q, "a window of %v with points of %v: choose an interval that it is a multiple of", x.of, w.data.interval)
		}
		*x.into = n
	}
	if _, ok := comparison(q.Op); !ok || strings.HasPrefix(q.Op, "<") {
		return notEvaluable(q, "the operator %s", q.Op)
	}
	m.settings.rule.op, m.source = q.Op, src
	if options, _ := m.object.Payload["options"].(map[string]any); options["thresholds"] == nil {
		m.settings.rule.critical = q.Threshold
	}
	return nil
}

func overDays(over string) (time.Duration, error) {
	days := map[string]int{"7d": 7, "30d": 30, "90d": 90}[over]
	if days == 0 {
		return 0, fmt.Errorf("the time frame %s", over)
	}
	return time.Duration(days) * 24 * time.Hour, nil
}

// at returns the burn rate that both windows have at least, or the percentage of the budget that is gone.
func (s *sloSource) at(t int) ([]sample, error) {
	var v float64
	if s.long > 0 {
		v = min(s.record.burn(t, s.long, s.budget), s.record.burn(t, s.short, s.budget))
	} else {
		v = 100 * s.record.burn(t, s.over, s.budget)
	}
	return []sample{{value: v}}, nil
}

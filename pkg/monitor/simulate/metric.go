package simulate

import (
	"fmt"
	"math"
	"slices"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/monitor/query"
)

// world is what all monitors of a test look at.
type world struct {
	set  *declare.Set
	data *data
	// slos are the records of the SLOs, made when an alert needs them.
	slos map[string]*record
	last int // the last point that is evaluated
}

// machine makes the machine of a monitor. path are the composites that it is part of.
func (w *world) machine(o *declare.Object, path ...string) (*machine, error) {
	s, err := readSettings(o)
	if err != nil {
		return nil, err
	}
	m := &machine{object: o, settings: s, interval: w.data.interval, groups: map[string]*group{}}
	switch q := o.Query.(type) {
	case *query.Metric:
		err = w.metric(m, q)
	case *query.Check:
		m.source = &checkSource{data: w.data, query: q, settings: s}
	case *query.Composite:
		err = w.composite(m, q, path)
	case *query.SLOAlert:
		err = w.sloAlert(m, q)
	case nil:
		err = fmt.Errorf("%w: %s has no query that is understood", errNotEvaluable, o.Key)
	default:
		err = notEvaluable(q, "the type %v", o.Payload["type"])
	}
	return m, err
}

// metricSource evaluates a threshold on an expression.
type metricSource struct {
	data   *data
	query  *query.Metric
	window int
	shift  int
	delay  int
}

func (w *world) metric(m *machine, q *query.Metric) error {
	if _, ok := comparison(q.Op); !ok {
		return notEvaluable(q, "the operator %s", q.Op)
	}
	m.settings.rule.op = q.Op
	if options, _ := m.object.Payload["options"].(map[string]any); options["thresholds"] == nil {
		m.settings.rule.critical = q.Threshold
	}
	src := &metricSource{data: w.data, query: q}
	var whole bool
	if src.window, whole = w.data.points(q.Window); !whole || src.window == 0 {
		return notEvaluable(q, "a window of %v with points of %v: choose an interval that it is a multiple of", q.Window, w.data.interval)
	}
	if q.Change != nil {
		if src.shift, whole = w.data.points(q.Change.Shift); !whole {
			return notEvaluable(q, "a change over %v with points of %v", q.Change.Shift, w.data.interval)
		}
	}
	if err := w.feasible(q, src.window+src.shift); err != nil {
		return err
	}
	if err := w.unambiguous(q); err != nil {
		return err
	}
	src.delay = int((m.settings.delay + w.data.interval - 1) / w.data.interval)
	m.window, m.source = q.Window, src
	m.zeroWhenMissing = hasCount(q.Expr) && !hasDefaultZero(q.Expr)
	return nil
}

// maxWork is how many points all evaluations of a monitor look at.
const maxWork = 500_000_000

// feasible refuses what would take minutes.
func (w *world) feasible(q *query.Metric, window int) error {
	read := 0
	for _, s := range allSeries(q.Expr) {
		for i := range w.data.series {
			if w.data.series[i].metric == s.Metric {
				read++
			}
		}
	}
	if (w.last+1)*window > maxWork/max(1, read) {
		return notEvaluable(q, "windows of %d points for %d points of %d series: choose a longer interval", window, w.last+1, read)
	}
	return nil
}

// unambiguous refuses numbers of a distribution that would stand for a value in one place of the
// query, and for how many values there were in another.
func (w *world) unambiguous(q *query.Metric) error {
	counted, valued := map[string]bool{}, map[string]bool{}
	for _, s := range allSeries(q.Expr) {
		if s.Aggregate == "count" && s.Count == nil {
			counted[s.Metric] = true
		} else {
			valued[s.Metric] = true
		}
	}
	for i := range w.data.series {
		s := &w.data.series[i]
		if counted[s.metric] && valued[s.metric] && !s.distribution() {
			return notEvaluable(q, "numbers for %s, which is counted and of which values are read: write values such as {0.04:95 0.2:5}x10", s.metric)
		}
	}
	return nil
}

func hasDefaultZero(e query.Expr) bool {
	switch e := e.(type) {
	case *query.Negate:
		return hasDefaultZero(e.Of)
	case *query.Binary:
		return hasDefaultZero(e.Left) || hasDefaultZero(e.Right)
	case *query.Call:
		return e.Name == "default_zero" || slices.ContainsFunc(e.Args, hasDefaultZero)
	}
	return false
}

func (s *metricSource) at(t int) ([]sample, error) {
	now := span{t - s.delay - s.window, t - s.delay}
	var f frame
	var err error
	if s.query.Change != nil {
		f, err = s.change(now)
	} else {
		f, err = s.data.window(s.query.Expr, s.query.Aggregate, now)
	}
	if err != nil {
		return nil, err
	}
	if f.number {
		return []sample{{value: f.constant}}, nil
	}
	out := make([]sample, len(f.lines))
	for i, l := range f.lines {
		out[i] = sample{key: l.key, tags: l.tags, value: l.v[0]}
	}
	return out, nil
}

// change aggregates the differences from the window before, point by point.
func (s *metricSource) change(now span) (frame, error) {
	after, err := s.data.expression(s.query.Expr, now)
	if err != nil {
		return frame{}, err
	}
	before, err := s.data.expression(s.query.Expr, span{now.from - s.shift, now.to - s.shift})
	if err != nil {
		return frame{}, err
	}
	op := func(a, b float64) float64 { return a - b }
	if s.query.Change.Percent {
		op = func(a, b float64) float64 {
			if b == 0 {
				return math.NaN()
			}
			return 100 * (a - b) / math.Abs(b)
		}
	}
	f, err := operate(s.query, op, after, before)
	if err != nil {
		return frame{}, err
	}
	return f.reduce(s.query, s.query.Aggregate)
}

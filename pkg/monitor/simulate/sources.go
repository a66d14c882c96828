package simulate

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

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

// checkSource counts the newest statuses of a service check that are the same.
type checkSource struct {
	data     *data
	query    *query.Check
	settings settings
}

// The statuses of a service check.
const (
	statusOK = iota
	statusWarning
	statusCritical
	statusUnknown
)

func (s *checkSource) at(t int) ([]sample, error) {
	var order []sample
	members := map[string][]*series{}
	for i := range s.data.series {
		one := &s.data.series[i]
		if one.metric != s.query.Name || !s.covers(one) || !one.seen(t) {
			continue
		}
		if one.distribution() {
			return nil, notEvaluable(s.query, "a distribution as the statuses of a check")
		}
		tags := one.group(s.query.By)
		key := groupKey(tags)
		if len(members[key]) == 0 {
			order = append(order, sample{key: key, tags: tags, value: math.NaN()})
		}
		members[key] = append(members[key], one)
	}
	slices.SortFunc(order, func(a, b sample) int { return strings.Compare(a.key, b.key) })
	for i := range order {
		state, err := s.state(members[order[i].key], t)
		if err != nil {
			return nil, err
		}
		order[i].state = state
	}
	return order, nil
}

// covers reports whether the check's tags are in its scope.
func (s *checkSource) covers(one *series) bool {
	has := func(text string) bool {
		key, value, ok := strings.Cut(strings.ToLower(text), ":")
		if !ok {
			key, value = "", key
		}
		return text == "*" || slices.ContainsFunc(one.tags, func(t tag) bool { return t.key == key && glob(value, t.value) })
	}
	return !slices.ContainsFunc(s.query.Over, func(x string) bool { return !has(x) }) && !slices.ContainsFunc(s.query.Exclude, has)
}

// state is the worst of the states of a group's series; empty when nothing is decided, as there
// are not enough equal statuses in a row, or no status at all.
func (s *checkSource) state(of []*series, t int) (State, error) {
	worst := State("")
	for _, one := range of {
		if !one.has(t) {
			continue
		}
		status, run := one.at(t), 0
		for i := t; run < s.query.Last && i >= -s.query.Last && (!one.has(i) || one.at(i) == status); i-- {
			if one.has(i) {
				run++
			}
		}
		state := State("")
		switch rule := s.settings.rule; status {
		case statusOK:
			if run >= max(1, s.settings.ok) {
				state = OK
			}
		case statusWarning:
			if rule.warning != nil && run >= int(*rule.warning) {
				state = Warning
			}
		case statusCritical:
			if run >= max(1, int(rule.critical)) {
				state = Alert
			}
		case statusUnknown:
		default:
			return "", fmt.Errorf("the status %v of the check %s is none: 0 is ok, 1 warning, 2 critical, 3 unknown", status, s.query.Name)
		}
		if state != "" && (worst == "" || state.severity() > worst.severity()) {
			worst = state
		}
	}
	return worst, nil
}

// compositeSource combines the states of other monitors.
type compositeSource struct {
	query   *query.Composite
	members map[string]*machine
}

func (w *world) composite(m *machine, q *query.Composite, path []string) error {
	if slices.Contains(path, m.object.Key.Name) {
		return notEvaluable(q, "a composite that is part of itself")
	}
	src := &compositeSource{query: q, members: map[string]*machine{}}
	for _, id := range operands(q.Expr) {
		name, ok := reference(id, declare.Monitor)
		if !ok {
			return notEvaluable(q, "the monitor %s, which is not named by ${ref:monitor.NAME}", id)
		}
		o := w.set.Lookup(declare.Key{Kind: declare.Monitor, Name: name})
		if o == nil {
			return notEvaluable(q, "the monitor %s, which is not declared", name)
		}
		member, err := w.machine(o, append(slices.Clone(path), m.object.Key.Name)...)
		if err != nil {
			return fmt.Errorf("%s: %w", o.Key, err)
		}
		src.members[id] = member
	}
	m.source = src
	return nil
}

// reference returns the name in ${ref:kind.name}.
func reference(id string, kind declare.Kind) (string, bool) {
	name, ok := strings.CutPrefix(id, "${ref:"+string(kind)+".")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(name, "}")
}

func operands(l query.Logic) []string {
	switch l := l.(type) {
	case *query.Operand:
		return []string{l.ID}
	case *query.Not:
		return operands(l.Of)
	case *query.And:
		return append(operands(l.Left), operands(l.Right)...)
	case *query.Or:
		return append(operands(l.Left), operands(l.Right)...)
	}
	return nil
}

func (s *compositeSource) at(t int) ([]sample, error) {
	var by []string
	groups := map[string][]tag{}
	grouped := false
	for _, id := range operands(s.query.Expr) {
		m := s.members[id]
		if err := m.advance(t); err != nil {
			return nil, err
		}
		for _, g := range m.groups {
			if g.key == "" {
				continue
			}
			keys := make([]string, len(g.tags))
			for i, t := range g.tags {
				keys[i] = t.key
			}
			slices.Sort(keys)
			if grouped && !slices.Equal(by, keys) {
				return nil, notEvaluable(s.query, "monitors with different groups")
			}
			grouped, by = true, keys
			groups[g.key] = g.tags
		}
	}
	if !grouped {
		groups[""] = nil
	}
	var out []sample
	for key, tags := range groups {
		if !s.common(key) {
			continue
		}
		out = append(out, sample{key: key, tags: tags, value: math.NaN(), state: s.state(key)})
	}
	slices.SortFunc(out, func(a, b sample) int { return strings.Compare(a.key, b.key) })
	return out, nil
}

// common reports whether every monitor has the group or has no groups.
func (s *compositeSource) common(key string) bool {
	for _, m := range s.members {
		if _, ok := m.groups[key]; !ok && m.groups[""] == nil {
			return len(m.groups) == 0 && key == ""
		}
	}
	return true
}

func (s *compositeSource) state(key string) State {
	holds, worst := s.logic(s.query.Expr, key)
	switch {
	case !holds:
		return OK
	case worst == OK:
		return Alert // Only negations hold.
	}
	return worst
}

// logic evaluates a condition: warning, alert and no data hold. worst is the worst of the states that make it hold.
func (s *compositeSource) logic(l query.Logic, key string) (holds bool, worst State) {
	both := func(left, right query.Logic) (bool, bool, State) {
		a, first := s.logic(left, key)
		b, second := s.logic(right, key)
		worst := OK
		if a && first.severity() > worst.severity() {
			worst = first
		}
		if b && second.severity() > worst.severity() {
			worst = second
		}
		return a, b, worst
	}
	switch l := l.(type) {
	case *query.Operand:
		m := s.members[l.ID]
		g := m.groups[key]
		if g == nil {
			g = m.groups[""]
		}
		if g == nil || g.state == "" {
			return true, NoData
		}
		return g.state != OK, g.state
	case *query.Not:
		inner, _ := s.logic(l.Of, key)
		return !inner, OK
	case *query.And:
		a, b, worst := both(l.Left, l.Right)
		return a && b, worst
	case *query.Or:
		a, b, worst := both(l.Left, l.Right)
		return a || b, worst
	}
	return false, OK
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
	v := math.NaN()
	if s.long > 0 {
		v = min(s.record.burn(t, s.long, s.budget), s.record.burn(t, s.short, s.budget))
	} else {
		v = 100 * s.record.burn(t, s.over, s.budget)
	}
	return []sample{{value: v}}, nil
}

package simulate

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/latamctl/latamctl/pkg/monitor/query"
)

// data is the series of a test.
type data struct {
	interval time.Duration
	series   []series
}

// points converts a duration to a number of points. ok is false when it is no whole number of them.
func (d *data) points(of time.Duration) (int, bool) {
	return int(of / d.interval), of%d.interval == 0
}

// expression evaluates over the span, point by point.
func (d *data) expression(e query.Expr, s span) (frame, error) {
	switch e := e.(type) {
	case *query.Number:
		return constant(e.Value), nil
	case *query.Negate:
		f, err := d.expression(e.Of, s)
		f.apply(func(v float64) float64 { return -v })
		return f, err
	case *query.Binary:
		return d.binary(e, func(side query.Expr) (frame, error) { return d.expression(side, s) })
	case *query.Series:
		return d.read(e, s)
	case *query.Call:
		return d.call(e, func(arg query.Expr) (frame, error) { return d.expression(arg, s) })
	}
	return frame{}, notEvaluable(e, "this part of the query")
}

func (d *data) binary(e *query.Binary, side func(query.Expr) (frame, error)) (frame, error) {
	left, err := side(e.Left)
	if err != nil {
		return frame{}, err
	}
	right, err := side(e.Right)
	if err != nil {
		return frame{}, err
	}
	op, ok := operator(e.Op)
	if !ok {
		return frame{}, notEvaluable(e, "the operator %c", e.Op)
	}
	return operate(e, op, left, right)
}

func operator(op byte) (func(a, b float64) float64, bool) {
	switch op {
	case '+':
		return func(a, b float64) float64 { return a + b }, true
	case '-':
		return func(a, b float64) float64 { return a - b }, true
	case '*':
		return func(a, b float64) float64 { return a * b }, true
	case '/':
		return func(a, b float64) float64 {
			if b == 0 {
				return math.NaN()
			}
			return a / b
		}, true
	}
	return nil, false
}

// window evaluates an expression over the window and aggregates it. With arithmetic on counts the
// sides are aggregated first, as Datadog does: the ratio of two sums, not the sum of ratios.
func (d *data) window(e query.Expr, aggregate string, s span) (frame, error) {
	if hasArithmetic(e) && hasCount(e) {
		return d.counted(e, aggregate, s)
	}
	f, err := d.expression(e, s)
	if err != nil {
		return frame{}, err
	}
	return f.reduce(e, aggregate)
}

// counted aggregates each side of an operation before it computes.
func (d *data) counted(e query.Expr, aggregate string, s span) (frame, error) {
	recurse := func(part query.Expr) (frame, error) { return d.counted(part, aggregate, s) }
	switch e := e.(type) {
	case *query.Number:
		return constant(e.Value), nil
	case *query.Negate:
		f, err := recurse(e.Of)
		f.apply(func(v float64) float64 { return -v })
		return f, err
	case *query.Binary:
		return d.binary(e, recurse)
	case *query.Call:
		if hasArithmetic(e) {
			return d.call(e, recurse)
		}
	}
	f, err := d.expression(e, s)
	if err != nil {
		return frame{}, err
	}
	return f.reduce(e, aggregate)
}

func hasArithmetic(e query.Expr) bool {
	switch e := e.(type) {
	case *query.Binary:
		return true
	case *query.Negate:
		return hasArithmetic(e.Of)
	case *query.Call:
		return slices.ContainsFunc(e.Args, hasArithmetic)
	}
	return false
}

// hasCount reports whether a series of the expression is read as_count.
func hasCount(e query.Expr) bool {
	return slices.ContainsFunc(allSeries(e), func(s *query.Series) bool {
		return slices.ContainsFunc(s.Modifiers, func(m query.Modifier) bool { return m.Name == "as_count" })
	})
}

// allSeries returns the series of an expression.
func allSeries(e query.Expr) []*query.Series {
	switch e := e.(type) {
	case *query.Series:
		return []*query.Series{e}
	case *query.Negate:
		return allSeries(e.Of)
	case *query.Binary:
		return append(allSeries(e.Left), allSeries(e.Right)...)
	case *query.Call:
		var out []*query.Series
		for _, arg := range e.Args {
			out = append(out, allSeries(arg)...)
		}
		return out
	}
	return nil
}

// reading is how the modifiers of a series want it read.
type reading struct {
	asCount, asRate bool
	rollup          string // "" when none is given
	step            int    // points of one value
	fill            string
	fillLimit       int // points
}

const (
	defaultFillLimit = 300 * time.Second
	maxFillLimit     = 600 * time.Second
)

func (d *data) reading(e *query.Series) (reading, error) {
	r := reading{step: 1, fill: "null"}
	for _, m := range e.Modifiers {
		var err error
		switch m.Name {
		case "as_count":
			r.asCount = true
		case "as_rate":
			r.asRate = true
		case "rollup":
			err = d.readRollup(e, m.Args, &r)
		case "fill":
			err = d.readFill(e, m.Args, &r)
		default:
			err = notEvaluable(e, "the modifier %s", m.Name)
		}
		if err != nil {
			return r, err
		}
	}
	return r, nil
}

func (d *data) readRollup(e *query.Series, args []string, r *reading) error {
	for i, arg := range args {
		arg = strings.TrimSpace(arg)
		seconds, err := strconv.Atoi(arg)
		switch {
		case err == nil && i == len(args)-1 && seconds > 0 && seconds <= 31*24*3600:
			step, whole := d.points(time.Duration(seconds) * time.Second)
			if !whole || step == 0 {
				return notEvaluable(e, "a rollup of %ds with points of %v: choose an interval that it is a multiple of", seconds, d.interval)
			}
			r.step = step
		case i == 0 && slices.Contains([]string{"avg", "sum", "min", "max", "count"}, arg):
			r.rollup = arg
		default:
			return notEvaluable(e, "the argument %s of rollup", arg)
		}
	}
	return nil
}

func (d *data) readFill(e *query.Series, args []string, r *reading) error {
	if len(args) == 0 || len(args) > 2 || !slices.Contains([]string{"null", "zero", "last"}, strings.TrimSpace(args[0])) {
		return notEvaluable(e, "fill(%s), only null, zero and last with a limit", strings.Join(args, ","))
	}
	r.fill = strings.TrimSpace(args[0])
	limit := defaultFillLimit
	if len(args) == 2 {
		seconds, err := strconv.Atoi(strings.TrimSpace(args[1]))
		if err != nil || seconds < 0 || time.Duration(seconds)*time.Second > maxFillLimit {
			return notEvaluable(e, "the limit %s of fill", args[1])
		}
		limit = time.Duration(seconds) * time.Second
	}
	r.fillLimit = int(limit / d.interval)
	return nil
}

// read evaluates a series: the points of each bucket become one, then those of each group.
func (d *data) read(e *query.Series, s span) (frame, error) {
	r, err := d.reading(e)
	if err != nil {
		return frame{}, err
	}
	if r.step > s.to-s.from {
		return frame{}, notEvaluable(e, "a rollup that is longer than the window")
	}
	first := ceilTo(s.from+1, r.step)
	out := frame{step: r.step, by: e.By, fill: math.NaN()}
	for at := first; at <= s.to; at += r.step {
		out.n++
	}
	if r.asCount || r.asRate || r.fill == "zero" {
		out.fill = 0
	}
	members, groups := d.members(e, s.to)
	for _, g := range groups {
		l := line{tags: g, key: groupKey(g), v: make([]float64, out.n)}
		for i := range l.v {
			at := first + i*r.step
			if l.v[i], err = d.bucket(e, r, members[l.key], at, min(at+r.step-1, s.to)); err != nil {
				return frame{}, err
			}
		}
		fillGaps(l.v, r)
		out.lines = append(out.lines, l)
	}
	return out, nil
}

// ceilTo is the smallest multiple of step that is not below i.
func ceilTo(i, step int) int {
	if rest := i % step; rest > 0 {
		return i + step - rest
	} else if rest < 0 {
		return i - rest
	}
	return i
}

// members returns the series that a query reads by their groups. A group is known from its first
// point on; all together, without a grouping, is always known.
func (d *data) members(e *query.Series, now int) (map[string][]*series, [][]tag) {
	members := map[string][]*series{}
	var groups [][]tag
	if len(e.By) == 0 {
		groups = append(groups, nil)
	}
	for i := range d.series {
		one := &d.series[i]
		if one.metric != e.Metric || !one.matches(e.Filter) || !one.seen(now) {
			continue
		}
		g := one.group(e.By)
		key := groupKey(g)
		if len(members[key]) == 0 && len(e.By) > 0 {
			groups = append(groups, g)
		}
		members[key] = append(members[key], one)
	}
	slices.SortFunc(groups, func(a, b []tag) int { return strings.Compare(groupKey(a), groupKey(b)) })
	return members, groups
}

func fillGaps(v []float64, r reading) {
	last := -1
	for i := range v {
		switch {
		case !math.IsNaN(v[i]):
			last = i
		case r.fill == "zero":
			v[i] = 0
		case r.fill == "last" && last >= 0 && (i-last)*r.step <= r.fillLimit:
			v[i] = v[last]
		}
	}
}

// bucket is the value of the points from..to of some series.
func (d *data) bucket(e *query.Series, r reading, of []*series, from, to int) (float64, error) {
	if len(of) == 0 {
		return math.NaN(), nil
	}
	if i := slices.IndexFunc(of, func(s *series) bool { return s.distribution() != of[0].distribution() }); i >= 0 {
		return 0, notEvaluable(e, "series of %s that are numbers and others that are distributions", e.Metric)
	}
	var v float64
	var err error
	_, isPercentile := percentileOf(e.Aggregate)
	if of[0].distribution() || isPercentile && e.Count == nil {
		v, err = d.pooled(e, r, of, from, to)
	} else {
		v, err = d.numbers(e, r, of, from, to)
	}
	if r.asRate {
		v /= (time.Duration(r.step) * d.interval).Seconds()
	}
	return v, err
}

func (d *data) numbers(e *query.Series, r reading, of []*series, from, to int) (float64, error) {
	if e.Count != nil {
		return 0, notEvaluable(e, "count of the values by a bound, as its series are numbers: write values of a distribution such as {0.04:95 0.2:5}x10")
	}
	aggregate := e.Aggregate
	if aggregate == "count" {
		// A distribution that is only counted may be given as numbers of values.
		aggregate = "sum"
	}
	space, ok := folding(aggregate)
	if !ok {
		return 0, notEvaluable(e, "the aggregate %s", e.Aggregate)
	}
	overTime := r.rollup
	switch {
	case overTime != "":
	case r.asCount || r.asRate || e.Aggregate == "count":
		overTime = "sum"
	default:
		overTime = "avg"
	}
	fold, ok := folding(overTime)
	if overTime == "count" {
		fold, ok = func(v []float64) float64 { return float64(len(v)) }, true
	}
	if !ok {
		return 0, notEvaluable(e, "the rollup %s", overTime)
	}
	values := make([]float64, 0, len(of))
	for _, s := range of {
		raw := make([]float64, 0, to-from+1)
		for i := from; i <= to; i++ {
			if v := s.at(i); !math.IsNaN(v) {
				raw = append(raw, v)
			}
		}
		if len(raw) > 0 {
			values = append(values, fold(raw))
		}
	}
	return space(values), nil
}

// pooled puts the values of all points of a distribution together, which is what Datadog does with them.
// A number stands for a single value.
func (d *data) pooled(e *query.Series, r reading, of []*series, from, to int) (float64, error) {
	counts := e.Count != nil || e.Aggregate == "count"
	switch {
	case r.rollup == "", r.rollup == e.Aggregate && !counts, r.rollup == "sum" && counts, r.step == 1 && r.rollup != "count":
	default:
		return 0, notEvaluable(e, "the rollup %s of a distribution", r.rollup)
	}
	var bins []bin
	for _, s := range of {
		for i := from; i <= to; i++ {
			switch {
			case s.distribution():
				bins = append(bins, s.valuesAt(i)...)
			case s.has(i):
				bins = append(bins, bin{s.at(i), 1})
			}
		}
	}
	if bins == nil {
		return math.NaN(), nil
	}
	if counts {
		return countBins(e, bins)
	}
	return foldBins(e, bins)
}

func countBins(e *query.Series, bins []bin) (float64, error) {
	within := func(float64) bool { return true }
	if e.Count != nil {
		compare, ok := comparison(e.Count.Op)
		if !ok {
			return 0, notEvaluable(e, "the comparison %s", e.Count.Op)
		}
		within = func(v float64) bool { return compare(v, e.Count.Bound) }
	}
	total := 0.0
	for _, b := range bins {
		if within(b.value) {
			total += b.count
		}
	}
	return total, nil
}

func foldBins(e *query.Series, bins []bin) (float64, error) {
	bins = slices.DeleteFunc(bins, func(b bin) bool { return b.count == 0 })
	if len(bins) == 0 {
		return math.NaN(), nil
	}
	var total, count float64
	least, most := math.Inf(1), math.Inf(-1)
	for _, b := range bins {
		total += b.value * b.count
		count += b.count
		least, most = min(least, b.value), max(most, b.value)
	}
	switch e.Aggregate {
	case "avg":
		return total / count, nil
	case "sum":
		return total, nil
	case "min":
		return least, nil
	case "max":
		return most, nil
	}
	if p, ok := percentileOf(e.Aggregate); ok {
		return percentile(bins, p), nil
	}
	return 0, notEvaluable(e, "the aggregate %s", e.Aggregate)
}

// comparison returns the function of an operator.
func comparison(op string) (func(a, b float64) bool, bool) {
	switch op {
	case ">":
		return func(a, b float64) bool { return a > b }, true
	case ">=":
		return func(a, b float64) bool { return a >= b }, true
	case "<":
		return func(a, b float64) bool { return a < b }, true
	case "<=":
		return func(a, b float64) bool { return a <= b }, true
	case "==":
		return func(a, b float64) bool { return a == b }, true
	case "!=":
		return func(a, b float64) bool { return a != b }, true
	}
	return nil, false
}

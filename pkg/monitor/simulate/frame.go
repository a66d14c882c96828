package simulate

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// errNotEvaluable is what every error wraps that says that a query holds what is not evaluated here.
var errNotEvaluable = errors.New("not evaluable")

func isNotEvaluable(err error) bool { return errors.Is(err, errNotEvaluable) }

// maxShownQuery is how much of a query a message shows.
const maxShownQuery = 120

// notEvaluable says what is not evaluated, and where in the query it stands.
func notEvaluable(place fmt.Stringer, format string, args ...any) error {
	text := place.String()
	if len(text) > maxShownQuery {
		text = strings.ToValidUTF8(text[:maxShownQuery], "") + "…"
	}
	return fmt.Errorf("%w: %s, at %s", errNotEvaluable, fmt.Sprintf(format, args...), text)
}

// span is the points that an evaluation looks at: those after from, up to and with to.
type span struct{ from, to int }

// frame is the value of an expression: a line of values for each group. All lines have the same times.
type frame struct {
	// step is how many points of the series one value covers; 0 when the values are aggregates of the window.
	step  int
	n     int
	by    []string
	lines []line
	// fill stands for what one side of an operation lacks while the other has it: 0 of counts, NaN
	// when nothing does.
	fill float64
	// number is set for a constant, which has no lines.
	number   bool
	constant float64
}

// line is the values of a group, NaN where one is missing.
type line struct {
	tags []tag
	key  string
	v    []float64
}

func constant(v float64) frame { return frame{number: true, constant: v, fill: v} }

// apply changes each value that is there.
func (f *frame) apply(change func(float64) float64) {
	f.constant, f.fill = finiteOr(change(f.constant)), finiteOr(change(f.fill))
	for _, l := range f.lines {
		for i, v := range l.v {
			l.v[i] = finiteOr(change(v))
		}
	}
}

// finiteOr makes a missing value of what is no number, such as the result of a division by zero.
func finiteOr(v float64) float64 {
	if math.IsInf(v, 0) {
		return math.NaN()
	}
	return v
}

// operate computes a and b value by value, group by group. place is for messages.
func operate(place fmt.Stringer, op func(a, b float64) float64, a, b frame) (frame, error) {
	switch {
	case a.number && b.number:
		return constant(finiteOr(op(a.constant, b.constant))), nil
	case a.number:
		b.apply(func(v float64) float64 { return op(a.constant, v) })
		return b, nil
	case b.number:
		a.apply(func(v float64) float64 { return op(v, b.constant) })
		return a, nil
	case a.step != b.step || a.n != b.n:
		return frame{}, notEvaluable(place, "its sides have different rollups")
	}
	out := frame{step: a.step, n: a.n, by: a.by, fill: finiteOr(op(a.fill, b.fill))}
	if len(a.by) < len(b.by) {
		out.by = b.by
	}
	if len(a.by) > 0 && len(b.by) > 0 && !slices.Equal(sorted(a.by), sorted(b.by)) {
		return frame{}, notEvaluable(place, "its sides have different groups")
	}
	left, right := a.index(), b.index()
	for _, key := range unionKeys(out, a, b) {
		l, lok := pick(left, key, a)
		r, rok := pick(right, key, b)
		if !lok && math.IsNaN(a.fill) || !rok && math.IsNaN(b.fill) {
			continue
		}
		res := line{key: key, tags: l.tags, v: make([]float64, a.n)}
		if len(r.tags) > len(l.tags) {
			res.tags = r.tags
		}
		for i := range res.v {
			res.v[i] = join(op, l.value(i, a.n), r.value(i, b.n), a.fill, b.fill)
		}
		out.lines = append(out.lines, res)
	}
	return out, nil
}

// join computes one value. What one side lacks is filled, unless the other lacks it too.
func join(op func(a, b float64) float64, x, y, fillX, fillY float64) float64 {
	switch {
	case math.IsNaN(x) && math.IsNaN(y):
		return x
	case math.IsNaN(x):
		x = fillX
	case math.IsNaN(y):
		y = fillY
	}
	return finiteOr(op(x, y))
}

func (l line) value(i, n int) float64 {
	if len(l.v) != n {
		return math.NaN()
	}
	return l.v[i]
}

func (f frame) index() map[string]line {
	out := make(map[string]line, len(f.lines))
	for _, l := range f.lines {
		out[l.key] = l
	}
	return out
}

// pick returns the line of a group; a side without groups goes with every group of the other.
func pick(lines map[string]line, key string, f frame) (line, bool) {
	if len(f.by) == 0 {
		key = ""
	}
	l, ok := lines[key]
	return l, ok
}

// unionKeys are the groups of the result, in order.
func unionKeys(out, a, b frame) []string {
	var keys []string
	for _, side := range []frame{a, b} {
		if len(side.by) < len(out.by) {
			continue
		}
		for _, l := range side.lines {
			keys = append(keys, l.key)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }

// reduce makes one value of the points of each line. An unknown aggregate is an error.
func (f frame) reduce(place fmt.Stringer, aggregate string) (frame, error) {
	if f.number {
		return f, nil
	}
	fold, ok := folding(aggregate)
	if !ok {
		return frame{}, notEvaluable(place, "the aggregate %s", aggregate)
	}
	out := frame{n: 1, by: f.by, fill: f.fill, lines: make([]line, len(f.lines))}
	for i, l := range f.lines {
		out.lines[i] = line{tags: l.tags, key: l.key, v: []float64{fold(present(l.v))}}
	}
	return out, nil
}

// present drops the missing values.
func present(values []float64) []float64 {
	out := make([]float64, 0, len(values))
	for _, v := range values {
		if !math.IsNaN(v) {
			out = append(out, v)
		}
	}
	return out
}

// folding returns the function of an aggregate over numbers that are there. Of none it gives NaN.
func folding(aggregate string) (func([]float64) float64, bool) {
	var fold func([]float64) float64
	switch aggregate {
	case "avg":
		fold = func(v []float64) float64 { return sum(v) / float64(len(v)) }
	case "sum":
		fold = sum
	case "min":
		fold = slices.Min[[]float64]
	case "max":
		fold = slices.Max[[]float64]
	default:
		p, ok := percentileOf(aggregate)
		if !ok {
			return nil, false
		}
		fold = func(v []float64) float64 {
			bins := make([]bin, len(v))
			for i, value := range v {
				bins[i] = bin{value, 1}
			}
			return percentile(bins, p)
		}
	}
	return func(v []float64) float64 {
		if len(v) == 0 {
			return math.NaN()
		}
		return fold(v)
	}, true
}

func sum(v []float64) float64 {
	total := 0.0
	for _, x := range v {
		total += x
	}
	return total
}

// percentileOf reads p95, and median for p50.
func percentileOf(aggregate string) (float64, bool) {
	if aggregate == "median" {
		return 50, true
	}
	digits, ok := strings.CutPrefix(aggregate, "p")
	if !ok {
		return 0, false
	}
	p, err := finite(digits)
	return p, err == nil && p > 0 && p <= 100
}

// percentile is the smallest value that p percent of all are not above.
func percentile(bins []bin, p float64) float64 {
	bins = slices.Clone(bins)
	slices.SortFunc(bins, func(a, b bin) int { return cmp.Compare(a.value, b.value) })
	total := 0.0
	for _, b := range bins {
		total += b.count
	}
	need, got := total*p/100, 0.0
	for _, b := range bins {
		if got += b.count; b.count > 0 && got >= need {
			return b.value
		}
	}
	return math.NaN()
}

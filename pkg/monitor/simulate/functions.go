package simulate

import (
	"math"
	"slices"

	"github.com/latamctl/latamctl/pkg/monitor/query"
)

// Function is a function of the query language that is evaluated here.
type Function struct {
	Name string
	// Does says what it does, for the documentation.
	Does string
	// numbers is how many numbers follow the expression.
	numbers int
	// values changes the values of a line; step is the seconds between them. Of a function that
	// needs the points before, over the window's aggregates, there is no value.
	values func(v []float64, step float64, args []float64)
	// pointwise functions look at one value at a time.
	pointwise bool
}

// Functions returns the functions that are evaluated, by name.
func Functions() []Function {
	each := func(name, does string, numbers int, f func(v float64, args []float64) float64) Function {
		return Function{Name: name, Does: does, numbers: numbers, pointwise: true, values: func(v []float64, _ float64, args []float64) {
			for i := range v {
				v[i] = f(v[i], args)
			}
		}}
	}
	rate := func(name, does string, seconds float64) Function {
		return Function{Name: name, Does: does, values: func(v []float64, step float64, _ []float64) {
			differences(v, func(d float64) float64 { return d * seconds / step })
		}}
	}
	return []Function{
		each("abs", "the value without its sign", 0, func(v float64, _ []float64) float64 { return math.Abs(v) }),
		each("ceil", "the next whole number up", 0, func(v float64, _ []float64) float64 { return math.Ceil(v) }),
		each("clamp_max", "at most the number that follows", 1, func(v float64, args []float64) float64 { return min(v, args[0]) }),
		each("clamp_min", "at least the number that follows", 1, func(v float64, args []float64) float64 { return max(v, args[0]) }),
		{Name: "cumsum", Does: "the sum of all points of the window so far", values: cumulate},
		each("default_zero", "0 where a point is missing, of every group that had a point before", 0, func(v float64, _ []float64) float64 {
			if math.IsNaN(v) {
				return 0
			}
			return v
		}),
		{Name: "diff", Does: "the difference from the point before", values: func(v []float64, _ float64, _ []float64) {
			differences(v, func(d float64) float64 { return d })
		}},
		each("exclude_null", "without the groups that lack a tag of the grouping", 0, func(v float64, _ []float64) float64 { return v }),
		each("floor", "the next whole number down", 0, func(v float64, _ []float64) float64 { return math.Floor(v) }),
		{Name: "monotonic_diff", Does: "the difference from the point before where it grew, else nothing", values: func(v []float64, _ float64, _ []float64) {
			differences(v, func(d float64) float64 {
				if d < 0 {
					return math.NaN()
				}
				return d
			})
		}},
		rate("per_hour", "the difference from the point before, for an hour", 3600),
		rate("per_minute", "the difference from the point before, for a minute", 60),
		rate("per_second", "the difference from the point before, for a second", 1),
	}
}

func cumulate(v []float64, _ float64, _ []float64) {
	total := 0.0
	for i := range v {
		if !math.IsNaN(v[i]) {
			total += v[i]
			v[i] = total
		}
	}
}

// differences replaces each value by what f makes of its difference from the one before. The first has none.
func differences(v []float64, f func(float64) float64) {
	before := math.NaN()
	for i := range v {
		before, v[i] = v[i], f(v[i]-before)
	}
}

// call evaluates a function.
func (d *data) call(e *query.Call, argument func(query.Expr) (frame, error)) (frame, error) {
	known := Functions()
	i := slices.IndexFunc(known, func(f Function) bool { return f.Name == e.Name })
	if i < 0 {
		return frame{}, notEvaluable(e, "the function %s", e.Name)
	}
	fn := known[i]
	if len(e.Args) == 0 {
		return frame{}, notEvaluable(e, "%s without a series", e.Name)
	}
	numbers, ok := numberArguments(e)
	if !ok || len(numbers) != fn.numbers {
		return frame{}, notEvaluable(e, "these arguments of %s", e.Name)
	}
	f, err := argument(e.Args[0])
	switch {
	case err != nil:
		return frame{}, err
	case f.step == 0 && !f.number && !fn.pointwise:
		return frame{}, notEvaluable(e, "%s around arithmetic on counts", e.Name)
	}
	for _, l := range f.lines {
		fn.values(l.v, float64(f.step)*d.interval.Seconds(), numbers)
	}
	if fn.pointwise {
		one := []float64{f.fill}
		fn.values(one, 1, numbers)
		f.fill = one[0]
	} else {
		f.fill = math.NaN()
	}
	if e.Name == "exclude_null" {
		f.lines = slices.DeleteFunc(f.lines, func(l line) bool {
			return slices.ContainsFunc(l.tags, func(t tag) bool { return t.value == notThere })
		})
	}
	return f, nil
}

// numberArguments returns what follows the first argument, as numbers.
func numberArguments(e *query.Call) ([]float64, bool) {
	var out []float64
	for _, arg := range e.Args[1:] {
		n, ok := arg.(*query.Number)
		if !ok {
			return nil, false
		}
		out = append(out, n.Value)
	}
	for _, word := range e.Words {
		v, err := finite(word)
		if err != nil {
			return nil, false
		}
		out = append(out, v)
	}
	return out, true
}

package query_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/pkg/monitor/query"
)

// condition is a filter as text and as what it means for tags.
type condition struct {
	text  string
	holds func(tags map[string]string) bool
}

// randomCondition writes a filter in words with all parentheses, and some that are not needed.
func randomCondition(r *rand.Rand, depth int) condition {
	if depth == 0 || r.IntN(4) == 0 {
		key, value := string("abc"[r.IntN(3)]), strconv.Itoa(r.IntN(3))
		return condition{key + ":" + value, func(tags map[string]string) bool { return tags[key] == value }}
	}
	left, right := randomCondition(r, depth-1), randomCondition(r, depth-1)
	switch r.IntN(4) {
	case 0:
		return condition{"NOT (" + left.text + ")", func(t map[string]string) bool { return !left.holds(t) }}
	case 1:
		return condition{"(" + left.text + ") OR (" + right.text + ")", func(t map[string]string) bool { return left.holds(t) || right.holds(t) }}
	case 2:
		key, first, second := string("abc"[r.IntN(3)]), strconv.Itoa(r.IntN(3)), strconv.Itoa(r.IntN(3))
		not := r.IntN(2) == 0
		word := " IN ("
		if not {
			word = " not in ("
		}
		return condition{key + word + first + ", " + second + ")", func(t map[string]string) bool { return (t[key] == first || t[key] == second) != not }}
	}
	return condition{"((" + left.text + ") AND (" + right.text + "))", func(t map[string]string) bool { return left.holds(t) && right.holds(t) }}
}

func allHold(matchers []query.Matcher, tags map[string]string) bool {
	for _, m := range matchers {
		holds := m.Any == nil && tags[m.Key] == m.Value
		for _, all := range m.Any {
			holds = holds || allHold(all, tags)
		}
		if holds == m.Not {
			return false
		}
	}
	return true
}

func TestFilterMeansWhatItSays(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		c := randomCondition(r, r.IntN(5))
		parsed, err := query.ParseSeries("sum:x{" + c.text + "}")
		if err != nil {
			t.Fatalf("{%s}: %v", c.text, err)
		}
		again, err := query.ParseSeries(parsed.String())
		if err != nil {
			t.Fatalf("%s: %v", parsed, err)
		}
		for n := range 27 {
			tags := map[string]string{"a": strconv.Itoa(n % 3), "b": strconv.Itoa(n / 3 % 3), "c": strconv.Itoa(n / 9)}
			want := c.holds(tags)
			if allHold(parsed.Filter, tags) != want || allHold(again.Filter, tags) != want {
				t.Fatalf("{%s}, canonically %s: for %v, want %v", c.text, parsed, tags, want)
			}
		}
	}
}

// randomSum writes arithmetic, its value, and how tightly its parts hold together.
func randomSum(r *rand.Rand, depth int) (text string, value float64, strength int) {
	if depth == 0 || r.IntN(4) == 0 {
		value = float64(r.IntN(9) + 1)
		return fmt.Sprint(value), value, 3
	}
	left, a, ls := randomSum(r, depth-1)
	right, b, rs := randomSum(r, depth-1)
	op := r.IntN(5)
	if op == 4 {
		return "-(" + left + ")", -a, 3
	}
	strength = 1 + op/2
	if ls < strength || r.IntN(4) == 0 {
		left = "(" + left + ")"
	}
	if rs <= strength || r.IntN(4) == 0 {
		right = " ( " + right + ")"
	}
	return left + string("+-*/"[op]) + right, []float64{a + b, a - b, a * b, a / b}[op], strength
}

func evaluate(e query.Expr) float64 {
	switch e := e.(type) {
	case *query.Number:
		return e.Value
	case *query.Negate:
		return -evaluate(e.Of)
	case *query.Binary:
		a, b := evaluate(e.Left), evaluate(e.Right)
		return map[byte]float64{'+': a + b, '-': a - b, '*': a * b, '/': a / b}[e.Op]
	}
	return math.NaN()
}

func TestArithmeticMeansWhatItSays(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	for range 3000 {
		text, want, _ := randomSum(r, r.IntN(6))
		parsed, err := query.ParseExpr(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		again, err := query.ParseExpr(parsed.String())
		if err != nil {
			t.Fatalf("%s: %v", parsed, err)
		}
		for _, e := range []query.Expr{parsed, again} {
			if got := evaluate(e); got != want && !(math.IsNaN(got) && math.IsNaN(want)) {
				t.Fatalf("%s, canonically %s: got %v, want %v", text, parsed, got, want)
			}
		}
		if strings.Count(parsed.String(), "(") > strings.Count(text, "(") {
			t.Fatalf("%s: %s has more parentheses", text, parsed)
		}
	}
}

package simulate

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
)

func TestParsePoints(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"5":                   "5",
		"0x5 11 0x2":          "0 0 0 0 0 0 11 0 0 0", // As promtool: the value and five repetitions.
		"-2+4x3":              "-2 2 6 10",
		"1-2x4":               "1 -1 -3 -5 -7",
		"1x4":                 "1 1 1 1 1",
		"1 _x3 2":             "1 _ _ _ 2",
		"_":                   "_",
		"1e3x1 1e-2+1e-2x1":   "1000 1000 0.01 0.02",
		"1.5 .5\t+3\n-4":      "1.5 0.5 3 -4",
		"0x0":                 "0",
		"{0.04:95 0.2:5}x1 _": "{0.04:95 0.2:5} {0.04:95 0.2:5} _",
		"{-1:0}":              "{-1:0}",
	} {
		p, err := parsePoints(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		} else if got := show(p); got != want {
			t.Errorf("%q gives %s, want %s", text, got, want)
		}
	}
}

// show writes the points out.
func show(p points) string {
	var out []string
	for i := range p.length() {
		switch {
		case p.distribution() && p.bins[i] == nil, !p.distribution() && math.IsNaN(p.numbers[i]):
			out = append(out, "_")
		case p.distribution():
			var bins []string
			for _, b := range p.bins[i] {
				bins = append(bins, fmt.Sprintf("%g:%g", b.value, b.count))
			}
			out = append(out, "{"+strings.Join(bins, " ")+"}")
		default:
			out = append(out, strconv.FormatFloat(p.numbers[i], 'g', -1, 64))
		}
	}
	return strings.Join(out, " ")
}

func TestPointsFaults(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":              "0: expected points such as 0x5 11 0x12, got nothing",
		" ":             "0: expected points such as 0x5 11 0x12, got nothing",
		"1 x":           `2: expected points such as 0x5, 1+2x3, _x2 or {0.04:95 0.2:5}x9, got "x"`,
		"1+2":           "0: a step needs a count: write 1+2x5",
		"_x0":           "0: expected at least one point",
		"0x99999":       "0: a series may have 10081 points",
		"0x10000 _x9":   "",
		"1 0x10080":     "2: a series may have 10081 points",
		"1 {0.1:2}":     "2: a series has numbers or values of a distribution, not both",
		"{}":            "0: a point of a distribution has 1 to 100 values with their counts such as {0.04:95 0.2:5}; a missing point is _",
		"{0.1}":         `0: expected a value with its count such as 0.04:95, got "0.1"`,
		"{0.1:2":        `0: expected points such as 0x5, 1+2x3, _x2 or {0.04:95 0.2:5}x9, got "{0.1:2"`,
		"1e999":         "0: the number 1e999 is too large",
		"1e308+1e308x5": "0: the numbers of 1e308+1e308x5 are too large",
	} {
		_, err := parsePoints(text)
		got := ""
		if fault, ok := err.(*notationFault); ok {
			got = fmt.Sprintf("%d: %s", fault.column, fault.message)
		}
		if got != want {
			t.Errorf("%q gives %q, want %q", text, got, want)
		}
	}
}

// expand is a slow reading of the notation of numbers: it writes "axn" out as text first.
func expand(text string) ([]float64, bool) {
	var out []float64
	for _, f := range strings.Fields(text) {
		value, count, repeated := strings.Cut(f, "x")
		n := 0
		if repeated {
			var err error
			if n, err = strconv.Atoi(count); err != nil || n < 0 || strings.HasPrefix(count, "+") {
				return nil, false
			}
		}
		if value == "_" {
			if !repeated {
				n = 1
			}
			for range n {
				out = append(out, math.NaN())
			}
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return nil, false
		}
		for range n + 1 {
			out = append(out, v)
		}
	}
	return out, len(out) > 0
}

func FuzzParsePoints(f *testing.F) {
	for _, seed := range []string{"0x5 11 0x12", "1+2x3 _x2", "{0.04:95 0.2:5}x9", "5", "_ _ 3", "1e3", "-1-1x1", "{", "}x2", "0x", "9x99999999999999999999"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePoints(text)
		if err != nil {
			return
		}
		if n := p.length(); n == 0 || n > MaxPoints {
			t.Fatalf("%q has %d points", text, n)
		}
		if p.distribution() || strings.ContainsAny(text[1:], "+-") {
			return
		}
		want, ok := expand(text)
		if !ok || len(want) != len(p.numbers) {
			t.Fatalf("%q gives %v, a slow reading %v", text, p.numbers, want)
		}
		for i := range want {
			if want[i] != p.numbers[i] && !(math.IsNaN(want[i]) && math.IsNaN(p.numbers[i])) {
				t.Fatalf("%q gives %v, a slow reading %v", text, p.numbers, want)
			}
		}
	})
}

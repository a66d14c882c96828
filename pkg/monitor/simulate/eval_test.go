package simulate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/monitor/query"
)

// naive evaluates AGGREGATE(window):SPACE:m{*} by {host}.rollup(OVER, step) for each group, by walking
// over all points again and again.
func naive(list []series, aggregate, space, over string, step, window, t int) map[string]float64 {
	fold := func(how string, v []float64) float64 {
		if len(v) == 0 {
			return math.NaN()
		}
		slices.Sort(v)
		total := 0.0
		for _, x := range v {
			total += x
		}
		return map[string]float64{"sum": total, "avg": total / float64(len(v)), "min": v[0], "max": v[len(v)-1]}[how]
	}
	at := func(s series, i int) float64 {
		switch {
		case i < 0:
			return s.numbers[0]
		case i >= len(s.numbers):
			return math.NaN()
		}
		return s.numbers[i]
	}
	hosts := map[string][]series{}
	for _, s := range list {
		seen := false
		for i := min(t, -1); i <= t; i++ {
			seen = seen || !math.IsNaN(at(s, i))
		}
		if seen {
			hosts["host:"+s.tags[0].value] = append(hosts["host:"+s.tags[0].value], s)
		}
	}
	out := map[string]float64{}
	for host, members := range hosts {
		var buckets []float64
		for b := t - window + 1; b <= t; b++ {
			if ((b%step)+step)%step != 0 {
				continue
			}
			var values []float64
			for _, s := range members {
				var raw []float64
				for i := b; i < b+step && i <= t; i++ {
					if v := at(s, i); !math.IsNaN(v) {
						raw = append(raw, v)
					}
				}
				if v := fold(over, raw); !math.IsNaN(v) {
					values = append(values, v)
				}
			}
			if v := fold(space, values); !math.IsNaN(v) {
				buckets = append(buckets, v)
			}
		}
		out[host] = fold(aggregate, buckets)
	}
	return out
}

// TestWindows compares windows, rollups and groups with the naive evaluation.
func TestWindows(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	hows := []string{"avg", "sum", "min", "max"}
	pick := func() string { return hows[rng.IntN(4)] }
	for range 500 {
		var list []series
		for range 1 + rng.IntN(4) {
			s := series{metric: "m", tags: []tag{{"host", string(rune('a' + rng.IntN(2)))}}}
			for range 1 + rng.IntN(30) {
				v := float64(rng.IntN(20))
				if rng.IntN(4) == 0 {
					v = math.NaN()
				}
				s.numbers = append(s.numbers, v)
			}
			list = append(list, s)
		}
		step := 1 + rng.IntN(4)
		window := step * (1 + rng.IntN(5))
		aggregate, space, over := pick(), pick(), pick()
		d := &data{interval: time.Minute, series: list}
		text := fmt.Sprintf("%s:m{*} by {host}.rollup(%s, %d)", space, over, step*60)
		e, err := query.ParseExpr(text)
		if err != nil {
			t.Fatal(err)
		}
		for at := -3; at < 35; at++ {
			f, err := d.window(e, aggregate, span{at - window, at})
			if err != nil {
				t.Fatal(err)
			}
			want := naive(list, aggregate, space, over, step, window, at)
			if len(f.lines) != len(want) {
				t.Fatalf("%s(%d):%s at %d has %d groups, want %v", aggregate, window, text, at, len(f.lines), want)
			}
			for _, l := range f.lines {
				if w := want[l.key]; math.Abs(w-l.v[0]) > 1e-9 || math.IsNaN(w) != math.IsNaN(l.v[0]) {
					t.Fatalf("%s(%d):%s of %s at %d is %v, want %v of %v", aggregate, window, text, l.key, at, l.v[0], w, list)
				}
			}
		}
	}
}

// TestPercentile compares with the values written out and sorted.
func TestPercentile(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(5, 6))
	for range 500 {
		var bins []bin
		var all []float64
		for range 1 + rng.IntN(5) {
			b := bin{float64(rng.IntN(10)), float64(1 + rng.IntN(20))}
			bins = append(bins, b)
			for range int(b.count) {
				all = append(all, b.value)
			}
		}
		slices.Sort(all)
		p := float64(1 + rng.IntN(100))
		// The smallest value with at least p percent of all values at it or below.
		want := all[int(math.Ceil(p*float64(len(all))/100))-1]
		if got := percentile(bins, p); got != want {
			t.Fatalf("p%v of %v is %v, want %v", p, bins, got, want)
		}
	}
}

func TestNotEvaluable(t *testing.T) {
	t.Parallel()
	const q = "query alert"
	for _, c := range []struct{ kind, text, options, series, want string }{
		{q, "avg(last_4h):anomalies(sum:m{*}, 'agile', 3) >= 1", "", "m = 1", "the function anomalies, at anomalies(sum:m{*}, 'agile', 3)"},
		{q, "avg(last_5m):1 + ewma_3(sum:m{*}) >= 1", "", "m = 1", "the function ewma_3, at ewma_3(sum:m{*})"},
		{q, "avg(last_5m):sum:m{*}.weighted() >= 1", "", "m = 1", "the modifier weighted, at sum:m{*}.weighted()"},
		{q, "avg(last_5m):sum:m{*}.rollup(sum, 90) >= 1", "", "m = 1", "a rollup of 90s with points of 1m0s: choose an interval that it is a multiple of, at sum:m{*}.rollup(sum, 90)"},
		{q, "avg(last_5m):sum:m{*}.rollup(sum, 600) >= 1", "", "m = 1 2 3", "a rollup that is longer than the window, at sum:m{*}.rollup(sum, 600)"},
		{q, "avg(last_5m):sum:m{*}.fill(linear) >= 1", "", "m = 1", "fill(linear), only null, zero and last with a limit, at sum:m{*}.fill(linear)"},
		{q, "avg(last_5m):sum:m{*}.rollup(sum, 60) / sum:n{*}.rollup(sum, 120) > 1", "", "m = 1\nn = 1", "its sides have different rollups, at sum:m{*}.rollup(sum, 60) / sum:n{*}.rollup(sum, 120)"},
		{q, "avg(last_5m):sum:m{*} by {a} / sum:n{*} by {b} > 1", "", "m{a:1} = 1\nn{b:1} = 1", "its sides have different groups, at sum:m{*} by {a} / sum:n{*} by {b}"},
		{q, "avg(last_5m):count(v: v<=1):m{*}.as_count() > 1", "", "m = 1", "count of the values by a bound, as its series are numbers"},
		{q, "avg(last_5m):avg:m{*} > 1", "", "m{a:1} = 1\nm{a:2} = {1:2}", "series of m that are numbers and others that are distributions, at avg:m{*}"},
		{q, "avg(last_5m):p95:m{*} / count:m{*}.as_count() > 1", "", "m = 1", "numbers for m, which is counted and of which values are read"},
		{q, "avg(last_5m):avg:m{*}.rollup(max, 120) > 1", "", "m = {1:1}", "the rollup max of a distribution, at avg:m{*}.rollup(max, 120)"},
		{q, "sum(last_5m):diff(sum:m{*}.as_count() / sum:n{*}.as_count()) > 1", "", "m = 1\nn = 1", "diff around arithmetic on counts"},
		{q, "sum(last_5m):clamp_max(sum:m{*}) > 1", "", "m = 1", "these arguments of clamp_max, at clamp_max(sum:m{*})"},
		{q, "avg(last_5m):avg:m{*} > 1", "", "interval 2m\nm = 1", "a window of 5m0s with points of 2m0s: choose an interval that it is a multiple of"},
		{q, "change(avg(last_2m),last_5m):avg:m{*} > 1", "", "interval 2m\nm = 1", "a change over 5m0s with points of 2m0s"},
		{q, "avg(last_1w):avg:m{*} > 1", "", "m = 1x10000\nm{a:1} = 1\nm{a:2} = 1\nm{a:3} = 1\nm{a:4} = 1", "windows of 10080 points for 10001 points of 5 series: choose a longer interval"},
		{q, "avg(last_5m):avg:m{*} > 1", `{"scheduling_options":{"evaluation_window":{"day_starts":"04:00"}}}`, "m = 1", "the option scheduling_options of monitor.m"},
		{"log alert", `logs("x").index("*").rollup("count").last("5m") > 1`, "", "m = 1", "the type log alert"},
		{"composite", "${ref:monitor.other} && 123", "", "m = 1", "the monitor other, which is not declared"},
		{"composite", "!${ref:monitor.m}", "", "m = 1", "a composite that is part of itself"},
		{"composite", "!123", "", "m = 1", "the monitor 123, which is not named by ${ref:monitor.NAME}"},
		{"service check", `"m".over("*").last(2).count_by_status()`, "", "m = {1:2}", "a distribution as the statuses of a check"},
	} {
		set := &declare.Set{Objects: []*declare.Object{monitor(t, "m", c.kind, c.text, c.options)}}
		got, r := timeline(t, set, "monitor m", c.series)
		if r.Passed || !r.NotEvaluable || !strings.Contains(got, "not evaluable: "+c.want) {
			t.Errorf("%s gives %q, want %q", c.text, got, c.want)
		}
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"*": true, "env:prod": true, "env:PROD": true, "env:dev": false, "!env:dev": true, "!env:prod": false, "code:5*": true, "code:*3": true, "code:5*3": true,
		"code:*5*": true, "code:*4*": false, "code:503*503": false, "bare": true, "other": false, "no:such": false, "!no:such": true,
		"env:prod,code:503": true, "env:prod,code:504": false, "env IN (dev,prod)": true, "env NOT IN (dev,prod)": false,
		"env:dev OR code:503": true, "NOT (env:dev OR code:503)": false, "env:prod AND NOT code:504": true,
	} {
		s, err := query.ParseSeries("sum:m{" + text + "}")
		if err != nil {
			t.Fatal(err)
		}
		one, err := parseSeries("m{env:prod, code:503,bare}")
		if err != nil {
			t.Fatal(err)
		}
		if got := one.matches(s.Filter); got != want {
			t.Errorf("{%s} matches: %v, want %v", text, got, want)
		}
	}
	for _, text := range []string{"", "{a:b}", "m{a:b", "m {a}b", "a b", "a,b"} {
		if s, err := parseSeries(text); err == nil {
			t.Errorf("%q is read as %+v", text, s)
		}
	}
}

func TestComposite(t *testing.T) {
	t.Parallel()
	const q = "query alert"
	for _, c := range []struct{ name, text, series, want string }{
		{"and takes the worst of what holds", "${ref:monitor.a} && ${ref:monitor.b}", "x = 0 8 8 11 0\ny = 8 0 8 8 11",
			"0s: new → ok\n2m: ok → warning, told @chat\n3m: warning → alert, told @page\n4m: alert → ok, told @chat"},
		{"or", "${ref:monitor.a} || ${ref:monitor.b}", "x = 0 0 11\ny = 0 8 0",
			"0s: new → ok\n1m: ok → warning, told @chat\n2m: warning → alert, told @page"},
		{"not", "${ref:monitor.a} && !${ref:monitor.b}", "x = 0 8 8\ny = 0 0 8", "0s: new → ok\n1m: ok → warning, told @chat\n2m: warning → ok, told @chat"},
		{"not alone is an alert", "!${ref:monitor.a}", "x = 0 8", "0s: new → alert, told @page\n1m: alert → ok, told @chat"},
		{"no data holds", "${ref:monitor.a} && ${ref:monitor.gone}", "x = 11 11 11\nz = 0 _ 0", "0s: new → ok\n1m: ok → alert, told @page\n2m: alert → ok, told @chat"},
		{"what is part of a condition that does not hold does not count", "${ref:monitor.a} && ${ref:monitor.b} || ${ref:monitor.gone}", "x = 11\ny = 0\nz = _", "0s: new → no_data"},
		{"a monitor that was never evaluated has no data", "${ref:monitor.a} || ${ref:monitor.b}", "x = _\ny = 0", "0s: new → no_data"},
		{"groups go with each other, and with what has none", "${ref:monitor.byhost} && ${ref:monitor.a}", "h{host:a} = 0 11\nh{host:b} = 11 0\nx = 11 11",
			"0s: new → ok host:a\n0s: new → alert host:b, told @page\n1m: ok → alert host:a, told @page\n1m: alert → ok host:b, told @chat"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			thresholds := `{"thresholds":{"critical":10,"warning":7}}`
			set := &declare.Set{Objects: []*declare.Object{
				monitor(t, "a", q, "avg(last_1m):avg:x{*} > 10", thresholds),
				monitor(t, "b", q, "avg(last_1m):avg:y{*} > 10", thresholds),
				monitor(t, "gone", q, "avg(last_1m):avg:z{*} > 10", `{"thresholds":{"critical":10},"on_missing_data":"show_no_data"}`),
				monitor(t, "byhost", q, "avg(last_1m):avg:h{*} by {host} > 10", thresholds),
				monitor(t, "c", "composite", c.text, ""),
			}}
			if got, _ := timeline(t, set, "monitor c", c.series); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
	set := &declare.Set{Objects: []*declare.Object{
		monitor(t, "a", q, "avg(last_1m):avg:x{*} by {host} > 10", ""), monitor(t, "b", q, "avg(last_1m):avg:y{*} by {pod} > 10", ""),
		monitor(t, "c", "composite", "${ref:monitor.a} && ${ref:monitor.b}", ""),
	}}
	if got, r := timeline(t, set, "monitor c", "x{host:a} = 1\ny{pod:a} = 1"); !r.NotEvaluable || !strings.Contains(got, "monitors with different groups") {
		t.Errorf("different groups give %q", got)
	}
}

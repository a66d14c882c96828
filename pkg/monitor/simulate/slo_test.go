package simulate

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/monitor/query"
)

// burning is an SLO of 95 % with the alerts that the compiler makes of it.
func burning(t testing.TB, sli *declare.SLI) *declare.Set {
	t.Helper()
	sli.Targets = map[string]float64{"30d": 95, "90d": 95}
	slo := &declare.Object{Key: declare.Key{Kind: declare.SLO, Name: "fast-enough"}, SLI: sli, Payload: map[string]any{}}
	set := &declare.Set{Objects: []*declare.Object{slo}}
	for tier, text := range map[string]string{
		"fast":      `burn_rate("${ref:slo.fast-enough}").over("30d").long_window("1h").short_window("5m") > 14.4`,
		"sensitive": `burn_rate("${ref:slo.fast-enough}").over("30d").long_window("1h").short_window("5m") > 7.2`,
		"slow":      `burn_rate("${ref:slo.fast-enough}").over("30d").long_window("24h").short_window("2h") > 3`,
		"budget":    `error_budget("${ref:slo.fast-enough}").over("30d") > 75`,
	} {
		threshold := text[strings.LastIndex(text, " ")+1:]
		o := monitor(t, "fast-enough-burn-"+tier, "slo alert", text, `{"thresholds":{"critical":`+threshold+`}}`)
		o.Payload["tags"] = []any{"env:prod", "burn_tier:" + tier}
		o.Refs = []declare.Key{slo.Key}
		set.Objects = append(set.Objects, o)
	}
	return set
}

func expr(t testing.TB, text string) query.Expr {
	t.Helper()
	e, err := query.ParseExpr(text)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func latency(t testing.TB) *declare.SLI {
	return &declare.SLI{
		Good: expr(t, "count(v: v<=0.05):m{env:prod}.as_count()"), Bad: expr(t, "count(v: v>0.05):m{env:prod}.as_count()"),
	}
}

func slices60(t testing.TB) *declare.SLI {
	return &declare.SLI{Slice: expr(t, "default_zero(sum:e{env:prod}.as_count())"), SliceOp: "<=", SliceBound: 10, SliceSeconds: 60}
}

func TestSLO(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		sli    *declare.SLI
		series string
		want   map[string]string // tier → after how long it alerts, "" for never
	}{
		// 36 % of 5 % is a burn rate of 7.2, which is not above 7.2.
		{"36 %", latency(t), "good = 64x1500\nbad = 36x1500", map[string]string{"fast": "", "sensitive": "", "slow": "10h", "budget": ""}},
		{"37 %", latency(t), "good = 63x1500\nbad = 37x1500", map[string]string{"fast": "", "sensitive": "58m", "slow": "9h43m", "budget": ""}},
		{"80 %", latency(t), "good = 20x120\nbad = 80x120", map[string]string{"fast": "54m", "sensitive": "27m", "slow": "", "budget": ""}},
		{"80 % for four minutes, then it is over", latency(t), "good = 20x3 100x120\nbad = 80x3 0x120", map[string]string{"fast": "", "sensitive": "", "slow": "", "budget": ""}},
		{"a day and a half of nothing but bad is the whole budget of a month", latency(t), "good = 0x1700\nbad = 100x1700", map[string]string{"fast": "43m", "sensitive": "21m", "slow": "3h36m", "budget": "27h"}},
		{"values of the metric by the bound", latency(t), "m{env:prod} = {0.05:100} {0.05:20 0.1:80}x60\nm{env:dev} = {9:1000}x61", map[string]string{"fast": "55m", "sensitive": "28m", "slow": "", "budget": ""}},
		{"slices by the bound", slices60(t), "e{env:prod} = 10x20 11x60", map[string]string{"fast": "1h4m", "sensitive": "42m", "slow": "", "budget": ""}},
		{"slices without data are good", slices60(t), "e{env:prod} = _x70", map[string]string{"fast": "", "sensitive": "", "slow": "", "budget": ""}},
		{"no events burn nothing", latency(t), "m{env:prod} = _x70", map[string]string{"fast": "", "sensitive": "", "slow": "", "budget": ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, r := timeline(t, burning(t, c.sli), "slo fast-enough", c.series)
			if r.NotEvaluable {
				t.Fatal(r.Reason)
			}
			got := map[string]string{}
			for tier := range c.want {
				got[tier] = ""
			}
			for _, tr := range r.Timeline {
				tier := strings.TrimPrefix(tr.Monitor, "fast-enough-burn-")
				if tr.To == Alert && got[tier] == "" {
					got[tier], _, _ = strings.Cut(tr.String(), ": ")
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("got %v, want %v: %s", got, c.want, r.Reason)
			}
		})
	}
}

// The short window ends an alert soon after it is over, while the long one still burns.
func TestBothWindowsBurn(t *testing.T) {
	t.Parallel()
	set := burning(t, latency(t))
	want := "0s: new → ok (0.333333)\n43m: ok → alert (14.6667), told @page\n1h1m: alert → ok (12), told @chat"
	if got, _ := timeline(t, set, "monitor fast-enough-burn-fast", "good = 0x59 100x60\nbad = 100x59 0x60"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	rec := &record{}
	for range 60 {
		rec.add(64, 36)
	}
	if got := rec.burn(59, 60, 0.05); got != 7.2 {
		t.Errorf("36 %% is a burn rate of %v", got)
	}
}

// TestRecord compares sums with an array that is walked each time.
func TestRecord(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		n := 1 + rng.IntN(50)
		rec := &record{}
		good, bad := make([]float64, n), make([]float64, n)
		for i := range n {
			good[i], bad[i] = float64(rng.IntN(10)), float64(rng.IntN(3))
			rec.add(good[i], bad[i])
		}
		at, points := rng.IntN(n), 1+rng.IntN(80)
		var all, lost float64
		for i := at - points + 1; i <= at; i++ {
			if i < 0 {
				all += good[0] + bad[0]
				continue
			}
			all += good[i] + bad[i]
			lost += bad[i]
		}
		got := rec.burn(at, points, 0.05)
		if all == 0 {
			if got == got {
				t.Fatalf("without events the burn rate is %v", got)
			}
			continue
		}
		if want := lost / all / 0.05; got < want-1e-6 || got > want+1e-6 {
			t.Fatalf("%v %v at %d over %d: got %v, want %v", good, bad, at, points, got, want)
		}
	}
}

func TestSLOExpectations(t *testing.T) {
	t.Parallel()
	set := burning(t, latency(t))
	for _, c := range []struct{ series, expect, want string }{
		{`{good: "63x120", bad: "37x120"}`, "{alerts: {sensitive: alert, fast: ok, budget: ok}, at: 2h, detect_within: 1h, notified: [page], not_notified: chat, message_contains: Bad}", ""},
		{`{good: "64x120", bad: "36x120"}`, "{alerts: {sensitive: alert}, at: 2h}",
			"at 2h: expected alert of the tier sensitive, got ok: the value is 7.2, and alert is > 7.2"},
		{`{good: "63x120", bad: "37x120"}`, "{alerts: {sensitive: alert}, at: 2h, detect_within: 30m}", "it was detected after 58m, expected within 30m from 0s on"},
		{`{good: "100x120"}`, "{alerts: {fast: alert}, at: 2h, detect_within: 30m}",
			"at 2h: expected alert of the tier fast, got ok: the value is 0, and alert is > 14.4; it was not detected at all, expected within 30m from 0s on"},
		{`{good: "100x120"}`, "{alerts: {fsat: alert}, at: 2h}", "at 2h: there is no alert of the tier fsat, there are budget, fast, sensitive, slow"},
		{`{godo: "100x120"}`, "{alerts: {fast: ok}, at: 2h}", "the series of godo is not read by slo.fast-enough, which reads bad, good, m"},
		{`{good: "100x2"}`, "{state: ok, at: 1m}", ""},
	} {
		tests, err := loadText(set, "version: 1\ntests: [{name: x, slo: fast-enough, series: "+c.series+", expect: "+c.expect+"}]")
		if err != nil {
			t.Fatal(err)
		}
		if r := Run(set, tests)[0]; r.Reason != c.want || r.Passed != (c.want == "") {
			t.Errorf("%s %s gives %q, want %q", c.series, c.expect, r.Reason, c.want)
		}
	}
}

func TestSLOIsNotEvaluable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, series, want string }{
		{`burn_rate("0123456789abcdef").over("30d").long_window("1h").short_window("5m") > 14.4`, "good = 1", "not evaluable: the SLO 0123456789abcdef, which is not declared"},
		{`burn_rate("${ref:slo.fast-enough}").over("7d").long_window("1h").short_window("5m") > 14.4`, "good = 1", "not evaluable: slo.fast-enough has no target over 7d"},
		{`burn_rate("${ref:slo.fast-enough}").over("30d").long_window("1h").short_window("5m") > 14.4`, "interval 7m\ngood = 1", "not evaluable: a window of 720h0m0s with points of 7m0s"},
	} {
		set := burning(t, latency(t))
		set.Objects = append(set.Objects, monitor(t, "alone", "slo alert", c.text, ""))
		got, r := timeline(t, set, "monitor alone", c.series)
		if !strings.HasPrefix(got, c.want) || !r.NotEvaluable || r.Passed {
			t.Errorf("%s gives %q, want %q", c.text, got, c.want)
		}
	}
	set := burning(t, slices60(t))
	if got, r := timeline(t, set, "slo fast-enough", "interval 2m\ne{env:prod} = 1"); !r.NotEvaluable || !strings.Contains(got, "set interval to 1m0s") {
		t.Errorf("slices of a minute with points of two minutes give %q", got)
	}
	slices := slices60(t)
	slices.SliceSeconds = 300
	tests, err := loadText(burning(t, slices), "version: 1\ntests: [{name: x, slo: fast-enough, series: {\"e{env:prod}\": \"0x9\"}, expect: {at: 5m, state: ok}}]")
	if err != nil || tests[0].Interval != 5*time.Minute {
		t.Errorf("the interval of slices of 5 minutes is %v, %v", tests, err)
	}
}

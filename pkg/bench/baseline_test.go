package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
)

// copied is the sample report as it comes back from a file.
func copied(t *testing.T, edit func(*Report)) *Report {
	t.Helper()
	text, err := json.Marshal(sampleReport())
	if err != nil {
		t.Fatal(err)
	}
	r, err := ReadReport(text)
	if err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(r)
	}
	return r
}

func TestCompareBaseline(t *testing.T) {
	t.Parallel()
	edit := func(i int, change func(*Run)) func(*Report) { return func(r *Report) { change(&r.Runs[i]) } }
	latency := func(what string, change func(*Latency)) func(*Report) {
		return edit(0, func(r *Run) { l := r.Latencies[what]; change(&l); r.Latencies[what] = l })
	}
	for _, tt := range []struct {
		name    string
		now     func(*Report)
		options BaselineOptions
		want    string // what regressed, by semicolon
	}{
		{"the same", nil, BaselineOptions{MaxRegression: 0.1}, ""},
		{"a rate just within", edit(1, func(r *Run) { r.AchievedPerSecond = 27_000 }), BaselineOptions{MaxRegression: 0.1}, ""},
		{"a rate just beyond", edit(1, func(r *Run) { r.AchievedPerSecond = 26_990 }), BaselineOptions{MaxRegression: 0.1}, "embedded get rate"},
		{"nothing allowed", edit(1, func(r *Run) { r.AchievedPerSecond = 29_990 }), BaselineOptions{}, "embedded get rate"},
		{"a better rate", edit(1, func(r *Run) { r.AchievedPerSecond = 90_000 }), BaselineOptions{}, ""},
		{"not sustained any more", edit(0, func(r *Run) { r.Sustained = false }), BaselineOptions{MaxRegression: 0.1}, "embedded pipeline-1000 sustained"},
		{"never was sustained", edit(2, func(r *Run) { r.Sustained = false }), BaselineOptions{MaxRegression: 0.1}, ""},
		{"a ratio", func(r *Report) { r.Comparisons[0].Ratio = 0.8 }, BaselineOptions{MaxRegression: 0.1}, "ingest against a bare loop"},
		{"latencies are shown", latency(PublishToReadable, func(l *Latency) { l.P99 = 40 }), BaselineOptions{MaxRegression: 0.1}, ""},
		{"latencies are judged", latency(PublishToReadable, func(l *Latency) { l.P99 = 40 }), BaselineOptions{MaxRegression: 0.1, MaxLatencyRegression: 0.5}, "embedded pipeline-1000 publish to readable p99"},
		{"two", func(r *Report) { r.Comparisons[0].Ratio = 0.8; r.Runs[0].AchievedPerSecond = 1 }, BaselineOptions{MaxRegression: 0.1}, "embedded pipeline-1000 rate;ingest against a bare loop"},
		{"repeated runs by their mean", func(r *Report) {
			again := r.Runs[1]
			r.Runs[1].AchievedPerSecond, again.AchievedPerSecond = 20_000, 40_000
			r.Runs = append(r.Runs, again)
		}, BaselineOptions{MaxRegression: 0.01}, ""},
		{"shorter runs", func(r *Report) { r.Settings["for_seconds"] = 1 }, BaselineOptions{MaxRegression: 0.1}, ""},
		{"another machine: rates are not judged", func(r *Report) { r.Machine.CPUs = 8; r.Runs[1].AchievedPerSecond = 1 }, BaselineOptions{MaxRegression: 0.1}, ""},
		{"another machine: ratios are", func(r *Report) { r.Machine.CPUs = 8; r.Comparisons[0].Ratio = 0.5 }, BaselineOptions{MaxRegression: 0.1}, "ingest against a bare loop"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := CompareBaseline(copied(t, nil), copied(t, tt.now), tt.options)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(c.Regressed(), ";"); got != tt.want {
				t.Errorf("regressed %q, want %q\n%+v", got, tt.want, c.Figures)
			}
		})
	}
}

// TestYardsticksAreNotJudged: a slower bare loop is a slower machine.
func TestYardsticksAreNotJudged(t *testing.T) {
	t.Parallel()
	base := copied(t, func(r *Report) { r.Runs[0].Yardstick, r.Runs[1].Yardstick = true, true })
	now := copied(t, func(r *Report) {
		r.Runs[0].Sustained, r.Runs[1].AchievedPerSecond = false, 1
		r.Runs[0].Latencies[Publish] = Latency{P50: 100, P99: 100, P999: 100}
	})
	c, err := CompareBaseline(base, now, BaselineOptions{MaxRegression: 0.1, MaxLatencyRegression: 0.1})
	if err != nil || len(c.Regressed()) > 0 {
		t.Errorf("%v: regressed %v", err, c.Regressed())
	}
}

// TestBaselineNotes: what is in one report only is said.
func TestBaselineNotes(t *testing.T) {
	t.Parallel()
	now := copied(t, func(r *Report) { r.Runs[1].Name = "page" })
	c, err := CompareBaseline(copied(t, nil), now, BaselineOptions{MaxRegression: 0.1})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"embedded get is in the baseline only", "embedded page is not in the baseline"} {
		if !slices.Contains(c.Notes, want) {
			t.Errorf("notes %q lack %q", c.Notes, want)
		}
	}
}

func TestNotComparable(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		now  func(*Report)
		want string
	}{
		"another benchmark":              {func(r *Report) { r.Kind = "api" }, "the baseline is of bench engine, this is bench api"},
		"other settings":                 {func(r *Report) { r.Settings["record_bytes"] = 1000 }, "record_bytes was 300, is 1000"},
		"nothing in common":              {func(r *Report) { r.Runs, r.Comparisons = nil, nil }, "no figure is in both"},
		"another machine without ratios": {func(r *Report) { r.Machine.Arch, r.Comparisons = "arm64", nil }, "only ratios are compared"},
	} {
		_, err := CompareBaseline(copied(t, nil), copied(t, tt.now), BaselineOptions{})
		if !errors.Is(err, ErrNotComparable) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	for text, want := range map[string]string{`{`: "unexpected end", `{"schema":"latamctl.verify/v1"}`: "expected latamctl.bench/v1"} {
		if _, err := ReadReport([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestComparedTable(t *testing.T) {
	t.Parallel()
	now := copied(t, func(r *Report) { r.Runs[1].AchievedPerSecond = 24_000; r.Runs[0].AchievedPerSecond = 1098.24 })
	c, err := CompareBaseline(copied(t, nil), now, BaselineOptions{MaxRegression: 0.1})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := c.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(b.String(), "\n")
	for i, want := range map[int]string{
		2: "embedded get rate                                30000/s    24000/s    20.0 % worse   regressed",
		3: "embedded pipeline-1000 rate                      998/s      1098/s     10.0 % better  within bounds",
	} {
		if strings.Join(strings.Fields(lines[i]), " ") != strings.Join(strings.Fields(want), " ") {
			t.Errorf("line %d is %q, want %q", i, lines[i], want)
		}
	}
}

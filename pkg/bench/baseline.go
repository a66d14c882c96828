package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// MaxReportBytes bounds a report that is read.
const MaxReportBytes = 16 << 20

// ReadReport reads a report that was written as JSON.
func ReadReport(text []byte) (*Report, error) {
	var r Report
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("read a report of a benchmark: %w", err)
	}
	if r.Schema != Schema {
		return nil, fmt.Errorf("read a report of a benchmark: its schema is %q, expected %s", r.Schema, Schema)
	}
	return &r, nil
}

// BaselineOptions say how much worse a figure may be, as shares: 0.1 is 10 %.
type BaselineOptions struct {
	// MaxRegression is for rates and ratios.
	MaxRegression float64
	// MaxLatencyRegression is for the latencies of open loops; 0 does not judge them.
	MaxLatencyRegression float64
}

// Figure is one number in both reports.
type Figure struct {
	// Name says of what and which, such as "embedded ingest-max rate".
	Name string  `json:"name"`
	Unit string  `json:"unit"`
	Base float64 `json:"base"`
	Now  float64 `json:"now"`
	// Worse is the share by which it is worse than the baseline; negative is better.
	Worse float64 `json:"worse"`
	// Judged is false for a figure that is shown only.
	Judged    bool `json:"judged"`
	Regressed bool `json:"regressed"`
}

// Compared is a report set against its baseline.
type Compared struct {
	Figures []Figure `json:"figures"`
	// Notes say what could not be compared, and why.
	Notes []string `json:"notes,omitempty"`
}

// Regressed names the figures that are worse than allowed.
func (c *Compared) Regressed() []string {
	var names []string
	for _, f := range c.Figures {
		if f.Regressed {
			names = append(names, f.Name)
		}
	}
	return names
}

// ErrNotComparable says that two reports have no figure in common that means the same.
var ErrNotComparable = errors.New("the reports cannot be compared")

// CheckBaseline says before a measurement whether its report can be compared with an earlier one.
// Settings other than the length of runs have to be the same.
func CheckBaseline(base, now *Report) error {
	if base.Kind != now.Kind {
		return fmt.Errorf("%w: the baseline is of bench %s, this is bench %s", ErrNotComparable, base.Kind, now.Kind)
	}
	for _, name := range slices.Sorted(maps.Keys(now.Settings)) {
		if was, is := setting(base, name), setting(now, name); name != "for_seconds" && was != is {
			return fmt.Errorf("%w: %s was %s, is %s", ErrNotComparable, name, was, is)
		}
	}
	return nil
}

// CompareBaseline sets the figures of a report against those of an earlier one. Rates and latencies
// are compared on the same kind of machine only; ratios were taken within one run, so that the machine
// cancels out.
func CompareBaseline(base, now *Report, o BaselineOptions) (*Compared, error) {
	if err := CheckBaseline(base, now); err != nil {
		return nil, err
	}
	c := &Compared{Figures: []Figure{}}
	same := base.Machine.OS == now.Machine.OS && base.Machine.Arch == now.Machine.Arch && base.Machine.CPUs == now.Machine.CPUs
	if same {
		c.runs(runsOf(base), runsOf(now), o)
	} else {
		c.Notes = append(c.Notes, fmt.Sprintf("the baseline is of another machine (%s/%s, %d CPUs): only ratios are compared", base.Machine.OS, base.Machine.Arch, base.Machine.CPUs))
	}
	c.ratios(base, now, o)
	if !slices.ContainsFunc(c.Figures, func(f Figure) bool { return f.Judged }) {
		return nil, fmt.Errorf("%w: %s", ErrNotComparable, strings.Join(append(c.Notes, "no figure is in both"), "; "))
	}
	return c, nil
}

// setting is a setting as both reports write it, whichever was read from a file.
func setting(r *Report, name string) string {
	text, err := json.Marshal(r.Settings[name])
	if err != nil {
		return "something else"
	}
	return string(text)
}

// runMean is the mean of the runs with one name: some are repeated in turns.
type runMean struct {
	loop      string
	yardstick bool
	rate      float64
	sustained bool
	latencies map[string]Latency
	n         float64
}

// runsOf are the runs by target and name.
func runsOf(r *Report) map[string]*runMean {
	means := map[string]*runMean{}
	for _, run := range r.Runs {
		name := run.Target + " " + run.Name
		m, ok := means[name]
		if !ok {
			m = &runMean{loop: run.Loop, yardstick: run.Yardstick, sustained: true, latencies: map[string]Latency{}}
			means[name] = m
		}
		m.n++
		m.rate += (run.AchievedPerSecond - m.rate) / m.n
		m.sustained = m.sustained && run.Sustained
		for what, l := range run.Latencies {
			was := m.latencies[what]
			m.latencies[what] = Latency{P50: was.P50 + (l.P50-was.P50)/m.n, P99: was.P99 + (l.P99-was.P99)/m.n, P999: was.P999 + (l.P999-was.P999)/m.n}
		}
	}
	return means
}

func (c *Compared) runs(base, now map[string]*runMean, o BaselineOptions) {
	for _, name := range slices.Sorted(maps.Keys(base)) {
		was, is := base[name], now[name]
		if is == nil {
			c.Notes = append(c.Notes, name+" is in the baseline only")
			continue
		}
		c.add(Figure{Name: name + " rate", Unit: "/s", Base: was.rate, Now: is.rate, Judged: !was.yardstick}, o.MaxRegression, was.rate-is.rate)
		if was.sustained && !is.sustained && !was.yardstick {
			c.Figures = append(c.Figures, Figure{Name: name + " sustained", Base: 1, Worse: 1, Judged: true, Regressed: true})
		}
		if was.loop == OpenLoop { // In a closed loop a latency is the other side of the rate.
			c.latencies(name, was, is, o)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if base[name] == nil {
			c.Notes = append(c.Notes, name+" is not in the baseline")
		}
	}
}

func (c *Compared) latencies(name string, was, is *runMean, o BaselineOptions) {
	for _, what := range slices.Sorted(maps.Keys(was.latencies)) {
		l, ok := is.latencies[what]
		if !ok {
			continue
		}
		b := was.latencies[what]
		for _, q := range []struct {
			name      string
			base, now float64
		}{{"p50", b.P50, l.P50}, {"p99", b.P99, l.P99}, {"p99.9", b.P999, l.P999}} {
			c.add(Figure{Name: name + " " + strings.ReplaceAll(what, "_", " ") + " " + q.name, Unit: "ms", Base: q.base, Now: q.now, Judged: o.MaxLatencyRegression > 0 && !was.yardstick}, o.MaxLatencyRegression, q.now-q.base)
		}
	}
}

func (c *Compared) ratios(base, now *Report, o BaselineOptions) {
	for _, was := range base.Comparisons {
		i := slices.IndexFunc(now.Comparisons, func(is Comparison) bool { return is.Name == was.Name })
		if i < 0 {
			c.Notes = append(c.Notes, was.Name+" is in the baseline only")
			continue
		}
		c.add(Figure{Name: was.Name, Unit: "ratio", Base: was.Ratio, Now: now.Comparisons[i].Ratio, Judged: true}, o.MaxRegression, was.Ratio-now.Comparisons[i].Ratio)
	}
}

// add judges a figure by how much worse it is, in its own unit. One that was 0 tells nothing.
func (c *Compared) add(f Figure, allowed, worse float64) {
	if f.Base <= 0 {
		return
	}
	f.Worse = math.Round(worse/f.Base*1e4) / 1e4
	f.Regressed = f.Judged && f.Worse > allowed
	c.Figures = append(c.Figures, f)
}

// WriteTable prints the comparison for a person: what regressed first.
func (c *Compared) WriteTable(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "\nFIGURE\tBASELINE\tNOW\tCHANGE\tJUDGEMENT")
	figures := slices.Clone(c.Figures)
	slices.SortStableFunc(figures, func(a, b Figure) int { return rank(a) - rank(b) })
	for _, f := range figures {
		judgement := map[int]string{0: "regressed", 1: "within bounds", 2: "not judged"}[rank(f)]
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", f.Name, inUnit(f.Base, f.Unit), inUnit(f.Now, f.Unit), change(f), judgement)
	}
	if err := tw.Flush(); err != nil {
		return fmt.Errorf("print the comparison: %w", err)
	}
	for _, note := range c.Notes {
		fmt.Fprintf(w, "\nnote: %s\n", note)
	}
	return nil
}

func rank(f Figure) int {
	switch {
	case f.Regressed:
		return 0
	case f.Judged:
		return 1
	}
	return 2
}

func inUnit(v float64, unit string) string {
	switch unit {
	case "/s":
		return fmt.Sprintf("%.0f/s", v)
	case "ms":
		return fmt.Sprintf("%.2f ms", v)
	case "ratio":
		return fmt.Sprintf("%.2f", v)
	}
	return map[bool]string{true: "yes", false: "no"}[v > 0]
}

// change is how much better or worse a figure is, whichever way is good.
func change(f Figure) string {
	switch {
	case f.Unit == "":
		return "-"
	case f.Worse > 0:
		return fmt.Sprintf("%.1f %% worse", f.Worse*100)
	case f.Worse < 0:
		return fmt.Sprintf("%.1f %% better", -f.Worse*100)
	}
	return "same"
}

// Package bench measures the system from outside: it offers load on a schedule and reports rates
// and latencies. Every benchmark of the program answers with its Report.
package bench

import (
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Schema names the report's format.
const Schema = "latamctl.bench/v1"

// Report is the outcome of one benchmark.
type Report struct {
	Schema string `json:"schema"`
	// Kind says what was measured, such as engine.
	Kind      string    `json:"kind"`
	Machine   Machine   `json:"machine"`
	StartedAt time.Time `json:"started_at"`
	// Settings are what the figures depend on besides the machine.
	Settings    map[string]any `json:"settings,omitempty"`
	Runs        []Run          `json:"runs"`
	Comparisons []Comparison   `json:"comparisons,omitempty"`
	// Notes say what was left out and why.
	Notes []string `json:"notes,omitempty"`
	// Baseline sets the figures against those of an earlier report; nil when none was given.
	Baseline *Compared `json:"baseline,omitempty"`
}

// Machine is where the figures come from.
type Machine struct {
	OS   string `json:"os"`
	Arch string `json:"arch"`
	// CPUs is how many the program may use at a time.
	CPUs int    `json:"cpus"`
	Go   string `json:"go"`
}

// ThisMachine describes the machine that the program runs on.
func ThisMachine() Machine {
	return Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.GOMAXPROCS(0), Go: runtime.Version()}
}

// NewReport begins a report.
func NewReport(kind string, startedAt time.Time) *Report {
	return &Report{Schema: Schema, Kind: kind, Machine: ThisMachine(), StartedAt: startedAt.UTC(), Runs: []Run{}}
}

// The ways to offer load.
const (
	// OpenLoop offers messages when they are due, whatever the answers; latencies count from then.
	OpenLoop = "open"
	// ClosedLoop keeps a fixed number in work and offers the next when one is done.
	ClosedLoop = "closed"
)

// Run is one measurement.
type Run struct {
	Name string `json:"name"`
	// Target is the system that was measured.
	Target string `json:"target"`
	Loop   string `json:"loop"`
	// Yardstick is a run that another of the same report is measured against. It says more of the
	// machine than of this program.
	Yardstick bool `json:"yardstick,omitempty"`
	// OfferedPerSecond is 0 in a closed loop.
	OfferedPerSecond  float64 `json:"offered_per_second"`
	AchievedPerSecond float64 `json:"achieved_per_second"`
	// Sustained says that everything offered was done without an error and without a growing backlog.
	Sustained bool    `json:"sustained"`
	Seconds   float64 `json:"seconds"`
	// CPUSeconds is the processor time that this process took meanwhile, on all processors, with
	// the making of the load; 0 when it is not known. On a busy machine it says how much of the
	// machine the run got.
	CPUSeconds float64 `json:"cpu_seconds,omitempty"`
	// PeakMemoryMiB is the most memory that the Go runtime of this process held meanwhile, with the
	// engine and the making of the load; pages of the program's file do not count.
	PeakMemoryMiB float64 `json:"peak_memory_mib,omitempty"`
	// Latencies are named after what they measure.
	Latencies map[string]Latency `json:"latencies_ms"`
	// Counts are numbers of messages or operations: done, errors, unfinished, redelivered, commits.
	Counts map[string]int64 `json:"counts"`
	// RowsPerCommit is nil where nothing is committed in batches.
	RowsPerCommit *RowsPerCommit `json:"rows_per_commit,omitempty"`
	// Backlog is nil in a closed loop.
	Backlog *Backlog `json:"backlog,omitempty"`
}

// RowsPerCommit is the size of the batches that formed.
type RowsPerCommit struct {
	Mean float64 `json:"mean"`
	Max  int64   `json:"max"`
}

// Backlog is the mean number of messages that were due and not done, in the middle and in the last
// third of a run.
type Backlog struct {
	Middle float64 `json:"middle"`
	Last   float64 `json:"last"`
}

// Latency is a distribution in milliseconds.
type Latency struct {
	Count uint64  `json:"count"`
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p999"`
	Max   float64 `json:"max"`
}

// LatencyOf summarises a histogram.
func LatencyOf(h *Histogram) Latency {
	return Latency{
		Count: h.Count(), P50: milliseconds(h.Quantile(0.5)), P99: milliseconds(h.Quantile(0.99)),
		P999: milliseconds(h.Quantile(0.999)), Max: milliseconds(h.Max()),
	}
}

// milliseconds rounds to whole microseconds, finer than any of the figures is worth.
func milliseconds(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond).Microseconds()) / 1000
}

// round keeps one decimal of a rate.
func round(f float64) float64 { return math.Round(f*10) / 10 }

func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }

// Comparison sets one thing's rate, or its work for a second of a processor, against another's of the
// same report.
type Comparison struct {
	Name string `json:"name"`
	// Ratio is the measured figure over that of the yardstick, Target the least wanted, 0 where none is set.
	Ratio  float64 `json:"ratio"`
	Target float64 `json:"target,omitempty"`
}

// The latencies of a message, in the order to show them.
const (
	Publish           = "publish"
	PublishToDelivery = "publish_to_delivered"
	PublishToReadable = "publish_to_readable"
	// PublishToCommitted is the same of the ingest benchmark, whose worker reads nothing back.
	PublishToCommitted = "publish_to_committed"
	Commit             = "commit"
)

// WriteTable prints the report for a person.
func (r *Report) WriteTable(w io.Writer) error {
	fmt.Fprintf(w, "%s on %s/%s, %d CPUs, %s\n", r.Kind, r.Machine.OS, r.Machine.Arch, r.Machine.CPUs, r.Machine.Go)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "\nTARGET\tRUN\tOFFERED/s\tACHIEVED/s\tSUSTAINED\tMILLISECONDS\tP50\tP99\tP99.9\tMAX\tCOUNTS")
	for _, run := range r.Runs {
		run.writeTable(tw)
	}
	if err := tw.Flush(); err != nil {
		return fmt.Errorf("print report: %w", err)
	}
	for _, c := range r.Comparisons {
		fmt.Fprintf(w, "\n%s: ratio %.2f", c.Name, c.Ratio)
		if c.Target > 0 {
			fmt.Fprintf(w, ", wanted at least %.2f", c.Target)
		}
		fmt.Fprintln(w)
	}
	for _, note := range r.Notes {
		fmt.Fprintf(w, "\nnote: %s\n", note)
	}
	if r.Baseline != nil {
		return r.Baseline.WriteTable(w)
	}
	return nil
}

func (r Run) writeTable(w io.Writer) {
	offered, sustained := "max", "-"
	if r.Loop == OpenLoop {
		offered, sustained = fmt.Sprintf("%.0f", r.OfferedPerSecond), "yes"
	}
	if !r.Sustained {
		sustained = "no"
	}
	head := fmt.Sprintf("%s\t%s\t%s\t%.0f\t%s", r.Target, r.Name, offered, r.AchievedPerSecond, sustained)
	counts := "\t" + r.countsText()
	for _, name := range r.latencyNames() {
		l := r.Latencies[name]
		fmt.Fprintf(w, "%s\t%s\t%.2f\t%.2f\t%.2f\t%.2f%s\n", head, strings.ReplaceAll(name, "_", " "), l.P50, l.P99, l.P999, l.Max, counts)
		head, counts = "\t\t\t\t", ""
	}
}

// latencyNames puts the stages of a message in their order and the others after them by name.
func (r Run) latencyNames() []string {
	order := []string{Publish, PublishToDelivery, PublishToReadable, PublishToCommitted, Commit}
	var names []string
	for name := range r.Latencies {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		i, j := slices.Index(order, a), slices.Index(order, b)
		if i != j && i >= 0 && j >= 0 {
			return i - j
		}
		if i != j { // One of them is a stage, the other is not.
			return j - i
		}
		return strings.Compare(a, b)
	})
	return names
}

// countsText names what is not zero.
func (r Run) countsText() string {
	var parts []string
	for _, name := range []string{"done", "errors", "unfinished", "redelivered"} {
		if n := r.Counts[name]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, name))
		}
	}
	if r.RowsPerCommit != nil {
		parts = append(parts, fmt.Sprintf("%.1f rows a commit, most %d", r.RowsPerCommit.Mean, r.RowsPerCommit.Max))
	}
	if r.CPUSeconds > 0 && r.Seconds > 0 {
		parts = append(parts, fmt.Sprintf("%.1f CPUs", r.CPUSeconds/r.Seconds))
	}
	if r.PeakMemoryMiB > 0 {
		parts = append(parts, fmt.Sprintf("%.0f MiB", r.PeakMemoryMiB))
	}
	return strings.Join(parts, ", ")
}

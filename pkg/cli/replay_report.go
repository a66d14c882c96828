package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/latamctl/latamctl/services/ingest/replay"
)

// windowDocument is the window of a replay.
type windowDocument struct {
	Topic string `json:"topic"`
	From  string `json:"from"`
	To    string `json:"to"`
}

// replayDocument is how a replay ended, for programs.
type replayDocument struct {
	Schema  string `json:"schema"`
	Dataset string `json:"dataset"`
	DryRun  bool   `json:"dry_run"`
	windowDocument
	Complete bool `json:"complete"`
	replay.Counts
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"rate_per_second"`
}

// report says what was done.
func (r *replayRun) report(report replay.Report, broken bool) error {
	a, seconds := r.app, r.seconds()
	if a.global.output == outputJSON {
		return json.NewEncoder(a.proc.Out).Encode(replayDocument{
			Schema: "latamctl.replay/v1", Dataset: r.ds.Name, Complete: !broken, Counts: report.Counts, Seconds: seconds,
			windowDocument: windowDocument{Topic: r.ds.Topic, From: shownTime(r.from), To: shownTime(r.to)},
			PerSecond:      float64(report.Stored) / max(seconds, 0.001),
		})
	}
	if broken {
		return nil // The error says how far it came.
	}
	var b strings.Builder
	fmt.Fprintf(&b, "replayed %d messages of %s in %.2fs: %d stored", report.Window, r.ds.Name, seconds, report.Stored)
	if report.Replaced > 0 {
		fmt.Fprintf(&b, ", %d replaced since", report.Replaced)
	}
	if report.Later > 0 {
		fmt.Fprintf(&b, ", %d newer ones stored behind them", report.Later)
	}
	if n := report.RejectedAll(); n > 0 {
		fmt.Fprintf(&b, ", %d dead letters (%s)", n, reasons(report.Rejected))
	}
	_, err := fmt.Fprintln(a.proc.Out, b.String())
	return err
}

// reasons lists counts by reason, the most frequent first.
func reasons(counts map[string]int64) string {
	names := slices.SortedFunc(maps.Keys(counts), func(x, y string) int {
		if counts[x] != counts[y] {
			return int(counts[y] - counts[x])
		}
		return strings.Compare(x, y)
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %d", name, counts[name])
	}
	return strings.Join(names, ", ")
}

// previewDocument is what a dry run prints with -o json.
type previewDocument struct {
	Schema  string          `json:"schema"`
	Dataset string          `json:"dataset"`
	DryRun  bool            `json:"dry_run"`
	Window  *windowDocument `json:"window,omitempty"`
	Files   []string        `json:"files,omitempty"`
	replay.Preview
	Seconds float64 `json:"seconds"`
}

// showPreview says what storing records would change.
func (a *app) showPreview(d previewDocument) error {
	if a.global.output == outputJSON {
		return json.NewEncoder(a.proc.Out).Encode(d)
	}
	var b strings.Builder
	where := "in " + strings.Join(d.Files, ", ")
	if d.Window != nil {
		where = fmt.Sprintf("published to %s from %s to %s", d.Window.Topic, d.Window.From, d.Window.To)
	}
	fmt.Fprintf(&b, "%d records %s\n\n", d.Records, where)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "ROWS\tEFFECT\n%d\tnew\n%d\tchanged\n%d\tthe same\n%d\tstay as they are: the stored event time is newer\n", d.New, d.Changed, d.Same, d.Older)
	if len(d.Rejected) > 0 {
		fmt.Fprintf(w, "\t\nRECORDS\tREJECTED\n")
		for _, name := range slices.Sorted(maps.Keys(d.Rejected)) {
			fmt.Fprintf(w, "%d\t%s\n", d.Rejected[name], name)
		}
	}
	_ = w.Flush() // A builder takes everything.
	for i, change := range d.Changes {
		if i == 0 {
			fmt.Fprintf(&b, "\n%d of the rows that change:\n", len(d.Changes))
		}
		fmt.Fprintf(&b, "  %s\n", change.ID)
		for _, f := range change.Fields {
			fmt.Fprintf(&b, "    %s: %s → %s\n", f.Field, valueText(f.Old), valueText(f.New))
		}
	}
	fmt.Fprint(&b, "\nnothing was written\n")
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Fprint(a.proc.Out, strings.TrimRight(line, " \n")+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// valueText is a value for a person, on one line.
func valueText(v string) string {
	if v == "" {
		return "(none)"
	}
	return cellText(json.RawMessage(v))
}

// showProgress redraws one line on a terminal until the returned function is called.
func (a *app) showProgress(line func() string) (stop func()) {
	if !a.proc.ErrTerminal || a.global.quiet {
		return func() {}
	}
	ended, drawn := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(drawn)
		tick := time.NewTicker(progressInterval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				fmt.Fprintf(a.proc.Err, "\r%s\x1b[K", line())
			case <-ended:
				fmt.Fprint(a.proc.Err, "\r\x1b[K")
				return
			}
		}
	}()
	return func() { close(ended); <-drawn }
}

package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/bench"
	"github.com/latamctl/latamctl/pkg/config"
)

// reportOptions are the flags of all benchmarks about their report.
type reportOptions struct {
	out, baseline             string
	maxRegression, maxLatency share
}

func addReportFlags(cmd *cobra.Command, o *reportOptions) {
	o.maxRegression = defaultRegression
	f := cmd.Flags()
	f.StringVar(&o.out, "out", "", "write the report as JSON to this file, to be a baseline later")
	f.StringVar(&o.baseline, "baseline", "", "compare with the report in this file; exit 6 when a figure is worse than allowed")
	f.Var(&o.maxRegression, "max-regression", "how much lower rates and ratios may be than in the baseline")
	f.Var(&o.maxLatency, "max-latency-regression", "how much higher latencies at a fixed rate may be (default they are shown, not judged)")
	config.MarkInvocation(f, "out", "baseline", "max-regression", "max-latency-regression")
}

// defaultRegression is what rates of one machine differ by from run to run.
const defaultRegression = 0.1

// share is a part of something, written as 10%.
type share float64

// Set reads 10%.
func (p *share) Set(text string) error {
	number, ok := strings.CutSuffix(text, "%")
	v, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || math.IsNaN(v) || v < 0 || v > 1000 {
		return errors.New("expected a share such as 10%")
	}
	*p = share(v / 100)
	return nil
}

// Type is what help calls it.
func (p *share) Type() string { return "percent" }

func (p *share) String() string {
	if *p == 0 {
		return ""
	}
	return strconv.FormatFloat(math.Round(float64(*p)*1e6)/1e4, 'f', -1, 64) + "%"
}

// readBaseline reads the earlier report, and says before the measurement when it cannot be compared.
func (a *app) readBaseline(o reportOptions, report *bench.Report) (*bench.Report, error) {
	if o.baseline == "" {
		return nil, nil
	}
	const hint = "a baseline is written with --out FILE, by the same benchmark with the same settings"
	text, err := a.proc.ReadFileLimit(o.baseline, bench.MaxReportBytes)
	if err != nil {
		return nil, fail(exitUsage, hint, fmt.Errorf("read the baseline: %w", err))
	}
	base, err := bench.ReadReport(text)
	if err == nil {
		err = bench.CheckBaseline(base, report)
	}
	if err != nil {
		return nil, fail(exitUsage, hint, fmt.Errorf("baseline %s: %w", o.baseline, err))
	}
	return base, nil
}

// concludeBench shows and writes what was measured, also before an error, and compares it with the
// baseline.
func (a *app) concludeBench(o reportOptions, report, base *bench.Report, measured error) error {
	if measured != nil && len(report.Runs) == 0 {
		return measured
	}
	var compared error
	if base != nil && measured == nil {
		report.Baseline, compared = bench.CompareBaseline(base, report, bench.BaselineOptions{
			MaxRegression: float64(o.maxRegression), MaxLatencyRegression: float64(o.maxLatency),
		})
	}
	if err := errors.Join(measured, a.printBench(report), a.writeBench(o.out, report)); err != nil {
		return err
	}
	if compared != nil {
		return fail(exitUsage, "measure the same rates as the baseline, on the same kind of machine", compared)
	}
	if report.Baseline == nil {
		return nil
	}
	if worse := report.Baseline.Regressed(); len(worse) > 0 {
		return failf(exitVerify, "if it is meant to be: --out "+o.baseline+" makes this the baseline", "worse than the baseline by more than allowed: %s", strings.Join(worse, ", "))
	}
	return nil
}

func (a *app) printBench(report *bench.Report) error {
	if a.global.output == outputJSON {
		return json.NewEncoder(a.proc.Out).Encode(report)
	}
	return report.WriteTable(a.proc.Out)
}

func (a *app) writeBench(file string, report *bench.Report) error {
	if file == "" {
		return nil
	}
	alone := *report
	alone.Baseline = nil // What it was compared with is not part of what was measured.
	text, err := json.MarshalIndent(&alone, "", "  ")
	if err != nil {
		return err
	}
	if err := a.proc.WriteFile(file, append(text, '\n')); err != nil {
		return failf(exitUsage, "choose a file that can be written with --out", "write the report: %w", err)
	}
	return nil
}

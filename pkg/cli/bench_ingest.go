package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/bench"
	"github.com/latamctl/latamctl/pkg/config"
)

func benchIngestCmd(a *app) *cobra.Command {
	var o benchOptions
	d := bench.Options{}.Defaults()
	cmd := &cobra.Command{
		Use:   "ingest",
		Short: "Measure ingest: publish to committed, beside a bare loop",
		Long: `ingest starts the engine and the ingest service in this process, publishes records that are due
at fixed times and measures how long each takes until its row is committed, from when it was due.
At every rate it measures a bare loop as well, which receives, writes and acknowledges without
decoding or checking anything. At the end both work off the same backlog as fast as they can, in
turns: the ratio of their rates is what ingest costs, whatever the machine.`,
		Example: `  latamctl bench ingest
  latamctl bench ingest --rates 10000 --for 30s --out baseline.json
  latamctl bench ingest --rates 10000 --for 30s --baseline baseline.json --max-regression 10%`,
		Args: cobra.NoArgs,
		RunE: a.run(nothing, func(ctx context.Context, _ []string) error { return a.runBenchIngest(ctx, o) }),
	}
	f := cmd.Flags()
	f.IntSliceVar(&o.Rates, "rates", d.Rates, "records a second to offer, one run each")
	f.DurationVar(&o.For, "for", d.For, "how long each run lasts")
	f.IntVar(&o.RecordBytes, "record-bytes", d.RecordBytes, "size of a record")
	f.StringVar(&o.dataDir, "data-dir", "", "folder to make the temporary folder in, to choose the disk (default the system's)")
	addReportFlags(cmd, &o.report)
	config.MarkInvocation(f, "rates", "for", "record-bytes", "data-dir")
	return cmd
}

func (a *app) runBenchIngest(ctx context.Context, o benchOptions) error {
	o.Options = o.Defaults()
	kind, err := a.benchKind("ingest", o)
	if err != nil {
		return err
	}
	report := bench.NewReport("ingest", a.proc.Now())
	report.Settings = map[string]any{"engine": kind, "for_seconds": o.For.Seconds(), "record_bytes": o.RecordBytes}
	base, err := a.readBaseline(o.report, report)
	if err != nil {
		return err
	}
	err = a.benchInFolder(ctx, kind, o.dataDir, func(p *platform, deps bench.Deps) error {
		runs, ratios, err := bench.Ingest(ctx, o.Options, deps, a.benchWorker(p))
		report.Runs = runs
		if err == nil {
			report.Comparisons = append(report.Comparisons, ratios...)
		}
		return err
	})
	return a.concludeBench(o.report, report, base, err)
}

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/estimate"
	"github.com/latamctl/latamctl/pkg/stack/contract"
)

// clusterZones is in how many zones GKE puts the nodes of a regional cluster that names none.
const clusterZones = 3

// defaultReads is how many pages a second are read where nobody says.
const defaultReads = 10

// estimateOptions are the flags of estimate.
type estimateOptions struct {
	settings  contract.Settings
	rate      perSecond
	reads     perSecond
	size      byteCount
	retention retention
	datadog   bool
}

func estimateCmd(a *app) *cobra.Command {
	o := estimateOptions{reads: defaultReads}
	cmd := &cobra.Command{
		Use: "estimate", GroupID: groupCloud,
		Short: "Estimate what a load needs and costs on Google Cloud",
		Long: `estimate computes nodes, pods, storage and USD a month by component for a load, and compares ingest with
Dataflow and with Pub/Sub's Bigtable subscription. It asks nobody: list prices of us-central1 are built
in, each with its source and the day on which it was read. The rate is of all datasets together. Datasets,
indexes and retention are those of the declaration; machines, zones, limits and backups those of the
environment, or the defaults of one. docs/capacity.md has the model, and what is measured, published or
assumed in it.`,
		Example: `  latamctl estimate --rate 5k/s --size 300B --retention 400d
  latamctl estimate --rate 5k/s --size 300B --env prod --reads 200/s -o json
  latamctl estimate --rate 50k/s --size 1KiB --retention 30d --bigtable-zones us-central1-b,us-central1-c`,
		Args: cobra.NoArgs,
	}
	cmd.RunE = a.run(settings, func(context.Context, []string) error { return a.runEstimate(&o) })
	f := cmd.Flags()
	f.Var(&o.rate, "rate", "records published, such as 500/s, 5k/s or 1.5M/h")
	f.Var(&o.size, "size", "size of a record as JSON, such as 300B, 1.5kB or 2KiB")
	f.Var(&o.retention, "retention", "how long rows are kept, such as 400d (default the longest of the datasets)")
	f.Var(&o.reads, "reads", "pages of 100 rows that the API answers")
	f.BoolVar(&o.datadog, "datadog", false, "count Datadog's hosts into the total")
	for _, name := range []string{"rate", "size", "retention"} {
		f.Lookup(name).DefValue = ""
	}
	config.MarkInvocation(f, "rate", "size", "retention", "reads", "datadog")
	addCloudSettings(cmd, &o.settings)
	return cmd
}

func (a *app) runEstimate(o *estimateOptions) error {
	load, err := a.estimateLoad(o)
	if err != nil {
		return err
	}
	prices, err := estimate.Prices()
	if err != nil {
		return err
	}
	s := o.settings.Defaults()
	e, err := estimate.Compute(prices, load, estimate.Environment{
		Name: a.global.env, Region: s.Region, MachineType: s.NodeMachineType, NodeZones: clusterZones, NodeMin: s.NodeMin, NodeMax: s.NodeMax,
		BigtableClusters: len(s.BigtableZones), BigtableMinNodes: s.BigtableMinNodes, BigtableMaxNodes: s.BigtableMaxNodes,
		BigtableCPUTarget: s.BigtableCPUTarget, BigtableStorage: s.BigtableStorage,
		BackupDays: s.BackupRetentionDays, TopicRetention: s.TopicRetention, Datadog: o.datadog,
	})
	var wrong *estimate.InputError
	switch {
	case errors.As(err, &wrong) && strings.Contains(" rate size retention reads ", " "+wrong.Field+" "):
		return failf(exitUsage, "latamctl estimate --help has examples", "--%s: %s", wrong.Field, wrong.Detail)
	case errors.As(err, &wrong):
		return failf(exitInvalid, "latamctl config show --origin --env "+a.global.env+" shows where each setting comes from", "setting %s: %s", wrong.Field, wrong.Detail)
	case err != nil:
		return err
	}
	if a.global.output == outputJSON {
		return json.NewEncoder(a.proc.Out).Encode(e)
	}
	return e.Text(a.proc.Out)
}

// estimateLoad is the load of the flags, with what the declaration says where they do not.
func (a *app) estimateLoad(o *estimateOptions) (estimate.Load, error) {
	load := estimate.Load{
		Rate: float64(o.rate), Bytes: int64(o.size), Reads: float64(o.reads),
		Retention: time.Duration(o.retention), Datasets: len(a.decl.Datasets),
	}
	switch {
	case load.Rate == 0:
		return load, failf(exitUsage, "say --rate 5k/s", "--rate: expected how many records are published, got none")
	case load.Bytes == 0:
		return load, failf(exitUsage, "say --size 300B", "--size: expected the size of a record, got none")
	}
	forever := ""
	for _, d := range a.decl.Datasets {
		load.Indexes = max(load.Indexes, len(d.Indexes))
		if d.Retention == 0 {
			forever = d.Name
		}
		if o.retention == 0 {
			load.Retention = max(load.Retention, d.Retention)
		}
	}
	if o.retention == 0 && forever != "" {
		return load, failf(exitUsage, "say --retention 400d for what is there after 400 days", "dataset %s keeps its rows for ever, so there is no size that it comes to", forever)
	}
	return load, nil
}

// perSecond is a rate as a flag.
type perSecond float64

// Set reads a rate such as 5k/s.
func (r *perSecond) Set(text string) error {
	rate, err := estimate.ParseRate(text)
	if err == nil {
		*r = perSecond(rate)
	}
	return err
}

// Type is what help calls it.
func (r *perSecond) Type() string { return "rate" }

func (r *perSecond) String() string { return estimate.FormatRate(float64(*r)) }

// byteCount is a size as a flag.
type byteCount int64

// Set reads a size such as 2KiB.
func (n *byteCount) Set(text string) error {
	size, err := estimate.ParseBytes(text)
	if err == nil {
		*n = byteCount(size)
	}
	return err
}

// Type is what help calls it.
func (n *byteCount) Type() string { return "size" }

func (n *byteCount) String() string { return estimate.FormatBytes(int64(*n)) }

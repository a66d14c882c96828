package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/bench"
	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/engine"
	"github.com/latamctl/latamctl/pkg/proc"
	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/services/ingest"
)

func benchCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "bench", GroupID: groupCheck,
		Short: "Measure the system on this machine",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(benchEngineCmd(a), benchIngestCmd(a), benchAPICmd(a))
	return cmd
}

// benchOptions are the flags of bench engine.
type benchOptions struct {
	bench.Options
	report          reportOptions
	dataDir         string
	compareIngest   bool
	besideEmulators bool
}

func benchEngineCmd(a *app) *cobra.Command {
	var o benchOptions
	d := bench.Options{}.Defaults()
	cmd := &cobra.Command{
		Use:   "engine",
		Short: "Measure the engines of this process: publish, deliver, commit, read",
		Long: `engine starts the engine in this process with an empty folder, which it removes at the end,
and measures it through Google's client libraries. Messages are due at fixed times and
latencies count from then, so a slow moment shows in every message that it delays. A row is
readable when the commit that carries it has returned. A rate is sustained when nothing
failed and the backlog did not grow. After the rates come the most that it takes with a
fixed number of messages in work, and reads from a filled table.`,
		Example: `  latamctl bench engine
  latamctl bench engine --rates 40000 --for 30s --rows 1000000 --data-dir /mnt/disk -o json
  latamctl bench engine --beside-emulators   # the same load on Google's emulators`,
		Args: cobra.NoArgs,
		RunE: a.run(nothing, func(ctx context.Context, _ []string) error { return a.runBenchEngine(ctx, o) }),
	}
	f := cmd.Flags()
	f.IntSliceVar(&o.Rates, "rates", d.Rates, "messages a second to offer, one run each")
	f.DurationVar(&o.For, "for", d.For, "how long each run lasts")
	f.IntVar(&o.RecordBytes, "record-bytes", d.RecordBytes, "size of a record")
	f.IntVar(&o.Cells, "cells", d.Cells, "cells of a row, which share the record's bytes")
	f.IntVar(&o.Rows, "rows", 100_000, "rows of the table to read from; 0 leaves the reads out")
	f.IntVar(&o.Readers, "readers", d.Readers, "readers at a time")
	f.IntVar(&o.Window, "window", d.Window, "messages in work when it goes as fast as it can")
	f.StringVar(&o.dataDir, "data-dir", "", "folder to make the temporary folder in, to choose the disk (default the system's)")
	f.BoolVar(&o.compareIngest, "compare-ingest", false, "also set the ingest service against a bare loop of pull and write")
	f.BoolVar(&o.besideEmulators, "beside-emulators", false, "also measure the Cloud SDK's emulators, where they are installed")
	addReportFlags(cmd, &o.report)
	config.MarkInvocation(f, "rates", "for", "record-bytes", "cells", "rows", "readers", "window", "data-dir", "compare-ingest", "beside-emulators")
	return cmd
}

// benchKind is the engine of this process that a benchmark measures.
func (a *app) benchKind(what string, o benchOptions) (engine.Kind, error) {
	kind, err := a.declaredEngine(engine.Kind(a.global.engine))
	if err != nil {
		return kind, err
	}
	if kind != engine.Embedded && kind != engine.Memory {
		return kind, failf(exitUsage, "use --engine embedded or memory; bench engine --beside-emulators measures Google's emulators as well", "bench %s measures the engines of this process, not %s", what, kind)
	}
	if err := o.Validate(); err != nil {
		return kind, fail(exitUsage, "latamctl bench "+what+" --help shows the flags", err)
	}
	return kind, nil
}

func (a *app) runBenchEngine(ctx context.Context, o benchOptions) error {
	kind, err := a.benchKind("engine", o)
	if err != nil {
		return err
	}
	report := bench.NewReport("engine", a.proc.Now())
	report.Settings = map[string]any{
		"engine": kind, "for_seconds": o.For.Seconds(), "record_bytes": o.RecordBytes, "cells": o.Cells,
		"rows": o.Rows, "readers": o.Readers, "window": o.Window,
	}
	base, err := a.readBaseline(o.report, report)
	if err != nil {
		return err
	}
	err = a.benchEmbedded(ctx, kind, o, report)
	if err == nil && o.besideEmulators {
		err = a.benchEmulators(ctx, o, report)
	}
	return a.concludeBench(o.report, report, base, err)
}

// benchInFolder opens the engine of this process in a folder of its own, for a measurement.
func (a *app) benchInFolder(ctx context.Context, kind engine.Kind, dataDir string, measure func(*platform, bench.Deps) error) error {
	eng := engine.Options{Kind: kind}
	if kind == engine.Embedded {
		dir, remove, err := a.proc.TempDir(dataDir, "latamctl-bench-")
		if err != nil {
			return fail(exitFailed, "choose a folder that can be written with --data-dir", err)
		}
		defer func() {
			if err := remove(); err != nil {
				a.log.Warn("remove temporary folder", "error", err)
			}
		}()
		eng.Dir = dir
	}
	return a.benchOn(ctx, eng, string(kind), measure)
}

func (a *app) benchEmbedded(ctx context.Context, kind engine.Kind, o benchOptions, report *bench.Report) error {
	return a.benchInFolder(ctx, kind, o.dataDir, func(p *platform, deps bench.Deps) error {
		runs, err := bench.Engine(ctx, o.Options, deps)
		report.Runs = append(report.Runs, runs...)
		if err != nil || !o.compareIngest {
			return err
		}
		runs, ratios, err := bench.CompareIngest(ctx, o.Options, deps, a.benchWorker(p))
		report.Runs = append(report.Runs, runs...)
		if err == nil {
			report.Comparisons = append(report.Comparisons, ratios...)
		}
		return err
	})
}

// benchInstance is the project and the instance that nothing else uses.
const benchInstance = "latam-bench"

// benchOn opens a target for a measurement.
func (a *app) benchOn(ctx context.Context, eng engine.Options, target string, measure func(*platform, bench.Deps) error) error {
	p, err := a.openPlatform(ctx, "bench", eng, cloudOptions{project: benchInstance, instance: benchInstance})
	if err != nil {
		return err
	}
	defer a.close(p)
	admin, err := store.OpenAdmin(ctx, p.project, p.instance, p.engine.Bigtable...)
	if err != nil {
		return err
	}
	return measure(p, bench.Deps{Target: target, Bus: p.bus, Store: p.store, Admin: admin, CPU: a.proc.CPUTime, Step: a.benchStep})
}

// benchStep says on standard error what takes its time.
func (a *app) benchStep(text string) {
	if !a.global.quiet {
		fmt.Fprintln(a.proc.Err, text)
	}
}

// benchWorker makes the ingest service as the other commands run it, but for the sink.
func (a *app) benchWorker(p *platform) bench.NewWorker {
	return func(sink bench.Sink, ds *dataset.Dataset) (func(context.Context) error, error) {
		deps := a.ingestDeps(p)
		deps.Sink = sink
		service, err := ingest.New(ingest.Options{}, deps, []*dataset.Dataset{ds})
		if err != nil {
			return nil, err
		}
		return service.Run, nil
	}
}

// maxEmulatorRows bounds the table on the emulator, which keeps every row in memory at several
// times its size.
const maxEmulatorRows = 100_000

// benchEmulators measures Google's emulators, or notes in the report why it cannot.
func (a *app) benchEmulators(ctx context.Context, o benchOptions, report *bench.Report) error {
	programs, err := a.findEmulators(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		note := fmt.Sprintf("Google's emulators are not measured: %v", err)
		report.Notes = append(report.Notes, note)
		a.benchStep(note)
		return nil
	}
	eng, stop, err := a.startEmulators(ctx, programs)
	defer stop()
	if err != nil {
		return err
	}
	if o.Rows > maxEmulatorRows {
		o.Rows = maxEmulatorRows
		report.Notes = append(report.Notes, fmt.Sprintf("the emulators' table has %d rows", maxEmulatorRows))
	}
	o.StopEarly = true
	return a.benchOn(ctx, eng, "emulators", func(p *platform, deps bench.Deps) error {
		if err := awaitPubsub(ctx, p.bus); err != nil {
			return err
		}
		runs, err := bench.Engine(ctx, o.Options, deps)
		report.Runs = append(report.Runs, runs...)
		return err
	})
}

// emulatorPrograms are the Cloud SDK's emulators, without their addresses.
type emulatorPrograms struct{ java, pubsub, bigtable string }

func (a *app) findEmulators(ctx context.Context) (programs emulatorPrograms, err error) {
	if _, err := a.proc.LookPath("gcloud"); err != nil {
		return programs, fmt.Errorf("the Cloud SDK is not installed: %w", err)
	}
	root, err := a.proc.Output(ctx, "gcloud", "info", "--format=value(installation.sdk_root)")
	if err != nil {
		return programs, err
	}
	if programs.bigtable, err = a.proc.LookPath(filepath.Join(root, "platform", "bigtable-emulator", "cbtemulator")); err != nil {
		return programs, fmt.Errorf("gcloud components install bigtable: %w", err)
	}
	jars, err := a.proc.Glob(filepath.Join(root, "platform", "pubsub-emulator", "lib", "cloud-pubsub-emulator-*-all.jar"))
	if err != nil || len(jars) == 0 {
		return programs, errors.Join(errors.New("gcloud components install pubsub-emulator: it is not installed"), err)
	}
	programs.pubsub = slices.Max(jars)
	if programs.java, err = a.proc.LookPath("java"); err != nil {
		return programs, fmt.Errorf("the Pub/Sub emulator needs Java: %w", err)
	}
	return programs, nil
}

const (
	emulatorStart = 60 * time.Second
	emulatorGrace = 2 * time.Second
)

// startEmulators starts both on free loopback ports and waits until they listen. The returned
// function ends what was started; it is never nil.
func (a *app) startEmulators(ctx context.Context, programs emulatorPrograms) (eng engine.Options, stop func(), err error) {
	var children []*proc.Child
	stop = func() {
		for _, child := range children {
			if err := child.Stop(emulatorGrace); err != nil {
				a.log.Warn("stop emulator", "error", err)
			}
		}
	}
	eng.Kind = engine.Emulator
	for _, start := range []struct {
		addr *string
		args func(port string) []string
	}{
		{&eng.PubsubAddr, func(port string) []string {
			return []string{programs.java, "-jar", programs.pubsub, "--host=127.0.0.1", "--port=" + port}
		}},
		{&eng.BigtableAddr, func(port string) []string { return []string{programs.bigtable, "-host", "127.0.0.1", "-port", port} }},
	} {
		addr, port, err := freeAddr(ctx)
		if err != nil {
			return eng, stop, err
		}
		args := start.args(port)
		child, err := a.proc.StartChild(args[0], args[1:]...)
		if err != nil {
			return eng, stop, err
		}
		children = append(children, child)
		if err := awaitListening(ctx, addr, child); err != nil {
			return eng, stop, err
		}
		*start.addr = addr
	}
	return eng, stop, nil
}

// freeAddr returns a loopback address that nothing listens on at the moment.
func freeAddr(ctx context.Context) (addr, port string, err error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", fmt.Errorf("find a free port: %w", err)
	}
	addr = l.Addr().String()
	_, port, err = net.SplitHostPort(addr)
	return addr, port, errors.Join(err, l.Close())
}

// awaitListening waits until a started program takes connections.
func awaitListening(ctx context.Context, addr string, child *proc.Child) error {
	ctx, cancel := context.WithTimeout(ctx, emulatorStart)
	defer cancel()
	retry := time.NewTicker(50 * time.Millisecond)
	defer retry.Stop()
	for {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-retry.C:
		case <-child.Ended():
			return fmt.Errorf("start emulator: %w", child.Err())
		case <-ctx.Done():
			return fmt.Errorf("wait for an emulator at %s: %w", addr, context.Cause(ctx))
		}
	}
}

// awaitPubsub waits until the emulator answers: it takes connections before it does.
func awaitPubsub(ctx context.Context, client *bus.Client) error {
	ctx, cancel := context.WithTimeout(ctx, emulatorStart)
	defer cancel()
	for {
		try, end := context.WithTimeout(ctx, 2*time.Second)
		err := client.Ping(try, "none")
		end()
		if err == nil || errors.Is(err, bus.ErrNotFound) {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("wait for the Pub/Sub emulator: %w", err)
		}
	}
}

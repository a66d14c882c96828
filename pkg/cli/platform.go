package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/engine"
	"github.com/latamctl/latamctl/pkg/stack/contract"
	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/pkg/telemetry"
)

// localProject is the project of every engine but Google Cloud, unless another is set.
const localProject = "latam-local"

// cloudOptions name the project and the instance.
type cloudOptions struct {
	project, instance, appProfile string
	hedgeAfter                    time.Duration
}

// localGets is how many requests for single rows an engine on this machine gets at a time: it
// answers within a fraction of a millisecond, so that more would only make smaller batches.
const localGets = 4

// platform is what the services share: the engine, both clients and telemetry.
type platform struct {
	engine  *engine.Engine
	project string
	// instance is the Bigtable instance id.
	instance  string
	bus       *bus.Client
	store     *store.Client
	telemetry *telemetry.Telemetry

	stops []func() error
}

const shutdownTimeout = 5 * time.Second

// openPlatform starts or dials the engine and opens the clients. Close ends them in reverse.
func (a *app) openPlatform(ctx context.Context, service string, eng engine.Options, cloud cloudOptions) (p *platform, err error) {
	p = &platform{project: cloud.project, instance: cloud.instance}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	if p.project, err = a.projectFor(eng.Kind, cloud.project); err != nil {
		return p, err
	}
	if p.instance == "" {
		p.instance = a.decl.Name
		if eng.Kind == engine.GCP {
			p.instance = contract.BigtableInstance(a.decl.Name)
		}
	}
	if err := p.startTelemetry(ctx, a, service); err != nil {
		return p, err
	}
	eng.Log = a.log
	if p.engine, err = engine.Start(ctx, eng); err != nil {
		return p, engineFault(err)
	}
	p.stops = append(p.stops, p.engine.Close)
	if p.bus, err = bus.Open(ctx, bus.Options{Project: p.project, Client: p.engine.Pubsub, Redial: p.engine.RedialPubsub}); err != nil {
		return p, fail(exitDenied, "", err)
	}
	p.stops = append(p.stops, func() error { _ = p.bus.Close(); return nil }) // The engine owns the connection.
	gets := 0
	if eng.Kind != engine.GCP {
		gets = localGets
	}
	p.store, err = store.Open(ctx, store.Options{
		MaxConcurrentGets: gets, HedgeAfter: cloud.hedgeAfter,
		Project: p.project, Instance: p.instance, AppProfile: cloud.appProfile,
		Client: p.engine.Bigtable, Meter: p.telemetry.Meter, Direct: eng.Kind == engine.GCP,
	})
	if err != nil {
		return p, fail(exitDenied, "", err)
	}
	p.stops = append(p.stops, func() error { _ = p.store.Close(); return nil })
	return p, nil
}

func (p *platform) startTelemetry(ctx context.Context, a *app, service string) error {
	tel, err := telemetry.Start(ctx, telemetry.Options{
		Service: "latam-" + service, Version: version().Version, Environment: a.global.env,
		OTLP: a.proc.Env("OTEL_EXPORTER_OTLP_ENDPOINT") != "",
	})
	if err != nil {
		return err
	}
	p.telemetry = tel
	p.stops = append(p.stops, func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		return tel.Shutdown(ctx)
	})
	return nil
}

// Close ends what was opened, the last first.
func (p *platform) Close() error {
	var errs []error
	for _, stop := range slices.Backward(p.stops) {
		errs = append(errs, stop())
	}
	p.stops = nil
	return errors.Join(errs...)
}

// projectFor is the project to use, which only Google Cloud has no default for.
func (a *app) projectFor(kind engine.Kind, project string) (string, error) {
	if project != "" {
		return project, nil
	}
	if kind == engine.GCP {
		return "", failf(exitInvalid, "set it with --project, LATAM_PROJECT or environments."+a.global.env+".project", "engine gcp: no project is set")
	}
	return localProject, nil
}

// engineFault gives the engine's errors their exit codes.
func engineFault(err error) error {
	switch {
	case errors.Is(err, engine.ErrInUse):
		return fail(exitLocked, "stop that process, or choose another folder with --data-dir", err)
	case errors.Is(err, engine.ErrNewerFormat):
		return fail(exitInvalid, "run the newer latamctl, or choose another folder with --data-dir", err)
	}
	return fail(exitFailed, "latamctl doctor checks ports and the data folder", err)
}

const ensureTimeout = 30 * time.Second

// ensure creates missing topics, subscriptions and tables where no Terraform does.
func (p *platform) ensure(ctx context.Context, datasets []*dataset.Dataset) error {
	if p.engine.Kind == engine.GCP {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, ensureTimeout)
	defer cancel()
	admin, err := store.OpenAdmin(ctx, p.project, p.instance, p.engine.Bigtable...)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, ds := range datasets {
		g.Go(func() error { return p.bus.Ensure(ctx, bus.RouteOf(ds)) })
		for _, table := range store.TablesOf(ds) {
			g.Go(func() error { return admin.Ensure(ctx, table) })
		}
	}
	if err := g.Wait(); err != nil {
		return fail(exitUnavailable, "check that the emulators answer: latamctl doctor", fmt.Errorf("prepare topics and tables: %w", err))
	}
	return nil
}

// forgetFollowers deletes what live streams left behind when an earlier process was killed. The
// embedded engine does not let subscriptions expire, and at its start nobody follows a topic yet.
func (p *platform) forgetFollowers(ctx context.Context, datasets []*dataset.Dataset) error {
	if p.engine.Kind != engine.Embedded {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, ensureTimeout)
	defer cancel()
	for _, ds := range datasets {
		if err := p.bus.ForgetFollowers(ctx, ds.Topic); err != nil {
			return fmt.Errorf("clean up after live streams: %w", err)
		}
	}
	return nil
}

// emulatorOptions dials Google's emulators at the addresses in the environment.
func (a *app) emulatorOptions() engine.Options {
	return engine.Options{Kind: engine.Emulator, PubsubAddr: a.proc.Env(pubsubHostVar), BigtableAddr: a.proc.Env(bigtableHostVar)}
}

// openPubsub dials Pub/Sub alone: who publishes or reads dead letters may have no right to read rows.
func (a *app) openPubsub(ctx context.Context, opts engine.Options, project string) (*bus.Client, func(), error) {
	project, err := a.projectFor(opts.Kind, project)
	if err != nil {
		return nil, nil, err
	}
	opts.Log = a.log
	eng, err := engine.Start(ctx, opts)
	if err != nil {
		return nil, nil, engineFault(err)
	}
	client, err := bus.Open(ctx, bus.Options{Project: project, Client: eng.Pubsub})
	if err != nil {
		return nil, nil, errors.Join(fail(exitDenied, "", err), eng.Close())
	}
	return client, func() {
		_ = client.Close() // The engine owns the connection.
		if err := eng.Close(); err != nil {
			a.log.Warn("close", "error", err)
		}
	}, nil
}

// serviceEngine is the engine that a service of its own dials. A service never brings an engine
// with it: two services with an engine each would not share any data. Every one needs Pub/Sub.
func (a *app) serviceEngine(needBigtable bool) (engine.Options, error) {
	kind, err := a.engineKind()
	if err != nil {
		return engine.Options{}, err
	}
	switch kind {
	case engine.GCP:
		return engine.Options{Kind: kind}, nil
	case engine.Emulator:
		opts := a.emulatorOptions()
		for _, side := range []struct {
			need       bool
			addr, name string
		}{{true, opts.PubsubAddr, pubsubHostVar}, {needBigtable, opts.BigtableAddr, bigtableHostVar}} {
			if side.need && side.addr == "" {
				return opts, failf(exitInvalid, "export "+side.name+"=HOST:PORT of the running emulator", "engine emulator: %s is not set", side.name)
			}
		}
		return opts, nil
	}
	return engine.Options{}, failf(exitUsage, "latamctl up runs engine, ingest and API together; or set --engine gcp or the emulators' variables",
		"engine %s lives inside latamctl up only", kind)
}

package cli

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/payload"
	"github.com/latamctl/latamctl/pkg/web"
	"github.com/latamctl/latamctl/pkg/web/auth"
	"github.com/latamctl/latamctl/services/ingest"
	"github.com/latamctl/latamctl/services/query"
)

// serviceOptions are the flags of ingest and serve.
type serviceOptions struct {
	http, admin string
	datasets    []string
	cursorKey   string
	drainDelay  time.Duration
	cloud       cloudOptions
	warehouse   warehouseOptions
	access      accessOptions
	ingest      ingest.Options
}

func addCloudFlags(cmd *cobra.Command, o *cloudOptions) {
	f := cmd.Flags()
	f.StringVar(&o.project, "project", "", "Google Cloud project (default "+localProject+" on this machine)")
	f.StringVar(&o.instance, "instance", "", "Bigtable instance (default the declaration's name; on Google Cloud with -bigtable when it has fewer than 6 characters)")
	f.StringVar(&o.appProfile, "app-profile", "", "Bigtable app profile (default the instance's)")
}

func addIngestFlags(cmd *cobra.Command, o *ingest.Options) {
	d := ingest.Options{}.Defaults()
	f := cmd.Flags()
	f.IntVar(&o.BatchRows, "batch-rows", d.BatchRows, "most rows of one commit")
	f.IntVar(&o.BatchBytes, "batch-bytes", d.BatchBytes, "most bytes of one commit")
	f.DurationVar(&o.BatchDelay, "batch-delay", d.BatchDelay, "longest wait for a batch to fill; an idle service never waits")
	f.IntVar(&o.Shards, "shards", d.Shards, "most commits at a time for each dataset; fewer, and smaller ones, while Bigtable is slow")
	f.IntVar(&o.MaxMessages, "max-messages", d.MaxMessages, "most messages in work for each dataset")
	f.IntVar(&o.MaxBytes, "max-bytes", d.MaxBytes, "most bytes in work for each dataset")
	f.DurationVar(&o.IndexTimeout, "index-timeout", d.IndexTimeout, "longest read or deletion for the upkeep of indexes")
	f.IntVar(&o.IndexBuildRate, "index-build-rate", d.IndexBuildRate, "most rows a second that get the entries of a new index")
	f.Float64Var(&o.MaxRejectShare, "max-reject-share", d.MaxRejectShare,
		"pause a dataset when at least 1,000 records of a minute break the declaration\nand they are more than this share of all; 1 never pauses")
	f.DurationVar(&o.WatchAfter, "watch-after", d.WatchAfter, "time without a message after which to look whether some wait that the stream does not deliver")
	f.DurationVar(&o.DrainTimeout, "drain-timeout", d.DrainTimeout, "longest wait for work in progress at the end")
}

func ingestCmd(a *app) *cobra.Command {
	var o serviceOptions
	cmd := &cobra.Command{
		Use: "ingest", GroupID: groupRun,
		Short: "Move records from Pub/Sub to Bigtable (a service, for containers)",
		Long: `ingest receives from each dataset's subscription, checks every record against the
declaration and stores it. A message is acknowledged only when its row is committed
or its rejection is safe in the dead-letter topic. SIGTERM drains and exits 0.`,
		Example: `  latamctl ingest --env prod
  latamctl ingest --dataset flights --admin :9090`,
		Args: cobra.NoArgs,
		RunE: a.run(longRunning, func(ctx context.Context, _ []string) error { return a.runIngest(ctx, o) }),
	}
	cmd.Flags().StringVar(&o.admin, "admin", "127.0.0.1:9090", "address of probes and metrics")
	cmd.Flags().StringArrayVar(&o.datasets, "dataset", nil, "dataset to ingest, repeatable (default all)")
	_ = cmd.RegisterFlagCompletionFunc("dataset", datasetArg(a)) // It fails only for an unknown flag.
	addIngestFlags(cmd, &o.ingest)
	cmd.Flags().DurationVar(&o.ingest.IndexBuildDelay, "index-build-delay", time.Minute,
		"wait before the rows already stored get the entries of a new index; choose it longer than a rollout,\nbecause processes of the older declaration write rows without these entries")
	addCloudFlags(cmd, &o.cloud)
	return cmd
}

func serveCmd(a *app) *cobra.Command {
	var o serviceOptions
	cmd := &cobra.Command{
		Use: "serve", GroupID: groupRun,
		Short:   "Serve the datasets over HTTP (a service, for containers)",
		Long:    "serve answers the HTTP API over the rows in Bigtable and publishes posted records to Pub/Sub.\nSIGTERM turns readiness off, finishes the running requests and exits 0.",
		Example: "  latamctl serve --env prod --http :8080 --admin :9090",
		Args:    cobra.NoArgs,
		RunE:    a.run(longRunning, func(ctx context.Context, _ []string) error { return a.runServe(ctx, o) }),
	}
	cmd.Flags().StringVar(&o.http, "http", "127.0.0.1:8080", "address of the API")
	cmd.Flags().StringVar(&o.admin, "admin", "127.0.0.1:9090", "address of probes and metrics")
	cmd.Flags().DurationVar(&o.drainDelay, "drain-delay", 0, "keep serving this long after readiness went off, for load balancers to notice")
	cmd.Flags().DurationVar(&o.cloud.hedgeAfter, "hedge-after", 0, "send the read of a row once more when it has no answer after this time;\nat most one in twenty requests is a second one (default never)")
	cmd.Flags().StringVar(&o.cursorKey, "cursor-key", "", "secret that seals cursors, the same for all replicas, 16 characters or more; set it as LATAM_CURSOR_KEY\n(default a new one for each start)")
	addAccessFlags(cmd, &o.access)
	cmd.Flags().BoolVar(&o.access.behindGateway, "behind-gateway", false, "answer the API Gateway only: every dataset asks for its token, whatever it declares;\nkeys, tokens and quotas of the callers are the gateway's to check")
	addCloudFlags(cmd, &o.cloud)
	addWarehouseFlags(cmd, &o.warehouse)
	return cmd
}

func (a *app) runIngest(ctx context.Context, o serviceOptions) error {
	datasets, err := a.chosen(o.datasets)
	if err != nil {
		return err
	}
	eng, err := a.serviceEngine(true)
	if err != nil {
		return err
	}
	p, err := a.openPlatform(ctx, "ingest", eng, o.cloud)
	if err != nil {
		return err
	}
	defer a.close(p)
	if err := p.ensure(ctx, datasets); err != nil {
		return err
	}
	if err := a.disownIndexes(ctx, p, datasets); err != nil {
		return err
	}
	worker, err := a.newIngest(p, o.ingest, datasets)
	if err != nil {
		return err
	}
	admin, err := a.listenAdmin(ctx, p, o, datasets, worker)
	if err != nil {
		return err
	}
	a.log.Info("ingesting", "datasets", names(datasets), "admin", admin.Addr())
	return runWithAdmin(ctx, admin, worker.Run)
}

func (a *app) runServe(ctx context.Context, o serviceOptions) error {
	a.proc.TuneGC()
	if err := a.checkHTTPAddress(o.http, o.access); err != nil {
		return err
	}
	access, err := a.authOptions(o.access, defaultDataDir)
	if err != nil {
		return err
	}
	eng, err := a.serviceEngine(true)
	if err != nil {
		return err
	}
	if err := a.checkWarehouse(eng.Kind, o.warehouse); err != nil {
		return err
	}
	p, err := a.openPlatform(ctx, "serve", eng, o.cloud)
	if err != nil {
		return err
	}
	defer a.close(p)
	if err := p.ensure(ctx, a.decl.Datasets); err != nil {
		return err
	}
	admin, err := a.listenAdmin(ctx, p, o, a.decl.Datasets[:1], nil)
	if err != nil {
		return err
	}
	api, err := a.listenAPI(ctx, p, o, apiParts{callers: access, onDrain: admin.drain})
	if err != nil {
		return err
	}
	a.log.Info("serving", "datasets", a.decl.Names(), "http", api.Addr(), "admin", admin.Addr())
	return runWithAdmin(ctx, admin, api.Run)
}

// chosen returns the datasets with the names, or all.
func (a *app) chosen(names []string) ([]*dataset.Dataset, error) {
	if len(names) == 0 {
		return a.decl.Datasets, nil
	}
	var chosen []*dataset.Dataset
	for _, name := range names {
		ds, err := a.dataset(name)
		if err != nil {
			return nil, err
		}
		chosen = append(chosen, ds)
	}
	return chosen, nil
}

func names(datasets []*dataset.Dataset) []string {
	all := make([]string, len(datasets))
	for i, ds := range datasets {
		all[i] = ds.Name
	}
	return all
}

func (a *app) close(p *platform) {
	if err := p.Close(); err != nil {
		a.log.Warn("shutdown", "error", err)
	}
}

func (a *app) newIngest(p *platform, opts ingest.Options, datasets []*dataset.Dataset) (*ingest.Service, error) {
	deps, err := a.faultyDeps(a.ingestDeps(p))
	if err != nil {
		return nil, err
	}
	return ingest.New(opts, deps, datasets)
}

func (a *app) ingestDeps(p *platform) ingest.Deps {
	deps := ingest.Deps{
		Source: p.bus, Sink: p.store, Rows: p.store, DeadLetters: p.bus, Payloads: payload.New(p.bus, a.log),
		Log: a.log, Meter: p.telemetry.Meter, Now: a.proc.Now,
	}
	if p.telemetry.Exporting {
		deps.Tracer = p.telemetry.Tracer
	}
	return deps
}

// adminListener are the limits of the admin listener, which never asks for credentials.
func adminListener(o serviceOptions) web.Options {
	opts := web.AdminDefaults(o.admin)
	local, err := loopbackAddress("--admin", o.admin)
	opts.LocalHostsOnly = err == nil && local && !o.access.insecureBind
	opts.AllowedHosts = o.access.allowedHosts
	return opts
}

// adminServer is the listener of probes and metrics with its readiness switch.
type adminServer struct {
	*web.Server
	drain func()
}

// listenAdmin listens for probes of the datasets; worker is nil where ingest runs elsewhere.
func (a *app) listenAdmin(ctx context.Context, p *platform, o serviceOptions, datasets []*dataset.Dataset, worker *ingest.Service) (adminServer, error) {
	deps := web.AdminDeps{Checks: p.checks(datasets, worker), Metrics: p.telemetry.Prometheus, Now: a.proc.Now}
	if _, inProcess := p.engine.Stats(); inProcess {
		deps.Data = dataHandler(p.engine, worker, datasets)
	}
	admin := web.NewAdmin(web.AdminOptions{}, deps)
	server, err := web.Listen(ctx, adminListener(o), web.Deps{Handler: admin.Handler(), Log: a.log, Now: a.proc.Now, OnDrain: admin.Drain})
	if err != nil {
		return adminServer{}, listenFault("--admin", err)
	}
	return adminServer{Server: server, drain: admin.Drain}, nil
}

// runWithAdmin runs until the context ends or one run fails. The admin listener stays until the
// others have drained, because probes must see the drain.
func runWithAdmin(ctx context.Context, admin adminServer, runs ...func(context.Context) error) error {
	adminCtx, stopAdmin := context.WithCancel(context.WithoutCancel(ctx))
	defer stopAdmin()
	all, ctx := errgroup.WithContext(ctx)
	for _, run := range runs {
		all.Go(func() error { return run(ctx) })
	}
	context.AfterFunc(ctx, admin.drain)
	ended := make(chan error, 1)
	go func() { ended <- admin.Run(adminCtx) }()
	err := all.Wait()
	stopAdmin()
	return errors.Join(err, <-ended)
}

// apiParts are what the API works with besides the platform.
type apiParts struct {
	callers auth.Options
	worker  *ingest.Service // nil where ingest runs elsewhere
	// cursorSecret seals cursors where no secret is set; "" makes one up for this process.
	cursorSecret string
	onDrain      func()
}

func (a *app) listenAPI(ctx context.Context, p *platform, o serviceOptions, parts apiParts) (*web.Server, error) {
	key, err := cursorKey(cmp.Or(o.cursorKey, parts.cursorSecret))
	if err != nil {
		return nil, err
	}
	warehouse, err := a.openWarehouse(ctx, p, o.warehouse)
	if err != nil {
		return nil, err
	}
	access, err := a.newAccess(p, parts.callers)
	if err != nil {
		return nil, err
	}
	service, err := query.New(query.Options{}, query.Deps{
		Declaration: a.decl, Store: p.store, Publisher: p.bus, Follower: p.bus, Payloads: payload.New(p.bus, a.log), Log: a.log, Now: a.proc.Now, CursorKey: key,
		Warehouse: warehouse, AggregateOnRows: o.warehouse.onRows, Access: access,
		Activity: activityOf(parts.worker),
	})
	if err != nil {
		return nil, err
	}
	server, err := web.Listen(ctx, a.apiListener(o), web.Deps{
		Handler: service.Handler(), Log: a.log, Meter: p.telemetry.Meter, Tracer: p.telemetry.Tracer, Now: a.proc.Now,
		OnDrain: func() { parts.onDrain(); service.Drain() },
	})
	if err != nil {
		return nil, listenFault("--http", err)
	}
	return server, nil
}

// apiListener are the limits of the API's listener.
func (a *app) apiListener(o serviceOptions) web.Options {
	return web.Options{
		Addr: o.http, DrainDelay: o.drainDelay,
		LocalHostsOnly: a.localHostsOnly(o.http, o.access), AllowedHosts: o.access.allowedHosts,
	}
}

// activityOf tells the API what ingest does in this process.
func activityOf(worker *ingest.Service) func(string) (query.Activity, bool) {
	if worker == nil {
		return nil
	}
	return func(dataset string) (query.Activity, bool) {
		did, ok := worker.Activity(dataset)
		return query.Activity{
			Stored: did.Stored, PerSecond: did.PerSecond, LastCommit: did.LastCommit, NewestEvent: did.NewestEvent,
			InFlight: did.InFlight, Behind: did.Behind, Paused: did.Paused,
		}, ok
	}
}

const minSecretBytes = 16

// cursorKey derives the key that seals cursors; nil leaves it to the service to make one up.
func cursorKey(secret string) ([]byte, error) {
	if secret == "" {
		return nil, nil
	}
	if len(secret) < minSecretBytes {
		return nil, failf(exitInvalid, "make one with: openssl rand -hex 32", "cursor key of %d characters is shorter than %d", len(secret), minSecretBytes)
	}
	key := sha256.Sum256([]byte(secret))
	return key[:], nil
}

func listenFault(flag string, err error) error {
	if strings.Contains(err.Error(), "address already in use") {
		return fail(exitFailed, "stop what listens there, or choose another address with "+flag+" (port 0 picks a free one)", err)
	}
	return fail(exitFailed, "choose another address with "+flag, err)
}

// pingsAtATime bounds what a probe asks of the dependencies.
const pingsAtATime = 8

// checks are the conditions of readiness: both dependencies answer for each dataset and ingest can
// receive and store.
func (p *platform) checks(datasets []*dataset.Dataset, worker *ingest.Service) []web.Check {
	every := func(ping func(context.Context, *dataset.Dataset) error) func(context.Context) error {
		return func(ctx context.Context) error {
			all, ctx := errgroup.WithContext(ctx)
			all.SetLimit(pingsAtATime)
			for _, ds := range datasets {
				all.Go(func() error { return ping(ctx, ds) })
			}
			return all.Wait()
		}
	}
	checks := []web.Check{
		{Name: "bigtable", Run: every(func(ctx context.Context, ds *dataset.Dataset) error { return p.store.Ping(ctx, ds.Table()) })},
		{Name: "pubsub", Run: every(func(ctx context.Context, ds *dataset.Dataset) error { return p.bus.Ping(ctx, ds.Topic) })},
	}
	if worker != nil {
		checks = append(checks, web.Check{Name: "ingest", Run: func(context.Context) error {
			if err := worker.Ready(); err != nil {
				return fmt.Errorf("ingest: %w", err)
			}
			return nil
		}})
	}
	return checks
}

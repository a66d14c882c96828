package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/latamctl/latamctl/pkg/bench"
	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/engine"
	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/pkg/verify"
)

// verifyTarget is what verify looks at.
type verifyTarget struct {
	a         *app
	api       apiTarget
	deps      verify.Deps
	telemetry *platform // the platform that is verified, or one that has telemetry only
	closes    []func()
}

func (t *verifyTarget) close() {
	for _, end := range slices.Backward(t.closes) {
		end()
	}
}

func (t *verifyTarget) options(o verifyOptions) verify.Options {
	return verify.Options{
		URL: t.api.base, Datasets: t.a.decl.Datasets, Only: o.only, Skip: o.skip,
		Wait: o.wait, Load: int(o.load), For: o.during,
	}
}

// openVerify finds the API, and opens Pub/Sub and Bigtable where they can be reached.
func (a *app) openVerify(ctx context.Context, o verifyOptions) (_ *verifyTarget, err error) {
	t := &verifyTarget{a: a}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	p, unseen, err := a.verifyPlatform(ctx, o)
	if err != nil {
		return nil, err
	}
	if p != nil {
		t.closes = append(t.closes, func() { a.close(p) })
	}
	if t.api, err = a.api(ctx, o.api); err != nil {
		return nil, err
	}
	t.api.http.Timeout = fetchTimeout
	t.deps = verify.Deps{
		HTTP: t.api.http, Anonymous: &http.Client{Timeout: fetchTimeout}, Owner: t.api.owner, Unseen: unseen,
		Now: a.proc.Now, Offer: offerLoad, Probes: a.verifyProbes(o),
	}
	if p == nil {
		p = &platform{}
		if err := p.startTelemetry(ctx, a, "verify"); err != nil {
			return nil, err
		}
		t.closes = append(t.closes, func() { a.close(p) })
	} else {
		admin, err := store.OpenAdmin(ctx, p.project, p.instance, p.engine.Bigtable...)
		if err != nil {
			return nil, err
		}
		t.closes = append(t.closes, func() { _ = admin.Close() }) // The engine owns the connection.
		t.deps.Bus, t.deps.Rows, t.deps.Resources = p.bus, p.store, cloudResources{p.bus, admin}
	}
	t.telemetry = p
	if a.interrupts != nil {
		t.closes = append(t.closes, a.interrupts.Handle(a.interruptedVerify(o)))
	}
	return t, nil
}

// interruptedVerify is what each interrupt does: the first lets what was published be removed.
func (a *app) interruptedVerify(o verifyOptions) func(n int) {
	return func(n int) {
		if n > 1 {
			a.proc.Exit(exitInterrupted)
			return
		}
		if o.watch == 0 {
			fmt.Fprintln(a.proc.Err, "interrupted: what was published is removed; Ctrl-C once more ends at once, and may leave it behind")
		}
	}
}

// verifyPlatform opens what is behind the API. Without it, unseen says why; then the API alone is verified.
func (a *app) verifyPlatform(ctx context.Context, o verifyOptions) (p *platform, unseen string, err error) {
	kind, err := a.engineKind()
	if err != nil {
		return nil, "", err
	}
	local := kind == engine.Embedded || kind == engine.Memory
	if !local && o.api.url == "" {
		return nil, "", failf(exitUsage, "name the API with --url", "engine %s: no API is known", kind)
	}
	if local && o.api.url != "" {
		if !a.runsHere(ctx, o.api) {
			return nil, fmt.Sprintf("the API is not of the stack in %s, so its Pub/Sub and Bigtable are not known", o.api.dataDir), nil
		}
	}
	cloud := cloudOptions{project: o.monitors.settings.Project, instance: o.monitors.settings.Instance, appProfile: o.appProfile}
	eng, stack, err := a.clientEngine(ctx, o.api.dataDir, true)
	if err != nil {
		return nil, "", err
	}
	if stack != nil {
		cloud.project, cloud.instance = stack.Project, stack.Instance
	}
	p, err = a.openPlatform(ctx, "verify", eng, cloud)
	if err != nil && kind == engine.GCP && ctx.Err() == nil {
		reason, _, _ := strings.Cut(err.Error(), "\n")
		return nil, "Google Cloud cannot be asked from here: " + reason, nil
	}
	return p, "", err
}

// runsHere tells whether the API of --url is that of the running stack.
func (a *app) runsHere(ctx context.Context, o apiOptions) bool {
	s, err := a.liveStack(ctx, o.dataDir)
	return err == nil && sameHost(s.API, o.url)
}

func sameHost(a, b string) bool {
	x, errX := url.Parse(a)
	y, errY := url.Parse(b)
	return errX == nil && errY == nil && x.Scheme == y.Scheme && x.Host == y.Host
}

// offerLoad offers a load with the schedule and the histograms of the benchmarks.
func offerLoad(ctx context.Context, perSecond int, during time.Duration, groups int, one func(context.Context, int) error) ([]verify.Latencies, error) {
	took, err := bench.Offer(ctx, bench.Schedule{PerSecond: perSecond, For: during}, groups, one)
	all := make([]verify.Latencies, len(took))
	for i := range took {
		all[i] = took[i]
	}
	return all, err
}

// cloudResources looks topics, subscriptions and tables up.
type cloudResources struct {
	bus   *bus.Client
	admin *store.Admin
}

func (c cloudResources) Topics(ctx context.Context, ds *dataset.Dataset) ([]string, error) {
	return c.missing(ctx, ds, "topic ")
}

func (c cloudResources) Subscriptions(ctx context.Context, ds *dataset.Dataset) ([]string, error) {
	faults, err := c.missing(ctx, ds, "subscription ")
	if err != nil {
		return nil, err
	}
	detached, err := c.bus.Detached(ctx, bus.RouteOf(ds))
	return append(faults, detached...), err
}

func (c cloudResources) missing(ctx context.Context, ds *dataset.Dataset, kind string) ([]string, error) {
	missing, err := c.bus.Missing(ctx, bus.RouteOf(ds))
	var faults []string
	for _, name := range missing {
		if strings.HasPrefix(name, kind) {
			faults = append(faults, name+" does not exist")
		}
	}
	return faults, err
}

func (c cloudResources) Tables(ctx context.Context, ds *dataset.Dataset) ([]string, error) {
	missing, err := c.admin.Missing(ctx, store.TablesOf(ds))
	unfit, unfitErr := c.admin.Unfit(ctx, store.TablesOf(ds))
	var faults []string
	for _, name := range missing {
		faults = append(faults, "table "+name+" does not exist")
	}
	for _, name := range unfit {
		faults = append(faults, "table "+name+" has no family "+dataset.Family)
	}
	return faults, errors.Join(err, unfitErr)
}

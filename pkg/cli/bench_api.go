package cli

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/bench"
	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/engine"
	"github.com/latamctl/latamctl/pkg/web"
	"github.com/latamctl/latamctl/services/query"
)

// benchAPIOptions are the flags of bench api.
type benchAPIOptions struct {
	bench.APIOptions
	report                reportOptions
	dataDir, url, dataset string
	headers               []string
}

func benchAPICmd(a *app) *cobra.Command {
	var o benchAPIOptions
	d := bench.APIOptions{}.Defaults()
	cmd := &cobra.Command{
		Use:   "api",
		Short: "Measure the HTTP API: point gets, pages, filtered lists",
		Long: `api starts an engine and the query service in this process, fills a table and reads it
over loopback connections: rows at random (get), pages of 100 rows (page), and lists with
a filter that the key does not serve (list-filter). First each scenario goes as fast as its
connections allow; then requests are due at fixed times, and a latency counts from the
moment its request was due, so a slow moment shows in every request that it delays. A
rate is sustained when nothing failed and nothing was late at the end. The load shares
the processors with what it measures. --url measures an API that runs already.`,
		Example: `  latamctl bench api
  latamctl bench api --scenarios get --rates 20000 --for 30s --compare
  latamctl bench api --url http://127.0.0.1:8080 --dataset flights --rates 1000 -o json`,
		Args: cobra.NoArgs,
		RunE: a.run(nothing, func(ctx context.Context, _ []string) error { return a.runBenchAPI(ctx, o) }),
	}
	f := cmd.Flags()
	f.IntSliceVar(&o.Rates, "rates", nil, "requests a second to offer, one run of each scenario for each\n(default half and four fifths of the most)")
	f.BoolVar(&o.Max, "max", false, "besides --rates, go as fast as the connections allow; implied without --rates")
	f.DurationVar(&o.For, "for", d.For, "how long each run lasts")
	f.IntVar(&o.Connections, "connections", d.Connections, "connections that are kept open")
	f.IntVar(&o.Rows, "rows", d.Rows, "rows of the table to fill; with --url the most to choose from")
	f.StringSliceVar(&o.Scenarios, "scenarios", d.Scenarios, "what to measure")
	f.BoolVar(&o.Compare, "compare", false, "also set get and page against a bare handler that reads the same rows with Google's client")
	f.StringVar(&o.dataDir, "data-dir", "", "folder to make the temporary folder in, to choose the disk (default the system's)")
	f.StringVar(&o.url, "url", "", "measure the API at this address; one that is not on this machine needs --yes")
	f.StringVar(&o.dataset, "dataset", "", "dataset to read with --url (default the declaration's first)")
	f.StringArrayVar(&o.headers, "header", nil, "header of every request with --url, as 'Name: value', repeatable")
	addReportFlags(cmd, &o.report)
	config.MarkInvocation(f, "rates", "max", "for", "connections", "rows", "scenarios", "compare", "data-dir", "url", "dataset", "header")
	return cmd
}

func (a *app) runBenchAPI(ctx context.Context, o benchAPIOptions) error {
	if err := o.Validate(); err != nil {
		return fail(exitUsage, "latamctl bench api --help shows the flags", err)
	}
	report := bench.NewReport("api", a.proc.Now())
	report.Settings = map[string]any{
		"for_seconds": o.For.Seconds(), "connections": o.Connections, "rows": o.Rows, "page_rows": query.DefaultLimit,
	}
	measure, err := a.prepareBenchAPI(o, report)
	if err != nil {
		return err
	}
	base, err := a.readBaseline(o.report, report)
	if err != nil {
		return err
	}
	return a.concludeBench(o.report, report, base, measure(ctx))
}

// prepareBenchAPI checks what is measured, and completes the settings of the report.
func (a *app) prepareBenchAPI(o benchAPIOptions, report *bench.Report) (measure func(context.Context) error, err error) {
	if o.url != "" {
		report.Settings["url"] = o.url
		return a.benchRunningAPI(o, report)
	}
	a.proc.TuneGC() // As latamctl serve does.
	return a.benchOwnAPI(o, report)
}

// benchOwnAPI measures the service of this process over an engine with a folder of its own.
func (a *app) benchOwnAPI(o benchAPIOptions, report *bench.Report) (func(context.Context) error, error) {
	if o.dataset != "" || len(o.headers) > 0 {
		return nil, failf(exitUsage, "add --url, or leave them out", "--dataset and --header are about an API that runs already")
	}
	kind, err := a.declaredEngine(engine.Kind(a.global.engine))
	if err != nil {
		return nil, err
	}
	if kind != engine.Embedded && kind != engine.Memory {
		return nil, failf(exitUsage, "use --engine embedded or memory, or --url for an API that runs already", "bench api starts the engines of this process only, not %s", kind)
	}
	report.Settings["engine"] = kind
	return func(ctx context.Context) error {
		return a.benchInFolder(ctx, kind, o.dataDir, func(p *platform, deps bench.Deps) error {
			runs, comparisons, err := bench.API(ctx, o.APIOptions, string(kind), bench.APIDeps{
				Store: p.store, Admin: deps.Admin, Plain: p.store.Plain(), Serve: a.benchServe(p), CPU: deps.CPU, Step: deps.Step,
			})
			report.Runs, report.Comparisons = runs, comparisons
			return err
		})
	}, nil
}

// benchServe runs the query service as serve does, on a free port.
func (a *app) benchServe(p *platform) func(context.Context, *dataset.Declaration) (string, func() error, error) {
	return func(ctx context.Context, decl *dataset.Declaration) (addr string, stop func() error, err error) {
		service, err := query.New(query.Options{}, query.Deps{
			Declaration: decl, Store: p.store, Publisher: p.bus, Log: a.log, Now: a.proc.Now,
		})
		if err != nil {
			return "", nil, err
		}
		server, err := web.Listen(ctx, web.Options{Addr: "127.0.0.1:0", MaxConns: 8192}, web.Deps{
			Handler: service.Handler(), Log: a.log, Meter: p.telemetry.Meter, Tracer: p.telemetry.Tracer, Now: a.proc.Now,
		})
		if err != nil {
			return "", nil, fail(exitFailed, "", err)
		}
		serving, cancel := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- server.Run(serving) }()
		return server.Addr(), func() error { cancel(); return <-ended }, nil
	}
}

// benchRunningAPI measures the API at --url, with rows that it lists itself.
func (a *app) benchRunningAPI(o benchAPIOptions, report *bench.Report) (func(context.Context) error, error) {
	target, base, err := a.benchTarget(o)
	if err != nil {
		return nil, err
	}
	decl, err := a.readDeclaration()
	if err != nil {
		return nil, err
	}
	ds := decl.Datasets[0]
	if o.dataset != "" {
		if ds = decl.Dataset(o.dataset); ds == nil {
			return nil, failf(exitUsage, "latamctl validate lists the datasets", "there is no dataset %q", o.dataset)
		}
	}
	report.Settings["dataset"] = ds.Name
	return func(ctx context.Context) error {
		scenarios, err := bench.SampleAPI(ctx, target.Addr, base, target.Header, ds, o.Rows)
		if err != nil {
			return fail(exitUnavailable, "check --url, --dataset and --header", err)
		}
		deps := bench.Deps{CPU: a.proc.CPUTime, Step: a.benchStep}
		report.Runs, err = bench.RunningAPI(ctx, o.APIOptions, target, scenarios, deps)
		return err
	}, nil
}

// benchTarget checks where the load goes: it must not hit someone else's machine by a slip.
func (a *app) benchTarget(o benchAPIOptions) (target bench.APITarget, base string, err error) {
	u, err := url.Parse(o.url)
	switch {
	case err != nil || u.Scheme != "http" || u.Hostname() == "":
		return target, "", failf(exitUsage, "give it as http://127.0.0.1:8080", "bench api: --url %q is not the address of an HTTP API without TLS", o.url)
	case o.Compare:
		return target, "", failf(exitUsage, "leave out --url: the comparison needs an engine of this process", "bench api: --compare does not go with --url")
	}
	ip := net.ParseIP(u.Hostname())
	if loopback := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback(); !loopback && !a.global.yes {
		return target, "", failf(exitRefused, "--yes says that you may put this load on it", "bench api: %s is not on this machine", u.Host)
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	target = bench.APITarget{Name: u.Host, Addr: net.JoinHostPort(u.Hostname(), port)}
	for _, h := range o.headers {
		name, value, ok := strings.Cut(h, ":")
		if !ok || strings.ContainsAny(h, "\r\n") || http.CanonicalHeaderKey(name) == "" {
			return target, "", failf(exitUsage, "give it as --header 'X-Api-Key: …'", "bench api: header %q is not Name: value", h)
		}
		target.Header += fmt.Sprintf("%s: %s\r\n", name, strings.TrimSpace(value))
	}
	return target, strings.TrimSuffix(u.EscapedPath(), "/"), nil
}

package verify_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	pubsub "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"

	"github.com/latamctl/latamctl/pkg/bench"
	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/engine"
	"github.com/latamctl/latamctl/pkg/proc"
	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/pkg/telemetry"
	"github.com/latamctl/latamctl/pkg/verify"
	"github.com/latamctl/latamctl/pkg/web"
	"github.com/latamctl/latamctl/pkg/web/auth"
	"github.com/latamctl/latamctl/services/ingest"
	"github.com/latamctl/latamctl/services/query"
)

// declaration has a dataset whose event time is part of the key, and one where it is not, which asks
// for keys and counts requests. The service levels are for a machine that others use as well.
const declaration = `
version: 1
name: latam
datasets:
  flights:
    fields:
      origin:      {type: string, required: true, pattern: "^[A-Z]{3}$"}
      departed_at: {type: timestamp, required: true}
      delay:       {type: int64, minimum: -60, maximum: 5000}
    key: [origin, departed_at]
    time: departed_at
    indexes: {by_delay: [delay], by_time: [departed_at]}
    api: {cache_max_age: 5s}
    slo: {ingest_latency: 10s, response: 5s}
  orders:
    fields:
      number: {type: string, required: true}
      at:     {type: timestamp, required: true}
      total:  float64
      note:   json
    key: [number]
    time: at
    indexes: {by_at: [at]}
    api: {auth: api_key, quota_per_minute: 100000}
    slo: {ingest_latency: 10s, response: 5s}
`

const project, ownerToken = "p", "owner-token-of-the-test-0123456789"

// platform is the whole system in this process, with a proxy in front of the API that can go wrong.
type platform struct {
	t      *testing.T
	decl   *dataset.Declaration // what is verified
	engine *engine.Engine
	bus    *bus.Client
	store  *store.Client
	admin  *store.Admin
	url    string

	stopIngest func()
	probes     map[string]verify.Probe

	mu      sync.Mutex
	rewrite func(*http.Response) error                        // what the proxy does to answers
	before  func(w http.ResponseWriter, r *http.Request) bool // true: it answered itself
}

type platformOptions struct {
	served   string // the declaration of the API and of ingest
	ingested string // that of ingest alone
	open     bool   // it answers everybody
}

func load(t *testing.T, text string) *dataset.Declaration {
	t.Helper()
	decl, err := dataset.Load("latam.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return decl
}

func newPlatform(t *testing.T, o platformOptions) *platform {
	t.Helper()
	p := &platform{t: t, decl: load(t, declaration), stopIngest: func() {}}
	served := p.decl
	if o.served != "" {
		served = load(t, o.served)
	}
	var err error
	must := func() {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	p.engine, err = engine.Start(t.Context(), engine.Options{Kind: engine.Memory})
	must()
	t.Cleanup(func() { _ = p.engine.Close() })
	p.bus, err = bus.Open(t.Context(), bus.Options{Project: project, Client: p.engine.Pubsub})
	must()
	t.Cleanup(func() { _ = p.bus.Close() })
	p.store, err = store.Open(t.Context(), store.Options{Project: project, Instance: "i", Client: p.engine.Bigtable})
	must()
	t.Cleanup(func() { _ = p.store.Close() })
	p.admin, err = store.OpenAdmin(t.Context(), project, "i", p.engine.Bigtable...)
	must()
	for _, ds := range p.decl.Datasets {
		err = p.bus.Ensure(t.Context(), bus.RouteOf(ds))
		must()
		for _, table := range store.TablesOf(ds) {
			err = p.admin.Ensure(t.Context(), table)
			must()
		}
	}
	log := slog.New(slog.DiscardHandler)
	ingested := served
	if o.ingested != "" {
		ingested = load(t, o.ingested)
	}
	p.ingest(ingested, log)
	p.serve(served, log, o.open)
	return p
}

func (p *platform) ingest(decl *dataset.Declaration, log *slog.Logger) {
	worker, err := ingest.New(ingest.Options{IndexBuildDelay: time.Millisecond}, ingest.Deps{
		Source: p.bus, Sink: p.store, Rows: p.store, DeadLetters: p.bus, Log: log, Now: time.Now,
	}, decl.Datasets)
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(p.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- worker.Run(ctx) }()
	p.stopIngest = sync.OnceFunc(func() { cancel(); <-ended })
	p.t.Cleanup(p.stopIngest)
}

func (p *platform) serve(decl *dataset.Declaration, log *slog.Logger, open bool) {
	t := p.t
	access, err := auth.New(auth.Options{Open: open, OwnerToken: telemetry.NewSecret(ownerToken), KeysFile: "keys.json"},
		auth.Deps{Files: &proc.Process{Dir: t.TempDir()}, Now: time.Now}, decl.Datasets)
	if err != nil {
		t.Fatal(err)
	}
	service, err := query.New(query.Options{}, query.Deps{
		Declaration: decl, Store: p.store, Publisher: p.bus, Follower: p.bus, Log: log, Now: time.Now, Access: access,
	})
	if err != nil {
		t.Fatal(err)
	}
	server, err := web.Listen(t.Context(), web.Options{Addr: "127.0.0.1:0"}, web.Deps{Handler: service.Handler(), Log: log, Now: time.Now, OnDrain: service.Drain})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: server.Addr()})
	proxy.FlushInterval = -1
	proxy.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	proxy.ModifyResponse = func(r *http.Response) error {
		p.mu.Lock()
		rewrite := p.rewrite
		p.mu.Unlock()
		if rewrite == nil {
			return nil
		}
		return rewrite(r)
	}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.before != nil && p.before(w, r) {
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	p.url = front.URL
}

// replace rewrites the bodies of the answers to some requests.
func (p *platform) replace(of func(*http.Request) bool, edit func([]byte) []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rewrite = func(r *http.Response) error {
		if !of(r.Request) || r.Request.Header.Get("Accept-Encoding") != "" && r.Header.Get("Content-Encoding") != "" {
			return nil
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		body = edit(body)
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		r.Header.Del("Content-Length")
		return nil
	}
}

// owner sends the token of the stack's owner.
type owner struct{}

func (owner) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+ownerToken)
	return plain.RoundTrip(r)
}

// plain asks for no coding, so that the proxy can read what it changes.
var plain = &http.Transport{DisableCompression: true}

func (p *platform) deps() verify.Deps {
	return verify.Deps{
		HTTP: &http.Client{Transport: owner{}}, Anonymous: &http.Client{Transport: plain}, Owner: true,
		Bus: p.bus, Rows: p.store, Resources: resources{p.bus, p.admin}, Probes: p.probes, Now: time.Now,
		Offer: func(ctx context.Context, perSecond int, during time.Duration, groups int, one func(context.Context, int) error) ([]verify.Latencies, error) {
			took, err := bench.Offer(ctx, bench.Schedule{PerSecond: perSecond, For: during}, groups, one)
			all := make([]verify.Latencies, len(took))
			for i := range took {
				all[i] = took[i]
			}
			return all, err
		},
	}
}

func (p *platform) options() verify.Options {
	return verify.Options{URL: p.url, Datasets: p.decl.Datasets, Wait: 10 * time.Second, Settle: 50 * time.Millisecond, Load: 40, For: 250 * time.Millisecond}
}

// resources looks up what the program looks up.
type resources struct {
	bus   *bus.Client
	admin *store.Admin
}

func (r resources) Topics(ctx context.Context, ds *dataset.Dataset) ([]string, error) {
	return r.missing(ctx, ds, "topic")
}

func (r resources) Subscriptions(ctx context.Context, ds *dataset.Dataset) ([]string, error) {
	missing, err := r.missing(ctx, ds, "subs")
	if err != nil {
		return nil, err
	}
	detached, err := r.bus.Detached(ctx, bus.RouteOf(ds))
	return append(missing, detached...), err
}

func (r resources) missing(ctx context.Context, ds *dataset.Dataset, kind string) (faults []string, err error) {
	missing, err := r.bus.Missing(ctx, bus.RouteOf(ds))
	for _, name := range missing {
		if name[:len(kind)] == kind {
			faults = append(faults, name+" does not exist")
		}
	}
	return faults, err
}

func (r resources) Tables(ctx context.Context, ds *dataset.Dataset) ([]string, error) {
	return r.admin.Missing(ctx, store.TablesOf(ds))
}

// content is everything that the platform holds: the rows of all tables, and the dead letters.
func (p *platform) content() map[string]int {
	p.t.Helper()
	counts := map[string]int{}
	for _, ds := range p.decl.Datasets {
		for _, table := range store.TablesOf(ds) {
			err := p.store.Scan(p.t.Context(), table.Name, store.Scan{}, func(row dataset.Row) bool {
				if row.Key >= dataset.IndexStart || table.Name == ds.Table() {
					counts[table.Name]++
				}
				return true
			})
			if err != nil {
				p.t.Fatal(err)
			}
		}
	}
	stats, _ := p.engine.Stats()
	for _, s := range stats.Subscriptions {
		if strings.HasSuffix(s.Subscription, "-ingest") || strings.HasSuffix(s.Subscription, "-inspect") {
			counts["messages of "+s.Subscription] = int(s.Backlog)
		}
	}
	return counts
}

// deleteTopic takes a topic away behind the platform's back.
func (p *platform) deleteTopic(name string) {
	p.t.Helper()
	client, err := pubsub.NewTopicAdminClient(p.t.Context(), p.engine.Pubsub...)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := client.DeleteTopic(p.t.Context(), &pubsubpb.DeleteTopicRequest{Topic: "projects/" + project + "/topics/" + name}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *platform) deleteSubscription(name string) {
	p.t.Helper()
	client, err := pubsub.NewSubscriptionAdminClient(p.t.Context(), p.engine.Pubsub...)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := client.DeleteSubscription(p.t.Context(), &pubsubpb.DeleteSubscriptionRequest{Subscription: "projects/" + project + "/subscriptions/" + name}); err != nil {
		p.t.Fatal(err)
	}
}

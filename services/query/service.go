package query

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/pkg/web"
)

// Store reads rows; pkg/store's Client is one. Get returns store.ErrNotFound for an absent row, and
// GetMany one without cells.
type Store interface {
	Get(ctx context.Context, table, key string, columns []string) (dataset.Row, error)
	GetMany(ctx context.Context, table string, keys, columns []string) ([]dataset.Row, error)
	Scan(ctx context.Context, table string, s store.Scan, each func(dataset.Row) bool) error
}

// Publisher sends messages and returns their ids once the bus has them; pkg/bus's Client is one.
// A batch is taken as a whole or not at all.
type Publisher interface {
	Publish(ctx context.Context, topic string, data []byte, attributes map[string]string) (id string, err error)
	PublishBatch(ctx context.Context, topic string, messages []bus.Message) (ids []string, err error)
}

// Deps are what the service works with. Log, Now and CursorKey are optional.
type Deps struct {
	Declaration *dataset.Declaration
	Store       Store
	Publisher   Publisher
	// Follower serves the live streams; without it they are unavailable.
	Follower Follower
	// Payloads reads what the messages of the live streams hold; without it all is taken for JSON.
	Payloads Payloads
	Log      *slog.Logger
	Now      func() time.Time
	// CursorKey seals the cursors: 32 bytes, the same for all processes behind one address. Without
	// it a random one is made, and cursors end with the process.
	CursorKey []byte
	// Activity tells what ingest does with a dataset, where it runs in this process; nil where it does not.
	Activity func(dataset string) (Activity, bool)
	// Warehouse answers the aggregates of the datasets that leave them to BigQuery. AggregateOnRows
	// computes them from the rows all the same, where there is no BigQuery.
	Warehouse       Warehouse
	AggregateOnRows bool
	// Access decides who may reach the rows of a dataset; nil lets everybody.
	Access Access
}

// Service answers the public HTTP API.
type Service struct {
	opts      Options
	deps      Deps
	sealer    *sealer
	endpoints map[string]*endpoint
	router    *web.Router
	bodies    bufferPool
	draining  chan struct{}
	drainOnce sync.Once
}

// New compiles the declaration's datasets into endpoints.
func New(opts Options, deps Deps) (*Service, error) {
	opts = opts.Defaults()
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	if deps.Declaration == nil || deps.Store == nil || deps.Publisher == nil {
		return nil, errors.New("query: declaration, store and publisher are all needed")
	}
	if err := deps.checkWarehouse(); err != nil {
		return nil, err
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.CursorKey == nil {
		deps.CursorKey = make([]byte, cursorKeyBytes)
		_, _ = rand.Read(deps.CursorKey) // never fails: it ends the program instead
	}
	sealer, err := newSealer(deps.CursorKey)
	if err != nil {
		return nil, err
	}
	s := &Service{opts: opts, deps: deps, sealer: sealer, endpoints: map[string]*endpoint{}, draining: make(chan struct{})}
	for _, ds := range deps.Declaration.Datasets {
		ep, err := newEndpoint(ds, opts)
		if err != nil {
			return nil, err
		}
		s.endpoints[ds.Name] = ep
	}
	if s.router, err = s.routes(); err != nil {
		return nil, err
	}
	return s, nil
}

// Handler serves the API. It expects to run under web.Harden, which web.Listen adds.
func (s *Service) Handler() http.Handler { return s.router }

// Routes lists "METHOD /pattern" of every route.
func (s *Service) Routes() []string { return s.router.Routes() }

func (s *Service) routes() (*web.Router, error) {
	index, err := describeIndex()
	if err != nil {
		return nil, err
	}
	list, err := describeAll(s.deps.Declaration)
	if err != nil {
		return nil, err
	}
	rt := &web.Router{}
	rt.HandleFunc(http.MethodGet, "/", s.static(newDocument(typeJSON, index)))
	rt.HandleFunc(http.MethodGet, "/healthz", s.static(newDocument(typeJSON, []byte(`{"status":"ok"}`))))
	rt.HandleFunc(http.MethodGet, "/v1/datasets", s.static(newDocument(typeJSON, list)))
	rt.HandleFunc(http.MethodGet, "/v1/datasets/{dataset}", s.with(func(ep *endpoint, w http.ResponseWriter, r *http.Request) *web.Problem {
		return s.serveDocument(ep.description, w, r)
	}))
	rt.HandleFunc(http.MethodGet, "/v1/datasets/{dataset}/rows", s.guarded(s.list))
	rt.HandleFunc(http.MethodGet, "/v1/datasets/{dataset}/rows/{id}", s.guarded(inJSON(s.get)))
	rt.HandleFunc(http.MethodPost, "/v1/datasets/{dataset}/rows/batch-get", s.guarded(inJSON(s.batchGet)))
	rt.HandleFunc(http.MethodGet, "/v1/datasets/{dataset}/aggregate", s.guarded(inJSON(s.aggregate)))
	rt.HandleFunc(http.MethodGet, "/v1/datasets/{dataset}/stats", s.guarded(inJSON(s.stats)))
	rt.HandleFunc(http.MethodGet, "/v1/datasets/{dataset}/tail", s.guarded(inEvents(s.tail)))
	rt.HandleFunc(http.MethodPost, "/v1/datasets/{dataset}/records", s.guarded(inJSON(s.publish)))
	s.contractRoutes(rt)
	return rt, nil
}

// handler answers a request about one dataset, or returns the problem to write.
type handler func(*endpoint, http.ResponseWriter, *http.Request) *web.Problem

// with finds the endpoint of the path's dataset and writes the problem that the handler returns.
func (s *Service) with(handle handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("dataset")
		ep := s.endpoints[name]
		if ep == nil {
			web.WriteProblem(w, r, s.noDataset(name))
			return
		}
		web.SetDataset(r.Context(), ep.ds.Name)
		if p := handle(ep, w, r); p != nil {
			web.WriteProblem(w, r, p)
		}
	}
}

// inJSON refuses callers that do not take JSON.
func inJSON(handle handler) handler {
	return func(ep *endpoint, w http.ResponseWriter, r *http.Request) *web.Problem {
		if _, ok := web.Accept(r.Header, typeJSON); !ok {
			return notAcceptable(typeJSON)
		}
		return handle(ep, w, r)
	}
}

func (s *Service) noDataset(name string) *web.Problem {
	hint := "GET /v1/datasets lists the datasets."
	if near := dataset.Nearest(name, s.deps.Declaration.Names()); near != "" {
		hint = fmt.Sprintf("Did you mean %s? %s", near, hint)
	}
	return web.NewProblem(web.DatasetNotFound, fmt.Sprintf("There is no dataset %q.", web.Quote(name)), hint)
}

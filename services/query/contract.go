package query

import (
	"log/slog"
	"net/http"
	"sync"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/web"
	"github.com/latamctl/latamctl/services/query/openapi"
	"github.com/latamctl/latamctl/services/query/openapi/docpage"
)

// The media types of the contract.
const (
	typeHTML   = "text/html"
	typeSchema = "application/schema+json"
)

// contractRoutes adds the routes that say what the API is. What they serve is made at the first
// request, so that a start does not wait for it.
func (s *Service) contractRoutes(rt *web.Router) {
	contract := sync.OnceValues(func() (*openapi.Document, error) { return openapi.Build(s.contractOptions()) })
	rt.HandleFunc(http.MethodGet, "/openapi.json", s.lazily(sync.OnceValues(func() (*document, error) {
		doc, err := contract()
		if err != nil {
			return nil, err
		}
		body, err := doc.Compact()
		return newDocument(typeJSON, body), err
	})))
	rt.HandleFunc(http.MethodGet, "/docs", s.lazily(sync.OnceValues(func() (*document, error) {
		doc, err := contract()
		if err != nil {
			return nil, err
		}
		html, policy, err := docpage.Render(doc)
		page := newDocument(typeHTML, html)
		page.policy = policy
		return page, err
	})))
	schemas := map[string]http.HandlerFunc{}
	for _, ds := range s.deps.Declaration.Datasets {
		schemas[ds.Name] = s.lazily(sync.OnceValues(func() (*document, error) { return newSchema(ds) }))
	}
	rt.HandleFunc(http.MethodGet, "/v1/datasets/{dataset}/schema", s.with(func(ep *endpoint, w http.ResponseWriter, r *http.Request) *web.Problem {
		schemas[ep.ds.Name](w, r)
		return nil
	}))
}

// newSchema is a schema, which callers that ask for plain JSON get as well.
func newSchema(ds *dataset.Dataset) (*document, error) {
	body, err := openapi.RecordSchema(ds)
	d := newDocument(typeSchema, body)
	d.also = typeJSON
	return d, err
}

// contractOptions states the limits that are in force.
func (s *Service) contractOptions() openapi.Options {
	return openapi.Options{Declaration: s.deps.Declaration, Limits: openapi.Limits{
		DefaultLimit: DefaultLimit, MaxLimit: MaxLimit, MaxFilters: s.opts.MaxFilters, MaxScannedRows: s.opts.MaxScannedRows,
		MaxRecords: s.opts.MaxRecords,
	}}
}

// lazily serves a document that is made when it is asked for first.
func (s *Service) lazily(load func() (*document, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		d, err := load()
		if err != nil {
			s.deps.Log.LogAttrs(r.Context(), slog.LevelError, "contract not made", slog.String("request_id", web.RequestID(r.Context())), slog.Any("error", err))
			web.WriteProblem(w, r, web.NewProblem(web.Internal, "The contract could not be made.", "Report it with the request id."))
			return
		}
		s.static(d)(w, r)
	}
}

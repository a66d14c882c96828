package query

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/latamctl/latamctl/pkg/web"
	"github.com/latamctl/latamctl/services/query/openapi"
	"github.com/latamctl/latamctl/services/query/openapi/docpage"
)

// The media types of the contract.
const (
	typeOpenAPI = "application/json"
	typeHTML    = "text/html"
	typeSchema  = "application/schema+json"
)

// contractRoutes adds the routes that say what the API is. What they serve is made at the first
// request, so that a start does not wait for it.
func (s *Service) contractRoutes(rt *web.Router) {
	document := sync.OnceValues(func() (*openapi.Document, error) { return openapi.Build(s.contractOptions()) })
	asJSON := sync.OnceValues(func() (*contract, error) {
		doc, err := document()
		if err != nil {
			return nil, err
		}
		body, err := doc.Compact()
		return newContract(typeOpenAPI, body), err
	})
	asPage := sync.OnceValues(func() (*contract, error) {
		doc, err := document()
		if err != nil {
			return nil, err
		}
		html, policy, err := docpage.Render(doc)
		c := newContract(typeHTML, html)
		c.policy = policy
		return c, err
	})
	rt.HandleFunc(http.MethodGet, "/openapi.json", s.serveContract(asJSON))
	rt.HandleFunc(http.MethodGet, "/docs", s.serveContract(asPage))
	schemas := map[string]func() (*contract, error){}
	for _, ds := range s.deps.Declaration.Datasets {
		schemas[ds.Name] = sync.OnceValues(func() (*contract, error) {
			body, err := openapi.RecordSchema(ds)
			return newContract(typeSchema, body), err
		})
	}
	rt.HandleFunc(http.MethodGet, "/v1/datasets/{dataset}/schema", func(w http.ResponseWriter, r *http.Request) {
		load := schemas[r.PathValue("dataset")]
		if load == nil {
			web.WriteProblem(w, r, s.noDataset(r.PathValue("dataset")))
			return
		}
		s.serveContract(load)(w, r)
	})
}

// contractOptions states the limits that are in force.
func (s *Service) contractOptions() openapi.Options {
	return openapi.Options{Declaration: s.deps.Declaration, Limits: openapi.Limits{
		DefaultLimit: DefaultLimit, MaxLimit: MaxLimit, MaxFilters: s.opts.MaxFilters, MaxScannedRows: s.opts.MaxScannedRows,
		MaxRecords: s.opts.MaxRecords,
	}}
}

// contract is a part of the contract as it is served.
type contract struct {
	kind string
	body []byte
	tag  string
	// policy is the Content-Security-Policy of a page.
	policy string
}

func newContract(kind string, body []byte) *contract {
	sum := sha256.Sum256(body)
	return &contract{kind: kind, body: body, tag: `"` + hex.EncodeToString(sum[:12]) + `"`}
}

func (s *Service) serveContract(load func() (*contract, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c, err := load()
		if err != nil {
			s.deps.Log.LogAttrs(r.Context(), slog.LevelError, "contract not made", slog.String("request_id", web.RequestID(r.Context())), slog.Any("error", err))
			web.WriteProblem(w, r, web.NewProblem(web.Internal, "The contract could not be made.", "Report it with the request id."))
			return
		}
		if p := c.refusal(r); p != nil {
			web.WriteProblem(w, r, p)
			return
		}
		c.write(w, r)
	}
}

// refusal is the problem of a request that asks for something else than the contract.
func (c *contract) refusal(r *http.Request) *web.Problem {
	ps, p := parseParams(r.URL.RawQuery)
	if p != nil {
		return p
	}
	if len(ps) > 0 {
		return unknownParameter(ps[0].name, nil)
	}
	accepts := r.Header.Values("Accept")
	if len(accepts) == 0 || takes(strings.Join(accepts, ","), c.kind) {
		return nil
	}
	return web.NewProblem(web.NotAcceptable, fmt.Sprintf("This path returns %s.", c.kind), "Send Accept: "+c.kind+".")
}

// takes says whether an Accept header lets a media type through.
func takes(accept, kind string) bool {
	major, _, _ := strings.Cut(kind, "/")
	for part := range strings.SplitSeq(accept, ",") {
		name, params, err := mime.ParseMediaType(part)
		if err != nil || name != kind && name != major+"/*" && name != "*/*" && (kind != typeSchema || name != typeOpenAPI) {
			continue
		}
		if q, err := strconv.ParseFloat(params["q"], 64); params["q"] == "" || err == nil && q > 0 {
			return true
		}
	}
	return false
}

func (c *contract) write(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Etag", c.tag)
	h.Set("Cache-Control", "no-cache")
	if c.policy != "" {
		h.Set("Content-Security-Policy", c.policy)
		h.Set("Referrer-Policy", "no-referrer")
	}
	for tag := range strings.SplitSeq(r.Header.Get("If-None-Match"), ",") {
		if tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/"); tag == c.tag || tag == "*" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	kind := c.kind
	if kind == typeHTML {
		kind += "; charset=utf-8"
	}
	h.Set("Content-Type", kind)
	h.Set("Content-Length", strconv.Itoa(len(c.body)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(c.body)
}

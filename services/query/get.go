package query

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/pkg/web"
)

// get answers GET /v1/datasets/{dataset}/rows/{id} with the bare row.
func (s *Service) get(ep *endpoint, w http.ResponseWriter, r *http.Request) *web.Problem {
	key, err := ep.ds.ParseRowID(r.PathValue("id"))
	if err != nil {
		return invalidID(ep, err)
	}
	enc, columns, p := ep.parseGet(r.URL.RawQuery)
	if p != nil {
		return p
	}
	if p := ep.gets.enter(r.Context()); p != nil {
		return p
	}
	defer ep.gets.leave()
	ctx, cancel := context.WithTimeout(r.Context(), s.opts.GetTimeout)
	defer cancel()
	start := s.deps.Now()
	row, err := s.deps.Store.Get(ctx, ep.ds.Table(), key, columns)
	if errors.Is(err, store.ErrNotFound) {
		return web.NewProblem(web.RowNotFound, fmt.Sprintf("%s has no row with this id.", ep.ds.Name), "")
	}
	if err != nil {
		return s.storeProblem(ctx, r, ep, err)
	}
	var timing timings
	timing.add("store", s.deps.Now().Sub(start))
	buf := s.bodies.get()
	defer s.bodies.put(buf)
	if *buf, err = enc.AppendJSON((*buf)[:0], row); err != nil {
		return s.storeProblem(ctx, r, ep, err)
	}
	timing.set(w.Header())
	s.respond(w, r, answer{kind: typeJSON, body: *buf, tag: tagOf(*buf), modified: row.Time, cache: ep.cache})
	return nil
}

func invalidID(ep *endpoint, err error) *web.Problem {
	return web.NewProblem(web.InvalidID, sentence(err), "An id is the key's parts joined by commas: "+strings.Join(fieldNames(ep.ds.Key), ",")+".")
}

// parseGet reads the only parameter of a get, the projection.
func (ep *endpoint) parseGet(rawQuery string) (enc *dataset.Encoder, columns []string, p *web.Problem) {
	if rawQuery == "" {
		return ep.encoder, nil, nil
	}
	ps, p := parseParams(rawQuery)
	if p != nil {
		return nil, nil, p
	}
	enc = ep.encoder
	for _, param := range ps {
		if param.name != paramFields {
			return nil, nil, unknownParameter(param.name, []string{paramFields})
		}
		fields, p := ep.parseFields(param.value)
		if p != nil {
			return nil, nil, p
		}
		enc, columns = ep.ds.NewEncoder(fields), ep.columnsFor(fields, nil)
	}
	return enc, columns, nil
}

// sentence makes an error's text fit to stand in a problem's detail.
func sentence(err error) string {
	text := err.Error()
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

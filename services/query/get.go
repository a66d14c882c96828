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
		p := web.NewProblem(web.InvalidID, sentence(err), "An id is the key's parts joined by commas: "+strings.Join(fieldNames(ep.ds.Key), ",")+".")
		return p
	}
	fields, columns, p := ep.parseGet(r.URL.RawQuery)
	if p != nil {
		return p
	}
	if p := ep.gets.enter(r.Context()); p != nil {
		return p
	}
	defer ep.gets.leave()
	ctx, cancel := context.WithTimeout(r.Context(), s.opts.GetTimeout)
	defer cancel()
	row, err := s.deps.Store.Get(ctx, ep.ds.Table(), key, columns)
	if errors.Is(err, store.ErrNotFound) {
		return web.NewProblem(web.RowNotFound, fmt.Sprintf("%s has no row with this id.", ep.ds.Name), "")
	}
	if err != nil {
		return s.storeProblem(ctx, r, ep, err)
	}
	buf := s.bodies.get()
	defer s.bodies.put(buf)
	if *buf, err = ep.appendRow((*buf)[:0], row, fields); err != nil {
		return s.storeProblem(ctx, r, ep, err)
	}
	writeJSON(w, http.StatusOK, *buf)
	return nil
}

func (ep *endpoint) appendRow(dst []byte, row dataset.Row, fields []*dataset.Field) ([]byte, error) {
	rec, err := ep.ds.Record(row)
	if err != nil {
		return dst, err
	}
	id, err := ep.ds.RowID(row.Key)
	if err != nil {
		return dst, err
	}
	return rec.AppendJSON(dst, id, fields)
}

// parseGet reads the only parameter of a get, the projection.
func (ep *endpoint) parseGet(rawQuery string) (fields []*dataset.Field, columns []string, p *web.Problem) {
	if rawQuery == "" {
		return nil, nil, nil
	}
	ps, p := parseParams(rawQuery)
	if p != nil {
		return nil, nil, p
	}
	for _, param := range ps {
		if param.name != paramFields {
			return nil, nil, unknownParameter(param.name, []string{paramFields})
		}
		if fields, p = ep.parseFields(param.value); p != nil {
			return nil, nil, p
		}
		columns = (&page{ep: ep, l: listing{query: listQuery{fields: fields}}}).columns()
	}
	return fields, columns, nil
}

// sentence makes an error's text fit to stand in a problem's detail.
func sentence(err error) string {
	text := err.Error()
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

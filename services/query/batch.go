package query

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/web"
)

// MaxIDs is how many rows one batch-get may ask for.
const MaxIDs = 100

// batchRequest is the body of a batch-get.
type batchRequest struct {
	IDs    []string  `json:"ids"`
	Fields *[]string `json:"fields"`
}

// batchGet answers POST /v1/datasets/{dataset}/rows/batch-get: the rows in the order of the ids, and
// the ids that have none.
func (s *Service) batchGet(ep *endpoint, w http.ResponseWriter, r *http.Request) *web.Problem {
	req, enc, columns, p := s.parseBatch(ep, w, r)
	if p != nil {
		return p
	}
	keys := make([]string, len(req.IDs))
	for i, id := range req.IDs {
		var err error
		if keys[i], err = ep.ds.ParseRowID(id); err != nil {
			p := invalidID(ep, err)
			p.Errors = []web.Fault{{Parameter: fmt.Sprintf("ids[%d]", i), Code: string(web.InvalidID)}}
			return p
		}
	}
	if p := ep.gets.enter(r.Context()); p != nil {
		return p
	}
	defer ep.gets.leave()
	ctx, cancel := context.WithTimeout(r.Context(), s.opts.GetTimeout)
	defer cancel()
	start := s.deps.Now()
	rows, err := s.deps.Store.GetMany(ctx, ep.ds.Table(), keys, columns)
	if err != nil {
		return s.storeProblem(ctx, r, ep, err)
	}
	var timing timings
	timing.add("store", s.deps.Now().Sub(start))
	buf := s.bodies.get()
	defer s.bodies.put(buf)
	if *buf, err = appendBatch((*buf)[:0], enc, req.IDs, rows); err != nil {
		return s.storeProblem(ctx, r, ep, err)
	}
	timing.set(w.Header())
	s.respond(w, r, answer{kind: typeJSON, body: *buf, cache: "no-store"})
	return nil
}

func appendBatch(b []byte, enc *dataset.Encoder, ids []string, rows []dataset.Row) ([]byte, error) {
	missing := []string{}
	b = append(b, `{"data":[`...)
	first := true
	for i, row := range rows {
		if len(row.Cells) == 0 {
			missing = append(missing, ids[i])
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		var err error
		if b, err = enc.AppendJSON(b, row); err != nil {
			return b, err
		}
	}
	names, err := json.Marshal(missing)
	if err != nil {
		return b, err
	}
	return append(append(append(b, `],"missing":`...), names...), '}'), nil
}

func (s *Service) parseBatch(ep *endpoint, w http.ResponseWriter, r *http.Request) (req batchRequest, enc *dataset.Encoder, columns []string, p *web.Problem) {
	enc = ep.encoder
	single, p := bodyKind(r.Header)
	if p == nil && !single {
		p = web.NewProblem(web.UnsupportedMediaType, "A batch-get takes one JSON object.", "Send Content-Type: application/json.")
	}
	if p == nil {
		p = noParameters(r.URL.RawQuery)
	}
	if p != nil {
		return req, enc, nil, p
	}
	body, p := web.ReadBody(w, r, s.opts.MaxBodyBytes)
	if p != nil {
		return req, enc, nil, p
	}
	if p := decodeBatch(body, &req); p != nil {
		return req, enc, nil, p
	}
	if req.Fields != nil {
		fields, p := ep.fieldsNamed(*req.Fields)
		if p != nil {
			return req, enc, nil, p
		}
		enc, columns = ep.ds.NewEncoder(fields), ep.columnsFor(fields, nil)
	}
	return req, enc, columns, nil
}

func decodeBatch(body []byte, req *batchRequest) *web.Problem {
	const hint = `Send {"ids": ["…"], "fields": ["…"]}; fields may be left out.`
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	err := dec.Decode(req)
	if err == nil && dec.Decode(new(json.RawMessage)) != io.EOF {
		err = errors.New("something follows the object")
	}
	switch {
	case err != nil:
		return web.NewProblem(web.BadRequest, "The body is not what a batch-get takes: "+batchFault(err)+".", hint)
	case len(req.IDs) == 0:
		return web.NewProblem(web.BadRequest, "The body names no ids.", hint)
	case len(req.IDs) > MaxIDs:
		return web.NewProblem(web.BadRequest, fmt.Sprintf("The body names %d ids, at most %d are possible.", len(req.IDs), MaxIDs), "Ask in several requests.")
	case req.Fields != nil && len(*req.Fields) == 0:
		return web.NewProblem(web.BadRequest, "The body names no fields.", "Leave fields out to get all of them.")
	}
	return nil
}

// batchFault says in words what is wrong with a body.
func batchFault(err error) string {
	var kind *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &kind) && kind.Field == "":
		return "expected a JSON object, got " + kind.Value
	case errors.As(err, &kind):
		return fmt.Sprintf("%s: expected an array of strings, got %s", kind.Field, kind.Value)
	case errors.As(err, &syntax):
		return fmt.Sprintf("it is not JSON from byte %d on", syntax.Offset)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "it ends before the JSON object does"
	}
	return web.Quote(strings.TrimPrefix(err.Error(), "json: "))
}

// noParameters refuses a query string on a path that takes none.
func noParameters(rawQuery string) *web.Problem {
	ps, p := parseParams(rawQuery)
	if p == nil && len(ps) > 0 {
		p = unknownParameter(ps[0].name, nil)
	}
	return p
}

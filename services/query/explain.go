package query

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/latamctl/latamctl/pkg/web"
)

// explained is how one access would serve a query.
type explained struct {
	Access   string   `json:"access"`
	Prefix   []string `json:"prefix"`
	Range    string   `json:"range,omitempty"`
	Filtered []string `json:"filtered"`
	// Ranges is the number of key ranges that would be read; 0 means that no row can meet the filters.
	Ranges int    `json:"ranges"`
	Note   string `json:"note"`
}

// explanation is the answer to explain=true: no row is returned, and at most explainedRows are counted.
type explanation struct {
	Plan       *explained     `json:"plan"`
	Order      string         `json:"order"`
	Columns    []string       `json:"columns"`
	RowsToRead map[string]any `json:"rows_to_read,omitempty"`
	Refused    *refusal       `json:"refused,omitempty"`
	Considered []explained    `json:"considered"`
	Limits     map[string]any `json:"limits"`
}

type refusal struct {
	Code   web.Code `json:"code"`
	Detail string   `json:"detail"`
	Hint   string   `json:"hint"`
}

// explainedRows bounds how many keys are counted to say how much a query would read.
const explainedRows = 1000

// explain answers with the plan of a listing instead of its rows.
func (s *Service) explain(l listing, w http.ResponseWriter, r *http.Request) *web.Problem {
	if p := l.ep.lists.enter(r.Context()); p != nil {
		return p
	}
	defer l.ep.lists.leave()
	ctx, cancel := context.WithTimeout(r.Context(), s.opts.ListTimeout)
	defer cancel()
	out := explanation{Order: "asc", Columns: l.ep.columnsFor(l.query.fields, l.plan.residual), Limits: map[string]any{
		"rows_scanned": s.opts.MaxScannedRows, "page_bytes": s.opts.MaxPageBytes, "list_timeout": s.opts.ListTimeout.String(),
	}}
	if l.query.desc {
		out.Order = "desc"
	}
	if out.Columns == nil {
		out.Columns = l.ep.ds.FieldNames()
	}
	for _, c := range l.ep.candidates(l.query.filters, s.ready(ctx, l.ep)) {
		out.Considered = append(out.Considered, explainCandidate(c))
	}
	if l.refused != nil {
		out.Refused = &refusal{l.refused.Code, l.refused.Detail, l.refused.Hint}
	} else {
		chosen := explainCandidate(candidate{plan: l.plan, ready: true})
		out.Plan = &chosen
		unfiltered := l.plan
		unfiltered.residual = nil
		n, err := s.countRows(ctx, l, unfiltered, explainedRows, estimateTimeout)
		if err != nil {
			return s.storeProblem(ctx, r, l.ep, err)
		}
		out.RowsToRead = map[string]any{"value": n.value, "relation": n.relation}
	}
	body, err := json.Marshal(out)
	if err != nil {
		return s.storeProblem(ctx, r, l.ep, err)
	}
	s.respond(w, r, answer{kind: typeJSON, body: body, cache: "no-store"})
	return nil
}

func explainCandidate(c candidate) explained {
	pl := c.plan
	e := explained{Access: pl.access.name(), Prefix: fieldNames(pl.prefix), Filtered: []string{}, Ranges: len(pl.ranges)}
	if pl.ranged != nil {
		e.Range = pl.ranged.Name
	}
	for _, f := range pl.residual {
		e.Filtered = append(e.Filtered, f.field.Name)
	}
	own := fieldNames(pl.access.own())
	switch {
	case !c.ready:
		e.Note = "not used: the index does not have all rows yet"
	case len(pl.ranges) == 0:
		e.Note = "no row can meet the filters"
	case pl.score() > 0:
		e.Note = "reads only the keys that begin with " + strings.Join(append(fieldNames(pl.prefix), rangeNames(pl)...), ", ")
	case len(pl.residual) > 0:
		e.Note = "reads everything: no filter compares " + own[0] + ", with which its keys begin"
	default:
		e.Note = "reads everything, in the order of " + strings.Join(own, ", ")
	}
	return e
}

func rangeNames(pl plan) []string {
	if pl.ranged == nil {
		return nil
	}
	return []string{"a range of " + pl.ranged.Name}
}

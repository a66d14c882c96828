package query

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/web"
)

// listing is one request for rows, understood.
type listing struct {
	ep        *endpoint
	query     listQuery
	plan      plan
	format    format
	limit     int // 0 = no limit, for exports only
	explicit  bool
	canonical string
	at        time.Time // what relative times are relative to: the time of the first page
	now       time.Time
	// refused is why the query is not run, for explain.
	refused *web.Problem
}

// list answers GET /v1/datasets/{dataset}/rows.
func (s *Service) list(ep *endpoint, w http.ResponseWriter, r *http.Request) *web.Problem {
	l, p := s.parseListing(ep, r)
	if p != nil {
		return p
	}
	switch {
	case l.query.explain:
		return s.explain(l, w, r)
	case l.refused != nil:
		return l.refused
	case l.format.streams():
		return s.export(l, w, r)
	}
	return s.page(l, w, r)
}

// parseListing understands the parameters, and continues at the cursor when there is one.
func (s *Service) parseListing(ep *endpoint, r *http.Request) (l listing, p *web.Problem) {
	l.ep = ep
	ps, p := parseParams(r.URL.RawQuery)
	if p != nil {
		return l, p
	}
	if l.format, p = parseFormat(ps, r.Header); p != nil {
		return l, p
	}
	if l.limit, p = parseLimit(ps, l.format); p != nil {
		return l, p
	}
	l.explicit = valueOf(ps, paramLimit) != ""
	l.now = s.deps.Now()
	l.at, l.canonical = l.now, encodeParams(ps)
	from, p := s.resume(&l, &ps)
	if p != nil {
		return l, p
	}
	if l.query, p = ep.parseListQuery(ps, l.at, s.opts.MaxFilters); p != nil {
		return l, p
	}
	if p := l.checkQuery(); p != nil {
		return l, p
	}
	return l, s.planListing(r.Context(), &l, from)
}

// resume opens the cursor, if there is one. A cursor alone brings its query with it.
func (s *Service) resume(l *listing, ps *[]param) (*position, *web.Problem) {
	cursor := valueOf(*ps, paramCursor)
	if cursor == "" {
		return nil, nil
	}
	from, p := s.openCursor(l.ep, cursor, l.now)
	if p != nil {
		return nil, p
	}
	l.at = from.at
	if l.canonical == "" && from.sealed {
		l.canonical = from.query
		kept, p := parseParams(from.query)
		if p != nil {
			return nil, p
		}
		for _, own := range []string{paramCount, paramExplain} {
			if value := valueOf(*ps, own); value != "" {
				kept = append(kept, param{own, value})
			}
		}
		*ps = kept
	}
	return &from, nil
}

// planListing chooses how to read, or goes on as the cursor did.
func (s *Service) planListing(ctx context.Context, l *listing, from *position) (p *web.Problem) {
	ready := s.ready(ctx, l.ep)
	if from == nil {
		l.plan, l.refused = l.ep.choose(l.query, ready)
		return nil
	}
	if hashQuery(l.canonical) != from.queryHash || l.query.desc != from.desc {
		return cursorMismatch("The cursor continues a query with other parameters.", "Repeat the parameters of the first page; only limit, format and count may change. Or start again without cursor.")
	}
	q := l.query
	q.access = from.access
	if l.plan, l.refused = l.ep.choose(q, ready); l.refused != nil {
		return l.refused
	}
	if l.plan.access.signature() != from.signature {
		return cursorMismatch("The cursor continues a query by an index that was changed.", "Start again without cursor.")
	}
	l.plan.after(from.key, from.desc)
	return nil
}

func (l *listing) checkQuery() *web.Problem {
	if l.query.count != "" && l.format.streams() {
		return invalid(paramCount, "a count comes with format=json only", "Leave it out: the last line tells how many rows came.")
	}
	return nil
}

func (s *Service) openCursor(ep *endpoint, cursor string, now time.Time) (position, *web.Problem) {
	from, ok := s.sealer.open(ep.scope, cursor)
	if !ok {
		return from, cursorMismatch(fmt.Sprintf("The cursor was not made by this service for %s.", ep.ds.Name), "Take next_cursor as it is, for the same dataset; or start again without cursor.")
	}
	if now.Sub(from.issued) > s.opts.CursorTTL {
		p := web.NewProblem(web.CursorExpired, fmt.Sprintf("The cursor is older than %s.", dataset.FormatDuration(s.opts.CursorTTL)), "Start again without cursor.")
		p.Errors = []web.Fault{{Parameter: paramCursor, Code: string(web.CursorExpired)}}
		return from, p
	}
	return from, nil
}

// position is where the reading stopped: behind the key last, which was served or left out.
func (l *listing) position(issued time.Time, last string) position {
	p := position{
		issued: issued, at: l.at, desc: l.query.desc, key: last, queryHash: hashQuery(l.canonical),
		access: l.plan.access.name(), signature: l.plan.access.signature(),
	}
	if len(l.canonical) <= maxSealedQueryBytes {
		p.query, p.sealed = l.canonical, true
	}
	return p
}

// nextURL repeats the query where the URL stays within the limit, and else relies on the query
// inside the cursor.
func (l *listing) nextURL(cursor string, maxBytes int) (string, *web.Problem) {
	base := l.ep.path + "/rows?"
	tail := paramCursor + "=" + cursor
	if l.explicit {
		tail += "&" + paramLimit + "=" + strconv.Itoa(l.limit)
	}
	whole := base + tail
	if l.canonical != "" {
		whole = base + l.canonical + "&" + tail
	}
	if len(whole) <= maxBytes {
		return whole, nil
	}
	if short := base + tail; len(l.canonical) <= maxSealedQueryBytes && len(short) <= maxBytes {
		return short, nil
	}
	return "", web.NewProblem(web.URITooLong, fmt.Sprintf("The URL of the next page would have %d bytes, the limit is %d.", len(whole), maxBytes), "Use fewer or shorter filters.")
}

// columnsFor are those that the answer and the filters need; nil reads all. The first key field is
// always read, because a row with none of the columns would not be seen.
func (ep *endpoint) columnsFor(fields []*dataset.Field, residual []filter) []string {
	if fields == nil {
		return nil
	}
	need := make([]bool, len(ep.ds.Fields))
	need[ep.ds.Key[0].Index] = true
	for _, f := range fields {
		need[f.Index] = true
	}
	for _, f := range residual {
		need[f.field.Index] = true
	}
	var names []string
	for i, f := range ep.ds.Fields {
		if need[i] {
			names = append(names, f.Name)
		}
	}
	return names
}

// format is how rows are written.
type format string

const (
	formatJSON   format = "json"
	formatNDJSON format = "ndjson"
	formatCSV    format = "csv"
	// formatCSVSafe is CSV in which no cell can be a formula of a spreadsheet.
	formatCSVSafe format = "csv-safe"
)

func (f format) streams() bool { return f != formatJSON }

func (f format) kind() string {
	switch f {
	case formatNDJSON:
		return typeNDJSON
	case formatCSV, formatCSVSafe:
		return typeCSV
	}
	return typeJSON
}

// parseFormat takes the parameter, which Accept must not exclude, else what Accept prefers.
func parseFormat(ps []param, h http.Header) (format, *web.Problem) {
	text := valueOf(ps, paramFormat)
	if text == "" {
		kind, ok := web.Accept(h, typeJSON, typeNDJSON, typeCSV)
		if !ok {
			return "", notAcceptable(typeJSON, typeNDJSON, typeCSV)
		}
		return map[string]format{typeJSON: formatJSON, typeNDJSON: formatNDJSON, typeCSV: formatCSV}[kind], nil
	}
	f := format(text)
	switch f {
	case formatJSON, formatNDJSON, formatCSV, formatCSVSafe:
	default:
		return "", invalid(paramFormat, fmt.Sprintf("%q is not possible", web.Quote(text)), "Possible: json, ndjson, csv, csv-safe.")
	}
	if _, ok := web.Accept(h, f.kind()); !ok {
		return "", notAcceptable(f.kind())
	}
	return f, nil
}

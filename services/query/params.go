package query

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/web"
)

// The parameters of a list that are not filters. A field of the same name is filtered with [eq].
const (
	paramFrom   = "from"
	paramTo     = "to"
	paramOrder  = "order"
	paramFields = "fields"
	paramLimit  = "limit"
	paramCursor = "cursor"
	paramScan   = "scan"
	paramIndex  = "index"
	paramCount  = "count"
	paramFormat = "format"
	// paramExplain asks for the plan instead of the rows.
	paramExplain = "explain"
)

// listParameters are those of a list besides the fields.
func listParameters() []string {
	return []string{paramFrom, paramTo, paramOrder, paramFields, paramLimit, paramCursor, paramScan, paramIndex, paramCount, paramFormat, paramExplain}
}

// param is one query parameter, decoded.
type param struct{ name, value string }

// parseParams decodes a query string into parameters sorted by name. All are scalars: one that is
// given twice, is empty, or holds bytes that no value can have, is refused.
func parseParams(rawQuery string) ([]param, *web.Problem) {
	var ps []param
	for part := range strings.SplitSeq(rawQuery, "&") {
		if part == "" {
			continue
		}
		rawName, rawValue, _ := strings.Cut(part, "=")
		name, err := unescape(rawName)
		if err != nil || name == "" {
			return nil, web.NewProblem(web.BadRequest, fmt.Sprintf("The query string is malformed at %q.", web.Quote(part)), "Write it as name=value&name=value, special characters as %XX.")
		}
		value, err := unescape(rawValue)
		if err != nil {
			return nil, invalid(name, "the value is not valid percent-encoded UTF-8 text", "Write special characters as %XX.")
		}
		if value == "" && strings.HasSuffix(name, "[exists]") {
			value = "true"
		}
		if value == "" {
			return nil, invalid(name, "the value is empty", "Give it a value or leave it out.")
		}
		ps = append(ps, param{name, value})
	}
	slices.SortFunc(ps, func(a, b param) int { return strings.Compare(a.name, b.name) })
	for i := 1; i < len(ps); i++ {
		if ps[i].name == ps[i-1].name {
			return nil, invalid(ps[i].name, "the parameter is given twice", "Give it once.")
		}
	}
	return ps, nil
}

var errNoText = errors.New("bytes that are no text")

func unescape(s string) (string, error) {
	text, err := url.QueryUnescape(s)
	if err == nil && (!utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0) {
		err = errNoText
	}
	return text, err
}

// encodeParams is the canonical form of a query: sorted, encoded, without what does not change its rows.
func encodeParams(ps []param) string {
	var b strings.Builder
	for _, p := range ps {
		switch p.name {
		case paramLimit, paramCursor, paramCount, paramFormat, paramExplain:
			continue
		}
		if p == (param{paramOrder, "asc"}) {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		b.WriteString(url.QueryEscape(p.name))
		b.WriteByte('=')
		b.WriteString(url.QueryEscape(p.value))
	}
	return b.String()
}

func valueOf(ps []param, name string) string {
	for _, p := range ps {
		if p.name == name {
			return p.value
		}
	}
	return ""
}

// listQuery is a list's parameters, understood.
type listQuery struct {
	filters []filter
	fields  []*dataset.Field // nil = all
	access  string           // the name of the access that is asked for, "" = the best
	desc    bool
	scan    bool
	explain bool
	count   string // "", countEstimated or countExact
}

// parseManner reads a parameter that says how to read and what to return.
func (ep *endpoint) parseManner(q *listQuery, param param) (known bool, p *web.Problem) {
	switch param.name {
	case paramIndex:
		q.access, p = ep.parseIndex(param)
	case paramExplain:
		q.explain, p = parseChoice(param, "true", "false")
	case paramCount:
		_, p = parseChoice(param, countNone, countEstimated, countExact)
		if q.count = param.value; q.count == countNone {
			q.count = ""
		}
	case paramOrder:
		q.desc, p = parseChoice(param, "desc", "asc")
	case paramScan:
		q.scan, p = parseChoice(param, "allow")
	case paramFields:
		q.fields, p = ep.parseFields(param.value)
	default:
		return false, nil
	}
	return true, p
}

// How exactly a list counts.
const (
	countNone      = "none"
	countEstimated = "estimated"
	countExact     = "exact"
)

// parseListQuery reads all parameters but limit, cursor and format. Relative times are relative to at.
func (ep *endpoint) parseListQuery(ps []param, at time.Time, maxFilters int) (q listQuery, p *web.Problem) {
	for _, param := range ps {
		switch param.name {
		case paramLimit, paramCursor, paramFormat:
		case paramFrom, paramTo:
			var f filter
			f, p = ep.parseTimeBound(param, at)
			q.filters = append(q.filters, f)
		default:
			var known bool
			if known, p = ep.parseManner(&q, param); known {
				break
			}
			var f filter
			f, p = ep.parseFilter(param)
			q.filters = append(q.filters, f)
		}
		if p != nil {
			return q, p
		}
	}
	if len(q.filters) > maxFilters {
		return q, invalid(q.filters[maxFilters].parameter, fmt.Sprintf("the query has %d filters, at most %d are possible", len(q.filters), maxFilters), "Leave some out.")
	}
	return q, onceEqual(q.filters)
}

// onceEqual refuses a field that is compared for equality twice: field=a and field[eq]=b.
func onceEqual(filters []filter) *web.Problem {
	for i, f := range filters {
		for _, g := range filters[:i] {
			if f.op == opEq && g.op == opEq && f.field == g.field {
				return invalid(f.parameter, "the field is compared for equality twice", "Give it once.")
			}
		}
	}
	return nil
}

// parseChoice is true when the value is the first of the choices.
func parseChoice(p param, choices ...string) (bool, *web.Problem) {
	if !slices.Contains(choices, p.value) {
		return false, invalid(p.name, fmt.Sprintf("%q is not possible", web.Quote(p.value)), "Possible: "+strings.Join(choices, ", ")+".")
	}
	return p.value == choices[0], nil
}

// parseIndex reads the name of an index, or key.
func (ep *endpoint) parseIndex(p param) (string, *web.Problem) {
	if ep.ds.Index(p.value) != nil {
		return accessByIndex(ep.ds, ep.ds.Index(p.value)).name(), nil
	}
	if p.value == accessKey {
		return accessKey, nil
	}
	names := []string{accessKey}
	for _, ix := range ep.ds.Indexes {
		names = append(names, ix.Name)
	}
	hint := "Possible: " + strings.Join(names, ", ") + "."
	if near := dataset.Nearest(p.value, names); near != "" {
		hint = fmt.Sprintf("Did you mean %s?", near)
	}
	return "", invalid(p.name, fmt.Sprintf("%s has no index %q", ep.ds.Name, web.Quote(p.value)), hint)
}

func parseLimit(ps []param, f format) (int, *web.Problem) {
	text := valueOf(ps, paramLimit)
	most := MaxLimit
	switch {
	case text == "" && f.streams():
		return 0, nil
	case text == "":
		return DefaultLimit, nil
	case f.streams():
		most = math.MaxInt32
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, invalid(paramLimit, fmt.Sprintf("expected a whole number from 1 to %d, got %q", most, web.Quote(text)), "")
	}
	return n, nil
}

// parseFields reads a projection. The id is always part of a row, so naming it changes nothing.
func (ep *endpoint) parseFields(list string) ([]*dataset.Field, *web.Problem) {
	return ep.fieldsNamed(strings.Split(list, ","))
}

func (ep *endpoint) fieldsNamed(names []string) ([]*dataset.Field, *web.Problem) {
	fields := []*dataset.Field{}
	seen := map[string]bool{}
	for _, name := range names {
		if len(seen) == MaxFields {
			return nil, invalid(paramFields, fmt.Sprintf("the list has more than %d fields", MaxFields), "Leave fields out to get all of them.")
		}
		if seen[name] {
			return nil, invalid(paramFields, fmt.Sprintf("%q stands twice in the list", web.Quote(name)), "Give it once.")
		}
		seen[name] = true
		if name == dataset.IDMember {
			continue
		}
		f := ep.ds.Field(name)
		if f == nil {
			hint := "The fields are " + strings.Join(ep.ds.FieldNames(), ", ") + "."
			if near := dataset.Nearest(name, ep.ds.FieldNames()); near != "" {
				hint = fmt.Sprintf("Did you mean %s?", near)
			}
			return nil, invalid(paramFields, fmt.Sprintf("%s has no field %q", ep.ds.Name, web.Quote(name)), hint)
		}
		fields = append(fields, f)
	}
	return fields, nil
}

func invalid(parameter, detail, hint string) *web.Problem {
	p := web.NewProblem(web.InvalidParameter, fmt.Sprintf("Parameter %s: %s.", web.Quote(parameter), detail), hint)
	p.Errors = []web.Fault{{Parameter: web.Quote(parameter), Code: string(web.InvalidParameter), Detail: detail}}
	return p
}

// unknownParameter suggests the nearest of the parameters that the path has.
func unknownParameter(name string, known []string) *web.Problem {
	p := web.NewProblem(web.UnknownParameter, fmt.Sprintf("There is no parameter %q.", web.Quote(name)), "The path takes no parameters.")
	p.Errors = []web.Fault{{Parameter: web.Quote(name), Code: string(web.UnknownParameter)}}
	if len(known) == 0 {
		return p
	}
	base, _, _ := strings.Cut(name, "[")
	p.Hint = "Parameters are " + strings.Join(known, ", ") + "."
	if near := dataset.Nearest(base, known); near != "" && near != base {
		p.Hint = fmt.Sprintf("Did you mean %s?", near)
	}
	if base == dataset.IDMember {
		p.Hint = "Read a row by its id with GET /v1/datasets/{dataset}/rows/{id}."
	}
	return p
}

package monitortest

import (
	"net/http"
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

// searchMonitors knows the terms tag, type, status, id and title, and words of the name. All must hold.
func (d *Datadog) searchMonitors(r *request) *Response {
	q, answer := numbers(r, map[string]int{"page": 0, "per_page": 30})
	if answer != nil {
		return answer
	}
	terms := searchTerms(r.query.Get("query"))
	for _, t := range terms {
		states := []string{"alert", "ignored", "no data", "ok", "skipped", "unknown", "warn"}
		if t.field == "status" && !slices.Contains(states, strings.ToLower(t.value)) {
			return problem(http.StatusBadRequest, "Query parsing error: '%s' is not a valid monitor status", t.value)
		}
	}
	found := []any{}
	for _, o := range d.monitors().live() {
		if !slices.ContainsFunc(terms, func(t term) bool { return !t.holds(o) }) {
			found = append(found, searchResult(o))
		}
	}
	total := d.total(declare.Monitor, len(found))
	size := max(q["per_page"], 1)
	return ok(map[string]any{
		"counts":   map[string]any{"status": []any{}, "muted": []any{}, "tag": []any{}, "type": []any{}},
		"metadata": map[string]any{"page": q["page"], "per_page": size, "page_count": (total + size - 1) / size, "total_count": total},
		"monitors": page(d, declare.Monitor, slice(found, q["page"]*size, size)),
	})
}

type term struct{ field, value string }

// searchTerms splits a search at blanks outside of quotes.
func searchTerms(s string) []term {
	quoted := false
	fields := strings.FieldsFunc(s, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return r == ' ' && !quoted
	})
	var terms []term
	for _, f := range fields {
		field, value, found := strings.Cut(f, ":")
		if !found || !slices.Contains([]string{"tag", "type", "status", "id", "title"}, field) {
			field, value = "title", f
		}
		if f != "AND" {
			terms = append(terms, term{field, strings.Trim(value, `"()`)})
		}
	}
	return terms
}

func (t term) holds(o *entity) bool {
	switch t.field {
	case "tag":
		return hasAll(o, []string{t.value})
	case "type":
		return o.body["type"] == t.value
	case "status":
		return strings.EqualFold(str(o.body["overall_state"]), t.value)
	case "id":
		return o.id == t.value
	}
	return strings.Contains(strings.ToLower(str(o.body["name"])), strings.ToLower(t.value))
}

func searchResult(o *entity) map[string]any {
	result := map[string]any{
		"status": o.body["overall_state"], "classification": "metric", "metrics": []any{}, "notifications": []any{}, "scopes": []any{},
		"last_triggered_ts": nil, "quality_issues": []any{},
	}
	for _, field := range []string{"id", "name", "type", "query", "tags", "org_id", "creator"} {
		result[field] = clone(o.body[field])
	}
	return result
}

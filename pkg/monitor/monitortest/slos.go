package monitortest

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

// wireSLO is how an answer shows an SLO. The order of its tags is another one in each kind of answer.
func wireSLO(o *entity, turn int) map[string]any {
	body := clone(o.body)
	thresholds, _ := body["thresholds"].([]any)
	for _, t := range thresholds {
		m, _ := t.(map[string]any)
		for _, name := range []string{"target", "warning"} {
			if n, ok := m[name].(float64); ok {
				m[name+"_display"] = display(n)
			}
		}
		decimals(m)
	}
	tags, _ := body["tags"].([]any)
	if len(tags) > 0 {
		body["tags"] = slices.Concat(tags[turn%len(tags):], tags[:turn%len(tags)])
	}
	return body
}

// The turns of the tags in answers.
const (
	turnWritten = iota + 1
	turnRead
	turnListed
)

// display writes 95 as "95.".
func display(n float64) string {
	text := strconv.FormatFloat(n, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += "."
	}
	return text
}

func sloAnswer(data any) *Response { return ok(map[string]any{"data": data, "error": nil}) }

func (d *Datadog) slo(r *request) (*entity, *Response) {
	if o := d.slos().find(r.path[0]); o != nil {
		return o, nil
	}
	return nil, problem(http.StatusNotFound, "SLO not found: %s not found", r.path[0])
}

func (d *Datadog) getSLO(r *request) *Response {
	o, answer := d.slo(r)
	if answer != nil {
		return answer
	}
	body := wireSLO(o, turnRead)
	if r.query.Get("with_configured_alert_ids") == "true" {
		body["configured_alert_ids"] = d.alertsOn(o)
	}
	return sloAnswer(body)
}

// alertsOn are the ids of the monitors that watch an SLO.
func (d *Datadog) alertsOn(slo *entity) []any {
	ids := []any{}
	for _, m := range d.monitors().all {
		if m.body["type"] == "slo alert" && strings.Contains(str(m.body["query"]), `"`+slo.id+`"`) {
			ids = append(ids, m.body["id"])
		}
	}
	return ids
}

// listSLOs filters by ids, by words of the name, and by one tag.
func (d *Datadog) listSLOs(r *request) *Response {
	q, answer := numbers(r, map[string]int{"limit": 1000, "offset": 0})
	if answer != nil {
		return answer
	}
	ids, tag := words(r.query.Get("ids")), r.query.Get("tags_query")
	items := []any{}
	for _, o := range d.slos().live() {
		if (len(ids) > 0 && !slices.Contains(ids, o.id)) || (tag != "" && !hasAll(o, []string{tag})) ||
			!strings.Contains(strings.ToLower(str(o.body["name"])), strings.ToLower(r.query.Get("query"))) {
			continue
		}
		items = append(items, wireSLO(o, turnListed))
	}
	if len(ids) > 0 && len(items) == 0 {
		return problem(http.StatusNotFound, "no SLOs found for ids: %s", strings.Join(ids, ","))
	}
	return ok(map[string]any{
		"data": page(d, declare.SLO, slice(items, q["offset"], min(q["limit"], 1000))), "error": nil,
		"metadata": map[string]any{"page": map[string]any{
			"total_count": d.total(declare.SLO, len(d.slos().live())), "total_filtered_count": d.total(declare.SLO, len(items)),
		}},
	})
}

func (d *Datadog) createSLO(r *request) *Response {
	body, answer := decode(r)
	if answer != nil {
		return answer
	}
	o, answer := d.newSLO(body)
	if answer != nil {
		return answer
	}
	return sloAnswer([]any{wireSLO(o, turnWritten)})
}

func (d *Datadog) newSLO(body map[string]any) (*entity, *Response) {
	if fault := d.sloFault(body); fault != "" {
		return nil, problem(http.StatusBadRequest, "Invalid payload: %s", fault)
	}
	content := settledSLO(body)
	now := laterSeconds(d.o.Now(), nil)
	id := hexID(d.next())
	content["id"], content["created_at"], content["modified_at"], content["creator"] = id, now, now, creator()
	o := &entity{id: id, body: content}
	d.slos().add(o)
	return o, nil
}

// settledSLO is the content as Datadog keeps it.
func settledSLO(body map[string]any) map[string]any {
	content := map[string]any{}
	for name, value := range clone(body) {
		if !slices.Contains([]string{"id", "created_at", "modified_at", "creator", "monitor_tags"}, name) {
			content[name] = value
		}
	}
	content["name"] = strings.TrimSpace(str(content["name"]))
	content["description"] = str(content["description"])
	content["monitor_tags"] = []any{}
	content["type_id"] = map[string]any{"monitor": 0.0, "metric": 1.0, "time_slice": 2.0}[str(content["type"])]
	tags := slices.Compact(slices.Sorted(slices.Values(strs(content["tags"]))))
	content["tags"] = make([]any, len(tags))
	for i, tag := range tags {
		content["tags"].([]any)[i] = tag
	}
	thresholds, _ := content["thresholds"].([]any)
	for _, t := range thresholds {
		m, _ := t.(map[string]any)
		delete(m, "target_display")
		delete(m, "warning_display")
	}
	if slice, ok := get(content, "sli_specification", "time_slice").(map[string]any); ok && slice["query_interval_seconds"] == nil {
		slice["query_interval_seconds"] = 300.0
	}
	if count := get(content, "sli_specification", "count"); count != nil {
		content["query"] = filled(count)
	}
	return content
}

// filled is the legacy query that Datadog writes beside the formulas of a count.
func filled(count any) map[string]any {
	text := func(formula string) string {
		queries, _ := get(count, "queries").([]any)
		for _, q := range queries {
			if word := str(get(q, "name")); word != "" {
				formula = replaceWord(formula, word, str(get(q, "query")))
			}
		}
		return formula
	}
	good := text(str(get(count, "good_events_formula", "formula")))
	if total := get(count, "total_events_formula", "formula"); total != nil {
		return map[string]any{"numerator": good, "denominator": text(str(total))}
	}
	bad := text(str(get(count, "bad_events_formula", "formula")))
	return map[string]any{"numerator": good, "denominator": "(" + good + ") + (" + bad + ")"}
}

func (d *Datadog) updateSLO(r *request) *Response {
	o, answer := d.slo(r)
	if answer != nil {
		return answer
	}
	body, answer := decode(r)
	if answer != nil {
		return answer
	}
	if body["type"] != nil && body["type"] != o.body["type"] {
		return problem(http.StatusBadRequest, "Invalid payload: must specify the query for count types")
	}
	if fault := d.sloFault(body); fault != "" {
		return problem(http.StatusBadRequest, "Invalid payload: %s", fault)
	}
	content := settledSLO(body)
	for _, name := range []string{"id", "created_at", "creator"} {
		content[name] = o.body[name]
	}
	if content["query"] == nil && o.body["query"] != nil {
		content["query"] = o.body["query"] // It is kept forever.
	}
	content["modified_at"] = laterSeconds(d.o.Now(), o.body["modified_at"])
	o.body = content
	return sloAnswer([]any{wireSLO(o, turnWritten)})
}

func (d *Datadog) deleteSLO(r *request) *Response {
	o, answer := d.slo(r)
	if answer != nil {
		return answer
	}
	if use := d.useOfSLO(o); use != "" && r.query.Get("force") != "true" {
		return &Response{Status: http.StatusConflict, Body: map[string]any{"errors": map[string]any{o.id: use}, "data": nil}}
	}
	d.slos().remove(o.id)
	return sloAnswer([]any{o.id})
}

// useOfSLO says what needs an SLO: a dashboard, or a monitor that watches it.
func (d *Datadog) useOfSLO(o *entity) string {
	for _, dashboard := range d.dashboards().live() {
		for definition := range widgets(dashboard.body) {
			if definition["slo_id"] == o.id {
				return fmt.Sprintf("slo '%s' is referenced in a dashboard", o.id)
			}
		}
	}
	if len(d.alertsOn(o)) > 0 {
		return fmt.Sprintf("slo '%s' is referenced in a monitor", o.id)
	}
	return ""
}

func (d *Datadog) canDeleteSLOs(r *request) *Response {
	ids := words(r.query.Get("ids"))
	if len(ids) == 0 {
		return problem(http.StatusBadRequest, "ids are required")
	}
	free, denied, refused := []any{}, []any{}, map[string]any{}
	for _, id := range ids {
		o := d.slos().find(id)
		use := "slo '" + id + "' not found"
		if o != nil {
			use = d.useOfSLO(o)
		}
		if use != "" {
			refused[id] = use
			denied = append(denied, id)
		} else {
			free = append(free, id)
		}
	}
	if len(refused) > 0 {
		return &Response{Status: http.StatusConflict, Body: map[string]any{"data": map[string]any{"ok": free, "denied_ids": denied}, "errors": refused}}
	}
	return ok(map[string]any{"data": map[string]any{"ok": free, "denied_ids": []any{}}, "errors": nil})
}

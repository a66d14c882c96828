package monitortest

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

// wireMonitor is how an answer shows a monitor.
func wireMonitor(o *entity) map[string]any {
	body := clone(o.body)
	decimals(get(body, "options", "thresholds"))
	return body
}

func (d *Datadog) getMonitor(r *request) *Response {
	o, answer := d.monitor(r)
	if answer != nil {
		return answer
	}
	body := wireMonitor(o)
	if r.query.Get("with_downtimes") == "true" {
		body["matching_downtimes"] = []any{}
	}
	return ok(body)
}

func (d *Datadog) monitor(r *request) (*entity, *Response) {
	if _, err := strconv.ParseInt(r.path[0], 10, 64); err != nil {
		return nil, problem(http.StatusBadRequest, "monitor_id must be an integer")
	}
	if o := d.monitors().find(r.path[0]); o != nil {
		return o, nil
	}
	return nil, problem(http.StatusNotFound, "Monitor not found")
}

// listMonitors answers everything when no page is asked for.
func (d *Datadog) listMonitors(r *request) *Response {
	q, answer := numbers(r, map[string]int{"page": 0, "page_size": 100, "id_offset": 0})
	if answer != nil {
		return answer
	}
	for _, state := range words(r.query.Get("group_states")) {
		if !slices.Contains([]string{"all", "alert", "warn", "no data", "ok"}, state) {
			return problem(http.StatusBadRequest, "Invalid group_state filters.")
		}
	}
	items := []any{}
	for _, o := range d.monitors().live() {
		id, _ := o.body["id"].(float64)
		if !hasAll(o, words(r.query.Get("monitor_tags"))) || !strings.Contains(str(o.body["name"]), r.query.Get("name")) ||
			!inScope(o, words(r.query.Get("tags"))) || int(id) <= q["id_offset"] {
			continue
		}
		body := wireMonitor(o)
		body["matching_downtimes"] = []any{}
		items = append(items, body)
	}
	if r.query.Has("page") || r.query.Has("id_offset") {
		items = slice(items, q["page"]*q["page_size"], min(q["page_size"], 1000))
	}
	return ok(page(d, declare.Monitor, items))
}

func words(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

func hasAll(o *entity, tags []string) bool {
	have := strs(o.body["tags"])
	return !slices.ContainsFunc(tags, func(tag string) bool { return !slices.Contains(have, tag) })
}

// inScope tells whether a monitor's query filters by these tags.
func inScope(o *entity, tags []string) bool {
	return !slices.ContainsFunc(tags, func(tag string) bool { return !strings.Contains(str(o.body["query"]), tag) })
}

func (d *Datadog) createMonitor(r *request) *Response {
	body, answer := decode(r)
	if answer != nil {
		return answer
	}
	o, answer := d.newMonitor(body)
	if answer != nil {
		return answer
	}
	return ok(wireMonitor(o))
}

func (d *Datadog) newMonitor(body map[string]any) (*entity, *Response) {
	content := settled(body)
	if answer := d.checkMonitor(body, content, ""); answer != nil {
		return nil, answer
	}
	id := 20_000_000 + d.next()*7
	now := d.o.Now()
	content["id"] = float64(id)
	content["org_id"] = float64(OrgID)
	content["created"] = later(now, nil)
	content["created_at"] = float64(now.UnixMilli())
	content["modified"] = later(now, nil)
	content["creator"] = creator()
	content["deleted"] = nil
	content["overall_state"] = "No Data"
	content["overall_state_modified"] = nil
	o := &entity{id: itoa(id), body: content}
	d.monitors().add(o)
	return o, nil
}

// checkMonitor checks what was sent and what becomes of it. id is "" for a new monitor.
func (d *Datadog) checkMonitor(sent, content map[string]any, id string) *Response {
	if fault := monitorShape(id == "")("monitor", sent); fault != "" {
		if strings.Contains(fault, "'type' is a required") || strings.Contains(fault, "'query' is a required") {
			return problem(http.StatusBadRequest, "The parameter '%s' is required", strings.Split(fault, "'")[1])
		}
		return problem(http.StatusBadRequest, "%s", fault)
	}
	if fault := d.contentFault(content); fault != "" {
		return problem(http.StatusBadRequest, "%s", fault)
	}
	if other := d.twin(content, id); other != nil && !d.o.AllowDuplicates {
		return problem(http.StatusBadRequest, "Duplicate of an existing monitor_id:%s org_id:%d", other.id, OrgID)
	}
	return nil
}

// twin is another monitor with the same content.
func (d *Datadog) twin(content map[string]any, id string) *entity {
	same := func(o *entity) bool {
		for _, field := range []string{"name", "type", "query", "message", "tags", "options", "priority"} {
			if !equal(o.body[field], content[field]) {
				return false
			}
		}
		return o.id != id
	}
	if i := slices.IndexFunc(d.monitors().all, same); i >= 0 {
		return d.monitors().all[i]
	}
	return nil
}

// settled is the content as Datadog keeps it: trimmed, with its defaults, and with another name for a type.
func settled(body map[string]any) map[string]any {
	content := clone(body)
	for _, readOnly := range readOnlyFields() {
		delete(content, readOnly)
	}
	content["name"] = strings.TrimSpace(str(content["name"]))
	content["message"] = strings.TrimSpace(str(content["message"]))
	content["query"] = strings.TrimSpace(str(content["query"]))
	if content["type"] == "metric alert" {
		content["type"] = "query alert"
	}
	for field, value := range map[string]any{"tags": []any{}, "restricted_roles": nil, "priority": nil} {
		if content[field] == nil {
			content[field] = value
		}
	}
	options, _ := content["options"].(map[string]any)
	if options == nil {
		options = map[string]any{}
	}
	for name, value := range map[string]any{
		"notify_no_data": false, "notify_audit": false, "new_host_delay": 300.0, "include_tags": true, "silenced": map[string]any{},
	} {
		if _, ok := options[name]; !ok {
			options[name] = value
		}
	}
	content["options"] = options
	content["multi"] = strings.Contains(str(content["query"]), " by {") || strings.Contains(str(content["query"]), ".by(")
	return content
}

// updateMonitor merges the top level, and replaces the options as a whole.
func (d *Datadog) updateMonitor(r *request) *Response {
	o, answer := d.monitor(r)
	if answer != nil {
		return answer
	}
	body, answer := decode(r)
	if answer != nil {
		return answer
	}
	content, answer := d.merged(o, body)
	if answer != nil {
		return answer
	}
	for field, value := range o.body {
		if _, ok := content[field]; !ok {
			content[field] = value
		}
	}
	content["modified"] = later(d.o.Now(), o.body["modified"])
	o.body = content
	return ok(wireMonitor(o))
}

func (d *Datadog) merged(o *entity, body map[string]any) (map[string]any, *Response) {
	whole := clone(o.body)
	maps.Copy(whole, clone(body))
	content := settled(whole)
	if body["type"] != nil && content["type"] != o.body["type"] {
		return nil, problem(http.StatusBadRequest, "Monitor type change not allowed")
	}
	return content, d.checkMonitor(body, content, o.id)
}

func (d *Datadog) validateMonitor(r *request) *Response {
	body, answer := decode(r)
	if answer == nil {
		answer = d.checkMonitor(body, settled(body), "")
	}
	if answer != nil {
		return answer
	}
	return ok(map[string]any{})
}

func (d *Datadog) validateExistingMonitor(r *request) *Response {
	o, answer := d.monitor(r)
	if answer != nil {
		return answer
	}
	body, answer := decode(r)
	if answer == nil {
		_, answer = d.merged(o, body)
	}
	if answer != nil {
		return answer
	}
	return ok(map[string]any{})
}

func (d *Datadog) deleteMonitor(r *request) *Response {
	o, answer := d.monitor(r)
	if answer != nil {
		return answer
	}
	if uses := d.usesOfMonitor(o); len(uses) > 0 && r.query.Get("force") != "true" {
		return problem(d.o.ReferencedStatus, "%s", uses[0])
	}
	d.monitors().remove(o.id)
	return ok(map[string]any{"deleted_monitor_id": o.body["id"]})
}

// usesOfMonitor says what needs a monitor, in Datadog's words.
func (d *Datadog) usesOfMonitor(o *entity) []string {
	var composites, slos, said []string
	for _, other := range d.monitors().all {
		if other.body["type"] == "composite" && slices.Contains(operand.FindAllString(str(other.body["query"]), -1), o.id) {
			composites = append(composites, other.id)
		}
	}
	for _, slo := range d.slos().all {
		ids, _ := slo.body["monitor_ids"].([]any)
		if slices.Contains(ids, o.body["id"]) {
			slos = append(slos, slo.id)
		}
	}
	for _, use := range []struct {
		what string
		ids  []string
	}{{"composite monitors", composites}, {"slos", slos}} {
		if len(use.ids) > 0 {
			said = append(said, fmt.Sprintf("monitor [%s,%s] is referenced in %s: [%s]", o.id, o.body["name"], use.what, strings.Join(use.ids, ", ")))
		}
	}
	return said
}

func (d *Datadog) canDeleteMonitors(r *request) *Response {
	ids := slices.DeleteFunc(strings.Split(strings.Join(r.query["monitor_ids"], ","), ","), func(s string) bool { return s == "" })
	if len(ids) == 0 {
		return problem(http.StatusBadRequest, "monitor_ids are required")
	}
	free, refused := []any{}, map[string]any{}
	for _, id := range ids {
		o := d.monitors().find(id)
		if o == nil {
			refused[id] = []string{"monitor [" + id + "] not found"}
		} else if uses := d.usesOfMonitor(o); len(uses) > 0 {
			refused[id] = uses
		} else {
			free = append(free, o.body["id"])
		}
	}
	if len(refused) > 0 {
		return &Response{Status: http.StatusConflict, Body: map[string]any{"errors": refused, "data": map[string]any{"ok": free}}}
	}
	return ok(map[string]any{"errors": nil, "data": map[string]any{"ok": free}})
}

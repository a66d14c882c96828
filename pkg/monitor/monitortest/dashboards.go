package monitortest

import (
	"fmt"
	"iter"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

// widgets yields the definitions of all widgets, groups before what is in them.
func widgets(body map[string]any) iter.Seq[map[string]any] {
	return func(yield func(map[string]any) bool) {
		var walk func(v any) bool
		walk = func(v any) bool {
			items, _ := v.([]any)
			for _, item := range items {
				definition, _ := get(item, "definition").(map[string]any)
				if !yield(definition) || !walk(definition["widgets"]) {
					return false
				}
			}
			return true
		}
		walk(body["widgets"])
	}
}

func (d *Datadog) dashboard(id string) (*entity, *Response) {
	if o := d.dashboards().find(id); o != nil {
		return o, nil
	}
	return nil, problem(http.StatusNotFound, "Dashboard with ID %s not found", id)
}

func (d *Datadog) getDashboard(r *request) *Response {
	o, answer := d.dashboard(r.path[0])
	if answer != nil {
		return answer
	}
	return ok(clone(o.body))
}

// listDashboards answers summaries, which have no widgets.
func (d *Datadog) listDashboards(r *request) *Response {
	q, answer := numbers(r, map[string]int{"count": 100, "start": 0})
	if answer != nil {
		return answer
	}
	deleted := r.query.Get("filter[deleted]") == "true"
	items := []any{}
	for _, o := range d.dashboards().all {
		if o.deleted != deleted || r.query.Get("filter[shared]") == "true" {
			continue
		}
		summary := map[string]any{}
		for _, name := range []string{"id", "title", "description", "layout_type", "url", "is_read_only", "created_at", "modified_at", "author_handle"} {
			summary[name] = o.body[name]
		}
		items = append(items, summary)
	}
	return ok(map[string]any{"dashboards": page(d, declare.Dashboard, slice(items, q["start"], q["count"]))})
}

func (d *Datadog) createDashboard(r *request) *Response {
	body, answer := decode(r)
	if answer != nil {
		return answer
	}
	o, answer := d.newDashboard(body)
	if answer != nil {
		return answer
	}
	return ok(clone(o.body))
}

func (d *Datadog) newDashboard(body map[string]any) (*entity, *Response) {
	if fault := d.dashboardFault(body); fault != "" {
		return nil, problem(http.StatusBadRequest, "%s", fault)
	}
	content := d.settledDashboard(body)
	id := dashboardID(d.next())
	now := later(d.o.Now(), nil)
	content["id"], content["created_at"], content["modified_at"] = id, now, now
	content["author_handle"], content["author_name"] = "frog@example.com", "CI Account"
	content["url"] = "/dashboard/" + id + "/" + slug(str(content["title"]))
	o := &entity{id: id, body: content}
	d.dashboards().add(o)
	return o, nil
}

func dashboardID(n int64) string {
	text := fmt.Sprintf("%09d", n*7654321%1_000_000_000)
	letters := strings.Map(func(r rune) rune { return r - '0' + 'a' }, text[3:6])
	return text[:3] + "-" + letters + "-" + text[6:]
}

func slug(title string) string {
	return strings.Join(strings.FieldsFunc(strings.ToLower(title), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	}), "-")
}

// settledDashboard is the content as Datadog keeps it. Widgets without an id get a new one each time.
func (d *Datadog) settledDashboard(body map[string]any) map[string]any {
	content := clone(body)
	for _, name := range dashboardReadOnly() {
		delete(content, name)
	}
	for name, value := range map[string]any{
		"description": nil, "notify_list": nil, "template_variables": nil, "restricted_roles": []any{}, "is_read_only": false, "tags": nil,
	} {
		if content[name] == nil {
			content[name] = value
		}
	}
	content["title"] = strings.TrimSpace(str(content["title"]))
	d.numberWidgets(content)
	return content
}

func (d *Datadog) numberWidgets(parent map[string]any) {
	items, _ := parent["widgets"].([]any)
	for _, item := range items {
		w, _ := item.(map[string]any)
		if w["id"] == nil {
			w["id"] = float64(1_000_000_000_000 + d.next()*13)
		}
		if definition, ok := w["definition"].(map[string]any); ok {
			d.numberWidgets(definition)
		}
	}
}

func (d *Datadog) updateDashboard(r *request) *Response {
	o, answer := d.dashboard(r.path[0])
	if answer != nil {
		return answer
	}
	body, answer := decode(r)
	if answer != nil {
		return answer
	}
	if fault := d.dashboardFault(body); fault != "" {
		return problem(http.StatusBadRequest, "%s", fault)
	}
	content := d.settledDashboard(body)
	for _, name := range []string{"id", "created_at", "author_handle", "author_name"} {
		content[name] = o.body[name]
	}
	content["url"] = "/dashboard/" + o.id + "/" + slug(str(content["title"]))
	content["modified_at"] = later(d.o.Now(), o.body["modified_at"])
	o.body = content
	return ok(clone(content))
}

func (d *Datadog) deleteDashboard(r *request) *Response {
	o, answer := d.dashboard(r.path[0])
	if answer != nil {
		return answer
	}
	o.deleted = true
	return ok(map[string]any{"deleted_dashboard_id": o.id})
}

func (d *Datadog) deleteDashboards(r *request) *Response  { return d.bulk(r, true) }
func (d *Datadog) restoreDashboards(r *request) *Response { return d.bulk(r, false) }

// bulk deletes or restores all of the dashboards that are named, or none.
func (d *Datadog) bulk(r *request, deleted bool) *Response {
	body, answer := decode(r)
	if answer != nil {
		return answer
	}
	shape := object(map[string]check{"data*": list(object(map[string]check{"id*": text, "type*": enum("dashboard")}))})
	if fault := shape("body", body); fault != "" {
		return problem(http.StatusBadRequest, "%s", fault)
	}
	var found []*entity
	for _, item := range body["data"].([]any) {
		id := str(get(item, "id"))
		o := d.dashboards().byID[id]
		if o == nil || o.deleted == deleted {
			return problem(http.StatusNotFound, "Dashboard with ID %s not found", id)
		}
		found = append(found, o)
	}
	for _, o := range found {
		o.deleted = deleted
	}
	return &Response{Status: http.StatusNoContent}
}

func dashboardReadOnly() []string {
	return []string{"id", "author_handle", "author_name", "created_at", "modified_at", "url"}
}

// dashboardShape leaves the definitions of widgets to widgetFault.
func dashboardShape() check {
	variable := object(map[string]check{"name*": text, "prefix": nullable(text), "default": nullable(text), "defaults": list(text),
		"available_values": nullable(list(text)), "type": nullable(text)})
	fields := map[string]check{
		"title*": text, "description": nullable(text), "layout_type*": enum("ordered", "free"), "reflow_type": enum("auto", "fixed"),
		"widgets*": list(widgetShape()), "notify_list": nullable(list(text)), "restricted_roles": list(text), "is_read_only": boolean,
		"tags": nullable(list(text)), "template_variables": nullable(list(variable)), "template_variable_presets": nullable(list(anything)),
		"default_timeframe": anything, "tabs": nullable(list(anything)),
	}
	for _, name := range dashboardReadOnly() {
		fields[name] = anything
	}
	return object(fields)
}

func widgetShape() check {
	whole := between(0, math.MaxInt32)
	return object(map[string]check{"id": integer, "definition*": mapOf(anything), "layout": object(map[string]check{
		"x*": whole, "y*": whole, "width*": whole, "height*": whole, "is_column_break": boolean})})
}

func (d *Datadog) dashboardFault(body map[string]any) string {
	if fault := dashboardShape()("dashboard", body); fault != "" {
		return "unable to parse " + fault
	}
	if strings.TrimSpace(str(body["title"])) == "" {
		return "The parameter 'title' is required"
	}
	tags := strs(body["tags"])
	if len(tags) > 5 || slices.ContainsFunc(tags, func(tag string) bool { return !strings.HasPrefix(tag, "team:") }) {
		return "Invalid tag format. Valid tag keys are: team."
	}
	if body["layout_type"] == "free" && body["reflow_type"] != nil {
		return "reflow_type is only for dashboards whose layout_type is ordered"
	}
	return d.widgetsFault(body, body["layout_type"] == "free" || body["reflow_type"] == "fixed", false)
}

// widgetsFault checks the widgets of a dashboard or group. Where the layout is fixed, each needs its place.
func (d *Datadog) widgetsFault(parent map[string]any, fixed, nested bool) string {
	items, _ := parent["widgets"].([]any)
	placed := 0
	for i, item := range items {
		at := fmt.Sprintf("widgets[%d]", i)
		if fault := widgetShape()(at, item); fault != "" {
			return "unable to parse " + fault
		}
		layout := get(item, "layout")
		if layout != nil {
			placed++
		}
		if fixed && layout == nil {
			return fmt.Sprintf("Widget at position %d has no layout", i)
		}
		x, _ := get(layout, "x").(float64)
		width, _ := get(layout, "width").(float64)
		if layout != nil && parent["layout_type"] == "ordered" && (x+width > 12 || width < 1) {
			return fmt.Sprintf("Widget at position %d is not within the 12 columns", i)
		}
		definition, _ := get(item, "definition").(map[string]any)
		if fault := d.widgetFault(definition, nested); fault != "" {
			return fmt.Sprintf("Invalid widget definition at position %d of type %v. Error: %s.", i, definition["type"], fault)
		}
	}
	if placed != 0 && placed != len(items) {
		return "Either all widgets have a layout, or none"
	}
	return ""
}

// widgetFault checks the kinds of widgets that name other objects, and that the others have a type.
func (d *Datadog) widgetFault(definition map[string]any, nested bool) string {
	if fault := placeholderFault(definition); fault != "" {
		return fault
	}
	switch kind := str(definition["type"]); kind {
	case "":
		return "'type' is a required property"
	case "group":
		if nested {
			return "a group cannot be in a group"
		}
		if definition["layout_type"] != "ordered" {
			return "'layout_type' is a required property"
		}
		return d.widgetsFault(definition, false, true)
	case "slo":
		if d.slos().find(str(definition["slo_id"])) == nil {
			return fmt.Sprintf("SLO %v does not exist", definition["slo_id"])
		}
	case "alert_graph", "alert_value":
		id := str(definition["alert_id"])
		if _, err := strconv.ParseInt(id, 10, 64); err != nil || d.monitors().find(id) == nil {
			return fmt.Sprintf("monitor %q does not exist", id)
		}
	case "timeseries", "query_value", "toplist":
		if requests, _ := definition["requests"].([]any); len(requests) == 0 {
			return "'requests' is a required property"
		}
	}
	return ""
}

// placeholderFault tells of a reference that was not resolved, anywhere in a value.
func placeholderFault(v any) string {
	switch v := v.(type) {
	case string:
		return text("definition", v)
	case []any:
		for _, item := range v {
			if fault := placeholderFault(item); fault != "" {
				return fault
			}
		}
	case map[string]any:
		for _, item := range v {
			if fault := placeholderFault(item); fault != "" {
				return fault
			}
		}
	}
	return ""
}

package declare

import (
	"fmt"
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/monitor/query"
)

// compileDashboard makes a dashboard of fixed places: groups from left to right, then the next row.
func (l *loader) compileDashboard(in *instance) {
	tree := in.tree
	var groups []box
	for _, group := range tree.get("groups").texts() {
		if b, ok := l.group(in, group); ok {
			groups = append(groups, b)
		}
	}
	if in.bad {
		return
	}
	payload := map[string]any{
		"title": l.title(tree.get("title").text()), "description": strings.TrimSpace(tree.get("description").text()),
		"layout_type": "ordered", "reflow_type": "fixed", "widgets": place(groups, dashboardColumns),
	}
	var tags []string
	for _, tag := range in.file().tags {
		if teamTag.MatchString(tag) {
			tags = append(tags, tag)
		}
	}
	for _, tag := range tree.get("tags").texts() {
		tags = appendNew(tags, tag.text())
	}
	if tags != nil {
		slices.Sort(tags)
		payload["tags"] = anys(tags)
	}
	in.object = l.newObject(in, in.key, payload)
}

// box is a widget with its size in cells.
type box struct {
	width, height int
	definition    map[string]any
}

// place gives boxes their places, row by row, and returns them as widgets.
func place(boxes []box, columns int) []any {
	widgets := []any{}
	x, y, row := 0, 0, 0
	for _, b := range boxes {
		if x+b.width > columns {
			x, y, row = 0, y+row, 0
		}
		widgets = append(widgets, map[string]any{
			"definition": b.definition,
			"layout":     map[string]any{"x": float64(x), "y": float64(y), "width": float64(b.width), "height": float64(b.height)},
		})
		x, row = x+b.width, max(row, b.height)
	}
	return widgets
}

// heightOf is how many rows boxes take.
func heightOf(boxes []box, columns int) int {
	height := 0
	for _, w := range place(boxes, columns) {
		layout := w.(map[string]any)["layout"].(map[string]any)
		height = max(height, int(layout["y"].(float64)+layout["height"].(float64)))
	}
	return height
}

// group makes a group of widgets. It is false for one whose objects are all off in this environment.
func (l *loader) group(in *instance, v *value) (box, bool) {
	width := dashboardColumns
	if n, ok := v.get("width").number(); ok {
		width = int(n)
	}
	if v.get("widgets") == nil && v.get("slos") == nil && v.get("monitors") == nil {
		in.bad = true
		v.fault("give it widgets, slos or monitors", "the group %s%s is empty", quote(v.get("title").text()), in.where())
		return box{}, false
	}
	var boxes []box
	for _, widget := range v.get("widgets").texts() {
		if len(boxes) <= maxGroupWidgets && l.widgets <= maxWidgets {
			boxes = append(boxes, l.widget(in, widget, width)...)
		}
	}
	boxes = append(boxes, l.listed(in, v.get("slos"), SLO, width)...)
	boxes = append(boxes, l.listed(in, v.get("monitors"), Monitor, width)...)
	if len(boxes) == 0 || !l.fits(in, v, len(boxes)) {
		return box{}, false
	}
	return box{width: width, height: 1 + heightOf(boxes, width), definition: map[string]any{
		"type": "group", "layout_type": "ordered", "title": v.get("title").text(), "show_title": true, "widgets": place(boxes, width),
	}}, true
}

// The most widgets of a group, and of all dashboards.
const (
	maxGroupWidgets = 200
	maxWidgets      = 20_000
)

// fits counts the widgets of a group, and reports it when they are too many.
func (l *loader) fits(in *instance, v *value, widgets int) bool {
	l.widgets += widgets
	if widgets <= maxGroupWidgets && l.widgets <= maxWidgets {
		return true
	}
	in.bad = true
	v.fault("name fewer objects", "the group%s has %d widgets; a group has at most %d, and all dashboards %d", in.where(), widgets, maxGroupWidgets, maxWidgets)
	return false
}

// cell is how wide a widget is in a group: as near to wide cells as fills the rows.
func cell(width, wide int) int { return width / max(1, width/wide) }

// The sizes of widgets.
const (
	graphWidth, graphHeight = 3, 2
	sloWidth, sloHeight     = 4, 3
	summaryHeight           = 3
)

// listed makes the widgets of slos: and monitors: of a group.
func (l *loader) listed(in *instance, v *value, kind Kind, width int) []box {
	if v == nil {
		return nil
	}
	var boxes []box
	switch v.text() {
	case "all":
		for _, other := range l.order {
			if other.key.Kind == kind && other.object != nil {
				boxes = append(boxes, l.shown(other.object, "", "", width))
			}
		}
		return boxes
	case "dataset":
		if in.dataset == "" {
			in.bad = true
			v.fault("add for_each: datasets to the dashboard", "%ss: dataset%s is about no dataset", kind, in.where())
			return nil
		}
		for _, other := range l.order {
			if other.key.Kind == kind && other.object != nil && other.dataset == in.dataset {
				boxes = append(boxes, l.shown(other.object, "", "", width))
			}
		}
		return boxes
	}
	for _, name := range v.texts() {
		for _, o := range l.named(in, name, kind) {
			boxes = append(boxes, l.shown(o, "", "", width))
		}
	}
	return boxes
}

// named finds the objects that a widget names: one, or one for each of its for_each. One that is off
// in this environment is none.
func (l *loader) named(in *instance, name *value, kind Kind) []*Object {
	var out []*Object
	for _, candidate := range []string{name.text(), name.text() + "-" + in.each} {
		key := Key{kind, candidate}
		if o := l.objects[key]; o != nil {
			return []*Object{o}
		}
		if _, off := l.off[key]; off || l.instances[key] != nil {
			return nil // off, or at fault and reported
		}
	}
	if l.defs[Key{kind, name.text()}] != nil {
		for _, other := range l.order {
			if other.definition.key == (Key{kind, name.text()}) && other.object != nil {
				out = append(out, other.object)
			}
		}
		return out
	}
	l.resolve(in, name, kind, name.text())
	return nil
}

func (l *loader) widget(in *instance, v *value, width int) []box {
	var given []string
	for _, name := range []string{"slo", "monitor", "query", "note"} {
		if v.get(name) != nil {
			given = append(given, name)
		}
	}
	if len(given) != 1 {
		in.bad = true
		v.fault("give one of slo, monitor, query and note", "a widget%s shows %d things", in.where(), len(given))
		return nil
	}
	what, title, as := v.get(given[0]), v.get("title").text(), v.get("as").text()
	switch given[0] {
	case "note":
		lines := strings.Count(what.text(), "\n") + len(what.text())/(width*10)
		return []box{{width: width, height: 1 + lines/3, definition: map[string]any{
			"type": "note", "content": what.text(), "background_color": "white", "font_size": "14", "text_align": "left", "show_tick": false,
		}}}
	case "query":
		e, ok := l.expr(in, what, what.text())
		if !ok {
			in.bad = true
			return nil
		}
		l.measures = append(l.measures, measure{e, what, in})
		return []box{graph(e, title, as, v.get("unit").text(), nil, width)}
	}
	kind := Kind(given[0])
	var boxes []box
	for _, o := range l.named(in, what, kind) {
		boxes = append(boxes, l.shown(o, title, as, width))
	}
	return boxes
}

// shown is the widget of an object: the state of an SLO, the graph of a monitor.
func (l *loader) shown(o *Object, title, as string, width int) box {
	if title == "" {
		name, _ := o.Payload["name"].(string)
		title = strings.TrimPrefix(name, l.title(""))
	}
	ref := "${ref:" + o.Key.String() + "}"
	if o.Key.Kind == SLO {
		var windows []string
		for _, timeframe := range timeframes() {
			if _, ok := o.SLI.Targets[timeframe]; ok {
				windows = append(windows, timeframe)
			}
		}
		return box{width: cell(width, sloWidth), height: sloHeight, definition: map[string]any{
			"type": "slo", "slo_id": ref, "view_type": "detail", "view_mode": "overall", "time_windows": anys(windows),
			"show_error_budget": true, "title": title,
		}}
	}
	m, isMetric := o.Query.(*query.Metric)
	switch {
	case !isMetric:
		// Datadog draws no graph of a composite, a check or an SLO alert: its state is shown.
		return box{width: cell(width, graphWidth), height: summaryHeight, definition: map[string]any{
			"type": "manage_status", "title": title, "summary_type": "monitors", "display_format": "list", "sort": "status,asc",
			"color_preference": "text", "hide_zero_counts": true, "show_last_triggered": true,
			"query": fmt.Sprintf("tag:%q tag:%q", "latamctl_stack:"+l.set.Stack, "latamctl_id:"+o.Key.String()),
		}}
	case as != "":
		return graph(m.Expr, title, as, "", markers(o, m.Op), width)
	}
	return box{width: cell(width, graphWidth), height: graphHeight, definition: map[string]any{
		"type": "alert_graph", "alert_id": ref, "viz_type": "timeseries", "title": title,
	}}
}

// markers are lines at the thresholds of a monitor.
func markers(o *Object, op string) []any {
	options, _ := o.Payload["options"].(map[string]any)
	thresholds, _ := options["thresholds"].(map[string]any)
	var out []any
	for _, one := range []struct{ name, kind string }{{"critical", "error dashed"}, {"warning", "warning dashed"}} {
		if n, ok := thresholds[one.name].(float64); ok {
			out = append(out, map[string]any{"value": "y = " + numberText(n), "display_type": one.kind, "label": one.name + " " + op + " " + numberText(n)})
		}
	}
	return out
}

// graph shows an expression over time, as one value, or as a list of the highest groups.
func graph(e query.Expr, title, as, unit string, markers []any, width int) box {
	text, queries := formula(e, "query")
	formulas := map[string]any{"formula": text}
	request := map[string]any{"formulas": []any{formulas}, "queries": anyMaps(queries), "response_format": "scalar"}
	definition := map[string]any{"title": title, "requests": []any{request}}
	b := box{width: cell(width, graphWidth), height: graphHeight, definition: definition}
	if as == "" || as == "timeseries" {
		request["response_format"], request["display_type"] = "timeseries", "line"
		definition["type"], definition["show_legend"] = "timeseries", false
		if markers != nil {
			definition["markers"] = markers
		}
		return b
	}
	for i, s := range query.SeriesOf(e) {
		queries[i]["aggregator"] = aggregator(s)
	}
	if as == "toplist" {
		const longest = 10
		definition["type"] = "toplist"
		formulas["limit"] = map[string]any{"count": float64(longest), "order": "desc"}
		return b
	}
	definition["type"], definition["precision"], definition["autoscale"] = "query_value", float64(2), unit == ""
	if unit != "" {
		definition["custom_unit"] = unit
	}
	return b
}

// aggregator is how a series over the time that is shown becomes one value.
func aggregator(s *query.Series) string {
	counted := slices.ContainsFunc(s.Modifiers, func(m query.Modifier) bool { return m.Name == "as_count" })
	switch {
	case counted:
		return "sum"
	case s.Aggregate == "max" || s.Aggregate == "min":
		return s.Aggregate
	}
	return "avg"
}

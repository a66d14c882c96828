package monitor

import (
	"cmp"
	"encoding/json"
	"maps"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/monitor/query"
)

// normalVersion stands before each hash. It changes whenever the normal form of an object that was
// not changed could: marks of other versions are then rewritten, and never taken for somebody's edit.
const normalVersion = "1"

// The types of monitors that are treated in a way of their own.
const (
	typeQuery     = "query alert"
	typeMetric    = "metric alert" // Datadog answers it as a query alert.
	typeComposite = "composite"
	typeSLO       = "slo alert"
)

// normalise returns an object in the form in which it is compared, whether it was declared or comes
// from Datadog: only what can be declared, without ownership, without what Datadog fills in by
// itself, and with everything in one order and spelling. Ids should be references already.
func normalise(kind declare.Kind, payload map[string]any) map[string]any {
	p, _ := plain(payload).(map[string]any)
	switch kind {
	case declare.Metric:
		return normalMetric(p)
	case declare.Monitor:
		return normalMonitor(p)
	case declare.SLO:
		return normalSLO(p)
	case declare.Dashboard:
		return normalDashboard(p)
	}
	return p
}

// normalText is the normal form as the bytes that are hashed and compared.
func normalText(normal map[string]any) string {
	text, err := json.Marshal(normal)
	if err != nil {
		// Only numbers that JSON cannot write get here, and plain has made texts of those.
		return err.Error()
	}
	return string(text)
}

// plain copies a value into JSON's types. Entries of maps that say nothing are left out: null, an
// empty text, list or map, since Datadog answers some of them for what was never sent.
func plain(value any) any {
	switch v := value.(type) {
	case nil, bool, string:
		return v
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return "not a number"
		}
		return v + 0 // So that minus zero is zero.
	case json.Number:
		if f, err := v.Float64(); err == nil {
			return plain(f)
		}
		return v.String()
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = plain(v[i])
		}
		return list
	case map[string]any:
		m := make(map[string]any, len(v))
		for key, entry := range v {
			if entry = plain(entry); !blank(entry) {
				m[key] = entry
			}
		}
		return m
	}
	return plainOther(reflect.ValueOf(value))
}

// plainOther copies what is not of JSON's own types, such as an int or a list of texts.
func plainOther(v reflect.Value) any {
	switch {
	case v.CanInt():
		return float64(v.Int())
	case v.CanUint():
		return float64(v.Uint())
	case v.CanFloat():
		return plain(v.Float())
	case v.Kind() == reflect.String:
		return v.String()
	case v.Kind() == reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = plain(v.Index(i).Interface())
		}
		return list
	case v.Kind() == reflect.Map && v.Type().Key().Kind() == reflect.String:
		m := make(map[string]any, v.Len())
		for _, key := range v.MapKeys() {
			m[key.String()] = v.MapIndex(key).Interface()
		}
		return plain(m)
	}
	return nil
}

func blank(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

func pick(m map[string]any, keys ...string) map[string]any {
	out := make(map[string]any, len(keys))
	for _, key := range keys {
		if v, ok := m[key]; ok {
			out[key] = v
		}
	}
	return out
}

func textOf(v any) string {
	s, _ := v.(string)
	return s
}

// set puts a value that says something, and removes one that does not.
func set(m map[string]any, key string, value any) {
	if blank(value) {
		delete(m, key)
		return
	}
	m[key] = value
}

// tidy is a text without the space around it that Datadog trims, and with the line ends of a file.
func tidy(text string) string {
	return strings.TrimSpace(strings.ReplaceAll(text, "\r\n", "\n"))
}

// wordSet sorts a list of words and drops repetitions, since Datadog keeps no order of them.
func wordSet(v any, keep func(string) bool) []any {
	list, _ := v.([]any)
	words := make([]string, 0, len(list))
	for _, item := range list {
		if word := strings.TrimSpace(textOf(item)); word != "" && keep(word) {
			words = append(words, word)
		}
	}
	slices.Sort(words)
	words = slices.Compact(words)
	out := make([]any, len(words))
	for i, word := range words {
		out[i] = word
	}
	return out
}

func all(string) bool { return true }

func normalMetric(p map[string]any) map[string]any {
	n := pick(p, "metric", "include_percentiles")
	set(n, "tags", wordSet(p["tags"], all))
	return n
}

func normalMonitor(p map[string]any) map[string]any {
	n := pick(p, "priority")
	kind := monitorType(p)
	set(n, "type", kind)
	set(n, "name", tidy(textOf(p["name"])))
	set(n, "message", tidy(textOf(p["message"])))
	set(n, "query", canonical(kind, textOf(p["query"])))
	set(n, "tags", wordSet(p["tags"], notOwnership))
	options, _ := p["options"].(map[string]any)
	set(n, "options", normalOptions(options))
	return n
}

// monitorType is the type of a monitor as Datadog answers it.
func monitorType(p map[string]any) string {
	kind := textOf(p["type"])
	if kind == typeMetric {
		return typeQuery
	}
	return kind
}

// comparedOptions are the options of a monitor that are declared and compared. All others belong to
// people and to Datadog, such as silenced, or come from other kinds of tests.
func comparedOptions() []string {
	return []string{
		"aggregation", "enable_logs_sample", "enable_samples", "escalation_message", "evaluation_delay", "group_retention_duration",
		"groupby_simple_monitor", "include_tags", "locked", "min_failure_duration", "min_location_failed", "new_group_delay", "new_host_delay",
		"no_data_timeframe", "notification_preset_name", "notify_audit", "notify_by", "notify_no_data", "on_missing_data", "renotify_interval",
		"renotify_occurrences", "renotify_statuses", "require_full_window", "scheduling_options", "threshold_windows", "thresholds", "timeout_h", "variables",
	}
}

// optionDefaults are the values that mean the same as no value; Datadog fills some of them in.
func optionDefaults() map[string]any {
	return map[string]any{
		"enable_logs_sample": false, "enable_samples": false, "evaluation_delay": 0.0, "groupby_simple_monitor": false, "include_tags": true, "locked": false,
		"min_failure_duration": 0.0, "min_location_failed": 1.0, "new_host_delay": 300.0, "notification_preset_name": "show_all",
		"notify_audit": false, "notify_no_data": false, "on_missing_data": "default", "renotify_interval": 0.0, "require_full_window": false, "timeout_h": 0.0,
	}
}

func normalOptions(options map[string]any) map[string]any {
	n := pick(options, comparedOptions()...)
	for key, value := range optionDefaults() {
		if n[key] == value {
			delete(n, key)
		}
	}
	if n["notify_no_data"] == nil {
		delete(n, "no_data_timeframe") // Without the notice it has no meaning, and Datadog forgets or invents it.
	}
	set(n, "escalation_message", tidy(textOf(n["escalation_message"])))
	for _, key := range []string{"renotify_statuses", "notify_by"} {
		set(n, key, wordSet(n[key], all))
	}
	return n
}

// canonical is a query in the one spelling that its parser gives it. What the parser does not know
// keeps its words, with one space between them.
func canonical(kind, text string) string {
	if q, err := query.Parse(kind, text); err == nil {
		if _, opaque := q.(*query.Opaque); !opaque {
			return q.String()
		}
	}
	return strings.Join(strings.Fields(text), " ")
}

func canonicalExpr(text string) string {
	if e, err := query.ParseExpr(text); err == nil {
		return e.String()
	}
	return strings.Join(strings.Fields(text), " ")
}

func normalSLO(p map[string]any) map[string]any {
	n := pick(p, "type", "groups")
	set(n, "name", tidy(textOf(p["name"])))
	set(n, "description", tidy(textOf(p["description"])))
	set(n, "tags", wordSet(p["tags"], notOwnership))
	set(n, "groups", wordSet(p["groups"], all))
	thresholds := normalThresholds(p["thresholds"])
	set(n, "thresholds", thresholds)
	// Datadog picks a timeframe to show when none was sent.
	if frame := textOf(p["timeframe"]); len(thresholds) > 0 && frame != textOf(thresholds[0].(map[string]any)["timeframe"]) {
		set(n, "timeframe", frame)
	}
	ids, _ := p["monitor_ids"].([]any)
	set(n, "monitor_ids", sortedValues(ids))
	spec, _ := p["sli_specification"].(map[string]any)
	if len(spec) == 0 {
		// Datadog adds a query to SLOs that have a specification, which is then the same twice.
		if q, ok := p["query"].(map[string]any); ok {
			set(n, "query", canonicalQueries(pick(q, "numerator", "denominator")))
		}
		return n
	}
	set(n, "sli_specification", normalIndicator(spec))
	return n
}

// normalIndicator is what an SLO counts, with its queries in place of the names that stand for them in
// formulas: the names mean nothing.
func normalIndicator(spec map[string]any) map[string]any {
	out := maps.Clone(spec)
	if count, ok := spec["count"].(map[string]any); ok {
		good, isGood := inlined(count["good_events_formula"], count["queries"])
		bad, isBad := inlined(count["bad_events_formula"], count["queries"])
		if isGood && isBad {
			out["count"] = map[string]any{"good": good, "bad": bad}
		}
	}
	if slice, ok := spec["time_slice"].(map[string]any); ok {
		slice = maps.Clone(slice)
		out["time_slice"] = slice
		if q, ok := slice["query"].(map[string]any); ok {
			formulas, _ := q["formulas"].([]any)
			if text, ok := inlined(item(formulas, 0), q["queries"]); ok && len(formulas) == 1 {
				slice["query"] = text
			}
		}
		if slice["query_interval_seconds"] == 300.0 {
			delete(slice, "query_interval_seconds")
		}
	}
	rewritten, _ := canonicalQueries(out).(map[string]any)
	return rewritten
}

// formulaName is a name in a formula; what a parenthesis follows is a function.
var formulaName = regexp.MustCompile(`[A-Za-z_][A-Za-z0-9_]*(\s*\()?`)

// inlined is a formula with the metric queries that it names. ok is false when there is more to them.
func inlined(formula, queries any) (text string, ok bool) {
	f, _ := formula.(map[string]any)
	list, _ := queries.([]any)
	text = textOf(f["formula"])
	if text == "" || len(f) != 1 {
		return "", false
	}
	byName := map[string]string{}
	for _, item := range list {
		q, _ := item.(map[string]any)
		if q["data_source"] != "metrics" || len(q) != 3 || textOf(q["query"]) == "" {
			return "", false
		}
		byName[textOf(q["name"])] = textOf(q["query"])
	}
	text = formulaName.ReplaceAllStringFunc(text, func(name string) string {
		if q, ok := byName[name]; ok {
			return "(" + q + ")"
		}
		return name
	})
	e, err := query.ParseExpr(text)
	if err != nil {
		return "", false
	}
	return e.String(), true
}

// normalThresholds are the targets of an SLO from the shortest timeframe to the longest.
func normalThresholds(v any) []any {
	list, _ := v.([]any)
	out := make([]any, 0, len(list))
	for _, item := range list {
		if t, ok := item.(map[string]any); ok {
			out = append(out, pick(t, "timeframe", "target", "warning"))
		}
	}
	slices.SortFunc(out, func(x, y any) int {
		a, b := textOf(x.(map[string]any)["timeframe"]), textOf(y.(map[string]any)["timeframe"])
		return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
	})
	return out
}

// sortedValues sorts what has no order of its own by its JSON.
func sortedValues(list []any) []any {
	out := slices.Clone(list)
	slices.SortFunc(out, func(x, y any) int { return strings.Compare(jsonText(x), jsonText(y)) })
	return out
}

func jsonText(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// canonicalQueries rewrites the queries within a tree, wherever they are called so.
func canonicalQueries(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = canonicalQueries(v[i])
		}
	case map[string]any:
		for key, entry := range v {
			text, isText := entry.(string)
			switch {
			case isText && (key == "query" || key == "numerator" || key == "denominator" || key == "formula"):
				v[key] = canonicalExpr(text)
			case !isText:
				v[key] = canonicalQueries(entry)
			}
		}
	}
	return v
}

func normalDashboard(p map[string]any) map[string]any {
	n := pick(p, "layout_type", "reflow_type", "template_variables", "template_variable_presets", "widgets", "tabs", "default_timeframe")
	set(n, "title", tidy(textOf(p["title"])))
	_, description := splitMark(textOf(p["description"]))
	set(n, "description", tidy(description))
	for _, key := range []string{"tags", "notify_list"} {
		set(n, key, wordSet(p[key], all))
	}
	if n["reflow_type"] == "auto" {
		delete(n, "reflow_type") // It is the default of ordered dashboards.
	}
	if widgets, ok := n["widgets"]; ok {
		n["widgets"] = canonicalQueries(withoutWidgetIDs(widgets))
	}
	return n
}

// withoutWidgetIDs removes the ids that Datadog gives widgets, anew with every change.
func withoutWidgetIDs(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = withoutWidgetIDs(v[i])
		}
	case map[string]any:
		if _, widget := v["definition"]; widget {
			delete(v, "id")
		}
		for key := range v {
			v[key] = withoutWidgetIDs(v[key])
		}
	}
	return v
}

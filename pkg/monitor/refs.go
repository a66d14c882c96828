package monitor

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

var (
	// reference is an object of ours instead of its id.
	reference   = regexp.MustCompile(`\$\{ref:(metric|monitor|slo|dashboard)\.([a-z0-9][a-z0-9._-]*)\}`)
	compositeID = regexp.MustCompile(`\$\{ref:[^}]*\}|\b[0-9]+\b`)
	alertID     = regexp.MustCompile(`\b(burn_rate|error_budget)\(\s*(["'])([^"']*)["']`)
)

// asReference is the text that stands for an object's id.
func asReference(k declare.Key) string { return "${ref:" + k.String() + "}" }

// parseReference reads a text that is a reference as a whole.
func parseReference(text string) (declare.Key, bool) {
	m := reference.FindStringSubmatch(text)
	if m == nil || m[0] != text {
		return declare.Key{}, false
	}
	return declare.Key{Kind: declare.Kind(m[1]), Name: m[2]}, true
}

// exchange is what happens to an id or a reference: the text that takes its place.
type exchange func(kind declare.Kind, id string) string

// mapIDs copies a payload with everything exchanged that is the id of another object. Ids are looked
// for only where Datadog has them, never in texts for people.
func mapIDs(kind declare.Kind, payload map[string]any, change exchange) map[string]any {
	out := maps.Clone(payload)
	switch kind {
	case declare.Metric:
	case declare.Monitor:
		switch text := textOf(payload["query"]); monitorType(payload) {
		case typeComposite:
			out["query"] = compositeID.ReplaceAllStringFunc(text, func(id string) string { return change(declare.Monitor, id) })
		case typeSLO:
			out["query"] = alertID.ReplaceAllStringFunc(text, func(call string) string {
				m := alertID.FindStringSubmatch(call)
				return m[1] + `("` + change(declare.SLO, m[3]) + `"`
			})
		}
	case declare.SLO:
		if ids, ok := payload["monitor_ids"].([]any); ok {
			out["monitor_ids"] = changeList(ids, declare.Monitor, change)
		}
	case declare.Dashboard:
		for _, key := range []string{"widgets", "tabs"} {
			if v, ok := payload[key]; ok {
				out[key] = mapWidgets(v, change)
			}
		}
	}
	return out
}

func changeList(ids []any, kind declare.Kind, change exchange) []any {
	out := make([]any, len(ids))
	for i, id := range ids {
		out[i] = changeValue(id, kind, change)
	}
	return out
}

// changeValue exchanges an id that is a number or a text. Whole numbers become numbers again.
func changeValue(id any, kind declare.Kind, change exchange) any {
	text, isText := id.(string)
	if !isText {
		n, isNumber := plain(id).(float64)
		if !isNumber {
			return id
		}
		text = strconv.FormatFloat(n, 'f', -1, 64)
	}
	changed := change(kind, text)
	if n, err := strconv.ParseInt(changed, 10, 64); err == nil {
		return float64(n)
	}
	return changed
}

// mapWidgets exchanges the ids in the widgets of a dashboard, where they are texts.
func mapWidgets(v any, change exchange) any {
	switch v := v.(type) {
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = mapWidgets(v[i], change)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			entry := v[key]
			text, isText := entry.(string)
			list, isList := entry.([]any)
			switch {
			case isText && key == "alert_id":
				out[key] = change(declare.Monitor, text)
			case isText && key == "slo_id":
				out[key] = change(declare.SLO, text)
			case isList && key == "monitor_ids":
				out[key] = changeList(list, declare.Monitor, change)
			default:
				out[key] = mapWidgets(entry, change)
			}
		}
		return out
	}
	return v
}

// symbolic turns the ids of known objects into references.
func symbolic(kind declare.Kind, payload map[string]any, known map[declare.Kind]map[string]declare.Key) map[string]any {
	return mapIDs(kind, payload, func(of declare.Kind, id string) string {
		if key, ok := known[of][id]; ok {
			return asReference(key)
		}
		return id
	})
}

// resolve turns references into ids. missing are the objects that have none yet, each once.
func resolve(kind declare.Kind, payload map[string]any, ids map[declare.Key]string) (resolved map[string]any, missing []declare.Key) {
	resolved = mapIDs(kind, payload, func(_ declare.Kind, text string) string {
		key, isReference := parseReference(text)
		if !isReference {
			return text
		}
		id, ok := ids[key]
		if !ok {
			if !slices.Contains(missing, key) {
				missing = append(missing, key)
			}
			return text
		}
		return id
	})
	return resolved, missing
}

// references are the objects that a payload names where an id belongs, in the order of its places.
func references(kind declare.Kind, payload map[string]any) []declare.Key {
	_, keys := resolve(kind, payload, nil)
	slices.SortFunc(keys, compareKeys)
	return keys
}

// strayReference finds a reference in a place that cannot hold an id: it would never be resolved.
func strayReference(kind declare.Kind, payload map[string]any) string {
	rest := mapIDs(kind, payload, func(declare.Kind, string) string { return "" })
	return reference.FindString(normalText(map[string]any{"": plain(rest)}))
}

// strangers are the ids of a payload that belong to no object of ours, in the order of its places.
func strangers(kind declare.Kind, payload map[string]any) []stranger {
	var ids []stranger
	mapIDs(kind, payload, func(of declare.Kind, id string) string {
		s := stranger{of, id}
		if _, isReference := parseReference(id); !isReference && !slices.Contains(ids, s) {
			ids = append(ids, s)
		}
		return id
	})
	return ids
}

type stranger struct {
	kind declare.Kind
	id   string
}

func compareKeys(x, y declare.Key) int {
	if x.Kind != y.Kind {
		return slices.Index(declare.Kinds(), x.Kind) - slices.Index(declare.Kinds(), y.Kind)
	}
	return strings.Compare(x.Name, y.Name)
}

package monitor

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/monitor/query"
)

// speller writes objects of Datadog as a team would declare them.
type speller struct {
	environment string
	// roles have their handles.
	roles map[string][]string
	known map[declare.Kind]map[string]declare.Key
}

// cannotSpell is why an object cannot be declared in a file.
type cannotSpell struct{ why string }

func (c *cannotSpell) Error() string { return c.why }

// spell returns the entry of an object in a file.
func (sp *speller) spell(live Live) (fields, error) {
	payload, _ := plain(symbolic(live.Kind, live.Payload, sp.known)).(map[string]any)
	switch live.Kind {
	case declare.Monitor:
		return sp.monitor(payload)
	case declare.SLO:
		return sp.slo(payload)
	case declare.Dashboard, declare.Metric:
	}
	return nil, &cannotSpell{"the file has no words for the widgets of a dashboard made elsewhere; declare its groups anew"}
}

// title is a name without what the compiler puts before it. verbatim tells that it was not put there.
func (sp *speller) title(name string) (title string, verbatim bool) {
	title, found := strings.CutPrefix(tidy(name), "["+sp.environment+"] ")
	return title, !found
}

// tags are those that are not added by themselves. verbatim tells that the environment's is missing.
func (sp *speller) tags(v any) (tags []any, verbatim bool) {
	env := "env:" + sp.environment
	all := wordSet(v, notOwnership)
	tags = slices.DeleteFunc(slices.Clone(all), func(tag any) bool { return tag == env })
	return tags, len(tags) == len(all)
}

// add appends what says something.
func (f *fields) add(key string, value any) {
	if list, ok := value.(fields); ok && len(list) == 0 || blank(value) {
		return
	}
	*f = append(*f, field{key, value})
}

// interpolated escapes what a file would fill in, but for references.
func interpolated(text string) string {
	text = strings.ReplaceAll(text, "${", "$${")
	return escapedReference.ReplaceAllString(text, "$1")
}

var escapedReference = regexp.MustCompile(`\$(\$\{ref:(?:monitor|slo)\.[^}]*\})`)

func (sp *speller) monitor(p map[string]any) (fields, error) {
	title, foreignTitle := sp.title(textOf(p["name"]))
	tags, foreignTags := sp.tags(p["tags"])
	texts, told, structured := sp.message(tidy(textOf(p["message"])))
	verbatim := foreignTitle || foreignTags || !structured
	if verbatim {
		title, tags = tidy(textOf(p["name"])), wordSet(p["tags"], notOwnership)
	}
	kind := monitorType(p)
	options := normalOptionsAsSent(p["options"])
	var f fields
	f.add("title", interpolated(title))
	if kind != typeQuery {
		f.add("type", kind)
	}
	f.add("priority", p["priority"])
	if verbatim {
		f.add("verbatim", true)
	}
	thresholds, _ := options["thresholds"].(map[string]any)
	f.add("query", withCritical(kind, textOf(p["query"]), thresholds["critical"]))
	if kind != typeComposite {
		f.add("thresholds", options["thresholds"])
	}
	f.add("threshold_windows", options["threshold_windows"])
	delete(options, "thresholds")
	delete(options, "threshold_windows")
	f.add("options", options)
	if verbatim {
		f.add("message", interpolated(tidy(textOf(p["message"]))))
	} else {
		f.add("notify", told)
		f.add("message", texts)
	}
	f.add("tags", tags)
	return f, nil
}

// normalOptionsAsSent are the options without those that say nothing.
func normalOptionsAsSent(v any) map[string]any {
	options, _ := v.(map[string]any)
	n := normalOptions(options)
	for _, key := range []string{"include_tags", "require_full_window", "on_missing_data"} {
		if value, ok := options[key]; ok && options[key] != nil {
			n[key] = value // They are defaults, and a reader wants to see them.
		}
	}
	return n
}

// withCritical is a query with ${critical} for the number that it compares with.
func withCritical(kind, text string, critical any) string {
	text = canonical(kind, text)
	number := strings.TrimPrefix(scalarText(critical), "-")
	if at := strings.LastIndexByte(text, ' ') + 1; at > 0 && strings.TrimPrefix(text[at:], "-") == number && critical != nil {
		q, err := query.Parse(kind, text)
		if _, opaque := q.(*query.Opaque); err == nil && !opaque {
			return interpolated(text[:at]) + "${critical}"
		}
	}
	return interpolated(text)
}

var messageBlock = regexp.MustCompile(`(?s)^\{\{#is_(alert|warning|no_data|renotify|recovery)\}\}(.*?)\{\{/is_(alert|warning|no_data|renotify|recovery)\}\}(?:\n|$)`)

// message takes a message apart into the texts and handles of its events. ok is false when it was
// not put together so: then it has to stay as it is.
func (sp *speller) message(text string) (texts, told fields, ok bool) {
	events := []string{"alert", "warning", "no_data", "renotify", "recovery"}
	rest, last := text, -1
	for rest != "" {
		m := messageBlock.FindStringSubmatch(rest)
		if m == nil {
			break
		}
		event, body := m[1], m[2]
		at := slices.Index(events, event)
		if at <= last || m[3] != event {
			return nil, nil, false
		}
		last, rest = at, rest[len(m[0]):]
		if event == "alert" {
			inner, first := strings.CutPrefix(body, "{{^is_renotify}}")
			inner, second := strings.CutSuffix(inner, "{{/is_renotify}}")
			if !first || !second {
				return nil, nil, false
			}
			body = inner
		}
		body, handles := trailingHandles(body)
		if strings.Contains(body, "@") && handleInside.MatchString(body) {
			return nil, nil, false
		}
		texts.add(event, interpolated(body))
		told.add(event, sp.who(handles))
	}
	if runbook, found := strings.CutPrefix(rest, "Runbook: "); found && !strings.ContainsAny(runbook, " \n") {
		texts.add("runbook", interpolated(runbook))
		rest = ""
	}
	return texts, told, rest == "" && text != ""
}

var (
	handleInside = regexp.MustCompile(`(?:^|\s)@\S`)
	lastHandle   = regexp.MustCompile(`(?:^|\s)(@\S+) $`)
)

// trailingHandles parts the handles at the end of a block from its text. Each has a space behind it.
func trailingHandles(body string) (text string, handles []string) {
	for {
		m := lastHandle.FindStringSubmatchIndex(body)
		if m == nil {
			return body, handles
		}
		handles = slices.Insert(handles, 0, body[m[2]:m[3]])
		if body = body[:m[2]]; lastHandle.FindStringIndex(body) == nil {
			return strings.TrimSuffix(body, " "), handles
		}
	}
}

// who turns handles into roles where all handles of a role are there.
func (sp *speller) who(handles []string) []any {
	var out []any
	for len(handles) > 0 {
		found := ""
		for _, role := range slices.Sorted(maps.Keys(sp.roles)) {
			own := sp.roles[role]
			if n := len(own); n > 0 && n <= len(handles) && slices.Equal(own, handles[:n]) && (found == "" || n > len(sp.roles[found])) {
				found = role
			}
		}
		if found == "" {
			out, handles = append(out, handles[0]), handles[1:]
			continue
		}
		out, handles = append(out, found), handles[len(sp.roles[found]):]
	}
	return out
}

func (sp *speller) slo(p map[string]any) (fields, error) {
	title, foreignTitle := sp.title(textOf(p["name"]))
	tags, foreignTags := sp.tags(p["tags"])
	var f fields
	if verbatim := foreignTitle || foreignTags; verbatim {
		title, tags = tidy(textOf(p["name"])), wordSet(p["tags"], notOwnership)
		f.add("title", interpolated(title))
		f.add("verbatim", true)
	} else {
		f.add("title", interpolated(title))
	}
	f.add("description", interpolated(tidy(textOf(p["description"]))))
	n := normalSLO(p)
	spec, _ := n["sli_specification"].(map[string]any)
	switch {
	case isMap(spec["count"]):
		count := spec["count"].(map[string]any)
		good, bad := textOf(count["good"]), textOf(count["bad"])
		if good == "" || bad == "" {
			return nil, &cannotSpell{"its good and bad events are not metric queries alone"}
		}
		f.add("ratio", fields{{"good", interpolated(good)}, {"bad", interpolated(bad)}})
	case isMap(spec["time_slice"]):
		slice := spec["time_slice"].(map[string]any)
		if textOf(slice["query"]) == "" {
			return nil, &cannotSpell{"its slices are not of one metric query"}
		}
		seconds := slice["query_interval_seconds"]
		if seconds == nil {
			seconds = 300.0
		}
		f.add("slices", fields{{"query", interpolated(textOf(slice["query"]))}, {"op", slice["comparator"]}, {"bound", slice["threshold"]}, {"seconds", seconds}})
	default:
		return nil, &cannotSpell{fmt.Sprintf("the file has no words for an SLO of type %s without good and bad events", textOf(p["type"]))}
	}
	var targets fields
	var warning any
	for _, item := range normalThresholds(p["thresholds"]) {
		t := item.(map[string]any)
		targets.add(textOf(t["timeframe"]), t["target"])
		warning = t["warning"]
	}
	f.add("targets", targets)
	f.add("warning", warning)
	f.add("alerts", "none")
	f.add("tags", tags)
	return f, nil
}

func isMap(v any) bool {
	_, ok := v.(map[string]any)
	return ok
}

package monitortest

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

func equal(a, b any) bool { return reflect.DeepEqual(a, b) }

// readOnlyFields are taken and ignored, so that an object that was read can be sent back.
func readOnlyFields() []string {
	return []string{"id", "org_id", "created", "created_at", "modified", "creator", "deleted", "multi", "overall_state",
		"overall_state_modified", "state", "matching_downtimes", "assets"}
}

func monitorShape(create bool) check {
	fields := map[string]check{
		"name": text, "message": text, "priority": nullable(between(1, 5)), "tags": list(text), "query": text,
		"restricted_roles": nullable(list(text)), "options": object(optionFields()), "draft_status": enum("draft", "published"),
		"type": enum("composite", "event alert", "log alert", "metric alert", "process alert", "query alert", "rum alert", "service check",
			"synthetics alert", "trace-analytics alert", "slo alert", "event-v2 alert", "audit alert", "ci-pipelines alert", "ci-tests alert",
			"error-tracking alert", "database-monitoring alert", "network-performance alert", "cost alert", "data-quality alert",
			"network-path alert", "data-jobs alert", "llm-observability alert"),
	}
	for _, name := range readOnlyFields() {
		fields[name] = anything
	}
	if create {
		fields["type*"], fields["query*"] = fields["type"], fields["query"]
		delete(fields, "type")
		delete(fields, "query")
	}
	return object(fields)
}

func optionFields() map[string]check {
	count := nullable(between(0, math.MaxInt32))
	return map[string]check{
		"enable_logs_sample": boolean, "enable_samples": boolean, "escalation_message": text, "evaluation_delay": nullable(between(0, 86400)),
		"group_retention_duration": text, "groupby_simple_monitor": boolean, "include_tags": boolean, "locked": boolean,
		"min_failure_duration": nullable(between(0, 7200)), "min_location_failed": count, "new_group_delay": count, "new_host_delay": count,
		"no_data_timeframe":        count,
		"notification_preset_name": enum("show_all", "hide_query", "hide_handles", "hide_all", "hide_query_and_handles", "show_only_snapshot", "hide_handles_and_footer"),
		"notify_audit":             boolean, "notify_by": list(text), "notify_no_data": boolean,
		"on_missing_data": enum("default", "show_no_data", "show_and_notify_no_data", "resolve"), "renotify_interval": count,
		"renotify_occurrences": count, "renotify_statuses": nullable(list(enum("alert", "warn", "no data"))), "require_full_window": boolean,
		"scheduling_options": anything, "silenced": mapOf(nullable(integer)), "synthetics_check_id": nullable(text), "variables": list(anything),
		"threshold_windows": object(map[string]check{"trigger_window": nullable(text), "recovery_window": nullable(text)}),
		"thresholds": object(map[string]check{"critical": number, "critical_recovery": nullable(number), "warning": nullable(number),
			"warning_recovery": nullable(number), "ok": nullable(number), "unknown": nullable(number)}),
		"timeout_h": nullable(between(0, 24)), "aggregation": anything, "device_ids": list(text),
	}
}

// contentFault tells what Datadog refuses in a monitor whose fields have the right types.
func (d *Datadog) contentFault(m map[string]any) string {
	if m["name"] == "" {
		return "The parameter 'name' is required"
	}
	if fault := tagsFault(m["tags"]); fault != "" {
		return fault
	}
	if fault := mentionFault(str(m["message"])); fault != "" {
		return fault
	}
	if fault := optionsFault(m); fault != "" {
		return fault
	}
	if fault := d.queryFault(m); fault != "" {
		return "The value provided for parameter 'query' is invalid: " + fault
	}
	return ""
}

func tagsFault(tags any) string {
	for _, tag := range strs(tags) {
		if len(tag) > 200 || tag == "" || tag != strings.ToLower(tag) || strings.ContainsAny(tag, " ,") {
			return fmt.Sprintf("Invalid tag '%s': tags are lower case, without blanks and commas, and have at most 200 characters", tag)
		}
	}
	return ""
}

var mention = regexp.MustCompile(`(?:^|[\s}])(@[^\s{}]+)`)

// mentionFault tells of a handle that has a form that no integration has.
func mentionFault(message string) string {
	for _, m := range mention.FindAllStringSubmatch(message, -1) {
		handle := m[1]
		known := slices.ContainsFunc([]string{"slack", "pagerduty", "webhook", "teams", "jira", "servicenow", "team", "workflow", "opsgenie", "oncall", "case", "hangouts"},
			func(kind string) bool { return strings.HasPrefix(handle, "@"+kind+"-") })
		if mail := strings.Count(handle, "@") == 2 && strings.Contains(handle, "."); !known && !mail && handle != "@all" && handle != "@here" {
			return fmt.Sprintf("Invalid notification handle '%s'", handle)
		}
	}
	return ""
}

// optionsFault tells of options that exclude each other.
func optionsFault(m map[string]any) string {
	o, _ := m["options"].(map[string]any)
	kind, query := m["type"], str(m["query"])
	missing := str(o["on_missing_data"])
	switch {
	case missing != "" && (o["no_data_timeframe"] != nil || o["notify_no_data"] == true):
		return "The 'on_missing_data' option cannot be used with 'no_data_timeframe' or 'notify_no_data'"
	case missing != "" && kind == "composite":
		return fmt.Sprintf("The 'on_missing_data' option is not supported by monitors of type %s", kind)
	case missing != "" && missing != "default" && strings.Contains(query, "default_zero("):
		return "The 'on_missing_data' option must be 'default' when the query uses default_zero"
	case missing == "resolve" && o["timeout_h"] != nil && o["timeout_h"] != 0.0:
		return "The 'timeout_h' option cannot be used when 'on_missing_data' is 'resolve'"
	case o["notify_no_data"] == true && o["no_data_timeframe"] == nil && kind != "service check":
		return "The 'no_data_timeframe' option is required when 'notify_no_data' is set"
	case kind == "log alert" && o["no_data_timeframe"] != nil:
		return "The 'no_data_timeframe' option is not supported by monitors of type log alert"
	}
	return renotifyFault(o)
}

// renotifyFault tells of reminders that never come.
func renotifyFault(o map[string]any) string {
	statuses := strs(o["renotify_statuses"])
	if interval, _ := o["renotify_interval"].(float64); interval == 0 {
		if o["renotify_occurrences"] != nil {
			return "The 'renotify_occurrences' option requires 'renotify_interval'"
		}
		if len(statuses) > 0 {
			return "The 'renotify_statuses' option requires 'renotify_interval'"
		}
	}
	if slices.Contains(statuses, "warn") && get(o, "thresholds", "warning") == nil {
		return "The 'renotify_statuses' option has 'warn', but the monitor has no warning threshold"
	}
	return ""
}

var (
	comparison = regexp.MustCompile(`^(.*\S)\s*(>=|<=|==|!=|>|<)\s*(-?[0-9.]+(?:e[-+]?[0-9]+)?)$`)
	windowed   = regexp.MustCompile(`^(avg|sum|min|max|p\d+|percentile)\(last_(\d+)([mhdw])\):(.+)$`)
	changed    = regexp.MustCompile(`^(?:pct_)?change\((?:avg|sum|min|max)\(last_\d+[mhdw]\),\s*(?:last_)?\d+[mhdw](?:_ago)?\):(.+)$`)
	checks     = regexp.MustCompile(`^"[^"]+"\.over\(("[^"]+",?\s?)+\)(?:\.exclude\(("[^"]+",?\s?)+\))?(?:\.by\(("[^"]+",?\s?)+\))?\.last\((\d+)\)\.count_by_status\(\)$`)
	burnRate   = regexp.MustCompile(`^burn_rate\("([^"]*)"\)\.over\("([^"]*)"\)\.long_window\("([^"]*)"\)\.short_window\("([^"]*)"\)$`)
	budget     = regexp.MustCompile(`^error_budget\("([^"]*)"\)\.over\("([^"]*)"\)$`)
	operand    = regexp.MustCompile(`\d+`)
	composite  = regexp.MustCompile(`^[\s()]*!?[\s(!]*\d+(?:[\s)]*(?:&&|\|\|)[\s(!]*\d+)*[\s)]*$`)
	series     = regexp.MustCompile(`(?:^|[\s(,*/+-])(?:(avg|sum|min|max|count|p\d+|count\(v: ?v ?(?:<=|<|>=|>) ?[0-9.]+\)):)?([a-zA-Z][a-zA-Z0-9_.]*)\{([^{}]*)\}`)
)

// queryFault reads the query of the types that are known here. Of the others it wants a comparison.
func (d *Datadog) queryFault(m map[string]any) string {
	query := str(m["query"])
	switch m["type"] {
	case "composite":
		return d.compositeFault(query)
	case "service check":
		return checkFault(m, query)
	}
	parts := comparison.FindStringSubmatch(query)
	if parts == nil {
		return "invalid operator specified: "
	}
	if fault := thresholdsFault(m, parts[2], parts[3]); fault != "" {
		return fault
	}
	switch m["type"] {
	case "query alert":
		return metricFault(parts[1], parts[2])
	case "slo alert":
		return d.sloAlertFault(parts[1], parts[2], parts[3])
	}
	return ""
}

func metricFault(text, op string) string {
	expression := ""
	if parts := windowed.FindStringSubmatch(text); parts != nil {
		expression = parts[4]
	} else if parts := changed.FindStringSubmatch(text); parts != nil {
		expression = parts[1]
	} else {
		return "unable to parse the time aggregation of " + strconv.Quote(text)
	}
	if op == "==" || op == "!=" {
		return "invalid operator specified: " + op
	}
	if !balanced(expression) {
		return "unbalanced brackets in " + strconv.Quote(expression)
	}
	found := series.FindAllStringSubmatch(expression, -1)
	if len(found) == 0 || len(found) != strings.Count(expression, "{")-strings.Count(expression, "by {") {
		return "unable to parse " + strconv.Quote(expression)
	}
	for _, s := range found {
		if s[1] == "" {
			return "no space aggregation for " + s[2]
		}
		if s[3] == "" {
			return "empty scope of " + s[2]
		}
		if s[3] != strings.ToLower(s[3]) && !strings.Contains(s[3], " AND ") && !strings.Contains(s[3], " OR ") && !strings.Contains(s[3], " IN ") && !strings.Contains(s[3], " NOT ") {
			return "scopes are lower case: " + s[3]
		}
	}
	return ""
}

func balanced(s string) bool {
	var open []rune
	pairs := map[rune]rune{')': '(', '}': '{'}
	for _, r := range s {
		switch r {
		case '(', '{':
			open = append(open, r)
		case ')', '}':
			if len(open) == 0 || open[len(open)-1] != pairs[r] {
				return false
			}
			open = open[:len(open)-1]
		}
	}
	return len(open) == 0
}

// thresholdsFault compares the thresholds with the query's number and with each other.
func thresholdsFault(m map[string]any, op, numeral string) string {
	limit, err := strconv.ParseFloat(numeral, 64)
	if err != nil {
		return "could not convert string to float: " + numeral
	}
	thresholds, _ := get(m, "options", "thresholds").(map[string]any)
	value := func(name string) float64 {
		if n, ok := thresholds[name].(float64); ok {
			return n
		}
		return math.NaN() // No comparison with it holds.
	}
	if critical := value("critical"); critical != limit && !math.IsNaN(critical) {
		return fmt.Sprintf("Alert threshold (%s) does not match that used in the query (%s).", python(critical), python(limit))
	}
	sign := 1.0
	if strings.HasPrefix(op, "<") {
		sign = -1
	}
	for _, pair := range [][2]string{{"warning", "critical"}, {"critical_recovery", "critical"}, {"warning_recovery", "warning"}} {
		lower, upper := value(pair[0]), value(pair[1])
		if pair[1] == "critical" {
			upper = limit
		}
		if pair[0] == "warning_recovery" && thresholds["warning_recovery"] != nil && thresholds["warning"] == nil {
			return "a warning_recovery threshold needs a warning threshold"
		}
		if sign*lower > sign*upper || (lower == upper && (pair[0] == "warning" || op == ">" || op == "<")) {
			return fmt.Sprintf("%s threshold (%s) is on the wrong side of the %s threshold (%s)", pair[0], python(lower), pair[1], python(upper))
		}
	}
	return ""
}

func python(f float64) string {
	text, _ := decimal(f).MarshalJSON()
	return string(text)
}

func (d *Datadog) compositeFault(query string) string {
	if !composite.MatchString(query) || !balanced(query) {
		return "invalid composite expression " + strconv.Quote(query)
	}
	for _, id := range operand.FindAllString(query, -1) {
		if o := d.monitors().find(id); o == nil {
			return fmt.Sprintf("monitor %s does not exist", id)
		} else if o.body["type"] == "composite" {
			return fmt.Sprintf("monitor %s is a composite itself", id)
		}
	}
	return ""
}

// checkFault wants as many last checks as the thresholds count.
func checkFault(m map[string]any, query string) string {
	parts := checks.FindStringSubmatch(query)
	if parts == nil {
		return "unable to parse the service check " + strconv.Quote(query)
	}
	last, _ := strconv.ParseFloat(parts[4], 64)
	thresholds, _ := get(m, "options", "thresholds").(map[string]any)
	for name, v := range thresholds {
		if n, _ := v.(float64); n >= last+1 || n < 1 {
			return fmt.Sprintf("the %s threshold (%s) must be from 1 to the number of last checks (%s)", name, python(n), parts[4])
		}
	}
	return ""
}

func (d *Datadog) sloAlertFault(text, op, numeral string) string {
	limit, _ := strconv.ParseFloat(numeral, 64)
	if op != ">" && op != ">=" {
		return "invalid operator specified: " + op
	}
	parts := burnRate.FindStringSubmatch(text)
	burn := parts != nil
	if !burn {
		if parts = budget.FindStringSubmatch(text); parts == nil {
			return "unable to parse " + strconv.Quote(text)
		}
	}
	slo := d.slos().find(parts[1])
	if slo == nil {
		return fmt.Sprintf("SLO %s does not exist", parts[1])
	}
	if slo.body["type"] == "monitor" {
		return "alerts are not supported for monitor-based SLOs"
	}
	target, ok := sloTargets(slo.body)[parts[2]]
	if !ok {
		return fmt.Sprintf("the timeframe %s is not one of the SLO's", parts[2])
	}
	if !burn {
		if limit <= 0 || limit > 100 {
			return fmt.Sprintf("the error budget threshold %s is not from 0 to 100", numeral)
		}
		return ""
	}
	if most := 100 / (100 - target); limit > most+1e-9 || limit <= 0 {
		return fmt.Sprintf("the burn rate threshold %s exceeds the maximum of %g for a target of %g%%", numeral, most, target)
	}
	return windowsFault(parts[3], parts[4])
}

func windowsFault(long, short string) string {
	l, err := time.ParseDuration(long)
	s, err2 := time.ParseDuration(short)
	switch {
	case err != nil || err2 != nil:
		return fmt.Sprintf("invalid windows %s and %s", long, short)
	case l < time.Hour || l > 48*time.Hour:
		return "the long window must be from 1h to 48h"
	case s >= l || s < time.Minute:
		return "the short window must be shorter than the long one, and at least a minute"
	}
	return ""
}

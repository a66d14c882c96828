package monitortest

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var word = regexp.MustCompile(`[A-Za-z_][A-Za-z0-9_]*`)

func replaceWord(formula, old, new string) string {
	return word.ReplaceAllStringFunc(formula, func(w string) string {
		if w == old {
			return new
		}
		return w
	})
}

func sloShape() check {
	timeframe := enum("7d", "30d", "90d")
	formula := object(map[string]check{"formula*": text})
	queries := list(object(map[string]check{"data_source*": enum("metrics", "cloud_cost"), "name*": text, "query*": text,
		"aggregator": enum("avg", "min", "max", "sum", "last", "area", "l2norm", "percentile"), "semantic_mode": enum("combined", "native")}))
	return object(map[string]check{
		"name*": text, "description": nullable(text), "groups": list(text), "monitor_ids": list(integer), "tags": list(text),
		"type*": enum("metric", "monitor", "time_slice"), "timeframe": timeframe, "target_threshold": number, "warning_threshold": number,
		"query": object(map[string]check{"numerator*": text, "denominator*": text}),
		"thresholds*": list(object(map[string]check{
			"timeframe*": timeframe, "target*": number, "warning": number, "target_display": text, "warning_display": text})),
		"sli_specification": object(map[string]check{
			"count": object(map[string]check{"good_events_formula*": formula, "bad_events_formula": formula, "total_events_formula": formula, "queries*": queries}),
			"time_slice": object(map[string]check{
				"query*": object(map[string]check{"formulas*": list(formula), "queries*": queries}), "comparator*": enum(">", ">=", "<", "<="),
				"threshold*": number, "query_interval_seconds": seconds}),
		}),
		"id": anything, "created_at": anything, "modified_at": anything, "creator": anything, "monitor_tags": anything,
	})
}

func seconds(at string, v any) string {
	if v != 60.0 && v != 300.0 {
		return fmt.Sprintf("%s: %v is not one of [60, 300]", at, v)
	}
	return ""
}

// sloTargets are the targets of an SLO by timeframe.
func sloTargets(body map[string]any) map[string]float64 {
	targets := map[string]float64{}
	thresholds, _ := body["thresholds"].([]any)
	for _, t := range thresholds {
		targets[str(get(t, "timeframe"))], _ = get(t, "target").(float64)
	}
	return targets
}

func (d *Datadog) sloFault(body map[string]any) string {
	if fault := sloShape()("slo", body); fault != "" {
		return fault
	}
	if strings.TrimSpace(str(body["name"])) == "" {
		return "Minimum length of parameter 'name' should be 1"
	}
	if fault := tagsFault(body["tags"]); fault != "" {
		return fault
	}
	if fault := targetsFault(body); fault != "" {
		return fault
	}
	switch body["type"] {
	case "monitor":
		return d.monitorSLOFault(body)
	case "metric":
		return countFault(body)
	}
	return sliceFault(body)
}

func targetsFault(body map[string]any) string {
	thresholds, _ := body["thresholds"].([]any)
	if len(thresholds) == 0 {
		return "must specify at least one threshold"
	}
	if len(sloTargets(body)) != len(thresholds) {
		return "timeframes of thresholds must be different"
	}
	for _, t := range thresholds {
		target, _ := get(t, "target").(float64)
		if target <= 0 || target >= 100 || !threeDecimals(target) {
			return fmt.Sprintf("target %v must be between 0 and 100, with at most 3 decimals", target)
		}
		if warning, ok := get(t, "warning").(float64); ok && (warning <= target || warning >= 100 || !threeDecimals(warning)) {
			return fmt.Sprintf("warning %v must be between the target %v and 100, with at most 3 decimals", warning, target)
		}
	}
	if timeframe := str(body["timeframe"]); timeframe != "" {
		target, ok := sloTargets(body)[timeframe]
		if sent, has := body["target_threshold"].(float64); !ok || (has && sent != target) {
			return fmt.Sprintf("timeframe %s and target_threshold are not those of a threshold", timeframe)
		}
	}
	return ""
}

func threeDecimals(n float64) bool { return math.Abs(math.Round(n*1000)-n*1000) < 1e-6 }

func (d *Datadog) monitorSLOFault(body map[string]any) string {
	ids, _ := body["monitor_ids"].([]any)
	if len(ids) == 0 {
		return "must specify monitor_ids"
	}
	for _, id := range ids {
		n, _ := id.(float64)
		if d.monitors().find(strconv.FormatInt(int64(n), 10)) == nil {
			return fmt.Sprintf("monitor %v does not exist", id)
		}
	}
	if body["sli_specification"] != nil || body["query"] != nil {
		return "must not specify a query for monitor types"
	}
	return ""
}

func countFault(body map[string]any) string {
	count := get(body, "sli_specification", "count")
	if count == nil && (body["query"] == nil || body["sli_specification"] != nil) {
		return "must specify the query for count types"
	}
	if count == nil {
		return ""
	}
	if (get(count, "bad_events_formula") == nil) == (get(count, "total_events_formula") == nil) {
		return "must specify one of bad_events_formula and total_events_formula"
	}
	var formulas []string
	for _, name := range []string{"good_events_formula", "bad_events_formula", "total_events_formula"} {
		if f := get(count, name, "formula"); f != nil {
			formulas = append(formulas, str(f))
		}
	}
	return queriesFault(get(count, "queries"), formulas, true)
}

func sliceFault(body map[string]any) string {
	slice := get(body, "sli_specification", "time_slice")
	if slice == nil {
		return "must specify sli_specification for time_slice types"
	}
	formulas, _ := get(slice, "query", "formulas").([]any)
	if len(formulas) != 1 {
		return "must specify exactly one formula"
	}
	return queriesFault(get(slice, "query", "queries"), []string{str(get(formulas[0], "formula"))}, false)
}

// queriesFault wants queries of metrics, and formulas that use their names only.
func queriesFault(queries any, formulas []string, counts bool) string {
	items, _ := queries.([]any)
	var names []string
	for _, q := range items {
		query := str(get(q, "query"))
		found := series.FindAllStringSubmatch(query, -1)
		if len(found) != 1 || !balanced(query) {
			return fmt.Sprintf("unable to parse query %q", query)
		}
		if counts && !strings.HasPrefix(found[0][1], "count") && !strings.Contains(query, ".as_count()") {
			return fmt.Sprintf("query %q is not a count", query)
		}
		if name := str(get(q, "name")); slices.Contains(names, name) {
			return fmt.Sprintf("query name %q is used twice", name)
		}
		names = append(names, str(get(q, "name")))
	}
	functions := []string{"default_zero", "abs", "clamp_min", "clamp_max", "moving_rollup"}
	for _, formula := range formulas {
		uses := 0
		for _, w := range word.FindAllString(formula, -1) {
			if slices.Contains(names, w) {
				uses++
			} else if !slices.Contains(functions, w) {
				return fmt.Sprintf("formula %q uses the unknown query %q", formula, w)
			}
		}
		if uses == 0 || !balanced(formula) {
			return fmt.Sprintf("unable to parse formula %q", formula)
		}
	}
	return ""
}

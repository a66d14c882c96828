package monitortest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/monitor/monitortest"
)

// with changes a copy of an object: path elements are separated by slashes, and a nil value deletes.
func with(o object, path string, value any) object {
	name, rest, deep := strings.Cut(path, "/")
	copied := object{}
	for k, v := range o {
		copied[k] = v
	}
	switch {
	case deep:
		inner, _ := copied[name].(object)
		copied[name] = with(inner, rest, value)
	case value == nil:
		delete(copied, name)
	default:
		copied[name] = value
	}
	return copied
}

func sloAlert(id, query string, critical float64) object {
	return object{"type": "slo alert", "name": "Burns", "query": fmt.Sprintf(query, id), "options": object{"thresholds": object{"critical": critical}}}
}

func TestRefusedMonitors(t *testing.T) {
	t.Parallel()
	s := monitortest.New(t)
	slo := s.Seed(declare.SLO, anSLO())
	first := s.Seed(declare.Monitor, aMonitor())
	s.Seed(declare.Monitor, with(aMonitor(), "name", "Second"))
	const burn = `burn_rate("%s").over("30d").long_window("1h").short_window("5m") > `
	composite := func(query string) object { return object{"type": "composite", "name": "Both", "query": query} }
	checks := func(query string, thresholds object) object {
		return object{"type": "service check", "name": "Check", "query": query, "options": object{"thresholds": thresholds}}
	}
	for name, test := range map[string]struct {
		payload object
		message string // "" when it is taken
	}{
		"another name":            {with(aMonitor(), "name", "Other"), ""},
		"duplicate":               {aMonitor(), "Duplicate of an existing monitor_id:" + first + " org_id:1300336245"},
		"no type":                 {with(aMonitor(), "type", nil), "The parameter 'type' is required"},
		"no query":                {with(aMonitor(), "query", nil), "The parameter 'query' is required"},
		"no name":                 {with(aMonitor(), "name", nil), "'name' is required"},
		"unknown type":            {with(aMonitor(), "type", "cpu alert"), "cpu alert is not one of"},
		"unknown field":           {with(aMonitor(), "nmae", "x"), "('nmae' was unexpected)"},
		"unknown option":          {with(aMonitor(), "options/renotify", 3), "('renotify' was unexpected)"},
		"unknown threshold":       {with(aMonitor(), "options/thresholds/error", 3), "('error' was unexpected)"},
		"text for a number":       {with(aMonitor(), "options/thresholds/critical", "10"), "not of type 'number'"},
		"unknown word":            {with(aMonitor(), "options/on_missing_data", "page"), "page is not one of"},
		"priority":                {with(aMonitor(), "priority", 6), "not an integer from 1 to 5"},
		"reference":               {with(aMonitor(), "message", "${ref:monitor.x}"), "has a placeholder"},
		"upper case tag":          {with(aMonitor(), "tags", []any{"Env:prod"}), "Invalid tag"},
		"handle":                  {with(aMonitor(), "message", "Hey @nobody"), "Invalid notification handle '@nobody'"},
		"mail":                    {with(aMonitor(), "message", "Hey @a@example.com @pagerduty-x"), ""},
		"no comparison":           {with(aMonitor(), "query", "avg(last_5m):avg:a.b{*}"), "parameter 'query' is invalid: invalid operator specified: "},
		"another number":          {with(aMonitor(), "options/thresholds/critical", 11), "Alert threshold (11.0) does not match that used in the query (10.0)."},
		"warning above critical":  {with(aMonitor(), "options/thresholds/warning", 11), "wrong side"},
		"recovery above critical": {with(aMonitor(), "options/thresholds/critical_recovery", 12), "wrong side"},
		"no window":               {with(aMonitor(), "query", "avg:a.b{*} > 10"), "time aggregation"},
		"unknown window":          {with(aMonitor(), "query", "avg(5m):avg:a.b{*} > 10"), "time aggregation"},
		"brackets":                {with(aMonitor(), "query", "avg(last_5m):default_zero(avg:a.b{*} > 10"), "unbalanced"},
		"no space aggregation":    {with(aMonitor(), "query", "avg(last_5m):a.b{*} > 10"), "no space aggregation"},
		"empty scope":             {with(aMonitor(), "query", "avg(last_5m):avg:a.b{} > 10"), "empty scope"},
		"percentage": {with(aMonitor(), "query",
			"sum(last_5m):100 * default_zero(count:http.server.request.duration{env:prod,http.response.status_code:5*}.as_count()) / count:http.server.request.duration{env:prod}.as_count() > 10"), ""},
		"threshold count": {with(aMonitor(), "query", "sum(last_5m):count(v: v<=0.1):a.b{env:prod}.as_count() > 10"), ""},
		"percentile":      {with(aMonitor(), "query", "avg(last_5m):p95:a.b{env:prod} by {http.route} > 10"), ""},
		"change":          {with(aMonitor(), "query", "change(sum(last_5m),last_5m):exclude_null(avg:kubernetes.containers.restarts{a:b} by {pod_name}) > 10"), ""},
		"anomalies": {with(with(aMonitor(), "options/thresholds", object{"critical": 1}), "query",
			"avg(last_4h):anomalies(sum:a.b{c:d} by {e}, 'agile', 3, direction='both', interval=60, alert_window='last_15m', count_default_zero='true', seasonality='hourly') >= 1"), ""},
		"no data twice":     {with(with(aMonitor(), "options/on_missing_data", "default"), "options/no_data_timeframe", 10), "cannot be used with"},
		"no data and zero":  {with(aMonitor(), "options/on_missing_data", "show_no_data"), "default_zero"},
		"timeout":           {with(aMonitor(), "options/timeout_h", 25), "not an integer from 0 to 24"},
		"renotify warnings": {with(with(with(aMonitor(), "options/renotify_interval", 30), "options/renotify_statuses", []any{"warn"}), "options/thresholds/warning", nil), "no warning threshold"},
		"composite":         {composite(first + " && !" + first), ""},
		"composite of none": {composite(first + " && 12"), "monitor 12 does not exist"},
		"composite grammar": {composite(first + " and " + first), "invalid composite"},
		"check":             {checks(`"http.can_connect".over("instance:x").by("instance","url").last(4).count_by_status()`, object{"critical": 3, "ok": 2}), ""},
		"check counts":      {checks(`"http.can_connect".over("instance:x").last(2).count_by_status()`, object{"critical": 3}), "number of last checks"},
		"check grammar":     {checks(`"http.can_connect".over("instance:x").last(2)`, object{"critical": 1}), "unable to parse the service check"},
		"burn":              {sloAlert(slo, burn+"14.4", 14.4), ""},
		"burn of no slo":    {sloAlert("no", burn+"14.4", 14.4), "SLO no does not exist"},
		"burn too high":     {sloAlert(slo, burn+"21.6", 21.6), "exceeds the maximum of 20"},
		"burn over":         {sloAlert(slo, `burn_rate("%s").over("7d").long_window("1h").short_window("5m") > 3`, 3), "timeframe 7d is not one of the SLO's"},
		"burn window":       {sloAlert(slo, `burn_rate("%s").over("30d").long_window("72h").short_window("6h") > 3`, 3), "from 1h to 48h"},
		"burn windows":      {sloAlert(slo, `burn_rate("%s").over("30d").long_window("1h").short_window("1h") > 3`, 3), "shorter"},
		"budget":            {sloAlert(slo, `error_budget("%s").over("90d") > 75`, 75), ""},
		"budget over":       {sloAlert(slo, `error_budget("%s").over("90d") > 175`, 175), "not from 0 to 100"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, path := range []string{"/api/v1/monitor/validate", "/api/v1/monitor"} {
				got := call(t, s, "POST", path, test.payload)
				if test.message == "" {
					want(t, got, 200)
				} else if want(t, got, 400); !strings.Contains(fmt.Sprint(got.errors()), test.message) {
					t.Errorf("%s: %v, want %q", path, got.errors(), test.message)
				}
			}
		})
	}
}

func TestRefusedSLOs(t *testing.T) {
	t.Parallel()
	s := monitortest.New(t)
	monitor := s.Seed(declare.Monitor, aMonitor())
	slice := object{"type": "time_slice", "name": "Errors", "thresholds": []any{object{"timeframe": "30d", "target": 95}},
		"sli_specification": object{"time_slice": object{"comparator": "<=", "threshold": 10, "query_interval_seconds": 60, "query": object{
			"formulas": []any{object{"formula": "default_zero(errors)"}},
			"queries":  []any{object{"data_source": "metrics", "name": "errors", "query": "sum:latam.errors{env:prod}.as_count()"}}}}}}
	const spec = "sli_specification/time_slice/"
	thresholds := func(t ...any) []any { return append([]any{}, t...) }
	for name, test := range map[string]struct {
		payload object
		message string
	}{
		"count":            {anSLO(), ""},
		"slice":            {slice, ""},
		"monitor":          {object{"type": "monitor", "name": "M", "thresholds": slice["thresholds"], "monitor_ids": []any{jsonNumber(monitor)}}, ""},
		"no monitor":       {object{"type": "monitor", "name": "M", "thresholds": slice["thresholds"]}, "must specify monitor_ids"},
		"unknown monitor":  {object{"type": "monitor", "name": "M", "thresholds": slice["thresholds"], "monitor_ids": []any{5}}, "monitor 5 does not exist"},
		"no name":          {with(anSLO(), "name", " "), "Minimum length of parameter 'name' should be 1"},
		"no query":         {with(anSLO(), "sli_specification", nil), "must specify the query for count types"},
		"unknown field":    {with(anSLO(), "tag", "a"), "('tag' was unexpected)"},
		"year":             {with(anSLO(), "thresholds", thresholds(object{"timeframe": "365d", "target": 95})), "365d is not one of"},
		"no thresholds":    {with(anSLO(), "thresholds", thresholds()), "at least one threshold"},
		"twice":            {with(slice, "thresholds", thresholds(object{"timeframe": "30d", "target": 95}, object{"timeframe": "30d", "target": 96})), "must be different"},
		"all":              {with(slice, "thresholds", thresholds(object{"timeframe": "30d", "target": 100})), "between 0 and 100"},
		"decimals":         {with(slice, "thresholds", thresholds(object{"timeframe": "30d", "target": 99.9999})), "at most 3 decimals"},
		"warning":          {with(slice, "thresholds", thresholds(object{"timeframe": "30d", "target": 95, "warning": 94})), "warning 94"},
		"primary":          {with(anSLO(), "timeframe", "7d"), "not those of a threshold"},
		"interval":         {with(slice, spec+"query_interval_seconds", 30), "30 is not one of [60, 300]"},
		"comparator":       {with(slice, spec+"comparator", "=="), "== is not one of"},
		"two formulas":     {with(slice, spec+"query/formulas", []any{object{"formula": "errors"}, object{"formula": "errors"}}), "exactly one formula"},
		"unknown query":    {with(slice, spec+"query/formulas", []any{object{"formula": "faults"}}), `unknown query "faults"`},
		"both totals":      {with(anSLO(), "sli_specification/count/total_events_formula", object{"formula": "good"}), "one of bad_events_formula and total_events_formula"},
		"upper case tag":   {with(anSLO(), "tags", []any{"A:b"}), "Invalid tag"},
		"not a count":      {with(anSLO(), "sli_specification/count/queries", []any{object{"data_source": "metrics", "name": "good", "query": "avg:a.b{*}"}}), "is not a count"},
		"nested reference": {with(anSLO(), "description", "${ref:slo.x}"), "has a placeholder"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := call(t, s, "POST", "/api/v1/slo", test.payload)
			if test.message == "" {
				want(t, got, 200)
			} else if want(t, got, 400); !strings.Contains(fmt.Sprint(got.errors()), "Invalid payload: ") || !strings.Contains(fmt.Sprint(got.errors()), test.message) {
				t.Errorf("%v, want %q", got.errors(), test.message)
			}
		})
	}
}

func TestRefusedDashboards(t *testing.T) {
	t.Parallel()
	s := monitortest.New(t)
	widget := func(definition object) []any { return []any{object{"definition": definition}} }
	for name, test := range map[string]struct {
		payload object
		message string
	}{
		"plain":           {aDashboard(""), ""},
		"env tag":         {with(aDashboard(""), "tags", []any{"env:prod"}), "Invalid tag format. Valid tag keys are: team."},
		"unknown field":   {with(aDashboard(""), "widget", 1), "('widget' was unexpected)"},
		"layout":          {with(aDashboard(""), "layout_type", "grid"), "unable to parse"},
		"no title":        {with(aDashboard(""), "title", ""), "'title' is required"},
		"unknown slo":     {aDashboard("abc"), "SLO abc does not exist"},
		"unknown monitor": {with(aDashboard(""), "widgets", widget(object{"type": "alert_graph", "alert_id": "12", "viz_type": "timeseries"})), `monitor "12" does not exist`},
		"no type":         {with(aDashboard(""), "widgets", widget(object{"content": "x"})), "'type' is a required property"},
		"reference":       {with(aDashboard(""), "widgets", widget(object{"type": "note", "content": "${ref:slo.x}"})), "has a placeholder"},
		"no place":        {with(aDashboard(""), "reflow_type", "fixed"), "has no layout"},
		"too wide": {with(aDashboard(""), "widgets", []any{object{"definition": object{"type": "note", "content": "x"},
			"layout": object{"x": 6, "y": 0, "width": 7, "height": 1}}}), "12 columns"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := call(t, s, "POST", "/api/v1/dashboard", test.payload)
			if test.message == "" {
				want(t, got, 200)
			} else if want(t, got, 400); !strings.Contains(fmt.Sprint(got.errors()), test.message) {
				t.Errorf("%v, want %q", got.errors(), test.message)
			}
		})
	}
}

package simulate

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/monitor/query"
)

// message is what the compiler makes of texts for all events.
const message = `{{#is_alert}}{{^is_renotify}}Bad: {{value}} {{comparator}} {{threshold}} @page {{/is_renotify}}{{/is_alert}}
{{#is_warning}}Hm: {{value}} @chat {{/is_warning}}
{{#is_no_data}}Nothing @chat {{/is_no_data}}
{{#is_renotify}}Still {{value}} @page {{/is_renotify}}
{{#is_recovery}}Fine @chat {{/is_recovery}}
Runbook: x`

// monitor makes an object as the compiler does. options are JSON.
func monitor(t testing.TB, name, kind, text, options string) *declare.Object {
	t.Helper()
	q, err := query.Parse(kind, text)
	if err != nil {
		t.Fatal(err)
	}
	o := &declare.Object{
		Key: declare.Key{Kind: declare.Monitor, Name: name}, Query: q, Base: name,
		Payload: map[string]any{"type": kind, "query": text, "message": message, "tags": []any{}},
		Notify: map[declare.Event][]string{
			declare.OnAlert: {"@page"}, declare.OnWarning: {"@chat"}, declare.OnNoData: {"@chat"}, declare.OnRecovery: {"@chat"}, declare.OnRenotify: {"@page"},
		},
		Roles: map[declare.Event][]string{declare.OnAlert: {"page"}, declare.OnWarning: {"chat"}, declare.OnRecovery: {"chat"}},
	}
	if options != "" {
		var parsed map[string]any
		if err := json.Unmarshal([]byte(options), &parsed); err != nil {
			t.Fatal(err)
		}
		o.Payload["options"] = parsed
	}
	return o
}

// loadText reads one file of tests.
func loadText(set *declare.Set, text string) ([]Test, error) {
	return load(set, names{"env": "prod", "cluster": "c1"}, []names{{"each.name": "flights"}, {"each.name": "hotels"}},
		folder{files: fstest.MapFS{"tests/t.yaml": {Data: []byte(text)}}, dir: "monitors", own: true})
}

// timeline runs a monitor on series, given as name = points, and returns what happened.
func timeline(t *testing.T, set *declare.Set, target, series string) (string, Result) {
	t.Helper()
	kind, name, _ := strings.Cut(target, " ")
	text := "version: 1\ntests:\n  - name: x\n    " + kind + ": " + name + "\n    expect: [{at: 0, notified: []}]\n    series:\n"
	lines := strings.Split(strings.TrimSpace(series), "\n")
	interval := ""
	for _, l := range lines {
		l = strings.TrimSpace(l)
		if strings.HasPrefix(l, "interval ") {
			interval = "    interval: " + l[len("interval "):] + "\n"
			continue
		}
		metric, points, ok := strings.Cut(l, " = ")
		if !ok {
			t.Fatalf("series %q", l)
		}
		text += "      \"" + metric + "\": \"" + points + "\"\n"
	}
	text += interval
	text = strings.Replace(text, "    expect: [{at: 0, notified: []}]\n", "    expect: [{at: 0, message_contains: \"\", notified: [x]}]\n", 1)
	tests, err := loadText(set, text)
	if err != nil {
		t.Fatal(err)
	}
	r := run(set, &tests[0])
	var out []string
	for _, tr := range r.Timeline {
		tr.Monitor, tr.Roles = strings.TrimPrefix(tr.Monitor, name), nil
		out = append(out, tr.String())
	}
	if len(out) == 0 {
		return r.Reason, r
	}
	return strings.Join(out, "\n"), r
}

type semantic struct {
	name, kind, query, options, series, want string
}

// Each case is one rule of docs/monitors-test.md.
func semantics() []semantic {
	const q = "query alert"
	return []semantic{
		{"the window ends now and begins after now-window", q, "max(last_5m):sum:m{*} > 10", `{"thresholds":{"critical":10}}`,
			"m{} = 0x5 11 0x12",
			"0s: new → ok (0)\n6m: ok → alert (11), told @page\n11m: alert → ok (0), told @chat"},
		{"before the first point a series had its first value", q, "sum(last_5m):sum:m{*}.as_count() < 40", `{"thresholds":{"critical":40}}`,
			"m{} = 10x3 5x5",
			"0s: new → ok (50)\n6m: ok → alert (35), told @page"},
		{"a threshold is not reached by its own value", q, "avg(last_1m):avg:m{*} > 10", `{"thresholds":{"critical":10}}`,
			"m{} = 10 10.5 10",
			"0s: new → ok (10)\n1m: ok → alert (10.5), told @page\n2m: alert → ok (10), told @chat"},
		{"at least is reached by it", q, "avg(last_1m):avg:m{*} >= 10", `{"thresholds":{"critical":10}}`,
			"m{} = 9 10", "0s: new → ok (9)\n1m: ok → alert (10), told @page"},
		{"below", q, "avg(last_1m):avg:m{*} < 10", `{"thresholds":{"critical":10,"warning":20}}`,
			"m{} = 30 15 5", "0s: new → ok (30)\n1m: ok → warning (15), told @chat\n2m: warning → alert (5), told @page"},
		{"recovery thresholds keep a state until they are crossed", q, "avg(last_1m):avg:m{*} > 10", `{"thresholds":{"critical":10,"critical_recovery":5,"warning":7,"warning_recovery":3}}`,
			"m{} = 0 11 6 5 4 3 8 7 4 3",
			"0s: new → ok (0)\n1m: ok → alert (11), told @page\n3m: alert → warning (5), told @chat\n5m: warning → ok (3), told @chat\n6m: ok → warning (8), told @chat\n9m: warning → ok (3), told @chat"},
		{"evaluation_delay shifts the window into the past", q, "max(last_1m):avg:m{*} > 10", `{"thresholds":{"critical":10},"evaluation_delay":150}`,
			"m{} = 0 11 0x5", "0s: new → ok (0)\n4m: ok → alert (11), told @page\n5m: alert → ok (0), told @chat"},
		{"missing counts are 0 by default", q, "sum(last_2m):sum:m{*}.as_count() < 1", `{"thresholds":{"critical":1},"on_missing_data":"default"}`,
			"m{} = 5 5 _x3 5", "0s: new → ok (10)\n3m: ok → alert (0), told @page\n5m: alert → ok (5), told @chat"},
		{"missing values are as they were by default", q, "avg(last_2m):avg:m{*} > 1", `{"thresholds":{"critical":1},"on_missing_data":"default"}`,
			"m{} = 0 5 _x5 0 0", "0s: new → ok (0)\n1m: ok → alert (2.5), told @page\n7m: alert → ok (0), told @chat"},
		{"counts with default_zero are as they were by default, and never missing", q, "sum(last_2m):default_zero(sum:m{*}.as_count()) < 1", `{"thresholds":{"critical":1},"on_missing_data":"default"}`,
			"m{} = 5 _x3", "0s: new → ok (10)\n2m: ok → alert (0), told @page"},
		{"show_no_data is not told", q, "avg(last_2m):avg:m{*} > 1", `{"thresholds":{"critical":1},"on_missing_data":"show_no_data"}`,
			"m{} = 5 _x3 0", "0s: new → alert (5), told @page\n2m: alert → no_data (5)\n4m: no_data → ok (0)"},
		{"show_and_notify_no_data is told, its end as well", q, "avg(last_2m):avg:m{*} > 1", `{"thresholds":{"critical":1},"on_missing_data":"show_and_notify_no_data"}`,
			"m{} = 0 _x3 0", "0s: new → ok (0)\n2m: ok → no_data (0), told @chat\n4m: no_data → ok (0), told @chat"},
		{"resolve is ok without data", q, "avg(last_2m):avg:m{*} > 1", `{"thresholds":{"critical":1},"on_missing_data":"resolve"}`,
			"m{} = 5 _x3", "0s: new → alert (5), told @page\n2m: alert → ok (5), told @chat"},
		{"notify_no_data waits for no_data_timeframe", q, "avg(last_1m):avg:m{*} > 1", `{"thresholds":{"critical":1},"notify_no_data":true,"no_data_timeframe":3}`,
			"m{} = 0 0 _x5", "0s: new → ok (0)\n4m: ok → no_data (0), told @chat"},
		{"timeout_h ends an alert without data", q, "avg(last_1m):avg:m{*} > 1", `{"thresholds":{"critical":1},"timeout_h":1}`,
			"m{} = 5 _x70", "0s: new → alert (5), told @page\n1h: alert → ok (5), told @chat"},
		{"renotify_interval repeats, renotify_occurrences limits it", q, "avg(last_1m):avg:m{*} > 1", `{"thresholds":{"critical":1},"renotify_interval":2,"renotify_occurrences":2}`,
			"m{} = 5x9", "0s: new → alert (5), told @page\n2m: still alert (5), told @page\n4m: still alert (5), told @page"},
		{"renotify_statuses say of what", q, "avg(last_1m):avg:m{*} > 9", `{"thresholds":{"critical":9,"warning":1},"renotify_interval":2,"renotify_statuses":["warn"]}`,
			"m{} = 5x2 10x4", "0s: new → warning (5), told @chat\n2m: still warning (5), told @chat, @page\n3m: warning → alert (10), told @page"},
		{"groups have states of their own", q, "avg(last_1m):avg:m{*} by {host} > 1", `{"thresholds":{"critical":1}}`,
			"m{host:a} = 0 5\nm{host:b} = 5 0",
			"0s: new → ok (0) host:a\n0s: new → alert (5) host:b, told @page\n1m: ok → alert (5) host:a, told @page\n1m: alert → ok (0) host:b, told @chat"},
		{"new_group_delay leaves groups alone that appear", q, "avg(last_1m):avg:m{*} by {host} > 1", `{"thresholds":{"critical":1},"new_group_delay":120}`,
			"m{host:a} = 0x9\nm{host:b} = _x3 5x9", "0s: new → ok (0) host:a\n5m: new → alert (5) host:b, told @page"},
		{"require_full_window waits for groups that appear", q, "avg(last_3m):avg:m{*} by {host} > 1", `{"thresholds":{"critical":1},"require_full_window":true}`,
			"m{host:a} = 0x9\nm{host:b} = _x3 5x9", "0s: new → ok (0) host:a\n5m: new → alert (5) host:b, told @page"},
		{"a ratio of counts is that of the sums of the window", q, "sum(last_2m):100 * sum:bad{*}.as_count() / sum:all{*}.as_count() > 20", `{"thresholds":{"critical":20}}`,
			"bad{} = 0 9 1\nall{} = 10 10 90", "0s: new → ok (0)\n1m: ok → alert (45), told @page\n2m: alert → ok (10), told @chat"},
		{"a ratio of rates is the sum of the ratios", q, "sum(last_2m):sum:bad{*}.as_rate() / sum:all{*}.as_rate() > 0.8", `{"thresholds":{"critical":0.8}}`,
			"bad{} = 0 9 1\nall{} = 10 10 90", "0s: new → ok (0)\n1m: ok → alert (0.9), told @page"},
		{"a count that is missing beside one that is not is 0", q, "sum(last_1m):sum:bad{*}.as_count() / sum:all{*}.as_count() > 0.5", `{"thresholds":{"critical":0.5}}`,
			"bad{} = 9 _\nall{} = 10 10", "0s: new → alert (0.9), told @page\n1m: alert → ok (0), told @chat"},
		{"a value that is missing beside one that is not has no result", q, "avg(last_1m):avg:used{*} / avg:all{*} > 0.5", `{"thresholds":{"critical":0.5},"on_missing_data":"show_no_data"}`,
			"used{} = 9 _\nall{} = 10 10", "0s: new → alert (0.9), told @page\n1m: alert → no_data (0.9)"},
		{"default_zero makes 0 of it, for the groups of the other side as well", q, "avg(last_1m):default_zero(avg:used{*} by {host}) / avg:all{*} by {host} > 0.5", `{"thresholds":{"critical":0.5}}`,
			"used{host:a} = 9 _\nall{host:a} = 10 10\nall{host:b} = 10 10", "0s: new → alert (0.9) host:a, told @page\n0s: new → ok (0) host:b\n1m: alert → ok (0) host:a, told @chat"},
		{"a ratio without data is as it was, for it has default_zero", q, "sum(last_1m):default_zero(sum:bad{*}.as_count()) / sum:all{*}.as_count() > 0.5", `{"thresholds":{"critical":0.5},"on_missing_data":"default"}`,
			"bad{} = 9 _ _\nall{} = 10 _ 10", "0s: new → alert (0.9), told @page\n2m: alert → ok (0), told @chat"},
		{"a ratio of counts without data is 0", q, "sum(last_1m):sum:bad{*}.as_count() / sum:all{*}.as_count() > 0.5", `{"thresholds":{"critical":0.5},"on_missing_data":"default"}`,
			"bad{} = 9 _\nall{} = 10 _", "0s: new → alert (0.9), told @page\n1m: alert → ok (0), told @chat"},
		{"what is too large is missing", q, "avg(last_1m):sum:m{*} * 10 > 5", `{"thresholds":{"critical":5},"on_missing_data":"show_no_data"}`,
			"m{} = 1 1e308", "0s: new → alert (10), told @page\n1m: alert → no_data (10)"},
		{"the rollup of a count is its sum, of a value its average", q, "max(last_2m):sum:m{*}.as_count().rollup(120) - avg:m{*}.rollup(120) > 5", `{"thresholds":{"critical":5}}`,
			"m{} = 6x3", "0s: new → ok (0)\n1m: ok → alert (6), told @page\n2m: alert → ok (0), told @chat\n3m: ok → alert (6), told @page"},
		{"exclude_null drops groups without a tag", q, "avg(last_1m):exclude_null(avg:m{*} by {host}) > 5", `{"thresholds":{"critical":5}}`,
			"m{host:a} = 6\nm{} = 6", "0s: new → alert (6) host:a, told @page"},
		{"without it they are the group n/a", q, "avg(last_1m):avg:m{*} by {host} > 5", `{"thresholds":{"critical":5}}`,
			"m{} = 6", "0s: new → alert (6) host:n/a, told @page"},
		{"nothing is divided by 0", q, "avg(last_1m):avg:used{*} / avg:all{*} > 0.5", `{"thresholds":{"critical":0.5},"on_missing_data":"show_no_data"}`,
			"used{} = 9 9\nall{} = 10 0", "0s: new → alert (0.9), told @page\n1m: alert → no_data (0.9)"},
		{"a side without groups goes with every group", q, "avg(last_1m):avg:used{*} by {host} / avg:all{*} > 0.5", `{"thresholds":{"critical":0.5}}`,
			"used{host:a} = 9\nused{host:b} = 1\nall{} = 10", "0s: new → alert (0.9) host:a, told @page\n0s: new → ok (0.1) host:b"},
		{"rollup makes buckets; the newest holds what has come", q, "max(last_5m):sum:m{*}.as_count().rollup(sum, 120) > 10", `{"thresholds":{"critical":10}}`,
			"interval 30s\nm{} = 0 0 0 0 4 4 4 0x20", "0s: new → ok (0)\n3m: ok → alert (12), told @page\n7m: alert → ok (0), told @chat"},
		{"as_rate is for a second", q, "avg(last_1m):sum:m{*}.as_rate() > 1.9", `{"thresholds":{"critical":1.9}}`,
			"m{} = 60 120", "0s: new → ok (1)\n1m: ok → alert (2), told @page"},
		{"fill(last) repeats for as long as its limit", q, "sum(last_3m):sum:m{*}.fill(last, 60) > 14", `{"thresholds":{"critical":14}}`,
			"m{} = _ 5 _ _ 5 5 _", "1m: new → ok (5)\n6m: ok → alert (15), told @page"},
		{"fill(zero) fills", q, "avg(last_2m):sum:m{*}.fill(zero) > 4", `{"thresholds":{"critical":4}}`,
			"m{} = 5 _ 9", "0s: new → alert (5), told @page\n1m: alert → ok (2.5), told @chat\n2m: ok → alert (4.5), told @page"},
		{"filters have not, or, lists and *", q, "sum(last_1m):sum:m{env:prod AND NOT stage:x AND (code:5* OR code IN (429,430))} > 2", `{"thresholds":{"critical":2}}`,
			"m{env:prod,code:503} = 1\nm{env:prod,code:429} = 1\nm{env:prod,code:500,stage:x} = 1\nm{env:prod,code:200} = 1\nm{env:dev,code:503} = 1\nm{env:PROD,code:599} = 1",
			"0s: new → alert (3), told @page"},
		{"commas join, ! is not", q, "sum(last_1m):sum:m{env:prod,!stage:x} > 1", `{"thresholds":{"critical":1}}`,
			"m{env:prod} = 1\nm{env:prod,stage:y} = 1\nm{env:prod,stage:x} = 1\nm{stage:z} = 1", "0s: new → alert (2), told @page"},
		{"change is the difference from the window before", q, "change(avg(last_1m),last_2m):avg:m{*} > 5", `{"thresholds":{"critical":5}}`,
			"m{} = 1 1 7 7 7", "0s: new → ok (0)\n2m: ok → alert (6), told @page\n4m: alert → ok (0), told @chat"},
		{"pct_change is it in percent", q, "pct_change(avg(last_1m),last_1m):avg:m{*} < -50", `{"thresholds":{"critical":-50}}`,
			"m{} = 10 4", "0s: new → ok (0)\n1m: ok → alert (-60), told @page"},
		{"percentiles are of all values", q, "avg(last_1m):p95:m{*} > 0.1", `{"thresholds":{"critical":0.1}}`,
			"m{host:a} = {0.04:95 0.2:5} {0.04:94 0.2:6}\nm{host:b} = {0.04:1}x1", "0s: new → ok (0.04)\n1m: ok → alert (0.2), told @page"},
		{"count(v: …) counts values by a bound", q, "sum(last_2m):count(v: v>0.1):m{*}.as_count() > 9", `{"thresholds":{"critical":9}}`,
			"m{} = {0.1:95 0.2:4} {0.04:94 0.2:6}", "0s: new → ok (8)\n1m: ok → alert (10), told @page"},
		{"count: counts all, which may be given as numbers", q, "sum(last_2m):count:m{*}.as_count() > 15", `{"thresholds":{"critical":15}}`,
			"m{} = 6 10", "0s: new → ok (12)\n1m: ok → alert (16), told @page"},
		{"avg of a distribution is that of the values", q, "avg(last_1m):avg:m{*} > 0.1", `{"thresholds":{"critical":0.1}}`,
			"m{} = {0.04:9 0.2:1} {0.04:1 0.2:1}", "0s: new → ok (0.056)\n1m: ok → alert (0.12), told @page"},
		{"functions", q, "sum(last_3m):clamp_max(abs(diff(sum:m{*})), 6) > 7", `{"thresholds":{"critical":7}}`,
			"m{} = 1 1 4 -6", "0s: new → ok (0)\n3m: ok → alert (9), told @page"},
		{"a service check counts equal statuses in a row", "service check", `"s".over("env:prod").by("host").last(4).count_by_status()`, `{"thresholds":{"critical":3,"warning":2,"ok":2}}`,
			"s{env:prod,host:a} = 0 2 2 0 2 _ 2 2 3 0 0 1 1\ns{env:dev,host:b} = 2x9",
			"0s: new → ok host:a\n7m: ok → alert host:a, told @page\n10m: alert → ok host:a, told @chat\n12m: ok → warning host:a, told @chat"},
		{"a service check that is new", "service check", `"s".over("*").by("host").last(4).count_by_status()`, `{"thresholds":{"critical":2,"ok":1}}`,
			"s{host:a} = _ 2 _ 2", "3m: new → alert host:a, told @page"},
		{"a service check without news", "service check", `"s".over("*").by("host").last(2).count_by_status()`, `{"thresholds":{"critical":1,"ok":1},"notify_no_data":true,"no_data_timeframe":2}`,
			"s{host:a} = 0 _x4 2", "0s: new → ok host:a\n2m: ok → no_data host:a, told @chat\n5m: no_data → alert host:a, told @page"},
	}
}

func TestSemantics(t *testing.T) {
	t.Parallel()
	for _, c := range semantics() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			set := &declare.Set{Objects: []*declare.Object{monitor(t, "m", c.kind, c.query, c.options)}}
			if got, _ := timeline(t, set, "monitor m", c.series); got != c.want {
				t.Errorf("%s\n%s\ngot\n%s\nwant\n%s", c.query, c.series, got, c.want)
			}
		})
	}
}

package declare_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/strictyaml"
)

// fault is a mistake in small, and what is said about it.
type fault struct {
	old, new  string // what is replaced in small
	file, own string // or whole files
	want      string // the first fault with its place
	hint      string
}

func (f fault) files() (builtIn, own string) {
	if f.file == "" {
		f.file = strings.Replace(small, f.old, f.new, 1)
	}
	return f.file, f.own
}

const (
	errorsQuery = `"max(last_5m):default_zero( sum:latam.errors{env:${env}}.as_count().rollup(sum, 60) )>${critical}"`
	limits      = `thresholds: {critical: "${limit}", warning: 7, critical_recovery: 5}`
	pageProfile = `page: {extends: base, renotify_interval: 30, renotify_occurrences: 4, renotify_statuses: [alert]}`
)

// errorsWith adds keys to the monitor errors.
func errorsWith(keys, want, hint string) fault {
	return fault{old: "    title: Errors\n", new: "    title: Errors\n    " + keys + "\n", want: want, hint: hint}
}

// option gives the monitor errors other options.
func option(options, want, hint string) fault {
	return fault{old: "options: {evaluation_delay: 60}", new: "options: {" + options + "}", want: want, hint: hint}
}

func faults() []fault {
	return slices.Concat(formFaults(), nameFaults(), queryFaults(), optionFaults(), messageFaults(), sloFaults(), dashboardFaults())
}

// formFaults are about the form of the files.
func formFaults() []fault {
	return []fault{
		{file: "- 1", want: "small.yaml:1:1: expected a map", hint: `begins with "version: 1"`},
		{file: "monitors: {}", want: `small.yaml:1:1: the key "version" is missing`},
		{old: "version: 1", new: "version: 2", want: "small.yaml:1:10: version must be 1, got the number 2"},
		{old: "version: 1", new: `version: "${env}"`, want: "small.yaml:1:10: version must be a whole number"},
		{old: "values:", new: "vales:", want: `small.yaml:3:1: unknown key "vales"`, hint: `did you mean "values"?`},
		errorsWith("titel: Errors", `small.yaml:31:5: unknown key "titel" in monitor errors`, `did you mean "title"?`),
		errorsWith("type: metric alert", "small.yaml:31:11: type in monitor errors must be one of query alert,", "write query alert"),
		errorsWith("type: query alerts", "small.yaml:31:11: type in monitor errors must be one of query alert,", `did you mean "query alert"?`),
		{old: "priority: 1", new: "priority: 6", want: "small.yaml:31:15: priority in monitor errors must be 1 to 5, got the number 6"},
		{old: "priority: 1", new: "priority: 1.5", want: "small.yaml:31:15: priority in monitor errors must be a whole number"},
		{old: limits, new: "thresholds: {critical: .nan}", want: "small.yaml:34:28: thresholds.critical in monitor errors must be a number"},
		{old: limits, new: `thresholds: {critical: "10"}`, want: `thresholds.critical in monitor errors must be a number, got the text "10"`},
		{old: "    title: Errors\n", new: "", want: `small.yaml:29:3: the key "title" is missing in monitor errors`},
		{old: `title: "Zone ${each.value}"`, new: "title: 3", want: "title in monitor zone must be text", hint: "put it in quotes"},
		{old: "errors:\n", new: "Errors:\n", want: `the name "Errors" in monitors has an unexpected form`, hint: "write it like ingest-errors"},
		option("silenced: {}", `unknown key "silenced" in options in monitor errors`, ""),
		option("timeout_h: -1", "options.timeout_h in monitor errors must be at least 0", ""),
		option("renotify_statuses: [warning]", "an entry of options.renotify_statuses in monitor errors must be one of alert, warn, no data", "write warn"),
		{old: `tags: ["area:application"]`, new: `tags: ["Area:application"]`, want: "an entry of tags in monitor errors has an unexpected form", hint: "team:data"},
		{old: "runbook: true}\n    tags", new: "runbook: yes please}\n    tags", want: "message.runbook in monitor errors has an unexpected form"},
		{old: "{shop: a}", file: strings.Replace(small, "type: count,", "type: counter,", 1), want: "type in metric shop.orders must be one of count,", hint: `"count"`},
		{old: "critical: 5}", new: "critical: 5, critical: 6}", want: `duplicate key "critical"`},
		{old: "    targets: {7d: 99}\n", new: "    targets: {}\n", want: "targets in slo orders is empty"},
		{old: "targets: {7d: 99}", new: "targets: {365d: 99}", want: `unknown key "365d" in targets in slo orders`},
		{old: "seconds: 60", new: "seconds: 90", want: "slices.seconds in slo minutes must be 60 or 300"},
	}
}

// nameFaults are about names and what they name.
func nameFaults() []fault {
	return []fault{
		{old: "title: Errors\n", new: "title: \"${environment}\"\n", want: "small.yaml:30:12: nothing is called ${environment} in monitor errors"},
		{old: "title: Errors\n", new: "title: \"${regoin}\"\n", want: "nothing is called ${regoin} in monitor errors", hint: `did you mean "region"?`},
		{old: "title: Errors\n", new: "title: \"${each.key}\"\n", want: "nothing is called ${each.key}", hint: "for_each"},
		{old: "title: Errors\n", new: "title: \"a ${warning_recovery}\"\n", want: "nothing is called ${warning_recovery}", hint: "give it in thresholds"},
		{old: "title: Errors\n", new: "title: \"a ${env\"\n", want: "a ${ in monitor errors has no matching }", hint: "$${"},
		{old: "title: Errors\n", new: "title: \"a ${zones}\"\n", want: "${zones} in monitor errors is a list or a map"},
		{old: "${each.name}: silent", new: "${each.tabel}", want: "nothing is called ${each.tabel}", hint: `did you mean "each.table"?`},
		{old: "values: {limit: 10,", new: "values: {limit: 10, region: x,", want: `the name "region" is taken`},
		{old: "values: {limit: 10,", new: "values: {limit: 10, critical: 1,", want: `the name "critical" is taken`},
		{old: "params: {workload: null,", new: "params: {workload: null, env: x,", want: `the name "env" of a parameter is taken`},
		{old: "profile: page", new: "profile: [page, pag]", want: `there is no profile "pag"`, hint: `did you mean "page"?`},
		{old: "base: {include", new: "base: {extends: page, include", want: "profile page extends itself over others"},
		{old: "page: {extends: base,", new: "page: {extends: bas,", want: `there is no profile "bas"`, hint: `"base"`},
		{old: "extends: errors", new: "extends: error", want: `there is no monitor "error" to extend in monitor orders`, hint: `"errors"`},
		{old: "extends: errors", new: "extends: orders", want: `there is no monitor "orders" to extend`},
		{old: "    title: Errors\n", new: "    title: Errors\n    extends: orders\n", want: "extends itself over others"},
		{old: "template: workload, with: {workload: latam-serve}", new: "template: workloads, with: {}", want: `there is no template "workloads"`, hint: `"workload"`},
		{old: "with: {workload: latam-serve}", new: "with: {most: 3}", want: "small.yaml:26:3: the parameter workload of template workload is missing in use serve"},
		{old: "with: {workload: latam-serve}", new: "with: {workload: a, least: 3}", want: `template workload has no parameter "least"`},
		{old: "use:\n  serve:", new: "use:\n  ingest:", want: `small.yaml:27:3: duplicate key "ingest"`},
		{old: "${ref:monitor.errors} &&", new: "${ref:monitor.eror} &&", want: `there is no monitor "eror", which monitor both names`, hint: `"errors"`},
		{old: "${ref:monitor.errors} &&", new: "${ref:monitor.silent} &&", want: `there is no monitor "silent"`, hint: "for each of its for_each"},
		{old: "${ref:monitor.errors} &&", new: "${ref:Errors} &&", want: `the reference "Errors" in monitor both has an unexpected form`},
		{old: "${ref:monitor.errors} &&", new: "${ref:slo.minutes} &&", want: "expected a reference ${ref:monitor.NAME}"},
		{old: "${ref:monitor.errors} &&", new: "${ref:monitor.both-high} &&", want: "objects name each other: monitor.both-high → monitor.both-high"},
		{old: "message: {alert: \"Above", new: "message: {warning: \"${ref:slo.none}\", alert: \"Above", want: "names slo.none, which there is not"},
		{old: "no_data: silent\n", new: "no_data: silence\n", want: `there is no monitor "silence", which slo latency names`},
		{old: "for_each: \"${zones}\"", new: "for_each: [a, {b: 1}]", want: "an entry of for_each in monitor zone must be text or a number"},
		{old: "for_each: \"${zones}\"", new: "for_each: \"${limit}\"", want: "for_each in monitor zone must be the word datasets, a list or a map"},
		{old: "for_each: \"${zones}\"", new: "for_each: dataset", want: "for_each in monitor zone must be one of datasets", hint: `"datasets"`},
		{old: "for_each: \"${zones}\"", new: "for_each: [A]", want: `the key "A" of for_each in monitor zone becomes a part of a name`},
		{old: "zones: [b, c]", new: "zones: [b, b]", want: "monitor.zone-b comes of"},
		{old: "title: \"Zone ${each.value}\"", new: "title: Zone", want: "the title of monitor.zone-c is that of monitor.zone-b as well"},
		{old: "title: Orders\n", new: "title: Errors\n", want: "the title of monitor.orders is that of monitor.errors as well"},
		{old: "title: Errors\n", new: "title: " + strings.Repeat("long ", 41) + "\n", want: "the title in monitor errors has 211 characters"},
		{old: "tags: [team:data]", new: `tags: ["managed_by:me"]`, want: "the tag managed_by:me in monitors/small.yaml is for latamctl itself"},
		{old: "tags: [team:data]", new: `tags: ["env:dev"]`, want: "the tag env:dev in monitors/small.yaml is not that of environment prod"},
		{own: "version: 1\nmonitors: {errors: {title: a}}", file: small, want: `own/mine.yaml:2:12: the key "query" is missing in monitor errors`},
	}
}

// queryFaults are about queries and thresholds.
func queryFaults() []fault {
	query := func(text, want, hint string) fault {
		return fault{old: errorsQuery, new: `"` + text + `"`, want: want, hint: hint}
	}
	threshold := func(thresholds, want string) fault {
		return fault{old: limits, new: "thresholds: {" + thresholds + "}", want: want}
	}
	return []fault{
		query("max(last_5m) sum:latam.errors{*} > 10", "small.yaml:33:12: query in monitor errors: at character", ""),
		query("sum(last_5m):sum:latam.errors{*}.as_count() > 11", "small.yaml:33:12: the query in monitor errors compares with 11, and thresholds.critical is 10", "${critical}"),
		query("sum(last_5m):sum:latam.errors{*}.as_count() < 10", "warning in monitor errors must be above critical, because the query alerts at < 10; got 7", ""),
		query("sum(last_5m):sum:latam.eror{*}.as_count() > 10", `the query in monitor errors reads the metric "latam.eror", which nothing sends`, `did you mean "latam.errors"?`),
		query("sum(last_5m):sum:system.cpu.idel{*}.as_count() > 10", `reads the metric "system.cpu.idel", which nothing sends`, `did you mean "system.cpu.idle"?`),
		query("sum(last_5m):sum:latam.errors{dataset:a}.as_count() > 10", `reads latam.errors by the tag "dataset", which it does not have`, ""),
		query("sum(last_5m):sum:latam.errors{*} by {stagge}.as_count() > 10", `by the tag "stagge"`, `did you mean "stage"?`),
		query("sum(last_5m):p95:latam.errors{*} > 10", "asks for percentiles of latam.errors, which is no distribution", ""),
		query("avg(last_5m):p95:system.cpu.idle{*} > 10", "asks for percentiles of system.cpu.idle, which has none", ""),
		query("avg(last_15m):avg:gcp.bigtable.cluster.cpu_load{*} > 10", "gcp.* metrics come 7 to 8 minutes late, so they alone must not wake anybody up in monitor errors", "composite"),
		threshold("warning: 7", "nothing is called ${critical} in monitor errors"),
		{old: "${region}-${each.key}} < ${critical}\"\n    thresholds: {critical: 5}\n", new: "${region}-${each.key}} < 5\"\n", want: `the key "critical" in thresholds is missing in monitor zone`},
		threshold("critical: 10, warning: 10", "warning in monitor errors must be below critical"),
		threshold("critical: 10, warning: 7, critical_recovery: 12", "critical_recovery in monitor errors must be below critical"),
		threshold("critical: 10, warning: 7, warning_recovery: 8", "warning_recovery in monitor errors must be below warning"),
		threshold("critical: 10, warning: 7, ok: 1", "the threshold ok in monitor errors is for service checks"),
		{old: "thresholds: {critical: 3, warning: 2, ok: 2}", new: "thresholds: {critical: 5}", want: "critical in monitor check must be a number of checks from 1 to those that the query looks at, got 5 of 4"},
		{old: "type: composite\n", new: "type: composite\n    thresholds: {critical: 1}\n", want: "thresholds in monitor both are those of the monitors that it combines"},
		{old: "type: composite\n", new: "type: composite\n    options: {on_missing_data: default}\n", want: "on_missing_data in monitor both is not for the type composite"},
		{old: "${ref:monitor.errors} && !${ref:monitor.silent-flights}", new: "!${ref:monitor.errors}", want: "a composite combines 2 to 10 monitors, monitor both has 1"},
		{old: "    threshold_windows: {trigger_window: last_15m, recovery_window: last_15m}\n", new: "", want: "anomalies( in monitor usual needs threshold_windows"},
		errorsWith("threshold_windows: {trigger_window: last_15m, recovery_window: last_15m}", "threshold_windows in monitor errors are for anomalies", ""),
		errorsWith("threshold_windows: {trigger_window: 15m, recovery_window: last_15m}", "threshold_windows.trigger_window in monitor errors has an unexpected form", "last_15m"),
		burn(`burn_rate("${ref:slo.minutes}").over("30d").long_window("1h").short_window("5m") > ${critical}`, "21", "a target of 95 % cannot burn faster than 20 times, and monitor burn alerts at 21"),
		burn(`burn_rate("${ref:slo.minutes}").over("90d").long_window("1h").short_window("5m") > ${critical}`, "14", "slo minutes has no target over 90d"),
		burn(`error_budget("${ref:slo.minutes}").over("30d") > ${critical}`, "101", "error_budget in monitor burn must be compared with more than 0 and at most 100 percent"),
		burn(`error_budget("${ref:monitor.errors}").over("30d") > ${critical}`, "10", "expected a reference ${ref:slo.NAME}"),
		burn(`error_budget("${ref:slo.minutes}").over("30d") > 20`, "10", "the query in monitor burn compares with 20"),
	}
}

func burn(query, critical, want string) fault {
	return fault{old: "  check:\n", new: fmt.Sprintf("  burn: {title: Burn, type: slo alert, query: '%s', thresholds: {critical: %s}}\n  check:\n", query, critical), want: want}
}

func optionFaults() []fault {
	gone := "profile: heartbeat"
	return []fault{
		option("on_missing_data: show_no_data", "on_missing_data in monitor errors is show_no_data, and default_zero( leaves no window without data", ""),
		option("on_missing_data: default, notify_no_data: true", "on_missing_data in monitor errors does not go with notify_no_data", ""),
		option("on_missing_data: default, no_data_timeframe: 10", "on_missing_data in monitor errors does not go with no_data_timeframe", ""),
		option("timeout_h: 25", "timeout_h in monitor errors is at most 24, got 25", ""),
		option("new_host_delay: 1, new_group_delay: 1", "new_host_delay in monitor errors does not go with new_group_delay", ""),
		option("renotify_interval: 0", "renotify_occurrences in monitor errors means nothing without renotify_interval", ""),
		option("renotify_statuses: []", "renotify_interval in monitor errors does not say in which states", ""),
		option("group_retention_duration: 1h", "group_retention_duration in monitor errors is not for the type query alert", ""),
		option("enable_logs_sample: true", "enable_logs_sample in monitor errors is for the type log alert", ""),
		option("notify_by: [host]", `notify_by in monitor errors: the query does not group by "host"`, ""),
		{old: gone, new: "options: {on_missing_data: resolve, timeout_h: 1}", want: "on_missing_data in monitor silent: resolve does not go with timeout_h"},
		{old: "  check:\n", new: "  logs: {title: L, type: log alert, query: \"logs(x)\", thresholds: {critical: 1}, options: {no_data_timeframe: 10}}\n  check:\n",
			want: "no_data_timeframe in monitor logs is not for the type log alert"},
		{old: "profile: page", new: "profile: [page, warns]", want: `there is no profile "warns"`},
		{file: strings.NewReplacer("renotify_statuses: [alert]", "renotify_statuses: [alert, warn]", limits, `thresholds: {critical: "${limit}"}`, "warning: chat, ", "").Replace(small),
			want: "small.yaml:32:14: renotify_statuses in monitor errors has warn, and it never warns"},
		{old: limits, new: `thresholds: {critical: "${limit}"}`, want: "notify.warning in monitor errors is never told"},
		{old: gone, new: "priority: 3", want: "notify.no_data in monitor silent is never told"},
		{old: "    profile: page\n", new: "", want: "notify.renotify in monitor orders is never told"},
	}
}

func messageFaults() []fault {
	alert := func(text, want, hint string) fault {
		return fault{old: `alert: "{{value}} errors."`, new: `alert: "` + text + `"`, want: want, hint: hint}
	}
	return []fault{
		alert("{{host.name}}", "the text in monitor errors names {{host.name}}, and the query neither groups by host nor filters on it", "by {…}"),
		alert("{{http.route.name}}", `names "http.route.name" without brackets`, "{{[http.route].name}}"),
		alert("{{#is_alerts}}a{{/is_alerts}}", `has the condition "is_alerts", which Datadog does not know`, `"is_alert"`),
		alert("{{#is_alert}}a", `leaves the condition "is_alert" open`, "{{/is_alert}}"),
		alert("{{#is_alert}}a{{/is_warning}}", `closes "is_warning", which is not open`, ""),
		alert("{{valeu}}", `has the variable "valeu", which Datadog does not know`, `"value"`),
		alert("Call @slack-ops now", "has the handle @slack-ops", "notify"),
		{old: "alert: [page, ", new: "alert: [pager, ", want: `there is no role "pager", which monitor errors tells`, hint: `"page"`},
		{old: "@webhook-incident", new: "@slakc-ops", want: `"@slakc-ops" in monitor errors is no handle of Datadog`, hint: `did you mean "slack"?`},
		{old: "@webhook-incident", new: "@workflow-x(a=b)", want: `"@workflow-x(a=b)" in monitor errors is no handle of Datadog`, hint: "brackets"},
		{old: ", runbook: true}\n    tags:", new: "}\n    tags:", want: "somebody is woken up, and there is no runbook in monitor errors"},
		{old: `recovery: "No errors.", `, new: "", want: "somebody is woken up, and nothing is said when it is over in monitor errors"},
	}
}

func sloFaults() []fault {
	return []fault{
		{old: "slices: {query:", new: "ratio: {good: a, bad: b}\n    slices: {query:", want: "expected one indicator, got 2 in slo minutes"},
		{old: "targets: {30d: 95, 90d: 95.5}", new: "targets: {30d: 100}", want: "targets.30d in slo latency must be above 0 and below 100 percent, got 100"},
		{old: "targets: {30d: 95, 90d: 95.5}", new: "targets: {30d: 95.12345}", want: "targets.30d in slo latency has more than the 3 decimals"},
		{old: "warning: 97\n", new: "warning: 95.2\n", want: "warning in slo latency must be above the target of 95.5 %"},
		{old: `threshold: "${each.ingest_latency}"`, new: "threshold: 0.06", want: "threshold in slo latency must be a bucket bound of latam.ingest.end_to_end.duration to be counted exactly, got 0.06", hint: "choose 0.05 or 0.075"},
		{old: "metric: latam.ingest.end_to_end.duration", new: "metric: latam.ingest.records", want: "latency in slo latency needs a distribution, and latam.ingest.records is none"},
		{old: "targets: {30d: 95, 90d: 95.5}", new: "targets: {90d: 95.5}", want: "tier fast in slo latency is about a timeframe that is not among the targets"},
		{old: "targets: {30d: 95, 90d: 95.5}", new: "targets: {30d: 90}", want: "tier fast in slo latency alerts at 14.4 times the allowed rate, and a target of 90 % cannot burn faster than 10"},
		{old: "alerts: [fast, budget]", new: "alerts: [fats]", want: "an entry of alerts in slo latency must be one of fast, sensitive", hint: `"fast"`},
		{old: "no_data: silent-flights\n    alerts: none", new: "no_data: zone-b\n    alerts: none", want: "no_data in slo orders names zone-b, which is silent when there is no data"},
		{old: "notify: {page: page, ticket", new: "notify: {page: pages, ticket", want: `there is no role "pages", which slo latency tells`},
		{old: `good: "sum:shop.orders{shop:a}.as_count()"`, new: `good: "sum:shop.orders{shop:a"`, want: "query in slo orders: at character"},
	}
}

func dashboardFaults() []fault {
	return []fault{
		{old: "- {monitor: errors}\n", new: "- {monitor: error}\n", want: `there is no monitor "error", which dashboard system names`, hint: `"errors"`},
		{old: "- {monitor: errors}\n", new: "- {monitor: errors, note: a}\n", want: "a widget in dashboard system shows 2 things"},
		{old: "- {title: Promises, width: 7, slos: all}", new: "- {title: Promises, slos: dataset}", want: "slos: dataset in dashboard system is about no dataset"},
		{old: "- {title: Promises, width: 7, slos: all}", new: "- {title: Promises}", want: `the group "Promises" in dashboard system is empty`},
		{old: "width: 6", new: "width: 13", want: "an entry of groups.width in dashboard system must be 1 to 12"},
		{old: `tags: ["team:web"]`, new: `tags: ["area:web"]`, want: "an entry of tags in dashboard dataset has an unexpected form"},
		{old: "p95:shop.time{*}", new: "p95:shop.times{*}", want: `the query in dashboard system reads the metric "shop.times"`, hint: `"shop.time"`},
	}
}

// TestFaults tells whether each mistake is found, where it stands, with what to do.
func TestFaults(t *testing.T) {
	t.Parallel()
	for i, f := range faults() {
		t.Run(fmt.Sprintf("%d %s", i, f.want[:min(len(f.want), 60)]), func(t *testing.T) {
			t.Parallel()
			builtIn, own := f.files()
			if builtIn == small && own == "" {
				t.Fatal("the mistake is not in the file")
			}
			o := options(t, map[string]string{"small.yaml": builtIn})
			if own != "" {
				o.Own, o.OwnDir = folder(map[string]string{"mine.yaml": own}), "own"
			}
			_, err := declare.Load(o)
			var problems *strictyaml.Problems
			if !errors.As(err, &problems) {
				t.Fatalf("got %v, want %s", err, f.want)
			}
			text := err.Error()
			at := strings.Index(text, f.want)
			if at < 0 {
				t.Fatalf("got  %s\nwant %s", text, f.want)
			}
			line, _, _ := strings.Cut(text[at:], "\n")
			if !strings.Contains(line, f.hint) {
				t.Errorf("got  %s\nwant the hint %s", line, f.hint)
			}
			if n := strings.Count(text, "small.yaml:") + strings.Count(text, "mine.yaml:"); n > 7 {
				t.Errorf("one mistake gives %d faults:\n%s", n, text)
			}
		})
	}
}

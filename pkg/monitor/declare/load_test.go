package declare_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

const declaration = `version: 1
name: latam
datasets:
  flights:
    description: Departures
    fields: {origin: {type: string, required: true}, departed_at: {type: timestamp, required: true}}
    key: [origin, departed_at]
    time: departed_at
  dead_stars:
    fields: {name: {type: string, required: true}}
    key: [name]
    slo: {ingest_latency: 100ms, target: 90}
environments:
  prod: {engine: gcp, notify: {page: "@pagerduty-latam"}}
`

// folder makes a folder of files.
func folder(files map[string]string) fstest.MapFS {
	out := fstest.MapFS{}
	for name, text := range files {
		out[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}

// options are those of an environment in which everything is known.
func options(t testing.TB, files map[string]string) declare.Options {
	t.Helper()
	d, err := dataset.Load("latam.yaml", []byte(declaration))
	if err != nil {
		t.Fatal(err)
	}
	return declare.Options{
		BuiltIn: folder(files), Declaration: d, Environment: "prod",
		Values: declare.Environment{Project: "acme", Region: "us-east1", Cluster: "gke", Namespace: "latam", Instance: "latam-bigtable",
			Gateway: "api.example.com", NodeMin: 3, Runbooks: "https://example.com/runbooks"},
		Notify: map[string][]string{"page": {"@pagerduty-latam"}, "chat": {"@slack-latam-alerts"}, "ticket": {"@jira-latam"}},
	}
}

// load loads small, with files of a team's own over it.
func load(t *testing.T, own map[string]string) *declare.Set {
	t.Helper()
	o := options(t, map[string]string{"small.yaml": small, "tests/none.yaml": "not read", "README.md": "not read"})
	if own != nil {
		o.Own, o.OwnDir = folder(own), "own"
	}
	set, err := declare.Load(o)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// names are the names of the objects of a kind.
func names(set *declare.Set, kind declare.Kind) string {
	var out []string
	for _, o := range set.Objects {
		if o.Key.Kind == kind {
			out = append(out, o.Key.Name)
		}
	}
	return strings.Join(out, " ")
}

func TestLoad(t *testing.T) {
	t.Parallel()
	set := load(t, nil)
	for kind, want := range map[declare.Kind]string{
		declare.Metric: "latam.ingest.end_to_end.duration shop.time",
		declare.Monitor: "both-high both-low check errors ingest-cpu " +
			"latency-dead_stars-burn-budget-30d latency-dead_stars-burn-budget-90d latency-dead_stars-burn-fast " +
			"latency-flights-burn-budget-30d latency-flights-burn-budget-90d latency-flights-burn-fast " +
			"minutes-burn-budget-30d minutes-burn-fast minutes-burn-mid minutes-burn-sensitive minutes-burn-slow " +
			"off orders serve-cpu silent-dead_stars silent-flights usual zone-b zone-c",
		declare.SLO:       "latency-dead_stars latency-flights minutes orders",
		declare.Dashboard: "dataset-dead_stars dataset-flights system",
	} {
		if got := names(set, kind); got != want {
			t.Errorf("%s: got  %s\nwant %s", kind, got, want)
		}
	}
	if set.Stack != "latam-prod" || set.Environment != "prod" || len(set.Warnings) > 0 {
		t.Errorf("got %s, %s, %q", set.Stack, set.Environment, set.Warnings)
	}
}

func TestOwn(t *testing.T) {
	t.Parallel()
	set := load(t, map[string]string{"mine.yaml": extended})
	got := names(set, declare.Monitor)
	for _, gone := range []string{" zone-b", "ingest-cpu"} {
		if strings.Contains(got, gone) {
			t.Errorf("%s is there: %s", gone, got)
		}
	}
	for _, there := range []string{"mine", "zone-c", "serve-cpu"} {
		if !strings.Contains(got, there) {
			t.Errorf("%s is not there: %s", there, got)
		}
	}
	o := set.Lookup(declare.Key{Kind: declare.Monitor, Name: "errors"})
	if o.File != "own/mine.yaml" || o.At.Line != 4 || o.At.Column != 3 {
		t.Errorf("errors stands in %s:%v", o.File, o.At)
	}
	thresholds := o.Payload["options"].(map[string]any)["thresholds"]
	if diff := cmp.Diff(map[string]any{"critical": 20.0, "warning": 15.0, "critical_recovery": 5.0}, thresholds); diff != "" {
		t.Error(diff)
	}
	if want := "Too many errors. @pagerduty-latam"; !strings.Contains(o.Payload["message"].(string), want) {
		t.Errorf("the message is %s", o.Payload["message"])
	}
}

// TestOwnInstance tells whether a team's own object wins over one that a built-in for_each makes, and the
// other way round, whichever is expanded first.
func TestOwnInstance(t *testing.T) {
	t.Parallel()
	const single, several = "  %s: {title: own, query: \"avg(last_5m):avg:system.cpu.idle{*} < 5\", thresholds: {critical: 5}}\n",
		"  %s: {for_each: [b], title: \"${each.key}\", query: \"avg(last_5m):avg:system.cpu.idle{*} < 6\", thresholds: {critical: 6}}\n"
	for name, c := range map[string]struct {
		builtIn, own string
		critical     float64
	}{
		"own is single":  {fmt.Sprintf(several, "a"), fmt.Sprintf(single, "a-b"), 5},
		"own is several": {fmt.Sprintf(single, "a-b"), fmt.Sprintf(several, "a"), 6},
	} {
		o := options(t, map[string]string{"a.yaml": "version: 1\nmonitors:\n" + c.builtIn})
		o.Notify, o.Own, o.OwnDir = nil, folder(map[string]string{"b.yaml": "version: 1\nmonitors:\n" + c.own}), "own"
		set, err := declare.Load(o)
		if err != nil || len(set.Objects) != 1 {
			t.Errorf("%s: got %v, %v", name, set, err)
			continue
		}
		if got := set.Objects[0].Payload["options"].(map[string]any)["thresholds"].(map[string]any)["critical"]; got != c.critical || set.Objects[0].File != "own/b.yaml" {
			t.Errorf("%s: critical is %v, of %s", name, got, set.Objects[0].File)
		}
	}
}

func TestMonitor(t *testing.T) {
	t.Parallel()
	set := load(t, nil)
	for name, want := range map[string]map[string]any{
		"errors": {
			"name": "[prod] Errors", "type": "query alert", "priority": 1.0,
			"query": "max(last_5m):default_zero(sum:latam.errors{env:prod}.as_count().rollup(sum, 60)) > 10",
			"tags":  []any{"area:application", "env:prod", "team:data"},
			"message": "{{#is_alert}}{{^is_renotify}}{{value}} errors. @pagerduty-latam @webhook-incident {{/is_renotify}}{{/is_alert}}\n" +
				"{{#is_warning}}@slack-latam-alerts {{/is_warning}}\n" +
				"{{#is_renotify}}{{value}} errors. @pagerduty-latam @webhook-incident {{/is_renotify}}\n" +
				"{{#is_recovery}}No errors. @slack-latam-alerts {{/is_recovery}}\n" +
				"Runbook: https://example.com/runbooks/errors.md",
			"options": map[string]any{
				"include_tags": true, "timeout_h": 0.0, "renotify_interval": 30.0, "renotify_occurrences": 4.0, "renotify_statuses": []any{"alert"},
				"evaluation_delay": 60.0, "thresholds": map[string]any{"critical": 10.0, "warning": 7.0, "critical_recovery": 5.0},
			},
		},
		"orders": {
			"name": "[prod] Orders", "type": "query alert", "priority": 1.0,
			"query": "sum(last_5m):sum:shop.orders{env:prod} by {shop}.as_count() > 10",
			"tags":  []any{"area:application", "env:prod", "team:data"},
			"message": "{{#is_alert}}{{^is_renotify}}{{value}} errors. @slack-latam-alerts {{/is_renotify}}{{/is_alert}}\n" +
				"{{#is_warning}}@slack-latam-alerts {{/is_warning}}\n" +
				"{{#is_renotify}}Still. @jira-latam {{/is_renotify}}\n" +
				"{{#is_recovery}}No errors. @slack-latam-alerts {{/is_recovery}}\n" +
				"Runbook: https://example.com/orders",
			"options": map[string]any{
				"include_tags": true, "timeout_h": 0.0, "renotify_interval": 30.0, "renotify_occurrences": 4.0, "renotify_statuses": []any{"alert"},
				"evaluation_delay": 60.0, "thresholds": map[string]any{"critical": 10.0, "warning": 7.0, "critical_recovery": 5.0},
			},
		},
		"ingest-cpu": {
			"name": "[prod] latam-ingest: CPU", "type": "query alert", "tags": []any{"env:prod", "team:data"},
			"query": "avg(last_10m):sum:kubernetes.cpu.usage.total{kube_deployment:latam-ingest} by {pod_name} > 80",
			"message": "{{#is_alert}}{{^is_renotify}}{{pod_name.name}} of ${workload} is busy at {{value}}. @slack-latam-alerts {{/is_renotify}}{{/is_alert}}\n" +
				"Runbook: https://example.com/runbooks/workload-cpu.md",
			"options": map[string]any{"thresholds": map[string]any{"critical": 80.0}},
		},
		"both-high": {
			"name": "[prod] Both high", "type": "composite", "priority": 5.0, "tags": []any{"env:prod", "team:data"}, "options": map[string]any{},
			"query":   "${ref:monitor.errors} && !${ref:monitor.silent-flights}",
			"message": "{{#is_alert}}{{^is_renotify}}Above 100.{{/is_renotify}}{{/is_alert}}",
		},
		"check": {
			"name": "[prod] A check", "type": "service check", "tags": []any{"env:prod", "team:data"}, "message": "",
			"query":   `"kubernetes_state.node.network_unavailable".over("kube_cluster_name:gke").by("node").last(4).count_by_status()`,
			"options": map[string]any{"thresholds": map[string]any{"critical": 3.0, "warning": 2.0, "ok": 2.0}},
		},
		"latency-flights-burn-fast": {
			"name": "[prod] flights: in time: the budget of 30d burns 14.4 times too fast", "type": "slo alert", "priority": 1.0,
			"query": `burn_rate("${ref:slo.latency-flights}").over("30d").long_window("1h").short_window("5m") > 14.4`,
			"tags":  []any{"burn_tier:fast", "env:prod", "slo:latency-flights", "team:data"},
			"message": "{{#is_alert}}{{^is_renotify}}flights: in time: the budget of 30d burns 14.4 times too fast. Over the last 1h it burned {{value}} times as fast as it may. " +
				"If that goes on, none is left soon. @pagerduty-latam {{/is_renotify}}{{/is_alert}}\n" +
				"{{#is_recovery}}flights: in time: the budget no longer burns too fast. @pagerduty-latam {{/is_recovery}}\n" +
				"Runbook: https://example.com/runbooks/latency.md",
			"options": map[string]any{"thresholds": map[string]any{"critical": 14.4}, "include_tags": true, "notify_audit": false},
		},
		"latency-flights-burn-budget-90d": {
			"name": "[prod] flights: in time: 75 % of the budget of 90d are gone", "type": "slo alert", "priority": 4.0,
			"query": `error_budget("${ref:slo.latency-flights}").over("90d") > 75`,
			"tags":  []any{"burn_tier:budget", "env:prod", "slo:latency-flights", "team:data"},
			"message": "{{#is_alert}}{{^is_renotify}}flights: in time: 75 % of the budget of 90d are gone. {{value}} % of what may fail within 90d has failed. " +
				"@jira-latam @slack-latam-alerts {{/is_renotify}}{{/is_alert}}\n" +
				"{{#is_recovery}}flights: in time: less than 75 % of the budget of 90d are gone. @jira-latam @slack-latam-alerts {{/is_recovery}}\n" +
				"Runbook: https://example.com/runbooks/latency.md",
			"options": map[string]any{"thresholds": map[string]any{"critical": 75.0}, "include_tags": true, "notify_audit": false},
		},
	} {
		o := set.Lookup(declare.Key{Kind: declare.Monitor, Name: name})
		if o == nil {
			t.Errorf("there is no %s", name)
			continue
		}
		if diff := cmp.Diff(want, o.Payload); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestObject(t *testing.T) {
	t.Parallel()
	set := load(t, nil)
	monitor := func(name string) declare.Key { return declare.Key{Kind: declare.Monitor, Name: name} }
	slo := func(name string) declare.Key { return declare.Key{Kind: declare.SLO, Name: name} }
	for _, c := range []struct {
		key           declare.Key
		refs          []declare.Key
		base, dataset string
		pages         bool
		notify, roles map[declare.Event][]string
	}{
		{key: monitor("errors"), base: "errors", pages: true,
			notify: map[declare.Event][]string{"alert": {"@pagerduty-latam", "@webhook-incident"}, "warning": {"@slack-latam-alerts"},
				"recovery": {"@slack-latam-alerts"}, "renotify": {"@pagerduty-latam", "@webhook-incident"}},
			roles: map[declare.Event][]string{"alert": {"page"}, "warning": {"chat"}, "recovery": {"chat"}, "renotify": {"page"}}},
		{key: monitor("serve-cpu"), base: "workload-cpu",
			notify: map[declare.Event][]string{"alert": {"@slack-latam-alerts"}}, roles: map[declare.Event][]string{"alert": {"chat"}}},
		{key: monitor("silent-flights"), base: "silent", dataset: "flights",
			notify: map[declare.Event][]string{"no_data": {"@slack-latam-alerts"}}, roles: map[declare.Event][]string{"no_data": {"chat"}}},
		{key: monitor("both-low"), base: "both", refs: []declare.Key{monitor("errors"), monitor("silent-flights")},
			notify: map[declare.Event][]string{}, roles: map[declare.Event][]string{}},
		{key: monitor("latency-flights-burn-fast"), base: "latency", dataset: "flights", pages: true, refs: []declare.Key{slo("latency-flights")},
			notify: map[declare.Event][]string{"alert": {"@pagerduty-latam"}, "recovery": {"@pagerduty-latam"}},
			roles:  map[declare.Event][]string{"alert": {"page"}, "recovery": {"page"}}},
		{key: declare.Key{Kind: declare.Dashboard, Name: "dataset-flights"}, base: "dataset", dataset: "flights",
			refs: []declare.Key{monitor("errors"), monitor("silent-flights"), slo("latency-flights")}},
	} {
		o := set.Lookup(c.key)
		for _, one := range []struct{ what, got, want any }{
			{"refs", o.Refs, c.refs}, {"base", o.Base, c.base}, {"dataset", o.Dataset, c.dataset}, {"pages", o.Pages, c.pages},
			{"notify", o.Notify, c.notify}, {"roles", o.Roles, c.roles},
		} {
			if diff := cmp.Diff(one.want, one.got); diff != "" {
				t.Errorf("%s of %s: %s", one.what, c.key, diff)
			}
		}
	}
}

func TestSLO(t *testing.T) {
	t.Parallel()
	set := load(t, nil)
	query := func(name, text string) any {
		return map[string]any{"data_source": "metrics", "name": name, "query": text}
	}
	for name, want := range map[string]map[string]any{
		"latency-flights": {
			"name": "[prod] flights: in time", "type": "metric", "description": "Time to write.", "tags": []any{"env:prod", "team:data"},
			"thresholds": []any{map[string]any{"timeframe": "30d", "target": 95.0, "warning": 97.0}, map[string]any{"timeframe": "90d", "target": 95.5, "warning": 97.0}},
			"timeframe":  "30d", "target_threshold": 95.0, "warning_threshold": 97.0,
			"sli_specification": map[string]any{"count": map[string]any{
				"good_events_formula": map[string]any{"formula": "good"}, "bad_events_formula": map[string]any{"formula": "bad"},
				"queries": []any{
					query("good", "count(v: v<=0.05):latam.ingest.end_to_end.duration{dataset:flights}.as_count()"),
					query("bad", "count(v: v>0.05):latam.ingest.end_to_end.duration{dataset:flights}.as_count()"),
				},
			}},
		},
		"orders": {
			"name": "[prod] Orders arrive", "type": "metric", "tags": []any{"env:prod", "team:data"},
			"thresholds": []any{map[string]any{"timeframe": "7d", "target": 99.0}}, "timeframe": "7d", "target_threshold": 99.0,
			"sli_specification": map[string]any{"count": map[string]any{
				"good_events_formula": map[string]any{"formula": "good"}, "bad_events_formula": map[string]any{"formula": "bad1 - bad2"},
				"queries": []any{
					query("good", "sum:shop.orders{shop:a}.as_count()"), query("bad1", "sum:shop.orders{shop:a}.as_count()"), query("bad2", "sum:shop.orders{shop:b}.as_count()"),
				},
			}},
		},
		"minutes": {
			"name": "[prod] Quiet minutes", "type": "time_slice", "tags": []any{"env:prod", "team:data"},
			"thresholds": []any{map[string]any{"timeframe": "30d", "target": 95.0}}, "timeframe": "30d", "target_threshold": 95.0,
			"sli_specification": map[string]any{"time_slice": map[string]any{
				"query": map[string]any{
					"formulas": []any{map[string]any{"formula": "default_zero(query)"}}, "queries": []any{query("query", "sum:latam.errors{*}.as_count()")},
				},
				"comparator": "<=", "threshold": 10.0, "query_interval_seconds": 60.0,
			}},
		},
	} {
		o := set.Lookup(declare.Key{Kind: declare.SLO, Name: name})
		if diff := cmp.Diff(want, o.Payload); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	sli := set.Lookup(declare.Key{Kind: declare.SLO, Name: "latency-flights"}).SLI
	if sli.NoData != "silent-flights" || sli.YearlyPercent != 95 || sli.Targets["90d"] != 95.5 || sli.Good == nil || sli.Bad == nil || sli.Slice != nil {
		t.Errorf("the indicator is %+v", sli)
	}
	slice := set.Lookup(declare.Key{Kind: declare.SLO, Name: "minutes"}).SLI
	if slice.Slice == nil || slice.SliceOp != "<=" || slice.SliceBound != 10 || slice.SliceSeconds != 60 {
		t.Errorf("the indicator is %+v", slice)
	}
}

func TestMetric(t *testing.T) {
	t.Parallel()
	set := load(t, nil)
	for name, tags := range map[string][]any{
		"latam.ingest.end_to_end.duration": {"dataset", "env", "service"}, "shop.time": {"env", "service", "shop"},
	} {
		want := map[string]any{"metric": name, "include_percentiles": true, "tags": tags}
		if diff := cmp.Diff(want, set.Lookup(declare.Key{Kind: declare.Metric, Name: name}).Payload); diff != "" {
			t.Error(diff)
		}
	}
}

// TestUnset tells what becomes of objects that need what the environment does not have.
func TestUnset(t *testing.T) {
	t.Parallel()
	o := options(t, map[string]string{"small.yaml": small})
	o.Values.Gateway = ""
	set, err := declare.Load(o)
	if err != nil {
		t.Fatal(err)
	}
	if set.Lookup(declare.Key{Kind: declare.Monitor, Name: "off"}) != nil {
		t.Error("a monitor of the gateway is there without one")
	}
	o.Values.Region = ""
	_, err = declare.Load(o)
	if want := "small.yaml:56:12: ${region} in monitor zone is not known in environment prod; set it, or leave the object out with enabled: \"${region}\""; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// TestWarnings tells whether roles without a handle are named in one line, with the number of their monitors.
func TestWarnings(t *testing.T) {
	t.Parallel()
	o := options(t, map[string]string{"small.yaml": small})
	o.Notify = map[string][]string{"chat": {"@slack-latam-alerts"}, "ticket": {"@jira-latam"}}
	set, err := declare.Load(o)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"no handle in environment prod for page (3 monitors: nobody is woken up); set environments.prod.notify in latam.yaml, or --notify"}
	if diff := cmp.Diff(want, set.Warnings); diff != "" {
		t.Error(diff)
	}
	errors := set.Lookup(declare.Key{Kind: declare.Monitor, Name: "errors"})
	if message := errors.Payload["message"].(string); strings.Contains(message, "@pagerduty") || !errors.Pages || len(errors.Roles["alert"]) == 0 {
		t.Errorf("got %v, %v: %s", errors.Pages, errors.Roles, message)
	}
}

// TestHandles tells whether a handle that Datadog would not understand is found in latam.yaml.
func TestHandles(t *testing.T) {
	t.Parallel()
	for handle, want := range map[string]string{
		"@slack-latam-alerts": "", "@pagerduty-latam": "", "@webhook-x": "", "@teams-x_y": "", "@somebody@example.com": "", "@somebody.else@mail.example.com": "",
		"@workflow-page": "", "@opsgenie-latam": "", "@team-data": "",
		"slack-latam":      "write it like @pagerduty-latam",
		"@slack latam":     "write it like @pagerduty-latam",
		"@workflow-x(k=v)": "without spaces and brackets",
		"@pagerdut-latam":  `did you mean "pagerduty"?`,
		"@somebody@":       "write it like @pagerduty-latam",
		"":                 "write it like @pagerduty-latam",
	} {
		o := options(t, map[string]string{"small.yaml": small})
		o.Notify["chat"] = []string{handle}
		_, err := declare.Load(o)
		switch {
		case want == "" && err != nil:
			t.Errorf("%q: %v", handle, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), "latam.yaml:14:23: notify.chat of environment prod: ") || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: got %v, want %s", handle, err, want)
		}
	}
	o := options(t, map[string]string{"small.yaml": small})
	o.Notify["pgae"] = []string{"@pagerduty-latam"}
	if _, err := declare.Load(o); err == nil || !strings.Contains(err.Error(), `there is no role "pgae"; did you mean "page"?`) {
		t.Errorf("got %v", err)
	}
}

// TestTwice tells whether the same files give the same bytes, in whatever order maps are walked.
func TestTwice(t *testing.T) {
	t.Parallel()
	first, err := json.Marshal(load(t, nil).Objects)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if again, _ := json.Marshal(load(t, nil).Objects); string(again) != string(first) {
			t.Fatal("the objects differ from those before")
		}
	}
}

func TestLoadNothing(t *testing.T) {
	t.Parallel()
	o := options(t, nil)
	o.Notify = nil
	set, err := declare.Load(o)
	if err != nil || len(set.Objects) > 0 || set.Stack != "latam-prod" {
		t.Errorf("got %+v, %v", set, err)
	}
}

package export_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"sigs.k8s.io/yaml"

	"github.com/latamctl/latamctl/examples"
	"github.com/latamctl/latamctl/monitors"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/monitor/export"
	"github.com/latamctl/latamctl/pkg/monitor/query"
)

var update = flag.Bool("update", false, "write the golden files")

type object = map[string]any

func key(kind declare.Kind, name string) declare.Key { return declare.Key{Kind: kind, Name: name} }

func parse(t *testing.T, kind, text string) query.Query {
	t.Helper()
	q, err := query.Parse(kind, text)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func monitor(t *testing.T, name string, payload object) *declare.Object {
	t.Helper()
	payload["name"] = "[prod] " + name
	return &declare.Object{Key: key(declare.Monitor, name), Payload: payload, Query: parse(t, payload["type"].(string), payload["query"].(string))}
}

// theSet has an object of each shape that is declared.
func theSet(t *testing.T) *declare.Set {
	t.Helper()
	errors := monitor(t, "ingest-errors", object{
		"type": "query alert", "priority": 1.0, "tags": []any{"env:prod", "team:data"},
		"query":   "max(last_5m):default_zero(sum:latam.errors{env:prod,service:latam-ingest}.as_count().rollup(sum, 60)) > 10",
		"message": "{{#is_alert}}{{value}} errors in \"a minute\", costs ${5} or %{6} @pagerduty-latam {{/is_alert}}\nRunbook: https://example.com/a.md",
		"options": object{"include_tags": true, "on_missing_data": "default", "renotify_interval": 30.0, "renotify_statuses": []any{"alert", "no data"},
			"evaluation_delay": 60.0, "thresholds": object{"critical": 10.0, "warning": 7.0, "critical_recovery": 5.5}},
	})
	flow := monitor(t, "flow-dead_stars", object{
		"type": "query alert", "tags": []any{"env:prod"}, "message": "",
		"query":   "avg(last_4h):anomalies(sum:a.b{*}, 'agile', 3, interval=60) >= 1",
		"options": object{"thresholds": object{"critical": 1.0}, "threshold_windows": object{"trigger_window": "last_15m", "recovery_window": "last_15m"}},
	})
	stalled := monitor(t, "stalled", object{
		"type": "composite", "tags": []any{"env:prod"}, "message": "Stalled.", "options": object{"include_tags": true},
		"query": "${ref:monitor.ingest-errors} && !${ref:monitor.flow-dead_stars}",
	})
	stalled.Refs = []declare.Key{key(declare.Monitor, "flow-dead_stars"), key(declare.Monitor, "ingest-errors")}
	fast := monitor(t, "http-latency-burn-fast", object{
		"type": "slo alert", "tags": []any{"burn_tier:fast"}, "message": "Burns. @pagerduty-latam @oncall@example.com ",
		"query":   `burn_rate("${ref:slo.http-latency}").over("30d").long_window("1h").short_window("5m") > 14.4`,
		"options": object{"thresholds": object{"critical": 14.4}},
	})
	fast.Pages, fast.Notify = true, map[declare.Event][]string{
		declare.OnAlert: {"@pagerduty-latam", "@oncall@example.com"}, declare.OnRecovery: {"@pagerduty-latam"}}
	slow := monitor(t, "http-latency-burn-slow90", object{
		"type": "slo alert", "tags": []any{"burn_tier:slow90"}, "message": "Burns. @jira-latam ",
		"query":   `burn_rate("${ref:slo.http-latency}").over("90d").long_window("24h").short_window("2h") > 4.5`,
		"options": object{"thresholds": object{"critical": 4.5}},
	})
	slow.Notify = map[declare.Event][]string{declare.OnAlert: {"@jira-latam"}}
	budget := monitor(t, "http-latency-burn-budget", object{
		"type": "slo alert", "tags": []any{"burn_tier:budget"}, "message": "", "options": object{"thresholds": object{"critical": 75.0}},
		"query": `error_budget("${ref:slo.http-latency}").over("30d") > 75`,
	})
	series := func(name, text string) object { return object{"data_source": "metrics", "name": name, "query": text} }
	latency := &declare.Object{Key: key(declare.SLO, "http-latency"), Payload: object{
		"type": "metric", "name": "[prod] HTTP under 100 ms", "description": "Of all answers.", "tags": []any{"env:prod", "service:latam-serve"},
		"thresholds": []any{object{"timeframe": "30d", "target": 99.9, "warning": 99.95}, object{"timeframe": "90d", "target": 95.0}},
		"timeframe":  "30d", "target_threshold": 99.9, "warning_threshold": 99.95,
		"sli_specification": object{"count": object{
			"good_events_formula": object{"formula": "good"}, "bad_events_formula": object{"formula": "bad"},
			"queries": []any{series("good", "count(v: v<=0.1):http.server.request.duration{env:prod}.as_count()"),
				series("bad", "count(v: v>0.1):http.server.request.duration{env:prod}.as_count()")}}},
	}}
	minutes := &declare.Object{Key: key(declare.SLO, "good-minutes"), Payload: object{
		"type": "time_slice", "name": "[prod] Minutes with few errors", "tags": []any{"env:prod"},
		"thresholds": []any{object{"timeframe": "30d", "target": 95.0}}, "timeframe": "30d", "target_threshold": 95.0,
		"sli_specification": object{"time_slice": object{"comparator": "<=", "threshold": 10.0, "query_interval_seconds": 60.0, "query": object{
			"formulas": []any{object{"formula": "default_zero(errors)"}}, "queries": []any{series("errors", "sum:latam.errors{env:prod}.as_count()")}}}},
	}}
	board := &declare.Object{Key: key(declare.Dashboard, "system"), Payload: object{
		"title": "latam: the system", "layout_type": "ordered", "description": "All of it.", "widgets": []any{
			object{"definition": object{"type": "slo", "slo_id": "${ref:slo.http-latency}", "view_type": "detail", "time_windows": []any{"30d", "90d"}},
				"layout": object{"x": 0.0, "y": 0.0, "width": 4.0, "height": 3.0}},
			object{"definition": object{"type": "note", "content": "See <a> & ${ref:monitor.stalled}"}}}},
	}
	metric := &declare.Object{Key: key(declare.Metric, "http.server.request.duration"), Payload: object{
		"metric": "http.server.request.duration", "include_percentiles": true, "tags": []any{"env", "http.route"}}}
	return &declare.Set{Stack: "latam-prod", Environment: "prod",
		Objects: []*declare.Object{metric, flow, budget, fast, slow, errors, stalled, minutes, latency, board}}
}

func write(t *testing.T, set *declare.Set, format string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := export.Write(&b, set, format); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestGolden(t *testing.T) {
	t.Parallel()
	for format, file := range map[string]string{export.JSON: "set.json", export.Terraform: "set.tf", export.OpenSLO: "set.yaml"} {
		got := write(t, theSet(t), format)
		for range 5 {
			if again := write(t, theSet(t), format); !bytes.Equal(got, again) {
				t.Errorf("%s: the bytes differ from run to run", format)
			}
		}
		path := filepath.Join("testdata", file)
		if *update {
			if err := os.WriteFile(path, got, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s (-want +got), or run with -update:\n%s", format, diff)
		}
	}
}

// TestJSONLosesNothing reads the payloads back.
func TestJSONLosesNothing(t *testing.T) {
	t.Parallel()
	set := theSet(t)
	var document struct {
		Stack, Environment string
		Objects            []struct {
			Kind    declare.Kind
			Name    string
			Payload object
		}
	}
	if err := json.Unmarshal(write(t, set, export.JSON), &document); err != nil {
		t.Fatal(err)
	}
	if document.Stack != set.Stack || document.Environment != set.Environment || len(document.Objects) != len(set.Objects) {
		t.Fatalf("%+v", document)
	}
	for i, o := range set.Objects {
		got := document.Objects[i]
		if diff := cmp.Diff(o.Payload, got.Payload); diff != "" || o.Key != key(got.Kind, got.Name) {
			t.Errorf("%s became %s.%s:\n%s", o.Key, got.Kind, got.Name, diff)
		}
	}
}

// TestTerraform reads the HCL back: every reference is one to a resource that is there, and texts
// are what they were.
func TestTerraform(t *testing.T) {
	t.Parallel()
	set := theSet(t)
	text := write(t, set, export.Terraform)
	resources, references := checkTerraform(t, set, text)
	if references != 7 {
		t.Errorf("%d references, want 7", references)
	}
	message, diagnostics := resources["datadog_monitor.ingest-errors"].Body.Attributes["message"].Expr.Value(nil)
	if diagnostics.HasErrors() || message.AsString() != set.Lookup(key(declare.Monitor, "ingest-errors")).Payload["message"] {
		t.Errorf("the message became %#v, %v", message, diagnostics)
	}
}

// checkTerraform returns the resources and the number of references between them.
func checkTerraform(t *testing.T, set *declare.Set, text []byte) (map[string]*hclsyntax.Block, int) {
	t.Helper()
	file, diagnostics := hclparse.NewParser().ParseHCL(text, "set.tf")
	if diagnostics.HasErrors() {
		t.Fatal(diagnostics)
	}
	resources := map[string]*hclsyntax.Block{}
	for _, block := range file.Body.(*hclsyntax.Body).Blocks {
		if block.Type == "resource" {
			resources[block.Labels[0]+"."+block.Labels[1]] = block
		}
	}
	if len(resources) != len(set.Objects) {
		t.Errorf("%d resources for %d objects", len(resources), len(set.Objects))
	}
	seen := 0
	for name, block := range resources {
		_ = hclsyntax.VisitAll(block.Body, func(node hclsyntax.Node) hcl.Diagnostics {
			expression, ok := node.(*hclsyntax.ScopeTraversalExpr)
			if !ok {
				return nil
			}
			seen++
			to := expression.Traversal.RootName() + "." + expression.Traversal[1].(hcl.TraverseAttr).Name
			if resources[to] == nil {
				t.Errorf("%s refers to %s, which is not there", name, to)
			}
			return nil
		})
	}
	terraform, err := exec.LookPath("terraform")
	if err != nil {
		t.Log("terraform is not here to check the format")
		return resources, seen
	}
	command := exec.CommandContext(t.Context(), terraform, "fmt", "-check", "-diff", "-")
	command.Stdin = bytes.NewReader(text)
	if output, err := command.CombinedOutput(); err != nil {
		t.Errorf("terraform fmt: %v\n%s", err, output)
	}
	return resources, seen
}

// TestBuiltIn writes all that latamctl brings along, in all formats.
func TestBuiltIn(t *testing.T) {
	t.Parallel()
	d, err := dataset.Load("latam.yaml", examples.Declaration)
	if err != nil {
		t.Fatal(err)
	}
	set, err := declare.Load(declare.Options{
		BuiltIn: monitors.FS(), Declaration: d, Environment: "prod",
		Values: declare.Environment{Project: "my-project", Region: "us-central1", Cluster: "latam", Namespace: "latam", Instance: "latam-bigtable",
			Gateway: "latam-api.apigateway.my-project.cloud.goog", NodeMin: 3, Runbooks: "https://example.com/runbooks"},
		Notify: map[string][]string{"page": {"@pagerduty-latam"}, "ticket": {"@jira-latam"}, "chat": {"@slack-latam-alerts"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var document struct{ Objects []struct{ Payload object } }
	if err := json.Unmarshal(write(t, set, export.JSON), &document); err != nil {
		t.Fatal(err)
	}
	for i, o := range set.Objects {
		if diff := cmp.Diff(o.Payload, document.Objects[i].Payload); diff != "" {
			t.Errorf("%s:\n%s", o.Key, diff)
		}
	}
	checkTerraform(t, set, write(t, set, export.Terraform))
	checkOpenSLO(t, string(write(t, set, export.OpenSLO)))
}

// TestOpenSLO reads the documents back: names are unique, and references meet.
func TestOpenSLO(t *testing.T) {
	t.Parallel()
	if slos := checkOpenSLO(t, string(write(t, theSet(t), export.OpenSLO))); slos != 3 {
		t.Errorf("%d SLOs, want one for each of 3 timeframes", slos)
	}
}

func checkOpenSLO(t *testing.T, text string) int {
	t.Helper()
	names := map[string]bool{}
	var slos []object
	for _, part := range strings.Split(text, "\n---\n")[1:] {
		var document object
		if err := yaml.UnmarshalStrict([]byte(part), &document); err != nil {
			t.Fatalf("%v:\n%s", err, part)
		}
		name := document["kind"].(string) + "/" + document["metadata"].(object)["name"].(string)
		if document["apiVersion"] != "openslo/v1" || names[name] {
			t.Errorf("%s is of no version or there twice", name)
		}
		names[name] = true
		if document["kind"] == "SLO" {
			slos = append(slos, document["spec"].(object))
		}
		if document["kind"] == "AlertPolicy" {
			for _, target := range document["spec"].(object)["notificationTargets"].([]any) {
				defer func() {
					if !names["AlertNotificationTarget/"+target.(object)["targetRef"].(string)] {
						t.Errorf("no target %v", target)
					}
				}()
			}
		}
	}
	for _, slo := range slos {
		if !names["SLI/"+slo["indicatorRef"].(string)] || !names["Service/"+slo["service"].(string)] {
			t.Errorf("%v refers to what is not there", slo)
		}
		for _, policy := range slo["alertPolicies"].([]any) {
			if !names["AlertPolicy/"+policy.(object)["alertPolicyRef"].(string)] {
				t.Errorf("no policy %v", policy)
			}
		}
	}
	return len(slos)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	set := func(o ...*declare.Object) *declare.Set { return &declare.Set{Stack: "latam-prod", Objects: o} }
	option := monitor(t, "a", object{"type": "query alert", "query": "avg(last_5m):avg:a.b{*} > 1", "options": object{"variables": []any{object{}}}})
	field := monitor(t, "a", object{"type": "query alert", "query": "avg(last_5m):avg:a.b{*} > 1", "assets": []any{object{}}})
	ofMonitors := &declare.Object{Key: key(declare.SLO, "m"), Payload: object{"type": "monitor", "name": "M", "monitor_ids": []any{"${ref:monitor.a}"}}}
	for name, test := range map[string]struct {
		set    *declare.Set
		format string
		want   string
	}{
		"format":      {set(), "hcl", `there is no format "hcl"; choose one of json, terraform, openslo`},
		"option":      {set(option), export.Terraform, "monitor.a: the provider's datadog_monitor has no place for variables; the format json has"},
		"field":       {set(field), export.Terraform, "monitor.a: the provider's datadog_monitor has no place for assets; the format json has"},
		"monitor slo": {set(ofMonitors), export.OpenSLO, "slo.m: OpenSLO has no SLO of type monitor"},
	} {
		var b bytes.Buffer
		if err := export.Write(&b, test.set, test.format); err == nil || !strings.Contains(err.Error(), test.want) || b.Len() > 0 {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	if text := write(t, set(ofMonitors), export.Terraform); !bytes.Contains(text, []byte("monitor_ids = [datadog_monitor.a.id]")) {
		t.Errorf("%s", text)
	}
}

// FuzzTerraformText: a text of any content stays what it is, and evaluates nothing.
func FuzzTerraformText(f *testing.F) {
	for _, s := range []string{"", "plain", "${x}", "%{if}", "$${a}", "a\nb\t\"c\" \\", "{{#is_alert}}", "$", "${", "é…"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.Contains(s, "${ref:") || strings.ToValidUTF8(s, "") != s || strings.ContainsRune(s, 0) {
			t.Skip()
		}
		set := &declare.Set{Stack: "latam-prod", Objects: []*declare.Object{{Key: key(declare.Dashboard, "d"), Payload: object{"title": s, s: s}}}}
		text := write(t, set, export.Terraform)
		file, diagnostics := hclsyntax.ParseConfig(text, "set.tf", hcl.InitialPos)
		if diagnostics.HasErrors() {
			t.Fatalf("%v\n%s", diagnostics, text)
		}
		call := file.Body.(*hclsyntax.Body).Blocks[1].Body.Attributes["dashboard"].Expr.(*hclsyntax.FunctionCallExpr)
		value, diagnostics := call.Args[0].Value(nil)
		if diagnostics.HasErrors() {
			t.Fatalf("%v\n%s", diagnostics, text)
		}
		want := hclsyntax.Variables(call.Args[0])
		if len(want) > 0 {
			t.Errorf("%q is evaluated", s)
		}
		if got := value.AsValueMap()["title"].AsString(); s != "title" && got != normal(s) {
			t.Errorf("%q became %q", s, got)
		}
	})
}

// normal is a text in the normal form that HCL gives to all texts.
func normal(s string) string { return cty.StringVal(s).AsString() }

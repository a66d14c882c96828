package monitor_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/latamctl/latamctl/examples"
	"github.com/latamctl/latamctl/monitors"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/monitor"
	"github.com/latamctl/latamctl/pkg/monitor/datadog"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

// catalogue is what is built in, for the flights in prod.
func catalogue(t testing.TB, change ...func(*declare.Options)) *declare.Set {
	t.Helper()
	set, err := declare.Load(catalogueOptions(t, change...))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func catalogueOptions(t testing.TB, change ...func(*declare.Options)) declare.Options {
	t.Helper()
	d, err := dataset.Load("latam.yaml", examples.Declaration)
	if err != nil {
		t.Fatal(err)
	}
	o := declare.Options{
		BuiltIn: monitors.FS(), Declaration: d, Environment: "prod", Notify: roles(),
		Values: declare.Environment{
			Project: "my-project", Region: "us-central1", Cluster: "latam", Namespace: "latam", Instance: "latam-bigtable",
			Gateway: "latam-api.apigateway.my-project.cloud.goog", NodeMin: 3, Runbooks: "https://example.com/runbooks",
		},
	}
	for _, c := range change {
		c(&o)
	}
	return o
}

func roles() map[string][]string {
	return map[string][]string{"page": {"@pagerduty-latam"}, "ticket": {"@jira-latam"}, "chat": {"@slack-latam-alerts", "@slack-latam-all"}, "mail": {"@data@example.com"}}
}

// Everything that is built in is what Datadog takes, and stays so.
func TestCatalogueSyncsAndStays(t *testing.T) {
	inWorld(t, func(w *world) {
		w.set = catalogue(w.t)
		r := w.sync(monitor.PlanOptions{Validate: true})
		if len(r.Done) != len(w.set.Objects) || len(r.Done) < 60 {
			w.t.Errorf("%d of %d objects were made", len(r.Done), len(w.set.Objects))
		}
		w.wants(w.plan(monitor.PlanOptions{Prune: true, Validate: true}))
		if d, err := w.syncer().Diff(w.t.Context(), monitor.DiffOptions{}); err != nil || len(d) > 0 {
			w.t.Errorf("the diff is %v, %v", d, err)
		}
	})
}

// What was made elsewhere becomes a file that says the same: adopted, nothing else is changed.
func TestImportOfEverything(t *testing.T) {
	inWorld(t, func(w *world) {
		w.set = catalogue(w.t)
		w.sync()
		before := map[string]object{}
		for _, kind := range []declare.Kind{declare.Monitor, declare.SLO} {
			for _, o := range w.server.Objects(kind) {
				if err := w.server.Edit(kind, idOf(o), func(o object) {
					o["tags"] = slices.DeleteFunc(o["tags"].([]any), func(tag any) bool {
						return strings.HasPrefix(tag.(string), "latamctl_") || strings.HasPrefix(tag.(string), "managed_by:")
					})
					if q, _ := o["query"].(string); strings.Contains(q, "system.cpu.idle") { // One of them has no name and no message of ours.
						o["name"], o["message"] = "Busy ${nodes}", "Look at {{host.name}}! @slack-ops {{#is_alert}}Now.{{/is_alert}}"
					}
				}); err != nil {
					w.t.Fatal(err)
				}
			}
			for _, o := range w.server.Objects(kind) {
				before[idOf(o)] = o
			}
		}
		w.declares()
		var set *declare.Set
		load := func(file []byte) (*declare.Set, error) {
			var err error
			set, err = declare.Load(catalogueOptions(w.t, func(o *declare.Options) {
				o.BuiltIn, o.Own = only("notify.yaml"), fstest.MapFS{"imported.yaml": {Data: file}}
			}))
			return set, err
		}
		s := w.syncer()
		result, err := s.Import(w.t.Context(), []string{"tag:env:prod"}, monitor.ImportOptions{Roles: roles(), Load: load})
		if err != nil || result.Faults != nil {
			w.t.Fatal(err, result.Faults)
		}
		for _, one := range result.Objects {
			if len(one.Changes) > 0 {
				w.t.Errorf("%s would change: %+v", one.Key, one.Changes)
			}
		}
		if len(result.Skipped) > 0 || len(result.Objects) != len(before) {
			w.t.Errorf("%d of %d were imported, %v skipped", len(result.Objects), len(before), result.Skipped)
		}
		for _, part := range []string{"> ${critical}", "page", "${ref:slo.", "Busy $${nodes}"} {
			if !strings.Contains(string(result.File), part) {
				w.t.Errorf("the file has no %q:\n%.3000s", part, result.File)
			}
		}
		if _, err := s.Import(w.t.Context(), []string{"tag:env:prod"}, monitor.ImportOptions{Roles: roles(), Load: load, Adopt: true}); err != nil {
			w.t.Fatal(err)
		}
		w.set = set
		for _, line := range changes(w.plan().Plan) {
			if !strings.HasPrefix(line, "create metric.") && !strings.HasPrefix(line, "update metric.") {
				w.t.Errorf("after the import the plan has %s", line)
			}
		}
		for _, kind := range []declare.Kind{declare.Monitor, declare.SLO} {
			for _, o := range w.server.Objects(kind) {
				was := before[idOf(o)]
				for _, key := range []string{"name", "query", "message", "options", "thresholds", "sli_specification", "priority"} {
					if monitorJSON(o[key]) != monitorJSON(was[key]) {
						w.t.Errorf("%s of %s was changed from %v to %v", key, idOf(o), was[key], o[key])
					}
				}
			}
		}
	})
}

func TestImportSpecs(t *testing.T) {
	inWorld(t, func(w *world) {
		w.declares(pipeline()...)
		w.sync()
		m, s, d := w.id(declare.Monitor, "backlog"), w.id(declare.SLO, "http-latency"), w.id(declare.Dashboard, "system")
		for spec, want := range map[string]string{
			m: "monitor.backlog", "https://app.datadoghq.com/monitors/" + m + "?x=y": "monitor.backlog",
			s: "slo.http-latency", "https://app.datadoghq.eu/slo/manage?query=x&slo_id=" + s + "&tab=y": "slo.http-latency", "https://app.datadoghq.com/slo/" + s + "/edit": "slo.http-latency",
		} {
			result, err := w.syncer().Import(w.t.Context(), []string{spec, spec}, monitor.ImportOptions{})
			if err != nil || len(result.Objects) != 1 || result.Objects[0].Key.String() != want {
				w.t.Errorf("%s: %+v, %v", spec, result, err)
			}
		}
		for _, spec := range []string{d, "https://app.datadoghq.com/dashboard/" + d + "/title"} {
			if result, err := w.syncer().Import(w.t.Context(), []string{spec}, monitor.ImportOptions{}); err != nil || result.Skipped[d] == "" {
				w.t.Errorf("%s: %+v, %v", spec, result, err)
			}
		}
		for _, spec := range []string{"", "backlog", "tag:", "https://example.com/", "-1"} {
			var bad *monitor.BadSpec
			if _, err := w.syncer().Import(w.t.Context(), []string{spec}, monitor.ImportOptions{}); !errors.As(err, &bad) {
				w.t.Errorf("%q: %v", spec, err)
			}
		}
		if _, err := w.syncer().Import(w.t.Context(), []string{"99"}, monitor.ImportOptions{}); !errors.Is(err, datadog.ErrNotFound) {
			w.t.Errorf("got %v", err)
		}
	})
}

func TestDiffShowsBothSides(t *testing.T) {
	inWorld(t, func(w *world) {
		w.declares(simple("a", 10), simple("b", 10), simple("gone", 1))
		w.sync()
		w.edit(declare.Monitor, "a", func(o object) {
			o["message"] = "Changed there.\nTwice. @slack-latam"
			o["options"].(map[string]any)["renotify_interval"] = 30.0
		})
		w.declares(simple("a", 20), simple("b", 10), simple("new", 1))
		list, err := w.syncer().Diff(w.t.Context(), monitor.DiffOptions{})
		if err != nil || len(list) != 3 {
			w.t.Fatal(err, list)
		}
		byName := map[string]monitor.Difference{}
		for _, d := range list {
			byName[d.Key.Name] = d
		}
		for _, line := range []string{"-  Changed there.", "-  renotify_interval: 30", "+    critical: 20", "-    critical: 10", "--- monitor.a at Datadog", "+++ monitor.a as declared"} {
			if !strings.Contains(byName["a"].Text, line+"\n") {
				w.t.Errorf("the diff lacks %q:\n%s", line, byName["a"].Text)
			}
		}
		if strings.Contains(byName["a"].Text, "latamctl_hash") {
			w.t.Errorf("the diff shows marks:\n%s", byName["a"].Text)
		}
		if d := byName["new"]; d.ID != "" || strings.Contains(d.Text, "\n-") && !strings.HasPrefix(d.Text, "---") {
			w.t.Errorf("the diff of a new object is\n%s", d.Text)
		}
		if d := byName["gone"]; !strings.Contains(d.Text, "\n-") || strings.Contains(d.Text, "\n+name") {
			w.t.Errorf("the diff of a removed object is\n%s", d.Text)
		}
		if live := byName["a"].Live; !strings.Contains(live, "monitors:\n  a:\n    title: \"[prod] a\"\n") || !strings.Contains(live, "renotify_interval: 30") {
			w.t.Errorf("what is live would be declared as\n%s", live)
		}
		if list, err = w.syncer().Diff(w.t.Context(), monitor.DiffOptions{Names: []string{"b"}}); err != nil || len(list) != 0 {
			w.t.Errorf("b is the same, and the diff is %v, %v", list, err)
		}
	})
}

func TestStatus(t *testing.T) {
	inWorld(t, func(w *world) {
		if err := w.server.AddForeign(20, stack); err != nil {
			w.t.Fatal(err)
		}
		w.declares(simple("quiet", 1), simple("loud", 1), simple("gone", 1))
		w.sync()
		w.edit(declare.Monitor, "loud", func(o object) { o["overall_state"] = "Alert" })
		w.edit(declare.Monitor, "quiet", func(o object) { o["overall_state"] = "OK" })
		loud := simple("loud", 1)
		loud.Pages = true
		w.declares(simple("quiet", 1), loud)
		list, err := w.syncer().Status(w.t.Context())
		if err != nil || len(list) != 3 {
			w.t.Fatal(err, list)
		}
		if first := list[0]; first.Key.Name != "loud" || first.State != "Alert" || !first.Pages || !first.Declared {
			w.t.Errorf("the first is %+v", first)
		}
		if second := list[1]; second.Key.Name != "gone" || second.Declared {
			w.t.Errorf("the second is %+v", second)
		}
	})
}

func TestOfflinePlan(t *testing.T) {
	t.Parallel()
	set := catalogue(t)
	p := monitor.Offline(set)
	if c := p.Counts(); c.Create != len(set.Objects) || p.Failed() {
		t.Errorf("%d of %d objects would be made: %+v", c.Create, len(set.Objects), p)
	}
	grades := ""
	for _, s := range p.Sections {
		grades += s.Name + " " + string(s.Grade) + "; "
	}
	if want := "metrics exact; monitors predicted; slos exact; dashboards predicted; "; grades != want {
		t.Errorf("the sections are %s want %s", grades, want)
	}
}

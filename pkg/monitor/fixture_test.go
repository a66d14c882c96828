package monitor_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/latamctl/latamctl/monitors"
	"github.com/latamctl/latamctl/pkg/monitor"
	"github.com/latamctl/latamctl/pkg/monitor/datadog"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/monitor/monitortest"
	"github.com/latamctl/latamctl/pkg/plan"
	"github.com/latamctl/latamctl/pkg/proc"
	"github.com/latamctl/latamctl/pkg/telemetry"
)

type object = map[string]any

const stack = "latam-prod"

// world is a Datadog with a client and a set, in the bubble of a test.
type world struct {
	t      *testing.T
	server *monitortest.Datadog
	client *datadog.Client
	set    *declare.Set
	dir    string
	change func(*monitor.Options)
}

// inWorld runs a test with a Datadog that answers at once and waits in no real time.
func inWorld(t *testing.T, test func(w *world)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, dir: t.TempDir(), set: &declare.Set{Stack: stack, Environment: "prod"}}
		w.server = monitortest.NewServer(monitortest.Options{Report: func(v string) { t.Error(v) }})
		w.client = newClient(t, w.server)
		test(w)
	})
}

func newClient(t testing.TB, transport http.RoundTripper) *datadog.Client {
	t.Helper()
	client, err := datadog.New(datadog.Options{
		APIKey: telemetry.NewSecret(monitortest.APIKey), AppKey: telemetry.NewSecret(monitortest.AppKey), Transport: transport,
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func (w *world) syncer() *monitor.Syncer {
	o := monitor.Options{Remote: w.client, Set: w.set, Site: "datadoghq.com", Process: proc.OS(), Dir: w.dir, Log: slog.New(slog.DiscardHandler)}
	if w.change != nil {
		w.change(&o)
	}
	return monitor.New(o)
}

// declares replaces what is declared.
func (w *world) declares(objects ...*declare.Object) {
	slices.SortStableFunc(objects, func(x, y *declare.Object) int {
		kinds := declare.Kinds()
		if d := slices.Index(kinds, x.Key.Kind) - slices.Index(kinds, y.Key.Kind); d != 0 {
			return d
		}
		return strings.Compare(x.Key.Name, y.Key.Name)
	})
	w.set = &declare.Set{Stack: stack, Environment: "prod", Objects: objects}
}

func (w *world) plan(o ...monitor.PlanOptions) *monitor.Planned {
	w.t.Helper()
	p, err := w.syncer().Plan(w.t.Context(), append(o, monitor.PlanOptions{})[0])
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// sync plans and carries out, and wants it to work.
func (w *world) sync(o ...monitor.PlanOptions) *monitor.Report {
	w.t.Helper()
	s := w.syncer()
	p, err := s.Plan(w.t.Context(), append(o, monitor.PlanOptions{})[0])
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := s.Sync(w.t.Context(), p, monitor.SyncOptions{Verify: true})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// changes are what a plan would do, such as "update monitor.a: changed outside".
func changes(p *plan.Plan) []string {
	var list []string
	for _, s := range p.Sections {
		for _, c := range s.Changes {
			line := fmt.Sprintf("%s %s.%s", c.Action, c.Type, c.Address)
			if c.Reason != "" {
				line += ": " + c.Reason
			}
			list = append(list, line)
		}
	}
	return list
}

func (w *world) wants(p *monitor.Planned, want ...string) {
	w.t.Helper()
	got := changes(p.Plan)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		w.t.Errorf("the plan is %q, want %q", got, want)
	}
}

func (w *world) refused(err error, part string) {
	w.t.Helper()
	var refusal *monitor.Refusal
	if !errors.Is(err, monitor.ErrRefused) || !errors.As(err, &refusal) || !strings.Contains(err.Error(), part) {
		w.t.Fatalf("want a refusal with %q, got %v", part, err)
	}
	if refusal.Hint == "" {
		w.t.Errorf("%v has no hint", err)
	}
}

// id is the one live object with a key.
func (w *world) id(kind declare.Kind, name string) string {
	w.t.Helper()
	ids := w.ids(kind, name)
	if len(ids) != 1 {
		w.t.Fatalf("%s.%s is there %d times: %v", kind, name, len(ids), ids)
	}
	return ids[0]
}

func (w *world) ids(kind declare.Kind, name string) []string {
	var ids []string
	for _, o := range w.server.Objects(kind) {
		tags := texts(o["tags"])
		owned := slices.Contains(tags, "managed_by:latamctl") && slices.Contains(tags, "latamctl_stack:"+stack) && slices.Contains(tags, fmt.Sprintf("latamctl_id:%s.%s", kind, name))
		description, _ := o["description"].(string)
		last := description[strings.LastIndex(description, "\n")+1:]
		if owned || kind == declare.Dashboard && strings.HasPrefix(last, fmt.Sprintf("latamctl stack=%s id=dashboard.%s ", stack, name)) {
			ids = append(ids, idOf(o))
		}
	}
	return ids
}

func idOf(o object) string {
	if n, ok := o["id"].(float64); ok {
		return fmt.Sprintf("%.0f", n)
	}
	return fmt.Sprint(o["id"])
}

func (w *world) live(kind declare.Kind, name string) object {
	w.t.Helper()
	id := w.id(kind, name)
	for _, o := range w.server.Objects(kind) {
		if idOf(o) == id {
			return o
		}
	}
	return nil
}

func (w *world) edit(kind declare.Kind, name string, change func(object)) {
	w.t.Helper()
	time.Sleep(time.Second) // Of the bubble.
	if err := w.server.Edit(kind, w.id(kind, name), change); err != nil {
		w.t.Fatal(err)
	}
}

func texts(v any) []string {
	var out []string
	list, _ := v.([]any)
	for _, item := range list {
		if s, ok := item.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

// The objects of the tests.

func thing(kind declare.Kind, name string, payload object) *declare.Object {
	return &declare.Object{Key: declare.Key{Kind: kind, Name: name}, Base: name, Payload: payload, File: "own.yaml"}
}

func metric(name string, tags ...any) *declare.Object {
	return thing(declare.Metric, name, object{"metric": name, "include_percentiles": true, "tags": tags})
}

func simple(name string, critical float64) *declare.Object {
	return thing(declare.Monitor, name, object{
		"name": "[prod] " + name, "type": "query alert", "message": "{{#is_alert}}Too many of " + name + ". @slack-latam{{/is_alert}}",
		"query":   fmt.Sprintf("max(last_5m):default_zero(sum:latam.errors{env:prod,service:%s}.as_count().rollup(sum, 60)) > %v", name, critical),
		"options": object{"thresholds": object{"critical": critical}, "include_tags": true, "require_full_window": false, "notify_audit": false, "on_missing_data": "default"},
		"tags":    []any{"team:data", "env:prod"}, "priority": 1.0,
	})
}

func composite(name string, of ...string) *declare.Object {
	for i := range of {
		of[i] = "${ref:monitor." + of[i] + "}"
	}
	return thing(declare.Monitor, name, object{
		"name": "[prod] " + name, "type": "composite", "query": strings.Join(of, " && "), "message": "Both. @slack-latam",
		"options": object{"include_tags": true}, "tags": []any{"env:prod"},
	})
}

func slo(name string, frames ...string) *declare.Object {
	var thresholds []any
	for _, f := range frames {
		thresholds = append(thresholds, object{"timeframe": f, "target": 95.0})
	}
	query := func(n, op string) object {
		return object{"data_source": "metrics", "name": n, "query": "count(v: v" + op + "0.1):http.server.request.duration{env:prod,service:" + name + "}.as_count()"}
	}
	return thing(declare.SLO, name, object{
		"name": "[prod] " + name, "type": "metric", "description": "Fast answers.", "tags": []any{"env:prod", "service:x", "team:data"},
		"thresholds": thresholds, "timeframe": frames[0], "target_threshold": 95.0,
		"sli_specification": object{"count": object{
			"good_events_formula": object{"formula": "good"}, "bad_events_formula": object{"formula": "bad"},
			"queries": []any{query("good", "<="), query("bad", ">")},
		}},
	})
}

func burn(name, of, over string) *declare.Object {
	return thing(declare.Monitor, name, object{
		"name": "[prod] " + name, "type": "slo alert", "message": "It burns. @slack-latam", "tags": []any{"env:prod", "slo:" + of}, "priority": 2.0,
		"query":   fmt.Sprintf(`burn_rate("${ref:slo.%s}").over("%s").long_window("1h").short_window("5m") > 14.4`, of, over),
		"options": object{"thresholds": object{"critical": 14.4}, "include_tags": true},
	})
}

func dashboard(name string, monitors, slos []string) *declare.Object {
	widgets := []any{object{"definition": object{"type": "note", "content": "Read me."}, "layout": object{"x": 0.0, "y": 0.0, "width": 3.0, "height": 2.0}}}
	for i, m := range monitors {
		widgets = append(widgets, object{"definition": object{"type": "alert_graph", "alert_id": "${ref:monitor." + m + "}", "viz_type": "timeseries"}, "layout": object{"x": 0.0, "y": float64(2 + i), "width": 3.0, "height": 1.0}})
	}
	for i, s := range slos {
		widgets = append(widgets, object{"definition": object{"type": "slo", "slo_id": "${ref:slo." + s + "}", "view_type": "detail", "view_mode": "overall", "time_windows": []any{"30d"}}, "layout": object{"x": 4.0, "y": float64(2 + i), "width": 3.0, "height": 1.0}})
	}
	return thing(declare.Dashboard, name, object{"title": "[prod] " + name, "description": "From left to right.", "layout_type": "ordered", "reflow_type": "fixed", "widgets": widgets})
}

// pipeline is a small set with everything in it that depends on something.
func pipeline() []*declare.Object {
	return []*declare.Object{
		metric("http.server.request.duration", "env", "service"),
		simple("ingest-errors", 10), simple("ingest-zero", 1), simple("backlog", 100),
		composite("ingest-stalled", "ingest-errors", "ingest-zero"),
		composite("both", "http-latency-burn-fast", "backlog"),
		slo("http-latency", "30d", "90d"), slo("ingest-latency", "30d", "90d"),
		burn("http-latency-burn-fast", "http-latency", "30d"), burn("ingest-latency-burn-fast", "ingest-latency", "90d"),
		dashboard("system", []string{"ingest-errors", "ingest-stalled"}, []string{"http-latency", "ingest-latency"}),
	}
}

// with returns an object whose payload was changed.
func with(o *declare.Object, change func(object)) *declare.Object {
	copied := *o
	copied.Payload = maps.Clone(o.Payload)
	change(copied.Payload)
	return &copied
}

// only is a part of what is built in.
func only(names ...string) fs.FS {
	out := fstest.MapFS{}
	for _, name := range names {
		content, err := fs.ReadFile(monitors.FS(), name)
		if err != nil {
			panic(err)
		}
		out[name] = &fstest.MapFile{Data: content}
	}
	return out
}

func monitorJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

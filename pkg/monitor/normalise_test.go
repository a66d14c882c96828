package monitor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/monitor/monitortest"
)

// What Datadog makes of an object is the object: whatever is declared, in whatever spelling, a plan
// after its sync is empty.
func FuzzServerChangesNothing(f *testing.F) {
	for seed := range uint64(64) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 1))}
		server := monitortest.NewServer(monitortest.Options{AllowDuplicates: true, Report: func(v string) { t.Error(v) }})
		for _, kind := range declare.Kinds() {
			payload := g.object(kind)
			id, err := server.Add(kind, payload)
			if err != nil {
				t.Fatalf("the generator made what Datadog refuses: %v\n%s", err, jsonText(payload))
			}
			if kind == declare.Monitor {
				g.monitorID = id
			}
			objects := server.Objects(kind)
			live := objects[len(objects)-1]
			declared, answered := normalise(kind, payload), normalise(kind, live)
			if kind == declare.Metric {
				delete(answered, "metric_type")
			}
			if diff := differences(answered, declared); len(diff) > 0 || digest(kind, declared) != digest(kind, answered) {
				t.Errorf("%s %s differs from what was declared: %+v\ndeclared %s\nanswered %s", kind, id, diff, jsonText(payload), jsonText(live))
			}
			// Signing changes nothing that is compared.
			signed := sign(payload, "latam-prod", mark{key: declare.Key{Kind: kind, Name: "x"}, hash: digest(kind, declared)})
			if diff := differences(normalise(kind, signed), declared); len(diff) > 0 {
				t.Errorf("the marks are compared: %+v", diff)
			}
		}
	})
}

// generator makes objects that Datadog takes, in all the spellings that a team could use.
type generator struct {
	*rand.Rand
	monitorID string
}

func (g *generator) flip() bool { return g.IntN(2) == 0 }

func (g *generator) one(choices ...any) any { return choices[g.IntN(len(choices))] }

// space is none or some, where it means nothing.
func (g *generator) space() string { return strings.Repeat(" ", g.IntN(2)) }

// maybe puts a value, or leaves it out.
func (g *generator) maybe(m map[string]any, key string, values ...any) {
	if g.flip() {
		m[key] = g.one(values...)
	}
}

func (g *generator) tags(of ...any) []any {
	g.Shuffle(len(of), func(i, j int) { of[i], of[j] = of[j], of[i] })
	return of[:g.IntN(len(of)+1)]
}

func (g *generator) text(words string) string {
	return g.one("", " ", "\n").(string) + words + g.one("", "\nsecond line", "\n\n", "  ", " {{value}} @slack-latam").(string)
}

func (g *generator) object(kind declare.Kind) map[string]any {
	switch kind {
	case declare.Metric:
		return map[string]any{"metric": fmt.Sprintf("latam.m%d", g.IntN(1000)), "include_percentiles": true, "tags": append(g.tags("service", "dataset"), "env")}
	case declare.Monitor:
		return g.monitor()
	case declare.SLO:
		return g.slo()
	}
	return g.dashboard()
}

func (g *generator) monitor() map[string]any {
	critical := g.one(10, 10.5, 0, 100)
	window := g.one("last_5m", "last_1h").(string)
	by := g.one("", " by {host}", " by {"+g.space()+"host,"+g.space()+"env}").(string)
	function := g.one("default_zero", "abs").(string)
	query := fmt.Sprintf("avg(%s):%s%s(%ssum:latam.errors{env:prod,%sservice:x}%s.as_count()%s)%s>%s%v", window, g.space(), function, g.space(), g.space(), by, g.space(), g.space(), g.space(), critical)
	thresholds := map[string]any{"critical": critical}
	options := map[string]any{"thresholds": thresholds}
	g.maybe(options, "include_tags", true, false)
	g.maybe(options, "require_full_window", true, false)
	g.maybe(options, "notify_audit", true, false)
	if g.maybe(options, "on_missing_data", "default"); function == "abs" {
		g.maybe(options, "on_missing_data", "default", "show_no_data")
	}
	g.maybe(options, "evaluation_delay", 0, 60, 900, nil)
	g.maybe(options, "renotify_interval", 0, 30, nil)
	g.maybe(options, "new_group_delay", 60, 300)
	g.maybe(options, "timeout_h", 0, 4, nil)
	p := map[string]any{"name": g.text("Too many errors"), "type": g.one("query alert", "metric alert"), "query": query, "message": g.text("Look. @slack-latam"), "options": options, "tags": g.tags("env:prod", "team:data", "service:x", "team:data")}
	if strings.Contains(p["name"].(string), "@") || strings.Contains(p["name"].(string), "\n") {
		p["name"] = g.space() + "Too many errors" + g.space()
	}
	g.maybe(p, "priority", 1, 3.0, nil)
	return p
}

func (g *generator) slo() map[string]any {
	var thresholds []any
	for _, frame := range g.tags("7d", "30d", "90d") {
		thresholds = append(thresholds, map[string]any{"timeframe": frame, "target": g.one(95, 95.5, 99.9)})
	}
	if thresholds == nil {
		thresholds = []any{map[string]any{"timeframe": "30d", "target": 95, "warning": 97}}
	}
	p := map[string]any{"name": "Fast answers" + g.space(), "tags": g.tags("env:prod", "team:data", "service:x"), "thresholds": thresholds}
	g.maybe(p, "description", "What for.", "", nil)
	name := g.one("good", "query1").(string)
	q := func(name, metric string) map[string]any {
		return map[string]any{"data_source": "metrics", "name": name, "query": "sum:latam." + metric + "{env:prod," + g.space() + "service:x}" + g.space() + ".as_count()"}
	}
	if g.flip() {
		p["type"] = "metric"
		p["sli_specification"] = map[string]any{"count": map[string]any{
			"good_events_formula": map[string]any{"formula": name}, "bad_events_formula": map[string]any{"formula": "bad"},
			"queries": []any{q(name, "good"), q("bad", "bad")},
		}}
		return p
	}
	p["type"] = "time_slice"
	slice := map[string]any{"comparator": "<=", "threshold": g.one(10, 0.5), "query": map[string]any{
		"formulas": []any{map[string]any{"formula": g.one("default_zero("+name+")", name)}}, "queries": []any{q(name, "errors")},
	}}
	g.maybe(slice, "query_interval_seconds", 60, 300)
	p["sli_specification"] = map[string]any{"time_slice": slice}
	return p
}

func (g *generator) dashboard() map[string]any {
	var widgets []any
	placed := g.flip()
	for i := range g.IntN(3) + 1 {
		w := map[string]any{"definition": g.one(
			map[string]any{"type": "note", "content": "Read me.", "background_color": "white"},
			map[string]any{"type": "alert_graph", "alert_id": g.monitorID, "viz_type": "timeseries", "title": "T"},
			map[string]any{"type": "timeseries", "title": "T", "requests": []any{map[string]any{
				"response_format": "timeseries", "formulas": []any{map[string]any{"formula": "a"}},
				"queries": []any{map[string]any{"data_source": "metrics", "name": "a", "query": "sum:latam.errors{env:prod," + g.space() + "service:x}"}},
			}}},
		)}
		if placed {
			w["layout"] = map[string]any{"x": 0, "y": i, "width": 4, "height": 2}
		}
		widgets = append(widgets, w)
	}
	p := map[string]any{"title": "System", "layout_type": "ordered", "widgets": widgets}
	g.maybe(p, "description", "From left to right.", "Two\nlines.", "", nil)
	g.maybe(p, "reflow_type", "auto")
	g.maybe(p, "tags", []any{"team:data"}, []any{})
	return p
}

// The hashes on live objects were made by this normal form. When this test fails, objects that nobody
// changed look changed: raise normalVersion, then renew the hashes here.
func TestHashesStayAsTheyAre(t *testing.T) {
	t.Parallel()
	for kind, c := range map[declare.Kind]struct{ payload, want string }{
		declare.Metric:  {`{"metric": "latam.batch.duration", "include_percentiles": true, "tags": ["service", "env"]}`, "1-6f3c6e0062e5"},
		declare.Monitor: {`{"name": "[prod] Errors ", "type": "metric alert", "query": "max(last_5m):default_zero( sum:latam.errors{env:prod,service:x}.as_count().rollup(sum,60) )>10", "message": "Look. @slack-latam\n", "priority": 1, "tags": ["b:c", "a:b"], "options": {"thresholds": {"critical": 10, "warning": 7.5}, "include_tags": true, "silenced": {}, "renotify_interval": 30, "renotify_statuses": ["alert"]}}`, "1-ac68e023dba5"},
		declare.SLO: {`{"name": "Fast", "type": "metric", "description": "", "tags": ["env:prod"], "thresholds": [{"timeframe": "90d", "target": 95}, {"timeframe": "30d", "target": 95, "warning": 97, "target_display": "95."}], "timeframe": "30d", "sli_specification": {"count": {"good_events_formula": {"formula": "good"}, "bad_events_formula": {"formula": "bad"}, "queries": [
			{"data_source": "metrics", "name": "good", "query": "count(v: v<=0.1):http.server.request.duration{env:prod}.as_count()"}, {"data_source": "metrics", "name": "bad", "query": "count(v: v>0.1):http.server.request.duration{env:prod}.as_count()"}]}}}`, "1-6e02f80fe651"},
		declare.Dashboard: {`{"title": "System", "layout_type": "ordered", "reflow_type": "fixed", "description": "Text.\n\nlatamctl stack=latam-prod id=dashboard.system", "widgets": [{"id": 7, "definition": {"type": "alert_graph", "alert_id": "${ref:monitor.errors}", "viz_type": "timeseries"}, "layout": {"x": 0, "y": 0, "width": 3, "height": 2}}], "url": "/x"}`, "1-b438e0b6f1c5"},
	} {
		var payload map[string]any
		if err := json.Unmarshal([]byte(c.payload), &payload); err != nil {
			t.Fatal(err)
		}
		if got := digest(kind, normalise(kind, payload)); got != c.want {
			t.Errorf("the hash of the %s is %s, and was %s", kind, got, c.want)
		}
	}
}

// What is different is told apart: each of these changes one thing that matters.
func TestNormalFormKeepsWhatMatters(t *testing.T) {
	t.Parallel()
	base := func() map[string]any {
		return map[string]any{
			"name": "a", "type": "query alert", "query": "avg(last_5m):sum:m{a:b} > 1", "message": "m", "priority": 2.0, "tags": []any{"x:y"},
			"options": map[string]any{"thresholds": map[string]any{"critical": 1.0}, "renotify_interval": 10.0, "include_tags": false},
		}
	}
	before := digest(declare.Monitor, normalise(declare.Monitor, base()))
	for name, change := range map[string]func(map[string]any){
		"name": func(m map[string]any) { m["name"] = "b" }, "query": func(m map[string]any) { m["query"] = "avg(last_5m):sum:m{a:c} > 1" },
		"type": func(m map[string]any) { m["type"] = "service check" }, "message": func(m map[string]any) { m["message"] = "n" },
		"priority": func(m map[string]any) { delete(m, "priority") }, "tags": func(m map[string]any) { m["tags"] = []any{} },
		"threshold":    func(m map[string]any) { m["options"].(map[string]any)["thresholds"] = map[string]any{"critical": 2.0} },
		"option":       func(m map[string]any) { m["options"].(map[string]any)["renotify_interval"] = 20.0 },
		"include_tags": func(m map[string]any) { delete(m["options"].(map[string]any), "include_tags") },
		"no data": func(m map[string]any) {
			maps.Copy(m["options"].(map[string]any), map[string]any{"notify_no_data": true, "no_data_timeframe": 20.0})
		},
	} {
		m := base()
		change(m)
		if digest(declare.Monitor, normalise(declare.Monitor, m)) == before {
			t.Errorf("a change of %s is not seen", name)
		}
	}
}

// Every option of the API is either compared, or somebody decided that it is not.
func TestEveryOptionIsDecidedAbout(t *testing.T) {
	t.Parallel()
	ignored := map[string]string{
		"silenced": "mutes belong to who is on call", "device_ids": "of synthetic tests", "synthetics_check_id": "of synthetic tests",
	}
	content, err := os.ReadFile("../../../shared/datadog/openapi-v1.json")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("the description of Datadog's API is not here")
	} else if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Components struct {
			Schemas map[string]struct{ Properties map[string]any }
		}
	}
	if err := json.Unmarshal(content, &document); err != nil {
		t.Fatal(err)
	}
	options := document.Components.Schemas["MonitorOptions"].Properties
	if len(options) == 0 {
		t.Fatal("the description has no MonitorOptions")
	}
	for name := range options {
		if compared := slices.Contains(comparedOptions(), name); compared == (ignored[name] != "") {
			t.Errorf("the option %s is neither compared nor ignored, or both", name)
		}
	}
	for name := range optionDefaults() {
		if !slices.Contains(comparedOptions(), name) {
			t.Errorf("%s has a default and is not compared", name)
		}
	}
}

func TestMarks(t *testing.T) {
	t.Parallel()
	ours := []any{"managed_by:latamctl", "latamctl_stack:latam-prod", "latamctl_id:monitor.a", "latamctl_hash:1-0123456789ab"}
	replace := func(i int, tag string) []any {
		tags := slices.Clone(ours)
		tags[i] = tag
		return tags
	}
	for _, c := range []struct {
		name string
		tags []any
		ok   bool
		err  bool
		hash string
	}{
		{name: "all", tags: ours, ok: true, hash: "1-0123456789ab"},
		{name: "without a hash", tags: ours[:3], ok: true},
		{name: "a hash of another form", tags: replace(3, "latamctl_hash:zz"), ok: true},
		{name: "a hash of another version", tags: replace(3, "latamctl_hash:2-0123456789ab"), ok: true, hash: "2-0123456789ab"},
		{name: "two hashes", tags: append(slices.Clone(ours), "latamctl_hash:1-ffffffffffff"), ok: true},
		{name: "twice the same", tags: append(slices.Clone(ours), ours...), ok: true, hash: "1-0123456789ab"},
		{name: "not managed", tags: ours[1:]},
		{name: "managed by another", tags: replace(0, "managed_by:terraform")},
		{name: "no stack", tags: []any{ours[0], ours[2]}},
		{name: "another stack", tags: replace(1, "latamctl_stack:latam-prod2")},
		{name: "no id", tags: []any{ours[0], ours[1], ours[3]}},
		{name: "an id of another kind", tags: replace(2, "latamctl_id:slo.a")},
		{name: "an id without a kind", tags: replace(2, "latamctl_id:a")},
		{name: "an id that is no name", tags: replace(2, "latamctl_id:monitor.../x")},
		{name: "two stacks", tags: append(slices.Clone(ours), "latamctl_stack:latam-dev"), err: true},
		{name: "two ids", tags: append(slices.Clone(ours), "latamctl_id:monitor.b"), err: true},
		{name: "upper case", tags: replace(0, "managed_by:Latamctl")},
	} {
		m, ok, err := readMark(Live{Kind: declare.Monitor, ID: "1", Payload: map[string]any{"tags": c.tags}}, "latam-prod")
		if ok != c.ok || (err != nil) != c.err || m.hash != c.hash || ok && m.key.Name != "a" {
			t.Errorf("%s: got %+v, %v, %v", c.name, m, ok, err)
		}
	}
}

func TestMarksOfDashboards(t *testing.T) {
	t.Parallel()
	const line = "latamctl stack=latam-prod id=dashboard.system hash=1-0123456789ab"
	for description, want := range map[string]bool{
		line: true, "Text.\n\n" + line: true, "Text.\n" + line + "\n": true, "latamctl stack=latam-prod id=dashboard.system": true,
		line + "\nadded": false, "": false, "latamctl stack=latam-dev id=dashboard.system": false, "latamctl stack=latam-prod": false,
		"x " + line: false, "latamctl id=dashboard.system stack=latam-prod": false, "latamctl stack=latam-prod id=monitor.system": false,
	} {
		m, ok, err := readMark(Live{Kind: declare.Dashboard, Payload: map[string]any{"description": description}}, "latam-prod")
		if ok != want || err != nil || ok && m.key.String() != "dashboard.system" {
			t.Errorf("%q: got %+v, %v, %v", description, m, ok, err)
		}
	}
	signed := sign(map[string]any{"description": "Text.\n\nlatamctl stack=old id=dashboard.x"}, "latam-prod", mark{key: declare.Key{Kind: declare.Dashboard, Name: "system"}, hash: "1-0123456789ab"})
	if got := signed["description"]; got != "Text.\n\n"+line {
		t.Errorf("the description is %q", got)
	}
}

// Ids become references and references ids, in every place that has them and in no other.
func TestReferencesAndIDs(t *testing.T) {
	t.Parallel()
	a, s := declare.Key{Kind: declare.Monitor, Name: "a"}, declare.Key{Kind: declare.SLO, Name: "s"}
	ids := map[declare.Key]string{a: "123", s: "0123456789abcdef0123456789abcdef"}
	known := map[declare.Kind]map[string]declare.Key{declare.Monitor: {"123": a}, declare.SLO: {ids[s]: s}}
	for _, c := range []struct {
		kind               declare.Kind
		symbolic, concrete string
	}{
		{declare.Monitor, `{"type":"composite","query":"${ref:monitor.a} && !(456 || ${ref:monitor.a})","message":"123"}`, `{"type":"composite","query":"123 && !(456 || 123)","message":"123"}`},
		{declare.Monitor, `{"type":"slo alert","query":"burn_rate(\"${ref:slo.s}\").over(\"30d\") > 14.4"}`, `{"type":"slo alert","query":"burn_rate(\"0123456789abcdef0123456789abcdef\").over(\"30d\") > 14.4"}`},
		{declare.Monitor, `{"type":"query alert","query":"avg(last_5m):sum:m{id:123} > 123"}`, `{"type":"query alert","query":"avg(last_5m):sum:m{id:123} > 123"}`},
		{declare.SLO, `{"type":"monitor","monitor_ids":["${ref:monitor.a}",456]}`, `{"type":"monitor","monitor_ids":[123,456]}`},
		{declare.Dashboard, `{"widgets":[{"definition":{"widgets":[{"definition":{"alert_id":"${ref:monitor.a}"}},{"definition":{"slo_id":"${ref:slo.s}"}}]}}],"title":"123"}`,
			`{"widgets":[{"definition":{"widgets":[{"definition":{"alert_id":"123"}},{"definition":{"slo_id":"0123456789abcdef0123456789abcdef"}}]}}],"title":"123"}`},
	} {
		var sym, con map[string]any
		if err := errors.Join(json.Unmarshal([]byte(c.symbolic), &sym), json.Unmarshal([]byte(c.concrete), &con)); err != nil {
			t.Fatal(err)
		}
		got, missing := resolve(c.kind, sym, ids)
		if jsonText(got) != jsonText(con) || missing != nil {
			t.Errorf("resolved: %s, missing %v, want %s", jsonText(got), missing, jsonText(con))
		}
		if back := symbolic(c.kind, con, known); jsonText(back) != jsonText(sym) {
			t.Errorf("symbolic: %s, want %s", jsonText(back), jsonText(sym))
		}
		if _, missing := resolve(c.kind, sym, nil); len(missing) != len(references(c.kind, sym)) {
			t.Errorf("missing %v, references %v", missing, references(c.kind, sym))
		}
	}
	if got := strayReference(declare.Monitor, map[string]any{"type": "query alert", "message": "see ${ref:slo.s}"}); got != "${ref:slo.s}" {
		t.Errorf("the stray reference is %q", got)
	}
	if got := strayReference(declare.Monitor, map[string]any{"type": "composite", "query": "${ref:monitor.a} && ${ref:monitor.b}"}); got != "" {
		t.Errorf("a reference of a composite is stray: %q", got)
	}
}

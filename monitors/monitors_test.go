package monitors_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/latamctl/latamctl/examples"
	"github.com/latamctl/latamctl/monitors"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/monitor/simulate"
	"github.com/latamctl/latamctl/pkg/telemetry"
)

const runbookBase = "https://example.com/runbooks"

// options are those of an environment in which everything is known and every role has a handle.
func options(t *testing.T) declare.Options {
	t.Helper()
	d, err := dataset.Load("latam.yaml", examples.Declaration)
	if err != nil {
		t.Fatal(err)
	}
	return declare.Options{
		BuiltIn: monitors.FS(), Declaration: d, Environment: "prod",
		Values: declare.Environment{
			Project: "my-project", Region: "us-central1", Cluster: "latam", Namespace: "latam", Instance: "latam-bigtable",
			Gateway: "latam-api.apigateway.my-project.cloud.goog", NodeMin: 3, Runbooks: runbookBase,
		},
		Notify: map[string][]string{"page": {"@pagerduty-latam"}, "ticket": {"@jira-latam"}, "chat": {"@slack-latam-alerts"}, "mail": {"@data@example.com"}},
	}
}

func load(t *testing.T) *declare.Set {
	t.Helper()
	set, err := declare.Load(options(t))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// mission is what has to be watched, and the monitors that do.
func mission() map[string][]string {
	return map[string][]string{
		"networking: packet loss":                {"packet-loss", "packet-drops", "nic-errors"},
		"networking: availability":               {"gateway-errors", "serve-available"},
		"networking: throughput":                 {"throughput-saturation", "throughput-drop"},
		"networking: connectivity":               {"bigtable-connectivity", "pubsub-connectivity", "node-network"},
		"data: ingestion rate":                   {"ingest-rate", "backlog-age", "backlog-size"},
		"data: failure, dead letters":            {"dead-letters", "dead-letters-unanswered", "dead-letters-expiring"},
		"data: failure, expired deadlines":       {"expired-deadlines"},
		"data: failure, stalled pipeline":        {"ingest-stalled"},
		"data: failure, ingest paused":           {"ingest-paused", "ingest-oldest-held", "ingest-redelivered"},
		"data: ingest behind, limits":            {"ingest-lag", "ingest-limits"},
		"data: clocks":                           {"clock-skew"},
		"data: publish to readable":              {"canary-slow"},
		"data: failure, telemetry gone":          {"telemetry-gone-ingest", "telemetry-gone-serve"},
		"data: error rate":                       {"ingest-error-rate", "ingest-error-share", "bigtable-errors"},
		"data: request rate":                     {"data-request-rate"},
		"data: average response":                 {"data-response", "bigtable-latency"},
		"application: CPU":                       {"cpu", "node-cpu"},
		"application: memory":                    {"memory", "node-memory"},
		"application: disk usage":                {"disk"},
		"application: number of nodes":           {"nodes", "nodes-schedulable"},
		"application: number of pods":            {"pods-missing", "serve-available"},
		"application: failures and restarts":     {"ingest-errors", "serve-errors", "http-5xx", "crash-loop", "oom-kills", "restarts"},
		"application: execution time":            {"processing-time", "batch-time"},
		"application: request rate":              {"request-rate", "request-rate-drop"},
		"application: average response time":     {"response-time", "gateway-latency"},
		"application: autoscaler at its ceiling": {"hpa-ceiling"},
		"application: scaling target of 60 %":    {"scaling-target-cpu", "scaling-target-memory"},
	}
}

// TestCatalogue loads what is built in, without a fault or a warning, and finds every line of the mission in it.
func TestCatalogue(t *testing.T) {
	t.Parallel()
	set := load(t)
	for _, w := range set.Warnings {
		t.Errorf("warning: %s", w)
	}
	bases := map[string]bool{}
	for _, o := range set.Objects {
		if o.Key.Kind == declare.Monitor {
			bases[o.Base] = true
		}
	}
	for line, names := range mission() {
		for _, name := range names {
			if !bases[name] {
				t.Errorf("%s: there is no monitor %s", line, name)
			}
		}
	}
	for _, name := range []string{"system", "dataset-flights"} {
		if set.Lookup(declare.Key{Kind: declare.Dashboard, Name: name}) == nil {
			t.Errorf("there is no dashboard %s", name)
		}
	}
}

// TestServiceLevels holds what is promised: 95 % over 30 and 90 days and a year, watched by burn rates and
// budgets, with a monitor for the time without data.
func TestServiceLevels(t *testing.T) {
	t.Parallel()
	set := load(t)
	for name, bound := range map[string]string{
		"ingest-latency-flights": "v<=0.05", "batch-write-flights": "v<=0.05", "response-flights": "v<=0.1", "errors": "",
	} {
		o := set.Lookup(declare.Key{Kind: declare.SLO, Name: name})
		if o == nil {
			t.Errorf("there is no SLO %s", name)
			continue
		}
		if o.SLI.Targets["30d"] != 95 || o.SLI.Targets["90d"] != 95 || o.SLI.YearlyPercent != 95 {
			t.Errorf("SLO %s: %v and %v over the year, want 95 %%", name, o.SLI.Targets, o.SLI.YearlyPercent)
		}
		if bound != "" && !strings.Contains(o.SLI.Good.String(), bound) {
			t.Errorf("SLO %s counts %s as good, want %s", name, o.SLI.Good, bound)
		}
		if bound == "" && (o.SLI.SliceOp != "<=" || o.SLI.SliceBound != 10 || o.SLI.SliceSeconds != 60) {
			t.Errorf("SLO %s: %s %v in %d s, want at most 10 in a minute", name, o.SLI.SliceOp, o.SLI.SliceBound, o.SLI.SliceSeconds)
		}
		silent := set.Lookup(declare.Key{Kind: declare.Monitor, Name: o.SLI.NoData})
		if silent == nil || !silent.Pages || len(silent.Notify[declare.OnNoData]) == 0 {
			t.Errorf("SLO %s: nobody is woken up when there is no data", name)
		}
		for _, tier := range []string{"fast", "sensitive", "mid", "slow", "slow90-6h", "slow90-24h", "budget-30d", "budget-90d"} {
			alert := set.Lookup(declare.Key{Kind: declare.Monitor, Name: name + "-burn-" + tier})
			if alert == nil {
				t.Errorf("SLO %s has no alert %s", name, tier)
				continue
			}
			if pages := slices.Contains([]string{"fast", "sensitive", "mid"}, tier); alert.Pages != pages {
				t.Errorf("%s pages: %v, want %v", alert.Key, alert.Pages, pages)
			}
		}
	}
}

// TestPagesAreFew keeps the list of what wakes people up in view. Google's metrics are late, so none of
// them does so alone.
func TestPagesAreFew(t *testing.T) {
	t.Parallel()
	var got []string
	for _, o := range load(t).Objects {
		if o.Key.Kind != declare.Monitor || !o.Pages || strings.Contains(o.Key.Name, "-burn-") {
			continue
		}
		got = append(got, o.Key.Name)
		if strings.Contains(o.Query.String(), ":gcp.") {
			t.Errorf("%s pages by a metric of Google alone", o.Key)
		}
		if len(o.Notify[declare.OnRecovery]) == 0 || len(o.Notify[declare.OnRenotify]) == 0 {
			t.Errorf("%s pages, and says neither that it is over nor that it goes on", o.Key)
		}
	}
	want := []string{
		"crash-loop", "http-5xx", "ingest-error-rate", "ingest-errors", "ingest-stalled-flights", "pods-missing",
		"serve-available", "serve-errors", "telemetry-gone-ingest", "telemetry-gone-serve",
	}
	if !slices.Equal(got, want) {
		t.Errorf("what pages:\n got %q\nwant %q", got, want)
	}
}

var runbookLink = regexp.MustCompile(regexp.QuoteMeta(runbookBase) + `/([a-z0-9-]+\.md)`)

// TestRunbooks finds the page of every link, a link in everything that pages, and a use of every page.
func TestRunbooks(t *testing.T) {
	t.Parallel()
	folder := filepath.Join("..", "docs", "runbooks")
	pages := map[string]bool{}
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		pages[e.Name()] = false
	}
	for _, o := range load(t).Objects {
		if o.Key.Kind != declare.Monitor {
			continue
		}
		message, _ := o.Payload["message"].(string)
		link := runbookLink.FindStringSubmatch(message)
		if link == nil {
			if o.Pages {
				t.Errorf("%s pages and links no runbook", o.Key)
			}
			continue
		}
		if _, ok := pages[link[1]]; !ok {
			t.Errorf("%s links docs/runbooks/%s, which does not exist", o.Key, link[1])
		}
		pages[link[1]] = true
	}
	for name, used := range pages {
		if !used {
			t.Errorf("docs/runbooks/%s is the page of no monitor", name)
		}
		text, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		checkRunbook(t, name, string(text), pages)
	}
}

var pageLink = regexp.MustCompile(`\]\(([a-z0-9-]+\.md)\)`)

func checkRunbook(t *testing.T, name, text string, pages map[string]bool) {
	t.Helper()
	for _, part := range []string{"## How it is measured", "## First", "```sh", "## Likely causes", "## Silence", "## Escalate"} {
		if !strings.Contains(text, part) {
			t.Errorf("docs/runbooks/%s has no %q", name, part)
		}
	}
	if n := strings.Count(text, "\n"); n > 40 {
		t.Errorf("docs/runbooks/%s has %d lines: at night nobody reads more than 40", name, n)
	}
	for _, link := range pageLink.FindAllStringSubmatch(text, -1) {
		if _, ok := pages[link[1]]; !ok {
			t.Errorf("docs/runbooks/%s links %s, which does not exist", name, link[1])
		}
	}
}

// TestRenamedMetricsAreFound renames each metric of ours, and an attribute, in the files: both would
// otherwise be queries that never have data.
func TestRenamedMetricsAreFound(t *testing.T) {
	t.Parallel()
	used := 0
	for _, m := range telemetry.Catalogue() {
		renamed, changed := edited(t, ":"+m.Name+"{", ":"+m.Name+".renamed{")
		if !changed {
			continue
		}
		used++
		wantFault(t, renamed, m.Name+".renamed")
	}
	if used < 8 {
		t.Errorf("%d metrics of ours are watched", used)
	}
	renamed, _ := edited(t, "latam.answer:", "latam.anwser:")
	wantFault(t, renamed, "latam.anwser")
}

func wantFault(t *testing.T, files fs.FS, part string) {
	t.Helper()
	o := options(t)
	o.BuiltIn = files
	if _, err := declare.Load(o); err == nil || !strings.Contains(err.Error(), part) {
		t.Errorf("%s is not found: %v", part, err)
	}
}

// edited returns the files with a text replaced, and whether there was one.
func edited(t *testing.T, before, after string) (files fstest.MapFS, changed bool) {
	t.Helper()
	files = fstest.MapFS{}
	names, err := fs.Glob(monitors.FS(), "*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		src, err := fs.ReadFile(monitors.FS(), name)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(src), before, after)
		changed = changed || text != string(src)
		files[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return files, changed
}

// TestEveryMonitorFires runs the tests of the catalogue, and finds for each monitor and SLO one in which
// it alerts and one in which it does not.
func TestEveryMonitorFires(t *testing.T) {
	t.Parallel()
	set := load(t)
	tests, err := simulate.Load(options(t), set)
	if err != nil {
		t.Fatal(err)
	}
	results := simulate.Run(set, tests)
	for i := range results {
		if r := &results[i]; !r.Passed {
			t.Errorf("%s:%d: %s: %s", r.Test.File, r.Test.At.Line, r.Test.Name, r.Reason)
		}
	}
	burns := map[declare.Key]bool{}
	for i := range tests {
		for _, e := range tests[i].Expect {
			if e.Alerts["fast"] == simulate.Alert {
				burns[tests[i].Target] = true
			}
		}
	}
	for _, c := range simulate.Coverage(set, tests) {
		if !c.Fires || !c.Quiet {
			t.Errorf("%s: a test in which it alerts: %v, one in which it does not: %v", c.Key, c.Fires, c.Quiet)
		}
		if c.Key.Kind == declare.SLO && !burns[c.Key] {
			t.Errorf("%s: no test burns its fast tier", c.Key)
		}
	}
}

// TestOtherDeclarations loads the catalogue for datasets of other names and service levels, and for an
// environment that tells nobody yet; what the tests say holds for them as well.
func TestOtherDeclarations(t *testing.T) {
	t.Parallel()
	d, err := dataset.Load("latam.yaml", []byte(`version: 1
name: shop
datasets:
  orders:
    fields: {number: {type: string, required: true}}
    key: [number]
    slo: {ingest_latency: 100ms, response: 250ms, target: 99.9}
  iot_events:
    fields: {device: {type: string, required: true}}
    key: [device]
environments:
  test: {engine: gcp, project: p, region: us-central1}
`))
	if err != nil {
		t.Fatal(err)
	}
	o := options(t)
	o.Declaration, o.Environment, o.Values.NodeMin, o.Values.Runbooks = d, "test", 6, ""
	set, err := declare.Load(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ingest-latency-orders", "response-iot_events"} {
		if set.Lookup(declare.Key{Kind: declare.SLO, Name: name}) == nil {
			t.Errorf("there is no SLO %s", name)
		}
	}
	tests, err := simulate.Load(o, set)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range simulate.Run(set, tests) {
		if !r.Passed && !r.Skipped {
			t.Errorf("%s: %s", r.Test.Name, r.Reason)
		}
	}
	o.Notify = nil
	if set, err = declare.Load(o); err != nil || !slices.ContainsFunc(set.Warnings, func(w string) bool { return strings.Contains(w, "page") }) {
		t.Errorf("nobody is told, and the warnings are %q, %v", set.Warnings, err)
	}
}

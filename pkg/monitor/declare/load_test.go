package declare_test

import (
	"testing"
	"testing/fstest"

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

// options are those of an environment in which everything is known.
func options(t testing.TB, files map[string]string) declare.Options {
	t.Helper()
	d, err := dataset.Load("latam.yaml", []byte(declaration))
	if err != nil {
		t.Fatal(err)
	}
	folder := fstest.MapFS{}
	for name, text := range files {
		folder[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return declare.Options{
		BuiltIn: folder, Declaration: d, Environment: "prod",
		Values: declare.Environment{Project: "acme", Region: "us-east1", Cluster: "gke", Namespace: "latam", Instance: "latam-bigtable",
			Gateway: "api.example.com", NodeMin: 3, Runbooks: "https://example.com/runbooks"},
		Notify: map[string][]string{"page": {"@pagerduty-latam"}, "chat": {"@slack-latam-alerts"}, "ticket": {"@jira-latam"}},
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

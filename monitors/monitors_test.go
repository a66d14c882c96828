package monitors_test

import (
	"testing"

	"github.com/latamctl/latamctl/examples"
	"github.com/latamctl/latamctl/monitors"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

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
			Gateway: "latam-api.apigateway.my-project.cloud.goog", NodeMin: 3, Runbooks: "https://example.com/runbooks",
		},
		Notify: map[string][]string{"page": {"@pagerduty-latam"}, "ticket": {"@jira-latam"}, "chat": {"@slack-latam-alerts"}, "mail": {"@data@example.com"}},
	}
}

func load(t *testing.T, o declare.Options) *declare.Set {
	t.Helper()
	set, err := declare.Load(o)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestCatalogueLoads(t *testing.T) {
	t.Parallel()
	set := load(t, options(t))
	for _, w := range set.Warnings {
		t.Errorf("warning: %s", w)
	}
	for _, o := range set.Objects { t.Log(o.Key, o.Base, o.Pages, o.Payload["query"]) }
}

package declare_test

import (
	"testing"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

func TestNames(t *testing.T) {
	t.Parallel()
	o := options(t, map[string]string{
		"a.yaml": "version: 1\nvalues: {max_backlog: 10000, where: \"${region}\", share: 0.5, on: true, many: [a]}\n",
		"b.yaml": "version: 1\nvalues: [at, fault]\n",
	})
	o.Values.Instance = ""
	got, err := declare.Names(o)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"max_backlog": "10000", "where": "us-east1", "share": "0.5", "on": "true", "env": "prod", "stack": "latam-prod", "node_min": "3",
		"cluster": "gke", "runbooks": "https://example.com/runbooks",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	for _, name := range []string{"instance", "many"} {
		if v, ok := got[name]; ok {
			t.Errorf("%s is %q, want nothing", name, v)
		}
	}
	each := declare.DatasetNames(o.Declaration.Datasets[0])
	if each["each.ingest_latency"] == "" || each["each.topic"] == "" || each["each.name"] != o.Declaration.Datasets[0].Name {
		t.Errorf("the dataset has %v", each)
	}
}

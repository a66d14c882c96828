package monitortest_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/examples"
	"github.com/latamctl/latamctl/monitors"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/monitor/monitortest"
)

func builtIn(t *testing.T) *declare.Set {
	t.Helper()
	d, err := dataset.Load("latam.yaml", examples.Declaration)
	if err != nil {
		t.Fatal(err)
	}
	set, err := declare.Load(declare.Options{
		BuiltIn: monitors.FS(), Declaration: d, Environment: "prod",
		Values: declare.Environment{Project: "my-project", Region: "us-central1", Cluster: "latam", Namespace: "latam", Instance: "latam-bigtable",
			Gateway: "latam-api.apigateway.my-project.cloud.goog", NodeMin: 3, Runbooks: "https://example.com/runbooks"},
		Notify: map[string][]string{"page": {"@pagerduty-latam"}, "ticket": {"@jira-latam"}, "chat": {"@slack-latam-alerts"}, "mail": {"@data@example.com"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

var reference = regexp.MustCompile(`\$\{ref:([a-z]+\.[a-z0-9.-]+)\}`)

// TestBuiltInObjectsAreTaken creates all that latamctl brings along, each object after those that it
// names: nothing of it is refused, and all of it is as Datadog describes it.
func TestBuiltInObjectsAreTaken(t *testing.T) {
	t.Parallel()
	s := monitortest.New(t)
	ids := map[string]string{}
	paths := map[declare.Kind]string{declare.Monitor: "/api/v1/monitor", declare.SLO: "/api/v1/slo", declare.Dashboard: "/api/v1/dashboard"}
	create := func(o *declare.Object) {
		body := o.Payload
		path := paths[o.Key.Kind]
		if o.Key.Kind == declare.Metric {
			path = "/api/v2/metrics/" + o.Key.Name + "/tags"
			body = object{"data": object{"type": "manage_tags", "id": o.Key.Name, "attributes": object{
				"metric_type": "distribution", "include_percentiles": body["include_percentiles"], "tags": body["tags"]}}}
		}
		text := reference.ReplaceAllStringFunc(jsonText(body), func(ref string) string { return ids[reference.FindStringSubmatch(ref)[1]] })
		got := call(t, s, "POST", path, json.RawMessage(text))
		if got.status != 200 && got.status != 201 {
			t.Fatalf("%s:%d: %s: %d %s\n%s", o.File, o.At.Line, o.Key, got.status, got.text, text)
		}
		made, _ := got.body.(object)
		if list, ok := made["data"].([]any); ok {
			made = list[0].(object)
		}
		ids[o.Key.String()] = strings.Trim(jsonText(made["id"]), `"`)
	}
	waiting := builtIn(t).Objects
	for len(waiting) > 0 {
		var later []*declare.Object
		for _, o := range waiting {
			ready := true
			for _, ref := range o.Refs {
				ready = ready && ids[ref.String()] != ""
			}
			if !ready {
				later = append(later, o)
				continue
			}
			create(o)
		}
		if len(later) == len(waiting) {
			t.Fatal(fmt.Sprint(len(later), " objects wait for each other"))
		}
		waiting = later
	}
	for kind, least := range map[declare.Kind]int{declare.Metric: 1, declare.Monitor: 40, declare.SLO: 3, declare.Dashboard: 2} {
		if n := len(s.Objects(kind)); n < least {
			t.Errorf("%d objects of kind %s", n, kind)
		}
	}
}

package deploy_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/latamctl/latamctl/pkg/deploy"
	"github.com/latamctl/latamctl/pkg/plan"
	"github.com/latamctl/latamctl/pkg/telemetry"
)

// TestScaleOnLag: the autoscaler of ingest gets a metric that we emit, of this environment, besides the
// other two; nothing else changes, and without the setting nothing is left of it.
func TestScaleOnLag(t *testing.T) {
	t.Parallel()
	without := render(t, values())
	for _, live := range []string{deploy.Blue, deploy.Green} {
		v := values()
		v.ScaleOnLag, v.Environment, v.Live = true, "test", live
		objects := render(t, v)
		if d := cmp.Diff([]string(nil), breaches(t, objects)); d != "" {
			t.Error(d)
		}
		metric := objects["DatadogMetric/flights/ingest-lag"]
		if metric == nil {
			t.Fatal("there is no metric")
		}
		if query, _, _ := unstructured.NestedString(metric.Object, "spec", "query"); query != "max:"+telemetry.IngestLag.Name+"{env:test,service:latam-ingest}" {
			t.Errorf("it asks for %s", query)
		}
		scaler := typed[autoscalingv2.HorizontalPodAutoscaler](t, objects, "HorizontalPodAutoscaler")["ingest"]
		if len(scaler.Spec.Metrics) != 3 {
			t.Fatalf("metrics %+v", scaler.Spec.Metrics)
		}
		external := scaler.Spec.Metrics[2].External
		if external == nil || external.Metric.Name != "datadogmetric@flights:ingest-lag" || external.Target.Type != autoscalingv2.ValueMetricType || external.Target.Value.Value() != 10 {
			t.Errorf("the third metric is %+v", external)
		}
		for address := range without {
			if objects[address] == nil && !strings.HasPrefix(address, "ConfigMap/") {
				t.Errorf("%s is gone", address)
			}
		}
		if len(objects) != len(without)+1 {
			t.Errorf("%d objects instead of %d", len(objects), len(without)+1)
		}
	}
	if without["DatadogMetric/flights/ingest-lag"] != nil {
		t.Error("the metric is there without the setting")
	}
}

// TestScaleOnLagWithoutTheAgent: a cluster without Datadog's kind gets everything else, is told so, and
// gets the metric once the kind is there. Turned off, it goes.
func TestScaleOnLagWithoutTheAgent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.opts.Values.ScaleOnLag = true
	w.server.Remove("datadoghq.com/v1alpha1")
	if s := w.plan(); !strings.Contains(s.Note, "stack observability") || hasChange(s, "DatadogMetric") {
		t.Errorf("the plan says %q", s.Note)
	}
	w.apply()
	w.expect(w.plan())

	w.server.Restore("datadoghq.com/v1alpha1")
	s := w.plan()
	if s.Note != "" || !hasChange(s, "DatadogMetric") || !hasChange(s, "HorizontalPodAutoscaler") || len(s.Changes) != 2 {
		t.Errorf("with the kind there is %q and %+v", s.Note, s.Changes)
	}
	w.apply()
	w.expect(w.plan())

	w.opts.Values.ScaleOnLag = false
	w.apply()
	if w.server.Objects()["DatadogMetric/flights/ingest-lag"] != nil {
		t.Error("the metric stays although it was turned off")
	}
	w.expect(w.plan())
}

func hasChange(s plan.Section, kind string) bool {
	return slices.ContainsFunc(s.Changes, func(c plan.Change) bool { return c.Type == kind })
}

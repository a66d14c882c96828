package query

import (
	"context"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/latamctl/latamctl/pkg/web"
)

// TestAnswersAreMeasuredByDataset holds the attributes that service levels go by: the dataset, which
// no caller can choose, and that answers which last as long as their reader likes are told apart.
func TestAnswersAreMeasuredByDataset(t *testing.T) {
	t.Parallel()
	w := warehouseWorld(t, &fakeWarehouse{})
	w.store.before = nil
	reader := sdkmetric.NewManualReader()
	meter := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("t")
	var err error
	if w.handler, err = web.Harden(web.Options{}, web.Deps{Handler: w.service.Handler(), Meter: meter}); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{
		"/healthz", "/v1/datasets", "/v1/datasets/atlantis", "/v1/datasets/atlantis/rows",
		"/v1/datasets/flights", "/v1/datasets/flights/rows?limit=1", "/v1/datasets/flights/rows?nonsense=1",
		"/v1/datasets/flights/aggregate?metric=count",
	} {
		w.do("GET", target, "")
	}
	w.do("GET", "/v1/datasets/flights/rows?limit=1", "", "Accept", "application/x-ndjson")
	// A reader of live rows who has left already ends at once.
	w.service.deps.Follower = newFakeFollower()
	ctx, leave := context.WithCancel(t.Context())
	leave()
	w.handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", "/v1/datasets/flights/tail", nil))
	var rm metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &rm); err != nil {
		t.Fatal(err)
	}
	got := map[string]uint64{}
	for _, dp := range rm.ScopeMetrics[0].Metrics[0].Data.(metricdata.Histogram[float64]).DataPoints {
		dataset, _ := dp.Attributes.Value(attribute.Key("dataset"))
		answer, _ := dp.Attributes.Value(attribute.Key("latam.answer"))
		got[dataset.AsString()+" "+answer.AsString()] += dp.Count
	}
	if d := cmp.Diff(map[string]uint64{" ": 4, "flights direct": 3, "flights stream": 2, "flights warehouse": 1}, got); d != "" {
		t.Error(d)
	}
}

package cli_test

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// TestOneTraceFromPublishToCommit posts a record with a trace of its own and finds that trace in
// the spans of the HTTP server, of ingest and of the commit.
func TestOneTraceFromPublishToCommit(t *testing.T) {
	t.Parallel()
	const traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	var mu sync.Mutex
	spans := map[string]bool{}
	metrics := false
	sink := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		switch r.URL.Path {
		case "/v1/metrics":
			metrics = true
		case "/v1/traces":
			var req collector.ExportTraceServiceRequest
			if err := proto.Unmarshal(body, &req); err != nil {
				t.Error(err)
			}
			for _, resource := range req.GetResourceSpans() {
				for _, scope := range resource.GetScopeSpans() {
					for _, span := range scope.GetSpans() {
						if hex.EncodeToString(span.GetTraceId()) == traceID {
							spans[span.GetName()] = true
						}
					}
				}
			}
		}
	}))
	defer sink.Close()

	p, r := startUpWith(t, t.TempDir(), []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + sink.URL}, "--engine", "memory", "--no-sample")
	record := `{"origin":"SCL","departed_at":"2026-11-23T12:30:00Z","destination":"LIM"}`
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.API+"/v1/datasets/flights/records", strings.NewReader(record))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Traceparent", "00-"+traceID+"-00f067aa0ba902b7-01")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusAccepted {
		t.Fatalf("publish: %d %s", resp.StatusCode, body)
	}
	settled(t, r.Admin, "ok", 1)
	p.terminate() // What is pending is sent at the end.
	eventually(t, waitLimit, func() (bool, string) {
		mu.Lock()
		defer mu.Unlock()
		seen := ""
		for name := range spans {
			seen += name + ", "
		}
		return metrics && spans["POST /v1/datasets/{dataset}/records"] && spans["process flights-ingest"] && spans["commit flights"], seen
	})
}

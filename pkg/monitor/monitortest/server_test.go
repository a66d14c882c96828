package monitortest_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"testing"

	"github.com/latamctl/latamctl/pkg/monitor/monitortest"
)

type object = map[string]any

// answer is what a call got: its status, its body as JSON, and its headers.
type answer struct {
	status int
	body   any
	text   string
	header http.Header
}

func (a answer) errors() []any {
	body, _ := a.body.(object)
	errs, _ := body["errors"].([]any)
	return errs
}

func (a answer) get(path ...string) any {
	v := a.body
	for _, name := range path {
		m, _ := v.(object)
		v = m[name]
	}
	return v
}

func call(t *testing.T, s *monitortest.Server, method, path string, body any) answer {
	t.Helper()
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		content = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL()+path, content)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("DD-API-KEY", monitortest.APIKey)
	r.Header.Set("DD-APPLICATION-KEY", monitortest.AppKey)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	return send(t, http.DefaultClient, r)
}

func send(t *testing.T, client *http.Client, r *http.Request) answer {
	t.Helper()
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: response.StatusCode, text: string(text), header: response.Header}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &a.body); err != nil {
			t.Fatalf("%s %s: %s: %v", r.Method, r.URL, text, err)
		}
	}
	return a
}

func want(t *testing.T, a answer, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.text)
	}
	return a
}

func aMonitor() object {
	return object{
		"type": "metric alert", "name": " Ingest errors ", "message": "Look. @slack-latam-alerts\n", "tags": []any{"env:prod", "managed_by:latamctl"},
		"query":   "max(last_5m):default_zero(sum:latam.errors{env:prod,service:latam-ingest} by {host}.as_count().rollup(sum, 60)) > 10",
		"options": object{"thresholds": object{"critical": 10, "warning": 7}, "new_group_delay": 60},
	}
}

func anSLO() object {
	return object{
		"type": "metric", "name": "HTTP", "tags": []any{"service:serve", "env:prod", "a:b"},
		"thresholds": []any{object{"timeframe": "30d", "target": 95, "warning": 97}, object{"timeframe": "90d", "target": 95}},
		"timeframe":  "30d", "target_threshold": 95, "warning_threshold": 97,
		"sli_specification": object{"count": object{
			"good_events_formula": object{"formula": "good"}, "bad_events_formula": object{"formula": "bad"},
			"queries": []any{
				object{"data_source": "metrics", "name": "good", "query": "count(v: v<=0.1):http.server.request.duration{env:prod}.as_count()"},
				object{"data_source": "metrics", "name": "bad", "query": "count(v: v>0.1):http.server.request.duration{env:prod}.as_count()"},
			}}},
	}
}

func aDashboard(slo string) object {
	widgets := []any{object{"definition": object{"type": "note", "content": "Hello"}}}
	if slo != "" {
		widgets = append(widgets, object{"definition": object{"type": "group", "layout_type": "ordered", "title": "SLOs", "widgets": []any{
			object{"definition": object{"type": "slo", "slo_id": slo, "view_type": "detail", "time_windows": []any{"30d"}, "view_mode": "both"}}}}})
	}
	return object{"title": "System", "layout_type": "ordered", "description": "All of it.", "widgets": widgets, "tags": []any{"team:data"}}
}

// TestMonitorLifecycle is the traffic that was recorded of a monitor, and what the server makes of it.
func TestMonitorLifecycle(t *testing.T) {
	t.Parallel()
	s := monitortest.New(t)
	made := want(t, call(t, s, "POST", "/api/v1/monitor", aMonitor()), 200)
	for path, value := range map[string]any{"type": "query alert", "name": "Ingest errors", "message": "Look. @slack-latam-alerts", "multi": true, "overall_state": "No Data"} {
		if made.get(path) != value {
			t.Errorf("%s is %v, want %v", path, made.get(path), value)
		}
	}
	if !bytes.Contains([]byte(made.text), []byte(`"critical":10.0`)) || made.get("options", "new_host_delay") != 300.0 {
		t.Errorf("no defaults and decimals: %s", made.text)
	}
	id := json.Number(jsonText(made.get("id"))).String()
	changed := want(t, call(t, s, "PUT", "/api/v1/monitor/"+id, object{"options": object{"thresholds": object{"critical": 10}}}), 200)
	if changed.get("message") != "Look. @slack-latam-alerts" || changed.get("options", "new_group_delay") != nil || changed.get("modified") == made.get("modified") {
		t.Errorf("PUT did not merge the top level and replace the options: %s", changed.text)
	}
	if got := want(t, call(t, s, "PUT", "/api/v1/monitor/"+id, object{"type": "log alert"}), 400); got.errors()[0] != "Monitor type change not allowed" {
		t.Error(got.text)
	}
	want(t, call(t, s, "PUT", "/api/v1/monitor/"+id, object{"type": "metric alert"}), 200)
	want(t, call(t, s, "DELETE", "/api/v1/monitor/"+id, nil), 200)
	want(t, call(t, s, "GET", "/api/v1/monitor/"+id, nil), 404)
}

func jsonText(v any) string {
	text, _ := json.Marshal(v)
	return string(text)
}

func TestSLOAndDashboardLifecycle(t *testing.T) {
	t.Parallel()
	s := monitortest.New(t)
	made := want(t, call(t, s, "POST", "/api/v1/slo", anSLO()), 200)
	slo := made.get("data").([]any)[0].(object)
	id := slo["id"].(string)
	read := want(t, call(t, s, "GET", "/api/v1/slo/"+id, nil), 200)
	if jsonText(slo["tags"]) == jsonText(read.get("data", "tags")) {
		t.Errorf("the order of tags is the same: %v", slo["tags"])
	}
	if !bytes.Contains([]byte(read.text), []byte(`"target_display":"95."`)) {
		t.Error(read.text)
	}
	if got := want(t, call(t, s, "PUT", "/api/v1/slo/"+id, with(anSLO(), "type", "monitor")), 400); got.errors()[0] != "Invalid payload: must specify the query for count types" {
		t.Error(got.text)
	}
	legacy := with(with(anSLO(), "sli_specification", nil), "tags", nil)
	legacy["query"] = object{"numerator": "sum:a.b{*}.as_count()", "denominator": "sum:a.c{*}.as_count()"}
	changed := want(t, call(t, s, "PUT", "/api/v1/slo/"+id, legacy), 200).get("data").([]any)[0].(object)
	if len(changed["tags"].([]any)) > 0 || changed["sli_specification"] != nil || changed["modified_at"].(float64) <= slo["modified_at"].(float64) {
		t.Errorf("PUT did not replace the SLO: %v", changed)
	}
	board := want(t, call(t, s, "POST", "/api/v1/dashboard", aDashboard(id)), 200)
	want(t, call(t, s, "DELETE", "/api/v1/slo/"+id, nil), 409)
	want(t, call(t, s, "GET", "/api/v1/slo/can_delete?ids="+id, nil), 409)
	bulk := object{"data": []any{object{"id": board.get("id"), "type": "dashboard"}}}
	want(t, call(t, s, "DELETE", "/api/v1/dashboard", bulk), 204)
	want(t, call(t, s, "GET", "/api/v1/dashboard/"+board.get("id").(string), nil), 404)
	want(t, call(t, s, "DELETE", "/api/v1/dashboard", bulk), 404)
	want(t, call(t, s, "PATCH", "/api/v1/dashboard", object{"data": []any{bulk["data"].([]any)[0], object{"id": "no", "type": "dashboard"}}}), 404)
	want(t, call(t, s, "GET", "/api/v1/dashboard/"+board.get("id").(string), nil), 404)
	want(t, call(t, s, "PATCH", "/api/v1/dashboard", bulk), 204)
	want(t, call(t, s, "GET", "/api/v1/dashboard/"+board.get("id").(string), nil), 200)
	want(t, call(t, s, "PUT", "/api/v1/dashboard/"+board.get("id").(string), aDashboard("")), 200)
	want(t, call(t, s, "DELETE", "/api/v1/slo/"+id, nil), 200)
}

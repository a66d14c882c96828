package monitortest

import (
	"net/http"
	"strings"
)

// route is one operation of the API.
type route struct {
	method, pattern string
	bucket          string
	apiKeyOnly      bool
	// writes tells that the operation changes something, which needs a scope.
	writes bool
	serve  func(*Datadog, *request) *Response
}

// routes has those with fixed words before those with variables in their place.
func routes() []route {
	const get, post, put, del, patch = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch
	return []route{
		{method: get, pattern: "/api/v1/validate", bucket: "global_org", apiKeyOnly: true, serve: (*Datadog).validateKey},

		{method: get, pattern: "/api/v1/monitor", bucket: "get_all_monitors", serve: (*Datadog).listMonitors},
		{method: post, pattern: "/api/v1/monitor", bucket: "post_monitors", writes: true, serve: (*Datadog).createMonitor},
		{method: get, pattern: "/api/v1/monitor/can_delete", bucket: "global_org", serve: (*Datadog).canDeleteMonitors},
		{method: get, pattern: "/api/v1/monitor/search", bucket: "get_all_monitors", serve: (*Datadog).searchMonitors},
		{method: post, pattern: "/api/v1/monitor/validate", bucket: "global_org", serve: (*Datadog).validateMonitor},
		{method: get, pattern: "/api/v1/monitor/{monitor_id}", bucket: "get_monitors", serve: (*Datadog).getMonitor},
		{method: put, pattern: "/api/v1/monitor/{monitor_id}", bucket: "put_monitors", writes: true, serve: (*Datadog).updateMonitor},
		{method: del, pattern: "/api/v1/monitor/{monitor_id}", bucket: "global_org", writes: true, serve: (*Datadog).deleteMonitor},
		{method: post, pattern: "/api/v1/monitor/{monitor_id}/validate", bucket: "global_org", serve: (*Datadog).validateExistingMonitor},

		{method: get, pattern: "/api/v1/slo", bucket: "slo_get", serve: (*Datadog).listSLOs},
		{method: post, pattern: "/api/v1/slo", bucket: "slo_create", writes: true, serve: (*Datadog).createSLO},
		{method: get, pattern: "/api/v1/slo/can_delete", bucket: "slo_check_can_delete", serve: (*Datadog).canDeleteSLOs},
		{method: get, pattern: "/api/v1/slo/{slo_id}", bucket: "slo_get", serve: (*Datadog).getSLO},
		{method: put, pattern: "/api/v1/slo/{slo_id}", bucket: "slo_update", writes: true, serve: (*Datadog).updateSLO},
		{method: del, pattern: "/api/v1/slo/{slo_id}", bucket: "slo_delete", writes: true, serve: (*Datadog).deleteSLO},
		{method: get, pattern: "/api/v1/slo/{slo_id}/history", bucket: "slo_history", serve: (*Datadog).sloHistory},

		{method: get, pattern: "/api/v1/dashboard", bucket: "global_org", serve: (*Datadog).listDashboards},
		{method: post, pattern: "/api/v1/dashboard", bucket: "global_org", writes: true, serve: (*Datadog).createDashboard},
		{method: del, pattern: "/api/v1/dashboard", bucket: "global_org", writes: true, serve: (*Datadog).deleteDashboards},
		{method: patch, pattern: "/api/v1/dashboard", bucket: "global_org", writes: true, serve: (*Datadog).restoreDashboards},
		{method: get, pattern: "/api/v1/dashboard/{dashboard_id}", bucket: "global_org", serve: (*Datadog).getDashboard},
		{method: put, pattern: "/api/v1/dashboard/{dashboard_id}", bucket: "global_org", writes: true, serve: (*Datadog).updateDashboard},
		{method: del, pattern: "/api/v1/dashboard/{dashboard_id}", bucket: "global_org", writes: true, serve: (*Datadog).deleteDashboard},

		{method: get, pattern: "/api/v2/metrics", bucket: "global_org", serve: (*Datadog).listMetrics},
		{method: get, pattern: "/api/v2/metrics/{metric_name}/tags", bucket: "global_org", serve: (*Datadog).getMetric},
		{method: post, pattern: "/api/v2/metrics/{metric_name}/tags", bucket: "global_org", writes: true, serve: (*Datadog).createMetric},
		{method: patch, pattern: "/api/v2/metrics/{metric_name}/tags", bucket: "global_org", writes: true, serve: (*Datadog).updateMetric},
		{method: del, pattern: "/api/v2/metrics/{metric_name}/tags", bucket: "global_org", writes: true, serve: (*Datadog).deleteMetric},
	}
}

// route finds the operation of a request and the values of its variables.
func (d *Datadog) route(r *http.Request) (*route, []string) {
	segments := strings.Split(r.URL.Path, "/")
	for i := range d.routes {
		rt := &d.routes[i]
		if rt.method != r.Method {
			continue
		}
		if values, ok := match(strings.Split(rt.pattern, "/"), segments); ok {
			return rt, values
		}
	}
	return nil, nil
}

func match(pattern, segments []string) (values []string, ok bool) {
	if len(pattern) != len(segments) {
		return nil, false
	}
	for i, p := range pattern {
		switch {
		case strings.HasPrefix(p, "{") && segments[i] != "":
			values = append(values, segments[i])
		case p != segments[i]:
			return nil, false
		}
	}
	return values, true
}

func (d *Datadog) validateKey(*request) *Response { return ok(map[string]any{"valid": true}) }

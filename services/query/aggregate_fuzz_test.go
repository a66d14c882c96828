package query

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
)

// FuzzAggregate asks with any query string: the answer is JSON, and never a failure of the service.
func FuzzAggregate(f *testing.F) {
	for _, query := range []string{
		"", "metric=count,avg:delay_minutes,p95:delay_minutes&group_by=origin,destination&interval=1h", "metric=p50:", "metric=:,", "group_by=,",
		"interval=1w&from=-7d&to=now", "interval=9999999h", "interval=1e9d", "origin=SCL&metric=min:departed_at,max:origin&group_by=late",
		"delay_minutes[gt]=3&scan=allow&metric=sum:distance_miles", "metric=%00", "metric=count&metric=count", "metric[]=count", "format=csv", "limit=1",
	} {
		f.Add(query)
	}
	w := newWorld(f, testYAML, Options{})
	w.addFlights()
	f.Fuzz(func(t *testing.T, query string) {
		r := httptest.NewRequest(http.MethodGet, "/v1/datasets/flights/aggregate", nil)
		r.URL = &url.URL{Path: "/v1/datasets/flights/aggregate", RawQuery: query}
		rec := httptest.NewRecorder()
		w.handler.ServeHTTP(rec, r)
		if rec.Code != http.StatusOK && (rec.Code < 400 || rec.Code > 499) {
			t.Fatalf("%q: status %d: %s", query, rec.Code, rec.Body)
		}
		if !json.Valid(rec.Body.Bytes()) {
			t.Fatalf("%q: %s", query, rec.Body)
		}
	})
}

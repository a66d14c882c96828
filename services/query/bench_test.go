package query

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// discard is a ResponseWriter that costs nothing.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }

func benchmark(b *testing.B, target string) {
	w := newWorld(b, testYAML, Options{})
	for i := range 2000 {
		at := time.Date(2001, 1, 1, 0, i, 0, 0, time.UTC).Format(time.RFC3339)
		w.add("flights", fmt.Sprintf(`{"origin":"SCL","departed_at":"%s","destination":"LIM","delay_minutes":%d,"distance_miles":1500}`, at, i%90))
	}
	r := httptest.NewRequest("GET", target, nil)
	b.ReportAllocs()
	for b.Loop() {
		rec := &discard{header: http.Header{}}
		w.handler.ServeHTTP(rec, r)
		if rec.status != 200 {
			b.Fatalf("status %d", rec.status)
		}
		w.store.scans = w.store.scans[:0]
	}
}

func BenchmarkGet(b *testing.B) {
	benchmark(b, "/v1/datasets/flights/rows/SCL,2001-01-01T10:00:00Z,LIM")
}

func BenchmarkPage100(b *testing.B) {
	benchmark(b, "/v1/datasets/flights/rows?origin=SCL&from=2001-01-01T10:00:00Z")
}

package query

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// HEAD of an export answers with the headers of GET and reads no row.
func TestHeadOfAnExportReadsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{})
	w.addFlights()
	for _, query := range []string{"format=ndjson", "format=csv&origin=SCL"} {
		for _, coding := range []string{"", "gzip"} {
			target := "/v1/datasets/flights/rows?" + query
			get := w.do("GET", target, "", "Accept-Encoding", coding).Result().Header
			w.store.scans = nil
			rec := w.do("HEAD", target, "", "Accept-Encoding", coding)
			for _, name := range []string{"Content-Type", "Content-Encoding", "Cache-Control", "Vary"} {
				if got := rec.Header().Get(name); rec.Code != 200 || got != get.Get(name) {
					t.Errorf("HEAD %s: %d, %s is %q, want %q", target, rec.Code, name, got, get.Get(name))
				}
			}
			if len(w.store.scans) != 0 || rec.Body.Len() != 0 {
				t.Errorf("HEAD %s: %d scans, %d bytes", target, len(w.store.scans), rec.Body.Len())
			}
		}
	}
}

// Rows that left the buffer with the last chunk do not wait in the compressor for the next match of a
// slow search.
func TestSlowExportsShowTheirRows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{})
	ep := w.service.endpoints["tags"]
	rec := httptest.NewRecorder()
	st := &stream{
		s: w.service, l: listing{ep: ep, format: formatNDJSON}, w: rec, control: http.NewResponseController(rec), coding: "gzip",
		enc: ep.ds.NewEncoder(nil), flushed: w.now,
	}
	tag, err := ep.ds.Decode([]byte(`{"name":"a","note":"`+strings.Repeat("x", exportChunkBytes)+`"}`), w.now)
	if err != nil {
		t.Fatal(err)
	}
	if taken, err := st.add(tag.Row(w.now)); !taken || err != nil || len(st.body) != 0 {
		t.Fatalf("%v, %v, %d bytes left", taken, err, len(st.body))
	}
	if err := st.tick(w.now.Add(exportFlushEvery)); err != nil || !rec.Flushed {
		t.Errorf("after a second: %v, sent %v", err, rec.Flushed)
	}
	rec.Flushed = false
	if err := st.tick(w.now.Add(2 * exportFlushEvery)); err != nil || rec.Flushed {
		t.Errorf("with nothing new: %v, sent %v", err, rec.Flushed)
	}
}

// A page with a count has changed when the count has.
func TestPageTagsCoverTheCount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{})
	w.addFlights()
	const path = "/v1/datasets/flights/rows?limit=2&count=exact"
	tag := w.do("GET", path, "").Header().Get("Etag")
	if rec := w.do("GET", path, "", "If-None-Match", tag); rec.Code != http.StatusNotModified {
		t.Errorf("the same rows and count: %d", rec.Code)
	}
	w.add("flights", `{"origin":"ZZZ","departed_at":"2001-01-01T08:00:00Z","destination":"LIM"}`)
	if rec := w.do("GET", path, "", "If-None-Match", tag); rec.Code != 200 || !strings.Contains(rec.Body.String(), `"count":{"value":7,`) {
		t.Errorf("one row more: %d %s", rec.Code, rec.Body)
	}
}

// What a client has kept of a page is good for as long as the cursor on it.
func TestPageTagsEndWithTheirCursor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{})
	w.addFlights()
	const path = "/v1/datasets/flights/rows?limit=2"
	kept := w.page(path)
	tag := w.do("GET", path, "").Header().Get("Etag")
	for day := range 15 {
		w.now = w.now.Add(24 * time.Hour)
		rec := w.do("GET", path, "", "If-None-Match", tag)
		if rec.Code == http.StatusNotModified && w.do("GET", *kept.NextURL, "").Code != 200 {
			t.Fatalf("day %d: the page is said to be good, and its cursor is not", day+1)
		}
	}
	// Another process with another key.
	other := newWorld(t, testYAML, Options{})
	other.addFlights()
	if other.service.sealer, _ = newSealer([]byte(strings.Repeat("o", cursorKeyBytes))); other.service.sealer == nil {
		t.Fatal("no sealer")
	}
	if rec := other.do("GET", path, "", "If-None-Match", tag); rec.Code != 200 {
		t.Errorf("a page whose cursor this process does not take: %d", rec.Code)
	}
}

// Many requests for statistics wait for one look, and leave the places of the lists to lists.
func TestStatsDoNotHoldUpLists(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{MaxConcurrentLists: 2, QueueTimeout: 50 * time.Millisecond})
	w.addFlights()
	looking, release := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	w.store.before = func(context.Context) {
		if !first.Swap(true) {
			close(looking)
			<-release
		}
	}
	var answers sync.WaitGroup
	codes := make(chan int, 8)
	ask := func(ctx context.Context) {
		r := httptest.NewRequest("GET", "/v1/datasets/flights/stats", nil).WithContext(ctx)
		rec := httptest.NewRecorder()
		w.handler.ServeHTTP(rec, r)
		codes <- rec.Code
	}
	answers.Go(func() { ask(t.Context()) })
	<-looking
	for range 6 {
		answers.Go(func() { ask(t.Context()) })
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	ask(gone) // It returns although the look has not ended.
	if code := <-codes; code == 200 {
		t.Error("a client that went away was answered")
	}
	for range 3 {
		if rec := w.do("GET", "/v1/datasets/flights/rows?limit=1", ""); rec.Code != 200 {
			t.Errorf("a list beside statistics: %d %s", rec.Code, rec.Body)
		}
	}
	close(release)
	answers.Wait()
	close(codes)
	for code := range codes {
		if code != 200 {
			t.Errorf("statistics: %d", code)
		}
	}
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	if looks := len(w.store.scans) - 3; looks != 1 {
		t.Errorf("%d looks at all rows, want 1", looks)
	}
}

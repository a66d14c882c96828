package query

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/engine"
	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/pkg/web"
)

// walkRowsVar sets how many rows the test walks; make walk sets a million.
const walkRowsVar = "LATAM_WALK_ROWS"

// idSet is the number of ids and a hash of all of them in their order.
type idSet struct {
	n    int
	last string
	sum  uint64
}

func (s *idSet) add(t *testing.T, id string) {
	if id <= s.last {
		t.Fatalf("id %s follows %s", id, s.last)
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(id))
	s.n, s.last, s.sum = s.n+1, id, s.sum*31+h.Sum64()
}

// lineWriter is a client that takes an export line by line.
type lineWriter struct {
	header http.Header
	rest   []byte
	line   func([]byte)
}

func (w *lineWriter) Header() http.Header { return w.header }
func (w *lineWriter) WriteHeader(int)     {}
func (w *lineWriter) Write(b []byte) (int, error) {
	w.rest = append(w.rest, b...)
	for {
		at := bytes.IndexByte(w.rest, '\n')
		if at < 0 {
			return len(b), nil
		}
		w.line(w.rest[:at])
		w.rest = w.rest[at+1:]
	}
}

// TestWalkAndExportShowTheSameRows walks a large table by its cursors and exports it, and looks at
// the memory meanwhile.
func TestWalkAndExportShowTheSameRows(t *testing.T) {
	t.Parallel()
	rows := 20_000
	if text := os.Getenv(walkRowsVar); text != "" {
		var err error
		if rows, err = strconv.Atoi(text); err != nil {
			t.Fatalf("%s: %v", walkRowsVar, err)
		}
	}
	w := largeWorld(t, rows)

	var walked idSet
	pages := 0
	start := time.Now()
	for target := "/v1/datasets/tags/rows?limit=1000&fields=id"; target != ""; pages++ {
		p := w.page(target)
		for _, row := range p.Data {
			walked.add(t, row["id"].(string))
		}
		target = ""
		if p.NextURL != nil {
			target = *p.NextURL
		}
	}
	t.Logf("%d rows in %d pages, %.1f s", walked.n, pages, time.Since(start).Seconds())

	var exported idSet
	var ended bool
	base, peak := rss(t), int64(0)
	start = time.Now()
	out := &lineWriter{header: http.Header{}, line: func(line []byte) {
		var row struct {
			ID  string `json:"id"`
			End bool   `json:"_end"`
		}
		if err := json.Unmarshal(line, &row); err != nil || ended {
			t.Fatalf("line %.100s: %v", line, err)
		}
		if ended = row.End; ended {
			return
		}
		exported.add(t, row.ID)
		if exported.n%10_000 == 0 {
			peak = max(peak, rss(t)-base)
		}
	}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/datasets/tags/rows?format=ndjson", nil)
	if err != nil {
		t.Fatal(err)
	}
	w.service.Handler().ServeHTTP(out, r)
	t.Logf("%d rows exported in %.1f s, resident memory grew by at most %.1f MiB", exported.n, time.Since(start).Seconds(), float64(peak)/(1<<20))
	if walked != exported || walked.n != rows || !ended {
		t.Errorf("walked %+v, exported %+v, ended %v, stored %d", walked, exported, ended, rows)
	}
	const growth = 32 << 20
	if rows >= 1_000_000 && peak > growth {
		t.Errorf("memory grew by %d bytes", peak)
	}
}

// largeWorld is a service on the durable engine with that many rows.
func largeWorld(t *testing.T, rows int) *world {
	t.Helper()
	w := &world{t: t, unchecked: true, decl: load(t, testYAML)}
	e, err := engine.Start(t.Context(), engine.Options{Kind: engine.Embedded, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	ds := w.decl.Dataset("tags")
	admin, err := store.OpenAdmin(t.Context(), "latam-local", "latam", e.Bigtable...)
	if err != nil {
		t.Fatal(err)
	}
	if err := admin.Ensure(t.Context(), store.TableOf(ds)); err != nil {
		t.Fatal(err)
	}
	client, err := store.Open(t.Context(), store.Options{Project: "latam-local", Instance: "latam", Client: e.Bigtable, CommitTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	var batch []dataset.Row
	flush := func() {
		for _, err := range client.Put(t.Context(), ds.Table(), batch) {
			if err != nil {
				t.Fatal(err)
			}
		}
		batch = batch[:0]
	}
	note := strings.Repeat("n", 200)
	for i := range rows {
		rec, err := ds.Decode(fmt.Appendf(nil, `{"name":"row-%08d","note":"%s"}`, i, note), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if batch = append(batch, rec.Row(time.Now())); len(batch) == 2000 {
			flush()
		}
	}
	flush()
	w.service, err = New(Options{}, Deps{Declaration: w.decl, Store: client, Publisher: &fakeBus{}})
	if err != nil {
		t.Fatal(err)
	}
	if w.handler, err = web.Harden(web.Options{}, web.Deps{Handler: w.service.Handler()}); err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	return w
}

// rss is the resident memory of this process, 0 where the system does not tell.
func rss(t *testing.T) int64 {
	t.Helper()
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var kib int64
		if _, err := fmt.Sscanf(lines.Text(), "VmRSS: %d kB", &kib); err == nil {
			return kib << 10
		}
	}
	return 0
}

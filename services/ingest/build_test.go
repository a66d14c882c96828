package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
)

// before stores rows as they were before the indexes were declared.
func (h *indexed) before(records ...string) {
	h.t.Helper()
	h.tables.mu.Lock()
	defer h.tables.mu.Unlock()
	for _, record := range records {
		rec, err := h.ds.Decode([]byte(record), time.Now())
		if err != nil {
			h.t.Fatal(err)
		}
		h.tables.set("events", rec.Row(time.Now()))
	}
}

func (h *indexed) wantMarked(want bool) {
	h.t.Helper()
	synctest.Wait()
	h.tables.mu.Lock()
	defer h.tables.mu.Unlock()
	for i := range h.ds.Indexes {
		ix := &h.ds.Indexes[i]
		if h.tables.marked(h.ds, ix) != want {
			h.t.Errorf("index %s is marked as built: %v, want %v", ix.Name, !want, want)
		}
		if lacking := h.tables.lacking(h.ds, ix); want && len(lacking) > 0 {
			h.t.Errorf("index %s lacks rows %q", ix.Name, lacking)
		}
	}
}

// TestBuildOfAnEmptyTable is the first start: the indexes are there at once, and the next start
// reads nothing but the marks.
func TestBuildOfAnEmptyTable(t *testing.T) {
	t.Parallel()
	inIndexedBubble(t, func(t *testing.T, h *indexed) {
		h.start(Options{IndexBuildDelay: time.Hour})
		h.wantMarked(true)
		if took := time.Since(bubbleStart()); took != 0 {
			t.Errorf("the indexes of an empty table took %s", took)
		}
		h.tables.calls = nil
		h.start(Options{})
		h.wantMarked(true)
		if diff := cmp.Diff([]string{"get events-by_code", "get events-by_color", "get events-by_place"}, h.tables.calls); diff != "" {
			t.Errorf("calls of the second start (-want +got):\n%s", diff)
		}
		h.end()
	})
}

// bubbleStart is when the clock of every bubble starts.
func bubbleStart() time.Time { return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) }

// TestBuildGoesByTheRate reads page by page, keeps what it has done when the store fails, and
// leaves the service ready meanwhile.
func TestBuildGoesByTheRate(t *testing.T) {
	t.Parallel()
	inIndexedBubble(t, func(t *testing.T, h *indexed) {
		for i := range 95 {
			h.before(colored(fmt.Sprintf("k%02d", i), i, i, "red"))
		}
		scans := 0
		h.tables.before = func(call, _ string) error {
			if call == "scan" {
				if scans++; scans == 4 {
					return store.ErrUnavailable
				}
			}
			return nil
		}
		h.start(Options{BatchRows: 10, IndexBuildRate: 10})
		time.Sleep(8 * time.Second)
		h.wantMarked(false)
		if err := h.svcs[0].Ready(); err != nil {
			t.Errorf("not ready while an index is built: %v", err)
		}
		time.Sleep(time.Second + minBuildBackoff)
		h.wantMarked(true)
		if want := 10 + 1; scans != want {
			t.Errorf("%d pages were read, want %d: none of them again but the one that failed", scans, want)
		}
		h.end()
	})
}

// TestBuildWaitsForOlderProcesses leaves rows alone until the delay is over.
func TestBuildWaitsForOlderProcesses(t *testing.T) {
	t.Parallel()
	inIndexedBubble(t, func(t *testing.T, h *indexed) {
		h.before(colored("a", 1, 1, "red"))
		h.start(Options{IndexBuildDelay: time.Minute})
		time.Sleep(59 * time.Second)
		h.before(colored("b", 1, 1, "red")) // A process with the older declaration.
		h.wantMarked(false)
		time.Sleep(time.Second)
		h.wantMarked(true)
		h.wantColors("red/a", "red/b")
		h.end()
	})
}

// TestBuildStopsWithTheService ends a build midway; the next service starts over.
func TestBuildStopsWithTheService(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]Options{
		"between pages": {BatchRows: 1, IndexBuildRate: 1}, "before the first": {IndexBuildDelay: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inIndexedBubble(t, func(t *testing.T, h *indexed) {
				for i := range 9 {
					h.before(colored(fmt.Sprint("k", i), i, i, "red"))
				}
				h.start(opts)
				time.Sleep(3 * time.Second)
				start := time.Now()
				h.end()
				if took := time.Since(start); took != 0 {
					t.Errorf("the end took %s", took)
				}
				h.wantMarked(false)
				h.start(Options{})
				h.wantMarked(true)
				h.end()
			})
		})
	}
}

// TestBuildOfAnIndexThatChanged builds only the index whose mark is of another declaration.
func TestBuildOfAnIndexThatChanged(t *testing.T) {
	t.Parallel()
	inIndexedBubble(t, func(t *testing.T, h *indexed) {
		h.start(Options{})
		h.send(colored("a", 1, 1, "red"))
		h.wantMarked(true)
		h.end()
		h.ds.Index("by_color").Fields = []*dataset.Field{h.ds.Field("n"), h.ds.Field("color")}
		h.tables.calls = nil
		h.start(Options{})
		h.wantMarked(true)
		if diff := cmp.Diff([]string{"put events-by_color", "put events-by_color"}, h.tables.happened("put ")); diff != "" {
			t.Errorf("writes of the build (-want +got):\n%s", diff)
		}
		h.end()
	})
}

// TestBuildPassesOverRowsThatCannotBeIndexed says how many there are.
func TestBuildPassesOverRowsThatCannotBeIndexed(t *testing.T) {
	t.Parallel()
	inIndexedBubble(t, func(t *testing.T, h *indexed) {
		h.before(colored("a", 1, 1, "red"), colored("b", 1, 2, "long"), colored("c", 1, 3, "red"))
		broken := h.tables.newest("events", h.tables.keys("events")[2])
		broken.Cells[4].Value = []byte("no number")
		h.tables.rowFault = func(table string, row dataset.Row) (error, bool) {
			if table == "events-by_color" && strings.Contains(row.Key, "long") {
				return fmt.Errorf("put: %w", store.ErrPoison), false
			}
			return nil, true
		}
		var log bytes.Buffer
		x := newIndexer(&route{ds: h.ds, opts: Options{}.Defaults(), deps: Deps{
			Sink: h.tables, Rows: h.tables, Log: slog.New(slog.NewTextHandler(&log, nil)), Now: time.Now,
		}})
		x.build(t.Context())
		h.wantColors("red/a")
		for _, want := range []string{"rows=3 skipped=4 ", "index build ended", "row not indexed", "index=by_color row=z,b ", "got \\\"no number\\\""} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("the log does not say %s:\n%s", want, log.String())
			}
		}
		for i := range h.ds.Indexes {
			if !h.tables.marked(h.ds, &h.ds.Indexes[i]) {
				t.Errorf("index %s is not marked", h.ds.Indexes[i].Name)
			}
		}
	})
}

// TestBuildMeetsAMove lets ingest move a row after the build has read it and before it writes.
func TestBuildMeetsAMove(t *testing.T) {
	t.Parallel()
	inIndexedBubble(t, func(t *testing.T, h *indexed) {
		h.before(colored("a", 1, 1, "red"))
		h.tables.after = func(call, _ string) error {
			if call == "scan" {
				time.Sleep(time.Second)
			}
			return nil
		}
		h.start(Options{})
		synctest.Wait()
		if !h.deliver(0, bus.Message{ID: "1", PublishTime: time.Now(), Data: []byte(colored("a", 2, 2, "blue"))}) {
			t.Error("the record was given back")
		}
		h.wantMarked(false)
		time.Sleep(time.Second)
		h.wantMarked(true)
		h.wantColors("blue/a")
		h.end()
	})
}

// TestBuildTriesAgain begins when the table of the index is not there yet.
func TestBuildTriesAgain(t *testing.T) {
	t.Parallel()
	inIndexedBubble(t, func(t *testing.T, h *indexed) {
		h.before(colored("a", 1, 1, "red"))
		there := time.Now().Add(time.Minute)
		h.tables.before = func(_, table string) error {
			if table == "events-by_color" && time.Now().Before(there) {
				return errors.Join(errors.New("no table"), store.ErrMisconfigured)
			}
			return nil
		}
		h.start(Options{})
		time.Sleep(time.Minute)
		h.wantMarked(false)
		time.Sleep(maxBuildBackoff)
		h.wantMarked(true)
		h.end()
	})
}

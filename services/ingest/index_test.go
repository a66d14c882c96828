package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
)

const indexedDeclaration = `
version: 1
name: test
datasets:
  events:
    fields:
      zone:  {type: string, required: true}
      code:  {type: string, required: true}
      at:    {type: timestamp, required: true}
      color: {type: string}
      n:     {type: int64, required: true}
    key: [zone, code]
    time: at
    indexes: {by_code: [code], by_color: [color], by_place: [code, n]}
`

func loadIndexed(t testing.TB) *dataset.Dataset {
	t.Helper()
	d, err := dataset.Load("latam.yaml", []byte(indexedDeclaration))
	if err != nil {
		t.Fatal(err)
	}
	return d.Datasets[0]
}

// indexed is a number of services, each as a process of its own, on the same tables.
type indexed struct {
	t      *testing.T
	ds     *dataset.Dataset
	tables *fakeTables
	dead   *fakeDeadLetters

	sources []*fakeSource
	svcs    []*Service
	stops   []context.CancelFunc
	ended   sync.WaitGroup
	sent    int
}

func inIndexedBubble(t *testing.T, run func(t *testing.T, h *indexed)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		run(t, &indexed{t: t, ds: loadIndexed(t), tables: newFakeTables(), dead: &fakeDeadLetters{}})
	})
}

// start starts one more service.
func (h *indexed) start(opts Options) {
	h.t.Helper()
	source := &fakeSource{queue: make(chan delivery, 1000)}
	svc, err := New(opts, Deps{
		Source: source, Sink: h.tables, Rows: h.tables, DeadLetters: h.dead, Log: slog.New(slog.DiscardHandler), Now: time.Now,
	}, []*dataset.Dataset{h.ds})
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(h.t.Context())
	h.sources, h.svcs, h.stops = append(h.sources, source), append(h.svcs, svc), append(h.stops, cancel)
	h.ended.Go(func() { _ = svc.Run(ctx) })
}

func (h *indexed) end() {
	for _, stop := range h.stops {
		stop()
	}
	h.ended.Wait()
}

// send delivers a record to the first service and waits for its outcome.
func (h *indexed) send(record string) bool {
	h.sent++
	return h.deliver(0, bus.Message{ID: fmt.Sprint(h.sent), PublishTime: time.Now(), Data: []byte(record)})
}

func (h *indexed) deliver(service int, m bus.Message) bool {
	d := delivery{message: m, outcome: make(chan bool, 1)}
	h.sources[service].queue <- d
	return <-d.outcome
}

func colored(code string, at, n int, color string) string {
	if color == "" {
		return fmt.Sprintf(`{"zone":"z","code":%q,"at":%q,"n":%d}`, code, second(at).Format(time.RFC3339), n)
	}
	return fmt.Sprintf(`{"zone":"z","code":%q,"at":%q,"n":%d,"color":%q}`, code, second(at).Format(time.RFC3339), n, color)
}

// colors returns the entries of the index by color, as color/code in their order.
func (h *indexed) colors() []string {
	h.t.Helper()
	synctest.Wait()
	h.tables.mu.Lock()
	defer h.tables.mu.Unlock()
	ix := h.ds.Index("by_color")
	var all []string
	for _, entry := range h.tables.entries(h.ds.IndexTable(ix)) {
		values, key, err := h.ds.SplitIndexKey(ix, entry)
		if err != nil {
			h.t.Fatal(err)
		}
		parts, err := h.ds.SplitKey(key)
		if err != nil {
			h.t.Fatal(err)
		}
		all = append(all, values[0].Text()+"/"+parts[1].Text())
	}
	return all
}

func (h *indexed) wantColors(want ...string) {
	h.t.Helper()
	if diff := cmp.Diff(want, h.colors()); diff != "" {
		h.t.Errorf("entries by color (-want +got):\n%s", diff)
	}
}

// TestEntriesFollowTheirRow moves a row in an index, with everything that can come in between.
func TestEntriesFollowTheirRow(t *testing.T) {
	t.Parallel()
	inIndexedBubble(t, func(t *testing.T, h *indexed) {
		h.start(Options{Shards: 1})
		h.send(colored("a", 1, 1, "red"))
		h.send(colored("b", 1, 1, ""))
		h.wantColors("/b", "red/a")
		h.send(colored("a", 1, 1, "red"))
		h.wantColors("/b", "red/a")
		h.send(colored("a", 2, 2, "blue"))
		h.wantColors("/b", "blue/a")
		h.send(colored("a", 3, 3, ""))
		h.wantColors("/a", "/b")
		h.send(colored("a", 2, 9, "green")) // Older than what is stored: nobody ever sees it.
		h.send(colored("a", 2, 2, "blue"))
		h.wantColors("/a", "/b")
		h.send(colored("a", 4, 4, "red")) // Back to where it was.
		h.send(colored("a", 1, 1, "red"))
		h.wantColors("/b", "red/a")
		h.send(colored("a", 4, 5, "blue")) // Of one event time: either may be written again.
		h.wantColors("/b", "blue/a", "red/a")
		h.end()
	})
}

// TestEntriesComeFirst checks the order of the writes and that a row waits for all its entries.
func TestEntriesComeFirst(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fault   error // of the entry by color
		reading error
		ack     bool
		dead    int
		rows    int
		tries   int // after the first
	}{
		"committed":         {ack: true, rows: 1},
		"refused":           {fault: store.ErrPoison, ack: true, dead: 1},
		"unavailable":       {fault: store.ErrUnavailable, tries: maxRetries},
		"misconfigured":     {fault: store.ErrMisconfigured},
		"reading is broken": {reading: store.ErrUnavailable, ack: true, rows: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inIndexedBubble(t, func(t *testing.T, h *indexed) {
				h.start(Options{Shards: 1})
				synctest.Wait()
				h.tables.calls = nil
				h.tables.rowFault = func(table string, _ dataset.Row) (error, bool) {
					if table != "events-by_color" {
						return nil, true
					}
					return tc.fault, tc.fault == nil
				}
				h.tables.before = func(call, _ string) error {
					if call == "get many" {
						return tc.reading
					}
					return nil
				}
				if ack := h.send(colored("a", 1, 1, "red")); ack != tc.ack {
					t.Errorf("acknowledged %v, want %v", ack, tc.ack)
				}
				if n := len(h.dead.all()); n != tc.dead {
					t.Errorf("%d dead letters, want %d", n, tc.dead)
				}
				if rows := h.tables.keys("events"); len(rows) != tc.rows {
					t.Errorf("%d rows stored, want %d", len(rows), tc.rows)
				}
				puts := h.tables.happened("put ")
				entries := slices.DeleteFunc(slices.Clone(puts), func(p string) bool { return p == "put events" })
				if tries := tc.tries + 1; len(entries) != 3*tries {
					t.Errorf("entries written: %q, want those of 3 indexes, %d times", entries, tries)
				}
				if at := slices.Index(puts, "put events"); at >= 0 && at < 3 || at < 0 && tc.rows > 0 {
					t.Errorf("writes in the order %q, want the row last", puts)
				}
				h.end()
			})
		})
	}
}

// TestNeighboursOfARefusedEntry stores the rest of a batch.
func TestNeighboursOfARefusedEntry(t *testing.T) {
	t.Parallel()
	inIndexedBubble(t, func(t *testing.T, h *indexed) {
		h.tables.rowFault = func(table string, row dataset.Row) (error, bool) {
			if table == "events-by_color" && strings.Contains(row.Key, "bad") {
				return store.ErrPoison, false
			}
			return nil, true
		}
		h.start(Options{Shards: 1})
		var sends sync.WaitGroup
		for i := range 9 {
			color := "red"
			if i%4 == 1 {
				color = "bad"
			}
			record := colored(fmt.Sprint("k", i), 1, i, color)
			sends.Go(func() { h.deliver(0, bus.Message{ID: fmt.Sprint(i), PublishTime: time.Now(), Data: []byte(record)}) })
		}
		sends.Wait()
		if rows, letters := len(h.tables.keys("events")), len(h.dead.all()); rows != 7 || letters != 2 {
			t.Errorf("%d rows and %d dead letters, want 7 and 2", rows, letters)
		}
		h.end()
	})
}

// TestFixedIndexesReadNothing keeps the cost of an index in which no row moves at one more write.
func TestFixedIndexesReadNothing(t *testing.T) {
	t.Parallel()
	inIndexedBubble(t, func(t *testing.T, h *indexed) {
		h.ds.Indexes = h.ds.Indexes[:1]
		h.start(Options{Shards: 1})
		synctest.Wait()
		h.tables.calls = nil
		h.send(colored("a", 1, 1, "red"))
		h.send(colored("a", 2, 2, "blue"))
		synctest.Wait()
		want := []string{"put events-by_code", "put events", "put events-by_code", "put events"}
		if diff := cmp.Diff(want, h.tables.calls); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
		h.end()
	})
}

func TestIndexesNeedRows(t *testing.T) {
	t.Parallel()
	_, err := New(Options{}, Deps{Now: time.Now}, []*dataset.Dataset{loadIndexed(t)})
	if err == nil || !strings.Contains(err.Error(), "events has indexes") {
		t.Errorf("a service without a store to read from: %v, want an error that names the dataset", err)
	}
}

// TestIndexProperty lets several services work on the same rows at a time: events come out of order,
// twice and to any of them, calls fail with and without effect, and some rows are there from before
// the indexes. At every moment each row has the entry of its current version in each index that is
// marked as built; in the end every row is shown exactly once by each of them, with the value of
// its newest event, and every index is marked.
func TestIndexProperty(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		inIndexedBubble(t, func(t *testing.T, h *indexed) {
			p := &indexProperty{indexed: h, rng: rand.New(rand.NewPCG(seed, 11))}
			p.run(1+p.intn(3), []float64{0, 0.05, 0.2}[p.intn(3)])
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		})
		if t.Failed() {
			return
		}
	}
}

// TestOneWriterInOrderLeavesNoStaleEntry is the case that most datasets are in.
func TestOneWriterInOrderLeavesNoStaleEntry(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		inIndexedBubble(t, func(t *testing.T, h *indexed) {
			p := &indexProperty{indexed: h, rng: rand.New(rand.NewPCG(seed, 12)), inOrder: true}
			p.run(1, 0)
			rows := len(h.tables.keys("events"))
			for i := range h.ds.Indexes {
				if n := len(h.tables.entries(h.ds.IndexTable(&h.ds.Indexes[i]))); n != rows {
					t.Errorf("index %s has %d entries of %d rows", h.ds.Indexes[i].Name, n, rows)
				}
			}
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		})
	}
}

type indexProperty struct {
	*indexed
	inOrder bool
	faults  float64

	mu       sync.Mutex
	rng      *rand.Rand
	messages []bus.Message
	newest   map[string][]dataset.Record // of each key the records of its latest event time
}

func (p *indexProperty) intn(n int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rng.IntN(n)
}

func (p *indexProperty) fails() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rng.Float64() < p.faults
}

func (p *indexProperty) run(services int, faults float64) {
	p.faults, p.newest = faults, map[string][]dataset.Record{}
	p.makeMessages()
	p.preload()
	p.tables.before = func(string, string) error { return p.disturb() }
	p.tables.after = func(string, string) error { return p.disturb() }
	p.tables.rowFault = p.rowFault
	p.tables.changed = func() { p.checkMarked("meanwhile") }
	for range services {
		p.start(Options{Shards: 1 + p.intn(3), BatchRows: 1 + p.intn(20), RetryDelay: time.Duration(1+p.intn(20)) * time.Millisecond})
	}
	var publishers sync.WaitGroup
	pace := 1 + p.intn(10_000)
	for _, m := range p.messages {
		if p.inOrder {
			for !p.deliver(0, m) {
			}
			continue
		}
		time.Sleep(time.Duration(p.intn(pace)) * time.Microsecond)
		for range 1 + p.intn(5)/4 {
			publishers.Go(func() {
				for !p.deliver(p.intn(services), m) {
				}
			})
		}
	}
	publishers.Wait()
	p.mu.Lock()
	p.faults = 0 // Trouble ends at last, and a build with it.
	p.mu.Unlock()
	p.awaitMarks()
	p.end()
	p.checkFinal()
}

// makeMessages makes records of few keys, few colors and few event times; in order each has a time
// of its own.
func (p *indexProperty) makeMessages() {
	keys, times := 1+p.intn(6), 1+p.intn(6)
	for i := range 1 + p.intn(100) {
		at := p.intn(times)
		if p.inOrder {
			at = i
		}
		data := colored(fmt.Sprint("k", p.intn(keys)), at, i, []string{"", "red", "blue"}[p.intn(3)])
		m := bus.Message{ID: fmt.Sprint(i + 1), PublishTime: time.Now().Add(time.Duration(i) * time.Microsecond), Data: []byte(data)}
		p.messages = append(p.messages, m)
		p.expect(m)
	}
}

func (p *indexProperty) expect(m bus.Message) dataset.Row {
	rec, err := p.ds.Decode(m.Data, time.Now())
	if err != nil {
		p.t.Fatal(err)
	}
	row, at := rec.Row(m.PublishTime), p.ds.Field("at")
	known := p.newest[row.Key]
	switch {
	case len(known) == 0 || known[0].Value(at).Time().Before(row.Time):
		p.newest[row.Key] = []dataset.Record{rec}
	case known[0].Value(at).Time().Equal(row.Time):
		p.newest[row.Key] = append(known, rec)
	}
	return row
}

// preload stores rows without entries, as before the indexes were declared.
func (p *indexProperty) preload() {
	if p.inOrder {
		return
	}
	for i := range p.intn(30) {
		data := colored(fmt.Sprint("k", p.intn(20)), p.intn(6), -i-1, []string{"", "red", "blue"}[p.intn(3)])
		p.tables.set("events", p.expect(bus.Message{Data: []byte(data)}))
	}
}

// disturb lets time pass within a call, and fails it now and then.
func (p *indexProperty) disturb() error {
	time.Sleep(time.Duration(p.intn(4000)) * time.Microsecond)
	if p.fails() {
		return fmt.Errorf("disturbed: %w", store.ErrUnavailable)
	}
	return nil
}

func (p *indexProperty) rowFault(string, dataset.Row) (error, bool) {
	if p.fails() {
		return fmt.Errorf("disturbed: %w", store.ErrUnavailable), p.intn(2) == 0
	}
	return nil, true
}

// checkMarked checks every index that says that it is complete.
func (p *indexProperty) checkMarked(when string) {
	for i := range p.ds.Indexes {
		ix := &p.ds.Indexes[i]
		if !p.tables.marked(p.ds, ix) {
			continue
		}
		if lacking := p.tables.lacking(p.ds, ix); len(lacking) > 0 {
			p.t.Errorf("%s: index %s lacks the current version of rows %q", when, ix.Name, lacking)
		}
	}
}

func (p *indexProperty) awaitMarks() {
	for range 1000 {
		p.tables.mu.Lock()
		all := true
		for i := range p.ds.Indexes {
			all = all && p.tables.marked(p.ds, &p.ds.Indexes[i])
		}
		p.tables.mu.Unlock()
		if all {
			return
		}
		time.Sleep(maxBuildBackoff)
	}
	p.t.Error("an index was never marked as built")
}

func (p *indexProperty) checkFinal() {
	p.checkMarked("in the end")
	want := map[string]int{}
	for key, records := range p.newest {
		want[key] = 1
		current, err := p.ds.Record(p.tables.newest("events", key))
		if err != nil {
			p.t.Fatal(err)
		}
		n := p.ds.Field("n")
		if !slices.ContainsFunc(records, func(r dataset.Record) bool { return r.Value(n) == current.Value(n) }) {
			p.t.Errorf("row %q is record %s, which is not one of its newest", key, current.Value(n).Text())
		}
	}
	for i := range p.ds.Indexes {
		got, err := p.tables.shown(p.ds, &p.ds.Indexes[i])
		if err != nil {
			p.t.Fatal(err)
		}
		if !maps.Equal(want, got) {
			p.t.Errorf("index %s shows %v, want %v", p.ds.Indexes[i].Name, got, want)
		}
	}
	if letters := p.dead.all(); len(letters) > 0 {
		p.t.Error(errors.New(letters[0].attributes[bus.AttrError]))
	}
}

package ingest

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
)

func TestStampOrder(t *testing.T) {
	t.Parallel()
	// Each is older than the next.
	order := []stamp{
		{event: -5, published: 9, id: "9"},
		{event: 1, published: 1, id: "99"},
		{event: 1, published: 2, id: "9"},
		{event: 1, published: 2, id: "10"},
		{event: 1, published: 2, id: "11"},
		{event: 2, published: 1, id: "1"},
	}
	for i, a := range order {
		for j, b := range order {
			if got := a.before(b); got != (i < j) {
				t.Errorf("%+v before %+v: %v, want %v", a, b, got, i < j)
			}
		}
	}
}

var testSeed = maphash.MakeSeed()

func newItem(key string, event, published int64, id string) *item {
	it := &item{
		row: dataset.Row{Key: key, Time: time.UnixMilli(event)}, published: published, message: bus.Message{ID: id},
		hash: maphash.String(testSeed, key), done: make(chan struct{}, 1),
	}
	it.waiting.Store(true)
	return it
}

// TestBatchKeepsNewest adds the records of two keys in random order: each key is one row, that of
// its newest record, and every record gets its key's outcome.
func TestBatchKeepsNewest(t *testing.T) {
	t.Parallel()
	outcome := errors.New("outcome")
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var items []*item
		newest := map[string]stamp{}
		for i := range 1 + rng.IntN(30) {
			it := newItem(fmt.Sprint("k", rng.IntN(2)), int64(rng.IntN(3)), int64(rng.IntN(3)), fmt.Sprint(i))
			items = append(items, it)
			if last, ok := newest[it.row.Key]; !ok || last.before(it.stamp()) {
				newest[it.row.Key] = it.stamp()
			}
		}
		rng.Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
		b := &batch{}
		for _, it := range items {
			b.add(it)
		}
		recent := recentKeys{max: 10}
		rows, winners := b.pending(&recent, func(w *winner) { w.tell(nil) })
		if len(rows) != len(newest) || len(winners) != len(newest) || b.keys.len() != len(newest) {
			t.Fatalf("seed %d: %d rows for %d keys", seed, len(rows), len(newest))
		}
		for i, w := range winners {
			if w.item.stamp() != newest[rows[i].Key] {
				t.Errorf("seed %d: key %s is written from %+v, want %+v", seed, rows[i].Key, w.item.stamp(), newest[rows[i].Key])
			}
			w.tell(outcome)
		}
		for _, it := range items {
			select {
			case <-it.done:
				if !errors.Is(it.err, outcome) {
					t.Errorf("seed %d: outcome %v", seed, it.err)
				}
			default:
				t.Fatalf("seed %d: record %+v has no outcome", seed, it.stamp())
			}
		}
	}
}

// TestLateDeliveries delivers records of one key one after the other.
func TestLateDeliveries(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		h.start(Options{Shards: 1})
		older, newer := h.message(event("a", 1)), h.message(event("a", 2))
		newer.PublishTime = older.PublishTime.Add(time.Millisecond)
		steps := []struct {
			what   string
			record func() chan bool
			stored string // n of the row afterwards
			writes int    // commits so far
		}{
			{"the newer record", func() chan bool { return h.deliver(newer) }, "2", 1},
			{"the older record of the same event time", func() chan bool { return h.deliver(older) }, "2", 1},
			{"the newer record again", func() chan bool { return h.deliver(newer) }, "2", 2},
			{"a record of an older event time", func() chan bool { return h.send(eventAt("a", 3, eventTime().Add(-time.Hour))) }, "2", 3},
			{"a newer record of the same event time", func() chan bool { time.Sleep(time.Second); return h.send(event("a", 4)) }, "4", 4},
			{"the second record once more", func() chan bool { return h.deliver(newer) }, "4", 4},
			{"a record of a newer event time", func() chan bool { return h.send(eventAt("a", 5, eventTime().Add(time.Hour))) }, "5", 5},
		}
		for _, step := range steps {
			h.wantAck(step.what, step.record())
			if got := h.sink.value("a"); got != step.stored {
				t.Fatalf("after %s the row holds %s, want %s", step.what, got, step.stored)
			}
			if got := len(h.sink.calls()); got != step.writes {
				t.Fatalf("after %s there were %d writes, want %d", step.what, got, step.writes)
			}
		}
		h.end()
	})
}

// TestRecentKeys compares with a map of everything: within the last max keys nothing is forgotten,
// and memory stays bounded.
func TestRecentKeys(t *testing.T) {
	t.Parallel()
	const limit = 16
	rng := rand.New(rand.NewPCG(1, 2))
	hash := func(key string) uint64 { return maphash.String(testSeed, key) % 7 } // Many share one.
	recent, model := recentKeys{max: limit}, map[string]stamp{}
	var order []string // of the last puts
	for i := range 5000 {
		key := fmt.Sprint(rng.IntN(60))
		s := stamp{event: int64(rng.IntN(4)), published: int64(i)}
		recent.put(hash(key), key, s)
		if last, ok := model[key]; !ok || last.before(s) {
			model[key] = s
			order = append(order, key)
		}
		for _, key := range order[max(0, len(order)-limit):] {
			if got := recent.get(hash(key), key); got == nil || *got != model[key] {
				t.Fatalf("step %d: key %s is %+v, want %+v", i, key, got, model[key])
			}
		}
		if n := recent.now.len() + recent.past.len(); n > 2*limit {
			t.Fatalf("step %d: %d keys are held, the limit is 2 x %d", i, n, limit)
		}
		// What was forgotten is forgotten in the model, too.
		for key := range model {
			if recent.get(hash(key), key) == nil {
				delete(model, key)
			}
		}
	}
}

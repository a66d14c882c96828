package ingest

import (
	"context"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
)

// TestLoneMessageIsCommittedAtOnce checks that an idle service does not wait for company, however
// long a batch may take.
func TestLoneMessageIsCommittedAtOnce(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		h.start(Options{BatchDelay: time.Second})
		for i := range 20 {
			time.Sleep(time.Second)
			sent := time.Now()
			if ack := <-h.send(event(fmt.Sprint("k", i), i)); !ack {
				t.Fatal("given back")
			}
			if took := time.Since(sent); took > time.Millisecond {
				t.Errorf("message %d took %v on an idle service", i, took)
			}
		}
		h.end()
	})
}

// TestBatchesGrowWhileBusy checks the sizes of batches that gather behind a slow commit.
func TestBatchesGrowWhileBusy(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("x", 1000)
	for _, tc := range []struct {
		name string
		opts Options
		text string
		want []int // rows of each commit
	}{
		{"unlimited", Options{Shards: 1}, "", []int{1, 99}},
		{"rows", Options{Shards: 1, BatchRows: 40}, "", []int{1, 40, 40, 19}},
		{"one row", Options{Shards: 1, BatchRows: 1, MaxMessages: 1000}, "", nil},
		// A row is about 1,120 bytes with what each cell costs, so ten of them pass 10 KiB.
		{"bytes", Options{Shards: 1, BatchBytes: 10 << 10}, text, []int{1, 10, 10, 10, 10, 10, 10, 10, 10, 10, 9}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, h *harness) {
				h.sink.during = func(context.Context, []dataset.Row) { time.Sleep(20 * time.Millisecond) }
				h.start(tc.opts)
				var outcomes []chan bool
				for i := range 100 {
					outcomes = append(outcomes, h.send(fmt.Sprintf(`{"code":"k%d","at":"1999-12-31T00:00:00Z","text":%q}`, i, tc.text)))
					if i == 0 {
						time.Sleep(time.Millisecond) // The first is being committed while the others come.
					}
				}
				for _, outcome := range outcomes {
					if !<-outcome {
						t.Fatal("given back")
					}
				}
				var sizes []int
				for _, call := range h.sink.calls() {
					sizes = append(sizes, len(call.rows))
				}
				want := tc.want
				if want == nil {
					for range 100 {
						want = append(want, 1)
					}
				}
				if fmt.Sprint(sizes) != fmt.Sprint(want) {
					t.Errorf("commits of %v rows, want %v", sizes, want)
				}
				h.end()
			})
		})
	}
}

// TestBatchWaitsForArrivals holds a message in decoding: the batch waits for it, yet no longer
// than its delay.
func TestBatchWaitsForArrivals(t *testing.T) {
	t.Parallel()
	const delay = 30 * time.Millisecond
	inBubble(t, func(t *testing.T, h *harness) {
		h.start(Options{Shards: 1, BatchDelay: delay})
		arriving := &h.svc.routes[0].arriving

		arriving.enter()
		sent := time.Now()
		outcome := h.send(event("a", 1))
		h.wantOpen("a message with others on the way", outcome)
		if !<-outcome {
			t.Fatal("given back")
		}
		if took := time.Since(sent); took < delay || took > delay+time.Millisecond {
			t.Errorf("committed after %v, want the batch's delay of %v", took, delay)
		}

		// What arrives meanwhile joins, and once nothing is on the way the batch goes.
		sent = time.Now()
		first := h.send(event("a", 2))
		time.Sleep(10 * time.Millisecond)
		second := h.send(event("b", 2))
		h.wantOpen("the first of two", first)
		arriving.leave()
		if !<-first || !<-second {
			t.Fatal("given back")
		}
		if took := time.Since(sent); took > 10*time.Millisecond+10*arrivalPoll {
			t.Errorf("committed after %v, want soon after the last arrival at 10ms", took)
		}
		if calls := h.sink.calls(); len(calls) != 2 || len(calls[1].rows) != 2 {
			t.Errorf("%d commits, want the second with both rows", len(calls))
		}
		h.end()
	})
}

func TestKeysStayOnOneShard(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		h.start(Options{Shards: 8})
		r := h.svc.routes[0]
		counts := map[*shard]int{}
		for i := range 4000 {
			key := fmt.Sprint("key", i)
			sh := r.shardFor(maphash.String(r.seed, key))
			counts[sh]++
			if again := r.shardFor(maphash.String(r.seed, key)); again != sh {
				t.Fatalf("key %s is on two shards", key)
			}
		}
		for _, sh := range r.shards {
			if n := counts[sh]; n < 250 || n > 1000 {
				t.Errorf("a shard has %d of 4000 keys, want about 500", n)
			}
		}
		h.end()
	})
}

// TestProperty sends random records, some of them twice, through a service with random limits to a
// store that fails at random, and redelivers what is given back. Whatever the schedule, the limits
// hold, a key is never written twice at a time, an acknowledged record is stored, and the store ends
// with the newest record of each key.
func TestProperty(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		inBubble(t, func(t *testing.T, h *harness) {
			p := &property{harness: h, rng: rand.New(rand.NewPCG(seed, 7)), writing: map[string]bool{}}
			p.run()
			if t.Failed() {
				t.Fatalf("seed %d with %+v", seed, p.opts)
			}
		})
		if t.Failed() {
			return
		}
	}
}

type property struct {
	*harness
	opts     Options
	messages []bus.Message
	records  []dataset.Record

	mu      sync.Mutex
	rng     *rand.Rand
	writing map[string]bool
	puts    int
	largest int // bytes of a row
}

func (p *property) intn(n int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rng.IntN(n)
}

func (p *property) run() {
	p.opts = Options{
		BatchRows: 1 + p.intn(40), BatchBytes: 1<<10 + p.intn(4<<10), BatchDelay: time.Duration(p.intn(5)) * time.Millisecond,
		Shards: 1 + p.intn(4), RetryDelay: time.Duration(1+p.intn(50)) * time.Millisecond,
	}.Defaults()
	p.makeMessages()
	p.sink.during = p.during
	p.sink.answer = p.answer
	p.start(p.opts)
	var publishers sync.WaitGroup
	for i, m := range p.messages {
		if p.intn(3) == 0 {
			time.Sleep(time.Duration(p.intn(4000)) * time.Microsecond)
		}
		for range 1 + p.intn(5)/4 {
			publishers.Go(func() {
				for !<-p.deliver(m) {
				}
				p.checkStored(i)
			})
		}
	}
	publishers.Wait()
	p.end()
	p.checkFinal()
}

// makeMessages publishes records in order, with few keys and few event times.
func (p *property) makeMessages() {
	ds := loadDataset(p.t)
	for i := range 1 + p.intn(150) {
		at := eventTime().Add(time.Duration(p.intn(3)) * time.Minute)
		data := fmt.Sprintf(`{"code":"k%d","at":%q,"n":%d,"text":%q}`, p.intn(20), at.Format(time.RFC3339), i, strings.Repeat("x", p.intn(300)))
		m := p.message(data)
		m.ID = fmt.Sprint(i + 5) // Of one to three digits, so that they do not sort as text.
		m.PublishTime = time.Now().Add(time.Duration(i/3) * time.Microsecond)
		rec, err := ds.Decode(m.Data, time.Now())
		if err != nil {
			p.t.Fatal(err)
		}
		p.messages, p.records = append(p.messages, m), append(p.records, rec)
		p.largest = max(p.largest, rowBytes(rec.Row(m.PublishTime)))
	}
}

func (p *property) stamp(i int) stamp {
	it := &item{row: p.records[i].Row(p.messages[i].PublishTime), published: p.messages[i].PublishTime.UnixNano(), message: p.messages[i]}
	return it.stamp()
}

// during checks the limits of one commit.
func (p *property) during(_ context.Context, rows []dataset.Row) {
	p.mu.Lock()
	p.puts++
	size, keys := 0, map[string]bool{}
	for _, row := range rows {
		size += rowBytes(row)
		if keys[row.Key] {
			p.t.Errorf("key %q is twice in a batch", row.Key)
		}
		if p.writing[row.Key] {
			p.t.Errorf("key %q is written twice at a time", row.Key)
		}
		keys[row.Key], p.writing[row.Key] = true, true
	}
	if len(rows) == 0 || len(rows) > p.opts.BatchRows || size >= p.opts.BatchBytes+p.largest {
		p.t.Errorf("batch of %d rows and %d bytes", len(rows), size)
	}
	if p.puts > p.opts.Shards {
		p.t.Errorf("%d commits at a time", p.puts)
	}
	p.mu.Unlock()
	time.Sleep(time.Duration(p.intn(15000)) * time.Microsecond)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.puts--
	for key := range keys {
		delete(p.writing, key)
	}
}

// answer fails some rows, of which half are stored all the same: that is what a broken stream does.
func (p *property) answer(rows []dataset.Row) []error {
	errs := make([]error, len(rows))
	for i, row := range rows {
		if p.intn(10) == 0 {
			errs[i] = store.ErrUnavailable
			if p.intn(2) == 0 {
				p.sink.apply(row)
			}
		}
	}
	return errs
}

// stored returns the number of the record that the store has for a record's key, -1 for none.
func (p *property) stored(i int) int {
	p.sink.mu.Lock()
	defer p.sink.mu.Unlock()
	row, ok := p.sink.stored[p.records[i].RowKey()]
	if !ok {
		return -1
	}
	var n int
	if _, err := fmt.Sscan(column(row, "n"), &n); err != nil {
		p.t.Error(err)
	}
	return n
}

func (p *property) checkStored(i int) {
	if n := p.stored(i); n < 0 || p.stamp(n).before(p.stamp(i)) {
		p.t.Errorf("record %d was acknowledged while the store has record %d of its key", i, n)
	}
}

func (p *property) checkFinal() {
	synctest.Wait()
	newest := map[string]int{}
	for i, rec := range p.records {
		last, ok := newest[rec.RowKey()]
		if !ok || p.stamp(last).before(p.stamp(i)) {
			newest[rec.RowKey()] = i
		}
	}
	for _, want := range newest {
		if got := p.stored(want); got != want {
			p.t.Errorf("the store has record %d, want %d of the same key", got, want)
		}
	}
	if letters := p.dead.all(); len(letters) != 0 {
		p.t.Errorf("%d dead letters", len(letters))
	}
}

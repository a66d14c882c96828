package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
)

// item is one message on its way to the store.
type item struct {
	// What is written before the message is in work, when others begin to read it.
	message bus.Message
	ctx     context.Context // of the Receive
	began   time.Time       // when the message was received

	// Its one answer: whoever ends waiting sets err and then sends to done, which is its slot's.
	waiting atomic.Bool
	err     error
	done    chan struct{}

	// What its decoder adds: the context with its trace, its own span (nil where none leaves the
	// process), whether the trace is recorded, when decoding ended, and the row with the hash of its
	// key and one entry for each index.
	traced    context.Context
	process   trace.Span
	sampled   bool
	submitted time.Time
	published int64 // in ns
	hash      uint64
	row       dataset.Row
	entries   []dataset.Row

	// committed is when the store had it, set in one item of a batch.
	committed time.Time
	// tries counts the commits of the record that failed, the first of them at failed.
	tries  int
	failed time.Time
}

// answer settles the message. Only the first answer counts: a second one is that of a commit which
// the drain has not waited for, and by then done may be another message's.
func (it *item) answer(err error) {
	if it.waiting.CompareAndSwap(true, false) {
		it.err = err
		it.done <- struct{}{}
	}
}

// stamp orders the records of one key: event time, then publish order.
type stamp struct {
	event, published int64
	id               string
}

func (it *item) stamp() stamp {
	return stamp{event: it.row.Time.UnixMilli(), published: it.published, id: it.message.ID}
}

// before tells whether s loses against o. Message ids grow within a topic as decimal numbers do,
// so a shorter one is the older.
func (s stamp) before(o stamp) bool {
	switch {
	case s.event != o.event:
		return s.event < o.event
	case s.published != o.published:
		return s.published < o.published
	case len(s.id) != len(o.id):
		return len(s.id) < len(o.id)
	}
	return s.id < o.id
}

// arrivals counts messages between their receipt and their submission to a shard.
type arrivals struct{ n atomic.Int64 }

func (a *arrivals) enter()    { a.n.Add(1) }
func (a *arrivals) leave()    { a.n.Add(-1) }
func (a *arrivals) any() bool { return a.n.Load() > 0 }

// shard commits the batches of its share of the keys, one at a time.
type shard struct {
	route  *route
	queue  chan *item
	recent recentKeys
	next   *item // taken from the queue, in no batch yet
	batch  *batch
	// waiting are the records to try again; wake makes them due.
	waiting []delayed
	wake    chan struct{}
	putting atomic.Pointer[putting] // nil when the store has nothing of the shard in hands
}

func newShard(r *route) *shard {
	return &shard{
		route: r, queue: make(chan *item, r.opts.MaxMessages), recent: recentKeys{max: recentKeysPerShard},
		wake: make(chan struct{}, 1), batch: &batch{},
	}
}

// submit never blocks for long: the queue holds as many as the source may have outstanding.
func (sh *shard) submit(it *item) { sh.queue <- it }

// run commits batches until stop closes, which is when every message has been answered.
func (sh *shard) run(stop <-chan struct{}) {
	for sh.await(stop) {
		rows := sh.route.turns.begin(sh.full)
		sh.commit(sh.collect(rows))
		sh.route.turns.end()
	}
}

// full tells whether a batch of so many rows waits.
func (sh *shard) full(rows int) bool { return len(sh.queue) >= rows }

// await waits until there is a record to commit; false says that there will be none.
func (sh *shard) await(stop <-chan struct{}) bool {
	for sh.next == nil {
		var due <-chan time.Time
		var timer *time.Timer
		if len(sh.waiting) > 0 {
			wait := sh.nextDue().Sub(sh.route.deps.Now())
			if wait <= 0 {
				return true
			}
			timer = time.NewTimer(wait)
			due = timer.C
		}
		select {
		case sh.next = <-sh.queue:
		case <-due:
		case <-sh.wake:
			sh.hurry()
		case <-stop:
			return false
		}
		if timer != nil {
			timer.Stop()
		}
	}
	return true
}

// arrivalPoll is how often a filling batch looks whether the messages under way went elsewhere.
const arrivalPoll = 100 * time.Microsecond

// arrivalYields is how often a filling batch lets the messages under way run before it sleeps:
// decoding takes a microsecond, a timer at least fifty.
const arrivalYields = 32

// collect fills a batch without making a lone message wait: it takes what is there, what is to be
// tried again first, and waits for more only while messages are being decoded, up to the batch's limits.
func (sh *shard) collect(rows int) *batch {
	opts := sh.route.opts
	b := sh.batch
	b.reset()
	sh.takeDue(b, rows)
	if sh.next != nil && !b.full(rows, opts.BatchBytes) {
		b.add(sh.next)
		sh.next = nil
	}
	var delay, poll *time.Timer
	yields := 0
	for !b.full(rows, opts.BatchBytes) {
		select {
		case it := <-sh.queue:
			b.add(it)
			continue
		default:
		}
		if !sh.route.arriving.any() || sh.route.draining.Load() {
			break
		}
		if yields < arrivalYields {
			yields++
			runtime.Gosched()
			continue
		}
		if delay == nil {
			delay, poll = time.NewTimer(opts.BatchDelay), time.NewTimer(arrivalPoll)
			defer delay.Stop()
			defer poll.Stop()
		} else {
			poll.Reset(arrivalPoll)
		}
		select {
		case it := <-sh.queue:
			b.add(it)
		case <-poll.C:
		case <-delay.C:
			return b
		}
	}
	return b
}

// commit writes a batch and tells each of its records the outcome, or has it tried again.
func (sh *shard) commit(b *batch) {
	r := sh.route
	defer sh.recovered(b)
	start := r.deps.Now()
	rows, winners := b.pending(&sh.recent, func(w *winner) { sh.stored(w, start) })
	r.observed.tally.merged.Add(int64(b.replaced))
	if len(rows) == 0 {
		r.activity.add(start, b.replaced, time.Time{})
		return
	}
	// A drain must not abort a write that is about to succeed, so the write has no parent context;
	// the store bounds it.
	ctx, end := r.observed.startCommit(context.Background(), r.ds, winners)
	r.observed.queued(ctx, start, winners)
	sh.putting.Store(&putting{id: winners[0].item.message.ID, at: start})
	errs, stale := r.put(ctx, rows, winners)
	failed, now := firstError(errs), r.deps.Now()
	sh.putting.Store(nil)
	r.observed.committed(ctx, len(rows), now.Sub(start), failed)
	end(failed)
	if errors.Is(failed, store.ErrMisconfigured) {
		r.suspend(gateHolding, misconfigured(failed))
	}
	r.count(now, b.replaced, winners, errs)
	winners[0].item.committed = now
	sh.settle(winners, errs, failed, now)
	if r.index != nil {
		r.index.tidy(stale)
	}
}

// settle passes the outcomes of a commit on.
func (sh *shard) settle(winners []*winner, errs []error, failed error, now time.Time) {
	committed, retried, givenUp := 0, 0, 0
	for i, w := range winners {
		switch err := errs[i]; {
		case err == nil:
			committed++
			sh.recent.put(w.item.hash, w.item.row.Key, w.item.stamp())
			sh.stored(w, now)
		case errors.Is(err, store.ErrPoison):
			w.tell(err)
		default:
			n := sh.tryAgain(w, err, now)
			if givenUp += n; n == 0 {
				retried++
			}
		}
	}
	sh.route.observed.tally.retried.Add(int64(retried))
	sh.note(failed, committed, retried, givenUp)
}

// stored tells the records of a row that it is durable.
func (sh *shard) stored(w *winner, now time.Time) {
	o := sh.route.observed
	o.stored(w.item, now)
	for _, it := range w.losers {
		o.stored(it, now)
	}
	w.tell(nil)
}

// note keeps the route's readiness and logs failures once a batch, not once a row.
func (sh *shard) note(failed error, committed, retried, givenUp int) {
	r := sh.route
	if failed == nil || errors.Is(failed, store.ErrPoison) { // Refusing a row is an answer too.
		r.setCommitErr(nil)
		if committed > 0 && r.gate.state.Load() == gateHolding {
			r.resume()
		}
		return
	}
	if committed == 0 || givenUp > 0 {
		r.setCommitErr(fmt.Errorf("commit: %w", failed))
	}
	level := slog.LevelWarn
	if givenUp > 0 {
		level = slog.LevelError
		r.observed.platformError(stageCommit)
	}
	r.deps.Log.Log(context.Background(), level, "rows not stored", "dataset", r.ds.Name, "table", r.ds.Table(),
		"rows_tried_again", retried, "messages_given_back", givenUp, "error", failed)
}

func misconfigured(cause error) error {
	return fmt.Errorf("paused because the store cannot take any row: create what is missing or grant the permission "+
		"(latamctl doctor finds it), then it goes on by itself: %w", cause)
}

var errPanicked = errors.New("the program is at fault")

// recovered gives a batch back whose commit panicked.
func (sh *shard) recovered(b *batch) {
	if p := recover(); p != nil {
		sh.putting.Store(nil)
		sh.route.logPanic(stageCommit, "", p)
		b.answer(errPanicked)
	}
}

// put writes rows, with their entries where the dataset has indexes, and returns one error for each
// row and the entries that can go now.
func (r *route) put(ctx context.Context, rows []dataset.Row, winners []*winner) ([]error, []staleEntry) {
	if r.index == nil {
		return r.sink.Put(ctx, r.ds.Table(), rows), nil
	}
	return r.index.put(ctx, rows, winners)
}

// count adds a commit to the route's activity.
func (r *route) count(now time.Time, replaced int, winners []*winner, errs []error) {
	stored, newest := replaced, time.Time{}
	for i, w := range winners {
		if errs[i] != nil {
			continue
		}
		stored += 1 + len(w.losers)
		r.observed.tally.merged.Add(int64(len(w.losers)))
		if w.item.row.Time.After(newest) {
			newest = w.item.row.Time
		}
	}
	if stored > 0 {
		r.activity.add(now, stored, newest)
	}
}

// firstError prefers an error that is not a row's own fault.
func firstError(errs []error) error {
	var poison error
	for _, err := range errs {
		if err != nil && !errors.Is(err, store.ErrPoison) {
			return err
		}
		if err != nil {
			poison = err
		}
	}
	return poison
}

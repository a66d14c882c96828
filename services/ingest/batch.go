package ingest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
)

// item is one decoded record on its way to the store.
type item struct {
	row       dataset.Row
	entries   []dataset.Row // one of each index
	published time.Time
	id        string
	span      trace.SpanContext
	submitted time.Time
	committed time.Time  // of one item of a batch, set before its outcome
	done      chan error // receives the outcome once
}

// stamp orders the records of one key: event time, then publish order.
type stamp struct {
	event, published int64
	id               string
}

func (it *item) stamp() stamp {
	return stamp{event: it.row.Time.UnixMilli(), published: it.published.UnixNano(), id: it.id}
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
}

func newShard(r *route) *shard {
	return &shard{route: r, queue: make(chan *item, r.opts.MaxMessages), recent: newRecentKeys(recentKeysPerShard)}
}

// submit never blocks for long: the queue holds as many as the source may have outstanding.
func (sh *shard) submit(it *item) { sh.queue <- it }

// run commits batches until stop closes, then what is left in the queue.
func (sh *shard) run(stop <-chan struct{}) {
	for {
		select {
		case it := <-sh.queue:
			sh.commit(sh.collect(it))
		case <-stop:
			for {
				select {
				case it := <-sh.queue:
					sh.commit(sh.collect(it))
				default:
					return
				}
			}
		}
	}
}

// arrivalPoll is how often a filling batch looks whether the messages under way went elsewhere.
const arrivalPoll = 100 * time.Microsecond

// arrivalYields is how often a filling batch lets the messages under way run before it sleeps:
// decoding takes a microsecond, a timer at least fifty.
const arrivalYields = 32

// collect fills a batch without making a lone message wait: it takes what is there, and waits for
// more only while messages are being decoded, up to the batch's limits.
func (sh *shard) collect(first *item) *batch {
	opts := sh.route.opts
	b := newBatch()
	b.add(first)
	var delay, poll *time.Timer
	yields := 0
	for b.rows() < opts.BatchRows && b.bytes < opts.BatchBytes {
		select {
		case it := <-sh.queue:
			b.add(it)
			continue
		default:
		}
		if !sh.route.arriving.any() {
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

// commit writes a batch and tells each of its records the outcome.
func (sh *shard) commit(b *batch) {
	r := sh.route
	rows, winners := b.pending(&sh.recent)
	r.observed.tally.merged.Add(int64(b.replaced))
	if len(rows) == 0 {
		r.activity.add(r.deps.Now(), b.replaced, time.Time{})
		return
	}
	// A drain must not abort a write that is about to succeed, so the write has no parent context;
	// the store bounds it.
	ctx, end := r.observed.startCommit(context.Background(), r.ds, winners)
	start := r.deps.Now()
	r.observed.queued(ctx, start, winners)
	errs, stale := r.put(ctx, rows, winners)
	failed, now := firstError(errs), r.deps.Now()
	r.observed.committed(ctx, len(rows), now.Sub(start), failed)
	end(failed)
	sh.noteOutcome(failed, len(rows))
	r.count(now, b.replaced, winners, errs)
	winners[0].item.committed = now
	for i, w := range winners {
		if errs[i] == nil {
			sh.recent.put(w.item.row.Key, w.item.stamp())
		}
		w.tell(errs[i])
	}
	if r.index != nil {
		r.index.tidy(stale)
	}
}

// put writes rows, with their entries where the dataset has indexes, and returns one error for each
// row and the entries that can go now.
func (r *route) put(ctx context.Context, rows []dataset.Row, winners []*winner) ([]error, []staleEntry) {
	if r.index == nil {
		return r.deps.Sink.Put(ctx, r.ds.Table(), rows), nil
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

// noteOutcome keeps the route's readiness and logs failures once a batch, not once a row.
func (sh *shard) noteOutcome(failed error, rows int) {
	r := sh.route
	switch {
	case failed == nil, errors.Is(failed, store.ErrPoison): // Refusing a row is an answer too.
		r.setCommitErr(nil)
	default:
		r.setCommitErr(fmt.Errorf("commit: %w", failed))
		r.observed.platformError(stageCommit)
		r.deps.Log.Error("batch not stored, its messages will be redelivered",
			"dataset", r.ds.Name, "table", r.ds.Table(), "rows", rows, "error", failed)
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

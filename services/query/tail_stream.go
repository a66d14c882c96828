package query

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/web"
)

// tailItem is one message until its row was sent or is known not to come.
type tailItem struct {
	at   tailPosition
	rec  dataset.Record
	row  dataset.Row
	skip bool // of no interest; only its position counts

	due, deadline time.Time
	wait          time.Duration
	done          bool
	settled       chan struct{} // closed when done
}

// tailStream is one client's live stream. The messages come on goroutines of their own and wait in
// the inbox; one goroutine, that of the request, does all the rest. A message is acknowledged when
// its row was sent, so a slow client holds up its own subscription and nothing else.
type tailStream struct {
	s     *Service
	ep    *endpoint
	opts  TailOptions
	query listQuery
	from  tailPosition // of the client's earlier stream
	out   *eventWriter

	mu    sync.Mutex
	inbox []*tailItem
	wake  chan struct{} // capacity 1

	pending []*tailItem // in the order of publication
	keys    map[string]int
	fresh   int // pending that were never looked up
	nextDue time.Time
	newest  tailPosition // of all messages seen
	sent    tailPosition // that the client knows
	expect  string       // the message that a resumed stream must see again
	missed  int
	storeOK bool
}

func newTailStream(s *Service, ep *endpoint, q listQuery, from tailPosition) *tailStream {
	return &tailStream{s: s, ep: ep, opts: s.opts.Tail, query: q, from: from, wake: make(chan struct{}, 1), keys: map[string]int{}, storeOK: true}
}

// following is the subscription under a stream.
type following struct {
	ready chan time.Time
	ended chan struct{}
	err   error // once ended
}

func (t *tailStream) follow(ctx context.Context) *following {
	f := &following{ready: make(chan time.Time, 1), ended: make(chan struct{})}
	opts := bus.FollowOptions{
		MaxMessages: t.opts.MaxPending, MaxBytes: t.opts.MaxPendingBytes,
		Ready: func(since time.Time) { f.ready <- since },
	}
	if !t.from.published.IsZero() {
		opts.From = t.from.published.Add(-resumeMargin)
	}
	go func() {
		defer close(f.ended)
		f.err = t.s.deps.Follower.Follow(ctx, t.ep.ds.Topic, opts, t.take)
	}()
	return f
}

// run opens the stream and serves it until it ends. When it returns, nothing is left of it.
func (t *tailStream) run(w http.ResponseWriter, r *http.Request) *web.Problem {
	ctx, cancel := context.WithCancel(r.Context())
	f := t.follow(ctx)
	defer func() {
		cancel()
		<-f.ended
	}()
	timeout := time.NewTimer(t.opts.StartTimeout)
	defer timeout.Stop()
	var since time.Time
	select {
	case since = <-f.ready:
	case <-f.ended:
		return t.s.followProblem(r, t.ep, f.err)
	case <-timeout.C:
		return t.s.followProblem(r, t.ep, context.DeadlineExceeded)
	case <-t.s.draining:
		return t.s.stopping()
	case <-ctx.Done():
		return web.NewProblem(web.ClientClosed, "The client went away.", "")
	}
	t.out = newEventWriter(w, t.opts.WriteTimeout)
	var hurrying sync.WaitGroup
	hurrying.Go(func() { t.hurry(ctx) })
	defer func() {
		cancel()
		hurrying.Wait()
	}()
	err := t.open(since)
	var why string
	if err == nil {
		why, err = t.loop(ctx, f)
	}
	t.s.deps.Log.LogAttrs(ctx, slog.LevelDebug, "live stream ended", slog.String("dataset", t.ep.ds.Name),
		slog.String("request_id", web.RequestID(ctx)), slog.String("reason", why), slog.Int("missed", t.missed), slog.Any("error", err))
	return nil
}

// drainWriteTimeout is how long a client may take nothing once the service drains.
const drainWriteTimeout = time.Second

// hurry keeps a client that takes nothing from holding up the end of the process.
func (t *tailStream) hurry(ctx context.Context) {
	select {
	case <-t.s.draining:
		_ = t.out.setDeadline(drainWriteTimeout) // A connection that takes no deadline is closed at the end of the drain.
	case <-ctx.Done():
	}
}

// reconnectAfter is how long a client waits before it connects again.
const reconnectAfter = time.Second

// open tells the client that it is connected, and where it could go on from.
func (t *tailStream) open(since time.Time) error {
	if err := t.out.open(); err != nil {
		return err
	}
	resumed := !t.from.published.IsZero()
	t.newest = tailPosition{published: since}
	if resumed {
		t.newest, t.expect = t.from, t.from.messageID
	}
	t.out.buf = fmt.Appendf(t.out.buf, "retry: %d\n", reconnectAfter.Milliseconds())
	t.out.comment("live rows of " + t.ep.ds.Name)
	t.position(t.newest)
	t.out.end()
	if resumed && since.After(t.from.published) {
		t.expect = ""
		if err := t.gap("the topic no longer keeps what was published before " + since.UTC().Format(time.RFC3339Nano)); err != nil {
			return err
		}
	}
	return t.out.flush()
}

// position adds an id when the client does not know it.
func (t *tailStream) position(p tailPosition) {
	if p != t.sent {
		t.sent = p
		t.out.id(t.s.sealer.sealEvent(t.ep.scope, p))
	}
}

// gap tells the client that rows may be missing from here.
func (t *tailStream) gap(detail string) error {
	err := t.out.event("gap", func(b []byte) ([]byte, error) {
		data, err := json.Marshal(map[string]string{"detail": detail})
		return append(b, data...), err
	})
	t.out.end()
	return err
}

// loop serves the stream until it ends, and says why it did. The client is told the reason.
func (t *tailStream) loop(ctx context.Context, f *following) (why string, err error) {
	heartbeat := time.NewTicker(t.opts.Heartbeat)
	defer heartbeat.Stop()
	life := time.NewTimer(t.opts.MaxTailTime)
	defer life.Stop()
	due := time.NewTimer(t.opts.MaxTailTime)
	defer due.Stop()
	for {
		if len(t.pending) > 0 {
			due.Reset(time.Until(t.nextDue))
		}
		select {
		case <-ctx.Done():
			return "the client went away", nil
		case <-t.s.draining:
			return t.farewell("draining")
		case <-life.C:
			return t.farewell("this stream has lasted long enough, connect again")
		case <-f.ended:
			if ctx.Err() != nil {
				return "the client went away", nil
			}
			t.s.deps.Log.LogAttrs(ctx, slog.LevelWarn, "live stream broke", slog.String("dataset", t.ep.ds.Name), slog.Any("error", f.err))
			return t.farewell("the message bus cannot be reached, connect again")
		case <-t.wake:
			t.accept()
		case <-due.C:
			err = t.deliver(ctx)
		case <-heartbeat.C:
			err = t.beat()
		}
		if errors.Is(err, errStoreGone) {
			t.s.deps.Log.LogAttrs(ctx, slog.LevelWarn, "live stream broke", slog.String("dataset", t.ep.ds.Name), slog.Any("error", err))
			return t.farewell("the store cannot be reached, connect again")
		}
		if err != nil {
			return "the client takes nothing", err
		}
	}
}

func (t *tailStream) farewell(why string) (string, error) {
	t.out.comment(why)
	t.out.end()
	return why, t.out.flush()
}

// take is called with each message, on many goroutines. It returns when the message is settled.
func (t *tailStream) take(ctx context.Context, m bus.Message) bool {
	it := &tailItem{at: tailPosition{m.PublishTime, m.ID}, settled: make(chan struct{})}
	rec, err := t.decode(ctx, m)
	if reject := (*dataset.RejectError)(nil); err != nil && !errors.As(err, &reject) {
		return t.giveBack(ctx, err)
	}
	if it.skip = err != nil || !matchAll(t.query.filters, rec); !it.skip {
		it.rec, it.row = rec, rec.Row(m.PublishTime)
	}
	t.mu.Lock()
	t.inbox = append(t.inbox, it)
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
	select {
	case <-it.settled:
		return true
	case <-ctx.Done():
		return false
	}
}

// giveBack leaves a message for later whose schema cannot be had now: its row would be missing.
func (t *tailStream) giveBack(ctx context.Context, cause error) bool {
	t.s.deps.Log.LogAttrs(ctx, slog.LevelWarn, "message of a live stream not read, it comes again", slog.String("dataset", t.ep.ds.Name), slog.Any("error", cause))
	wait := time.NewTimer(maxStoreBackoff)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
	}
	return false
}

// decode reads the record of a message as ingest does.
func (t *tailStream) decode(ctx context.Context, m bus.Message) (dataset.Record, error) {
	data := m.Data
	if t.s.deps.Payloads != nil {
		var err error
		if data, err = t.s.deps.Payloads.JSON(ctx, data, m.Attributes); err != nil {
			return dataset.Record{}, fmt.Errorf("read payload: %w", err)
		}
	}
	return t.ep.ds.Decode(data, m.PublishTime)
}

// accept moves the inbox to what is pending.
func (t *tailStream) accept() {
	t.mu.Lock()
	items := t.inbox
	t.inbox = nil
	t.mu.Unlock()
	now := time.Now()
	for _, it := range items {
		if t.newest.before(it.at) {
			t.newest = it.at
		}
		if it.at.messageID == t.expect {
			t.expect = ""
		}
		if it.skip {
			it.settle()
			continue
		}
		it.wait, it.due, it.deadline = t.opts.BatchDelay, now.Add(t.opts.BatchDelay), now.Add(t.opts.StoreWait)
		at, _ := slices.BinarySearchFunc(t.pending, it, func(a, b *tailItem) int {
			if a.at.before(b.at) {
				return -1
			}
			return 1
		})
		t.pending = slices.Insert(t.pending, at, it)
		t.keys[it.row.Key]++
		if t.fresh++; len(t.pending) == 1 || it.due.Before(t.nextDue) {
			t.nextDue = it.due
		}
	}
	if t.fresh >= t.opts.BatchRows {
		t.nextDue = now
	}
}

func (it *tailItem) settle() {
	it.done = true
	close(it.settled)
}

// maxStoreBackoff is the longest time between two looks for a row.
const maxStoreBackoff = time.Second

// errStoreGone says that rows were not found because they could not be read.
var errStoreGone = errors.New("the store could not be read for too long")

// deliver looks up the rows that are due, and sends those that are there.
func (t *tailStream) deliver(ctx context.Context) error {
	// What has come by now counts for the positions that are sent below.
	t.accept()
	now := time.Now()
	batch := t.due(now)
	if len(batch) == 0 {
		return nil
	}
	rows, err := t.lookUp(ctx, batch)
	if ctx.Err() != nil {
		return nil //nolint:nilerr // The client is gone, and the loop sees it.
	}
	var ready []*tailItem
	missed := t.missed
	for i, it := range batch {
		switch {
		case err != nil && !now.Before(it.deadline):
			return fmt.Errorf("%w: %w", errStoreGone, err)
		case err != nil:
			it.later(now)
		default:
			if t.judge(ctx, it, rows[i], now) {
				ready = append(ready, it)
			}
		}
	}
	if err := t.send(ctx, ready); err != nil {
		return err
	}
	if n := t.missed - missed; n > 0 {
		detail := fmt.Sprintf("%d records were not stored within %s", n, dataset.FormatDuration(t.opts.StoreWait))
		if err := t.gap(detail); err != nil {
			return err
		}
	}
	err = t.out.flush()
	for _, it := range ready {
		it.settleOnce()
	}
	t.compact()
	return err
}

// due takes the items to look up now, and counts those as looked up.
func (t *tailStream) due(now time.Time) (batch []*tailItem) {
	soon := now.Add(t.opts.BatchDelay)
	for _, it := range t.pending {
		if !it.due.After(soon) && len(batch) < t.opts.BatchRows {
			batch = append(batch, it)
		}
	}
	t.fresh = 0
	return batch
}

func (t *tailStream) lookUp(ctx context.Context, batch []*tailItem) ([]dataset.Row, error) {
	keys := make([]string, len(batch))
	for i, it := range batch {
		keys[i] = it.row.Key
	}
	ctx, cancel := context.WithTimeout(ctx, t.s.opts.GetTimeout)
	defer cancel()
	rows, err := t.s.deps.Store.GetMany(ctx, t.ep.ds.Table(), keys, nil)
	if err != nil {
		t.warnOnce(ctx, err)
		return nil, err
	}
	t.storeOK = true
	return rows, nil
}

// warnOnce logs the first of several failed reads.
func (t *tailStream) warnOnce(ctx context.Context, err error) {
	if t.storeOK && ctx.Err() == nil {
		t.s.deps.Log.LogAttrs(ctx, slog.LevelWarn, "rows of a live stream not read, trying again", slog.String("dataset", t.ep.ds.Name), slog.Any("error", err))
	}
	t.storeOK = false
}

// later puts off the next look.
func (it *tailItem) later(now time.Time) {
	it.wait = min(2*it.wait, maxStoreBackoff)
	it.due = now.Add(it.wait)
}

// settleOnce settles an item that may be settled already.
func (it *tailItem) settleOnce() {
	if !it.done {
		it.settle()
	}
}

// judge compares a message with the row of its key and reports whether the row is the message's.
// A row with a later event time has won for good, so the message changes nothing. One of the same
// time with other content is either not replaced yet, or was replaced again: the message that did
// so settles this one, see send.
func (t *tailStream) judge(ctx context.Context, it *tailItem, row dataset.Row, now time.Time) bool {
	stored := len(row.Cells) > 0
	if stored && row.Time.After(it.row.Time) {
		it.settleOnce()
		return false
	}
	if stored && row.Time.Equal(it.row.Time) {
		rec, err := t.ep.ds.Record(row)
		if err == nil && slices.Equal(rec.Values, it.rec.Values) {
			return true
		}
		if err != nil {
			t.s.deps.Log.LogAttrs(ctx, slog.LevelError, "row of a live stream cannot be read", slog.String("dataset", t.ep.ds.Name), slog.Any("error", err))
		}
	}
	if now.Before(it.deadline) {
		it.later(now)
		return false
	}
	if !stored || row.Time.Before(it.row.Time) {
		t.missed++
	}
	it.settleOnce()
	return false
}

// send adds the events of a batch to the output. The id of each is the place of the oldest message
// that the client has not got, so that going on from there skips none.
func (t *tailStream) send(ctx context.Context, ready []*tailItem) error {
	oldest := 0
	sent := make(map[*tailItem]bool, len(ready))
	for _, it := range ready {
		for oldest < len(t.pending) && (t.pending[oldest].done || sent[t.pending[oldest]]) {
			oldest++
		}
		id, err := t.ep.ds.RowID(it.row.Key)
		if err != nil {
			t.s.deps.Log.LogAttrs(ctx, slog.LevelError, "row of a live stream has no id", slog.String("dataset", t.ep.ds.Name), slog.Any("error", err))
			continue
		}
		mark := len(t.out.buf)
		t.position(t.pending[oldest].at)
		err = t.out.event("row", func(b []byte) ([]byte, error) { return it.rec.AppendJSON(b, id, t.query.fields) })
		if err != nil {
			t.out.buf = t.out.buf[:mark]
			return fmt.Errorf("write row %s: %w", id, err)
		}
		t.out.end()
		sent[it] = true
		t.supersede(it)
	}
	return nil
}

// supersede settles earlier messages of the same row that will never be read again.
func (t *tailStream) supersede(by *tailItem) {
	if t.keys[by.row.Key] < 2 {
		return
	}
	for _, it := range t.pending {
		if it.row.Key == by.row.Key && it.at.before(by.at) && !it.row.Time.After(by.row.Time) {
			it.settleOnce()
		}
	}
}

// compact forgets what is settled and finds when to look again.
func (t *tailStream) compact() {
	t.pending = slices.DeleteFunc(t.pending, func(it *tailItem) bool {
		if !it.done {
			return false
		}
		if t.keys[it.row.Key]--; t.keys[it.row.Key] == 0 {
			delete(t.keys, it.row.Key)
		}
		return true
	})
	for i, it := range t.pending {
		if i == 0 || it.due.Before(t.nextDue) {
			t.nextDue = it.due
		}
	}
}

// beat tells that the stream lives, and the place to go on from when messages have passed that the
// client does not see.
func (t *tailStream) beat() error {
	t.accept()
	t.out.comment("keep-alive")
	at := t.newest
	if len(t.pending) > 0 {
		at = t.pending[0].at
	}
	t.position(at)
	t.out.end()
	// A topic that keeps the message of the last position delivers it first.
	if t.expect != "" && (len(t.pending) == 0 || at.published.After(t.from.published.Add(resumeMargin))) {
		t.expect = ""
		if err := t.gap("the topic no longer keeps what followed " + t.from.published.Format(time.RFC3339Nano)); err != nil {
			return err
		}
	}
	return t.out.flush()
}

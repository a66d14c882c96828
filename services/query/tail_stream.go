package query

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/web"
)

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

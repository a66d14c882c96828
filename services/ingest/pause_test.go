package ingest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/store"
)

// subscription delivers its messages as Pub/Sub does: no more at a time than the receiver asks for, and
// again, at once, what is given back.
type subscription struct {
	mu       sync.Mutex
	waiting  []*bus.Message
	acked    map[string]bool
	attempts map[string]int
	opts     []bus.ReceiveOptions // of each Receive
	starts   []time.Time
	news     chan struct{}
}

func newSubscription(messages ...*bus.Message) *subscription {
	return &subscription{waiting: messages, acked: map[string]bool{}, attempts: map[string]int{}, news: make(chan struct{}, 1)}
}

func (s *subscription) publish(messages ...*bus.Message) {
	s.mu.Lock()
	s.waiting = append(s.waiting, messages...)
	s.mu.Unlock()
	s.wake()
}

func (s *subscription) wake() {
	select {
	case s.news <- struct{}{}:
	default:
	}
}

func (s *subscription) Receive(ctx context.Context, _ string, opts bus.ReceiveOptions, handle func(context.Context, bus.Message) bool) error {
	s.mu.Lock()
	s.opts, s.starts = append(s.opts, opts), append(s.starts, time.Now())
	s.mu.Unlock()
	var calls sync.WaitGroup
	defer calls.Wait()
	room := make(chan struct{}, opts.MaxMessages)
	for {
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		m := s.next(ctx)
		if m == nil {
			return nil
		}
		calls.Go(func() {
			defer func() { <-room }()
			if ack := handle(ctx, *m); ack {
				s.mu.Lock()
				s.acked[m.ID] = true
				s.mu.Unlock()
				return
			}
			s.mu.Lock()
			s.waiting = append([]*bus.Message{m}, s.waiting...)
			s.mu.Unlock()
			s.wake()
		})
	}
}

func (s *subscription) next(ctx context.Context) *bus.Message {
	for {
		s.mu.Lock()
		if len(s.waiting) > 0 && ctx.Err() == nil {
			m := s.waiting[0]
			s.waiting = s.waiting[1:]
			s.attempts[m.ID]++
			s.mu.Unlock()
			return m
		}
		s.mu.Unlock()
		select {
		case <-s.news:
		case <-ctx.Done():
			return nil
		}
	}
}

// counts returns how many messages are acknowledged, and the most attempts of one.
func (s *subscription) counts() (acked, attempts int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.attempts {
		attempts = max(attempts, n)
	}
	return len(s.acked), attempts
}

// received returns the options of each Receive.
func (s *subscription) received() []bus.ReceiveOptions {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]bus.ReceiveOptions(nil), s.opts...)
}

// events makes n messages with the records that record returns.
func (h *harness) events(n int, record func(i int) string) []*bus.Message {
	var all []*bus.Message
	for i := range n {
		m := h.message(record(i))
		all = append(all, &m)
	}
	return all
}

func good(i int) string { return event(fmt.Sprint("k", i), i+1) }

// TestMisconfiguredStore keeps the table away for an hour: nothing is rejected or lost, no message is
// delivered more than a few times, the service says why it is not ready, and it goes on by itself.
func TestMisconfiguredStore(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		sub := newSubscription(h.events(2000, good)...)
		h.sink.setAnswer(fail(store.ErrMisconfigured))
		h.startOn(sub, Options{Shards: 4})
		time.Sleep(10 * time.Second)
		h.wantReady(store.ErrMisconfigured)
		if err := h.svc.Ready(); !strings.Contains(err.Error(), "latamctl doctor") {
			t.Errorf("%q does not say what to do", err)
		}
		commits := len(h.sink.calls())
		time.Sleep(time.Hour)
		h.wantReady(store.ErrMisconfigured)
		if acked, attempts := sub.counts(); acked != 0 || attempts > 3 {
			t.Errorf("%d messages acknowledged, one delivered %d times; want none and at most 3 times", acked, attempts)
		}
		if n := len(h.sink.calls()) - commits; n > 500 || n < 30 {
			t.Errorf("%d commits in the hour, want a probe each minute", n)
		}
		h.sink.setAnswer(nil)
		time.Sleep(2 * maxProbePause)
		h.wantReady(nil)
		if acked, attempts := sub.counts(); acked != 2000 || attempts > 4 || len(h.dead.all()) != 0 {
			t.Errorf("%d of 2000 messages acknowledged, at most %d deliveries, %d dead letters", acked, attempts, len(h.dead.all()))
		}
		if opts := sub.received(); opts[len(opts)-1].MaxMessages != 8000 {
			t.Errorf("receives %d messages at a time after the pause, want all", opts[len(opts)-1].MaxMessages)
		}
		if n := strings.Count(h.log.String(), "route paused"); n != 1 {
			t.Errorf("the pause is logged %d times", n)
		}
		h.end()
	})
}

// schemas answers for the payloads of a topic with a schema.
type schemas struct {
	mu    sync.Mutex
	fault error
}

func (s *schemas) set(fault error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

func (s *schemas) JSON(_ context.Context, data []byte, _ map[string]string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return data, s.fault
}

// TestSchemaNotAllowed keeps the schema away for an hour: the stream must not run out of deliveries, which
// would make a dead letter of each message.
func TestSchemaNotAllowed(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		sub := newSubscription(h.events(2000, good)...)
		payloads := &schemas{fault: bus.ErrDenied}
		h.payloads = payloads
		h.startOn(sub, Options{})
		time.Sleep(10 * time.Second)
		h.wantReady(errNoSchema)
		h.wantReady(bus.ErrDenied)
		time.Sleep(time.Hour)
		h.wantReady(errNoSchema)
		if acked, attempts := sub.counts(); acked != 0 || attempts > 3 {
			t.Errorf("%d messages acknowledged, one delivered %d times; want none and at most 3 times", acked, attempts)
		}
		payloads.set(nil)
		time.Sleep(2 * maxProbePause)
		h.wantReady(nil)
		if acked, attempts := sub.counts(); acked != 2000 || attempts > 4 || len(h.dead.all()) != 0 {
			t.Errorf("%d of 2000 messages acknowledged, at most %d deliveries, %d dead letters", acked, attempts, len(h.dead.all()))
		}
		payloads.set(bus.ErrDenied)
		sub.publish(h.events(10, good)...)
		time.Sleep(5 * time.Minute) // Some are held now.
		start := time.Now()
		h.end()
		if took := time.Since(start); took > time.Second {
			t.Errorf("the drain took %v", took)
		}
		if acked, _ := sub.counts(); acked != 2000 || len(sub.waiting) != 10 {
			t.Errorf("%d messages acknowledged and %d given back, want 2000 and 10", acked, len(sub.waiting))
		}
	})
}

// TestDrainWhilePaused stops the service while it holds messages.
func TestDrainWhilePaused(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{10 * time.Millisecond, 5 * time.Second, 10 * time.Minute} {
		inBubble(t, func(t *testing.T, h *harness) {
			sub := newSubscription(h.events(100, good)...)
			h.sink.setAnswer(fail(store.ErrMisconfigured))
			h.startOn(sub, Options{})
			time.Sleep(after)
			start := time.Now()
			h.end()
			if took := time.Since(start); took > time.Second {
				t.Errorf("the drain took %v", took)
			}
			if acked, _ := sub.counts(); acked != 0 || len(sub.waiting) != 100 {
				t.Errorf("%d messages acknowledged and %d given back, want all", acked, len(sub.waiting))
			}
		})
	}
}

// TestHoldingOutlastsOutage has a store away that is not the route's fault meanwhile: what is held stays held.
func TestHoldingOutlastsOutage(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		sub := newSubscription(h.events(10, good)...)
		h.sink.setAnswer(fail(store.ErrMisconfigured))
		h.startOn(sub, Options{})
		time.Sleep(10 * time.Second)
		h.sink.setAnswer(fail(store.ErrUnavailable))
		time.Sleep(30 * time.Minute)
		if _, attempts := sub.counts(); attempts > 3 {
			t.Errorf("a message was delivered %d times", attempts)
		}
		h.wantReady(store.ErrMisconfigured)
		h.sink.setAnswer(nil)
		time.Sleep(2 * maxProbePause)
		if acked, _ := sub.counts(); acked != 10 {
			t.Errorf("%d of 10 messages acknowledged", acked)
		}
		h.end()
	})
}

func bad(i int) string { return fmt.Sprintf(`{"code":"k%d"}`, i) }

// TestBadDeploy sends records that break the declaration: the route pauses once there are many, and goes
// on once records pass.
func TestBadDeploy(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		sub := newSubscription(h.events(20_000, bad)...)
		h.startOn(sub, Options{})
		time.Sleep(500 * time.Millisecond)
		h.wantReady(errBadDeploy)
		if err := h.svc.Ready(); !strings.Contains(err.Error(), "1000 of the last 1000, most by missing_field in field at") ||
			!strings.Contains(err.Error(), "declaration of dataset events") || !strings.Contains(err.Error(), "--max-reject-share") {
			t.Errorf("%q does not say what is wrong and what to do", err)
		}
		before := len(h.dead.all())
		if before > 1000 {
			t.Errorf("%d dead letters before the pause, want at most 1000", before)
		}
		time.Sleep(time.Hour)
		h.wantReady(errBadDeploy)
		// Each probe costs a few.
		if n := len(h.dead.all()) - before; n > 100*2*judgedRecords || n < 30*judgedRecords {
			t.Errorf("%d dead letters in an hour of probes", n)
		}
		sub.mu.Lock()
		sub.waiting = nil
		sub.mu.Unlock()
		sub.publish(h.events(5000, good)...)
		time.Sleep(5 * time.Minute)
		h.wantReady(nil)
		sub.mu.Lock()
		left := len(sub.waiting)
		sub.mu.Unlock()
		if left != 0 || h.sink.count() != 5000 {
			t.Errorf("%d messages wait, %d rows are stored; want all 5000", left, h.sink.count())
		}
		h.end()
	})
}

// TestTrickleNeverPauses sends few bad records, or many beside more good ones, or as many as the operator allows.
func TestTrickleNeverPauses(t *testing.T) {
	t.Parallel()
	mixed := func(badOf10 int) func(int) string {
		return func(i int) string {
			if i%10 < badOf10 {
				return bad(i)
			}
			return good(i)
		}
	}
	for _, tc := range []struct {
		name   string
		n      int
		record func(int) string
		opts   Options
		pauses bool
	}{
		{"few", minRejects - 1, bad, Options{}, false},
		{"one in ten", 20_000, mixed(1), Options{}, false},
		{"four in ten", 20_000, mixed(4), Options{}, false},
		{"most", 20_000, mixed(6), Options{}, true},
		{"one in ten is too many", 20_000, mixed(1), Options{MaxRejectShare: 0.05}, true},
		{"all, as asked for", 5000, bad, Options{MaxRejectShare: 1}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, h *harness) {
				h.startOn(newSubscription(h.events(tc.n, tc.record)...), tc.opts)
				time.Sleep(800 * time.Millisecond)
				if tc.pauses {
					h.wantReady(errBadDeploy)
				} else {
					h.wantReady(nil)
				}
				h.end()
			})
		})
	}
}

func TestRejects60Seconds(t *testing.T) {
	t.Parallel()
	var j rejects
	at := func(s int) time.Time { return time.Unix(1_000_000+int64(s), 0) }
	add := func(s, n int) (tooMany bool) {
		for range n {
			_, tooMany = j.add(at(s), "pattern", "code", 0.5)
		}
		return tooMany
	}
	if add(0, 999) || add(60, 999) {
		t.Error("two minutes were counted as one")
	}
	if !add(61, 1) {
		t.Error("1000 within a minute are not too many")
	}
	j.reset()
	if add(62, 999) {
		t.Error("what led to a pause was counted again after it")
	}
	j.tick(at(200))
	j.passed.Add(1500)
	if add(230, 1500) {
		t.Error("as many passed")
	}
	if !add(230, 1) {
		t.Error("more were rejected than passed")
	}
	j.tick(at(289))
	if add(290, 999) {
		t.Error("a rejection counts for longer than a minute")
	}
	if !add(290, 1) {
		t.Error("a record that passed counts for longer than a minute")
	}
}

// TestRejectsAreJudgedFromTheFirstRecord lets records pass before the first is rejected: the order in which
// the outcomes of one burst are counted decides nothing.
func TestRejectsAreJudgedFromTheFirstRecord(t *testing.T) {
	t.Parallel()
	var j rejects
	j.passed.Add(minRejects)
	for range minRejects {
		if why, tooMany := j.add(time.Unix(1_000_000, 0), "pattern", "code", 0.5); tooMany {
			t.Fatal(why)
		}
	}
	if _, tooMany := j.add(time.Unix(1_000_000, 0), "pattern", "code", 0.5); !tooMany {
		t.Error("more were rejected than passed")
	}
}

// TestMissingSubscription checks that a subscription that does not exist makes the route not ready until it does.
func TestMissingSubscription(t *testing.T) {
	t.Parallel()
	for _, kind := range []error{bus.ErrNotFound, bus.ErrDenied} {
		inBubble(t, func(t *testing.T, h *harness) {
			missing := func(context.Context) error { return fmt.Errorf("receive: %w", kind) }
			for range 20 {
				h.source.script = append(h.source.script, missing)
			}
			h.start(Options{})
			time.Sleep(time.Minute)
			h.wantReady(kind)
			time.Sleep(3 * time.Minute)
			h.wantReady(nil)
			h.wantAck("a record", h.send(event("a", 1)))
			h.end()
		})
	}
}

// TestPauseBeforeReceive pauses a route between its decision to receive and the begin of that: nothing
// would end such a Receive, and every message would be given back again and again.
func TestPauseBeforeReceive(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		h.start(Options{})
		h.end()
		r := h.svc.routes[0]
		r.suspend(gateHolding, errors.New("a test"))
		before := len(h.source.attempts())
		if _, err := r.receive(t.Context(), gateOpen, bus.ReceiveOptions{}); err != nil || len(h.source.attempts()) != before {
			t.Errorf("received with a closed gate, error %v", err)
		}
	})
}

// startOn starts the service on a subscription.
func (h *harness) startOn(sub Source, opts Options) {
	h.t.Helper()
	h.from = sub
	h.start(opts)
}

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
	"github.com/latamctl/latamctl/pkg/dataset"
)

// stuckStream is a subscription whose first streams deliver nothing after a while.
type stuckStream struct {
	*subscription
	hangs bool // a stuck Receive does not even end with its context

	mu     sync.Mutex
	stuck  bool // streams over the first connection are
	looks  int
	look   error
	hung   chan struct{}
	always bool // also those over a new one
}

func (s *stuckStream) Receive(ctx context.Context, sub string, opts bus.ReceiveOptions, handle func(context.Context, bus.Message) bool) error {
	s.mu.Lock()
	stuck := s.stuck && (!opts.Fresh || s.always)
	s.mu.Unlock()
	if !stuck {
		return s.subscription.Receive(ctx, sub, opts, handle)
	}
	s.subscription.mu.Lock()
	s.opts = append(s.opts, opts)
	s.subscription.mu.Unlock()
	<-ctx.Done()
	if s.hangs {
		<-s.hung
	}
	return nil
}

func (s *stuckStream) Waiting(context.Context, string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	if s.look != nil {
		return false, s.look
	}
	s.subscription.mu.Lock()
	defer s.subscription.mu.Unlock()
	return len(s.waiting) > 0, nil
}

func (s *stuckStream) lookedAt() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.looks
}

// TestStuckStream has messages wait behind a stream that delivers none: within the limit they are
// received over a new connection.
func TestStuckStream(t *testing.T) {
	t.Parallel()
	for name, hangs := range map[string]bool{"ends": false, "does not end": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, h *harness) {
				s := &stuckStream{subscription: newSubscription(h.events(10, good)...), stuck: true, hangs: hangs, hung: make(chan struct{})}
				h.startOn(s, Options{})
				time.Sleep(29 * time.Second)
				if acked, _ := s.counts(); acked != 0 || s.lookedAt() != 0 {
					t.Fatalf("%d acknowledged and %d looks before the limit", acked, s.lookedAt())
				}
				time.Sleep(5 * time.Second)
				if acked, _ := s.counts(); acked != 10 {
					t.Errorf("%d of 10 messages received after the look", acked)
				}
				if opts := s.received(); !opts[len(opts)-1].Fresh {
					t.Error("not over a new connection")
				}
				if !strings.Contains(h.log.String(), "the stream delivers none") {
					t.Errorf("log %q does not say so", h.log)
				}
				h.wantReady(nil)
				close(s.hung)
				h.end()
			})
		})
	}
}

// TestQuietTopicIsLeftAlone has nothing wait, or nobody who could say so: no stream is ended.
func TestQuietTopicIsLeftAlone(t *testing.T) {
	t.Parallel()
	for name, look := range map[string]error{"nothing waits": nil, "no answer": bus.ErrUnavailable} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, h *harness) {
				s := &stuckStream{subscription: newSubscription(), look: look}
				h.startOn(s, Options{WatchAfter: 10 * time.Second})
				time.Sleep(65 * time.Second)
				looks := s.lookedAt()
				if n := len(s.received()); looks < 5 || n != 1 {
					t.Errorf("%d looks and %d streams in 65s, want a look each 10s and one stream", looks, n)
				}
				// A topic with traffic is not asked about.
				for range 30 {
					s.publish(h.events(1, good)...)
					time.Sleep(5 * time.Second)
				}
				if n := s.lookedAt(); n != looks {
					t.Errorf("%d looks beside traffic", n-looks)
				}
				h.end()
			})
		})
	}
}

// TestStuckMessage has a store that does not answer for over a minute, and then does.
func TestStuckMessage(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		h.sink.setGate(make(chan struct{}))
		h.start(Options{Shards: 1})
		m := h.message(event("a", 1))
		m.ID = "the-stuck-one"
		outcome := h.deliver(m)
		time.Sleep(maxCommit - time.Second)
		h.wantReady(nil)
		time.Sleep(10 * time.Second)
		if err := h.svc.Ready(); err == nil || !strings.Contains(err.Error(), "stuck: message the-stuck-one is in the store's hands for 1m") {
			t.Errorf("ready says %v, want what is stuck and for how long", err)
		}
		if n := strings.Count(h.log.String(), "message stuck"); n != 1 {
			t.Errorf("logged %d times, want once", n)
		}
		h.letThrough(h.sink.gate)
		h.wantAck("the message", outcome)
		time.Sleep(2 * watchTick)
		h.wantReady(nil)
		h.end()
	})
}

// TestHangingHandle has a message whose payload is never read: the route says so once its lease has
// ended, and the service stops in time all the same.
func TestHangingHandle(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		hang := make(chan struct{})
		h.payloads = payloads(func([]byte) ([]byte, error) { <-hang; return nil, errors.New("too late") })
		h.start(Options{})
		outcome := h.send(event("a", 1))
		time.Sleep(maxExtension + 2*watchTick)
		if err := h.svc.Ready(); err == nil || !strings.Contains(err.Error(), "stuck: message 1 is in work for 10m") {
			t.Errorf("ready says %v, want what is stuck and for how long", err)
		}
		start := time.Now()
		h.end()
		if took := time.Since(start); took > 25*time.Second {
			t.Errorf("the drain took %v", took)
		}
		close(hang)
		if h.settled("the message", outcome) {
			t.Error("acknowledged")
		}
	})
}

// payloads reads payloads with a function.
type payloads func([]byte) ([]byte, error)

func (p payloads) JSON(_ context.Context, data []byte, _ map[string]string) ([]byte, error) {
	return p(data)
}

// TestEveryMessageIsAnswered drives a message down every path, each of which ends in one answer.
func TestEveryMessageIsAnswered(t *testing.T) {
	t.Parallel()
	var nobody *dataset.Dataset
	for _, tc := range []struct {
		name    string
		data    string
		payload func([]byte) ([]byte, error)
		put     func(context.Context, []dataset.Row)
		answer  func([]dataset.Row) []error
		dead    error
		ack     bool
		logged  string
	}{
		{name: "stored", data: good(1), ack: true},
		{name: "rejected", data: "no JSON", ack: true},
		{name: "rejected in vain", data: "no JSON", dead: bus.ErrUnavailable, logged: "dead letter not published"},
		{name: "schema not fetched", data: good(1), payload: func([]byte) ([]byte, error) { return nil, bus.ErrUnavailable }},
		{name: "decode panics", data: "secret", payload: func(b []byte) ([]byte, error) { panic(string(b)) }, logged: "panic=string"},
		{name: "decode fails at runtime", data: good(1), payload: func([]byte) ([]byte, error) { return []byte(nobody.Name), nil }, logged: "nil pointer"},
		{name: "the store panics", data: good(1), put: func(_ context.Context, rows []dataset.Row) { panic(rows) }, logged: "panic=[]dataset.Row"},
		{name: "the store answers too little", data: good(1), answer: func([]dataset.Row) []error { return nil }, logged: "index out of range"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, h *harness) {
				if tc.payload != nil {
					h.payloads = payloads(tc.payload)
				}
				h.dead.err = tc.dead
				h.sink.during = tc.put
				h.sink.setAnswer(tc.answer)
				h.start(Options{Shards: 1})
				for range 3 { // The shard and the turn must be free again.
					outcome := h.send(tc.data)
					time.Sleep(h.svc.opts.RetryDelay)
					h.idle()
					select {
					case ack := <-outcome:
						if ack != tc.ack {
							t.Errorf("acknowledged: %v, want %v", ack, tc.ack)
						}
					default:
						t.Fatal("no answer")
					}
				}
				if log := h.log.String(); !strings.Contains(log, tc.logged) || strings.Contains(log, "secret") {
					t.Errorf("log %q, want %q and no payload", log, tc.logged)
				}
				if r := h.svc.routes[0]; r.arriving.any() || r.turns.busy != 0 || r.works.oldest() != nil {
					t.Error("the message is still counted")
				}
				h.end()
			})
		})
	}
}

func TestWorks(t *testing.T) {
	t.Parallel()
	w := newWorks(2)
	var slots []*slot
	for i := range 6 {
		slots = append(slots, w.enter(&item{message: bus.Message{ID: fmt.Sprint(i)}, began: time.Unix(int64(100-i), 0)}))
	}
	if slots[3] == nil || slots[4] != nil || slots[5] != nil {
		t.Errorf("slots %v of 4", slots)
	}
	if old := w.oldest(); old == nil || old.message.ID != "3" {
		t.Errorf("the oldest is %+v, want number 3", old)
	}
	for _, slot := range slots {
		w.leave(slot)
	}
	if old := w.oldest(); old != nil {
		t.Errorf("%+v is left", old)
	}
}

// TestLateAnswer answers a message again after its place went to another one: were the second answer
// that one's, it would be acknowledged before it is stored.
func TestLateAnswer(t *testing.T) {
	t.Parallel()
	w := newWorks(1)
	given := &item{}
	place := w.enter(given)
	given.waiting.Store(true)
	given.answer(errGivenUp)
	<-given.done
	w.leave(place)
	reused := false
	others := []*item{{}, {}} // They take all places.
	for _, other := range others {
		w.enter(other)
		other.waiting.Store(true)
		reused = reused || other.done == given.done
	}
	given.answer(nil)
	for _, other := range others {
		if len(other.done) != 0 || !other.waiting.Load() {
			t.Error("a message was answered by the late answer of another")
		}
	}
	if !reused || !errors.Is(given.err, errGivenUp) {
		t.Errorf("the place was reused: %v, and the first answer is %v", reused, given.err)
	}
}

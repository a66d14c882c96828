package topiclog

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// model is what a subscription means, kept without any thought of speed:
// every message ever published, and every delivery.
type model struct {
	cfg        *pubsubpb.Subscription
	msgs       []*modelMsg
	deliveries map[string]modelDelivery // by ack id
	generation int
	dead       []string
	snapshot   []bool // acked, by message, when it was taken
}

type modelMsg struct {
	data, key string
	time      time.Time
	acked     bool
	filtered  bool
	leased    bool
	restored  bool
	until     time.Time // of the lease or the backoff
	attempts  int
	current   string // ack id of the delivery that counts
}

type modelDelivery struct{ msg, generation int }

func (m *model) publish(data, key, lang string, now time.Time) {
	msg := &modelMsg{data: data, key: key, time: now}
	msg.filtered = m.cfg.GetFilter() != "" && lang != "en"
	msg.acked = msg.filtered
	m.msgs = append(m.msgs, msg)
}

func (m *model) expire(now time.Time) {
	for _, msg := range m.msgs {
		if !msg.acked && msg.leased && !now.Before(msg.until) {
			m.failed(msg, now)
		}
	}
}

func (m *model) failed(msg *modelMsg, now time.Time) {
	msg.leased, msg.until = false, now
	if p := m.cfg.GetDeadLetterPolicy(); p != nil && msg.attempts >= int(p.GetMaxDeliveryAttempts()) {
		msg.acked = true
		m.dead = append(m.dead, msg.data)
		return
	}
	if p := m.cfg.GetRetryPolicy(); p != nil {
		wait := p.GetMinimumBackoff().AsDuration()
		for range msg.attempts - 1 {
			wait = min(2*wait, p.GetMaximumBackoff().AsDuration())
		}
		msg.until = now.Add(wait)
	}
}

// pull checks a response against what must be delivered.
func (m *model) pull(n int, now time.Time, got []*pubsubpb.ReceivedMessage) error {
	m.expire(now)
	var want []int
	blocked := map[string]bool{}
	for i, msg := range m.msgs {
		if msg.acked || msg.key != "" && m.cfg.GetEnableMessageOrdering() && blocked[msg.key] {
			continue
		}
		blocked[msg.key] = true
		if !msg.leased && !now.Before(msg.until) && len(want) < n {
			want = append(want, i)
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d messages %v, want %d", len(got), datas(got), len(want))
	}
	for i, w := range want {
		msg := m.msgs[w]
		msg.leased, msg.restored, msg.current = true, false, got[i].GetAckId()
		msg.until = now.Add(10 * time.Second)
		msg.attempts++
		m.deliveries[got[i].GetAckId()] = modelDelivery{w, m.generation}
		attempt := int32(0)
		if m.cfg.GetDeadLetterPolicy() != nil {
			attempt = int32(msg.attempts)
		}
		if string(got[i].GetMessage().GetData()) != msg.data || got[i].GetDeliveryAttempt() != attempt {
			return fmt.Errorf("message %d is %s attempt %d, want %s attempt %d", i, got[i].GetMessage().GetData(), got[i].GetDeliveryAttempt(), msg.data, attempt)
		}
	}
	return nil
}

func (m *model) find(id string) *modelMsg {
	d := m.deliveries[id]
	msg := m.msgs[d.msg]
	if d.generation != m.generation || msg.acked || msg.current != id && !msg.restored {
		return nil
	}
	return msg
}

func (m *model) ack(id string) {
	if msg := m.find(id); msg != nil {
		msg.acked = true
	}
}

func (m *model) modify(id string, d time.Duration, now time.Time) {
	m.expire(now)
	msg := m.find(id)
	if msg == nil || !msg.leased {
		return
	}
	if d > 0 {
		msg.until = now.Add(d)
		return
	}
	msg.current = ""
	m.failed(msg, now)
}

// reset makes unacknowledged messages as good as new, for a seek.
func (m *model) reset() {
	m.generation++
	for _, msg := range m.msgs {
		msg.leased, msg.restored, msg.until, msg.attempts, msg.current = false, false, time.Time{}, 0, ""
	}
}

func (m *model) seek(to time.Time) {
	m.reset()
	for _, msg := range m.msgs {
		msg.acked = msg.time.Before(to) || msg.acked && !m.cfg.GetRetainAckedMessages()
	}
}

func (m *model) restart() {
	for _, msg := range m.msgs {
		msg.leased, msg.restored, msg.until = false, true, time.Time{}
	}
}

func (m *model) backlog() (n int64) {
	for _, msg := range m.msgs {
		if !msg.acked {
			n++
		}
	}
	return n
}

// pair runs every operation on a server and on the model.
type pair struct {
	*fixture
	m     *model
	c     *clock
	st    storage
	rng   *rand.Rand
	known []string // ack ids
}

func newPair(t *testing.T, seed uint64, cfg *pubsubpb.Subscription) *pair {
	c := newClock()
	p := &pair{c: c, st: newMemStorage(), rng: rand.New(rand.NewPCG(seed, 99)), m: &model{cfg: cfg, deliveries: map[string]modelDelivery{}}}
	p.boot(t)
	p.topic(topicA)
	p.topic(topicB)
	p.subscribe(&pubsubpb.Subscription{Name: subB, Topic: topicB})
	p.subscribe(cfg)
	return p
}

// boot opens the server on what the last one left on the storage.
func (p *pair) boot(t *testing.T) {
	opts := Options{Dir: "memory", Now: p.c.Now, SegmentBytes: 4 << 10, CacheBytes: 1 << 10, CollectInterval: time.Hour}.Defaults()
	s, err := openOn(p.st, opts, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.fixture = wrap(t, s, opts)
}

// due handles what the clock has made due, and waits for the dead letters of
// it: a key goes on only when its dead letter is stored.
func (p *pair) due() {
	p.subs[subA].timerFired()
	p.quiet()
}

// quiet waits for dead letters on their way.
func (p *pair) quiet() {
	p.t.Helper()
	sub := p.subs[subA]
	until(p.t, "dead letters", func() bool {
		sub.mu.Lock()
		defer sub.mu.Unlock()
		return !sub.forwarding
	})
}

func (p *pair) someIDs() []string {
	var ids []string
	for range p.rng.IntN(4) {
		if len(p.known) > 0 {
			// Mostly recent ones, so that most are still leased.
			back := min(p.rng.IntN(8), p.rng.IntN(len(p.known)+1), len(p.known)-1)
			ids = append(ids, p.known[len(p.known)-1-back])
		}
	}
	return ids
}

func (p *pair) step(t *testing.T, i int) error {
	now := p.c.Now()
	switch op := p.rng.IntN(20); {
	case op < 5:
		for j := range 1 + p.rng.IntN(4) {
			data := fmt.Sprintf("%d.%d-%0*d", i, j, 1+p.rng.IntN(200), 0)
			key, lang := []string{"", "k1", "k2"}[p.rng.IntN(3)], []string{"en", "es"}[p.rng.IntN(2)]
			p.publishMsgs(topicA, &pubsubpb.PubsubMessage{Data: []byte(data), OrderingKey: key, Attributes: map[string]string{"lang": lang}})
			p.m.publish(data, key, lang, now)
		}
	case op < 11:
		return p.pullSome(1 + p.rng.IntN(6))
	case op < 14:
		ids := p.someIDs()
		if len(ids) == 0 {
			return nil
		}
		_, err := p.sub.Acknowledge(p.ctx, &pubsubpb.AcknowledgeRequest{Subscription: subA, AckIds: ids})
		for _, id := range ids {
			p.m.ack(id)
		}
		return err
	case op < 17:
		ids := p.someIDs()
		seconds := []int32{0, 0, 5, 30}[p.rng.IntN(4)]
		if len(ids) == 0 {
			return nil
		}
		_, err := p.sub.ModifyAckDeadline(p.ctx, &pubsubpb.ModifyAckDeadlineRequest{Subscription: subA, AckIds: ids, AckDeadlineSeconds: seconds})
		for _, id := range ids {
			p.m.modify(id, time.Duration(seconds)*time.Second, now)
		}
		p.quiet()
		return err
	case op < 19:
		p.c.advance(time.Duration(p.rng.IntN(8000)) * time.Millisecond)
	default:
		return p.rare(t, now)
	}
	return nil
}

func (p *pair) pullSome(n int) error {
	p.due()
	res, err := p.sub.Pull(p.ctx, &pubsubpb.PullRequest{Subscription: subA, MaxMessages: int32(n), ReturnImmediately: true})
	if err != nil {
		return err
	}
	p.known = append(p.known, ackIDs(res.GetReceivedMessages())...)
	return p.m.pull(n, p.c.Now(), res.GetReceivedMessages())
}

func (p *pair) rare(t *testing.T, now time.Time) error {
	snap := project + "/snapshots/snap"
	switch p.rng.IntN(5) {
	case 0:
		to := now.Add(-time.Duration(p.rng.IntN(30)) * time.Second)
		_, err := p.sub.Seek(p.ctx, &pubsubpb.SeekRequest{Subscription: subA, Target: &pubsubpb.SeekRequest_Time{Time: timestamppb.New(to)}})
		p.m.seek(to)
		return err
	case 1:
		if p.m.snapshot != nil {
			return nil
		}
		_, err := p.sub.CreateSnapshot(p.ctx, &pubsubpb.CreateSnapshotRequest{Name: snap, Subscription: subA})
		p.m.snapshot = []bool{}
		for _, msg := range p.m.msgs {
			p.m.snapshot = append(p.m.snapshot, msg.acked)
		}
		return err
	case 2:
		if p.m.snapshot == nil {
			return nil
		}
		_, err := p.sub.Seek(p.ctx, &pubsubpb.SeekRequest{Subscription: subA, Target: &pubsubpb.SeekRequest_Snapshot{Snapshot: snap}})
		p.m.reset()
		for i, msg := range p.m.msgs {
			if i < len(p.m.snapshot) {
				msg.acked = p.m.snapshot[i]
			} else {
				msg.acked = msg.filtered
			}
		}
		return err
	case 3:
		p.sweep()
	default:
		if err := p.Close(); err != nil {
			return err
		}
		p.boot(t)
		p.m.restart()
	}
	return nil
}

// drain acknowledges everything that is left and checks that it is all.
func (p *pair) drain() error {
	for tries := 0; p.m.backlog() > 0 && tries < 1000; tries++ {
		p.c.advance(time.Hour)
		before := len(p.known)
		if err := p.pullSome(100); err != nil {
			return err
		}
		if len(p.known) == before {
			continue // all are backing off
		}
		ids := p.known[before:]
		if _, err := p.sub.Acknowledge(p.ctx, &pubsubpb.AcknowledgeRequest{Subscription: subA, AckIds: ids}); err != nil {
			return err
		}
		for _, id := range ids {
			p.m.ack(id)
		}
	}
	if n := p.m.backlog(); n != 0 {
		return fmt.Errorf("the model has %d messages left", n)
	}
	got := datas(p.pull(subB))
	slices.Sort(got)
	slices.Sort(p.m.dead)
	if !equal(got, append([]string{}, p.m.dead...)) {
		return fmt.Errorf("dead letters %v, want %v", got, p.m.dead)
	}
	for _, st := range p.Stats().Subscriptions {
		if st.Subscription == subA && st.BacklogMessages != 0 {
			return fmt.Errorf("a backlog of %d messages is left", st.BacklogMessages)
		}
	}
	return nil
}

// TestSubscriptionAgainstModel runs random operations, restarts among them, on
// a server and on the model.
func TestSubscriptionAgainstModel(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*pubsubpb.Subscription){
		"plain":    func(*pubsubpb.Subscription) {},
		"ordered":  func(c *pubsubpb.Subscription) { c.EnableMessageOrdering = true },
		"filtered": func(c *pubsubpb.Subscription) { c.Filter = `attributes.lang = "en"` },
		"retain":   func(c *pubsubpb.Subscription) { c.RetainAckedMessages = true },
		"retry": func(c *pubsubpb.Subscription) {
			c.RetryPolicy = &pubsubpb.RetryPolicy{MinimumBackoff: durationpb.New(2 * time.Second), MaximumBackoff: durationpb.New(9 * time.Second)}
		},
		"dead letter, ordered": func(c *pubsubpb.Subscription) {
			c.EnableMessageOrdering = true
			c.DeadLetterPolicy = &pubsubpb.DeadLetterPolicy{DeadLetterTopic: topicB, MaxDeliveryAttempts: 5}
		},
		"everything but retain": func(c *pubsubpb.Subscription) {
			c.EnableMessageOrdering, c.Filter = true, `attributes.lang = "en"`
			c.DeadLetterPolicy = &pubsubpb.DeadLetterPolicy{DeadLetterTopic: topicB, MaxDeliveryAttempts: 5}
			c.RetryPolicy = &pubsubpb.RetryPolicy{MinimumBackoff: durationpb.New(time.Second), MaximumBackoff: durationpb.New(3 * time.Second)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(12) {
				cfg := &pubsubpb.Subscription{Name: subA, Topic: topicA}
				change(cfg)
				p := newPair(t, seed, cfg)
				for i := range 250 {
					if err := p.step(t, i); err != nil {
						t.Fatalf("seed %d, step %d: %v", seed, i, err)
					}
				}
				if err := p.drain(); err != nil {
					t.Fatalf("seed %d, draining: %v", seed, err)
				}
				if err := p.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

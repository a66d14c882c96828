package topiclog

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// The differential test runs the same operations on this server and on
// Google's fake. It leaves out what the fake (pubsub/v2 2.8.1) does unlike the
// service:
//
//   - Unordered pulls come in random order; results are compared as sets.
//   - Messages older than 10 minutes vanish; a run lasts less.
//   - A time seek panics, snapshots and snapshot seeks are missing.
//   - Retry policies are stored and ignored.
//   - Delivery attempts are counted per topic, not per subscription.
//   - A dead letter is not removed from its subscription (its ack id no longer
//     equals the message id that the removal uses), so it is published again
//     on every tick; it carries no source attributes.
//   - Names, message limits, empty messages, empty and malformed ack ids,
//     ordering keys of a batch, retry and dead-letter settings are not checked;
//     a bad ack deadline is Unknown, and 1 to 9 seconds are accepted.
//   - A detached subscription keeps its backlog, can be pulled, and does not
//     show that it is detached.
//   - A filter can be changed, and an unknown path after good ones leaves the
//     good ones applied.
//   - A topic that is somebody's dead-letter topic cannot be deleted.
//   - Extending a lease that has ended takes the message back.
//   - Settings that are not implemented (push, exports, exactly-once, schemas,
//     transforms) are accepted and do nothing.
//   - StreamingPull hands over one message per 10 ms; unary pulls are compared.
//   - Page tokens are offsets, which skip or repeat when items come and go.
//   - Messages of one publish have random order when their times are equal; the
//     clock moves between publishes here.

// side is one of the two servers.
type side struct {
	pub pubsubpb.PublisherClient
	sub pubsubpb.SubscriberClient
	ids map[string]string // last ack id by subscription and data
}

type duel struct {
	t       *testing.T
	c       *clock // nil against the emulator, which has a clock of its own
	rng     *rand.Rand
	sides   [2]*side
	fresh   map[string]bool // delivered since the clock last moved
	ordered map[string]bool // messages that wait for their key
	n       int
	project string
}

func newDuel(t *testing.T, seed uint64) *duel {
	c := newClock()
	fake := pstest.NewServer()
	fake.SetTimeNowFunc(c.Now)
	t.Cleanup(func() { _ = fake.Close() })
	conn, err := grpc.NewClient(fake.Addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ours := serve(t, open(t, Options{Now: c.Now}).Server)
	return newDuelOf(t, seed, c, ours, conn)
}

func newDuelOf(t *testing.T, seed uint64, c *clock, ours, theirs *grpc.ClientConn) *duel {
	d := &duel{t: t, c: c, rng: rand.New(rand.NewPCG(seed, 5)), fresh: map[string]bool{}, ordered: map[string]bool{}, project: project}
	for i, conn := range []*grpc.ClientConn{ours, theirs} {
		d.sides[i] = &side{pubsubpb.NewPublisherClient(conn), pubsubpb.NewSubscriberClient(conn), map[string]string{}}
	}
	return d
}

// both runs an operation on the two servers and compares what they answer.
func (d *duel) both(what string, op func(*side) (string, error)) {
	d.t.Helper()
	var got [2]string
	for i, s := range d.sides {
		res, err := op(s)
		got[i] = fmt.Sprint(status.Code(err), " ", res)
	}
	if got[0] != got[1] {
		d.t.Fatalf("operation %d, %s:\n ours   %s\n theirs %s", d.n, what, got[0], got[1])
	}
}

func (d *duel) oneTopic() string {
	return fmt.Sprintf("%s/topics/topic-%d", d.project, d.rng.IntN(3))
}

func (d *duel) oneSub() string {
	return fmt.Sprintf("%s/subscriptions/sub-%d", d.project, d.rng.IntN(5))
}

func (d *duel) step() {
	ctx := d.t.Context()
	topic, sub := d.oneTopic(), d.oneSub()
	switch op := d.rng.IntN(40); {
	case op < 2:
		d.both("create "+topic, func(s *side) (string, error) {
			res, err := s.pub.CreateTopic(ctx, &pubsubpb.Topic{Name: topic, Labels: map[string]string{"a": "b"}})
			return res.GetName() + fmt.Sprint(res.GetLabels()), err
		})
	case op < 3:
		d.both("delete "+topic, func(s *side) (string, error) {
			_, err := s.pub.DeleteTopic(ctx, &pubsubpb.DeleteTopicRequest{Topic: topic})
			return "", err
		})
	case op < 6:
		d.createSubscription(sub, topic)
	case op < 7:
		d.both("delete "+sub, func(s *side) (string, error) {
			_, err := s.sub.DeleteSubscription(ctx, &pubsubpb.DeleteSubscriptionRequest{Subscription: sub})
			return "", err
		})
	case op < 16:
		d.publish(topic)
	case op < 26:
		d.pull(sub)
	case op < 33:
		d.settle(sub)
	case op < 36:
		d.pass(time.Duration(100+d.rng.IntN(9000))*time.Millisecond + time.Microsecond)
	default:
		d.look(topic, sub)
	}
}

// pass moves the clock of both servers, if it can be moved.
func (d *duel) pass(length time.Duration) {
	if d.c != nil {
		d.c.advance(length)
		clear(d.fresh)
	}
}

func (d *duel) createSubscription(sub, topic string) {
	ordering, filter := d.rng.IntN(2) == 0, ""
	if d.c != nil && d.rng.IntN(2) == 0 {
		for filter == "" || len(filter) > maxFilterBytes {
			filter = randomNode(d.rng, d.rng.IntN(3)).src
		}
	}
	deadline := []int32{10, 15, 20}[d.rng.IntN(3)]
	if d.c == nil {
		deadline += 300 // nothing expires by itself
	}
	d.both("create "+sub+" of "+topic+" with "+filter, func(s *side) (string, error) {
		res, err := s.sub.CreateSubscription(d.t.Context(), &pubsubpb.Subscription{
			Name: sub, Topic: topic, EnableMessageOrdering: ordering, Filter: filter, AckDeadlineSeconds: deadline})
		if err == nil {
			d.ordered[sub] = ordering
			for k := range s.ids {
				if strings.HasPrefix(k, sub) {
					delete(s.ids, k)
				}
			}
		}
		return d.settings(res), err
	})
}

func (d *duel) settings(s *pubsubpb.Subscription) string {
	if d.c == nil && s != nil {
		s.State = 0 // the emulator does not tell
	}
	return fmt.Sprint(s.GetName(), s.GetTopic(), s.GetAckDeadlineSeconds(), s.GetEnableMessageOrdering(), s.GetFilter(), s.GetMessageRetentionDuration().AsDuration(), s.GetState())
}

func (d *duel) publish(topic string) {
	attrs := map[string]string{}
	for _, k := range []string{"a", "b", "c"} {
		if d.rng.IntN(2) == 0 {
			attrs[k] = string(rune('x' + d.rng.IntN(3)))
		}
	}
	key := []string{"", "k1", "k2"}[d.rng.IntN(3)]
	data := fmt.Sprint("m", d.n)
	if d.c != nil {
		d.c.advance(time.Millisecond)
	}
	d.both("publish "+data+" to "+topic, func(s *side) (string, error) {
		res, err := s.pub.Publish(d.t.Context(), &pubsubpb.PublishRequest{Topic: topic, Messages: []*pubsubpb.PubsubMessage{{Data: []byte(data), Attributes: attrs, OrderingKey: key}}})
		return fmt.Sprint(len(res.GetMessageIds())), err
	})
}

func (d *duel) pull(sub string) {
	d.both("pull "+sub, func(s *side) (string, error) {
		msgs, err := d.pullAll(s, sub)
		var got []string
		for _, m := range msgs {
			msg := m.GetMessage()
			var published time.Time
			if d.c != nil {
				published = msg.GetPublishTime().AsTime()
			}
			got = append(got, fmt.Sprintf("%s %v %q %v %d", msg.GetData(), msg.GetAttributes(), msg.GetOrderingKey(), published, m.GetDeliveryAttempt()))
			name := sub + " " + string(msg.GetData())
			s.ids[name] = m.GetAckId()
			d.fresh[name] = true
			d.ordered[name] = msg.GetOrderingKey() != "" && d.ordered[sub]
		}
		slices.Sort(got)
		return strings.Join(got, "; "), err
	})
}

// pullAll asks the emulator for one message at a time, because it may return
// several of one ordering key at once.
func (d *duel) pullAll(s *side, sub string) (all []*pubsubpb.ReceivedMessage, err error) {
	limit := 1000
	if d.c == nil {
		limit = 1
	}
	for {
		res, err := s.sub.Pull(d.t.Context(), &pubsubpb.PullRequest{Subscription: sub, MaxMessages: int32(limit), ReturnImmediately: true})
		all = append(all, res.GetReceivedMessages()...)
		if err != nil || len(res.GetReceivedMessages()) < limit {
			return all, err
		}
	}
}

// settle acknowledges, gives back or extends some messages that were
// delivered, now or long ago.
func (d *duel) settle(sub string) {
	var known []string
	for name := range d.sides[0].ids {
		if strings.HasPrefix(name, sub) {
			known = append(known, name)
		}
	}
	if len(known) == 0 {
		return
	}
	slices.Sort(known)
	d.rng.Shuffle(len(known), func(i, j int) { known[i], known[j] = known[j], known[i] })
	known = known[:1+d.rng.IntN(len(known))]
	seconds := []int32{-1, -1, 0, 12}[d.rng.IntN(4)]
	known = slices.DeleteFunc(known, func(n string) bool {
		return seconds > 0 && !d.fresh[n] || seconds == 0 && d.c == nil && d.ordered[n]
	})
	if len(known) == 0 {
		return
	}
	if seconds > 0 && d.c == nil {
		seconds += 300
	}
	d.both(fmt.Sprint("settle ", seconds, known), func(s *side) (string, error) {
		var ids []string
		for _, n := range known {
			ids = append(ids, s.ids[n])
		}
		if seconds < 0 {
			if d.c == nil {
				for _, n := range known {
					delete(s.ids, n) // giving it back now might revive it there
				}
			}
			_, err := s.sub.Acknowledge(d.t.Context(), &pubsubpb.AcknowledgeRequest{Subscription: sub, AckIds: ids})
			return "", err
		}
		_, err := s.sub.ModifyAckDeadline(d.t.Context(), &pubsubpb.ModifyAckDeadlineRequest{Subscription: sub, AckIds: ids, AckDeadlineSeconds: seconds})
		return "", err
	})
}

func (d *duel) look(topic, sub string) {
	ctx := d.t.Context()
	d.both("get "+topic, func(s *side) (string, error) {
		res, err := s.pub.GetTopic(ctx, &pubsubpb.GetTopicRequest{Topic: topic})
		return res.GetName(), err
	})
	d.both("get "+sub, func(s *side) (string, error) {
		res, err := s.sub.GetSubscription(ctx, &pubsubpb.GetSubscriptionRequest{Subscription: sub})
		return d.settings(res), err
	})
	d.both("list", func(s *side) (string, error) {
		var all []string
		topics, err := s.pub.ListTopics(ctx, &pubsubpb.ListTopicsRequest{Project: d.project, PageSize: 100})
		for _, t := range topics.GetTopics() {
			all = append(all, t.GetName())
		}
		if err != nil {
			return "", err
		}
		subs, err := s.sub.ListSubscriptions(ctx, &pubsubpb.ListSubscriptionsRequest{Project: d.project, PageSize: 100})
		for _, t := range subs.GetSubscriptions() {
			all = append(all, d.settings(t))
		}
		return strings.Join(all, " "), err
	})
}

func TestAgainstGooglesFake(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			d := newDuel(t, seed)
			start := d.c.Now()
			for d.n = 0; d.n < 400 && d.c.Now().Sub(start) < 9*time.Minute; d.n++ {
				d.step()
			}
			if d.n < 100 {
				t.Errorf("only %d operations", d.n)
			}
		})
	}
}

// TestFilterErrorsAgainstGooglesFake compares which filters are refused. The
// fake takes some that the service documents as errors; none that it refuses
// may be accepted here.
func TestFilterErrorsAgainstGooglesFake(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(21, 22))
	parts := []string{"attributes", ":", ".", "a", `"x"`, "=", "!=", "(", ")", "AND", "OR", "NOT", "-", "hasPrefix", ",", `attributes:a`, `attributes.a = "b"`}
	accepted := 0
	for range 20_000 {
		var src []string
		for range 1 + rng.IntN(7) {
			src = append(src, parts[rng.IntN(len(parts))])
		}
		f := strings.Join(src, " ")
		if _, err := parseFilter(f); err != nil {
			continue
		}
		accepted++
		if err := pstest.ValidateFilter(strings.ReplaceAll(strings.ReplaceAll(f, " . ", "."), "attributes .", "attributes.")); err != nil {
			t.Errorf("%q is accepted, the fake says: %v", f, err)
		}
	}
	if accepted < 100 {
		t.Errorf("only %d of the filters were sound", accepted)
	}
}

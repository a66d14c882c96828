package topiclog

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// waitPull is one Pull that waits, on the bubble's clock; it returns how long
// that took.
func waitPull(f *fixture, sub string) ([]*pubsubpb.ReceivedMessage, time.Duration) {
	f.t.Helper()
	start := time.Now()
	res, err := f.sub.Pull(f.ctx, &pubsubpb.PullRequest{Subscription: sub, MaxMessages: 10})
	if err != nil {
		f.t.Fatal(err)
	}
	return res.GetReceivedMessages(), time.Since(start)
}

// closeIn ends the server inside its bubble.
func closeIn(f *fixture) {
	if err := f.Close(); err != nil {
		f.t.Error(err)
	}
}

func TestLeaseEndsByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := open(t, Options{PullWait: 5 * time.Minute})
		defer closeIn(f)
		f.topic(topicA)
		f.subscribe(&pubsubpb.Subscription{Name: subA, Topic: topicA, AckDeadlineSeconds: 30})
		f.publish(topicA, "one")
		first := f.pull(subA)
		// A sleeping Pull gets the message the moment its lease ends.
		again, took := waitPull(f, subA)
		if !equal(datas(again), []string{"one"}) || took != 30*time.Second {
			t.Errorf("redelivered %v after %v, want 30 s", datas(again), took)
		}
		f.modack(subA, 100, again...)
		f.modack(subA, 10, first...) // an old delivery cannot shorten it
		third, took := waitPull(f, subA)
		if len(third) != 1 || took != 100*time.Second {
			t.Errorf("extended by 100 s, redelivered after %v", took)
		}
		f.modack(subA, 10, third...)
		fourth, took := waitPull(f, subA)
		if len(fourth) != 1 || took != 10*time.Second {
			t.Errorf("shortened to 10 s, redelivered after %v", took)
		}
		f.ack(subA, fourth...)
		if none, took := waitPull(f, subA); len(none) != 0 || took != 5*time.Minute {
			t.Errorf("after the acknowledgement: %v after %v", datas(none), took)
		}
	})
}

func TestLateAckCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := open(t, Options{}).alpha()
		defer closeIn(f)
		f.publish(topicA, "one")
		msgs := f.pull(subA)
		time.Sleep(time.Minute)
		f.ack(subA, msgs...) // late, but nobody else has it
		if got := f.pull(subA); len(got) != 0 {
			t.Errorf("a message acknowledged late came again: %v", datas(got))
		}
	})
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := open(t, Options{PullWait: 5 * time.Minute})
		defer closeIn(f)
		f.topic(topicA)
		f.subscribe(&pubsubpb.Subscription{Name: subA, Topic: topicA, RetryPolicy: &pubsubpb.RetryPolicy{
			MinimumBackoff: durationpb.New(2 * time.Second), MaximumBackoff: durationpb.New(15 * time.Second)}})
		f.publish(topicA, "one")
		msgs := f.pull(subA)
		for _, want := range []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second, 15 * time.Second, 15 * time.Second} {
			f.nack(subA, msgs...)
			var took time.Duration
			if msgs, took = waitPull(f, subA); len(msgs) != 1 || took != want {
				t.Errorf("redelivered %d after %v, want %v", len(msgs), took, want)
			}
		}
		// A lease that runs out backs off too.
		if again, took := waitPull(f, subA); len(again) != 1 || took != 25*time.Second {
			t.Errorf("redelivered %d after %v, want a deadline of 10 s and a backoff of 15 s", len(again), took)
		}
	})
}

func TestOrderingKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := open(t, Options{})
		defer closeIn(f)
		f.topic(topicA)
		f.subscribe(&pubsubpb.Subscription{Name: subA, Topic: topicA, EnableMessageOrdering: true})
		for i := range 3 {
			for _, key := range []string{"a", "b", ""} {
				f.publishMsgs(topicA, &pubsubpb.PubsubMessage{Data: fmt.Append(nil, key, i), OrderingKey: key})
			}
		}
		got := f.pull(subA)
		if !equal(datas(got), []string{"a0", "b0", "0", "1", "2"}) {
			t.Fatalf("first: %v", datas(got))
		}
		f.ack(subA, got[0])
		f.nack(subA, got[1])
		next := f.pull(subA)
		if !equal(datas(next), []string{"b0", "a1"}) {
			t.Fatalf("after an ack and a nack: %v", datas(next))
		}
		time.Sleep(11 * time.Second) // all leases end: each key goes on where it was
		if got := datas(f.pull(subA)); !equal(got, []string{"b0", "0", "a1", "1", "2"}) {
			t.Fatalf("after the leases: %v", got)
		}
	})
}

func TestManyBlockedKeysAreBounded(t *testing.T) {
	t.Parallel()
	f := open(t, Options{MaxOutstanding: 50})
	f.topic(topicA)
	f.subscribe(&pubsubpb.Subscription{Name: subA, Topic: topicA, EnableMessageOrdering: true})
	for i := range 200 {
		f.publishMsgs(topicA, &pubsubpb.PubsubMessage{Data: fmt.Append(nil, i), OrderingKey: "same"})
	}
	f.publish(topicA, "other")
	got := f.pull(subA)
	if n := len(f.subs[subA].entries); len(got) != 1 || n > 51 {
		t.Fatalf("%d delivered, %d remembered", len(got), n)
	}
	var all []string
	for len(got) > 0 {
		all = append(all, datas(got)...)
		f.ack(subA, got...)
		got = f.pull(subA)
	}
	if len(all) != 201 {
		t.Errorf("%d messages in the end", len(all))
	}
}

func TestDeadLetterTopicGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := open(t, Options{PullWait: 5 * time.Minute})
		defer closeIn(f)
		f.topic(topicA)
		f.topic(topicB)
		f.subscribe(&pubsubpb.Subscription{Name: subA, Topic: topicA, DeadLetterPolicy: &pubsubpb.DeadLetterPolicy{DeadLetterTopic: topicB}})
		f.publish(topicA, "one")
		if _, err := f.pub.DeleteTopic(f.ctx, &pubsubpb.DeleteTopicRequest{Topic: topicB}); err != nil {
			t.Fatal(err)
		}
		for attempt := 1; attempt <= 5; attempt++ {
			f.nack(subA, f.pull(subA)...)
		}
		// It cannot be moved, so it is delivered again after a rest, and moved
		// once the topic is back.
		msgs, took := waitPull(f, subA)
		if len(msgs) != 1 || msgs[0].GetDeliveryAttempt() != 6 || took != deadLetterRetry {
			t.Fatalf("without its dead-letter topic: %v after %v", msgs, took)
		}
		f.topic(topicB)
		f.subscribe(&pubsubpb.Subscription{Name: subB, Topic: topicB})
		f.nack(subA, msgs...)
		if dead, _ := waitPull(f, subB); len(dead) != 1 || dead[0].GetMessage().GetAttributes()["CloudPubSubDeadLetterSourceDeliveryCount"] != "6" {
			t.Errorf("dead letters: %v", dead)
		}
	})
}

// TestFilterSkipsFarAhead makes one Pull look past more messages than one call
// scans.
func TestFilterSkipsFarAhead(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	f.topic(topicA)
	f.subscribe(&pubsubpb.Subscription{Name: subA, Topic: topicA, Filter: `attributes.keep = "yes"`})
	for range 12 {
		f.publishMsgs(topicA, messages(1000)...)
	}
	f.publishMsgs(topicA, &pubsubpb.PubsubMessage{Data: []byte("kept"), Attributes: map[string]string{"keep": "yes"}})
	msgs, _ := waitPull(f, subA)
	if !equal(datas(msgs), []string{"kept"}) {
		t.Fatalf("pulled %v", datas(msgs))
	}
	f.ack(subA, msgs...)
	if st := f.Stats().Subscriptions[0]; st.BacklogMessages != 0 {
		t.Errorf("filtered messages are still in the backlog: %+v", st)
	}
}

// TestIdle requires that a server with an open, sleeping Pull does nothing for
// an hour but look after its retention.
func TestIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var looks atomic.Int64
		f := open(t, Options{PullWait: 10 * time.Minute, CollectInterval: 10 * time.Minute, Now: func() time.Time {
			looks.Add(1)
			return time.Now()
		}}).alpha()
		defer closeIn(f)
		before := looks.Load()
		for range 6 {
			if msgs, _ := waitPull(f, subA); len(msgs) != 0 {
				t.Error("messages from nowhere")
			}
		}
		if n := looks.Load() - before; n > 40 {
			t.Errorf("an idle hour looked at the clock %d times", n)
		}
	})
}

// TestBacklogMemory keeps a backlog that is far larger than what may be in
// memory, and reads it in order.
func TestBacklogMemory(t *testing.T) {
	t.Parallel()
	f := open(t, Options{Dir: t.TempDir(), CacheBytes: 64 << 10, SegmentBytes: 1 << 20}).alpha()
	body := strings.Repeat("x", 990)
	for i := range 20 {
		batch := make([]string, 500)
		for j := range batch {
			batch[j] = fmt.Sprintf("%08d%s", i*500+j, body)
		}
		f.publish(topicA, batch...)
	}
	l, sub := f.topics[topicA].log, f.subs[subA]
	if l.tailBytes > 700<<10 || len(sub.entries) != 0 {
		t.Errorf("%d bytes cached, %d entries before anybody reads", l.tailBytes, len(sub.entries))
	}
	for i := 0; i < 10_000; {
		res, err := f.sub.Pull(f.ctx, &pubsubpb.PullRequest{Subscription: subA, MaxMessages: 400, ReturnImmediately: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range res.GetReceivedMessages() {
			if got := string(m.GetMessage().GetData()[:8]); got != fmt.Sprintf("%08d", i) {
				t.Fatalf("message %d is %s", i, got)
			}
			i++
		}
		f.ack(subA, res.GetReceivedMessages()...)
		if n := len(sub.entries); n != 0 {
			t.Fatalf("%d entries although all is acknowledged", n)
		}
	}
	if index := len(l.segs[0].index); index > 40 {
		t.Errorf("%d index points for a segment of 1 MiB", index)
	}
}

package topiclog

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// rawStream is a StreamingPull without a client library.
type rawStream struct {
	pubsubpb.Subscriber_StreamingPullClient
	t      testing.TB
	cancel context.CancelFunc
}

func openStream(t testing.TB, c pubsubpb.SubscriberClient, first *pubsubpb.StreamingPullRequest) *rawStream {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	st, err := c.StreamingPull(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if first.GetSubscription() == "" {
		first.Subscription = subA
	}
	if first.GetStreamAckDeadlineSeconds() == 0 {
		first.StreamAckDeadlineSeconds = 60
	}
	if err := st.Send(first); err != nil {
		t.Fatal(err)
	}
	return &rawStream{st, t, cancel}
}

// recv returns exactly n messages, over as many responses as it takes.
func (s *rawStream) recv(n int) []*pubsubpb.ReceivedMessage {
	s.t.Helper()
	var all []*pubsubpb.ReceivedMessage
	for len(all) < n {
		res, err := s.Recv()
		if err != nil {
			s.t.Fatalf("after %d of %d messages: %v", len(all), n, err)
		}
		all = append(all, res.GetReceivedMessages()...)
	}
	if len(all) > n {
		s.t.Fatalf("%d messages, want %d", len(all), n)
	}
	return all
}

// ping proves that the server has nothing else to say: its answer comes next.
func (s *rawStream) ping() {
	s.t.Helper()
	if err := s.Send(&pubsubpb.StreamingPullRequest{}); err != nil {
		s.t.Fatal(err)
	}
	res, err := s.Recv()
	if err != nil || len(res.GetReceivedMessages()) > 0 || res.GetSubscriptionProperties() == nil {
		s.t.Fatalf("answer to a ping: %v, %v", res, err)
	}
}

func (s *rawStream) send(req *pubsubpb.StreamingPullRequest) {
	s.t.Helper()
	if err := s.Send(req); err != nil {
		s.t.Fatal(err)
	}
}

func TestStreamDeliversInOrderAndBatches(t *testing.T) {
	t.Parallel()
	f := open(t, Options{Dir: t.TempDir(), CacheBytes: 1 << 10, SegmentBytes: 16 << 10}).alpha()
	want := names("m", 2000)
	for part := range slices.Chunk(want, 100) {
		f.publish(topicA, part...)
	}
	c := pubsubpb.NewSubscriberClient(serve(t, f.Server))
	st := openStream(t, c, &pubsubpb.StreamingPullRequest{ProtocolVersion: 1})
	res, err := st.Recv()
	if err != nil || len(res.GetReceivedMessages()) != 500 {
		t.Fatalf("first response has %d messages, %v, want 500", len(res.GetReceivedMessages()), err)
	}
	got := append(datas(res.GetReceivedMessages()), datas(st.recv(1500))...)
	if !equal(got, want) {
		t.Error("the backlog came out of order")
	}
	st.ping()
	f.publish(topicA, "live")
	if got := datas(st.recv(1)); got[0] != "live" {
		t.Errorf("live message: %v", got)
	}
}

func TestStreamFlowControl(t *testing.T) {
	t.Parallel()
	f := open(t, Options{}).alpha()
	c := pubsubpb.NewSubscriberClient(serve(t, f.Server))
	f.publish(topicA, names("m", 10)...)
	st := openStream(t, c, &pubsubpb.StreamingPullRequest{MaxOutstandingMessages: 3, ProtocolVersion: 1})
	first := st.recv(3)
	st.ping()
	st.send(&pubsubpb.StreamingPullRequest{AckIds: ackIDs(first[:1])})
	more := st.recv(1)
	st.ping()
	f.ack(subA, first[1], more[0]) // room also comes back through the unary call
	if got := datas(st.recv(2)); !equal(got, []string{"m4", "m5"}) {
		t.Errorf("after two acknowledgements: %v", got)
	}
	st.send(&pubsubpb.StreamingPullRequest{ModifyDeadlineAckIds: ackIDs(first[2:]), ModifyDeadlineSeconds: []int32{0}})
	if got := datas(st.recv(1)); got[0] != "m2" {
		t.Errorf("after a nack: %v, want the same message again", got)
	}
	st.ping()
}

func TestStreamByteFlowControl(t *testing.T) {
	t.Parallel()
	f := open(t, Options{}).alpha()
	c := pubsubpb.NewSubscriberClient(serve(t, f.Server))
	f.publish(topicA, names("0123456789", 5)...)
	st := openStream(t, c, &pubsubpb.StreamingPullRequest{MaxOutstandingBytes: 20, ProtocolVersion: 1})
	got := st.recv(2) // the second reaches the limit
	st.ping()
	st.send(&pubsubpb.StreamingPullRequest{AckIds: ackIDs(got)})
	st.recv(2)
	st.ping()
}

// TestStreamsShare publishes to three sleeping streams: each gets a part of
// every batch, whoever runs first.
func TestStreamsShare(t *testing.T) {
	t.Parallel()
	f := open(t, Options{}).alpha()
	c := pubsubpb.NewSubscriberClient(serve(t, f.Server))
	type part struct {
		stream int
		ids    []string
	}
	parts := make(chan part, 100)
	for i := range 3 {
		st := openStream(t, c, &pubsubpb.StreamingPullRequest{})
		go func() {
			for {
				res, err := st.Recv()
				if err != nil {
					return
				}
				parts <- part{i, ackIDs(res.GetReceivedMessages())}
			}
		}()
	}
	for range 20 {
		until(t, "three idle streams", func() bool {
			sub := f.subs[subA]
			sub.mu.Lock()
			defer sub.mu.Unlock()
			return len(sub.idle) == 3
		})
		f.publish(topicA, names("m", 99)...)
		var counts [3]int
		var ids []string
		for len(ids) < 99 {
			p := <-parts
			counts[p.stream] += len(p.ids)
			ids = append(ids, p.ids...)
		}
		if slices.Min(counts[:]) < 8 {
			t.Fatalf("the streams got %v of 99 messages", counts)
		}
		if _, err := f.sub.Acknowledge(f.ctx, &pubsubpb.AcknowledgeRequest{Subscription: subA, AckIds: ids}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStreamErrors(t *testing.T) {
	t.Parallel()
	f := open(t, Options{}).alpha()
	c := pubsubpb.NewSubscriberClient(serve(t, f.Server))
	for name, tc := range map[string]struct {
		first, then *pubsubpb.StreamingPullRequest
		want        codes.Code
	}{
		"missing subscription":    {first: &pubsubpb.StreamingPullRequest{Subscription: subB}, want: codes.NotFound},
		"bad name":                {first: &pubsubpb.StreamingPullRequest{Subscription: "x"}, want: codes.InvalidArgument},
		"deadline of 5 s":         {first: &pubsubpb.StreamingPullRequest{StreamAckDeadlineSeconds: 5}, want: codes.InvalidArgument},
		"malformed ack id":        {then: &pubsubpb.StreamingPullRequest{AckIds: []string{"x"}}, want: codes.InvalidArgument},
		"unequal lists":           {then: &pubsubpb.StreamingPullRequest{ModifyDeadlineAckIds: []string{"1.0.0.0"}}, want: codes.InvalidArgument},
		"negative deadline":       {then: &pubsubpb.StreamingPullRequest{ModifyDeadlineAckIds: []string{"1.0.0.0"}, ModifyDeadlineSeconds: []int32{-1}}, want: codes.InvalidArgument},
		"subscription set again":  {then: &pubsubpb.StreamingPullRequest{Subscription: subA}, want: codes.InvalidArgument},
		"limit set again":         {then: &pubsubpb.StreamingPullRequest{MaxOutstandingMessages: 5}, want: codes.InvalidArgument},
		"stale ack id is allowed": {first: &pubsubpb.StreamingPullRequest{AckIds: []string{"1.0.9.9"}, Subscription: subB}, want: codes.NotFound},
	} {
		first := tc.first
		if first == nil {
			first = &pubsubpb.StreamingPullRequest{}
		}
		st := openStream(t, c, first)
		if tc.then != nil {
			_ = st.Send(tc.then)
		}
		_, err := st.Recv()
		wantCode(t, name, err, tc.want)
	}
}

func TestStreamEnds(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		end  func(*fixture, *rawStream) error
		want codes.Code
	}{
		"deleted": {func(f *fixture, _ *rawStream) error {
			_, err := f.sub.DeleteSubscription(f.ctx, &pubsubpb.DeleteSubscriptionRequest{Subscription: subA})
			return err
		}, codes.NotFound},
		"detached": {func(f *fixture, _ *rawStream) error {
			_, err := f.pub.DetachSubscription(f.ctx, &pubsubpb.DetachSubscriptionRequest{Subscription: subA})
			return err
		}, codes.FailedPrecondition},
		"server closed": {func(f *fixture, _ *rawStream) error { return f.Close() }, codes.Unavailable},
		"client done":   {func(_ *fixture, st *rawStream) error { return st.CloseSend() }, codes.OK},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t, Options{}).alpha()
			f.publish(topicA, "one", "two")
			st := openStream(t, pubsubpb.NewSubscriberClient(serve(t, f.Server)), &pubsubpb.StreamingPullRequest{MaxOutstandingMessages: 1})
			st.recv(1) // now the stream is full and sleeps
			if err := tc.end(f, st); err != nil {
				t.Fatal(err)
			}
			_, err := st.Recv()
			if tc.want == codes.OK {
				if err != io.EOF {
					t.Errorf("ended with %v, want a clean end", err)
				}
			} else {
				wantCode(t, "stream", err, tc.want)
			}
		})
	}
}

func TestPullWaitsForAMessage(t *testing.T) {
	t.Parallel()
	f := open(t, Options{PullWait: 10 * time.Second}).alpha()
	got := make(chan []*pubsubpb.ReceivedMessage)
	go func() {
		res, _ := f.sub.Pull(f.ctx, &pubsubpb.PullRequest{Subscription: subA, MaxMessages: 10})
		got <- res.GetReceivedMessages()
	}()
	until(t, "the pull", func() bool {
		sub := f.subs[subA]
		sub.mu.Lock()
		defer sub.mu.Unlock()
		return len(sub.idle) == 1
	})
	f.publish(topicA, "one")
	if msgs := <-got; !equal(datas(msgs), []string{"one"}) {
		t.Errorf("pulled %v", datas(msgs))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	_, err := f.sub.Pull(ctx, &pubsubpb.PullRequest{Subscription: subA, MaxMessages: 10})
	wantCode(t, "pull with a deadline", err, codes.DeadlineExceeded)
	_, err = f.sub.Pull(f.ctx, &pubsubpb.PullRequest{Subscription: subA})
	wantCode(t, "pull of none", err, codes.InvalidArgument)
	go func() {
		_, err := f.sub.Pull(f.ctx, &pubsubpb.PullRequest{Subscription: subA, MaxMessages: 10})
		wantCode(t, "pull while the server closes", err, codes.Unavailable)
		close(got)
	}()
	until(t, "the pull", func() bool {
		sub := f.subs[subA]
		sub.mu.Lock()
		defer sub.mu.Unlock()
		return len(sub.idle) == 1
	})
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	<-got
	_, err = f.pub.Publish(f.ctx, &pubsubpb.PublishRequest{Topic: topicA, Messages: messages(1)})
	wantCode(t, "publish after close", err, codes.Unavailable)
}

// receiveAll runs Google's Receive until n messages were handled.
func receiveAll(t testing.TB, sub *pubsub.Subscriber, n int, handle func(*pubsub.Message)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var seen atomic.Int64
	var mu sync.Mutex
	if err := sub.Receive(ctx, func(_ context.Context, m *pubsub.Message) {
		mu.Lock()
		handle(m)
		mu.Unlock()
		if seen.Add(1) == int64(n) {
			cancel()
		}
	}); err != nil {
		t.Fatal(err)
	}
	if seen.Load() < int64(n) {
		t.Fatalf("received %d of %d", seen.Load(), n)
	}
}

func TestOfficialClient(t *testing.T) {
	t.Parallel()
	f := open(t, Options{Dir: t.TempDir()})
	client := official(t, f.Server)
	ctx := context.Background()
	if _, err := client.TopicAdminClient.CreateTopic(ctx, &pubsubpb.Topic{Name: topicA}); err != nil {
		t.Fatal(err)
	}
	for _, cfg := range []*pubsubpb.Subscription{
		{Name: subA, Topic: topicA, EnableMessageOrdering: true, AckDeadlineSeconds: 20},
		{Name: subB, Topic: topicA, Filter: `attributes.parity = "odd"`},
	} {
		if _, err := client.SubscriptionAdminClient.CreateSubscription(ctx, cfg); err != nil {
			t.Fatal(err)
		}
	}
	pub := client.Publisher(topicA)
	pub.EnableMessageOrdering = true
	var results []*pubsub.PublishResult
	const keys, each = 5, 40
	for i := range keys * each {
		parity := []string{"even", "odd"}[i%2]
		results = append(results, pub.Publish(ctx, &pubsub.Message{
			Data: fmt.Append(nil, i), OrderingKey: fmt.Sprint("key", i%keys), Attributes: map[string]string{"parity": parity},
		}))
	}
	ids := map[string]bool{}
	for _, r := range results {
		id, err := r.Get(ctx)
		if err != nil {
			t.Fatal(err)
		}
		ids[id] = true
	}
	if len(ids) != keys*each {
		t.Errorf("%d different ids for %d messages", len(ids), keys*each)
	}
	order := map[string][]string{}
	receiveAll(t, client.Subscriber(subA), keys*each, func(m *pubsub.Message) {
		order[m.OrderingKey] = append(order[m.OrderingKey], string(m.Data))
		if !ids[m.ID] || m.PublishTime.IsZero() || m.DeliveryAttempt != nil {
			t.Errorf("message %s has id %q, time %v, attempt %v", m.Data, m.ID, m.PublishTime, m.DeliveryAttempt)
		}
		m.Ack()
	})
	for k := range keys {
		var want []string
		for i := k; i < keys*each; i += keys {
			want = append(want, fmt.Sprint(i))
		}
		if got := order[fmt.Sprint("key", k)]; !equal(got, want) {
			t.Errorf("key %d came as %v", k, got)
		}
	}
	odd := 0
	receiveAll(t, client.Subscriber(subB), keys*each/2, func(m *pubsub.Message) {
		if m.Attributes["parity"] == "odd" {
			odd++
		}
		m.Ack()
	})
	if odd != keys*each/2 {
		t.Errorf("%d odd messages, want %d", odd, keys*each/2)
	}
	until(t, "empty backlogs", func() bool {
		st := f.Stats()
		return st.Subscriptions[0].BacklogMessages == 0 && st.Subscriptions[1].BacklogMessages == 0
	})
}

func TestOfficialClientDeadLetters(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	f.topic(topicA)
	f.topic(topicB)
	f.subscribe(&pubsubpb.Subscription{Name: subA, Topic: topicA, DeadLetterPolicy: &pubsubpb.DeadLetterPolicy{DeadLetterTopic: topicB, MaxDeliveryAttempts: 5}})
	f.subscribe(&pubsubpb.Subscription{Name: subB, Topic: topicB})
	// Attempts of one subscription must not count for another.
	f.subscribe(&pubsubpb.Subscription{Name: project + "/subscriptions/other", Topic: topicA, DeadLetterPolicy: &pubsubpb.DeadLetterPolicy{DeadLetterTopic: topicB, MaxDeliveryAttempts: 5}})
	client := official(t, f.Server)
	f.publishMsgs(topicA, &pubsubpb.PubsubMessage{Data: []byte("bad"), Attributes: map[string]string{"a": "b"}, OrderingKey: "k"})
	var attempts []int
	receiveAll(t, client.Subscriber(subA), 5, func(m *pubsub.Message) {
		attempts = append(attempts, *m.DeliveryAttempt)
		m.Nack()
	})
	if !slices.Equal(attempts, []int{1, 2, 3, 4, 5}) {
		t.Errorf("attempts %v", attempts)
	}
	receiveAll(t, client.Subscriber(subB), 1, func(m *pubsub.Message) {
		want := map[string]string{
			"a": "b", "CloudPubSubDeadLetterSourceDeliveryCount": "5", "CloudPubSubDeadLetterSourceSubscription": "alpha-sub",
			"CloudPubSubDeadLetterSourceSubscriptionProject": "test", "CloudPubSubDeadLetterSourceTopicPublishTime": m.Attributes["CloudPubSubDeadLetterSourceTopicPublishTime"],
		}
		if fmt.Sprint(m.Attributes) != fmt.Sprint(want) || string(m.Data) != "bad" || m.OrderingKey != "k" {
			t.Errorf("dead letter %s with %v", m.Data, m.Attributes)
		}
		if _, err := time.Parse(time.RFC3339, m.Attributes["CloudPubSubDeadLetterSourceTopicPublishTime"]); err != nil {
			t.Error(err)
		}
		m.Ack()
	})
	if got := f.pull(project + "/subscriptions/other"); len(got) != 1 || got[0].GetDeliveryAttempt() != 1 {
		t.Errorf("the other subscription has %v", got)
	}
	until(t, "the dead letter to leave the backlog", func() bool { return f.subs[subA].stats().BacklogMessages == 0 })
}

func TestAckIDs(t *testing.T) {
	t.Parallel()
	f := open(t, Options{}).alpha()
	f.subscribe(&pubsubpb.Subscription{Name: subB, Topic: topicA})
	f.publish(topicA, "one")
	a, b := f.pull(subA), f.pull(subB)
	f.ack(subA, b...) // an id of another subscription settles nothing
	f.nack(subA, a...)
	f.ack(subA, a...) // nor does one that was given back
	again := f.pull(subA)
	if len(again) != 1 || again[0].GetAckId() == a[0].GetAckId() {
		t.Fatalf("redelivered %v", again)
	}
	f.ack(subA, again...)
	f.ack(subA, again...)
	for _, ids := range [][]string{nil, {""}, {"x"}, {"1.2.3"}, {"1.2.3.4.5"}, {"1.2.3.-4"}, {again[0].GetAckId(), "?"}} {
		_, err := f.sub.Acknowledge(f.ctx, &pubsubpb.AcknowledgeRequest{Subscription: subA, AckIds: ids})
		wantCode(t, fmt.Sprint("ack ", ids), err, codes.InvalidArgument)
		_, err = f.sub.ModifyAckDeadline(f.ctx, &pubsubpb.ModifyAckDeadlineRequest{Subscription: subA, AckIds: ids})
		wantCode(t, fmt.Sprint("modack ", ids), err, codes.InvalidArgument)
	}
	_, err := f.sub.ModifyAckDeadline(f.ctx, &pubsubpb.ModifyAckDeadlineRequest{Subscription: subA, AckIds: ackIDs(a), AckDeadlineSeconds: 601})
	wantCode(t, "deadline of 601 s", err, codes.InvalidArgument)
	if got := f.pull(subA); len(got) != 0 {
		t.Errorf("an acknowledged message came again: %v", datas(got))
	}
	many := make([]string, 20_000)
	for i := range many {
		many[i] = fmt.Sprintf("1.0.%d.%d", i, i)
	}
	if _, err := f.sub.Acknowledge(f.ctx, &pubsubpb.AcknowledgeRequest{Subscription: subA, AckIds: many}); err != nil {
		t.Errorf("20,000 stale ids: %v", status.Code(err))
	}
}

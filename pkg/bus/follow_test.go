package bus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/latamctl/latamctl/pkg/bus"
)

// admin returns Google's own clients, to look behind ours.
func (b *bench) admin(t *testing.T) *pubsub.TopicAdminClient {
	t.Helper()
	conn, err := grpc.NewClient(b.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	c, err := pubsub.NewTopicAdminClient(t.Context(), option.WithGRPCConn(conn))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return c
}

func (b *bench) topicName(topic string) string { return "projects/" + b.project + "/topics/" + topic }

// followers lists the subscriptions of followers that a topic has.
func (b *bench) followers(t *testing.T, topic string) (names []string) {
	t.Helper()
	it := b.admin(t).ListTopicSubscriptions(limited(t), &pubsubpb.ListTopicSubscriptionsRequest{Topic: b.topicName(topic)})
	for {
		name, err := it.Next()
		if errors.Is(err, iterator.Done) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(name, "-tail-") {
			names = append(names, name)
		}
	}
}

// follower is a Follow under way.
type follower struct {
	t     *testing.T
	since chan time.Time
	got   chan bus.Message
	stop  context.CancelFunc
	ended chan error
}

func (b *bench) follow(t *testing.T, topic string, from time.Time) *follower {
	t.Helper()
	ctx, cancel := context.WithCancel(limited(t))
	f := &follower{t: t, since: make(chan time.Time, 1), got: make(chan bus.Message, 1000), stop: cancel, ended: make(chan error, 1)}
	opts := bus.FollowOptions{From: from, Ready: func(since time.Time) { f.since <- since }}
	go func() {
		f.ended <- b.client.Follow(ctx, topic, opts, func(_ context.Context, m bus.Message) bool {
			f.got <- m
			return true
		})
	}()
	t.Cleanup(cancel)
	return f
}

func (f *follower) ready() time.Time {
	f.t.Helper()
	select {
	case since := <-f.since:
		return since
	case err := <-f.ended:
		f.t.Fatalf("follow ended: %v", err)
	case <-time.After(timeout):
		f.t.Fatal("follow is not ready")
	}
	return time.Time{}
}

func (f *follower) next() bus.Message {
	f.t.Helper()
	select {
	case m := <-f.got:
		return m
	case err := <-f.ended:
		f.t.Fatalf("follow ended: %v", err)
	case <-time.After(timeout):
		f.t.Fatal("no message")
	}
	return bus.Message{}
}

func (f *follower) end() {
	f.t.Helper()
	f.stop()
	select {
	case err := <-f.ended:
		if err != nil {
			f.t.Errorf("follow: %v", err)
		}
	case <-time.After(timeout):
		f.t.Fatal("follow does not end")
	}
}

func testFollow(t *testing.T, b *bench) {
	r := b.ensured(t)
	b.publish(t, r.Topic, "before")
	one, two := b.follow(t, r.Topic, time.Time{}), b.follow(t, r.Topic, time.Time{})
	one.ready()
	two.ready()
	if n := len(b.followers(t, r.Topic)); n != 2 {
		t.Errorf("%d subscriptions while two follow", n)
	}
	id := b.publish(t, r.Topic, "after")
	for _, f := range []*follower{one, two} {
		if m := f.next(); string(m.Data) != "after" || m.ID != id || m.PublishTime.IsZero() {
			t.Errorf("got message %s %q of %v, want %s", m.ID, m.Data, m.PublishTime, id)
		}
		f.end()
	}
	if left := b.followers(t, r.Topic); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	// Ingest has missed nothing.
	got := b.receive(t, r.Subscription, bus.ReceiveOptions{}, until(2))
	if len(got) != 2 {
		t.Errorf("the other subscription got %d messages", len(got))
	}
}

// testFollowAgain begins where an earlier follower stopped.
func testFollowAgain(t *testing.T, b *bench) {
	if b.brokenSeek {
		t.Skip("its Seek delivers messages without their content")
	}
	r := b.ensured(t)
	first := b.follow(t, r.Topic, time.Time{})
	first.ready()
	b.publish(t, r.Topic, "seen")
	seen := first.next()
	first.end()
	want := map[string]bool{string(seen.Data): true}
	for i := range 50 {
		want[fmt.Sprint(i)] = true
		b.publish(t, r.Topic, fmt.Sprint(i))
	}
	again := b.follow(t, r.Topic, seen.PublishTime)
	if since := again.ready(); since.After(seen.PublishTime) {
		t.Skipf("this server keeps nothing for a new subscription: from %v, wanted %v", since, seen.PublishTime)
	}
	for len(want) > 0 {
		delete(want, string(again.next().Data))
	}
	again.end()
}

func testFollowNothing(t *testing.T, b *bench) {
	err := b.client.Follow(limited(t), "no-such-topic", bus.FollowOptions{}, func(context.Context, bus.Message) bool { return true })
	if !errors.Is(err, bus.ErrNotFound) || !strings.Contains(err.Error(), "follow topic no-such-topic") {
		t.Errorf("follow a topic that does not exist: %v", err)
	}
}

// testFollowHolds sees that a follower is given no more than it may hold.
func testFollowHolds(t *testing.T, b *bench) {
	r := b.ensured(t)
	ctx, cancel := context.WithCancel(limited(t))
	defer cancel()
	var mu sync.Mutex
	now, most, done := 0, 0, 0
	release, ready := make(chan struct{}), make(chan struct{})
	ended := make(chan error, 1)
	full := make(chan struct{}, 100)
	go func() {
		opts := bus.FollowOptions{MaxMessages: 5, Ready: func(time.Time) { close(ready) }}
		ended <- b.client.Follow(ctx, r.Topic, opts, func(context.Context, bus.Message) bool {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			full <- struct{}{}
			<-release
			mu.Lock()
			defer mu.Unlock()
			now--
			if done++; done == 30 {
				cancel()
			}
			return true
		})
	}()
	<-ready
	for i := range 30 {
		b.publish(t, r.Topic, fmt.Sprint(i))
	}
	for range 5 {
		<-full
	}
	close(release)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if most != 5 {
		t.Errorf("%d messages at once, want 5", most)
	}
}

func testForgetFollowers(t *testing.T, b *bench) {
	r := b.ensured(t)
	f := b.follow(t, r.Topic, time.Time{})
	f.ready()
	if err := b.client.ForgetFollowers(limited(t), r.Topic); err != nil {
		t.Fatal(err)
	}
	if left := b.followers(t, r.Topic); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if missing, err := b.client.Missing(limited(t), r); err != nil || len(missing) != 0 {
		t.Errorf("deleted as well: %v, %v", missing, err)
	}
	f.stop()
}

// testEnsureRetention gives a topic of before the retention it lacks.
func testEnsureRetention(t *testing.T, b *bench) {
	r := b.ensured(t)
	admin := b.admin(t)
	retention := func() time.Duration {
		topic, err := admin.GetTopic(limited(t), &pubsubpb.GetTopicRequest{Topic: b.topicName(r.Topic)})
		if err != nil {
			t.Fatal(err)
		}
		return topic.GetMessageRetentionDuration().AsDuration()
	}
	created := retention()
	if created == 0 {
		t.Fatal("a new topic has no retention")
	}
	_, err := admin.UpdateTopic(limited(t), &pubsubpb.UpdateTopicRequest{
		Topic: &pubsubpb.Topic{Name: b.topicName(r.Topic)}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"message_retention_duration"}},
	})
	if err != nil && retention() == created {
		t.Skipf("this server cannot take a retention away: %v", err)
	}
	if err := b.client.Ensure(limited(t), r); err != nil {
		t.Fatal(err)
	}
	if got := retention(); got != created {
		t.Errorf("after Ensure the retention is %v, want %v", got, created)
	}
}

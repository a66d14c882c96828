package topiclog

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func TestRetention(t *testing.T) {
	t.Parallel()
	c := newClock()
	f := open(t, Options{Dir: t.TempDir(), Now: c.Now, SegmentBytes: 4 << 10, CollectInterval: time.Hour})
	f.topic(topicA)
	f.subscribe(&pubsubpb.Subscription{Name: subA, Topic: topicA, MessageRetentionDuration: durationpb.New(time.Hour)})
	big := strings.Repeat("x", 1000)
	for i := range 30 {
		c.advance(time.Minute)
		f.publish(topicA, fmt.Sprint(i, big))
	}
	leased := f.pull(subA)[:3]
	c.advance(45*time.Minute + time.Second) // the first 15 are now older than an hour
	f.sweep()
	got := datas(f.pull(subA))
	if len(got) != 15 || !strings.HasPrefix(got[0], "15") {
		t.Errorf("%d messages left, first %.3s", len(got), got)
	}
	f.ack(subA, leased...)
	if st := f.Stats(); st.Topics[0].Segments > 7 || st.Topics[0].Messages < 15 || st.Topics[0].Messages > 20 {
		t.Errorf("log after retention: %+v", st.Topics[0])
	}
	c.advance(2 * time.Hour)
	f = f.reopen()
	f.sweep()
	if got := f.pull(subA); len(got) != 0 {
		t.Errorf("expired messages came: %v", len(got))
	}
	if st := f.Stats(); st.Topics[0].Segments != 1 || st.Subscriptions[0].BacklogMessages != 0 {
		t.Errorf("after everything has expired: %+v", st)
	}
}

// TestTopicRetentionKeepsBacklogs: the longer of the two retentions counts.
func TestTopicRetentionKeepsBacklogs(t *testing.T) {
	t.Parallel()
	c := newClock()
	f := open(t, Options{Now: c.Now})
	if _, err := f.pub.CreateTopic(f.ctx, &pubsubpb.Topic{Name: topicA, MessageRetentionDuration: durationpb.New(24 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	f.subscribe(&pubsubpb.Subscription{Name: subA, Topic: topicA, MessageRetentionDuration: durationpb.New(time.Hour)})
	f.publish(topicA, "one")
	c.advance(2 * time.Hour)
	f.sweep()
	if got := datas(f.pull(subA)); !equal(got, []string{"one"}) {
		t.Errorf("after two hours: %v", got)
	}
}

// TestTopicRetentionIsBoundInBytes: what only the topic's retention keeps does not fill the disk.
func TestTopicRetentionIsBoundInBytes(t *testing.T) {
	t.Parallel()
	c := newClock()
	opts := Options{Dir: t.TempDir(), Now: c.Now, SegmentBytes: 4 << 10, TopicBytes: 20 << 10, CollectInterval: time.Hour}
	f := open(t, opts)
	if _, err := f.pub.CreateTopic(f.ctx, &pubsubpb.Topic{Name: topicA, MessageRetentionDuration: durationpb.New(24 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	f.subscribe(&pubsubpb.Subscription{Name: subA, Topic: topicA})
	fill := func() {
		for i := range 100 {
			c.advance(time.Second)
			f.publish(topicA, fmt.Sprint(i, strings.Repeat("x", 1000)))
		}
	}
	fill()
	f.sweep()
	backlog := f.pull(subA)
	if len(backlog) != 100 {
		t.Errorf("the backlog has %d messages, want all 100", len(backlog))
	}
	f.ack(subA, backlog...)
	f.sweep()
	replay := func() []string {
		f.subscribe(&pubsubpb.Subscription{Name: subB, Topic: topicA})
		seekTo(f, subB, c.Now().Add(-time.Hour))
		got := datas(f.pull(subB))
		if _, err := f.sub.DeleteSubscription(f.ctx, &pubsubpb.DeleteSubscriptionRequest{Subscription: subB}); err != nil {
			t.Fatal(err)
		}
		return got
	}
	for range 2 {
		if st := f.Stats().Topics[0]; st.Bytes > 28<<10 || st.Bytes < 16<<10 {
			t.Errorf("the log has %d bytes, want about 20 KiB", st.Bytes)
		}
		if got := replay(); len(got) < 16 || len(got) > 28 || !strings.HasPrefix(got[len(got)-1], "99") {
			t.Errorf("a new subscription gets %d messages, the last %.4s", len(got), got[len(got)-1])
		}
		f = f.reopen()
	}
}

func TestAcknowledgedSegmentsGo(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"", t.TempDir()} {
		f := open(t, Options{Dir: dir, SegmentBytes: 8 << 10, FlushInterval: time.Millisecond}).alpha()
		for range 20 {
			f.publish(topicA, strings.Repeat("x", 4000))
		}
		if st := f.Stats().Topics[0]; st.Segments < 9 || st.Messages != 20 {
			t.Fatalf("before: %+v", st)
		}
		f.ack(subA, f.pull(subA)...)
		until(t, "segments to go", func() bool { return f.Stats().Topics[0].Segments == 1 })
		// Without a subscription nothing is kept.
		if _, err := f.sub.DeleteSubscription(f.ctx, &pubsubpb.DeleteSubscriptionRequest{Subscription: subA}); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			f.publish(topicA, strings.Repeat("x", 4000))
		}
		until(t, "unread segments to go", func() bool { return f.Stats().Topics[0].Segments <= 2 })
	}
}

func seekTo(f *fixture, sub string, to time.Time) {
	f.t.Helper()
	if _, err := f.sub.Seek(f.ctx, &pubsubpb.SeekRequest{Subscription: sub, Target: &pubsubpb.SeekRequest_Time{Time: timestamppb.New(to)}}); err != nil {
		f.t.Fatal(err)
	}
}

func TestSeekReplaysWhatIsRetained(t *testing.T) {
	t.Parallel()
	c := newClock()
	f := open(t, Options{Dir: t.TempDir(), Now: c.Now, SegmentBytes: 4 << 10})
	if _, err := f.pub.CreateTopic(f.ctx, &pubsubpb.Topic{Name: topicA}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.pub.CreateTopic(f.ctx, &pubsubpb.Topic{Name: topicB, MessageRetentionDuration: durationpb.New(24 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	f.publish(topicB, "before the subscription")
	plain, retains, kept := project+"/subscriptions/plain", project+"/subscriptions/retains", project+"/subscriptions/kept"
	f.subscribe(&pubsubpb.Subscription{Name: plain, Topic: topicA})
	f.subscribe(&pubsubpb.Subscription{Name: retains, Topic: topicA, RetainAckedMessages: true})
	f.subscribe(&pubsubpb.Subscription{Name: kept, Topic: topicB})
	c.advance(time.Minute)
	start := c.Now()
	for i := range 6 {
		f.publish(topicA, fmt.Sprint("m", i))
		f.publish(topicB, fmt.Sprint("m", i))
		c.advance(time.Minute)
	}
	for _, sub := range []string{plain, retains, kept} {
		msgs := f.pull(sub)
		if len(msgs) != 6 {
			t.Fatalf("%s got %v", sub, datas(msgs))
		}
		f.ack(sub, msgs[:4]...)
	}
	f = f.reopen()
	for sub, want := range map[string][]string{plain: {"m4", "m5"}, retains: {"m2", "m3", "m4", "m5"}, kept: {"m2", "m3", "m4", "m5"}} {
		seekTo(f, sub, start.Add(2*time.Minute))
		if got := datas(f.pull(sub)); !equal(got, want) {
			t.Errorf("%s after a seek back: %v, want %v", sub, got, want)
		}
		seekTo(f, sub, start.Add(5*time.Minute))
		if got := datas(f.pull(sub)); !equal(got, []string{"m5"}) {
			t.Errorf("%s after a seek forward: %v", sub, got)
		}
		seekTo(f, sub, c.Now().Add(time.Hour))
		if got := f.pull(sub); len(got) != 0 {
			t.Errorf("%s after a seek into the future: %v", sub, datas(got))
		}
	}
	seekTo(f, kept, time.Unix(0, 0))
	if got := datas(f.pull(kept)); len(got) != 7 || got[0] != "before the subscription" {
		t.Errorf("topic retention replays %v", got)
	}
	seekTo(f, retains, time.Unix(0, 0))
	f = f.reopen()
	if got := datas(f.pull(retains)); len(got) != 6 {
		t.Errorf("a seek and a restart replay %v", got)
	}
}

func TestSnapshots(t *testing.T) {
	t.Parallel()
	c := newClock()
	f := open(t, Options{Dir: t.TempDir(), Now: c.Now, SegmentBytes: 4 << 10}).alpha()
	f.subscribe(&pubsubpb.Subscription{Name: subB, Topic: topicA})
	f.publish(topicA, "m0", "m1", "m2", "m3")
	f.ack(subA, f.pull(subA)[1])
	c.advance(24 * time.Hour)
	name := project + "/snapshots/snap"
	sn, err := f.sub.CreateSnapshot(f.ctx, &pubsubpb.CreateSnapshotRequest{Name: name, Subscription: subA, Labels: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := sn.GetExpireTime().AsTime(); !got.Equal(c.Now().Add(6 * 24 * time.Hour)) {
		t.Errorf("the snapshot of a backlog of one day expires at %v", got)
	}
	f.publish(topicA, "m4")
	f.ack(subA, f.pull(subA)...)
	f.ack(subB, f.pull(subB)...)
	for range 10 { // many segments that only the snapshot needs
		f.publish(topicA, strings.Repeat("x", 3000))
		f.ack(subA, f.pull(subA)...)
		f.ack(subB, f.pull(subB)...)
	}
	f = f.reopen()
	f.sweep()
	seek := func(sub string) error {
		_, err := f.sub.Seek(f.ctx, &pubsubpb.SeekRequest{Subscription: sub, Target: &pubsubpb.SeekRequest_Snapshot{Snapshot: name}})
		return err
	}
	for _, sub := range []string{subA, subB} {
		if err := seek(sub); err != nil {
			t.Fatal(err)
		}
		if got := datas(f.pull(sub)); len(got) != 14 || !equal(got[:4], []string{"m0", "m2", "m3", "m4"}) {
			t.Errorf("%s after a seek to the snapshot: %d messages", sub, len(got))
		}
	}
	f.topic(topicB)
	other := project + "/subscriptions/other"
	f.subscribe(&pubsubpb.Subscription{Name: other, Topic: topicB})
	wantCode(t, "snapshot of another topic", seek(other), codes.InvalidArgument)
	c.advance(6*24*time.Hour - 30*time.Minute)
	_, err = f.sub.CreateSnapshot(f.ctx, &pubsubpb.CreateSnapshotRequest{Name: project + "/snapshots/late", Subscription: subA})
	wantCode(t, "snapshot that would expire within the hour", err, codes.FailedPrecondition)
	c.advance(time.Hour)
	wantCode(t, "expired snapshot", seek(subA), codes.NotFound)
	f.sweep()
	_, err = f.sub.GetSnapshot(f.ctx, &pubsubpb.GetSnapshotRequest{Snapshot: name})
	wantCode(t, "get an expired snapshot", err, codes.NotFound)
	if _, err := f.sub.CreateSnapshot(f.ctx, &pubsubpb.CreateSnapshotRequest{Subscription: other}); err != nil {
		t.Errorf("snapshot without a name: %v", err)
	}
}

func TestStats(t *testing.T) {
	t.Parallel()
	c := newClock()
	f := open(t, Options{Now: c.Now}).alpha()
	first := c.Now()
	f.publish(topicA, "0123456789", "0123456789")
	c.advance(time.Minute)
	f.publish(topicA, "0123456789")
	f.subscribe(&pubsubpb.Subscription{Name: subB, Topic: topicA})
	check := func(backlog, outstanding int64, oldest time.Time) {
		t.Helper()
		st := f.Stats()
		got := st.Subscriptions[0]
		want := SubscriptionStats{Subscription: subA, Topic: topicA, BacklogMessages: backlog, BacklogBytes: backlog * 12, Outstanding: outstanding, OldestUnacked: got.OldestUnacked}
		if got != want || !got.OldestUnacked.Equal(oldest) {
			t.Errorf("stats %+v, want %+v with %v", got, want, oldest)
		}
		if st.Subscriptions[1].BacklogMessages != 0 || !st.Subscriptions[1].OldestUnacked.IsZero() {
			t.Errorf("a new subscription has %+v", st.Subscriptions[1])
		}
		if st.Topics[0].Messages != 3 || st.Topics[0].Bytes != 36 {
			t.Errorf("topic %+v", st.Topics[0])
		}
	}
	check(3, 0, first)
	msgs := f.pull(subA)
	check(3, 3, first)
	f.ack(subA, msgs[:2]...)
	check(1, 1, c.Now())
	f.ack(subA, msgs[2])
	check(0, 0, time.Time{})
}

// TestRetainedSegmentsStay: what a seek may bring back is not deleted with its
// segment, down to the last message.
func TestRetainedSegmentsStay(t *testing.T) {
	t.Parallel()
	c := newClock()
	f := open(t, Options{Dir: t.TempDir(), Now: c.Now, SegmentBytes: 4 << 10})
	f.topic(topicA)
	f.subscribe(&pubsubpb.Subscription{Name: subA, Topic: topicA, RetainAckedMessages: true, MessageRetentionDuration: durationpb.New(time.Hour)})
	var times []time.Time
	for i := range 10 {
		times = append(times, c.Now())
		f.publish(topicA, fmt.Sprint(i, strings.Repeat("x", 3000)))
		c.advance(time.Minute)
	}
	f.ack(subA, f.pull(subA)...)
	for _, i := range []int{9, 4, 0} {
		f.sweep()
		f = f.reopen()
		seekTo(f, subA, times[i])
		msgs := f.pull(subA)
		if len(msgs) != 10-i {
			t.Fatalf("a seek to message %d replays %d", i, len(msgs))
		}
		f.ack(subA, msgs...)
	}
	c.advance(55*time.Minute - time.Second) // messages 0 to 4 are past it
	f.sweep()
	if n := f.Stats().Topics[0].Segments; n != 5 {
		t.Errorf("%d segments after the retention of half of them", n)
	}
}

// TestExpiredMessagesAreSkipped does not wait for the sweep.
func TestExpiredMessagesAreSkipped(t *testing.T) {
	t.Parallel()
	c := newClock()
	f := open(t, Options{Now: c.Now}).alpha()
	f.publish(topicA, "given back", "never seen")
	res, err := f.sub.Pull(f.ctx, &pubsubpb.PullRequest{Subscription: subA, MaxMessages: 1})
	if err != nil {
		t.Fatal(err)
	}
	f.nack(subA, res.GetReceivedMessages()...)
	c.advance(defaultRetention + time.Second)
	f.publish(topicA, "new")
	if got := datas(f.pull(subA)); !equal(got, []string{"new"}) {
		t.Errorf("after the retention: %v", got)
	}
	if st := f.subs[subA].stats(); st.BacklogMessages != 1 {
		t.Errorf("backlog %+v", st)
	}
}

// TestSeekDuringDeadLettering moves the subscription while a message is on its
// way to the dead-letter topic: the seek wins.
func TestSeekDuringDeadLettering(t *testing.T) {
	t.Parallel()
	c := newClock()
	f := open(t, Options{Now: c.Now})
	f.topic(topicA)
	f.topic(topicB)
	f.subscribe(&pubsubpb.Subscription{Name: subA, Topic: topicA, RetainAckedMessages: true, DeadLetterPolicy: &pubsubpb.DeadLetterPolicy{DeadLetterTopic: topicB, MaxDeliveryAttempts: 5}})
	started, seeked := make(chan bool), make(chan bool)
	sub := f.subs[subA]
	forward := sub.forward
	sub.forward = func(topic string, letters []deadLetter) error {
		started <- true
		<-seeked
		return forward(topic, letters)
	}
	f.publish(topicA, "one", "two")
	msgs := f.pull(subA)
	f.ack(subA, msgs[1])
	for range 4 {
		f.nack(subA, msgs[0])
		msgs = f.pull(subA)
	}
	f.nack(subA, msgs[0])
	<-started
	seekTo(f, subA, c.Now())
	got := f.pull(subA)
	seeked <- true
	until(t, "the forwarding", func() bool {
		sub.mu.Lock()
		defer sub.mu.Unlock()
		return !sub.forwarding
	})
	if !equal(datas(got), []string{"one", "two"}) || got[0].GetDeliveryAttempt() != 1 {
		t.Errorf("after the seek: %v", got)
	}
	if st := sub.stats(); st.BacklogMessages != 2 || st.Outstanding != 2 {
		t.Errorf("after the forwarding: %+v", st)
	}
}

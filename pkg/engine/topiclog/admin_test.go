package topiclog

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func wantCode(t *testing.T, what string, err error, want codes.Code) {
	t.Helper()
	if status.Code(err) != want {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	for id, ok := range map[string]bool{
		"abc": true, "a-b_c.d~e+f%g9": true, strings.Repeat("a", 255): true, "ABC": true, "gooseberry": true,
		"": false, "ab": false, strings.Repeat("a", 256): false, "1abc": false, "-abc": false, "google": false, "goog-x": false, "a b c": false, "añb": false, "a/b": false,
	} {
		_, err := f.pub.CreateTopic(f.ctx, &pubsubpb.Topic{Name: project + "/topics/" + id})
		want := codes.InvalidArgument
		if ok {
			want = codes.OK
		}
		wantCode(t, fmt.Sprintf("topic %.20q", id), err, want)
	}
	for _, name := range []string{"", "abc", "projects//topics/abc", "projects/p/subscriptions/abc", "projects/p/topics/abc/d", "/projects/p/topics/abc"} {
		_, err := f.pub.CreateTopic(f.ctx, &pubsubpb.Topic{Name: name})
		wantCode(t, fmt.Sprintf("topic %q", name), err, codes.InvalidArgument)
	}
}

func TestMissingAndDuplicate(t *testing.T) {
	t.Parallel()
	f := open(t, Options{}).alpha()
	check := func(what string, err error, code codes.Code, name string) {
		t.Helper()
		wantCode(t, what, err, code)
		if !strings.Contains(fmt.Sprint(err), name) {
			t.Errorf("%s: %v does not name %s", what, err, name)
		}
	}
	_, err := f.pub.CreateTopic(f.ctx, &pubsubpb.Topic{Name: topicA})
	check("topic twice", err, codes.AlreadyExists, topicA)
	_, err = f.sub.CreateSubscription(f.ctx, &pubsubpb.Subscription{Name: subA, Topic: topicA})
	check("subscription twice", err, codes.AlreadyExists, subA)
	_, err = f.sub.CreateSubscription(f.ctx, &pubsubpb.Subscription{Name: subB, Topic: topicB})
	check("subscription of nothing", err, codes.NotFound, topicB)
	_, err = f.pub.GetTopic(f.ctx, &pubsubpb.GetTopicRequest{Topic: topicB})
	check("get", err, codes.NotFound, topicB)
	_, err = f.pub.Publish(f.ctx, &pubsubpb.PublishRequest{Topic: topicB, Messages: []*pubsubpb.PubsubMessage{{Data: []byte("x")}}})
	check("publish", err, codes.NotFound, topicB)
	_, err = f.sub.Pull(f.ctx, &pubsubpb.PullRequest{Subscription: subB, MaxMessages: 1})
	check("pull", err, codes.NotFound, subB)
	_, err = f.sub.GetSubscription(f.ctx, &pubsubpb.GetSubscriptionRequest{Subscription: subB})
	check("get", err, codes.NotFound, subB)
	_, err = f.sub.Acknowledge(f.ctx, &pubsubpb.AcknowledgeRequest{Subscription: subB, AckIds: []string{"1.0.0.1"}})
	check("ack", err, codes.NotFound, subB)
	_, err = f.sub.CreateSubscription(f.ctx, &pubsubpb.Subscription{Name: subB, Topic: topicA, DeadLetterPolicy: &pubsubpb.DeadLetterPolicy{DeadLetterTopic: topicB}})
	check("dead letters to nowhere", err, codes.NotFound, topicB)
	if _, err := f.sub.CreateSnapshot(f.ctx, &pubsubpb.CreateSnapshotRequest{Name: project + "/snapshots/one", Subscription: subA}); err != nil {
		t.Fatal(err)
	}
	_, err = f.sub.CreateSnapshot(f.ctx, &pubsubpb.CreateSnapshotRequest{Name: project + "/snapshots/one", Subscription: subA})
	check("snapshot twice", err, codes.AlreadyExists, "snapshots/one")
}

func TestPublishLimits(t *testing.T) {
	t.Parallel()
	f := open(t, Options{}).alpha()
	attrs := func(n int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[fmt.Sprint("k", i)] = "v"
		}
		return m
	}
	data := func(n int) *pubsubpb.PubsubMessage { return &pubsubpb.PubsubMessage{Data: make([]byte, n)} }
	attr := func(k, v string) *pubsubpb.PubsubMessage {
		return &pubsubpb.PubsubMessage{Attributes: map[string]string{k: v}}
	}
	long := strings.Repeat("x", 2000)
	for _, c := range []struct {
		name string
		msgs []*pubsubpb.PubsubMessage
		ok   bool
	}{
		{"none", nil, false},
		{"nil message", []*pubsubpb.PubsubMessage{nil}, false},
		{"empty message", []*pubsubpb.PubsubMessage{{}}, false},
		{"only a key", []*pubsubpb.PubsubMessage{{OrderingKey: "k"}}, false},
		{"only an attribute", []*pubsubpb.PubsubMessage{attr("a", "")}, true},
		{"10 MB", []*pubsubpb.PubsubMessage{data(10_000_000)}, true},
		{"over 10 MB", []*pubsubpb.PubsubMessage{data(10_000_001)}, false},
		{"10 MB together", []*pubsubpb.PubsubMessage{data(5_000_000), data(5_000_000)}, true},
		{"over 10 MB together", []*pubsubpb.PubsubMessage{data(5_000_000), data(5_000_001)}, false},
		{"100 attributes", []*pubsubpb.PubsubMessage{{Attributes: attrs(100)}}, true},
		{"101 attributes", []*pubsubpb.PubsubMessage{{Attributes: attrs(101)}}, false},
		{"key of 256", []*pubsubpb.PubsubMessage{attr(long[:256], "v")}, true},
		{"key of 257", []*pubsubpb.PubsubMessage{attr(long[:257], "v")}, false},
		{"empty key", []*pubsubpb.PubsubMessage{attr("", "v")}, false},
		{"reserved key", []*pubsubpb.PubsubMessage{attr("google", "v")}, false},
		{"a client library's key", []*pubsubpb.PubsubMessage{attr("googclient_traceparent", "v")}, true},
		{"value of 1024", []*pubsubpb.PubsubMessage{attr("k", long[:1024])}, true},
		{"value of 1025", []*pubsubpb.PubsubMessage{attr("k", long[:1025])}, false},
		{"ordering key of 1024", []*pubsubpb.PubsubMessage{{Data: []byte("x"), OrderingKey: long[:1024]}}, true},
		{"ordering key of 1025", []*pubsubpb.PubsubMessage{{Data: []byte("x"), OrderingKey: long[:1025]}}, false},
		{"two ordering keys", []*pubsubpb.PubsubMessage{{Data: []byte("x"), OrderingKey: "a"}, {Data: []byte("x"), OrderingKey: "b"}}, false},
		{"1000 messages", messages(1000), true},
		{"1001 messages", messages(1001), false},
	} {
		res, err := f.pub.Publish(f.ctx, &pubsubpb.PublishRequest{Topic: topicA, Messages: c.msgs})
		want := codes.InvalidArgument
		if c.ok {
			want = codes.OK
		}
		wantCode(t, c.name, err, want)
		if c.ok && len(res.GetMessageIds()) != len(c.msgs) {
			t.Errorf("%s: %d ids for %d messages", c.name, len(res.GetMessageIds()), len(c.msgs))
		}
	}
}

func messages(n int) []*pubsubpb.PubsubMessage {
	msgs := make([]*pubsubpb.PubsubMessage, n)
	for i := range msgs {
		msgs[i] = &pubsubpb.PubsubMessage{Data: []byte("x")}
	}
	return msgs
}

func TestSettings(t *testing.T) {
	t.Parallel()
	f := open(t, Options{}).alpha()
	day := 24 * time.Hour
	dur := durationpb.New
	dead := func(n int32) *pubsubpb.DeadLetterPolicy {
		return &pubsubpb.DeadLetterPolicy{DeadLetterTopic: topicA, MaxDeliveryAttempts: n}
	}
	retry := func(low, high time.Duration) *pubsubpb.RetryPolicy {
		return &pubsubpb.RetryPolicy{MinimumBackoff: dur(low), MaximumBackoff: dur(high)}
	}
	for i, c := range []struct {
		cfg  *pubsubpb.Subscription
		want codes.Code
	}{
		{&pubsubpb.Subscription{AckDeadlineSeconds: 0}, codes.OK},
		{&pubsubpb.Subscription{AckDeadlineSeconds: 9}, codes.InvalidArgument},
		{&pubsubpb.Subscription{AckDeadlineSeconds: 10}, codes.OK},
		{&pubsubpb.Subscription{AckDeadlineSeconds: 600}, codes.OK},
		{&pubsubpb.Subscription{AckDeadlineSeconds: 601}, codes.InvalidArgument},
		{&pubsubpb.Subscription{AckDeadlineSeconds: -1}, codes.InvalidArgument},
		{&pubsubpb.Subscription{MessageRetentionDuration: dur(10 * time.Minute)}, codes.OK},
		{&pubsubpb.Subscription{MessageRetentionDuration: dur(10*time.Minute - 1)}, codes.InvalidArgument},
		{&pubsubpb.Subscription{MessageRetentionDuration: dur(31 * day)}, codes.OK},
		{&pubsubpb.Subscription{MessageRetentionDuration: dur(31*day + 1)}, codes.InvalidArgument},
		{&pubsubpb.Subscription{MessageRetentionDuration: &durationpb.Duration{Seconds: 1 << 60}}, codes.InvalidArgument},
		{&pubsubpb.Subscription{DeadLetterPolicy: dead(0)}, codes.OK},
		{&pubsubpb.Subscription{DeadLetterPolicy: dead(4)}, codes.InvalidArgument},
		{&pubsubpb.Subscription{DeadLetterPolicy: dead(100)}, codes.OK},
		{&pubsubpb.Subscription{DeadLetterPolicy: dead(101)}, codes.InvalidArgument},
		{&pubsubpb.Subscription{DeadLetterPolicy: &pubsubpb.DeadLetterPolicy{}}, codes.InvalidArgument},
		{&pubsubpb.Subscription{RetryPolicy: &pubsubpb.RetryPolicy{}}, codes.OK},
		{&pubsubpb.Subscription{RetryPolicy: retry(0, 0)}, codes.OK},
		{&pubsubpb.Subscription{RetryPolicy: retry(2*time.Second, time.Second)}, codes.InvalidArgument},
		{&pubsubpb.Subscription{RetryPolicy: retry(-1, time.Second)}, codes.InvalidArgument},
		{&pubsubpb.Subscription{RetryPolicy: retry(0, 601*time.Second)}, codes.InvalidArgument},
		{&pubsubpb.Subscription{ExpirationPolicy: &pubsubpb.ExpirationPolicy{}}, codes.OK},
		{&pubsubpb.Subscription{ExpirationPolicy: &pubsubpb.ExpirationPolicy{Ttl: dur(day)}}, codes.OK},
		{&pubsubpb.Subscription{ExpirationPolicy: &pubsubpb.ExpirationPolicy{Ttl: dur(day - 1)}}, codes.InvalidArgument},
		{&pubsubpb.Subscription{Filter: "attributes:a"}, codes.OK},
		{&pubsubpb.Subscription{Filter: "nonsense"}, codes.InvalidArgument},
		{&pubsubpb.Subscription{PushConfig: &pubsubpb.PushConfig{}}, codes.OK},
		{&pubsubpb.Subscription{PushConfig: &pubsubpb.PushConfig{PushEndpoint: "https://x"}}, codes.Unimplemented},
		{&pubsubpb.Subscription{BigqueryConfig: &pubsubpb.BigQueryConfig{}}, codes.Unimplemented},
		{&pubsubpb.Subscription{CloudStorageConfig: &pubsubpb.CloudStorageConfig{}}, codes.Unimplemented},
		{&pubsubpb.Subscription{BigtableConfig: &pubsubpb.BigtableConfig{}}, codes.Unimplemented},
		{&pubsubpb.Subscription{EnableExactlyOnceDelivery: true}, codes.Unimplemented},
		{&pubsubpb.Subscription{MessageTransforms: []*pubsubpb.MessageTransform{nil}}, codes.Unimplemented},
	} {
		c.cfg.Name, c.cfg.Topic = fmt.Sprintf("%s/subscriptions/case-%d", project, i), topicA
		_, err := f.sub.CreateSubscription(f.ctx, c.cfg)
		wantCode(t, c.cfg.String(), err, c.want)
	}
	for _, cfg := range []*pubsubpb.Topic{
		{IngestionDataSourceSettings: &pubsubpb.IngestionDataSourceSettings{}},
		{MessageTransforms: []*pubsubpb.MessageTransform{{}}},
	} {
		cfg.Name = topicB
		_, err := f.pub.CreateTopic(f.ctx, cfg)
		wantCode(t, cfg.String(), err, codes.Unimplemented)
	}
	_, err := f.pub.CreateTopic(f.ctx, &pubsubpb.Topic{Name: topicB, MessageRetentionDuration: dur(time.Minute)})
	wantCode(t, "topic retention of a minute", err, codes.InvalidArgument)
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	f := open(t, Options{Dir: t.TempDir()}).alpha()
	mask := func(paths ...string) *fieldmaskpb.FieldMask { return &fieldmaskpb.FieldMask{Paths: paths} }
	for _, path := range []string{"name", "nonsense", "kms_key_name", "state", "labels.a", ""} {
		_, err := f.pub.UpdateTopic(f.ctx, &pubsubpb.UpdateTopicRequest{Topic: &pubsubpb.Topic{Name: topicA}, UpdateMask: mask(path)})
		wantCode(t, "topic "+path, err, codes.InvalidArgument)
	}
	_, err := f.pub.UpdateTopic(f.ctx, &pubsubpb.UpdateTopicRequest{Topic: &pubsubpb.Topic{Name: topicA}})
	wantCode(t, "no mask", err, codes.InvalidArgument)
	_, err = f.pub.UpdateTopic(f.ctx, &pubsubpb.UpdateTopicRequest{Topic: &pubsubpb.Topic{Name: topicA, Labels: map[string]string{"lost": "x"}}, UpdateMask: mask("labels", "nonsense")})
	wantCode(t, "good and bad path", err, codes.InvalidArgument)
	hour := durationpb.New(time.Hour)
	got, err := f.pub.UpdateTopic(f.ctx, &pubsubpb.UpdateTopicRequest{
		Topic:      &pubsubpb.Topic{Name: topicA, Labels: map[string]string{"a": "b"}, MessageRetentionDuration: hour, KmsKeyName: "ignored"},
		UpdateMask: mask("labels", "message_retention_duration"),
	})
	want := &pubsubpb.Topic{Name: topicA, Labels: map[string]string{"a": "b"}, MessageRetentionDuration: hour, State: pubsubpb.Topic_ACTIVE}
	if err != nil || !proto.Equal(got, want) {
		t.Errorf("update topic: %v, %v", got, err)
	}

	for _, path := range []string{"name", "topic", "filter", "enable_message_ordering", "detached", "nonsense", "retry_policy.nonsense"} {
		_, err := f.sub.UpdateSubscription(f.ctx, &pubsubpb.UpdateSubscriptionRequest{Subscription: &pubsubpb.Subscription{Name: subA}, UpdateMask: mask(path)})
		wantCode(t, "subscription "+path, err, codes.InvalidArgument)
	}
	_, err = f.sub.UpdateSubscription(f.ctx, &pubsubpb.UpdateSubscriptionRequest{Subscription: &pubsubpb.Subscription{Name: subA, EnableExactlyOnceDelivery: true}, UpdateMask: mask("enable_exactly_once_delivery")})
	wantCode(t, "exactly once", err, codes.Unimplemented)
	_, err = f.sub.UpdateSubscription(f.ctx, &pubsubpb.UpdateSubscriptionRequest{Subscription: &pubsubpb.Subscription{Name: subA, AckDeadlineSeconds: 5}, UpdateMask: mask("ack_deadline_seconds")})
	wantCode(t, "deadline of 5 s", err, codes.InvalidArgument)
	sub, err := f.sub.UpdateSubscription(f.ctx, &pubsubpb.UpdateSubscriptionRequest{
		Subscription: &pubsubpb.Subscription{Name: subA, AckDeadlineSeconds: 33, RetainAckedMessages: true, Labels: map[string]string{"x": "y"},
			DeadLetterPolicy: &pubsubpb.DeadLetterPolicy{DeadLetterTopic: topicA, MaxDeliveryAttempts: 7}, RetryPolicy: &pubsubpb.RetryPolicy{MinimumBackoff: durationpb.New(time.Second)}},
		UpdateMask: mask("ack_deadline_seconds", "retain_acked_messages", "dead_letter_policy.dead_letter_topic", "dead_letter_policy.max_delivery_attempts", "retry_policy.minimum_backoff"),
	})
	if err != nil {
		t.Fatal(err)
	}
	check := func(sub *pubsubpb.Subscription) {
		t.Helper()
		if sub.GetAckDeadlineSeconds() != 33 || !sub.GetRetainAckedMessages() || len(sub.GetLabels()) != 0 || sub.GetDeadLetterPolicy().GetMaxDeliveryAttempts() != 7 ||
			sub.GetRetryPolicy().GetMaximumBackoff().AsDuration() != 10*time.Minute || sub.GetTopicMessageRetentionDuration().AsDuration() != time.Hour {
			t.Errorf("subscription after the update: %v", sub)
		}
	}
	check(sub)
	f = f.reopen()
	sub, err = f.sub.GetSubscription(f.ctx, &pubsubpb.GetSubscriptionRequest{Subscription: subA})
	if err != nil {
		t.Fatal(err)
	}
	check(sub)
	if got, err := f.pub.GetTopic(f.ctx, &pubsubpb.GetTopicRequest{Topic: topicA}); err != nil || !proto.Equal(got, want) {
		t.Errorf("topic after a restart: %v, %v", got, err)
	}
}

func TestDeleteTopicKeepsBacklog(t *testing.T) {
	t.Parallel()
	f := open(t, Options{Dir: t.TempDir()}).alpha()
	f.publish(topicA, "one", "two")
	if _, err := f.pub.DeleteTopic(f.ctx, &pubsubpb.DeleteTopicRequest{Topic: topicA}); err != nil {
		t.Fatal(err)
	}
	_, err := f.pub.DeleteTopic(f.ctx, &pubsubpb.DeleteTopicRequest{Topic: topicA})
	wantCode(t, "delete twice", err, codes.NotFound)
	f = f.reopen()
	sub, err := f.sub.GetSubscription(f.ctx, &pubsubpb.GetSubscriptionRequest{Subscription: subA})
	if err != nil || sub.GetTopic() != "_deleted-topic_" {
		t.Errorf("subscription of a deleted topic: %v, %v", sub, err)
	}
	f.topic(topicA)
	f.publish(topicA, "to the new topic")
	msgs := f.pull(subA)
	if !equal(datas(msgs), []string{"one", "two"}) {
		t.Errorf("backlog: %v", datas(msgs))
	}
	if names, _ := f.st.list("topics"); len(names) != 2 {
		t.Errorf("logs: %v, want the old and the new", names)
	}
	if _, err := f.sub.DeleteSubscription(f.ctx, &pubsubpb.DeleteSubscriptionRequest{Subscription: subA}); err != nil {
		t.Fatal(err)
	}
	if names, _ := f.st.list("topics"); len(names) != 1 {
		t.Errorf("logs: %v, want the new topic's only", names)
	}
	if names, _ := f.st.list(cursorDir); len(names) != 0 {
		t.Errorf("state files left: %v", names)
	}
}

func TestDetach(t *testing.T) {
	t.Parallel()
	f := open(t, Options{Dir: t.TempDir()}).alpha()
	f.publish(topicA, "one")
	if _, err := f.pub.DetachSubscription(f.ctx, &pubsubpb.DetachSubscriptionRequest{Subscription: subA}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		sub, err := f.sub.GetSubscription(f.ctx, &pubsubpb.GetSubscriptionRequest{Subscription: subA})
		if err != nil || !sub.GetDetached() || sub.GetTopic() != topicA {
			t.Errorf("detached subscription: %v, %v", sub, err)
		}
		_, err = f.sub.Pull(f.ctx, &pubsubpb.PullRequest{Subscription: subA, MaxMessages: 1})
		wantCode(t, "pull", err, codes.FailedPrecondition)
		_, err = f.sub.Seek(f.ctx, &pubsubpb.SeekRequest{Subscription: subA, Target: &pubsubpb.SeekRequest_Time{Time: timestamppb.Now()}})
		wantCode(t, "seek", err, codes.FailedPrecondition)
		_, err = f.sub.CreateSnapshot(f.ctx, &pubsubpb.CreateSnapshotRequest{Subscription: subA})
		wantCode(t, "snapshot", err, codes.FailedPrecondition)
		if res, err := f.pub.ListTopicSubscriptions(f.ctx, &pubsubpb.ListTopicSubscriptionsRequest{Topic: topicA}); err != nil || len(res.GetSubscriptions()) != 0 {
			t.Errorf("subscriptions of the topic: %v, %v", res, err)
		}
		if _, err := f.pub.DetachSubscription(f.ctx, &pubsubpb.DetachSubscriptionRequest{Subscription: subA}); err != nil {
			t.Errorf("detach twice: %v", err)
		}
		f.publish(topicA, "unseen")
		f.sweep()
		_ = f.Stats()
		f = f.reopen()
	}
}

// TestOddRequests calls every unary method of every service, without a
// network and without a recover, with requests that no client library sends.
func TestOddRequests(t *testing.T) {
	t.Parallel()
	f := open(t, Options{PullWait: time.Millisecond}).alpha()
	f.publish(topicA, "one")
	odd := []string{"", "x", "projects/", topicA, subA, project, project + "/snapshots/snap", "\xff\x00", strings.Repeat("/", 50), strings.Repeat("a", 5000)}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	calls := 0
	for _, svc := range []any{f.pub, f.sub, f.sch} {
		v := reflect.ValueOf(svc)
		for i := range v.NumMethod() {
			m := v.Method(i)
			if m.Type().NumIn() != 2 || m.Type().NumOut() != 2 || m.Type().In(0) != reflect.TypeFor[context.Context]() {
				continue
			}
			in := m.Type().In(1)
			call := func(req reflect.Value) {
				calls++
				for _, c := range []context.Context{context.Background(), ctx} {
					if out := m.Call([]reflect.Value{reflect.ValueOf(c), req}); !out[1].IsNil() {
						if s := status.Code(out[1].Interface().(error)); s == codes.Unknown || s == codes.Internal {
							t.Errorf("%s(%v): %v", v.Type().Method(i).Name, req.Interface(), out[1].Interface())
						}
					}
				}
			}
			call(reflect.Zero(in)) // a nil request
			for depth := range 3 {
				for _, s := range odd {
					req := reflect.New(in.Elem())
					fillOdd(req.Elem(), s, depth)
					call(req)
				}
			}
		}
	}
	if calls < 30*20 {
		t.Errorf("only %d calls, are the methods still found?", calls)
	}
}

// fillOdd sets every exported field: strings to s, numbers to extremes,
// messages to nil or, while depth lasts, to as odd ones.
func fillOdd(v reflect.Value, s string, depth int) {
	for i := range v.NumField() {
		fv := v.Field(i)
		if !fv.CanSet() {
			continue
		}
		switch fv.Kind() {
		case reflect.String:
			fv.SetString(s)
		case reflect.Int32, reflect.Int64:
			fv.SetInt([]int64{-1, 0, 1 << 30}[depth])
		case reflect.Bool:
			fv.SetBool(depth == 1)
		case reflect.Pointer:
			if depth > 0 && fv.Type().Elem().Kind() == reflect.Struct {
				fv.Set(reflect.New(fv.Type().Elem()))
				fillOdd(fv.Elem(), s, depth-1)
			}
		case reflect.Slice:
			fv.Set(reflect.MakeSlice(fv.Type(), 2, 2))
			if fv.Type().Elem().Kind() == reflect.String {
				fv.Index(0).SetString(s)
			}
		case reflect.Map:
			fv.Set(reflect.MakeMap(fv.Type()))
		}
	}
	if req, ok := v.Addr().Interface().(*pubsubpb.SeekRequest); ok {
		switch depth {
		case 0:
			req.Target = &pubsubpb.SeekRequest_Time{}
		case 1:
			req.Target = &pubsubpb.SeekRequest_Snapshot{Snapshot: s}
		default:
			req.Target = &pubsubpb.SeekRequest_Time{Time: &timestamppb.Timestamp{Seconds: 1 << 62}}
		}
	}
}

package bus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/api/iterator"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// FollowOptions say from when on Follow delivers and what it holds at a time.
type FollowOptions struct {
	// From is the publish time to begin at; zero begins with what is published from now on.
	From time.Time
	// Ready, when set, is called once, before the first message. What was published at since or
	// later will be delivered. It is later than From when the topic does not keep messages that long.
	Ready func(since time.Time)
	// MaxMessages and MaxBytes are the most that may be unsettled. Defaults 1000 and 1 MiB.
	MaxMessages int
	MaxBytes    int
	// Keep is how long the backlog is kept for a handle that is slow, at most a day. A topic that
	// keeps its messages longer than that keeps them for this subscription, too. Default 10m.
	Keep time.Duration
}

// Defaults fills in what is not set.
func (o FollowOptions) Defaults() FollowOptions {
	if o.MaxMessages == 0 {
		o.MaxMessages = 1000
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 1 << 20
	}
	if o.Keep == 0 {
		o.Keep = followerRetention
	}
	if o.Ready == nil {
		o.Ready = func(time.Time) {}
	}
	return o
}

const (
	// followerInfix stands between the topic and the random part of a follower's subscription.
	followerInfix = "-tail-"
	// followerTTL is how long a subscription lives that its follower could not delete: the shortest
	// that the service takes, or what it takes for a backlog that is kept for a day.
	followerTTL, patientFollowerTTL = 24 * time.Hour, 48 * time.Hour
	// followerRetention is how long the backlog of a follower that has stopped reading is kept; the
	// shortest that the service takes.
	followerRetention = 10 * time.Minute
	// forgetTimeout bounds the deletion of a follower's subscription.
	forgetTimeout = 5 * time.Second
)

// Follow delivers a topic's messages through a subscription of its own, which exists for as long as
// the call, until the context ends; then it returns nil. Unlike the subscription of ingest it takes
// no message away from others. Handle is called as Receive calls it.
func (c *Client) Follow(ctx context.Context, topic string, opts FollowOptions, handle func(context.Context, Message) bool) error {
	opts = opts.Defaults()
	sub := topic + followerInfix + strings.ToLower(rand.Text())
	// Also when creating it failed: a request that timed out may have been carried out.
	defer c.forget(ctx, sub)
	since, err := c.beginFollowing(ctx, topic, sub, opts)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("follow topic %s: %w", topic, err)
	}
	opts.Ready(since)
	err = c.Receive(ctx, sub, ReceiveOptions{MaxMessages: opts.MaxMessages, MaxBytes: opts.MaxBytes}, handle)
	if err != nil {
		return fmt.Errorf("follow topic %s: %w", topic, err)
	}
	return nil
}

// beginFollowing creates the subscription and moves it back to opts.From. It returns the publish time
// from which on nothing is missing.
func (c *Client) beginFollowing(ctx context.Context, topic, sub string, opts FollowOptions) (since time.Time, err error) {
	from, before := opts.From, time.Now()
	created, err := c.createFollower(ctx, topic, sub, opts.Keep)
	if err != nil {
		return since, classify(err)
	}
	now := time.Now()
	kept := created.GetTopicMessageRetentionDuration().AsDuration()
	if kept == 0 {
		// Google's emulator does not report what the topic keeps, and begins a new subscription there.
		if kept, _ = c.TopicKeeps(ctx, topic); kept > 0 && from.IsZero() {
			from = before
		}
	}
	if from.IsZero() || kept == 0 {
		return now, nil
	}
	_, err = c.client.SubscriptionAdminClient.Seek(ctx, &pubsubpb.SeekRequest{
		Subscription: c.subscriptionName(sub), Target: &pubsubpb.SeekRequest_Time{Time: timestamppb.New(from)},
	})
	if status.Code(err) == codes.Unimplemented {
		return now, nil
	}
	if err != nil {
		return since, fmt.Errorf("seek to %s: %w", from.UTC().Format(time.RFC3339Nano), classify(err))
	}
	if oldest := now.Add(-kept); from.Before(oldest) {
		return oldest, nil
	}
	return from, nil
}

// TopicKeeps is how long a topic keeps messages for new subscriptions, 0 when it keeps none. Who may
// not look at the topic gets ErrDenied.
func (c *Client) TopicKeeps(ctx context.Context, topic string) (time.Duration, error) {
	got, err := c.client.TopicAdminClient.GetTopic(ctx, &pubsubpb.GetTopicRequest{Topic: c.topicName(topic)})
	if err != nil {
		return 0, fmt.Errorf("look up topic %s: %w", topic, classify(err))
	}
	return got.GetMessageRetentionDuration().AsDuration(), nil
}

func (c *Client) createFollower(ctx context.Context, topic, sub string, keep time.Duration) (*pubsubpb.Subscription, error) {
	ttl := followerTTL
	if keep > followerRetention {
		ttl = patientFollowerTTL
	}
	created, err := c.client.SubscriptionAdminClient.CreateSubscription(ctx, &pubsubpb.Subscription{
		Name: c.subscriptionName(sub), Topic: c.topicName(topic),
		AckDeadlineSeconds:       int32(ackDeadline / time.Second),
		MessageRetentionDuration: durationpb.New(keep),
		ExpirationPolicy:         &pubsubpb.ExpirationPolicy{Ttl: durationpb.New(ttl)},
	})
	if status.Code(err) == codes.AlreadyExists {
		// The name is random, so this is the second try of a request whose answer was lost.
		return c.client.SubscriptionAdminClient.GetSubscription(ctx, &pubsubpb.GetSubscriptionRequest{Subscription: c.subscriptionName(sub)})
	}
	return created, err
}

// forget deletes a follower's subscription. When that fails, it expires by itself.
func (c *Client) forget(ctx context.Context, sub string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), forgetTimeout)
	defer cancel()
	_ = c.client.SubscriptionAdminClient.DeleteSubscription(ctx, &pubsubpb.DeleteSubscriptionRequest{Subscription: c.subscriptionName(sub)})
}

// ForgetFollowers deletes the subscriptions that followers of the topic have left behind, because
// their process was killed. It must not run while others follow the topic: their streams would end.
func (c *Client) ForgetFollowers(ctx context.Context, topic string) error {
	var left []string
	names := c.client.TopicAdminClient.ListTopicSubscriptions(ctx, &pubsubpb.ListTopicSubscriptionsRequest{Topic: c.topicName(topic)})
	for {
		name, err := names.Next()
		if errors.Is(err, iterator.Done) {
			break
		}
		if err != nil {
			return fmt.Errorf("list the subscriptions of topic %s: %w", topic, classify(err))
		}
		if strings.HasPrefix(name, c.subscriptionName(topic+followerInfix)) {
			left = append(left, name)
		}
	}
	for _, name := range left {
		err := c.client.SubscriptionAdminClient.DeleteSubscription(ctx, &pubsubpb.DeleteSubscriptionRequest{Subscription: name})
		if err = classify(err); err != nil && !errors.Is(err, ErrNotFound) {
			return fmt.Errorf("delete subscription %s: %w", name, err)
		}
	}
	return nil
}

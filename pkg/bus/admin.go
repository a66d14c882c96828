package bus

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// Route is the topics and subscriptions of one dataset.
type Route struct {
	Topic, Subscription                     string
	DeadLetterTopic, DeadLetterSubscription string
}

// RouteOf returns a dataset's route.
func RouteOf(ds *dataset.Dataset) Route {
	return Route{
		Topic: ds.Topic, Subscription: ds.Subscription(),
		DeadLetterTopic: ds.DeadLetterTopic(), DeadLetterSubscription: ds.DeadLetterSubscription(),
	}
}

const (
	ackDeadline = 10 * time.Second
	// deadLetterRetention keeps rejected records for a person to look at; a week is the service's usual maximum.
	deadLetterRetention = 7 * 24 * time.Hour
	// topicRetention is how far back a follower can begin. A live stream of rows ends after an hour
	// at the latest, and an idle one must still be able to go on without doubt.
	topicRetention = 2 * time.Hour
)

// Ensure creates what is missing of the route. It is safe to call from several processes at once.
// On Google Cloud only Terraform creates them; local engines and emulators have no Terraform.
func (c *Client) Ensure(ctx context.Context, r Route) error {
	topics := []*pubsubpb.Topic{
		{Name: c.topicName(r.Topic), MessageRetentionDuration: durationpb.New(topicRetention)},
		{Name: c.topicName(r.DeadLetterTopic)},
	}
	for _, topic := range topics {
		_, err := c.client.TopicAdminClient.CreateTopic(ctx, topic)
		if status.Code(err) == codes.AlreadyExists {
			err = c.updateRetention(ctx, topic)
		}
		if err != nil {
			return fmt.Errorf("create topic %s: %w", topic.GetName(), classify(err))
		}
	}
	subs := []*pubsubpb.Subscription{
		{Name: c.subscriptionName(r.Subscription), Topic: c.topicName(r.Topic)},
		{Name: c.subscriptionName(r.DeadLetterSubscription), Topic: c.topicName(r.DeadLetterTopic)},
	}
	for _, sub := range subs {
		sub.AckDeadlineSeconds = int32(ackDeadline / time.Second)
		sub.MessageRetentionDuration = durationpb.New(deadLetterRetention)
		_, err := c.client.SubscriptionAdminClient.CreateSubscription(ctx, sub)
		if err != nil && status.Code(err) != codes.AlreadyExists {
			return fmt.Errorf("create subscription %s: %w", sub.GetName(), classify(err))
		}
	}
	return nil
}

// updateRetention gives a topic of an earlier version the retention that it would be created with.
func (c *Client) updateRetention(ctx context.Context, want *pubsubpb.Topic) error {
	if want.GetMessageRetentionDuration() == nil {
		return nil
	}
	got, err := c.client.TopicAdminClient.GetTopic(ctx, &pubsubpb.GetTopicRequest{Topic: want.GetName()})
	if err != nil || got.GetMessageRetentionDuration().AsDuration() == want.GetMessageRetentionDuration().AsDuration() {
		return err
	}
	_, err = c.client.TopicAdminClient.UpdateTopic(ctx, &pubsubpb.UpdateTopicRequest{
		Topic: want, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"message_retention_duration"}},
	})
	return err
}

// Missing returns those topics and subscriptions of the route that do not exist.
func (c *Client) Missing(ctx context.Context, r Route) ([]string, error) {
	var missing []string
	note := func(what string, err error) error {
		if err = classify(err); !errors.Is(err, ErrNotFound) {
			return fmt.Errorf("look up %s: %w", what, err)
		}
		missing = append(missing, what)
		return nil
	}
	for _, topic := range []string{r.Topic, r.DeadLetterTopic} {
		_, err := c.client.TopicAdminClient.GetTopic(ctx, &pubsubpb.GetTopicRequest{Topic: c.topicName(topic)})
		if err != nil {
			if err := note("topic "+topic, err); err != nil {
				return nil, err
			}
		}
	}
	for _, sub := range []string{r.Subscription, r.DeadLetterSubscription} {
		_, err := c.client.SubscriptionAdminClient.GetSubscription(ctx, &pubsubpb.GetSubscriptionRequest{Subscription: c.subscriptionName(sub)})
		if err != nil {
			if err := note("subscription "+sub, err); err != nil {
				return nil, err
			}
		}
	}
	return missing, nil
}

// Detached says which subscriptions of the route are on another topic than theirs. One whose topic was
// deleted stays behind without any, also when the topic is made again. Those that do not exist are Missing's.
func (c *Client) Detached(ctx context.Context, r Route) ([]string, error) {
	var faults []string
	for _, pair := range [][2]string{{r.Subscription, r.Topic}, {r.DeadLetterSubscription, r.DeadLetterTopic}} {
		sub, err := c.client.SubscriptionAdminClient.GetSubscription(ctx, &pubsubpb.GetSubscriptionRequest{Subscription: c.subscriptionName(pair[0])})
		switch err = classify(err); {
		case errors.Is(err, ErrNotFound):
		case err != nil:
			return nil, fmt.Errorf("look up subscription %s: %w", pair[0], err)
		case sub.GetTopic() != c.topicName(pair[1]):
			faults = append(faults, fmt.Sprintf("subscription %s is on topic %s", pair[0], path.Base(sub.GetTopic())))
		}
	}
	return faults, nil
}

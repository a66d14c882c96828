package bus

import (
	"context"
	"fmt"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
)

// ReceiveOptions bound what one Receive holds at a time.
type ReceiveOptions struct {
	// MaxMessages and MaxBytes are the most that may be unsettled. Defaults 8000 and 64 MiB.
	MaxMessages int
	MaxBytes    int
	// MaxExtension is how long a message's lease is kept up. Default 10m.
	MaxExtension time.Duration
	// Fresh receives over a connection of its own, for when the client's answers no longer. It has
	// no effect where Options.Redial is not set.
	Fresh bool
}

// Defaults fills in what is not set.
func (o ReceiveOptions) Defaults() ReceiveOptions {
	if o.MaxMessages == 0 {
		o.MaxMessages = 8000
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 64 << 20
	}
	if o.MaxExtension == 0 {
		o.MaxExtension = 10 * time.Minute
	}
	return o
}

// Receive calls handle with each message of the subscription, many at a time, until the context
// ends; then it waits for the calls under way, sends their acknowledgements and returns nil. A
// message is acknowledged when handle returns true and redelivered when it returns false. Handle
// must settle the message before it returns, because that is what bounds memory and makes the
// drain complete.
func (c *Client) Receive(ctx context.Context, sub string, opts ReceiveOptions, handle func(context.Context, Message) bool) error {
	opts = opts.Defaults()
	client, hangUp, err := c.connection(ctx, opts.Fresh)
	if err != nil {
		return fmt.Errorf("receive from subscription %s: %w", sub, err)
	}
	defer hangUp()
	s := client.Subscriber(sub)
	s.ReceiveSettings = pubsub.ReceiveSettings{
		MaxOutstandingMessages: opts.MaxMessages,
		MaxOutstandingBytes:    opts.MaxBytes,
		MaxExtension:           opts.MaxExtension,
		// A crashed worker's messages come back after one extension, so it is as short as the service allows.
		MaxDurationPerAckExtension: 10 * time.Second,
		EnablePerStreamFlowControl: true,
		NumGoroutines:              1,
		// No ShutdownOptions: with a timeout set, the client returns before it has sent the last
		// acknowledgements, and settled messages would come again.
	}
	err = s.Receive(ctx, func(ctx context.Context, m *pubsub.Message) {
		if handle(ctx, fromPubsub(m)) {
			m.Ack()
		} else {
			m.Nack()
		}
	})
	if err != nil {
		return fmt.Errorf("receive from subscription %s: %w", sub, classify(err))
	}
	return nil
}

// Waiting tells whether a message waits on the subscription, whatever the streams that are open on it
// receive: it asks for one over a connection of its own and gives it back at once, which counts as a
// delivery attempt of that message.
func (c *Client) Waiting(ctx context.Context, sub string) (bool, error) {
	client, hangUp, err := c.connection(ctx, true)
	if err != nil {
		return false, fmt.Errorf("look at subscription %s: %w", sub, err)
	}
	defer hangUp()
	name := c.subscriptionName(sub)
	resp, err := client.SubscriptionAdminClient.Pull(ctx, &pubsubpb.PullRequest{
		Subscription: name, MaxMessages: 1,
		// A request that waits would take messages away from a stream that is well.
		ReturnImmediately: true, //nolint:staticcheck // It is discouraged for consuming, which this is not.
	})
	if err != nil {
		return false, fmt.Errorf("look at subscription %s: %w", sub, classify(err))
	}
	if len(resp.GetReceivedMessages()) == 0 {
		return false, nil
	}
	err = client.SubscriptionAdminClient.ModifyAckDeadline(ctx, &pubsubpb.ModifyAckDeadlineRequest{
		Subscription: name, AckIds: []string{resp.GetReceivedMessages()[0].GetAckId()}, AckDeadlineSeconds: 0,
	})
	if err != nil {
		return true, fmt.Errorf("give the message back to subscription %s: %w", sub, classify(err))
	}
	return true, nil
}

// connection returns the client to receive with, and what to call when it is done with.
func (c *Client) connection(ctx context.Context, fresh bool) (client *pubsub.Client, hangUp func(), err error) {
	if !fresh || c.opts.Redial == nil {
		return c.client, func() {}, nil
	}
	dial, err := c.opts.Redial()
	if err != nil {
		return nil, nil, fmt.Errorf("%w: dial again: %w", ErrUnavailable, err)
	}
	// Credentials may keep the context for as long as the client lives.
	client, err = pubsub.NewClient(context.WithoutCancel(ctx), c.opts.Project, dial...)
	if err != nil {
		return nil, nil, fmt.Errorf("dial again: %w", classify(err))
	}
	return client, func() { _ = client.Close() }, nil
}

func fromPubsub(m *pubsub.Message) Message {
	msg := Message{ID: m.ID, PublishTime: m.PublishTime, Data: m.Data, Attributes: m.Attributes}
	if m.DeliveryAttempt != nil {
		msg.DeliveryAttempt = *m.DeliveryAttempt
	}
	return msg
}

package bus

import (
	"context"
	"fmt"
	"time"

	"cloud.google.com/go/pubsub/v2"
)

// ReceiveOptions bound what one Receive holds at a time.
type ReceiveOptions struct {
	// MaxMessages and MaxBytes are the most that may be unsettled. Defaults 8000 and 64 MiB.
	MaxMessages int
	MaxBytes    int
	// MaxExtension is how long a message's lease is kept up. Default 10m.
	MaxExtension time.Duration
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
	s := c.client.Subscriber(sub)
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
	err := s.Receive(ctx, func(ctx context.Context, m *pubsub.Message) {
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

func fromPubsub(m *pubsub.Message) Message {
	msg := Message{ID: m.ID, PublishTime: m.PublishTime, Data: m.Data, Attributes: m.Attributes}
	if m.DeliveryAttempt != nil {
		msg.DeliveryAttempt = *m.DeliveryAttempt
	}
	return msg
}

// Package bus publishes to and receives from Pub/Sub. It is the only package that imports the
// Pub/Sub client.
package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/api/option"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The kinds of error that callers tell apart, with errors.Is.
var (
	// ErrUnavailable says that Pub/Sub could not be reached or asked for a retry.
	ErrUnavailable = errors.New("pub/sub unavailable")
	// ErrNotFound says that the topic or subscription does not exist.
	ErrNotFound = errors.New("not found in pub/sub")
	// ErrDenied says that the caller has no permission or no credentials.
	ErrDenied = errors.New("not allowed by pub/sub")
	// ErrRefused says that Pub/Sub refuses the request itself, such as a message that is too large.
	ErrRefused = errors.New("refused by pub/sub")
)

// Limits of one publish request, from the service's documentation.
const (
	MaxBatchMessages = 1000
	MaxBatchBytes    = 9 << 20
)

// Options say which project to open.
type Options struct {
	Project string
	// PublishDelay is how long a single message waits for company. Default 1ms.
	PublishDelay time.Duration
	// PublishTimeout bounds one request of Publish with the client's own retries, and so also how
	// long Close waits when the service cannot be reached. Default 10s.
	PublishTimeout time.Duration
	// Client options say where to dial; none dials Google Cloud with the default credentials.
	Client []option.ClientOption
	// Redial returns options that dial a connection of their own, for a look past the one of Client
	// (Waiting, ReceiveOptions.Fresh). Nil uses the one of Client.
	Redial func() ([]option.ClientOption, error)
}

// Message is one message, received or to be sent.
type Message struct {
	// ID and PublishTime are set by the service.
	ID          string
	PublishTime time.Time
	Data        []byte
	Attributes  map[string]string
	// DeliveryAttempt counts from 1; it is 0 when the subscription has no dead-letter policy.
	DeliveryAttempt int
}

// Client is one project's Pub/Sub. It is safe for concurrent use.
type Client struct {
	opts   Options
	client *pubsub.Client

	mu         sync.Mutex
	publishers map[string]*pubsub.Publisher
}

// Open connects to the project. It does not fail when the service cannot be reached; Ping does.
func Open(ctx context.Context, opts Options) (*Client, error) {
	if opts.Project == "" {
		return nil, errors.New("bus: project is not set")
	}
	if opts.PublishDelay == 0 {
		opts.PublishDelay = time.Millisecond
	}
	if opts.PublishTimeout == 0 {
		opts.PublishTimeout = 10 * time.Second
	}
	client, err := pubsub.NewClient(ctx, opts.Project, opts.Client...)
	if err != nil {
		return nil, fmt.Errorf("open pub/sub of project %s: %w", opts.Project, err)
	}
	return &Client{opts: opts, client: client, publishers: map[string]*pubsub.Publisher{}}, nil
}

// Close sends what waits and ends the connection.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.publishers {
		p.Stop()
	}
	clear(c.publishers)
	return c.client.Close()
}

// Ping asks the service whether the topic exists. A caller with the right to publish only is
// refused the answer, which shows as much: the service is there.
func (c *Client) Ping(ctx context.Context, topic string) error {
	_, err := c.client.TopicAdminClient.GetTopic(ctx, &pubsubpb.GetTopicRequest{Topic: c.topicName(topic)})
	if err = classify(err); err != nil && !errors.Is(err, ErrDenied) {
		return fmt.Errorf("look up topic %s: %w", topic, err)
	}
	return nil
}

// Publish sends one message and returns its id once the service has it. Concurrent calls share requests.
func (c *Client) Publish(ctx context.Context, topic string, data []byte, attributes map[string]string) (string, error) {
	id, err := c.publisher(topic).Publish(ctx, &pubsub.Message{Data: data, Attributes: attributes}).Get(ctx)
	if err != nil {
		return "", fmt.Errorf("publish to topic %s: %w", topic, classify(err))
	}
	return id, nil
}

func (c *Client) publisher(topic string) *pubsub.Publisher {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.publishers[topic]
	if !ok {
		p = c.client.Publisher(topic)
		p.PublishSettings.DelayThreshold = c.opts.PublishDelay
		p.PublishSettings.Timeout = c.opts.PublishTimeout
		c.publishers[topic] = p
	}
	return p
}

// PublishBatch sends messages in one request, so the service keeps their order, and returns
// their ids. At most MaxBatchMessages and MaxBatchBytes fit.
func (c *Client) PublishBatch(ctx context.Context, topic string, messages []Message) ([]string, error) {
	if len(messages) == 0 {
		return nil, nil
	}
	req := &pubsubpb.PublishRequest{Topic: c.topicName(topic), Messages: make([]*pubsubpb.PubsubMessage, len(messages))}
	for i, m := range messages {
		req.Messages[i] = &pubsubpb.PubsubMessage{Data: m.Data, Attributes: m.Attributes}
	}
	resp, err := c.client.TopicAdminClient.Publish(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("publish %d messages to topic %s: %w", len(messages), topic, classify(err))
	}
	if len(resp.GetMessageIds()) != len(messages) {
		return nil, fmt.Errorf("publish to topic %s: %w: %d ids for %d messages", topic, ErrUnavailable, len(resp.GetMessageIds()), len(messages))
	}
	return resp.GetMessageIds(), nil
}

func (c *Client) topicName(topic string) string {
	return "projects/" + c.opts.Project + "/topics/" + topic
}

func (c *Client) subscriptionName(sub string) string {
	return "projects/" + c.opts.Project + "/subscriptions/" + sub
}

// classify adds the kind of an error from the client.
func classify(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	switch status.Code(err) {
	case codes.NotFound:
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	case codes.PermissionDenied, codes.Unauthenticated:
		return fmt.Errorf("%w: %w", ErrDenied, err)
	case codes.InvalidArgument, codes.FailedPrecondition, codes.OutOfRange:
		return fmt.Errorf("%w: %w", ErrRefused, err)
	default:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
}

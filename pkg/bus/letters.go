package bus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
)

// LettersOptions say how a subscription is looked through.
type LettersOptions struct {
	// PageMessages is the most that one Next returns. Default 1000, the service's own limit.
	PageMessages int
	// Lease is how long the messages stay hidden from others when this process is killed: 10s to
	// 10m. It is renewed until Close. Default 20s.
	Lease time.Duration
	// EmptyAnswers is how many answers without a message in a row mean that none is left: the
	// service may give one although it has some. Default 4.
	EmptyAnswers int
	// Pause is the wait after the first empty answer; it doubles with each. Default 100ms.
	Pause time.Duration
	// MaxHeld bounds how many messages are held at a time, and so memory, at about 1 KB each.
	// Default 250000.
	MaxHeld int
	// CallTimeout bounds one request with the client's own retries. Default 15s.
	CallTimeout time.Duration
}

// Defaults fills in what is not set.
func (o LettersOptions) Defaults() LettersOptions {
	if o.PageMessages == 0 {
		o.PageMessages = 1000
	}
	if o.Lease == 0 {
		o.Lease = 20 * time.Second
	}
	if o.EmptyAnswers == 0 {
		o.EmptyAnswers = 4
	}
	if o.Pause == 0 {
		o.Pause = 100 * time.Millisecond
	}
	if o.MaxHeld == 0 {
		o.MaxHeld = 250_000
	}
	if o.CallTimeout == 0 {
		o.CallTimeout = 15 * time.Second
	}
	return o
}

// ErrHeldEnough ends Next when MaxHeld messages are held. There may be more.
var ErrHeldEnough = errors.New("more messages are waiting than can be held at a time")

// Letters looks through a subscription page by page without taking anything away. What it has
// returned stays leased to it, because a message given back at once would only come again, until
// Remove takes it away for good, Return gives it back, or Close gives everything back. What others
// hold at the time is not seen. Next, Remove and Return must not be called at the same time.
type Letters struct {
	client *Client
	sub    string
	opts   LettersOptions

	stop  context.CancelFunc
	ended chan struct{}

	mu     sync.Mutex
	known  map[string]holding // by message id
	held   int
	broken error // of the renewal
}

// holding is what is known of a message: its lease, or that it was removed.
type holding struct {
	ackID string // "" when it was given back
	done  bool   // Remove was called
}

// The most ids that go into one request of 512 KiB.
const ackIDsPerRequest = 1000

// Letters begins to look through a subscription. The caller must Close it.
func (c *Client) Letters(sub string, opts LettersOptions) *Letters {
	ctx, stop := context.WithCancel(context.Background())
	l := &Letters{client: c, sub: sub, opts: opts.Defaults(), stop: stop, ended: make(chan struct{}), known: map[string]holding{}}
	go l.renew(ctx)
	return l
}

// Next returns messages that were not returned before, io.EOF when none is left, or ErrHeldEnough.
func (l *Letters) Next(ctx context.Context) ([]Message, error) {
	for empty := 0; ; {
		room, err := l.room()
		if err != nil {
			return nil, err
		}
		got, err := l.pull(ctx, room)
		if err != nil {
			return nil, fmt.Errorf("pull from subscription %s: %w", l.sub, err)
		}
		page, err := l.take(ctx, got)
		if err != nil || len(page) > 0 {
			return page, err
		}
		if empty++; empty >= l.opts.EmptyAnswers {
			return nil, io.EOF
		}
		select {
		case <-time.After(l.opts.Pause << (empty - 1)):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// room is how many messages may come, or why none.
func (l *Letters) room() (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return 0, l.broken
	}
	if l.held >= l.opts.MaxHeld {
		return 0, fmt.Errorf("subscription %s: %w", l.sub, ErrHeldEnough)
	}
	return min(l.opts.PageMessages, l.opts.MaxHeld-l.held), nil
}

func (l *Letters) pull(ctx context.Context, most int) ([]*pubsubpb.ReceivedMessage, error) {
	var resp *pubsubpb.PullResponse
	err := l.call(ctx, func(ctx context.Context) (err error) {
		resp, err = l.client.client.SubscriptionAdminClient.Pull(ctx, &pubsubpb.PullRequest{
			Subscription: l.client.subscriptionName(l.sub), MaxMessages: int32(most),
			// A pull that waits must be cut off on our side, and what was on its way then would stay
			// hidden for an acknowledgement deadline.
			ReturnImmediately: true, //nolint:staticcheck // See above.
		})
		return err
	})
	return resp.GetReceivedMessages(), err
}

// take leases what was pulled, and returns what is new among it. Delivery is at least once, so that
// a message may come again in spite of its lease: then its newest lease is the one that counts.
func (l *Letters) take(ctx context.Context, got []*pubsubpb.ReceivedMessage) ([]Message, error) {
	var page []Message
	var leases, again []string
	l.mu.Lock()
	for _, r := range got {
		id := r.GetMessage().GetMessageId()
		was, seen := l.known[id]
		if was.done {
			again = append(again, r.GetAckId())
			continue
		}
		if was.ackID == "" {
			l.held++
		}
		l.known[id] = holding{ackID: r.GetAckId()}
		leases = append(leases, r.GetAckId())
		if !seen {
			page = append(page, fromPulled(r))
		}
	}
	l.mu.Unlock()
	if err := l.acknowledge(ctx, again); err != nil {
		return nil, err
	}
	return page, l.extend(ctx, leases, l.opts.Lease)
}

func fromPulled(r *pubsubpb.ReceivedMessage) Message {
	m := r.GetMessage()
	return Message{
		ID: m.GetMessageId(), PublishTime: m.GetPublishTime().AsTime(), Data: m.GetData(),
		Attributes: m.GetAttributes(), DeliveryAttempt: int(r.GetDeliveryAttempt()),
	}
}

// Remove acknowledges messages that Next returned, which takes them away for good. It goes on when
// the context ends, because it follows what cannot be undone.
func (l *Letters) Remove(ctx context.Context, ids []string) error {
	acks := l.release(ids, true)
	return l.acknowledge(context.WithoutCancel(ctx), acks)
}

// Return gives messages back before Close does, for others to see.
func (l *Letters) Return(ctx context.Context, ids []string) error {
	return l.extend(context.WithoutCancel(ctx), l.release(ids, false), 0)
}

// release notes that messages are held no more, and returns their leases.
func (l *Letters) release(ids []string, done bool) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	acks := make([]string, 0, len(ids))
	for _, id := range ids {
		h, ok := l.known[id]
		if !ok || h.ackID == "" {
			continue
		}
		acks = append(acks, h.ackID)
		l.known[id] = holding{done: done}
		l.held--
	}
	return acks
}

// Close gives back what is still held. What it cannot give back comes back when its lease ends.
func (l *Letters) Close() error {
	l.stop()
	<-l.ended
	l.mu.Lock()
	ids := make([]string, 0, l.held)
	for id, h := range l.known {
		if h.ackID != "" {
			ids = append(ids, id)
		}
	}
	l.mu.Unlock()
	return l.Return(context.Background(), ids)
}

// renew keeps the leases up until Close.
func (l *Letters) renew(ctx context.Context) {
	defer close(l.ended)
	const renewals = 3 // One may fail, or a machine may be slow.
	tick := time.NewTicker(l.opts.Lease / renewals)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		l.mu.Lock()
		acks := make([]string, 0, l.held)
		for _, h := range l.known {
			if h.ackID != "" {
				acks = append(acks, h.ackID)
			}
		}
		l.mu.Unlock()
		if err := l.extend(ctx, acks, l.opts.Lease); err != nil && ctx.Err() == nil {
			l.mu.Lock()
			l.broken = err
			l.mu.Unlock()
			return
		}
	}
}

// extend sets the end of leases to d from now; 0 gives the messages back.
func (l *Letters) extend(ctx context.Context, acks []string, d time.Duration) error {
	err := l.inParts(ctx, acks, func(ctx context.Context, part []string) error {
		return l.client.client.SubscriptionAdminClient.ModifyAckDeadline(ctx, &pubsubpb.ModifyAckDeadlineRequest{
			Subscription: l.client.subscriptionName(l.sub), AckIds: part, AckDeadlineSeconds: int32(d / time.Second),
		})
	})
	if err != nil {
		return fmt.Errorf("hold messages of subscription %s: %w", l.sub, err)
	}
	return nil
}

func (l *Letters) acknowledge(ctx context.Context, acks []string) error {
	err := l.inParts(ctx, acks, func(ctx context.Context, part []string) error {
		return l.client.client.SubscriptionAdminClient.Acknowledge(ctx, &pubsubpb.AcknowledgeRequest{
			Subscription: l.client.subscriptionName(l.sub), AckIds: part,
		})
	})
	if err != nil {
		return fmt.Errorf("acknowledge messages of subscription %s: %w", l.sub, err)
	}
	return nil
}

func (l *Letters) inParts(ctx context.Context, acks []string, do func(context.Context, []string) error) error {
	for len(acks) > 0 {
		n := min(len(acks), ackIDsPerRequest)
		if err := l.call(ctx, func(ctx context.Context) error { return do(ctx, acks[:n]) }); err != nil {
			return err
		}
		acks = acks[n:]
	}
	return nil
}

// call bounds a request, which the client would otherwise repeat for as long as its caller waits.
func (l *Letters) call(ctx context.Context, do func(context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, l.opts.CallTimeout)
	defer cancel()
	err := do(bounded)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case bounded.Err() != nil:
		return fmt.Errorf("%w: no answer within %s: %v", ErrUnavailable, l.opts.CallTimeout, err) //nolint:errorlint // Its deadline is not the caller's.
	}
	return classify(err)
}

package topiclog

import (
	"context"
	"errors"
	"io"
	"math"
	"sync/atomic"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/status"
)

// pullStream is one open StreamingPull.
type pullStream struct {
	server   *Server
	sub      *subscription
	rpc      pubsubpb.Subscriber_StreamingPullServer
	consumer *consumer
	answers  bool        // the client wants its pings answered
	pinged   atomic.Bool // and waits for it
}

// StreamingPull delivers until the client leaves, the subscription goes, or
// the server closes.
func (b *subscriber) StreamingPull(rpc pubsubpb.Subscriber_StreamingPullServer) error {
	first, err := rpc.Recv()
	if err != nil {
		return ended(err)
	}
	sub, err := b.subscription(first.GetSubscription())
	if err != nil {
		return err
	}
	if err := sub.alive(); err != nil {
		return err
	}
	if err := checkDeadline(first.GetStreamAckDeadlineSeconds(), int32(defaultAckDeadline/time.Second)); err != nil {
		return err
	}
	st := &pullStream{server: b.Server, sub: sub, rpc: rpc, consumer: b.streamConsumer(first), answers: first.GetProtocolVersion() > 0}
	if err := st.settle(first); err != nil {
		return err
	}
	sub.join(st.consumer)
	defer sub.leave(st.consumer)
	requests := make(chan error, 1)
	go func() { requests <- st.receive() }()
	return st.send(requests)
}

func (s *Server) streamConsumer(first *pubsubpb.StreamingPullRequest) *consumer {
	messages, bytes := first.GetMaxOutstandingMessages(), first.GetMaxOutstandingBytes()
	if messages <= 0 {
		messages = int64(s.opts.MaxOutstanding)
	}
	if bytes <= 0 {
		bytes = math.MaxInt64
	}
	c := newConsumer(int(min(messages, math.MaxInt32)), bytes)
	c.holds = true
	c.lease = time.Duration(first.GetStreamAckDeadlineSeconds()) * time.Second
	return c
}

// ended turns the end of the client's side into the status of the stream.
func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// send is the only sender of the stream. It sleeps until there is something to
// say.
func (st *pullStream) send(requests <-chan error) error {
	for {
		msgs, again, err := st.server.take(st.sub, st.consumer)
		if err != nil {
			return err
		}
		if len(msgs) > 0 || st.pinged.Swap(false) {
			if err := st.rpc.Send(st.response(msgs)); err != nil {
				return err
			}
			again = again || len(msgs) > 0
		}
		if again {
			select {
			case err := <-requests:
				return ended(err)
			default:
				continue
			}
		}
		select {
		case <-st.consumer.wake:
		case err := <-requests:
			return ended(err)
		case <-st.rpc.Context().Done():
			return status.FromContextError(st.rpc.Context().Err()).Err()
		case <-st.server.stop:
			return errClosing()
		}
	}
}

// response always tells the properties: clients take a missing answer for no.
func (st *pullStream) response(msgs []*pubsubpb.ReceivedMessage) *pubsubpb.StreamingPullResponse {
	cfg, _ := st.sub.config()
	return &pubsubpb.StreamingPullResponse{
		ReceivedMessages: msgs,
		SubscriptionProperties: &pubsubpb.StreamingPullResponse_SubscriptionProperties{
			MessageOrderingEnabled: cfg.GetEnableMessageOrdering(),
		},
	}
}

// receive handles what the client sends after its first request.
func (st *pullStream) receive() error {
	for {
		req, err := st.rpc.Recv()
		if err != nil {
			return err
		}
		if err := checkLaterRequest(req); err != nil {
			return err
		}
		if err := st.settle(req); err != nil {
			return err
		}
		if s := req.GetStreamAckDeadlineSeconds(); s > 0 {
			st.sub.setLease(st.consumer, time.Duration(s)*time.Second)
		}
		if st.answers && len(req.GetAckIds()) == 0 && len(req.GetModifyDeadlineAckIds()) == 0 {
			st.pinged.Store(true)
			st.consumer.signal()
		}
	}
}

func checkLaterRequest(req *pubsubpb.StreamingPullRequest) error {
	if req.GetSubscription() != "" || req.GetClientId() != "" || req.GetMaxOutstandingMessages() != 0 ||
		req.GetMaxOutstandingBytes() != 0 || req.GetProtocolVersion() != 0 {
		return invalid("The subscription, the client id, the limits and the protocol version can only be set in the first request of a stream.")
	}
	return checkDeadline(req.GetStreamAckDeadlineSeconds(), int32(defaultAckDeadline/time.Second))
}

// settle applies the acknowledgements and deadlines of one request.
func (st *pullStream) settle(req *pubsubpb.StreamingPullRequest) error {
	ids, seconds := req.GetModifyDeadlineAckIds(), req.GetModifyDeadlineSeconds()
	if len(ids) != len(seconds) {
		return invalid("The request modifies %d deadlines of %d ack ids.", len(seconds), len(ids))
	}
	acks, err := parseAckIDs(req.GetAckIds())
	if err != nil {
		return err
	}
	modified, err := parseAckIDs(ids)
	if err != nil {
		return err
	}
	for _, s := range seconds {
		if err := checkDeadline(s, 0); err != nil {
			return err
		}
	}
	if err := st.server.enter(); err != nil {
		return err
	}
	defer st.server.life.RUnlock()
	if len(acks) > 0 {
		st.sub.acknowledge(acks)
	}
	for i := 0; i < len(modified); {
		j := i + 1
		for j < len(modified) && seconds[j] == seconds[i] {
			j++
		}
		st.sub.modify(modified[i:j], time.Duration(seconds[i])*time.Second)
		i = j
	}
	return nil
}

// setLease changes the deadline of a stream's later deliveries.
func (s *subscription) setLease(c *consumer, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.lease = d
}

package topiclog

import (
	"maps"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
)

// deadLetterRetry is how long a message rests when its dead-letter topic did
// not take it. It is then delivered again, as in the service.
const deadLetterRetry = 10 * time.Second

const deadLetterBatch = 100

// deadLetter is a message that ran out of delivery attempts.
type deadLetter struct {
	msg      *pubsubpb.PubsubMessage
	attempts int
}

// startForwarding hands the dying entries to a goroutine, because publishing
// waits for the disk. The caller holds s.mu.
func (s *subscription) startForwarding() {
	if !s.forwarding && s.forward != nil {
		s.forwarding = true
		go s.forwardLoop()
	}
}

func (s *subscription) forwardLoop() {
	for {
		batch, letters, topic := s.nextDying()
		if len(batch) == 0 {
			return
		}
		err := s.forward(topic, letters)
		if err != nil {
			s.opts.Log.Warn("dead-letter topic refused messages", "subscription", s.name, "topic", topic, "messages", len(letters), "error", err)
		}
		s.forwarded(batch, err)
	}
}

// nextDying reads some dying messages. It ends the loop when there are none.
func (s *subscription) nextDying() (batch []*entry, letters []deadLetter, topic string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	policy := s.cfg.GetDeadLetterPolicy()
	for len(s.dying) > 0 && len(batch) < deadLetterBatch {
		e := s.dying[0]
		s.dying = s.dying[1:]
		if s.entries[e.seq] != e {
			continue
		}
		m, err := s.topic.log.read(&s.again, e.seq)
		if err != nil || policy == nil {
			s.makeReady(e)
			continue
		}
		batch = append(batch, e)
		letters = append(letters, deadLetter{m.pb, e.attempts})
	}
	s.forwarding = len(batch) > 0
	s.wakeReady()
	return batch, letters, policy.GetDeadLetterTopic()
}

func (s *subscription) forwarded(batch []*entry, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.opts.Now().UnixNano()
	for _, e := range batch {
		switch {
		case s.entries[e.seq] != e: // a seek or a deletion came between
		case err == nil:
			s.remove(e)
		default:
			s.delay(e, now+int64(deadLetterRetry))
		}
	}
	s.arm(now)
	s.wakeReady()
}

// deadLetterMessage is the message that the dead-letter topic gets.
func deadLetterMessage(d deadLetter, subscription string) *pubsubpb.PubsubMessage {
	attrs := maps.Clone(d.msg.GetAttributes())
	if attrs == nil {
		attrs = map[string]string{}
	}
	parts := strings.Split(subscription, "/")
	const prefix = "CloudPubSubDeadLetterSource"
	attrs[prefix+"DeliveryCount"] = strconv.Itoa(d.attempts)
	attrs[prefix+"Subscription"] = parts[len(parts)-1]
	attrs[prefix+"SubscriptionProject"] = parts[1]
	attrs[prefix+"TopicPublishTime"] = d.msg.GetPublishTime().AsTime().Format("2006-01-02T15:04:05.000-07:00")
	return &pubsubpb.PubsubMessage{Data: d.msg.GetData(), Attributes: attrs, OrderingKey: d.msg.GetOrderingKey()}
}

// maxAttempts is the number of deliveries after which a message is dead.
func maxAttempts(p *pubsubpb.DeadLetterPolicy) int {
	if n := p.GetMaxDeliveryAttempts(); n > 0 {
		return int(n)
	}
	return defaultAttempts
}

// backoff is the wait after the given number of deliveries: the minimum,
// doubled with every failure, up to the maximum. Without a policy it is 0.
func backoff(p *pubsubpb.RetryPolicy, attempts int) time.Duration {
	if p == nil {
		return 0
	}
	low, high := defaultMinBackoff, defaultMaxBackoff
	if d := p.GetMinimumBackoff(); d != nil {
		low = d.AsDuration()
	}
	if d := p.GetMaximumBackoff(); d != nil {
		high = d.AsDuration()
	}
	d := low
	for i := 1; i < attempts && d < high; i++ {
		d *= 2
	}
	return min(d, high)
}

// ackDeadline is how long a subscription leases messages by default.
func ackDeadline(cfg *pubsubpb.Subscription) time.Duration {
	if n := cfg.GetAckDeadlineSeconds(); n > 0 {
		return time.Duration(n) * time.Second
	}
	return defaultAckDeadline
}

package topiclog

import (
	"cmp"
	"slices"
	"time"
)

// Stats is what a server holds at one moment, sorted by name.
type Stats struct {
	Topics        []TopicStats
	Subscriptions []SubscriptionStats
}

// TopicStats describes the stored log of a topic: messages and the bytes of
// their encodings, including those already acknowledged whose segment is still
// there.
type TopicStats struct {
	Topic    string
	Messages int64
	Bytes    int64
	Segments int
}

// SubscriptionStats describes what a subscription has still to do. The backlog
// counts every unacknowledged message, outstanding ones too, and messages that
// a filter will drop but that nobody has looked at yet.
type SubscriptionStats struct {
	Subscription    string
	Topic           string // the topic's full name, also after its deletion
	BacklogMessages int64
	BacklogBytes    int64
	Outstanding     int64     // leased to clients
	OldestUnacked   time.Time // publish time, zero without a backlog
}

// Stats reports the state of every topic and subscription. Names that could
// not be read are reported with what is known.
func (s *Server) Stats() Stats {
	var st Stats
	if s.enter() != nil {
		return st
	}
	defer s.life.RUnlock()
	s.mu.RLock()
	topics := make([]*topic, 0, len(s.topics))
	for _, t := range s.topics {
		topics = append(topics, t)
	}
	s.mu.RUnlock()
	for _, t := range topics {
		st.Topics = append(st.Topics, t.stats())
	}
	for _, sub := range s.allSubscriptions() {
		st.Subscriptions = append(st.Subscriptions, sub.stats())
	}
	slices.SortFunc(st.Topics, func(a, b TopicStats) int { return cmp.Compare(a.Topic, b.Topic) })
	slices.SortFunc(st.Subscriptions, func(a, b SubscriptionStats) int { return cmp.Compare(a.Subscription, b.Subscription) })
	return st
}

func (t *topic) stats() TopicStats {
	t.log.mu.RLock()
	defer t.log.mu.RUnlock()
	first, last := t.log.segs[0], t.log.segs[len(t.log.segs)-1]
	n := int64(t.log.end - first.base)
	return TopicStats{
		Topic: t.name, Messages: n, Segments: len(t.log.segs),
		Bytes: last.before + last.size - first.before - n*headerBytes,
	}
}

func (s *subscription) stats() SubscriptionStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := SubscriptionStats{Subscription: s.name, Topic: s.cfg.GetTopic(), BacklogMessages: int64(len(s.entries))}
	if s.gone != nil {
		return st
	}
	for e := s.first; e != nil; e = e.next {
		st.BacklogBytes += int64(e.bytes)
		if e.state == stateLeased {
			st.Outstanding++
		}
	}
	first, end := s.topic.log.bounds()
	if next := max(s.next, first); next < end {
		st.BacklogMessages += int64(end - next)
		from, ferr := s.topic.log.bytesBefore(next)
		to, terr := s.topic.log.bytesBefore(end)
		if ferr == nil && terr == nil {
			st.BacklogBytes += to - from
		}
	}
	if oldest, err := s.oldest(); err == nil && oldest != 0 {
		st.OldestUnacked = time.Unix(0, oldest)
	}
	return st
}

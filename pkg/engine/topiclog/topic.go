package topiclog

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
)

// topic is a log and those who need parts of it. It outlives its deletion for
// as long as a subscription has a backlog in it.
type topic struct {
	uid  uint64
	name string
	log  *messageLog
	now  func() time.Time

	deleted atomic.Bool
	cfg     atomic.Pointer[pubsubpb.Topic] // replaced, never changed
	readers atomic.Pointer[[]*subscription]

	mu    sync.Mutex // held while anything decides which part of the log stays
	subs  []*subscription
	snaps []*snapshot
}

// snapshot keeps a place in a topic.
type snapshot struct {
	uid   uint64
	topic *topic
	state cursorState
	cfg   *pubsubpb.Snapshot // replaced, never changed
}

func topicDir(uid uint64) string { return fmt.Sprintf("topics/%d", uid) }

func newTopic(uid uint64, cfg *pubsubpb.Topic, l *messageLog, opts Options) *topic {
	t := &topic{uid: uid, name: cfg.GetName(), log: l, now: opts.Now}
	t.cfg.Store(cfg)
	t.readers.Store(&[]*subscription{})
	l.onCommit = func() {
		for _, s := range *t.readers.Load() {
			s.notify()
		}
		if l.rolled.Swap(false) {
			go t.collectLogged()
		}
	}
	return t
}

// retention is how long the topic keeps messages for everybody, 0 when unset.
func (t *topic) retention() time.Duration {
	if d := t.cfg.Load().GetMessageRetentionDuration(); d != nil {
		return d.AsDuration()
	}
	return 0
}

// attach and detach change who reads the log. The caller holds t.mu.
func (t *topic) attach(s *subscription) { t.setReaders(append(slices.Clone(t.subs), s)) }

func (t *topic) detach(s *subscription) {
	t.setReaders(slices.DeleteFunc(slices.Clone(t.subs), func(o *subscription) bool { return o == s }))
}

func (t *topic) setReaders(subs []*subscription) {
	t.subs = subs
	t.readers.Store(&subs)
	t.log.caching.Store(len(subs) > 0)
}

// needed reports whether anybody can still read the log.
func (t *topic) needed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.deleted.Load() || len(t.subs) > 0 || len(t.snaps) > 0
}

// collect deletes the segments that nobody needs and forgets cached messages
// that everybody has read.
func (t *topic) collect() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now().UnixNano()
	_, needed := t.log.bounds()
	cutoff, read := int64(math.MaxInt64), needed
	if r := t.retention(); r > 0 {
		cutoff = max(now-int64(r), t.log.timeBeyond(t.log.opts.TopicBytes))
	}
	for _, s := range t.subs {
		f, c := s.needs(now)
		needed, cutoff = min(needed, f), min(cutoff, c)
		read = min(read, s.position())
	}
	for _, sn := range t.snaps {
		needed = min(needed, sn.state.floor())
	}
	t.log.trim(read)
	return t.log.collect(needed, cutoff)
}

func (t *topic) collectLogged() {
	if err := t.collect(); err != nil {
		t.log.opts.Log.Warn("apply retention", "topic", t.name, "error", err)
	}
}

// position is the first number the subscription has not looked at.
func (s *subscription) position() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next
}

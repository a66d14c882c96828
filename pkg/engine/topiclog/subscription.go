package topiclog

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
)

// subscription is a place in a topic's log and what became of the messages
// before it. Numbers below next are acknowledged unless they have an entry, so
// memory holds only what is out for delivery, waits for a retry, or waits for
// its ordering key.
type subscription struct {
	uid  uint64
	name string
	opts Options
	// hooks are set before the subscription is shared.
	onDirty func()                                                // state changed that belongs on the disk
	forward func(deadLetterTopic string, msgs []deadLetter) error // publishes durably

	flushing  sync.Mutex // held while the state file is written
	flushed   uint64     // number of the newest state file, guarded by flushing
	syncedAt  time.Time  // guarded by flushing
	discarded bool       // deleted, no more files; guarded by flushing

	mu         sync.Mutex
	cfg        *pubsubpb.Subscription // replaced, never changed
	match      matcher
	topic      *topic // nil when it was opened detached
	gone       error  // the status that ends streams and pulls
	created    uint64 // the log's end when the subscription was made
	generation uint64 // counts seeks; ack ids of earlier generations are void
	next       uint64 // first number never looked at
	entries    map[uint64]*entry
	first      *entry
	last       *entry
	ready      entryHeap
	timers     entryHeap
	keys       map[string]*keyQueue
	parked     int
	token      uint64
	fresh      logReader
	again      logReader
	idle       []*consumer // found nothing, oldest first
	consumers  int
	woken      int // consumers that were woken and have not come yet
	dying      []*entry
	forwarding bool
	timer      *time.Timer
	armedFor   int64
	dirty      bool
	closed     bool
}

// consumer is an open stream or a waiting Pull.
type consumer struct {
	wake        chan struct{} // capacity 1
	maxMessages int           // what it may hold at a time
	maxBytes    int64
	holds       bool // acknowledgements free its room

	// Guarded by the subscription's mutex.
	lease    time.Duration // 0 = as the subscription says
	messages int
	bytes    int64
	idle     bool
	blocked  bool
	woken    bool // from idle, and has not come yet
	served   bool // got messages the last time
}

func newConsumer(maxMessages int, maxBytes int64) *consumer {
	return &consumer{wake: make(chan struct{}, 1), maxMessages: maxMessages, maxBytes: maxBytes}
}

func (c *consumer) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *consumer) full() bool {
	return c.messages >= c.maxMessages || c.bytes >= c.maxBytes
}

func newSubscription(uid uint64, cfg *pubsubpb.Subscription, t *topic, created uint64, opts Options) (*subscription, error) {
	match, err := parseFilter(cfg.GetFilter())
	if err != nil {
		return nil, err
	}
	s := &subscription{
		uid: uid, name: cfg.GetName(), opts: opts, cfg: cfg, match: match, topic: t, created: created, next: created,
		ready: entryHeap{less: bySeq}, timers: entryHeap{less: byTime},
		onDirty: func() {},
	}
	s.clear()
	return s, nil
}

// clear forgets every entry. Streams get their room back.
func (s *subscription) clear() {
	for e := s.first; e != nil; e = e.next {
		s.release(e)
	}
	s.entries, s.keys = map[uint64]*entry{}, map[string]*keyQueue{}
	s.first, s.last, s.parked, s.dying = nil, nil, 0, nil
	s.ready.items, s.timers.items = nil, nil
}

// add makes an entry for the highest number so far.
func (s *subscription) add(seq uint64, bytes int, published int64) *entry {
	e := &entry{seq: seq, bytes: bytes, time: published, prev: s.last}
	if s.last == nil {
		s.first = e
	} else {
		s.last.next = e
	}
	s.last = e
	s.entries[seq] = e
	return e
}

// remove acknowledges an entry: whatever its state, nothing is left of it.
func (s *subscription) remove(e *entry) {
	switch e.state {
	case stateReady:
		s.ready.remove(e)
	case stateLeased, stateDelayed:
		s.timers.remove(e)
	case stateParked:
		s.parked--
	case stateDying:
	}
	s.release(e)
	if e.prev == nil {
		s.first = e.next
	} else {
		e.prev.next = e.next
	}
	if e.next == nil {
		s.last = e.prev
	} else {
		e.next.prev = e.prev
	}
	delete(s.entries, e.seq)
	s.leaveKey(e)
	s.changed()
}

// release gives a consumer the room of an entry back.
func (s *subscription) release(e *entry) {
	c := e.owner
	if c == nil {
		return
	}
	e.owner = nil
	c.messages--
	c.bytes -= int64(e.bytes)
	if c.blocked && !c.full() {
		c.blocked = false
		c.signal()
	}
}

// enterKey queues an entry behind its ordering key and reports whether an
// earlier message of the key is unsettled.
func (s *subscription) enterKey(e *entry, key string) bool {
	if key == "" || !s.cfg.GetEnableMessageOrdering() {
		return false
	}
	q := s.keys[key]
	if q == nil {
		q = &keyQueue{key: key}
		s.keys[key] = q
	}
	e.key = q
	q.waiting = append(q.waiting, e)
	if len(q.waiting) == 1 {
		return false
	}
	e.state = stateParked
	s.parked++
	return true
}

// leaveKey takes an entry out of its key's queue; the next one becomes ready.
func (s *subscription) leaveKey(e *entry) {
	q := e.key
	if q == nil {
		return
	}
	i := slices.Index(q.waiting, e)
	q.waiting = slices.Delete(q.waiting, i, i+1)
	if len(q.waiting) == 0 {
		delete(s.keys, q.key)
		return
	}
	if head := q.waiting[0]; head.state == stateParked {
		s.parked--
		s.makeReady(head)
	}
}

func (s *subscription) makeReady(e *entry) {
	e.state = stateReady
	s.ready.push(e)
}

// config returns the settings and the topic, nil once detached.
func (s *subscription) config() (*pubsubpb.Subscription, *topic) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cfg.GetDetached() {
		return s.cfg, nil
	}
	return s.cfg, s.topic
}

func (s *subscription) setConfig(cfg *pubsubpb.Subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg = cfg
}

// alive returns the status that ends streams and pulls, nil while they may go
// on.
func (s *subscription) alive() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gone
}

func (s *subscription) changed() {
	if !s.dirty {
		s.dirty = true
		s.onDirty()
	}
}

// floor is the lowest number that the subscription still needs.
func (s *subscription) floor() uint64 {
	if s.first != nil {
		return s.first.seq
	}
	return s.next
}

// retention is how long messages count: the longer of the subscription's and
// the topic's.
func (s *subscription) retention() time.Duration {
	d := defaultRetention
	if r := s.cfg.GetMessageRetentionDuration(); r != nil {
		d = r.AsDuration()
	}
	if s.topic != nil {
		d = max(d, s.topic.retention())
	}
	return min(d, s.opts.MaxRetention)
}

func (s *subscription) cutoff(now int64) int64 { return now - int64(s.retention()) }

// needs returns the lowest number that must stay in the log and the publish
// time from which on everything must stay.
func (s *subscription) needs(now int64) (floor uint64, cutoff int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cutoff = math.MaxInt64
	if s.cfg.GetRetainAckedMessages() {
		cutoff = s.cutoff(now)
	}
	return s.floor(), cutoff
}

// expireOld drops what is past its retention, delivered or not.
func (s *subscription) expireOld(now int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone != nil {
		return nil
	}
	cutoff := s.cutoff(now)
	for s.first != nil && s.first.time < cutoff {
		s.remove(s.first)
	}
	seq, err := s.topic.log.seqAt(cutoff)
	if err != nil {
		return fmt.Errorf("find the oldest message of %s: %w", s.name, err)
	}
	if seq > s.next {
		s.next = seq
		s.changed()
	}
	s.wakeReady()
	return nil
}

// restore loads the entries a file knows of and reads what is needed about
// them from the log.
func (s *subscription) restore(st cursorState) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, end := s.topic.log.bounds()
	s.clear()
	s.generation, s.next = st.generation, min(st.next, end)
	for _, r := range st.runs {
		for seq := r.start; seq < r.start+r.count && seq < s.next; seq++ {
			if err := s.restoreOne(seq, r.attempts); err != nil {
				return err
			}
		}
	}
	s.changed()
	return nil
}

func (s *subscription) restoreOne(seq uint64, attempts int) error {
	m, err := s.topic.log.read(&s.again, seq)
	if errors.Is(err, errGone) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("restore subscription %s: %w", s.name, err)
	}
	if s.match != nil && !s.match(m.pb.GetAttributes()) {
		return nil
	}
	e := s.add(seq, m.bytes, m.time)
	e.attempts, e.restored = attempts, true
	if !s.enterKey(e, m.pb.GetOrderingKey()) {
		s.makeReady(e)
	}
	return nil
}

// state is what a file or a snapshot needs to know.
func (s *subscription) state() cursorState {
	st := cursorState{generation: s.generation, next: s.next}
	for e := s.first; e != nil; e = e.next {
		if n := len(st.runs); n > 0 {
			r := &st.runs[n-1]
			if r.start+r.count == e.seq && r.attempts == e.attempts {
				r.count++
				continue
			}
		}
		st.runs = append(st.runs, run{start: e.seq, count: 1, attempts: e.attempts})
	}
	return st
}

package ingest

import (
	"sync"
	"sync/atomic"
	"time"
)

// heldLists is how many lists share the messages in work, so that one lock is not everybody's.
const heldLists = 8

// holding knows the messages between their receipt and their settlement, to tell how old they are.
type holding struct {
	next  atomic.Uint32
	lists [heldLists]heldList
}

// heldList is a ring of messages in the order of their receipt, its head standing between the last and the first.
type heldList struct {
	mu   sync.Mutex
	head held
}

// held is one message in work. Times are Unix nanoseconds.
type held struct {
	published, received int64
	again               bool // it was delivered before
	list                *heldList
	before, after       *held
}

func newHolding() *holding {
	h := &holding{}
	for i := range h.lists {
		head := &h.lists[i].head
		head.before, head.after = head, head
	}
	return h
}

// take adds a message.
func (h *holding) take(published, received time.Time, again bool) *held {
	m := &held{published: published.UnixNano(), received: received.UnixNano(), again: again}
	m.list = &h.lists[h.next.Add(1)%heldLists]
	m.list.mu.Lock()
	defer m.list.mu.Unlock()
	head := &m.list.head
	m.before, m.after = head.before, head
	m.before.after, head.before = m, m
	return m
}

// release removes it again.
func (m *held) release() {
	m.list.mu.Lock()
	defer m.list.mu.Unlock()
	m.before.after, m.after.before = m.after, m.before
}

// ages returns the age by publish time of the oldest message that was not delivered before, and how
// long the one that was received first is held. Messages of a clock that runs ahead count as new. One
// delivered again says nothing about how far behind the process is, only that it failed once.
func (h *holding) ages(now time.Time) (lag, heldFor time.Duration) {
	oldest, first := now.UnixNano(), now.UnixNano()
	for i := range h.lists {
		l := &h.lists[i]
		l.mu.Lock()
		for m := l.head.after; m != &l.head; m = m.after {
			first = min(first, m.received)
			if !m.again {
				oldest = min(oldest, m.published)
			}
		}
		l.mu.Unlock()
	}
	return time.Duration(now.UnixNano() - oldest), time.Duration(now.UnixNano() - first)
}

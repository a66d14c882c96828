package topiclog

// entryState says where an unacknowledged message is.
type entryState uint8

const (
	stateReady   entryState = iota // may be delivered again; in the ready heap
	stateLeased                    // with a consumer until entry.at; in the timer heap
	stateDelayed                   // backing off until entry.at; in the timer heap
	stateParked                    // waits for an earlier message of its ordering key
	stateDying                     // on its way to the dead-letter topic
)

// entry is one message that a subscription has looked at and that is not
// acknowledged. Entries form a list in log order.
type entry struct {
	seq      uint64
	time     int64 // published
	at       int64 // when the lease or the backoff ends
	token    uint64
	bytes    int
	attempts int
	heapAt   int
	state    entryState
	restored bool // came from a file, so any earlier ack id may settle it
	owner    *consumer
	key      *keyQueue
	prev     *entry
	next     *entry
}

// keyQueue holds the unacknowledged messages of one ordering key in log order.
// Only the first may be out for delivery.
type keyQueue struct {
	key     string
	waiting []*entry
}

// entryHeap is a binary heap that knows where its entries are, so any of them
// can leave. An entry is in one heap at a time.
type entryHeap struct {
	items []*entry
	less  func(a, b *entry) bool
}

func bySeq(a, b *entry) bool { return a.seq < b.seq }
func byTime(a, b *entry) bool {
	return a.at < b.at || a.at == b.at && a.seq < b.seq
}

func (h *entryHeap) min() *entry {
	if len(h.items) == 0 {
		return nil
	}
	return h.items[0]
}

func (h *entryHeap) push(e *entry) {
	e.heapAt = len(h.items)
	h.items = append(h.items, e)
	h.up(e.heapAt)
}

func (h *entryHeap) remove(e *entry) {
	i, last := e.heapAt, len(h.items)-1
	h.swap(i, last)
	h.items[last] = nil
	h.items = h.items[:last]
	if i < last {
		h.fix(h.items[i])
	}
	if last == 0 {
		h.items = nil
	}
}

func (h *entryHeap) fix(e *entry) {
	h.up(e.heapAt)
	h.down(e.heapAt)
}

func (h *entryHeap) swap(i, j int) {
	h.items[i], h.items[j] = h.items[j], h.items[i]
	h.items[i].heapAt, h.items[j].heapAt = i, j
}

func (h *entryHeap) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !h.less(h.items[i], h.items[parent]) {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h *entryHeap) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(h.items) {
			return
		}
		if right := child + 1; right < len(h.items) && h.less(h.items[right], h.items[child]) {
			child = right
		}
		if !h.less(h.items[child], h.items[i]) {
			return
		}
		h.swap(i, child)
		i = child
	}
}

package replay

import (
	"cmp"
	"hash/maphash"
	"strconv"

	"github.com/latamctl/latamctl/pkg/bus"
)

// stamp orders the records of one key: by event time, then as they were published.
type stamp struct {
	event, published int64 // Unix milliseconds and nanoseconds
	id               uint64
}

func stampOf(event int64, m bus.Message) stamp {
	// Ids grow within a topic as decimal numbers do. One of another kind says nothing about the order.
	id, _ := strconv.ParseUint(m.ID, 10, 64)
	return stamp{event: event, published: m.PublishTime.UnixNano(), id: id}
}

func (s stamp) before(o stamp) bool {
	return cmp.Or(cmp.Compare(s.event, o.event), cmp.Compare(s.published, o.published), cmp.Compare(s.id, o.id)) < 0
}

// digest stands for a text. Of a hundred million texts no two have the same one, as far as anybody
// will ever see.
type digest [2]uint64

// digester makes digests, which hold within this process.
type digester [2]maphash.Seed

func newDigester() digester { return digester{maphash.MakeSeed(), maphash.MakeSeed()} }

func (d digester) of(text string) digest {
	return digest{maphash.String(d[0], text), maphash.String(d[1], text)}
}

// memory remembers at least the last max keys that were put, in two generations, so that a topic of
// any length is read in a bounded amount of memory.
type memory[V any] struct {
	max       int
	now, past map[digest]V
	// forget, when set, is given what leaves the memory.
	forget func(map[digest]V)
}

func newMemory[V any](limit int) memory[V] {
	return memory[V]{max: limit, now: map[digest]V{}}
}

func (m *memory[V]) get(key digest) (V, bool) {
	if v, ok := m.now[key]; ok {
		return v, true
	}
	v, ok := m.past[key]
	return v, ok
}

func (m *memory[V]) put(key digest, v V) {
	if _, known := m.now[key]; !known && len(m.now) >= m.max {
		m.turn()
	}
	m.now[key] = v
	delete(m.past, key)
}

// turn makes room for a generation.
func (m *memory[V]) turn() {
	if m.forget != nil && len(m.past) > 0 {
		m.forget(m.past)
	}
	m.past, m.now = m.now, map[digest]V{}
}

// all calls each with everything that is remembered.
func (m *memory[V]) all(each func(digest, V)) {
	for _, generation := range []map[digest]V{m.past, m.now} {
		for key, v := range generation {
			each(key, v)
		}
	}
}

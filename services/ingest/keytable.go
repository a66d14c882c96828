package ingest

// keyTable maps row keys to values, and is emptied only as a whole. A look at a key that is not in it
// mostly touches four bytes, where a map of this size costs a few cache misses for each message.
type keyTable[T any] struct {
	slots   []uint32 // index+1 of an entry at its hash or behind it, 0 where there is none
	entries []keyEntry[T]
}

type keyEntry[T any] struct {
	hash  uint64
	key   string
	value T
}

// minSlots is the size of the smallest table; one entry in slotsPerEntry slots keeps probes short.
const minSlots, slotsPerEntry = 64, 4

func (t *keyTable[T]) len() int { return len(t.entries) }

// find returns the value of a key, nil when it is not there. It is good until the next add.
func (t *keyTable[T]) find(hash uint64, key string) *T {
	if len(t.slots) == 0 {
		return nil
	}
	mask := uint64(len(t.slots) - 1)
	for at := hash & mask; t.slots[at] != 0; at = (at + 1) & mask {
		if e := &t.entries[t.slots[at]-1]; e.hash == hash && e.key == key {
			return &e.value
		}
	}
	return nil
}

// add puts in a key that is not there.
func (t *keyTable[T]) add(hash uint64, key string, value T) {
	t.entries = append(t.entries, keyEntry[T]{hash: hash, key: key, value: value})
	if slotsPerEntry*len(t.entries) > len(t.slots) {
		t.grow()
		return
	}
	t.place(len(t.entries) - 1)
}

func (t *keyTable[T]) place(entry int) {
	mask := uint64(len(t.slots) - 1)
	at := t.entries[entry].hash & mask
	for t.slots[at] != 0 {
		at = (at + 1) & mask
	}
	t.slots[at] = uint32(entry + 1)
}

func (t *keyTable[T]) grow() {
	t.slots = make([]uint32, max(minSlots, 2*len(t.slots)))
	for i := range t.entries {
		t.place(i)
	}
}

// reset empties the table and keeps its memory.
func (t *keyTable[T]) reset() {
	clear(t.slots)
	clear(t.entries)
	t.entries = t.entries[:0]
}

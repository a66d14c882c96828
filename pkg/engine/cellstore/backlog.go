package cellstore

import (
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// maxUnflushed is how many full write buffers may wait for their flush before
// writers have to.
const maxUnflushed = 3

// backlog counts the write buffers that are full but not flushed. Pebble would
// hold back writers by itself, but with no way out when flushes fail; so it is
// told not to, and commits wait here instead.
type backlog struct {
	mu      sync.Mutex
	waiting int
	flushed chan struct{} // closed at the next flush
}

func newBacklog() *backlog { return &backlog{flushed: make(chan struct{})} }

// rotated notes that a write buffer is full: the next one has begun its log.
func (b *backlog) rotated(info pebble.WALCreateInfo) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if info.Err == nil {
		b.waiting++
	}
}

// ended notes the end of a flush.
func (b *backlog) ended(info pebble.FlushInfo) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if info.Err == nil {
		// Large batches are flushed with the buffers but not counted here.
		b.waiting = max(0, b.waiting-info.Input)
	}
	close(b.flushed)
	b.flushed = make(chan struct{})
}

// reset forgets what opening the database has counted.
func (b *backlog) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = 0
}

// full returns a channel to wait for when too many buffers are unflushed, else
// nil.
func (b *backlog) full() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting < maxUnflushed {
		return nil
	}
	return b.flushed
}

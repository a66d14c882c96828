package cli

import (
	"io"
	"sync"
)

// patient is a writer that stops writing after the first error and never returns one: who closes
// the pipe early, as head does, must not end a run.
type patient struct {
	mu   sync.Mutex
	w    io.Writer
	dead bool
}

func (p *patient) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.dead {
		_, err := p.w.Write(b)
		p.dead = err != nil
	}
	return len(b), nil
}

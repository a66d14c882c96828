package bench

import (
	"context"
	"sync"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// keySink remembers the keys of the rows it is given.
type keySink struct {
	mu   sync.Mutex
	keys map[string]bool
}

// Put implements Sink.
func (s *keySink) Put(_ context.Context, _ string, rows []dataset.Row) []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, row := range rows {
		s.keys[row.Key] = true
	}
	return make([]error, len(rows))
}

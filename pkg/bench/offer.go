package bench

import (
	"context"
	"sync"
	"time"
)

// maxOffered bounds the requests under way. When it is reached the next one waits, which its latency
// shows.
const maxOffered = 4096

// Offer calls one for each request of the schedule when it is due, whether or not those before have an
// answer. Request i belongs to group i modulo groups. It returns for each group how long its requests
// took from when they were due; one that fails has no latency.
func Offer(ctx context.Context, s Schedule, groups int, one func(ctx context.Context, i int) error) ([]*Histogram, error) {
	took := make([]*Histogram, groups)
	for i := range took {
		took[i] = new(Histogram)
	}
	slots := make(chan struct{}, maxOffered)
	var all sync.WaitGroup
	start := time.Now()
	err := s.Run(ctx, start, func(i int, due time.Duration) {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		all.Go(func() {
			defer func() { <-slots }()
			if one(ctx, i) == nil {
				took[i%groups].Record(time.Since(start) - due)
			}
		})
	})
	all.Wait()
	return took, err
}

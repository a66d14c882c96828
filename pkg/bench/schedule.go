package bench

import (
	"context"
	"time"
)

// Schedule says when each message is due. It does not wait for answers: a slow system gets the
// next message all the same, and its delay shows in the latencies, which count from the due time.
type Schedule struct {
	PerSecond int
	For       time.Duration
}

// Total is the number of messages; it is 0 without a rate.
func (s Schedule) Total() int {
	return int(float64(s.PerSecond) * s.For.Seconds())
}

// Due is when message i is due, from the start.
func (s Schedule) Due(i int) time.Duration {
	whole, rest := i/s.PerSecond, i%s.PerSecond
	return time.Duration(whole)*time.Second + time.Duration(rest)*time.Second/time.Duration(s.PerSecond)
}

// DueBy is the number of messages that are due after that time.
func (s Schedule) DueBy(elapsed time.Duration) int {
	if elapsed < 0 {
		return 0
	}
	return min(s.Total(), int(elapsed.Seconds()*float64(s.PerSecond))+1)
}

// Run calls send for each message when it is due, in order, or at once when that time has passed.
// It returns the context's cause when that ends first.
func (s Schedule) Run(ctx context.Context, start time.Time, send func(i int, due time.Duration)) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := range s.Total() {
		due := s.Due(i)
		if wait := due - time.Since(start); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		send(i, due)
	}
	return nil
}

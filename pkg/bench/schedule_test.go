package bench

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestScheduleDue(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		s     Schedule
		total int
		i     int
		due   time.Duration
	}{
		{Schedule{1000, 5 * time.Second}, 5000, 0, 0},
		{Schedule{1000, 5 * time.Second}, 5000, 2500, 2500 * time.Millisecond},
		{Schedule{3, 2 * time.Second}, 6, 4, time.Second + time.Second/3},
		{Schedule{200, 300 * time.Millisecond}, 60, 59, 295 * time.Millisecond},
		// Far out, where a rounded interval would have drifted.
		{Schedule{30_000, 10 * time.Minute}, 18_000_000, 17_970_000, 599 * time.Second},
	} {
		if got := c.s.Total(); got != c.total {
			t.Errorf("%+v has %d messages, want %d", c.s, got, c.total)
		}
		if got := c.s.Due(c.i); got != c.due {
			t.Errorf("%+v: message %d is due at %s, want %s", c.s, c.i, got, c.due)
		}
	}
}

func TestScheduleDueBy(t *testing.T) {
	t.Parallel()
	s := Schedule{PerSecond: 100, For: time.Second}
	for elapsed, want := range map[time.Duration]int{
		-time.Second: 0, 0: 1, 9 * time.Millisecond: 1, 10 * time.Millisecond: 2, 995 * time.Millisecond: 100, time.Hour: 100,
	} {
		if got := s.DueBy(elapsed); got != want {
			t.Errorf("%d messages are due by %s, want %d", got, elapsed, want)
		}
	}
}

// TestScheduleKeepsItsTimes lets one send block: the messages after it are sent at once until the
// schedule is met again, and no due time moves.
func TestScheduleKeepsItsTimes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := Schedule{PerSecond: 100, For: 200 * time.Millisecond}
		const blocked = 45 * time.Millisecond
		start := time.Now()
		n := 0
		err := s.Run(t.Context(), start, func(i int, due time.Duration) {
			if i != n || due != time.Duration(i)*10*time.Millisecond {
				t.Errorf("send %d is of message %d, due at %s", n, i, due)
			}
			// Messages 5 to 9 were due while message 5 blocked, which was until 95ms.
			want := due
			if i > 5 && i < 10 {
				want = 50*time.Millisecond + blocked
			}
			if got := time.Since(start); got != want {
				t.Errorf("message %d is sent at %s, want %s", i, got, want)
			}
			if i == 5 {
				time.Sleep(blocked)
			}
			n++
		})
		if err != nil || n != 20 {
			t.Errorf("%d messages, %v; want 20", n, err)
		}
	})
}

func TestScheduleEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		enough := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(105*time.Millisecond, func() { cancel(enough) })
		n := 0
		start := time.Now()
		err := Schedule{PerSecond: 10, For: time.Hour}.Run(ctx, start, func(int, time.Duration) { n++ })
		if !errors.Is(err, enough) || n != 2 || time.Since(start) != 105*time.Millisecond {
			t.Errorf("ended after %s and %d messages with %v, want 105ms, 2 and %v", time.Since(start), n, err, enough)
		}
	})
}

//go:build fault

package fault_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/fault"
)

// TestF13ClockOfTheProcess runs ingest with a wrong clock: rows keep the time of their events.
func TestF13ClockOfTheProcess(t *testing.T) {
	t.Parallel()
	for _, offset := range []string{"-24h", "-1h", "1h", "24h"} {
		t.Run(offset, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, rigOptions{seed: newSeed(t)})
			r.ingest(fault.ClockVar + "=" + offset)
			r.publishAll(2000, r.mixed()...)
			r.settle()
			report := r.verdict("F13 " + offset)
			if report.Redelivered > report.Acked/20 {
				t.Errorf("%d of %d messages were delivered again, want 5 %% at most", report.Redelivered, report.Acked)
			}
		})
	}
}

// TestF13ClockOfTheServer lets the clock of Pub/Sub jump under load: every lease of the moment ends.
func TestF13ClockOfTheServer(t *testing.T) {
	t.Parallel()
	var offset atomic.Int64
	r := newRig(t, rigOptions{seed: newSeed(t), now: func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }})
	r.ingest()
	stop := r.paced(500, r.mixed()...)
	jumped := false
	eventually(t, time.Minute, func() (bool, string) {
		n := r.accepted.Load()
		if n > 1000 && !jumped {
			offset.Store(int64(90 * time.Second))
			jumped = true
		}
		return n >= 2000, fmt.Sprintf("%d messages", n)
	})
	stop()
	r.settle()
	report := r.verdict("F13 server", "jump_s=90")
	if report.Redelivered > report.Acked/20 {
		t.Errorf("%d of %d messages were delivered again, want 5 %% at most", report.Redelivered, report.Acked)
	}
}

//go:build fault

package fault_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/testkit/rpcfault"
)

// drainLimit is how long ingest may take to end.
const drainLimit = 20 * time.Second

// serverBatch is how many messages Pub/Sub puts into one response: what is on its way when the stream
// ends was never seen by ingest and comes again, which a stop cannot help.
const serverBatch = 500

// TestF10DrainUnderLoad stops ingest with SIGTERM again and again under full load.
func TestF10DrainUnderLoad(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{seed: newSeed(t)})
	stops := number(t, "LATAM_F10_STOPS", 10)
	share := number(t, "LATAM_F10_MESSAGES", 10_000) / stops
	loads := r.mixed()
	slowest, again := time.Duration(0), 0
	for range stops {
		before := r.host.faults.Counts()
		p := r.ingest()
		var publishing sync.WaitGroup
		publishing.Go(func() { r.publishAll(share, loads...) })
		eventually(t, 30*time.Second, func() (bool, string) {
			n := r.host.faults.Counts().RowsApplied - before.RowsApplied
			return n > int64(r.rng.IntN(share)), fmt.Sprintf("%d rows stored", n)
		})
		slowest = max(slowest, p.drain(drainLimit))
		publishing.Wait()
	}
	// What a stop gave back is delivered again, and nothing else here is.
	r.ingest()
	r.settle()
	again = int(r.host.faults.Counts().Redelivered)
	r.verdict("F10", fmt.Sprintf("stops=%d slowest_drain_s=%.2f", stops, slowest.Seconds()))
	if limit := stops * 2 * serverBatch; again > limit {
		t.Errorf("%d messages were delivered again by %d stops, want %d at most", again, stops, limit)
	}
}

// TestF10SecondSignalExitsAtOnce asks twice while a write hangs.
func TestF10SecondSignalExitsAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{seed: newSeed(t)})
	r.host.faults.SetWrites(rpcfault.Writes{Slow: 1, Delay: time.Minute})
	p := r.ingest()
	r.publishAll(500, r.mixed()[0])
	eventually(t, 20*time.Second, func() (bool, string) { return r.host.faults.Counts().Calls > 0, "no write" })
	p.signal()
	eventually(t, 5*time.Second, func() (bool, string) { return !p.isReady(), "it is still ready" })
	p.alive()
	began := time.Now()
	p.signal()
	if !p.endsWithin(time.Second) {
		t.Errorf("it still runs %s after the second signal", time.Since(began))
	}
	p.end()
	r.host.faults.SetWrites(noFaults)
	r.ingest()
	r.settle()
	r.verdict("F10 second signal")
}

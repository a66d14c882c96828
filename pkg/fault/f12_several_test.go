//go:build fault

package fault_test

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// TestF12SeveralIngesters runs three processes on one subscription and kills one of them again and
// again.
func TestF12SeveralIngesters(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{seed: newSeed(t)})
	messages, kills := number(t, "LATAM_F12_MESSAGES", 20_000), number(t, "LATAM_F12_KILLS", 6)
	processes := []*process{r.ingest(), r.ingest(), r.ingest()}
	loads := r.mixed()
	for range kills {
		var publishing sync.WaitGroup
		publishing.Go(func() { r.publishAll(messages/kills, loads...) })
		victim := r.rng.IntN(len(processes))
		processes[victim].endsWithin(time.Duration(r.rng.Int64N(int64(time.Second))))
		processes[victim].kill()
		publishing.Wait()
		processes[victim] = r.ingest()
	}
	r.settle()
	for _, p := range processes {
		p.alive()
	}
	report := r.verdict("F12", fmt.Sprintf("processes=%d kills=%d", len(processes), kills))
	if report.Redelivered == 0 {
		t.Error("no kill met a message under way")
	}
}

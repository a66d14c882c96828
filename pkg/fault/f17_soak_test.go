//go:build fault

package fault_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/latamctl/latamctl/pkg/testkit/netfault"
	"github.com/latamctl/latamctl/pkg/testkit/rpcfault"
)

// TestF17Soak mixes kills, broken writes and a limping network for LATAM_SOAK_MINUTES, and watches a
// process that lives through all of it.
func TestF17Soak(t *testing.T) {
	minutes := number(t, "LATAM_SOAK_MINUTES", 0)
	if minutes == 0 {
		t.Skip("LATAM_SOAK_MINUTES is not set")
	}
	r := newRig(t, rigOptions{seed: newSeed(t), disk: true})
	survivor, victim := r.ingest(), r.ingest()
	loads := r.mixed()
	for _, l := range loads {
		l.remark = 100
	}
	stop := r.paced(300, loads...)
	links := []netfault.Link{
		{}, {}, {Latency: 50 * time.Millisecond, Jitter: 40 * time.Millisecond}, {BytesPerSecond: 512 << 10}, {SliceBytes: 1000},
	}
	var memory, threads []int
	kills := 0
	for end := time.Now().Add(time.Duration(minutes) * time.Minute); time.Now().Before(end); kills++ {
		r.host.faults.SetWrites(rpcfault.Writes{
			Ambiguous: 0.05 * r.rng.Float64(), Late: 0.02 * r.rng.Float64(), Rows: 0.02 * r.rng.Float64(), RowCodes: []codes.Code{codes.Aborted, codes.Internal},
		})
		r.pubsub.Set(links[r.rng.IntN(len(links))])
		r.bigtable.Set(links[r.rng.IntN(len(links))])
		if r.rng.IntN(5) == 0 {
			r.pubsub.Reset()
			r.bigtable.Reset()
		}
		victim.endsWithin(time.Duration(r.rng.Int64N(int64(10 * time.Second))))
		victim.kill()
		survivor.alive()
		memory = append(memory, survivor.status("VmRSS"))
		threads = append(threads, int(survivor.metric("go_goroutines", "")))
		victim = r.ingest()
	}
	r.host.faults.SetWrites(noFaults)
	r.pubsub.Set(netfault.Link{})
	r.bigtable.Set(netfault.Link{})
	stop()
	r.settle()
	r.verdict("F17", fmt.Sprintf("minutes=%d kills=%d rss_mib=%d→%d goroutines=%d→%d", minutes, kills,
		middle(memory, 1)>>10, middle(memory, 2)>>10, middle(threads, 1), middle(threads, 2)))
	const room = 16 << 10 // KiB; the collector's own rhythm
	if a, b := middle(memory, 1), middle(memory, 2); b > a+a/20+room {
		t.Errorf("memory grew from %d to %d KiB", a, b)
	}
	if a, b := middle(threads, 1), middle(threads, 2); b > a+a/20+10 {
		t.Errorf("goroutines grew from %d to %d", a, b)
	}
}

// middle is the median of the second quarter of samples, or of the last one.
func middle(samples []int, half int) int {
	n := len(samples)
	from, to := n/4, n/2
	if half == 2 {
		from, to = n*3/4, n
	}
	quarter := slices.Sorted(slices.Values(samples[from:max(to, from+1)]))
	return quarter[len(quarter)/2]
}

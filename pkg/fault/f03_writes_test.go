//go:build fault

package fault_test

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/latamctl/latamctl/pkg/testkit/rpcfault"
)

// TestF03AmbiguousCommits answers writes that were applied with errors, and refuses rows one by one.
func TestF03AmbiguousCommits(t *testing.T) {
	t.Parallel()
	ambiguousCommits(t, "F3", 500, number(t, "LATAM_F03_MESSAGES", 10_000))
}

// TestF03SmallBatches does it to batches of 50 rows, which must not shrink by it.
func TestF03SmallBatches(t *testing.T) {
	t.Parallel()
	const messages, limit = 4000, 25 * time.Second
	if took := ambiguousCommits(t, "F3 small", 50, messages); took > limit {
		t.Errorf("%d messages took %s, want under %s", messages, took.Round(time.Millisecond), limit)
	}
}

// ambiguousCommits returns how long the messages took once all were published.
func ambiguousCommits(t *testing.T, name string, batch, messages int) (took time.Duration) {
	t.Helper()
	r := newRig(t, rigOptions{seed: newSeed(t), batch: batch})
	r.host.faults.SetWrites(rpcfault.Writes{
		Ambiguous: 0.20, Late: 0.05, Rows: 0.10,
		RowCodes: []codes.Code{codes.Aborted, codes.Aborted, codes.Internal, codes.ResourceExhausted},
	})
	r.ingest()
	r.publishAll(messages, r.mixed()...)
	took = r.settle()
	c := r.host.faults.Counts()
	report := r.verdict(name, fmt.Sprintf("calls=%d ambiguous=%d late=%d rows_refused=%d", c.Calls, c.Ambiguous, c.Late, c.RowsRefused))
	// A flight is written once for itself and once for its index.
	if mean := float64(c.RowsAsked)/float64(2*report.Rows) - 1; mean > 5 {
		t.Errorf("each row was tried %.1f times more than once, want 5 at most", mean)
	}
	if c.Ambiguous == 0 || c.Late == 0 || c.RowsRefused == 0 {
		t.Errorf("a fault did not happen: %+v", c)
	}
	if report.DeadHealthy > 0 {
		t.Error("a fault of the store was taken for one of the record")
	}
	return took
}

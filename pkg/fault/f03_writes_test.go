//go:build fault

package fault_test

import (
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/latamctl/latamctl/pkg/testkit/rpcfault"
)

// TestF03AmbiguousCommits answers writes that were applied with errors, and refuses rows one by one.
func TestF03AmbiguousCommits(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{seed: newSeed(t), batch: 500})
	r.host.faults.SetWrites(rpcfault.Writes{
		Ambiguous: 0.20, Late: 0.05, Rows: 0.10,
		RowCodes: []codes.Code{codes.Aborted, codes.Aborted, codes.Internal, codes.ResourceExhausted},
	})
	r.ingest()
	r.publishAll(number(t, "LATAM_F03_MESSAGES", 10_000), r.mixed()...)
	r.settle()
	c := r.host.faults.Counts()
	report := r.verdict("F3", fmt.Sprintf("calls=%d ambiguous=%d late=%d rows_refused=%d", c.Calls, c.Ambiguous, c.Late, c.RowsRefused))
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
}

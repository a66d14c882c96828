//go:build fault

package fault_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/latamctl/latamctl/pkg/fault"
	"github.com/latamctl/latamctl/pkg/testkit"
	"github.com/latamctl/latamctl/pkg/testkit/rpcfault"
)

// catchSeeds is within how many runs a mistake has to show.
const catchSeeds = 3

// TestCheckerCatches proves that the checker can fail: each mistake is caught by the figure that it
// belongs to, and the program without one stays clean in the same runs. Without this test, the other
// ones would prove nothing.
func TestCheckerCatches(t *testing.T) {
	t.Parallel()
	first := newSeed(t)
	for mistake, figure := range map[string]func(testkit.Report) int{
		fault.AckBeforeWrite:     func(r testkit.Report) int { return r.Lost },
		fault.ServerTimeCells:    func(r testkit.Report) int { return r.ExtraCells },
		fault.KeyFromMessageID:   func(r testkit.Report) int { return r.DuplicateRows },
		fault.DropOnDecodeError:  func(r testkit.Report) int { return r.Lost },
		fault.AckOnPartialErrors: func(r testkit.Report) int { return r.Lost },
	} {
		t.Run(mistake, func(t *testing.T) {
			t.Parallel()
			for seed := first; seed < first+catchSeeds; seed++ {
				r, report := catchRun(t, seed, fault.SabotageVar+"="+mistake)
				r.print("sabotage "+mistake, report)
				if figure(report) > 0 {
					return
				}
			}
			t.Errorf("%d runs did not catch %s", catchSeeds, mistake)
		})
	}
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		for seed := first; seed < first+catchSeeds; seed++ {
			r, _ := catchRun(t, seed)
			r.verdict("sabotage none")
		}
	})
	if len(fault.Mistakes()) != 5 {
		t.Errorf("there are the mistakes %v, of which this test knows 5", fault.Mistakes())
	}
}

// catchRun is one run with everything that makes a mistake show: kills, rows that fail alone,
// duplicates, disorder and poison.
func catchRun(t *testing.T, seed uint64, env ...string) (*rig, testkit.Report) {
	t.Helper()
	r := newRig(t, rigOptions{seed: seed})
	l := &load{rng: rand.New(rand.NewPCG(seed, 10)), duplicates: 0.10, poison: 0.02, disorder: 100}
	r.host.faults.SetWrites(rpcfault.Writes{
		Rows: 0.05, RowCodes: []codes.Code{codes.Internal, codes.ResourceExhausted}, Slow: 1, Delay: 50 * time.Millisecond,
	})
	for range 3 {
		r.publishAll(400, l)
		applied := r.host.faults.Counts().RowsApplied
		p := r.ingest(env...)
		eventually(t, settleLimit, func() (bool, string) {
			n := r.host.faults.Counts().RowsApplied - applied
			return n > int64(r.rng.IntN(200)) || r.host.stats().Backlog[subscription] == 0, fmt.Sprintf("%d rows", n)
		})
		p.kill()
	}
	r.ingest(env...)
	r.settle()
	return r, r.report()
}

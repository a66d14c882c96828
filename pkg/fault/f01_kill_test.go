//go:build fault

package fault_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/fault"
)

// TestF01KillMidBatch kills ingest at failpoints and at random times while records are published.
func TestF01KillMidBatch(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{seed: newSeed(t)})
	messages, kills := number(t, "LATAM_F01_MESSAGES", 10_000), number(t, "LATAM_F01_KILLS", 20)
	atPoints := r.killUnderLoad(messages, kills, r.mixed())
	r.ingest()
	drained := r.settle()
	report := r.verdict("F1", fmt.Sprintf("kills=%d kills_at_failpoints=%d drain_s=%.1f", kills, atPoints, drained.Seconds()))
	if report.Redelivered == 0 {
		t.Error("no message was delivered twice: no kill met one under way")
	}
	if atPoints == 0 {
		t.Error("no failpoint was hit")
	}
}

// killUnderLoad publishes a share of the messages around each kill, and returns how many of the kills
// happened at a failpoint.
func (r *rig) killUnderLoad(messages, kills int, loads []*load) (atPoints int) {
	r.t.Helper()
	for kill := range kills {
		share := messages*(kill+1)/kills - messages*kill/kills
		if r.killOnce(share, loads) {
			atPoints++
		}
	}
	return atPoints
}

// killOnce lets an ingest die while a share of the messages is published. Two in three die at a
// failpoint, if they come to it; the others at a random time.
func (r *rig) killOnce(share int, loads []*load) (atPoint bool) {
	r.t.Helper()
	points := append(fault.Points(), "", "", "")
	point := points[r.rng.IntN(len(points))]
	var env []string
	if point != "" {
		env = append(env, fmt.Sprintf("%s=%s=kill@%d", fault.FailpointsVar, point, 1+r.rng.IntN(hitsOf(point))))
	}
	p := r.spawn(env...)
	after := time.Duration(r.rng.Int64N(int64(400 * time.Millisecond)))
	r.publishAll(share/2, loads...)
	select {
	case <-p.ready:
	case <-p.ended:
	case <-time.After(60 * time.Second):
		r.t.Fatal("ingest did not start within 60s")
	}
	var publishing sync.WaitGroup
	publishing.Go(func() { r.publishAll(share-share/2, loads...) })
	switch {
	case point == fault.InDrain:
		p.endsWithin(after)
		_ = p.cmd.Process.Signal(sigterm)
		if !p.endsWithin(30 * time.Second) {
			r.t.Fatalf("%s still runs 30s after SIGTERM", p.name)
		}
		atPoint = !p.cmd.ProcessState.Exited()
		if !atPoint && p.cmd.ProcessState.ExitCode() != 0 {
			r.t.Errorf("%s: %s after SIGTERM", p.name, p.cmd.ProcessState)
		}
	case point != "":
		atPoint = p.endsWithin(time.Second)
		p.kill()
	default:
		p.endsWithin(after)
		p.kill()
	}
	publishing.Wait()
	return atPoint
}

// hitsOf is up to which hit of a point a load of some hundred messages comes.
func hitsOf(point string) int {
	switch point {
	case fault.BeforeDecode, fault.AfterAck:
		return 200
	case fault.BatchFull, fault.InDrain:
		return 2
	}
	return 10
}

// TestF02EachFailpoint kills ingest once at each failpoint, at its first, a middle and a late hit.
func TestF02EachFailpoint(t *testing.T) {
	t.Parallel()
	seeds := number(t, "LATAM_F02_SEEDS", 1)
	for _, point := range fault.Points() {
		for _, hit := range hitsToTry(point) {
			t.Run(fmt.Sprintf("%s@%d", point, hit), func(t *testing.T) {
				t.Parallel()
				for range seeds {
					killAt(t, point, hit)
				}
			})
		}
	}
}

// hitsToTry are the first, a middle and a late hit of 600 messages.
func hitsToTry(point string) []int {
	switch point {
	case fault.BeforeDecode, fault.AfterAck:
		return []int{1, 300, 550}
	case fault.BatchFull:
		return []int{1, 2, 4}
	case fault.InDrain:
		return []int{1, 20, 60}
	}
	return []int{1, 8, 14}
}

func killAt(t *testing.T, point string, hit int) {
	r := newRig(t, rigOptions{seed: newSeed(t)})
	l := &load{rng: rand.New(rand.NewPCG(r.opts.seed, 10)), duplicates: 0.05, poison: 0.01, disorder: 50}
	// All is there before ingest is, so that its batches are full; slow writes keep messages in work.
	r.publishAll(600, l)
	if point == fault.InDrain {
		r.host.faults.SetWrites(slowWrites)
	}
	p := r.spawn(fmt.Sprintf("%s=%s=kill@%d", fault.FailpointsVar, point, hit))
	if point == fault.InDrain {
		p.await()
		eventually(t, 20*time.Second, func() (bool, string) {
			c := r.host.faults.Counts()
			return c.Calls > 0 && c.Delivered >= 600, fmt.Sprintf("%d writes, %d deliveries", c.Calls, c.Delivered)
		})
		p.signal()
	}
	if !p.endsWithin(30 * time.Second) {
		t.Fatalf("%s was not hit %d times", point, hit)
	}
	p.wasKilled()
	r.host.faults.SetWrites(noFaults)
	r.ingest()
	r.settle()
	report := r.verdict("F2 " + t.Name())
	if point == fault.AfterApply && report.Redelivered == 0 {
		t.Error("nothing was delivered again: the window between the write and the acknowledgement was not met")
	}
}

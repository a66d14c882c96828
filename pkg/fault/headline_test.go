//go:build fault

package fault_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/fault"
)

// TestHeadline kills ingest and the engine again and again while two publishers send records with
// duplicates, disorder and poison. LATAM_HEADLINE_MESSAGES and LATAM_HEADLINE_KILLS are its size, in
// which every kill is one of both processes.
func TestHeadline(t *testing.T) {
	messages, kills := number(t, "LATAM_HEADLINE_MESSAGES", 4000), number(t, "LATAM_HEADLINE_KILLS", 6)
	r := newRig(t, rigOptions{seed: newSeed(t), separate: true})
	loads := r.mixed()
	starting := 0
	for kill := range kills {
		starting += r.killBoth(int64(messages)*int64(kill+1)/int64(kills), loads)
	}
	r.stall.reset() // From here on nothing is broken.
	r.ingest()
	drained := r.settle()
	report := r.verdict("headline", fmt.Sprintf("kills=%d of each, engine_kills_starting=%d drain_s=%.1f", kills, starting, drained.Seconds()))
	if report.Acked < messages {
		t.Errorf("only %d messages were acknowledged, want %d", report.Acked, messages)
	}
	t.Logf("%d messages, %d kills of ingest and engine, 5 %% duplicates, disorder, 1 %% poison, in %s: %d lost, %d duplicate rows, %d extra cells, %d healthy dead-lettered",
		report.Acked, kills, time.Since(r.began).Round(time.Second), report.Lost, report.DuplicateRows, report.ExtraCells, report.DeadHealthy)
}

// killBoth publishes until target messages are acknowledged in all, kills ingest and the engine
// meanwhile, and starts the engine again. It returns how many further kills met the engine while it
// started.
func (r *rig) killBoth(target int64, loads []*load) (starting int) {
	r.t.Helper()
	var env []string
	points := append(fault.Points(), "", "", "")
	if point := points[r.rng.IntN(len(points))]; point != "" {
		env = append(env, fmt.Sprintf("%s=%s=kill@%d", fault.FailpointsVar, point, 1+r.rng.IntN(hitsOf(point))))
	}
	window := func(most time.Duration) time.Duration { return time.Duration(r.rng.Int64N(int64(most))) }
	p := r.spawn(env...)
	r.publishUntil((r.accepted.Load()+target)/2, loads...)
	select {
	case <-p.ready:
	case <-p.ended:
	case <-time.After(60 * time.Second):
		r.t.Fatal("ingest did not start within 60s")
	}
	var publishing sync.WaitGroup
	publishing.Go(func() { r.publishUntil(target, loads...) })
	p.endsWithin(window(400 * time.Millisecond))
	first, second := p, r.engine
	if r.rng.IntN(2) == 0 {
		first, second = second, first
	}
	first.kill()
	second.endsWithin(window(50 * time.Millisecond))
	second.kill()
	for r.rng.IntN(5) == 0 {
		r.startEngine().endsWithin(window(100 * time.Millisecond))
		r.engine.kill()
		starting++
	}
	r.startEngine().await()
	publishing.Wait()
	return starting
}

// publishUntil publishes until so many messages are acknowledged in all.
func (r *rig) publishUntil(target int64, loads ...*load) {
	var all sync.WaitGroup
	for _, l := range loads {
		all.Go(func() {
			for left := target - r.accepted.Load(); left > 0 && r.t.Context().Err() == nil; left = target - r.accepted.Load() {
				r.publish(l.batch(int(min(left, int64(1+l.rng.IntN(100))))))
			}
		})
	}
	all.Wait()
}

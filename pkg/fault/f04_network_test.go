//go:build fault

package fault_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/testkit/netfault"
)

// The limits of the tests with a broken network.
const (
	memoryLimit    = 256 << 20
	noticeLimit    = 10 * time.Second // until readiness follows the network
	progressLimit  = 30 * time.Second // until rows are stored again
	reconnectLimit = 15 * time.Second // until messages are received again
	blackHoleLimit = 45 * time.Second // until a silent network is noticed
)

// paced publishes at an even rate until stop is called, which returns once the last answer is there.
func (r *rig) paced(perSecond int, loads ...*load) (stop func()) {
	done := make(chan struct{})
	var all sync.WaitGroup
	for _, l := range loads {
		all.Go(func() {
			const every = 50 * time.Millisecond
			tick := time.NewTicker(every)
			defer tick.Stop()
			for {
				select {
				case <-done:
					return
				case <-tick.C:
					r.publish(l.batch(max(1, perSecond*int(every)/int(time.Second)/len(loads))))
				}
			}
		})
	}
	stop = sync.OnceFunc(func() { close(done); all.Wait() })
	r.t.Cleanup(stop)
	return stop
}

// outages takes one side of the network away three times and then resets its connections for a
// while. It returns the slowest notice, recovery of readiness, and recovery of work.
func (r *rig) outages(p *process, side *netfault.Proxy, count func() int64, worst time.Duration) string {
	r.t.Helper()
	times := number(r.t, "LATAM_OUTAGES", 3)
	var notice, ready, work time.Duration
	for range times {
		side.Down()
		down := time.Now()
		notice = max(notice, eventually(r.t, noticeLimit, func() (bool, string) { return !p.isReady(), "it is still ready" }))
		for time.Since(down) < 15*time.Second {
			p.alive()
			if p.isReady() {
				r.t.Errorf("it is ready %s after the network went down", time.Since(down))
			}
			time.Sleep(100 * time.Millisecond) // Between two looks.
		}
		before := count()
		if err := side.Up(); err != nil {
			r.t.Fatal(err)
		}
		up := time.Now()
		work = max(work, eventually(r.t, worst, func() (bool, string) { return count() > before, "nothing happens since the network is up" }))
		eventually(r.t, noticeLimit, func() (bool, string) { return p.isReady(), "it is not ready" })
		ready = max(ready, time.Since(up))
	}
	if ready > noticeLimit {
		r.t.Errorf("readiness took %s to come back, want %s", ready, noticeLimit)
	}
	resets := 0
	for range 10 * times / 2 {
		before := count()
		resets += side.Reset()
		eventually(r.t, worst, func() (bool, string) { return count() > before, "nothing happens since the last reset" })
		p.endsWithin(2 * time.Second) // The pace of the resets.
	}
	p.alive()
	return fmt.Sprintf("outages=%d resets=%d unready_s=%.1f ready_s=%.1f work_s=%.1f rss_mib=%d", times, resets,
		notice.Seconds(), ready.Seconds(), work.Seconds(), p.peakRSS()>>20)
}

func (r *rig) checkMemory(p *process) {
	r.t.Helper()
	if rss := p.peakRSS(); rss > memoryLimit {
		r.t.Errorf("it took %d MiB of memory, want %d at most", rss>>20, memoryLimit>>20)
	}
}

// TestF04BigtableDown takes Bigtable away under load.
func TestF04BigtableDown(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{seed: newSeed(t)})
	p := r.ingest()
	stop := r.paced(150, r.mixed()...)
	figures := r.outages(p, r.bigtable, func() int64 { return r.host.faults.Counts().RowsApplied }, progressLimit)
	stop()
	r.settle()
	r.checkMemory(p)
	r.verdict("F4", figures)
}

// TestF05PubsubDown takes Pub/Sub away, at first while ingest starts and then under load.
func TestF05PubsubDown(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{seed: newSeed(t)})
	r.pubsub.Down()
	p := r.spawn()
	if p.endsWithin(15 * time.Second) {
		t.Fatalf("it ended while Pub/Sub was away: %s", p.cmd.ProcessState)
	}
	if err := r.pubsub.Up(); err != nil {
		t.Fatal(err)
	}
	p.await()
	eventually(t, reconnectLimit, func() (bool, string) { return p.isReady(), "it is not ready" })
	stop := r.paced(150, r.mixed()...)
	figures := r.outages(p, r.pubsub, func() int64 { return r.host.faults.Counts().Delivered }, reconnectLimit)
	stop()
	r.settle()
	r.checkMemory(p)
	r.verdict("F5", figures)
}

// TestF06LimpingNetwork makes both sides slow, thin, sliced and at last silent.
func TestF06LimpingNetwork(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{seed: newSeed(t)})
	p := r.ingest()
	loads := r.mixed()
	for _, l := range loads {
		l.remark = 100
	}
	stop := r.paced(100, loads...)
	phase := time.Duration(number(t, "LATAM_F06_SECONDS", 12)) * time.Second
	for name, link := range map[string]netfault.Link{
		"latency":   {Latency: 500 * time.Millisecond, Jitter: 400 * time.Millisecond},
		"bandwidth": {BytesPerSecond: 64 << 10},
		"slices":    {SliceBytes: 100, BytesPerSecond: 256 << 10},
	} {
		before := r.host.faults.Counts().RowsApplied
		r.pubsub.Set(link)
		r.bigtable.Set(link)
		p.endsWithin(phase)
		p.alive()
		if r.host.faults.Counts().RowsApplied == before {
			t.Errorf("%s: no row was stored in %s", name, phase)
		}
	}
	r.pubsub.Set(netfault.Link{BlackHole: true})
	r.bigtable.Set(netfault.Link{BlackHole: true})
	silent := time.Now()
	notice := eventually(t, blackHoleLimit, func() (bool, string) { return !p.isReady(), "it is still ready" })
	p.endsWithin(time.Minute - time.Since(silent))
	p.alive()
	before := r.host.faults.Counts().RowsApplied
	r.pubsub.Set(netfault.Link{})
	r.bigtable.Set(netfault.Link{})
	work := eventually(t, progressLimit, func() (bool, string) {
		return r.host.faults.Counts().RowsApplied > before, "no row was stored since the network works"
	})
	stop()
	r.settle()
	r.checkMemory(p)
	r.verdict("F6", fmt.Sprintf("unready_s=%.1f work_s=%.1f rss_mib=%d", notice.Seconds(), work.Seconds(), p.peakRSS()>>20))
}

package verify_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/verify"
)

// watchedBus notes what is published and which subscriptions are looked through.
type watchedBus struct {
	verify.Bus
	mu        sync.Mutex
	published map[string]int
	looked    []string
}

func (b *watchedBus) Publish(ctx context.Context, topic string, data []byte, attributes map[string]string) (string, error) {
	b.mu.Lock()
	b.published[string(data)]++
	b.mu.Unlock()
	return b.Bus.Publish(ctx, topic, data, attributes)
}

func (b *watchedBus) Receive(ctx context.Context, subscription string, opts bus.ReceiveOptions, handle func(context.Context, bus.Message) bool) error {
	b.mu.Lock()
	b.looked = append(b.looked, subscription)
	b.mu.Unlock()
	return b.Bus.Receive(ctx, subscription, opts, handle)
}

// TestOutageUnderAStandingProbe: while ingest is away a probe gives back no message of others, publishes
// one canary again and again, and removes it once ingest has come back.
func TestOutageUnderAStandingProbe(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, platformOptions{})
	p.fill(3)
	before := p.content()
	watched := &watchedBus{Bus: p.bus, published: map[string]int{}}
	deps := p.deps()
	deps.Bus, deps.Standing = watched, &verify.Standing{}
	o := p.options()
	o.Datasets = o.Datasets[1:]
	o.Only = []string{verify.CheckFresh}
	round := func(wait time.Duration) verify.Report {
		o.Wait = wait
		return verify.Run(t.Context(), o, deps)
	}
	if report := round(10 * time.Second); !report.OK || deps.Standing.Pending() {
		t.Fatalf("before the outage:\n%s", describe(report))
	}

	p.stopIngest()
	const waiting = 5
	for i := range waiting {
		if _, err := p.bus.Publish(t.Context(), "orders", fmt.Appendf(nil, `{"number":"w-%d","at":"2001-02-03T04:05:06Z"}`, i), nil); err != nil {
			t.Fatal(err)
		}
	}
	clear(watched.published)
	const rounds = 3
	for range rounds {
		report := round(200 * time.Millisecond)
		if got := failures(report); !cmp.Equal(got, []string{"canary/fresh orders"}) || !strings.Contains(describe(report), "left to ingest") {
			t.Fatalf("in the outage %q fail:\n%s", got, describe(report))
		}
	}
	if slices.Contains(watched.looked, "orders-ingest") {
		t.Error("the probe looked through the subscription of ingest, which counts as a delivery of each record that waits")
	}
	if len(watched.published) != 1 {
		t.Errorf("%d canaries were published in the outage, want one and the same", len(watched.published))
	}

	p.ingest(p.decl, slog.New(slog.DiscardHandler))
	before["orders"] += waiting
	before["orders-by_at"] += waiting
	p.holdsBut(before, 1)
	if report := round(10 * time.Second); !report.OK || deps.Standing.Pending() {
		t.Fatalf("after the outage:\n%s", describe(report))
	}
	p.unchanged(before)
}

// holdsBut waits until the orders are those, or some canaries more.
func (p *platform) holdsBut(want map[string]int, canaries int) {
	p.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if n := p.content()["orders"] - want["orders"]; 0 <= n && n <= canaries && p.content()["messages of orders-ingest"] == 0 {
			return
		}
	}
	p.t.Errorf("not stored within 10s: %v", p.content())
}

// TestEndOfAStandingProbe: a probe that is stopped in an outage takes its messages back.
func TestEndOfAStandingProbe(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, platformOptions{})
	p.stopIngest()
	before := p.content()
	deps, o := p.deps(), p.options()
	deps.Standing = &verify.Standing{}
	o.Datasets, o.Only, o.Wait = o.Datasets[1:], []string{verify.CheckFresh}, 100*time.Millisecond
	for range 2 {
		verify.Run(t.Context(), o, deps)
	}
	if !deps.Standing.Pending() || p.content()["messages of orders-ingest"] != 2 {
		t.Fatalf("two rounds left %v", p.content())
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	o.Wait = 5 * time.Second
	if report := verify.Run(ended, o, deps); len(report.Results) != 1 || report.Results[0].Status != verify.Pass {
		t.Errorf("the end:\n%s", describe(report))
	}
	p.unchanged(before)
}

package ingest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
)

// TestDrain stops the service with one commit under way and more records waiting: all are settled,
// no write is aborted, and only then Run returns.
func TestDrain(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		h.sink.setGate(make(chan struct{}))
		var aborted error
		h.sink.during = func(ctx context.Context, _ []dataset.Row) { aborted = errors.Join(aborted, ctx.Err()) }
		h.start(Options{Shards: 1})
		outcomes := []chan bool{h.send(event("a", 1))}
		h.idle()
		for i := range 10 {
			outcomes = append(outcomes, h.send(event(fmt.Sprint("k", i), i)))
		}
		h.idle()
		h.stop()
		time.Sleep(time.Second)
		h.wantRunning()
		h.letThrough(h.sink.gate)
		time.Sleep(time.Second)
		h.wantRunning()
		h.letThrough(h.sink.gate)
		h.end()
		for i, outcome := range outcomes {
			h.wantAck(fmt.Sprint("record ", i), outcome)
		}
		if aborted != nil {
			t.Errorf("the drain aborted a write: %v", aborted)
		}
	})
}

func (h *harness) wantRunning() {
	h.t.Helper()
	h.idle()
	select {
	case err := <-h.ended:
		h.t.Fatalf("run returned %v with records in work", err)
	default:
	}
}

// TestDrainFinishesDeadLetters stops the service while a dead letter is being published.
func TestDrainFinishesDeadLetters(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		h.dead.gate = make(chan struct{})
		h.start(Options{})
		outcome := h.send("no JSON")
		h.idle()
		h.stop()
		h.wantRunning()
		h.letThrough(h.dead.gate)
		h.end()
		h.wantAck("the reject", outcome)
		if h.dead.ctxErr != nil {
			t.Errorf("the drain aborted a dead letter: %v", h.dead.ctxErr)
		}
	})
}

// TestDrainSkipsPauses checks that a message to be given back does not hold the drain up.
func TestDrainSkipsPauses(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		h.sink.setAnswer(fail(store.ErrUnavailable))
		h.start(Options{RetryDelay: time.Hour})
		outcome := h.send(event("a", 1))
		h.wantOpen("a record to be given back", outcome)
		start := time.Now()
		h.end()
		if took := time.Since(start); took > time.Second {
			t.Errorf("the drain took %v", took)
		}
		if h.settled("the record", outcome) {
			t.Error("acknowledged, want it given back")
		}
	})
}

// TestDrainTimesOut has a store that never answers: Run gives up on the source after its limit.
func TestDrainTimesOut(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		release := make(chan struct{})
		h.source.script = []func(context.Context) error{func(context.Context) error { <-release; return nil }}
		h.start(Options{DrainTimeout: 7 * time.Second})
		h.idle()
		start := time.Now()
		h.end()
		if took := time.Since(start); took != 7*time.Second {
			t.Errorf("run returned after %v, want the limit of 7s", took)
		}
		if !strings.Contains(h.log.String(), "drain timed out") {
			t.Errorf("log %q does not say that records were left", h.log)
		}
		close(release)
		h.idle()
	})
}

// TestReceiveRetries lets the subscription fail and come back.
func TestReceiveRetries(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		failing := func(context.Context) error { return bus.ErrNotFound }
		for range 9 {
			h.source.script = append(h.source.script, failing)
		}
		start := time.Now()
		h.start(Options{})
		h.wantReady(bus.ErrNotFound)
		time.Sleep(55 * time.Second)
		h.wantReady(nil)
		h.wantAck("a record after the outage", h.send(event("a", 1)))
		// 250ms, doubled after each failure, up to 10s.
		want := []time.Duration{0, 250, 750, 1750, 3750, 7750, 15750, 25750, 35750, 45750}
		starts := h.source.attempts()
		if len(starts) != len(want) {
			t.Fatalf("%d attempts, want %d", len(starts), len(want))
		}
		for i, at := range starts {
			if got := at.Sub(start); got != want[i]*time.Millisecond {
				t.Errorf("attempt %d after %v, want %v", i+1, got, want[i]*time.Millisecond)
			}
		}
		if !strings.Contains(h.log.String(), "receive ended") {
			t.Errorf("log %q does not name the failure", h.log)
		}
		h.end()
	})
}

// TestReceiveReadiness checks when a route counts as healthy again, and that the pauses start anew
// after it was.
func TestReceiveReadiness(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		breaking := func(ctx context.Context) error { time.Sleep(time.Minute); return bus.ErrUnavailable }
		failing := func(context.Context) error { return bus.ErrUnavailable }
		h.source.script = []func(context.Context) error{failing, failing, failing, breaking, failing}
		start := time.Now()
		h.start(Options{})
		at := func(d time.Duration) { time.Sleep(time.Until(start.Add(d))) }
		at(1760 * time.Millisecond) // The fourth attempt has begun and may still fail.
		h.wantReady(bus.ErrUnavailable)
		at(3800 * time.Millisecond)
		h.wantReady(nil)
		at(61800 * time.Millisecond)
		h.wantReady(bus.ErrUnavailable)
		at(62510 * time.Millisecond) // Ended at 61.75s, tried at 62s and at 62.5s.
		if n := len(h.source.attempts()); n != 6 {
			t.Errorf("%d attempts, want 6: the pauses start at 250ms again", n)
		}
		at(65 * time.Second)
		h.wantReady(nil)
		h.end()
	})
}

// TestSourceThatJustEnds must neither spin nor look healthy.
func TestSourceThatJustEnds(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		h.source.script = []func(context.Context) error{func(context.Context) error { return nil }}
		h.start(Options{})
		h.idle()
		if err := h.svc.Ready(); err == nil || strings.Contains(err.Error(), "%!") {
			t.Errorf("ready says %v, want why it is not", err)
		}
		time.Sleep(3 * time.Second)
		h.wantReady(nil)
		h.end()
	})
}

// TestStopWhileRetrying ends the service in a pause between two attempts.
func TestStopWhileRetrying(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		h.source.script = []func(context.Context) error{func(context.Context) error { return bus.ErrNotFound }}
		h.start(Options{})
		h.idle()
		start := time.Now()
		h.end()
		if took := time.Since(start); took != 0 {
			t.Errorf("stopped after %v, want at once", took)
		}
	})
}

func TestOptions(t *testing.T) {
	t.Parallel()
	if err := (Options{}).Defaults().Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
	given := Options{BatchRows: 1, BatchBytes: 2048, BatchDelay: 1, Shards: 3, MaxMessages: 4, MaxBytes: 5 << 20, DrainTimeout: 6, RetryDelay: 7,
		IndexTimeout: 8, IndexBuildRate: 9, IndexBuildDelay: 10, MaxRejectShare: 0.11, WatchAfter: 12}
	if got := given.Defaults(); got != given {
		t.Errorf("defaults changed what was set: %+v", got)
	}
	for name, opts := range map[string]Options{
		"rows below":     {BatchRows: -1},
		"rows above":     {BatchRows: 5001},
		"bytes below":    {BatchBytes: 1023},
		"bytes above":    {BatchBytes: 64<<20 + 1},
		"delay below":    {BatchDelay: -1},
		"delay above":    {BatchDelay: time.Second + 1},
		"shards below":   {Shards: -1},
		"shards above":   {Shards: 65},
		"messages below": {MaxMessages: -1},
		"held below":     {MaxBytes: 1<<20 - 1},
		"index timeout":  {IndexTimeout: time.Millisecond},
		"build rate":     {IndexBuildRate: -1},
		"build delay":    {IndexBuildDelay: -1},
		"share below":    {MaxRejectShare: -0.1},
		"share above":    {MaxRejectShare: 1.1},
		"watch below":    {WatchAfter: time.Millisecond},
		"drain below":    {DrainTimeout: -1},
	} {
		if _, err := New(opts, Deps{}, []*dataset.Dataset{loadDataset(t)}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := New(Options{}, Deps{}, nil); err == nil {
		t.Error("accepted no dataset")
	}
}

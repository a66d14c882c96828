package ingest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/pkg/store"
)

// TestActivityRate adds commits at seconds after the start and looks at a later one.
func TestActivityRate(t *testing.T) {
	t.Parallel()
	began := eventTime().Add(300 * time.Millisecond)
	at := func(seconds float64) time.Time { return began.Add(time.Duration(seconds * float64(time.Second))) }
	type commit struct {
		at      float64
		records int
		event   float64
	}
	for name, tc := range map[string]struct {
		commits     []commit
		at          float64
		stored      int64
		rate        float64
		last, event float64 // below zero: none
	}{
		"nothing":             {at: 10, last: -1, event: -1},
		"the first moment":    {commits: []commit{{0.1, 50, 0}}, at: 0.2, stored: 50, rate: 50, last: 0.1},
		"since the start":     {commits: []commit{{1, 100, 1}, {5, 100, 2}}, at: 10, stored: 200, rate: 20, last: 5, event: 2},
		"steady":              {commits: []commit{{0, 60, 0}, {30, 60, 0}, {60, 60, 0}, {90, 60, 0}}, at: 100, stored: 240, rate: 2, last: 90},
		"all is long ago":     {commits: []commit{{0, 600, 0}}, at: 500, stored: 600, last: 0},
		"a pause of a window": {commits: []commit{{0, 600, 0}, {60, 60, 0}}, at: 60, stored: 660, rate: 1, last: 60},
		"an older event":      {commits: []commit{{1, 1, 9}, {2, 1, 3}}, at: 2, stored: 2, rate: 1, last: 2, event: 9},
		"a clock set back":    {commits: []commit{{40, 30, 0}, {20, 30, 0}}, at: 60, stored: 60, rate: 1, last: 20},
		"no event is known":   {commits: []commit{{1, 5, -1}}, at: 1, stored: 5, rate: 5, last: 1, event: -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			moment := func(seconds float64) time.Time {
				if seconds < 0 {
					return time.Time{}
				}
				return at(seconds)
			}
			a := activity{began: began}
			for _, c := range tc.commits {
				a.add(at(c.at), c.records, moment(c.event))
			}
			want := Activity{Stored: tc.stored, PerSecond: tc.rate, LastCommit: moment(tc.last), NewestEvent: moment(tc.event)}
			for range 2 { // To look changes nothing.
				if diff := cmp.Diff(want, a.at(at(tc.at))); diff != "" {
					t.Errorf("activity (-want +got):\n%s", diff)
				}
			}
		})
	}
}

// TestActivityOfService counts what the service acknowledged as stored, and nothing else.
func TestActivityOfService(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		h.start(Options{Shards: 1})
		h.send(eventAt("a", 1, second(1)))
		h.send(eventAt("a", 2, second(9)))
		h.send(eventAt("b", 3, second(5)))
		h.idle()
		late := h.message(eventAt("b", 2, second(5))) // It is stored already: by a later publish of its time.
		late.PublishTime = late.PublishTime.Add(-time.Second)
		h.deliver(late)
		h.idle()
		h.sink.setGate(make(chan struct{}))
		h.send(eventAt("e", 1, second(2)))
		h.idle()
		h.deliver(late) // In one batch with the next.
		h.send(eventAt("f", 1, second(2)))
		h.letThrough(h.sink.gate)
		h.letThrough(h.sink.gate)
		h.idle()
		h.sink.setGate(nil)
		h.send("no JSON")
		h.idle()
		stored := time.Now()
		h.sink.setAnswer(refuse(store.ErrPoison))
		h.send(eventAt("c", 6, second(20)))
		h.idle()
		h.sink.setAnswer(nil)
		h.sink.setGate(make(chan struct{}))
		h.send(eventAt("d", 7, second(30)))
		h.idle()
		got, ok := h.svc.Activity("events")
		if !ok || got.LastCommit.After(stored) || got.LastCommit.IsZero() {
			t.Errorf("activity %+v, %v; want the last commit by %s", got, ok, stored)
		}
		got.LastCommit = time.Time{}
		if diff := cmp.Diff(Activity{Stored: 7, PerSecond: 7, NewestEvent: second(9), InFlight: 1, Behind: 2 * arrivalPoll}, got); diff != "" {
			t.Errorf("activity (-want +got):\n%s", diff)
		}
		if _, ok := h.svc.Activity("absent"); ok {
			t.Error("a dataset that is not ingested has an activity")
		}
		h.letThrough(h.sink.gate)
		h.end()
	})
}

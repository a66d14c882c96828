package monitor_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/pkg/monitor"
	"github.com/latamctl/latamctl/pkg/monitor/datadog"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/monitor/monitortest"
)

// Three hashes tell who changed what: here, outside, both, or only the mark.
func TestWhoChangedIt(t *testing.T) {
	louder := func(o object) { o["message"] = "Changed here. @slack-latam" }
	outside := func(o object) { o["message"] = "Changed there. @slack-latam" }
	for _, c := range []struct {
		name       string
		here       func(object)
		there      func(object)
		want       []string
		drift      int
		conflicted bool
	}{
		{name: "nothing"},
		{name: "here", here: louder, want: []string{"update monitor.ingest-errors: declaration changed"}},
		{name: "outside", there: outside, want: []string{"update monitor.ingest-errors: changed outside"}, drift: 1},
		{name: "the same on both sides", here: louder, there: louder, want: []string{"update monitor.ingest-errors: the mark is out of date"}},
		{name: "both", here: louder, there: outside, want: []string{"update monitor.ingest-errors: conflict: changed here and outside"}, conflicted: true},
		{name: "a mute", there: func(o object) { o["options"].(map[string]any)["silenced"] = object{"*": nil} }},
		{name: "a tag outside", there: func(o object) { o["tags"] = append(o["tags"].([]any), "team:other") }, want: []string{"update monitor.ingest-errors: changed outside"}, drift: 1},
		{name: "an option that Datadog filled in", there: func(o object) { o["options"].(map[string]any)["renotify_interval"] = 30.0 }, want: []string{"update monitor.ingest-errors: changed outside"}, drift: 1},
		{name: "a mark of another version", there: func(o object) { outside(o); remark(o, "latamctl_hash:0-0123456789ab") }, want: []string{"update monitor.ingest-errors: declaration changed"}},
		{name: "no mark", there: func(o object) { remark(o, "team:data") }, want: []string{"update monitor.ingest-errors: the mark is out of date"}},
		{name: "priority removed here", here: func(o object) { delete(o, "priority") }, want: []string{"update monitor.ingest-errors: declaration changed"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.declares(simple("ingest-errors", 10), simple("backlog", 100))
				w.sync()
				if c.there != nil {
					w.edit(declare.Monitor, "ingest-errors", c.there)
				}
				if c.here != nil {
					w.declares(with(simple("ingest-errors", 10), c.here), simple("backlog", 100))
				}
				p := w.plan()
				w.wants(p, c.want...)
				if n := p.Plan.Counts().Drift; n != c.drift {
					w.t.Errorf("%d drifted, want %d", n, c.drift)
				}
				_, err := w.syncer().Sync(w.t.Context(), p, monitor.SyncOptions{Verify: true})
				if c.conflicted {
					w.refused(err, "monitor.ingest-errors")
					return
				}
				if err != nil {
					w.t.Fatal(err)
				}
				w.wants(w.plan())
			})
		})
	}
}

// remark puts a tag in place of the hash.
func remark(o object, tag string) {
	tags := o["tags"].([]any)
	for i := range tags {
		if strings.HasPrefix(tags[i].(string), "latamctl_hash:") {
			tags[i] = tag
		}
	}
}

func TestConflictsAreDecidedByTake(t *testing.T) {
	for take, message := range map[monitor.Take]string{monitor.TakeCode: "Here.", monitor.TakeLive: "There."} {
		t.Run(string(take), func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.declares(simple("a", 10), simple("b", 10))
				w.sync()
				w.edit(declare.Monitor, "a", func(o object) { o["message"] = "There." })
				w.declares(with(simple("a", 10), func(o object) { o["message"] = "Here." }), simple("b", 20))
				p := w.plan()
				_, err := w.syncer().Sync(w.t.Context(), p, monitor.SyncOptions{})
				w.refused(err, "monitor.a")
				r, err := w.syncer().Sync(w.t.Context(), p, monitor.SyncOptions{Take: take, Verify: true})
				if err != nil || !r.Verified {
					w.t.Fatal(err, r)
				}
				if got := w.live(declare.Monitor, "a")["message"]; got != message {
					w.t.Errorf("the message is %q, want %q", got, message)
				}
				if !strings.HasSuffix(w.live(declare.Monitor, "b")["query"].(string), "> 20") {
					w.t.Error("b was not changed")
				}
				if left := len(r.LeftAlone) == 1; left != (take == monitor.TakeLive) {
					w.t.Errorf("left alone: %v", r.LeftAlone)
				}
			})
		})
	}
}

// terraform-provider-datadog#3022: the alert needs the timeframe that its SLO gets in the same run.
func TestTimeframeAndItsAlertInOneRun(t *testing.T) {
	inWorld(t, func(w *world) {
		w.declares(slo("latency", "30d"), burn("latency-burn", "latency", "30d"))
		w.sync()
		w.declares(slo("latency", "30d", "90d"), burn("latency-burn", "latency", "90d"))
		w.sync()
		w.wants(w.plan())
	})
}

func TestListsThatCannotBeBelieved(t *testing.T) {
	for _, c := range []struct {
		name   string
		script monitortest.Script
		expect *int
		want   string
	}{
		{"half of the monitors", monitortest.Script{HalfList: true, Lists: []declare.Kind{declare.Monitor}}, nil, "read only in part"},
		{"half of the SLOs", monitortest.Script{HalfList: true, Lists: []declare.Kind{declare.SLO}}, nil, "read only in part"},
		{"no monitors", monitortest.Script{EmptyList: true, Lists: []declare.Kind{declare.Monitor}}, nil, "no monitors of latam-prod"},
		{"nothing at all", monitortest.Script{EmptyList: true}, new(1), "at least 1 should exist"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.declares(pipeline()...)
				w.sync()
				w.server.Faults(c.script)
				_, err := w.syncer().Plan(w.t.Context(), monitor.PlanOptions{ExpectExisting: c.expect})
				w.refused(err, c.want)
				w.server.Faults(monitortest.Script{})
				if err := errors.Join(err); c.name == "half of the monitors" && !errors.Is(err, datadog.ErrPartial) {
					w.t.Errorf("%v does not tell that the list is partial", err)
				}
				w.wants(w.plan())
			})
		})
	}
}

// After --expect-existing 0 an empty list is believed.
func TestExpectingNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		w.declares(pipeline()...)
		w.sync()
		for _, o := range w.server.Objects(declare.Monitor) {
			w.server.Remove(declare.Monitor, idOf(o))
		}
		_, err := w.syncer().Plan(w.t.Context(), monitor.PlanOptions{})
		w.refused(err, "no monitors")
		w.sync(monitor.PlanOptions{ExpectExisting: new(int)})
		w.wants(w.plan())
	})
}

func TestValidationNamesTheObjectAndItsPlace(t *testing.T) {
	inWorld(t, func(w *world) {
		bad := with(simple("bad", 10), func(o object) { o["query"] = "max(last_5m):sum:latam.errors{*} > 11" })
		bad.At.Line, bad.At.Column = 12, 3
		w.declares(bad, simple("good", 1), composite("both", "bad", "good"))
		_, err := w.syncer().Plan(w.t.Context(), monitor.PlanOptions{Validate: true})
		var rejected *monitor.Rejected
		if !errors.As(err, &rejected) || !strings.Contains(err.Error(), "own.yaml:12:3: monitor bad: Datadog refuses it") {
			w.t.Errorf("got %v", err)
		}
	})
}

func TestNamesNarrowAPlan(t *testing.T) {
	inWorld(t, func(w *world) {
		w.declares(pipeline()...)
		w.wants(w.plan(monitor.PlanOptions{Names: []string{"ingest-stalled"}}), "create monitor.ingest-errors", "create monitor.ingest-zero", "create monitor.ingest-stalled")
		_, err := w.syncer().Plan(w.t.Context(), monitor.PlanOptions{Names: []string{"ingest-error"}})
		if err == nil || !strings.Contains(err.Error(), "did you mean ingest-errors?") {
			w.t.Errorf("got %v", err)
		}
	})
}

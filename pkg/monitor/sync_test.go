package monitor_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/monitor"
	"github.com/latamctl/latamctl/pkg/monitor/datadog"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/monitor/monitortest"
	"github.com/latamctl/latamctl/pkg/plan"
)

func TestFirstSyncMakesAllAndTheNextNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		w.declares(pipeline()...)
		r := w.sync(monitor.PlanOptions{Validate: true})
		if len(r.Done) != 11 || !r.Verified {
			w.t.Errorf("the report is %+v", r)
		}
		w.wants(w.plan())
		w.server.ResetCalls()
		if r := w.sync(); len(r.Done) != 0 || !r.Verified {
			w.t.Errorf("nothing was changed, and the report is %+v", r)
		}
		for _, c := range w.server.Calls() {
			if c.Method != http.MethodGet {
				w.t.Errorf("nothing was to do, and %s was sent", c)
			}
		}
		tags := texts(w.live(declare.Monitor, "ingest-errors")["tags"])
		for _, tag := range []string{"managed_by:latamctl", "latamctl_stack:latam-prod", "latamctl_id:monitor.ingest-errors", "team:data"} {
			if !slices.Contains(tags, tag) {
				w.t.Errorf("the tags %q lack %s", tags, tag)
			}
		}
	})
}

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

// A new type means a new monitor; what names the old one is changed before it goes.
func TestReplacedMemberOfAComposite(t *testing.T) {
	inWorld(t, func(w *world) {
		w.declares(pipeline()...)
		w.sync()
		old := w.id(declare.Monitor, "ingest-errors")
		w.declares(replaced()...)
		p := w.plan()
		w.wants(p, "replace monitor.ingest-errors: declaration changed", "update monitor.ingest-stalled: what it names has a new id", "update dashboard.system: what it names has a new id")
		w.server.ResetCalls()
		r, err := w.syncer().Sync(w.t.Context(), p, monitor.SyncOptions{Verify: true})
		if err != nil {
			w.t.Fatal(err)
		}
		id := w.id(declare.Monitor, "ingest-errors")
		if id == old || !strings.Contains(w.live(declare.Monitor, "ingest-stalled")["query"].(string), id) {
			w.t.Errorf("the composite does not name %s, which took the place of %s", id, old)
		}
		var writes []string
		for _, c := range w.server.Calls() {
			if c.Method != http.MethodGet {
				writes = append(writes, c.Method+" "+strings.Join(strings.Split(c.Path, "/")[3:4], ""))
			}
		}
		if want := []string{"POST monitor", "PUT monitor", "PUT dashboard", "DELETE monitor"}; !slices.Equal(writes, want) {
			w.t.Errorf("the writes are %q, want %q", writes, want)
		}
		if _, err := os.Stat(filepath.Join(r.Backups, "monitor.ingest-errors.json")); err != nil {
			w.t.Error(err)
		}
	})
}

func replaced() []*declare.Object {
	objects := pipeline()
	objects[1] = thing(declare.Monitor, "ingest-errors", object{
		"name": "[prod] ingest-errors", "type": "service check", "message": "@slack-latam", "tags": []any{"env:prod"},
		"query": `"kubernetes_state.job.complete".over("kube_namespace:latam").by("kube_job").last(2).count_by_status()`, "options": object{"thresholds": object{"critical": 1.0, "ok": 1.0}},
	})
	return objects
}

// A replacement that ended between its two halves is finished by the next sync.
func TestReplacementIsFinished(t *testing.T) {
	for _, status := range []string{"POST", "PUT", "DELETE"} {
		t.Run(status, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.declares(pipeline()...)
				w.sync()
				w.declares(replaced()...)
				ended := false
				w.server.Before(func(r *http.Request) *monitortest.Response {
					if !ended && r.Method == status && status != "POST" {
						return &monitortest.Response{Status: 400, Body: object{"errors": []any{"no"}}}
					}
					return nil
				})
				p := w.plan()
				r, err := w.syncer().Sync(w.t.Context(), p, monitor.SyncOptions{})
				if (err == nil) != (status == "POST") {
					w.t.Fatal(err)
				}
				if err != nil && len(r.Failed) == 0 {
					w.t.Errorf("the report %+v names no failure", r)
				}
				ended = true
				w.sync()
				w.id(declare.Monitor, "ingest-errors")
				w.wants(w.plan())
			})
		})
	}
}

// What was deleted by hand is made again, and whatever named it is no conflict, even when it changes here too.
func TestDeletedByHandUnderOthers(t *testing.T) {
	for _, c := range []struct {
		name string
		kind declare.Kind
		gone string
		want []string
	}{
		{"a member", declare.Monitor, "ingest-errors", []string{"create monitor.ingest-errors", "update monitor.ingest-stalled: what it names has a new id", "update dashboard.system: what it names has a new id"}},
		{"an SLO", declare.SLO, "http-latency", []string{
			"create slo.http-latency", "update monitor.http-latency-burn-fast: what it names has a new id", "update dashboard.system: what it names has a new id",
		}},
		{"a dashboard", declare.Dashboard, "system", []string{"create dashboard.system"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.declares(pipeline()...)
				w.sync()
				w.server.Remove(c.kind, w.id(c.kind, c.gone))
				p := w.plan()
				w.wants(p, c.want...)
				if p.Plan.Drifted() {
					w.t.Error("nothing was edited outside")
				}
				w.sync()
				w.wants(w.plan())
			})
		})
	}
	t.Run("and the composite changed here", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.declares(pipeline()...)
			w.sync()
			w.server.Remove(declare.Monitor, w.id(declare.Monitor, "ingest-errors"))
			objects := pipeline()
			objects[4] = with(objects[4], func(o object) { o["message"] = "Stalled. @slack-latam" })
			w.declares(objects...)
			if conflicts := w.plan().Conflicts(); len(conflicts) > 0 {
				w.t.Errorf("conflicts: %v", conflicts)
			}
			w.sync()
			w.wants(w.plan())
		})
	})
}

func TestPruneStaysWithinBounds(t *testing.T) {
	inWorld(t, func(w *world) {
		if err := w.server.AddForeign(60, stack); err != nil {
			w.t.Fatal(err)
		}
		foreign := w.server.Checksum()
		w.declares(pipeline()...)
		w.sync()
		w.declares(pipeline()[0], simple("ingest-errors", 10))
		p := w.plan()
		w.wants(p)
		notes := ""
		for _, s := range p.Plan.Sections {
			notes += s.Name + ": " + s.Note + "\n"
		}
		if !strings.Contains(notes, "monitors: not declared any more: 6 (sync --prune deletes them)") {
			w.t.Errorf("the notes are %s", notes)
		}
		p = w.plan(monitor.PlanOptions{Prune: true})
		if n := p.Plan.Counts().Delete; n != 9 {
			w.t.Errorf("%d to delete, want 9", n)
		}
		w.server.ResetCalls()
		_, err := w.syncer().Sync(w.t.Context(), p, monitor.SyncOptions{})
		w.refused(err, "at most 3 may")
		if len(w.server.Calls()) > 0 {
			w.t.Error("a refused sync called Datadog")
		}
		r, err := w.syncer().Sync(w.t.Context(), p, monitor.SyncOptions{MaxDeletes: plan.Limit{Set: true, Value: 9}, Verify: true})
		if err != nil {
			w.t.Fatal(err)
		}
		files, _ := filepath.Glob(filepath.Join(r.Backups, "*.json"))
		if len(r.Done) != 9 || len(files) != 9 {
			w.t.Errorf("%d deleted, %d backups", len(r.Done), len(files))
		}
		if w.server.Checksum() != foreign {
			w.t.Error("a foreign object was touched")
		}
		w.wants(w.plan(monitor.PlanOptions{Prune: true}))
	})
}

// Whatever of the marks is missing, the object is somebody else's.
func TestPruneNeedsEveryMark(t *testing.T) {
	for _, missing := range []string{"managed_by:", "latamctl_stack:", "latamctl_id:"} {
		t.Run(missing, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.declares(simple("a", 1), slo("s", "30d"))
				w.sync()
				for _, kind := range []declare.Kind{declare.Monitor, declare.SLO} {
					for _, o := range w.server.Objects(kind) {
						if err := w.server.Edit(kind, idOf(o), func(o object) {
							o["tags"] = slices.DeleteFunc(o["tags"].([]any), func(tag any) bool { return strings.HasPrefix(tag.(string), missing) })
						}); err != nil {
							w.t.Fatal(err)
						}
					}
				}
				w.declares(simple("b", 1))
				w.wants(w.plan(monitor.PlanOptions{Prune: true}), "create monitor.b")
			})
		})
	}
}

// An object that changed its owner between plan and deletion is left alone.
func TestDeletionLooksAgain(t *testing.T) {
	inWorld(t, func(w *world) {
		w.declares(simple("a", 1), simple("b", 2))
		w.sync()
		w.declares(simple("b", 2))
		p := w.plan(monitor.PlanOptions{Prune: true})
		w.edit(declare.Monitor, "a", func(o object) { o["tags"] = []any{"team:other"} })
		r, err := w.syncer().Sync(w.t.Context(), p, monitor.SyncOptions{})
		if err == nil || len(r.Failed) != 1 || len(w.server.Objects(declare.Monitor)) != 2 {
			w.t.Errorf("want a failed deletion, got %v, %+v", err, r)
		}
	})
}

func TestBackupBeforeDeletion(t *testing.T) {
	inWorld(t, func(w *world) {
		w.declares(simple("a", 1), simple("b", 2))
		w.sync()
		w.declares(simple("b", 2))
		if err := os.WriteFile(filepath.Join(w.dir, "taken"), nil, 0o600); err != nil {
			w.t.Fatal(err)
		}
		w.change = func(o *monitor.Options) { o.Dir = filepath.Join(w.dir, "taken") } // A file where the folder should be.
		p := w.plan(monitor.PlanOptions{Prune: true})
		if _, err := w.syncer().Sync(w.t.Context(), p, monitor.SyncOptions{}); err == nil {
			w.t.Error("the backup could not be written, and nothing was said")
		}
		w.id(declare.Monitor, "a")
	})
}

func TestTwoObjectsOfOneID(t *testing.T) {
	inWorld(t, func(w *world) {
		w.declares(simple("a", 1))
		w.sync()
		first := w.id(declare.Monitor, "a")
		body := w.live(declare.Monitor, "a")
		second, err := w.server.Add(declare.Monitor, object{"name": "[prod] a (copy)", "type": body["type"], "query": "avg(last_5m):avg:system.load.1{*} > 4", "tags": body["tags"], "message": "@slack-latam"})
		if err != nil {
			w.t.Fatal(err)
		}
		_, err = w.syncer().Plan(w.t.Context(), monitor.PlanOptions{})
		w.refused(err, first+" and "+second)
		if _, err := w.syncer().Delete(w.t.Context(), monitor.DeleteOptions{Names: []string{"a"}}); err == nil {
			w.t.Error("a name that two have was deleted")
		}
		if _, err := w.syncer().Delete(w.t.Context(), monitor.DeleteOptions{Names: []string{second}}); err != nil {
			w.t.Fatal(err)
		}
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

func TestSavedPlans(t *testing.T) {
	for _, c := range []struct {
		name  string
		moves func(w *world)
		want  string
	}{
		{name: "nothing moved"},
		{"an object of the plan", func(w *world) { w.edit(declare.Monitor, "a", func(o object) { o["message"] = "x" }) }, "monitor.a"},
		{"another object", func(w *world) { w.edit(declare.Monitor, "b", func(o object) { o["message"] = "x" }) }, "monitor.b"},
		{"touched without a change", func(w *world) { w.edit(declare.Monitor, "a", func(object) {}) }, "monitor.a"},
		{"the declaration", func(w *world) { w.declares(simple("a", 3), simple("b", 1)) }, "monitor.a"},
		{"gone", func(w *world) { w.server.Remove(declare.Monitor, w.id(declare.Monitor, "a")) }, "monitor.a"},
		{"one more", func(w *world) { w.declares(simple("a", 2), simple("b", 1), simple("c", 1)) }, "monitor.c"},
		{"the stack", func(w *world) { w.set = &declare.Set{Stack: "latam-dev", Environment: "dev"} }, "latam-dev"},
		{"the site", func(w *world) { w.change = func(o *monitor.Options) { o.Site = "datadoghq.eu" } }, "datadoghq.eu"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.declares(simple("a", 1), simple("b", 1))
				w.sync()
				w.declares(simple("a", 2), simple("b", 1))
				content, err := w.syncer().Save(w.plan())
				if err != nil {
					w.t.Fatal(err)
				}
				saved, err := monitor.ReadSaved(content)
				if err != nil {
					w.t.Fatal(err)
				}
				if c.moves != nil {
					c.moves(w)
				}
				w.server.ResetCalls()
				p, err := w.syncer().Resume(w.t.Context(), saved)
				if c.want != "" {
					w.refused(err, c.want)
					for _, call := range w.server.Calls() {
						if call.Method != http.MethodGet {
							w.t.Errorf("a refused plan sent %s", call)
						}
					}
					return
				}
				if err != nil {
					w.t.Fatal(err)
				}
				if _, err := w.syncer().Sync(w.t.Context(), p, monitor.SyncOptions{Verify: true}); err != nil {
					w.t.Fatal(err)
				}
				w.wants(w.plan())
			})
		})
	}
}

func TestSavedPlansAreWholeAndUnedited(t *testing.T) {
	inWorld(t, func(w *world) {
		w.declares(simple("a", 1))
		content, err := w.syncer().Save(w.plan())
		if err != nil {
			w.t.Fatal(err)
		}
		for _, broken := range []string{"", "{}", "null", strings.Replace(string(content), "> 1", "> 2", 1), strings.Replace(string(content), "v1", "v2", 1), strings.Replace(string(content), `"stack"`, `"stock"`, 1)} {
			if _, err := monitor.ReadSaved([]byte(broken)); !errors.Is(err, monitor.ErrSaved) {
				w.t.Errorf("%.60q was read: %v", broken, err)
			}
		}
	})
}

// When one object fails, the rest of its level is made, and what comes after waits.
func TestFailureFinishesItsLevel(t *testing.T) {
	inWorld(t, func(w *world) {
		w.declares(pipeline()...)
		ended := false
		w.server.Before(func(r *http.Request) *monitortest.Response {
			if !ended && r.Method == http.MethodPost && r.URL.Path == "/api/v1/slo" {
				return &monitortest.Response{Status: 403, Body: object{"errors": []any{"Forbidden"}}}
			}
			return nil
		})
		r, err := w.syncer().Sync(w.t.Context(), w.plan(), monitor.SyncOptions{Verify: true})
		if !errors.Is(err, datadog.ErrDenied) || len(r.Failed) != 2 || len(r.Done) != 4 || len(r.Waiting) != 5 {
			w.t.Errorf("%v\n%+v", err, r)
		}
		ended = true
		w.sync()
		w.wants(w.plan())
	})
}

func TestInterruptEndsWhatWasBegun(t *testing.T) {
	inWorld(t, func(w *world) {
		w.declares(pipeline()...)
		cause := errors.New("interrupted")
		ctx, cancel := context.WithCancelCause(w.t.Context())
		w.change = func(o *monitor.Options) {
			o.Parallel = 1
			o.Observe = func(s monitor.Step) {
				if s.Key.Name == "ingest-errors" && !s.Done {
					cancel(cause)
				}
			}
		}
		r, err := w.syncer().Sync(ctx, w.plan(), monitor.SyncOptions{Verify: true})
		if !errors.Is(err, cause) || len(r.Failed) != 0 || len(r.Done)+len(r.Waiting) != 11 || len(r.Waiting) == 0 {
			w.t.Errorf("%v\n%+v", err, r)
		}
		for _, done := range r.Done {
			if done.Key.Kind != declare.Metric {
				w.id(done.Key.Kind, done.Key.Name)
			}
		}
		w.change = nil
		w.sync()
		w.wants(w.plan())
	})
}

// Datadog says that a monitor exists already: it is taken over only when it is of this stack.
func TestDuplicates(t *testing.T) {
	same := func(o object) object {
		body := object{}
		for _, key := range []string{"name", "type", "query", "message", "options", "priority"} {
			body[key] = o[key]
		}
		return body
	}
	for _, c := range []struct {
		name string
		tags []any
		want string
	}{
		{"somebody's", []any{"team:data", "env:prod"}, "of somebody else"},
		{"ours under an old name", []any{"managed_by:latamctl", "latamctl_stack:latam-prod", "latamctl_id:monitor.old"}, ""},
		{"ours under a declared name", []any{"managed_by:latamctl", "latamctl_stack:latam-prod", "latamctl_id:monitor.b"}, "monitor.b is the same"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				a := simple("a", 1)
				body := same(a.Payload)
				body["tags"] = c.tags
				id, err := w.server.Add(declare.Monitor, body)
				if err != nil {
					w.t.Fatal(err)
				}
				w.server.Before(func(r *http.Request) *monitortest.Response {
					if r.Method == http.MethodPost && r.URL.Path == "/api/v1/monitor" {
						return &monitortest.Response{Status: 400, Body: object{"errors": []any{fmt.Sprintf("Duplicate of an existing monitor_id:%s org_id:1300336245", id)}}}
					}
					return nil
				})
				w.declares(a, with(simple("b", 1), func(o object) { o["name"] = "[prod] other" }))
				if c.want == "" {
					w.declares(a)
				}
				_, err = w.syncer().Sync(w.t.Context(), w.plan(monitor.PlanOptions{Prune: true}), monitor.SyncOptions{})
				if c.want != "" {
					if err == nil || !strings.Contains(err.Error(), c.want) {
						w.t.Errorf("got %v, want %q", err, c.want)
					}
					return
				}
				if err != nil {
					w.t.Fatal(err)
				}
				if got := w.id(declare.Monitor, "a"); got != id {
					w.t.Errorf("%s was made, and %s was there", got, id)
				}
				w.wants(w.plan(monitor.PlanOptions{Prune: true}))
			})
		})
	}
}

// Metrics belong to everybody: what others configured stays.
func TestMetricsAreOnlyAddedTo(t *testing.T) {
	inWorld(t, func(w *world) {
		if _, err := w.server.Add(declare.Metric, object{"metric": "m.x", "include_percentiles": false, "tags": []any{"team", "env"}}); err != nil {
			w.t.Fatal(err)
		}
		w.declares(metric("m.x", "env", "service"), metric("m.y", "env"))
		w.wants(w.plan(), "update metric.m.x: percentiles or tags are missing", "create metric.m.y")
		w.sync()
		var tags []string
		for _, o := range w.server.Objects(declare.Metric) {
			if o["metric"] == "m.x" {
				tags = texts(o["tags"])
			}
		}
		if slices.Sort(tags); !slices.Equal(tags, []string{"env", "service", "team"}) {
			w.t.Errorf("the tags are %q", tags)
		}
		w.declares(metric("m.x", "env"))
		w.wants(w.plan(monitor.PlanOptions{Prune: true}))
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

func TestDelete(t *testing.T) {
	inWorld(t, func(w *world) {
		w.declares(pipeline()...)
		w.sync()
		s := w.syncer()
		_, err := s.Delete(w.t.Context(), monitor.DeleteOptions{Names: []string{"ingest-errors"}})
		w.refused(err, "referenced in composite monitors")
		w.id(declare.Monitor, "ingest-errors")
		r, err := s.Delete(w.t.Context(), monitor.DeleteOptions{Names: []string{"ingest-errors", "ingest-stalled"}})
		if err != nil || len(r.Done) != 2 || r.Done[0].Reason == "" {
			w.t.Fatal(err, r)
		}
		_, err = s.Delete(w.t.Context(), monitor.DeleteOptions{All: true, Confirm: "latam"})
		w.refused(err, "latam-prod")
		if _, err = s.Delete(w.t.Context(), monitor.DeleteOptions{All: true, Confirm: stack}); err != nil {
			w.t.Fatal(err)
		}
		for _, kind := range []declare.Kind{declare.Monitor, declare.SLO, declare.Dashboard} {
			if n := len(w.server.Objects(kind)); n > 0 {
				w.t.Errorf("%d %ss are left", n, kind)
			}
		}
		time.Sleep(time.Second)
		w.sync(monitor.PlanOptions{ExpectExisting: new(int)})
	})
}

package monitor_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
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

// A plan that is validated while another sync makes the same monitor is no fault of the file. A monitor of somebody
// else is, and the plan says so already.
func TestValidationMeetsATwin(t *testing.T) {
	for name, c := range map[string]struct {
		tags []any
		want string
	}{
		"ours":       {[]any{"managed_by:latamctl", "latamctl_stack:latam-prod", "latamctl_id:monitor.a"}, ""},
		"somebody's": {[]any{"team:data", "env:prod"}, "latamctl monitors import "},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.declares(simple("a", 1))
				body := maps.Clone(w.set.Objects[0].Payload)
				body["tags"] = c.tags
				made := ""
				w.server.Before(func(r *http.Request) *monitortest.Response {
					if !strings.HasSuffix(r.URL.Path, "/validate") {
						return nil
					}
					var err error
					if made, err = w.server.Add(declare.Monitor, body); err != nil {
						w.t.Error(err)
					}
					return &monitortest.Response{Status: 400, Body: object{"errors": []any{"Duplicate of an existing monitor_id:" + made + " org_id:1300336245"}}}
				})
				_, err := w.syncer().Plan(w.t.Context(), monitor.PlanOptions{Validate: true})
				if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want+made) {
					w.t.Errorf("got %v, want %q", err, c.want)
				}
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

// What Datadog took and did not do is told at the end.
func TestVerifyFindsWhatDidNotHappen(t *testing.T) {
	for name, lies := range map[string]int{"it lags behind once": 1, "it never does": 100} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.declares(simple("a", 1), simple("b", 1))
				w.sync()
				w.declares(simple("a", 2), simple("b", 1))
				stale := w.server.Objects(declare.Monitor)
				p, told, lists := w.plan(), false, 0
				w.server.Before(func(r *http.Request) *monitortest.Response {
					switch {
					case r.Method == http.MethodPut:
						told = true
					case told && r.URL.Path == "/api/v1/monitor" && lists < lies:
						lists++
						list := make([]any, len(stale))
						for i := range stale {
							list[i] = stale[i]
						}
						return &monitortest.Response{Status: 200, Body: list}
					}
					return nil
				})
				r, err := w.syncer().Sync(w.t.Context(), p, monitor.SyncOptions{Verify: true})
				var unverified *monitor.Unverified
				if errors.As(err, &unverified) != (lies > 1) || r.Verified != (lies == 1) {
					w.t.Errorf("got %v, %+v", err, r)
				}
				if _, err := w.syncer().Sync(w.t.Context(), p, monitor.SyncOptions{}); err != nil {
					w.t.Errorf("without the check: %v", err)
				}
			})
		})
	}
}

// A write that has no end does not keep an interrupted program.
func TestInterruptWaitsForAWhileOnly(t *testing.T) {
	inWorld(t, func(w *world) {
		w.declares(simple("a", 1))
		p := w.plan()
		ctx, cancel := context.WithCancel(w.t.Context())
		w.server.Before(func(r *http.Request) *monitortest.Response {
			if r.Method == http.MethodPost {
				cancel()
				return &monitortest.Response{Hang: true}
			}
			return nil
		})
		start := time.Now()
		if _, err := w.syncer().Sync(ctx, p, monitor.SyncOptions{Verify: true}); !errors.Is(err, context.Canceled) {
			w.t.Errorf("got %v", err)
		}
		if took := time.Since(start); took < monitor.DefaultGrace || took > monitor.DefaultGrace+time.Second {
			w.t.Errorf("it took %s", took)
		}
	})
}

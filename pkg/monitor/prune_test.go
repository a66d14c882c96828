package monitor_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/monitor"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/plan"
)

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
		w.refused(err, "monitor.a ("+first+", "+second+")")
		if refusal := new(monitor.Refusal); !errors.As(err, &refusal) || !strings.Contains(refusal.Hint, "delete --env prod "+second+" ") {
			w.t.Errorf("the hint does not delete the later one: %+v", refusal)
		}
		if _, err := w.syncer().Delete(w.t.Context(), monitor.DeleteOptions{Names: []string{"a"}}); err == nil {
			w.t.Error("a name that two have was deleted")
		}
		if _, err := w.syncer().Delete(w.t.Context(), monitor.DeleteOptions{Names: []string{second}}); err != nil {
			w.t.Fatal(err)
		}
		w.wants(w.plan())
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

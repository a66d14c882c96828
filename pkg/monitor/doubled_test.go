package monitor_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/monitor"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/monitor/monitortest"
)

// Syncs on several machines that began from the same nothing make everything more than once, as long as Datadog lets them.
// Each deletes of its own what another one had made before, so that one of each is left, and what names it is mended.
func TestSyncsAtTheSameTime(t *testing.T) {
	for _, apart := range []time.Duration{0, time.Second} {
		for _, machines := range []int{2, 3} {
			t.Run(fmt.Sprintf("%d machines %s apart", machines, apart), func(t *testing.T) {
				inWorld(t, func(w *world) {
					w.server = monitortest.NewServer(monitortest.Options{AllowDuplicates: true, Report: func(v string) { w.t.Error(v) }})
					if err := w.server.AddForeign(20, stack); err != nil {
						w.t.Fatal(err)
					}
					sum := w.server.Checksum()
					w.server.Before(func(*http.Request) *monitortest.Response {
						time.Sleep(20 * time.Millisecond) // Of the bubble.
						return nil
					})
					w.declares(pipeline()...)
					plans := make([]*monitor.Planned, machines)
					syncers := make([]*monitor.Syncer, machines)
					for i := range machines {
						w.client = newClient(t, w.server)
						syncers[i] = w.syncer()
						p, err := syncers[i].Plan(w.t.Context(), monitor.PlanOptions{})
						if err != nil {
							w.t.Fatal(err)
						}
						plans[i] = p
					}
					var all sync.WaitGroup
					for i, s := range syncers {
						all.Go(func() {
							time.Sleep(time.Duration(i) * apart)
							if r, err := s.Sync(w.t.Context(), plans[i], monitor.SyncOptions{Verify: true}); err != nil || !r.Verified {
								w.t.Errorf("machine %d: %v", i, err)
							}
						})
					}
					all.Wait()
					for _, o := range w.set.Objects {
						if o.Key.Kind != declare.Metric {
							w.id(o.Key.Kind, o.Key.Name)
						}
					}
					w.wants(w.plan())
					if w.server.Checksum() != sum {
						w.t.Error("objects of others were touched")
					}
				})
			})
		}
	}
}

// A copy that somebody edited proves nothing about who made what, so both are left for a person.
func TestEditedCopiesAreLeft(t *testing.T) {
	inWorld(t, func(w *world) {
		w.server = monitortest.NewServer(monitortest.Options{AllowDuplicates: true})
		w.client = newClient(t, w.server)
		w.declares(simple("a", 1))
		p := w.plan()
		w.sync()
		w.edit(declare.Monitor, "a", func(o object) { o["message"] = "Edited. @slack-latam" })
		_, err := w.syncer().Sync(w.t.Context(), p, monitor.SyncOptions{Verify: true})
		w.refused(err, "monitor.a (")
		if ids := w.ids(declare.Monitor, "a"); len(ids) != 2 {
			w.t.Errorf("of two copies %v are left", ids)
		}
	})
}

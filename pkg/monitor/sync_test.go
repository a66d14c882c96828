package monitor_test

import (
	"slices"
	"testing"

	"github.com/latamctl/latamctl/pkg/monitor"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

func TestFirstSyncMakesAllAndTheNextNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		w.declares(pipeline()...)
		r := w.sync(monitor.PlanOptions{Validate: true})
		if len(r.Done) != 11 || !r.Verified {
			t.Errorf("the report is %+v", r)
		}
		w.wants(w.plan())
		w.server.ResetCalls()
		if r := w.sync(); len(r.Done) != 0 || !r.Verified {
			t.Errorf("nothing was changed, and the report is %+v", r)
		}
		for _, c := range w.server.Calls() {
			if c.Method != "GET" {
				t.Errorf("nothing was to do, and %s was sent", c)
			}
		}
		tags := texts(w.live(declare.Monitor, "ingest-errors")["tags"])
		for _, tag := range []string{"managed_by:latamctl", "latamctl_stack:latam-prod", "latamctl_id:monitor.ingest-errors", "team:data"} {
			if !slices.Contains(tags, tag) {
				t.Errorf("the tags %q lack %s", tags, tag)
			}
		}
	})
}

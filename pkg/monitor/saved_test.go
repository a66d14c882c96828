package monitor_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/pkg/monitor"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

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

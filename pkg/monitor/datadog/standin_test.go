package datadog_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latamctl/latamctl/pkg/monitor/datadog"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/monitor/monitortest"
	"github.com/latamctl/latamctl/pkg/telemetry"
)

// withKeys are the keys that the stand-in knows.
func withKeys(o datadog.Options) datadog.Options {
	o.APIKey, o.AppKey = telemetry.NewSecret(monitortest.APIKey), telemetry.NewSecret(monitortest.AppKey)
	return o
}

func dial(t *testing.T, o datadog.Options) *datadog.Client {
	t.Helper()
	c, err := datadog.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// numbered is a monitor unlike the others.
func numbered(i int) object {
	m := aMonitor()
	m["name"] = fmt.Sprint("Ingest errors ", i)
	return m
}

// TestLifeOfEveryKind makes, reads, lists, changes and deletes over a real connection.
func TestLifeOfEveryKind(t *testing.T) {
	t.Parallel()
	s := monitortest.New(t)
	c := dial(t, withKeys(datadog.Options{URL: s.URL()}))
	if err := c.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	slo := aSLO()
	live := map[declare.Kind]declare.Live{}
	for _, step := range []struct {
		kind    declare.Kind
		payload object
		field   string
	}{
		{declare.Metric, object{"metric": "latam.batch.duration", "include_percentiles": true, "tags": []any{"env"}}, ""},
		{declare.Monitor, aMonitor(), "message"}, {declare.SLO, slo, "description"}, {declare.Dashboard, nil, "title"},
	} {
		if step.kind == declare.Dashboard {
			step.payload = aDashboard()
			group := step.payload["widgets"].([]any)[0].(object)["definition"].(object)
			group["widgets"].([]any)[2].(object)["definition"].(object)["slo_id"] = live[declare.SLO].ID
			group["widgets"].([]any)[3].(object)["definition"].(object)["alert_id"] = live[declare.Monitor].ID
		}
		if step.kind == declare.Monitor {
			if err := c.Validate(t.Context(), "", step.payload); err != nil {
				t.Fatal(err)
			}
		}
		made, err := c.Create(t.Context(), step.kind, step.payload)
		if err != nil {
			t.Fatal(err)
		}
		if step.field != "" {
			step.payload[step.field] = "changed"
			if step.kind == declare.Monitor {
				if err := c.Validate(t.Context(), made.ID, step.payload); err != nil {
					t.Fatal(err)
				}
			}
		}
		changed, err := c.Update(t.Context(), step.kind, made.ID, step.payload)
		if err != nil || changed.ID != made.ID || step.field != "" && changed.Payload[step.field] != "changed" {
			t.Fatalf("%+v, %v", changed, err)
		}
		read, err := c.Get(t.Context(), step.kind, made.ID)
		if err != nil || read.Modified != changed.Modified || read.Modified == "" {
			t.Errorf("%s: modified %q and %q, %v", step.kind, read.Modified, changed.Modified, err)
		}
		all, err := c.List(t.Context(), step.kind, "latam-prod", []string{"latam.batch.duration", "latam.none"})
		if err != nil || len(all) != 1 || !slices.Equal(slices.Sorted(maps.Keys(all[0].Payload)), slices.Sorted(maps.Keys(read.Payload))) && step.kind != declare.Monitor {
			t.Errorf("%s: %v, %v", step.kind, all, err)
		}
		found, err := c.Find(t.Context(), step.kind, "latamctl_stack:latam-prod")
		if tagged := step.kind == declare.Monitor || step.kind == declare.SLO; err != nil || len(found) != map[bool]int{true: 1}[tagged] {
			t.Errorf("%s: found %v, %v", step.kind, found, err)
		}
		live[step.kind] = read
	}
	denied, err := c.Deletable(t.Context(), declare.SLO, []string{live[declare.SLO].ID})
	if err != nil || !strings.Contains(denied[live[declare.SLO].ID], "dashboard") {
		t.Errorf("%v, %v", denied, err)
	}
	wantKind(t, c.Delete(t.Context(), declare.SLO, live[declare.SLO].ID, false), datadog.ErrReferenced)
	for _, kind := range []declare.Kind{declare.Dashboard, declare.SLO, declare.Monitor} {
		if err := c.Delete(t.Context(), kind, live[kind].ID, false); err != nil {
			t.Error(err)
		}
		_, err := c.Get(t.Context(), kind, live[kind].ID)
		wantKind(t, err, datadog.ErrNotFound)
		denied, err := c.Deletable(t.Context(), kind, []string{live[kind].ID})
		if err != nil || len(denied) != 0 {
			t.Errorf("gone: %v, %v", denied, err)
		}
	}
}

// TestRefusals are those of the stand-in: wrong keys, missing rights, bad content, twins, and what is in use.
func TestRefusals(t *testing.T) {
	t.Parallel()
	s := monitortest.New(t)
	wrong := dial(t, datadog.Options{URL: s.URL(), APIKey: telemetry.NewSecret(strings.Repeat("a", 32)), AppKey: telemetry.NewSecret(strings.Repeat("b", 40))})
	_, err := wrong.List(t.Context(), declare.Monitor, "latam-prod", nil)
	if wantKind(t, err, datadog.ErrDenied); !strings.Contains(err.Error(), "DD_API_KEY") {
		t.Error(err)
	}
	c := dial(t, withKeys(datadog.Options{URL: s.URL()}))
	first, err := c.Create(t.Context(), declare.Monitor, aMonitor())
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Create(t.Context(), declare.Monitor, aMonitor())
	if e := wantKind(t, err, datadog.ErrInvalid); e.Duplicate != first.ID {
		t.Errorf("%+v", e)
	}
	bad := aMonitor()
	bad["query"] = "avg(last_5m):avg:a.b{*} > 11"
	wantKind(t, c.Validate(t.Context(), "", bad), datadog.ErrInvalid)
	composite := object{"type": "composite", "name": "Both", "message": "", "query": first.ID + " && " + first.ID, "tags": []any{}, "options": object{}}
	if _, err := c.Create(t.Context(), declare.Monitor, composite); err != nil {
		t.Fatal(err)
	}
	wantKind(t, c.Delete(t.Context(), declare.Monitor, first.ID, false), datadog.ErrReferenced)
	denied, err := c.Deletable(t.Context(), declare.Monitor, []string{first.ID, "99"})
	if err != nil || len(denied) != 1 || !strings.Contains(denied[first.ID], "is referenced in composite") {
		t.Errorf("%v, %v", denied, err)
	}
	if err := c.Delete(t.Context(), declare.Monitor, first.ID, true); err != nil {
		t.Error(err)
	}
}

// TestPaceOfTheStandIn creates 1,000 monitors and reads them back, without one refusal and with few calls.
func TestPaceOfTheStandIn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := monitortest.NewServer(monitortest.Options{AllowDuplicates: true})
		c := dial(t, withKeys(datadog.Options{Transport: d}))
		made := 0
		var mu sync.Mutex
		storm(t, 1000, func(i int) {
			if _, err := c.Create(t.Context(), declare.Monitor, numbered(i)); err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			made++
			mu.Unlock()
		})
		for _, call := range d.Calls() {
			if call.Status != 200 {
				t.Fatalf("%s", call)
			}
		}
		before := len(d.Calls())
		all, err := c.List(t.Context(), declare.Monitor, "latam-prod", nil)
		if calls := len(d.Calls()) - before; err != nil || len(all) != 1000 || made != 1000 || calls > 3 {
			t.Errorf("%d made, %d listed in %d calls: %v", made, len(all), calls, err)
		}
	})
}

// storm does something n times, 8 at once.
func storm(t *testing.T, n int, do func(i int)) {
	t.Helper()
	var next atomic.Int64
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
				do(i)
			}
		})
	}
	group.Wait()
}

// TestStorm: whatever fails, no create happens twice, one that succeeded is there, and one whose outcome is not known says so.
func TestStorm(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := monitortest.NewServer(monitortest.Options{AllowDuplicates: true})
				c := dial(t, withKeys(datadog.Options{Transport: d, CallBudget: time.Hour}))
				d.Faults(monitortest.Script{Seed: seed, Rate429: 0.3, Rate5xx: 0.1, DropBefore: 0.05, CommitThenDrop: 0.1, CommitThen5xx: 0.1, CutBody: 0.1})
				var mu sync.Mutex
				sure, ambiguous := map[string]string{}, map[string]bool{}
				storm(t, 150, func(i int) {
					live, err := c.Create(t.Context(), declare.Monitor, numbered(i))
					mu.Lock()
					defer mu.Unlock()
					switch name := numbered(i)["name"].(string); {
					case err == nil:
						sure[name] = live.ID
					case errors.Is(err, datadog.ErrAmbiguous):
						ambiguous[name] = true
					default:
						t.Error(err)
					}
				})
				listed, err := c.List(t.Context(), declare.Monitor, "latam-prod", nil)
				if err != nil {
					t.Fatal(err)
				}
				seen := map[string]bool{}
				for _, live := range listed {
					name := live.Payload["name"].(string)
					if seen[name] || sure[name] == "" && !ambiguous[name] || sure[name] != "" && sure[name] != live.ID {
						t.Errorf("%s is there twice, or by another id", name)
					}
					seen[name] = true
				}
				for name := range sure {
					if !seen[name] {
						t.Errorf("%s was made and is gone", name)
					}
				}
				if len(sure) == 0 || len(ambiguous) == 0 {
					t.Errorf("%d sure, %d ambiguous: no storm", len(sure), len(ambiguous))
				}
				storm(t, len(listed), func(i int) {
					id := listed[i-1].ID
					if _, err := c.Update(t.Context(), declare.Monitor, id, numbered(i)); err != nil {
						t.Error(err)
					}
					if err := c.Delete(t.Context(), declare.Monitor, id, false); err != nil {
						t.Error(err)
					}
				})
				if left := d.Objects(declare.Monitor); len(left) != 0 {
					t.Errorf("%d are left", len(left))
				}
			})
		})
	}
}

// TestWrongLists: half a list, none, or a wrong total never passes for the whole, where the server gives a second number.
func TestWrongLists(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]monitortest.Script{"half": {HalfList: true}, "total": {TotalMismatch: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := monitortest.NewServer(monitortest.Options{AllowDuplicates: true})
			for i := range 9 {
				slo := aSLO()
				slo["name"] = fmt.Sprint(i)
				for kind, payload := range map[declare.Kind]object{declare.Monitor: numbered(i), declare.SLO: slo} {
					if _, err := d.Add(kind, payload); err != nil {
						t.Fatal(err)
					}
				}
			}
			c := dial(t, withKeys(datadog.Options{Transport: d}))
			d.Faults(script)
			for _, kind := range []declare.Kind{declare.Monitor, declare.SLO} {
				if all, err := c.List(t.Context(), kind, "latam-prod", nil); !errors.Is(err, datadog.ErrPartial) || all != nil {
					t.Errorf("%s: %d, %v", kind, len(all), err)
				}
			}
		})
	}
}

// TestYearOfTheStandIn is the report of a year.
func TestYearOfTheStandIn(t *testing.T) {
	t.Parallel()
	s := monitortest.New(t)
	id, slice := s.Seed(declare.SLO, aSLO()), s.Seed(declare.SLO, aSlice())
	for _, of := range []string{id, slice} {
		s.History(of, func(from, to time.Time) (float64, float64) {
			seconds := to.Sub(from).Seconds()
			return seconds * 0.96, seconds * 0.04
		})
	}
	c := dial(t, withKeys(datadog.Options{URL: s.URL()}))
	to := time.Now().Truncate(time.Hour)
	for of, unit := range map[string]string{id: datadog.Events, slice: datadog.Seconds} {
		h, err := c.History(t.Context(), of, to.AddDate(0, 0, -365), to, 95)
		r := datadog.NewReport(h, 95)
		if err != nil || h.Unit != unit || !r.Met || r.Percent < 95.999 || r.Percent > 96.001 || r.LeftPercent < 19.99 || r.LeftPercent > 20.01 {
			t.Errorf("%s: %+v, %v", unit, r, err)
		}
	}
}

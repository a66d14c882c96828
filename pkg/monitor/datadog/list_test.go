package datadog_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/latamctl/latamctl/pkg/monitor/datadog"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

// org is an organisation's monitors, SLOs and dashboards, which tests change while they are read.
type org struct {
	mu                     sync.Mutex
	monitors               []object
	slos                   []object
	dashboards             []object
	stale                  []object // monitors that the search still knows
	noIDOffset             bool
	cap                    int // the most that a page of dashboards has
	halfList               bool
	halfSearch             bool
	searchTotal, searchCap int
	total                  int               // what SLO lists say, or 0 for the truth
	after                  func(path string) // called after each answer
}

func owned(id any, stack string) object {
	return object{"id": id, "tags": []any{"managed_by:latamctl", "latamctl_stack:" + stack}, "name": fmt.Sprint(id), "modified": "2026-07-01T00:00:00Z", "modified_at": 7}
}

func board(id, stack string) object {
	return object{"id": id, "title": id, "description": "All.\nlatamctl stack=" + stack + " id=dashboard." + id + " hash=1-0123456789ab", "modified_at": "2026-07-01T00:00:00Z"}
}

func part(items []object, from, n int) []object {
	from = min(from, len(items))
	return append([]object{}, items[from:min(len(items), from+n)]...)
}

func (o *org) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	q := r.URL.Query()
	number := func(name string) int { n, _ := strconv.Atoi(q.Get(name)); return n }
	switch path := r.URL.Path; {
	case path == "/api/v1/monitor":
		items := slices.Clone(o.monitors)
		if !o.noIDOffset {
			items = slices.DeleteFunc(items, func(m object) bool { return m["id"].(int) <= number("id_offset") })
		}
		items = part(items, number("page")*number("page_size"), number("page_size"))
		if o.halfList {
			items = items[:len(items)/2]
		}
		reply(w, 200, items)
	case path == "/api/v1/monitor/search":
		if q.Get("query") != `tag:"latamctl_stack:latam-prod"` {
			panic("the search is for " + q.Get("query"))
		}
		all := append(slices.Clone(o.monitors), o.stale...)
		all = slices.DeleteFunc(all, func(m object) bool {
			tags, _ := m["tags"].([]any)
			return !slices.Contains(tags, any("latamctl_stack:latam-prod"))
		})
		size := number("per_page")
		if o.searchCap > 0 {
			size = min(size, o.searchCap)
		}
		found := part(all, number("page")*size, size)
		if o.halfSearch {
			found = found[:len(found)/2]
		}
		reply(w, 200, object{"metadata": object{"total_count": max(len(all), o.searchTotal)}, "monitors": found})
	case path == "/api/v1/slo":
		total := len(o.slos)
		if o.total != 0 {
			total = o.total
		}
		reply(w, 200, object{"data": part(o.slos, number("offset"), number("limit")), "error": nil, "metadata": object{"page": object{"total_count": 99999, "total_filtered_count": total}}})
	case path == "/api/v1/dashboard":
		n := number("count")
		if o.cap > 0 {
			n = min(n, o.cap)
		}
		reply(w, 200, object{"dashboards": part(o.dashboards, number("start"), n)})
	default:
		id := path[strings.LastIndex(path, "/")+1:]
		for _, item := range slices.Concat(o.monitors, o.dashboards) {
			if fmt.Sprint(item["id"]) == id {
				reply(w, 200, item)
				return
			}
		}
		reply(w, 404, object{"errors": []string{"not found"}})
	}
	if o.after != nil {
		o.after(r.URL.Path)
	}
}

func monitorsOf(n int) []object {
	all := make([]object, n)
	for i := range all {
		all[i] = owned(1000+7*i, "latam-prod")
	}
	return all
}

func ids(all []declare.Live) []string {
	names := make([]string, len(all))
	for i, live := range all {
		names[i] = live.ID
	}
	return names
}

// TestListMonitors reads all of any number, with or without id_offset, and few calls.
func TestListMonitors(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 1000, 2100} {
		for _, noIDOffset := range []bool{false, true} {
			o := &org{monitors: monitorsOf(n), noIDOffset: noIDOffset}
			c, w := connect(t, o.ServeHTTP)
			all, err := c.List(t.Context(), declare.Monitor, "latam-prod", nil)
			if err != nil || len(all) != n {
				t.Errorf("%d of %d: %v", len(all), n, err)
			}
			if most := n/1000 + 2; w.count() > most && !noIDOffset {
				t.Errorf("%d calls for %d: %v", w.count(), n, w.calls)
			}
			if !strings.Contains(w.calls[0], "monitor_tags=managed_by%3Alatamctl%2Clatamctl_stack%3Alatam-prod") {
				t.Error(w.calls[0])
			}
		}
	}
}

// TestListIsOurs keeps what has both tags, whatever the server's filter lets through.
func TestListIsOurs(t *testing.T) {
	t.Parallel()
	one := owned(5, "latam-prod")
	half := object{"id": 6, "tags": []any{"latamctl_stack:latam-prod"}}
	other := object{"id": 7, "tags": []any{"managed_by:latamctl"}}
	o := &org{
		monitors:   []object{one, half, other, owned(8, "latam-prod2"), {"id": 9}},
		slos:       []object{owned("a", "latam-prod"), owned("b", "latam"), {"id": "c", "tags": nil}},
		dashboards: []object{board("x", "latam-prod"), board("y", "latam-prod2"), {"id": "z", "description": nil}, {"id": "w", "description": "not latamctl stack=latam-prod id=x"}},
	}
	c, w := connect(t, o.ServeHTTP)
	for kind, want := range map[declare.Kind]string{declare.Monitor: "5", declare.SLO: "a", declare.Dashboard: "x"} {
		all, err := c.List(t.Context(), kind, "latam-prod", nil)
		if err != nil || strings.Join(ids(all), " ") != want {
			t.Errorf("%s: %v, %v, want %s", kind, ids(all), err, want)
		}
	}
	if slices.Contains(w.calls, "GET /api/v1/dashboard/y") {
		t.Error("a dashboard of others was read")
	}
}

// TestPartialMonitors: a list that lacks what exists is refused, one that the search has not caught up with is not.
func TestPartialMonitors(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		org     *org
		partial bool
	}{
		"half":                   {&org{monitors: monitorsOf(300), halfList: true}, true},
		"half of many":           {&org{monitors: monitorsOf(999), halfList: true}, true},
		"none":                   {&org{monitors: monitorsOf(1), halfList: true}, true},
		"stale search":           {&org{monitors: monitorsOf(10), stale: monitorsOf(30)[10:]}, false},
		"half of the search too": {&org{monitors: monitorsOf(300), halfList: true, halfSearch: true}, true},
		"count of more":          {&org{monitors: monitorsOf(3), searchTotal: 4}, true},
		"search gives ten":       {&org{monitors: monitorsOf(25), stale: monitorsOf(55)[25:], searchCap: 10}, false},
		"very stale":             {&org{stale: monitorsOf(201)}, true},
		"another's monitor":      {&org{monitors: []object{owned(5, "latam-prod"), {"id": 9, "tags": []any{"latamctl_stack:latam-prod"}}}}, false},
		"twice":                  {&org{monitors: append(monitorsOf(3), monitorsOf(1)...)}, true},
		"no id":                  {&org{noIDOffset: true, monitors: []object{{"name": "x", "id": -1, "tags": []any{}}}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := connect(t, test.org.ServeHTTP)
			all, err := c.List(t.Context(), declare.Monitor, "latam-prod", nil)
			if errors.Is(err, datadog.ErrPartial) != test.partial || !test.partial && err != nil {
				t.Errorf("%v, %v", ids(all), err)
			}
		})
	}
}

// TestListWhileItChanges: objects come and go between pages, and none that stays is missed.
func TestListWhileItChanges(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(o *org, times int)
		kinds  []declare.Kind
		fails  bool
	}{
		"one deleted once": {func(o *org, times int) {
			if times == 1 {
				o.monitors, o.slos, o.dashboards = o.monitors[1:], o.slos[1:], o.dashboards[1:]
			}
		}, []declare.Kind{declare.Monitor, declare.SLO, declare.Dashboard}, false},
		"one made in front once": {func(o *org, times int) {
			if times == 1 {
				o.slos = append([]object{owned("new", "latam-prod")}, o.slos...)
				o.dashboards = append([]object{board("new", "latam-prod")}, o.dashboards...)
			}
		}, []declare.Kind{declare.SLO, declare.Dashboard}, false},
		"always deleted": {func(o *org, _ int) {
			o.monitors, o.slos, o.dashboards = o.monitors[1:], o.slos[1:], o.dashboards[1:]
		}, []declare.Kind{declare.SLO, declare.Dashboard}, true},
	} {
		for _, kind := range test.kinds {
			t.Run(name+" "+string(kind), func(t *testing.T) {
				t.Parallel()
				o := &org{monitors: monitorsOf(2100)}
				for i := range 2100 {
					o.slos = append(o.slos, owned(fmt.Sprint("s", i), "latam-prod"))
					o.dashboards = append(o.dashboards, board(fmt.Sprint("d", i), map[bool]string{true: "latam-prod", false: "other"}[i%500 == 0]))
				}
				times := 0
				o.after = func(path string) {
					if strings.Count(path, "/") == 3 {
						times++
						test.change(o, times)
					}
				}
				c, _ := connect(t, o.ServeHTTP)
				all, err := c.List(t.Context(), kind, "latam-prod", nil)
				if test.fails {
					if !errors.Is(err, datadog.ErrPartial) {
						t.Errorf("%d, %v", len(all), err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				got := ids(all)
				for _, item := range map[declare.Kind][]object{declare.Monitor: o.monitors, declare.SLO: o.slos, declare.Dashboard: o.dashboards}[kind] {
					description, _ := item["description"].(string)
					if kind == declare.Dashboard && !strings.Contains(description, "latam-prod") {
						continue
					}
					if !slices.Contains(got, fmt.Sprint(item["id"])) {
						t.Errorf("%v was missed", item["id"])
					}
				}
			})
		}
	}
}

// TestDashboardPages: a server that gives less at once than it was asked for has not come to its end.
func TestDashboardPages(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{0, 100} {
		for _, n := range []int{0, 1, 99, 200, 1000} {
			o := &org{cap: limit}
			for i := range n {
				o.dashboards = append(o.dashboards, board(fmt.Sprint("d", i), "other"))
			}
			o.dashboards = append(o.dashboards, board("ours", "latam-prod"))
			c, w := connect(t, o.ServeHTTP)
			all, err := c.List(t.Context(), declare.Dashboard, "latam-prod", nil)
			if err != nil || len(all) != 1 {
				t.Errorf("%d in pages of %d: %v, %v", n, limit, ids(all), err)
			}
			if limit == 0 && n == 1 && w.count() != 2 {
				t.Errorf("%d calls", w.count())
			}
		}
	}
}

// TestSLOTotal: a list with fewer SLOs than the server counts, or with one twice, is refused after a few attempts.
func TestSLOTotal(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]*org{
		"fewer": {slos: []object{owned("a", "latam-prod")}, total: 2},
		"twice": {slos: []object{owned("a", "latam-prod"), owned("a", "latam-prod")}},
	} {
		c, w := connect(t, o.ServeHTTP)
		if all, err := c.List(t.Context(), declare.SLO, "latam-prod", nil); !errors.Is(err, datadog.ErrPartial) || all != nil || w.count() > 6 {
			t.Errorf("%s: %v, %v in %d calls", name, all, err, w.count())
		}
	}
}

// TestListFails in the middle: that is partial, and keeps its cause.
func TestListFails(t *testing.T) {
	t.Parallel()
	o := &org{monitors: monitorsOf(1500)}
	calls := 0
	c, _ := connect(t, func(w http.ResponseWriter, r *http.Request) {
		if calls++; calls == 2 {
			reply(w, 403, object{"errors": []string{"Forbidden"}})
			return
		}
		o.ServeHTTP(w, r)
	})
	_, err := c.List(t.Context(), declare.Monitor, "latam-prod", nil)
	if !errors.Is(err, datadog.ErrPartial) || !errors.Is(err, datadog.ErrDenied) {
		t.Error(err)
	}
}

// TestUnchangedTakesFewCalls: 1,000 monitors, some SLOs, dashboards and metrics are read in 12 calls.
func TestUnchangedTakesFewCalls(t *testing.T) {
	t.Parallel()
	o := &org{monitors: monitorsOf(1000), slos: []object{owned("a", "latam-prod")}, dashboards: []object{board("x", "latam-prod"), board("y", "latam-prod")}}
	c, w := connect(t, o.ServeHTTP)
	for _, kind := range declare.Kinds() {
		if _, err := c.List(t.Context(), kind, "latam-prod", []string{"a.b", "c.d", "e.f", "g.h"}); err != nil {
			t.Fatal(err)
		}
	}
	if w.count() > 12 {
		t.Errorf("%d calls: %v", w.count(), w.calls)
	}
}

// metricServer keeps tag configurations.
type metricServer struct {
	mu       sync.Mutex
	settings map[string]object
	refuse   int // how often a create is refused with 409
	race     object
}

func (m *metricServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := strings.Split(r.URL.Path, "/")[4]
	var body struct {
		Data struct {
			Type, ID   string
			Attributes object
		}
	}
	if r.Method != http.MethodGet {
		if err := jsonBody(r, &body); err != nil || body.Data.Type != "manage_tags" || body.Data.ID != name {
			panic(fmt.Errorf("%v: %+v", err, body))
		}
	}
	have, ok := m.settings[name]
	switch {
	case r.Method == http.MethodPost && m.race != nil:
		m.settings[name], m.race = m.race, nil
		reply(w, 409, object{"errors": []string{"conflict"}})
		return
	case r.Method == http.MethodPost && m.refuse > 0:
		m.refuse--
		reply(w, 409, object{"errors": []string{"conflict"}})
		return
	case r.Method == http.MethodPost && ok:
		reply(w, 409, object{"errors": []string{"exists"}})
		return
	case r.Method != http.MethodPost && !ok:
		reply(w, 404, object{"errors": []string{name + " not found"}})
		return
	case r.Method == http.MethodPatch && body.Data.Attributes["metric_type"] != nil:
		panic("PATCH has no metric_type")
	case r.Method == http.MethodPost && body.Data.Attributes["metric_type"] != "distribution":
		panic("POST needs metric_type")
	case r.Method != http.MethodGet:
		have = body.Data.Attributes
		have["metric_type"], have["modified_at"] = "distribution", "2026-07-01T00:00:00Z"
		m.settings[name] = have
	}
	reply(w, map[string]int{"POST": 201}[r.Method]+map[string]int{"GET": 200, "PATCH": 200}[r.Method], object{"data": object{"type": "manage_tags", "id": name, "attributes": have}})
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &metricServer{settings: map[string]object{}, refuse: 2}
		c, _ := connect(t, m.ServeHTTP)
		want := object{"metric": "latam.batch.duration", "include_percentiles": true, "tags": []any{"env", "service"}}
		live, err := c.Create(t.Context(), declare.Metric, want)
		if err != nil || live.ID != "latam.batch.duration" || live.Modified == "" || fmt.Sprint(live.Payload["tags"]) != "[env service]" || live.Payload["include_percentiles"] != true {
			t.Fatalf("%+v, %v", live, err)
		}
		live.Payload["tags"] = []any{"env"}
		if live, err = c.Update(t.Context(), declare.Metric, live.ID, live.Payload); err != nil || fmt.Sprint(live.Payload["tags"]) != "[env]" {
			t.Fatalf("%+v, %v", live, err)
		}
		// Someone was faster: their tags stay.
		m.race = object{"metric_type": "distribution", "tags": []any{"host", "env"}, "include_percentiles": false}
		live, err = c.Create(t.Context(), declare.Metric, object{"metric": "latam.x", "include_percentiles": true, "tags": []any{"env", "service"}})
		if err != nil || fmt.Sprint(live.Payload["tags"]) != "[host env service]" || live.Payload["include_percentiles"] != true {
			t.Fatalf("%+v, %v", live, err)
		}
		all, err := c.List(t.Context(), declare.Metric, "latam-prod", []string{"none", "latam.x", "latam.batch.duration"})
		if err != nil || strings.Join(ids(all), " ") != "latam.x latam.batch.duration" {
			t.Errorf("%v, %v", ids(all), err)
		}
		// Conflicts without an end are an error.
		m.refuse = 1000
		_, err = c.Create(t.Context(), declare.Metric, object{"metric": "latam.y", "tags": []any{"env"}})
		wantKind(t, err, datadog.ErrInvalid)
		for what, bad := range map[string]object{
			"field": {"metric": "a.b", "percentiles": true}, "name": {"metric": "a/b"}, "type": {"metric": "a.b", "tags": "env"}, "no name": {"tags": []any{}},
		} {
			if _, err := c.Create(t.Context(), declare.Metric, bad); !errors.Is(err, datadog.ErrInvalid) {
				t.Errorf("%s: %v", what, err)
			}
		}
		_, err = c.Update(t.Context(), declare.Metric, "latam.x", want)
		wantKind(t, err, datadog.ErrInvalid)
		if err := c.Delete(t.Context(), declare.Metric, "latam.x", true); err == nil || m.settings["latam.x"] == nil {
			t.Error("the settings of a metric were deleted")
		}
	})
}

package monitortest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/monitor/monitortest"
)

func jsonNumber(text string) json.Number { return json.Number(text) }

func TestKeys(t *testing.T) {
	t.Parallel()
	s := monitortest.New(t, func(o *monitortest.Options) { o.ReadOnly = true })
	for name, test := range map[string]struct {
		path, method string
		header       map[string]string
		status       int
	}{
		"none":          {"/api/v1/validate", "GET", nil, 403},
		"api key":       {"/api/v1/validate", "GET", map[string]string{"DD-API-KEY": monitortest.APIKey}, 200},
		"wrong api key": {"/api/v1/validate", "GET", map[string]string{"DD-API-KEY": "no"}, 403},
		"no app key":    {"/api/v1/monitor", "GET", map[string]string{"DD-API-KEY": monitortest.APIKey}, 403},
		"both":          {"/api/v1/monitor", "GET", map[string]string{"DD-API-KEY": monitortest.APIKey, "DD-APPLICATION-KEY": monitortest.AppKey}, 200},
		"bearer":        {"/api/v1/monitor", "GET", map[string]string{"Authorization": "Bearer " + monitortest.BearerToken}, 200},
		"wrong bearer":  {"/api/v1/monitor", "GET", map[string]string{"Authorization": "Bearer no"}, 403},
		"no scope":      {"/api/v1/slo", "POST", map[string]string{"Authorization": "Bearer " + monitortest.BearerToken}, 403},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := http.NewRequestWithContext(t.Context(), test.method, s.URL()+test.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			for k, v := range test.header {
				r.Header.Set(k, v)
			}
			if got := want(t, send(t, http.DefaultClient, r), test.status); test.status == 403 && len(got.errors()) == 0 {
				t.Error(got.text)
			}
		})
	}
}

// TestPaging walks lists of all sizes in pages of all sizes: each object is seen once, in one order.
func TestPaging(t *testing.T) {
	t.Parallel()
	s := monitortest.New(t)
	var monitors, slos []string
	for i := range 23 {
		monitors = append(monitors, s.Seed(declare.Monitor, with(with(aMonitor(), "name", fmt.Sprint("M ", i)), "tags", []any{fmt.Sprintf("odd:%t", i%2 == 1)})))
		slos = append(slos, s.Seed(declare.SLO, with(anSLO(), "tags", []any{fmt.Sprintf("odd:%t", i%2 == 1)})))
	}
	ids := func(items any) (ids []string) {
		for _, item := range items.([]any) {
			switch id := item.(object)["id"].(type) {
			case string:
				ids = append(ids, id)
			case float64:
				ids = append(ids, jsonText(id))
			}
		}
		return ids
	}
	for size := 1; size < 26; size += 4 {
		var gotMonitors, gotSLOs, gotSearch []string
		for page := 0; page*size < 23; page++ {
			gotMonitors = append(gotMonitors, ids(call(t, s, "GET", fmt.Sprintf("/api/v1/monitor?page=%d&page_size=%d", page, size), nil).body)...)
			found := call(t, s, "GET", fmt.Sprintf("/api/v1/monitor/search?page=%d&per_page=%d&query=M", page, size), nil)
			gotSearch = append(gotSearch, ids(found.get("monitors"))...)
			list := call(t, s, "GET", fmt.Sprintf("/api/v1/slo?offset=%d&limit=%d", page*size, size), nil)
			gotSLOs = append(gotSLOs, ids(list.get("data"))...)
			if list.get("metadata", "page", "total_count") != 23.0 || found.get("metadata", "total_count") != 23.0 {
				t.Errorf("totals: %s %s", list.text, found.text)
			}
		}
		if !slices.Equal(gotMonitors, monitors) || !slices.Equal(gotSLOs, slos) || !slices.Equal(gotSearch, monitors) {
			t.Errorf("pages of %d: %v %v %v", size, gotMonitors, gotSearch, gotSLOs)
		}
	}
	if all := ids(call(t, s, "GET", "/api/v1/monitor", nil).body); !slices.Equal(all, monitors) {
		t.Errorf("without a page: %v", all)
	}
	for path, n := range map[string]int{"/api/v1/monitor?monitor_tags=odd:true": 11, "/api/v1/monitor?monitor_tags=odd:true,odd:false": 0, "/api/v1/monitor?id_offset=" + monitors[20] + "&page_size=9": 2} {
		if got := ids(call(t, s, "GET", path, nil).body); len(got) != n {
			t.Errorf("%s: %d objects, want %d", path, len(got), n)
		}
	}
	if got := call(t, s, "GET", "/api/v1/slo?tags_query=odd:true&limit=3", nil); len(ids(got.get("data"))) != 3 || got.get("metadata", "page", "total_filtered_count") != 11.0 {
		t.Error(got.text)
	}
	if got := call(t, s, "GET", `/api/v1/monitor/search?query=tag:%22odd:true%22`, nil); got.get("metadata", "total_count") != 11.0 {
		t.Error(got.text)
	}
	want(t, call(t, s, "GET", "/api/v1/monitor/search?query=status:fine", nil), 400)
	want(t, call(t, s, "GET", "/api/v1/monitor?group_states=fine", nil), 400)
	want(t, call(t, s, "GET", "/api/v1/slo?ids=no", nil), 404)
}

func TestReferences(t *testing.T) {
	t.Parallel()
	s := monitortest.New(t)
	member, free := s.Seed(declare.Monitor, aMonitor()), s.Seed(declare.Monitor, with(aMonitor(), "name", "Free"))
	both := s.Seed(declare.Monitor, object{"type": "composite", "name": "Both", "query": member + " && " + member})
	s.Seed(declare.SLO, object{"type": "monitor", "name": "M", "thresholds": []any{object{"timeframe": "30d", "target": 95}}, "monitor_ids": []any{jsonNumber(member)}})
	refused := want(t, call(t, s, "GET", "/api/v1/monitor/can_delete?monitor_ids="+member+","+free, nil), 409)
	why := jsonText(refused.get("errors", member))
	if !strings.Contains(why, "is referenced in composite monitors: ["+both+"]") || !strings.Contains(why, "is referenced in slos") || jsonText(refused.get("data", "ok")) != "["+free+"]" {
		t.Error(refused.text)
	}
	want(t, call(t, s, "GET", "/api/v1/monitor/can_delete?monitor_ids="+free, nil), 200)
	want(t, call(t, s, "DELETE", "/api/v1/monitor/"+member, nil), 400)
	want(t, call(t, s, "DELETE", "/api/v1/monitor/"+member+"?force=true", nil), 200)
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	s := monitortest.New(t)
	const path = "/api/v2/metrics/latam.batch.duration/tags"
	body := func(attributes object) object {
		return object{"data": object{"type": "manage_tags", "id": "latam.batch.duration", "attributes": attributes}}
	}
	want(t, call(t, s, "GET", path, nil), 404)
	want(t, call(t, s, "PATCH", path, body(object{"tags": []any{"env"}})), 404)
	want(t, call(t, s, "POST", path, body(object{"tags": []any{"env"}})), 400)
	create := body(object{"tags": []any{"env"}, "metric_type": "distribution", "include_percentiles": true})
	want(t, call(t, s, "POST", path, create), 201)
	want(t, call(t, s, "POST", path, create), 409)
	want(t, call(t, s, "PATCH", path, body(object{"metric_type": "distribution"})), 400)
	got := want(t, call(t, s, "PATCH", path, body(object{"tags": []any{"env", "service"}})), 200)
	if got.get("data", "attributes", "include_percentiles") != true || len(got.get("data", "attributes", "tags").([]any)) != 2 {
		t.Error(got.text)
	}
	if got := want(t, call(t, s, "GET", "/api/v2/metrics?filter%5Bconfigured%5D=true", nil), 200); len(got.get("data").([]any)) != 1 {
		t.Error(got.text)
	}
	want(t, call(t, s, "DELETE", path, nil), 204)
}

func TestHistory(t *testing.T) {
	t.Parallel()
	s := monitortest.New(t)
	id := s.Seed(declare.SLO, anSLO())
	to := time.Now().Unix()
	path := func(days int64) string {
		return fmt.Sprintf("/api/v1/slo/%s/history?from_ts=%d&to_ts=%d&target=95", id, to-days*86400, to)
	}
	if got := want(t, call(t, s, "GET", path(30), nil), 200); got.get("data", "overall", "sli_value") != nil {
		t.Errorf("a value without events: %s", got.text)
	}
	s.History(id, func(from, to time.Time) (good, bad float64) {
		return 97 * to.Sub(from).Hours(), 3 * to.Sub(from).Hours()
	})
	got := want(t, call(t, s, "GET", path(30), nil), 200)
	if got.get("data", "overall", "sli_value") != 97.0 || got.get("data", "series", "denominator", "sum") != 72000.0 ||
		got.get("data", "overall", "error_budget_remaining", "custom").(float64)-40 > 1e-9 {
		t.Error(got.text)
	}
	want(t, call(t, s, "GET", path(365), nil), 400)
	want(t, call(t, s, "GET", path(-1), nil), 400)
}

// TestLimits has a clock that stands still: the 501st create of ten seconds waits for the next ten.
func TestLimits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := monitortest.NewServer(monitortest.Options{Limits: map[string]monitortest.Limit{"get_monitors": {Calls: 3, Period: 10 * time.Second}}})
		get := func() answer {
			r, _ := http.NewRequestWithContext(t.Context(), "GET", "https://api.datadoghq.com/api/v1/monitor/1", nil)
			r.Header.Set("Authorization", "Bearer "+monitortest.BearerToken)
			return send(t, d.Client(), r)
		}
		for left := range 3 {
			if got := want(t, get(), 404); got.header.Get("X-RateLimit-Remaining") != fmt.Sprint(2-left) || got.header.Get("X-RateLimit-Name") != "get_monitors" {
				t.Error(got.header)
			}
		}
		time.Sleep(2500 * time.Millisecond)
		got := want(t, get(), 429)
		if got.errors()[0] != "Rate limit of 3 requests in 10 seconds reached. Please try again later." || got.header.Get("X-RateLimit-Reset") != "8" {
			t.Error(got.text, got.header)
		}
		time.Sleep(8 * time.Second)
		want(t, get(), 404)
	})
}

func TestFaults(t *testing.T) {
	t.Parallel()
	s := monitortest.New(t)
	post := func(name string) (answer, error) {
		text := jsonText(with(aMonitor(), "name", name))
		r, _ := http.NewRequestWithContext(t.Context(), "POST", s.URL()+"/api/v1/monitor", strings.NewReader(text))
		r.Header.Set("Authorization", "Bearer "+monitortest.BearerToken)
		r.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			return answer{}, err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		return answer{status: response.StatusCode, text: string(body), header: response.Header}, err
	}
	for name, test := range map[string]struct {
		script  monitortest.Script
		status  int // 0 for an ended connection
		created bool
	}{
		"429":    {monitortest.Script{Rate429: 1, Reset: 3}, 429, false},
		"5xx":    {monitortest.Script{Rate5xx: 1, Seed: 4}, 500, false},
		"before": {monitortest.Script{DropBefore: 1}, 0, false},
		"after":  {monitortest.Script{CommitThenDrop: 1}, 0, true},
		"lied":   {monitortest.Script{CommitThen5xx: 1, Seed: 4}, 500, true},
		"cut":    {monitortest.Script{CutBody: 1}, 0, true},
		"others": {monitortest.Script{Rate5xx: 1, On: func(r *http.Request) bool { return r.Method == "GET" }}, 200, true},
	} {
		before := len(s.Objects(declare.Monitor))
		s.Faults(test.script)
		got, err := post(name)
		if (err != nil) != (test.status == 0) || (test.status >= 500) != (got.status >= 500) || (test.status == 429) != (got.status == 429) {
			t.Errorf("%s: %d %v, want %d", name, got.status, err, test.status)
		}
		if created := len(s.Objects(declare.Monitor)) > before; created != test.created {
			t.Errorf("%s: created is %t", name, created)
		}
		if name == "429" && got.header.Get("X-RateLimit-Reset") != "3" {
			t.Error(got.header)
		}
	}
	s.Faults(monitortest.Script{Rate5xx: 1, Most: 2})
	for i, want := range []bool{true, true, false} {
		if got, err := post("most"); err != nil || (got.status >= 500) != want {
			t.Errorf("call %d: %d, %v", i, got.status, err)
		}
	}
	for name, test := range map[string]struct {
		script      monitortest.Script
		list, total int
	}{
		"half":     {monitortest.Script{HalfList: true}, 1, 3},
		"empty":    {monitortest.Script{EmptyList: true}, 0, 0},
		"mismatch": {monitortest.Script{TotalMismatch: true}, 3, 4},
		"others":   {monitortest.Script{EmptyList: true, Lists: []declare.Kind{declare.Monitor}}, 3, 3},
	} {
		for len(s.Objects(declare.SLO)) < 3 {
			s.Seed(declare.SLO, anSLO())
		}
		s.Faults(test.script)
		if got := call(t, s, "GET", "/api/v1/slo", nil); len(got.get("data").([]any)) != test.list || got.get("metadata", "page", "total_count") != float64(test.total) {
			t.Errorf("%s: %s", name, got.text)
		}
	}
}

func TestHooksAndCalls(t *testing.T) {
	t.Parallel()
	s := monitortest.New(t)
	s.Before(func(r *http.Request) *monitortest.Response {
		if r.URL.Path == "/api/v1/slo" {
			return &monitortest.Response{Status: 418, Body: object{"errors": []string{"tea"}}}
		}
		return nil
	})
	want(t, call(t, s, "GET", "/api/v1/slo", nil), 418)
	want(t, call(t, s, "GET", "/api/v1/monitor?page=0", nil), 200)
	if got := fmt.Sprint(s.Calls()); got != "[GET /api/v1/slo 418 GET /api/v1/monitor?page=0 200]" {
		t.Error(got)
	}
	if s.ResetCalls(); len(s.Calls()) != 0 {
		t.Error("calls after a reset")
	}
}

func TestForeignObjects(t *testing.T) {
	t.Parallel()
	s := monitortest.New(t)
	s.SeedForeign(50)
	sum := s.Checksum()
	mine := s.Seed(declare.Monitor, aMonitor())
	s.Edit(declare.Monitor, mine, func(o map[string]any) { o["name"] = "mine" })
	want(t, call(t, s, "GET", "/api/v1/monitor", nil), 200)
	if s.Checksum() != sum {
		t.Error("the checksum is of other objects too")
	}
	for _, kind := range declare.Kinds() {
		objects := s.Objects(kind)
		if len(objects) < 12 {
			t.Errorf("%d objects of kind %s", len(objects), kind)
		}
		for _, o := range objects {
			tags := jsonText(o["tags"])
			if strings.Contains(tags, `"managed_by:latamctl"`) && strings.Contains(tags, `"latamctl_stack:latam-prod"`) && strings.Contains(tags, `"latamctl_id:`+string(kind)+".") {
				t.Errorf("%v is the stack's", o)
			}
		}
	}
	first := s.Objects(declare.SLO)[0]["id"].(string)
	s.Edit(declare.SLO, first, func(map[string]any) {})
	if s.Checksum() == sum {
		t.Error("the checksum does not see an edit")
	}
}

// TestInProcess ends connections without a network.
func TestInProcess(t *testing.T) {
	t.Parallel()
	d := monitortest.NewServer(monitortest.Options{})
	d.Faults(monitortest.Script{DropBefore: 1, Most: 1})
	r, _ := http.NewRequestWithContext(t.Context(), "GET", "https://api.datadoghq.com/api/v1/validate", nil)
	if _, err := d.Client().Do(r); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	r.Header.Set("DD-API-KEY", monitortest.APIKey)
	d.Faults(monitortest.Script{CutBody: 1})
	response, err := d.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(response.Body); !errors.Is(err, io.ErrUnexpectedEOF) || len(text) == 0 {
		t.Errorf("%q, %v", text, err)
	}
}

// TestOptions are the ways in which Datadog was seen to differ from itself.
func TestOptions(t *testing.T) {
	t.Parallel()
	s := monitortest.New(t, func(o *monitortest.Options) { o.AllowDuplicates, o.ReferencedStatus = true, http.StatusUnauthorized })
	member := s.Seed(declare.Monitor, aMonitor())
	want(t, call(t, s, "POST", "/api/v1/monitor", aMonitor()), 200)
	s.Seed(declare.Monitor, object{"type": "composite", "name": "Both", "query": member + " || " + member})
	want(t, call(t, s, "DELETE", "/api/v1/monitor/"+member, nil), 401)
	s.Remove(declare.Monitor, member)
	want(t, call(t, s, "GET", "/api/v1/monitor/"+member, nil), 404)
}

// TestHang waits for the client to give up, with and without a network.
func TestHang(t *testing.T) {
	t.Parallel()
	s := monitortest.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.Before(func(*http.Request) *monitortest.Response { cancel(); return &monitortest.Response{Hang: true} })
	for _, client := range []*http.Client{http.DefaultClient, s.Client()} {
		r, _ := http.NewRequestWithContext(ctx, "GET", s.URL()+"/api/v1/validate", nil)
		if _, err := client.Do(r); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

// TestModified moves with each change, however fast changes follow each other.
func TestModified(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := monitortest.NewServer(monitortest.Options{})
		slo, err := d.Add(declare.SLO, anSLO())
		if err != nil {
			t.Fatal(err)
		}
		board, err := d.Add(declare.Dashboard, aDashboard(slo))
		if err != nil {
			t.Fatal(err)
		}
		monitor, err := d.Add(declare.Monitor, aMonitor())
		if err != nil {
			t.Fatal(err)
		}
		for kind, id := range map[declare.Kind]string{declare.SLO: slo, declare.Dashboard: board, declare.Monitor: monitor} {
			seen := map[string]bool{}
			for range 5 {
				o := d.Objects(kind)[0]
				seen[fmt.Sprint(o["modified"], o["modified_at"])] = true
				if err := d.Edit(kind, id, func(map[string]any) {}); err != nil {
					t.Fatal(err)
				}
			}
			if len(seen) != 5 {
				t.Errorf("%s: %d times after 5 changes at once", kind, len(seen))
			}
		}
	})
}

func TestAThousandMonitors(t *testing.T) {
	t.Parallel()
	s := monitortest.New(t)
	for i := range 1000 {
		s.Seed(declare.Monitor, with(aMonitor(), "name", fmt.Sprint("M ", i)))
	}
	if got := call(t, s, "GET", "/api/v1/monitor?page=0&page_size=1000", nil); len(got.body.([]any)) != 1000 {
		t.Errorf("%d monitors", len(got.body.([]any)))
	}
}

package datadog_test

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/monitor/datadog"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

// canDelete answers as Datadog does: 409 with what is in the way, 404 for all if one is gone.
func canDelete(inUse map[string]any, gone []string, strict bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		kind, asked := "slo", r.URL.Query().Get("ids")
		if strings.Contains(r.URL.Path, "/monitor/") {
			kind, asked = "monitor", r.URL.Query().Get("monitor_ids")
		}
		free, denied := []any{}, object{}
		for _, id := range strings.Split(asked, ",") {
			switch {
			case slices.Contains(gone, id) && strict:
				reply(w, 404, object{"errors": []string{kind + " not found"}})
				return
			case slices.Contains(gone, id):
				denied[id] = []string{kind + " [" + id + "] not found"}
			case inUse[id] != nil:
				denied[id] = inUse[id]
			case kind == "monitor":
				n, _ := strconv.Atoi(id)
				free = append(free, n)
			default:
				free = append(free, id)
			}
		}
		if len(denied) > 0 {
			reply(w, 409, object{"errors": denied, "data": object{"ok": free}})
			return
		}
		reply(w, 200, object{"errors": nil, "data": object{"ok": free}})
	}
}

func TestDeletable(t *testing.T) {
	t.Parallel()
	for _, kind := range []declare.Kind{declare.Monitor, declare.SLO} {
		for _, strict := range []bool{false, true} {
			var all, gone []string
			inUse := map[string]any{}
			for i := 1; i <= 230; i++ {
				id := strconv.Itoa(i)
				all = append(all, id)
				switch {
				case i%50 == 7:
					inUse[id] = []any{"monitor [" + id + ",x] is referenced in composite monitors: [9]", "and in slos: [8]"}
				case i == 60 || i == 61:
					gone = append(gone, id)
				}
			}
			c, w := connect(t, canDelete(inUse, gone, strict))
			denied, err := c.Deletable(t.Context(), kind, all)
			if err != nil || !slices.Equal(slices.Sorted(maps.Keys(denied)), slices.Sorted(maps.Keys(inUse))) || !strings.HasSuffix(denied["7"], "[9]; and in slos: [8]") {
				t.Errorf("%s: %v, %v", kind, denied, err)
			}
			if most := map[bool]int{false: 5, true: 55}[strict]; w.count() > most {
				t.Errorf("%d calls", w.count())
			}
		}
	}
}

// TestDeletableInDoubt: only what Datadog says is free is free.
func TestDeletableInDoubt(t *testing.T) {
	t.Parallel()
	c, _ := connect(t, script(status(200, object{"data": object{"ok": []any{1}}, "errors": nil})))
	denied, err := c.Deletable(t.Context(), declare.Monitor, []string{"1", "2"})
	if err != nil || len(denied) != 1 || denied["2"] == "" {
		t.Error(denied, err)
	}
	c, _ = connect(t, script(status(403, object{"errors": []string{"Forbidden"}})))
	_, err = c.Deletable(t.Context(), declare.SLO, []string{"a"})
	wantKind(t, err, datadog.ErrDenied)
	denied, err = c.Deletable(t.Context(), declare.Dashboard, []string{"a"})
	if err != nil || len(denied) != 0 {
		t.Error(denied, err)
	}
	if denied, _ = c.Deletable(t.Context(), declare.Metric, []string{"a"}); denied["a"] == "" {
		t.Error("a metric may be deleted")
	}
}

func TestStates(t *testing.T) {
	t.Parallel()
	alerting, quiet := owned(2, "latam-prod"), owned(1, "latam-prod")
	alerting["name"], alerting["overall_state"], alerting["overall_state_modified"] = "b", "Alert", "2026-07-01T10:00:00+00:00"
	alerting["state"] = object{"groups": object{
		"host:z": object{"name": "host:z", "status": "Alert", "last_triggered_ts": 1781234567},
		"host:a": object{"name": "host:a", "status": "No Data", "last_nodata_ts": 1781234000, "last_triggered_ts": 1},
		"host:b": object{"name": "host:b", "status": "OK"},
	}}
	quiet["name"], quiet["overall_state"], quiet["overall_state_modified"] = "a", "OK", nil
	unknown := owned(3, "latam-prod")
	unknown["name"] = "c"
	o := &org{monitors: []object{alerting, quiet, unknown, owned(4, "other")}}
	c, w := connect(t, o.ServeHTTP)
	states, err := c.States(t.Context(), "latam-prod")
	if err != nil || len(states) != 3 || w.count() != 1 || !strings.Contains(w.calls[0], "group_states=alert%2Cwarn%2Cno+data") {
		t.Fatalf("%+v, %v, %v", states, err, w.calls)
	}
	if states[0].State != "OK" || !states[0].Since.IsZero() || states[2].State != "Unknown" {
		t.Errorf("%+v", states)
	}
	want := "[{host:a No Data 2026-06-12 03:13:20 +0000 UTC} {host:z Alert 2026-06-12 03:22:47 +0000 UTC}]"
	if b := states[1]; b.Name != "b" || b.State != "Alert" || b.Since.Hour() != 10 || fmt.Sprint(b.Groups) != want {
		t.Errorf("%+v", b)
	}
}

// counts is an SLO that counts per second, as a server answers it: at most 90 days at once.
func counts(t *testing.T, kind string, value func(from, to int64) (good, all float64)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		from, _ := strconv.ParseInt(r.URL.Query().Get("from_ts"), 10, 64)
		to, _ := strconv.ParseInt(r.URL.Query().Get("to_ts"), 10, 64)
		if to-from > 90*86400 || from >= to {
			t.Errorf("asked for %d seconds", to-from)
		}
		good, all := value(from, to)
		data := object{"type": kind, "from_ts": from, "to_ts": to, "overall": object{"sli_value": nil}}
		switch {
		case kind == "metric":
			data["series"] = object{"numerator": object{"sum": good, "count": 1}, "denominator": object{"sum": all, "count": 1}}
		case all > 0:
			data["overall"] = object{"sli_value": 100 * good / all}
		}
		reply(w, 200, object{"data": data, "errors": nil})
	}
}

// TestHistoryAddsUp compares with a count over the whole span at once, for spans of any length.
func TestHistoryAddsUp(t *testing.T) {
	t.Parallel()
	// Of second s, s%7 events come and one of them is bad each 20th second; the sums have closed forms over whole periods of 140 s.
	per := func(s int64) (good, all float64) {
		all = float64(s % 7)
		if s%20 == 0 {
			return max(0, all-1), all
		}
		return all, all
	}
	var good140, all140 float64
	for s := range int64(140) {
		g, a := per(s)
		good140, all140 = good140+g, all140+a
	}
	upTo := func(s int64) (good, all float64) {
		good, all = float64(s/140)*good140, float64(s/140)*all140
		for i := s / 140 * 140; i < s; i++ {
			g, a := per(i)
			good, all = good+g, all+a
		}
		return good, all
	}
	between := func(from, to int64) (float64, float64) {
		g1, a1 := upTo(from)
		g2, a2 := upTo(to)
		return g2 - g1, a2 - a1
	}
	random := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		from := 1_700_000_000 + random.Int64N(1e7)
		to := from + 1 + random.Int64N(400*86400)
		good, all := between(from, to)
		c, w := connect(t, counts(t, "metric", between))
		h, err := c.History(t.Context(), "abc", time.Unix(from, 0), time.Unix(to, 0), 95)
		if err != nil || h.Good != good || h.Total != all || h.Unit != datadog.Events {
			t.Fatalf("%+v, %v, want %v of %v", h, err, good, all)
		}
		if want := int((to - from + 90*86400 - 1) / (90 * 86400)); w.count() != want || !strings.Contains(w.calls[0], "target=95") {
			t.Errorf("%d calls, want %d: %s", w.count(), want, w.calls[0])
		}
		c, _ = connect(t, counts(t, "time_slice", func(from, to int64) (float64, float64) {
			return float64(to-from) * 0.75, float64(to - from)
		}))
		h, err = c.History(t.Context(), "abc", time.Unix(from, 0), time.Unix(to, 0), 0)
		if span := float64(to - from); err != nil || math.Abs(h.Good-0.75*span) > 1e-3 || h.Total != span || h.Unit != datadog.Seconds {
			t.Errorf("%+v, %v", h, err)
		}
	}
}

// TestHistoryWithoutData: a part without a value counts neither as good nor as bad, and is told.
func TestHistoryWithoutData(t *testing.T) {
	t.Parallel()
	from := time.Date(2025, 7, 1, 0, 0, 0, 0, time.UTC)
	to := from.AddDate(0, 0, 365)
	c, _ := connect(t, counts(t, "time_slice", func(a, b int64) (float64, float64) {
		if a < from.AddDate(0, 0, 100).Unix() {
			return 0, 0
		}
		return 0.9, 1
	}))
	h, err := c.History(t.Context(), "abc", from, to, 95)
	if err != nil || h.Missing != 180*24*time.Hour || h.Total != 185*86400 || math.Abs(h.Good-0.9*185*86400) > 1e-3 {
		t.Errorf("%+v, %v", h, err)
	}
	states := [][]float64{{float64(from.Unix() - 50), 2}, {float64(from.Unix() + 100), 0}, {float64(from.Unix() + 400), 2}, {float64(from.Unix() + 600), 1}, {float64(from.Unix() + 900), 2}}
	c, _ = connect(t, script(status(200, object{"data": object{"type": "time_slice", "overall": object{"sli_value": 99.5, "history": states}}})))
	if h, err = c.History(t.Context(), "abc", from, from.Add(1000*time.Second), 0); err != nil || h.NoData != 400*time.Second {
		t.Errorf("%+v, %v", h, err)
	}
}

func TestHistoryFails(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		answer answer
		kind   error
		says   string
	}{
		"gone":      {status(404, object{"errors": []string{"SLO not found: abc not found"}}), datadog.ErrNotFound, "read the history of SLO abc from 2026-06-01: GET /api/v1/slo/abc/history: HTTP 404: SLO not found"},
		"no data":   {status(200, object{"errors": []any{object{"error": "query failed"}}}), datadog.ErrPartial, "query failed"},
		"nonsense":  {status(200, object{"data": object{"type": "metric", "series": object{"numerator": object{"sum": 2}, "denominator": object{"sum": 1}}}}), nil, "2 of 1 events"},
		"nonsense2": {status(200, object{"data": object{"type": "time_slice", "overall": object{"sli_value": 101}}}), nil, "101 percent"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := connect(t, script(test.answer))
			_, err := c.History(t.Context(), "abc", now.AddDate(0, 0, -30), now, 95)
			if err == nil || test.kind != nil && !errors.Is(err, test.kind) || !strings.Contains(err.Error(), test.says) {
				t.Error(err)
			}
		})
	}
	c, w := connect(t, script(status(200, object{})))
	for _, span := range []struct {
		from, to time.Time
		target   float64
	}{{now, now, 95}, {now, now.Add(-time.Hour), 95}, {now.Add(-time.Hour), now, 100}, {now.Add(-time.Hour), now, -1}} {
		if _, err := c.History(t.Context(), "abc", span.from, span.to, span.target); !errors.Is(err, datadog.ErrInvalid) {
			t.Error(err)
		}
	}
	if w.count() != 0 {
		t.Error(w.calls)
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		good, total, target float64
		percent             float64
		met                 bool
		left, leftPercent   float64
	}{
		"over":       {970, 1000, 95, 97, true, 20, 40},
		"exact":      {950, 1000, 95, 95, true, 0, 0},
		"just under": {949, 1000, 95, 94.9, false, -1, -2},
		"all good":   {1000, 1000, 95, 100, true, 50, 100},
		"all bad":    {0, 1000, 95, 0, false, -950, -1900},
		"thirds":     {2.0 / 3, 1, 100 * 2.0 / 3, 100 * 2.0 / 3, true, 0, 0},
		"many":       {9.5e14, 1e15, 95, 95, true, 0, 0},
		"many less":  {9.5e14 - 2000, 1e15, 95, 95, false, -2000, 0},
	} {
		r := datadog.NewReport(datadog.History{Good: test.good, Total: test.total}, test.target)
		near := func(a, b float64) bool { return math.Abs(a-b) <= 1e-6*max(1, math.Abs(b)) }
		if !r.HasData || !near(r.Percent, test.percent) || r.Met != test.met || !near(r.Left, test.left) || !near(r.LeftPercent, test.leftPercent) || r.Bad != test.total-test.good {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if r := datadog.NewReport(datadog.History{}, 95); r.HasData || r.Met || r.Percent != 0 {
		t.Errorf("without data: %+v", r)
	}
}

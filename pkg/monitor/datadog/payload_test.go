package datadog_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/pkg/monitor/datadog"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

// payloads are good ones of each kind.
func payloads() map[string]struct {
	kind    declare.Kind
	payload object
} {
	return map[string]struct {
		kind    declare.Kind
		payload object
	}{
		"monitor": {declare.Monitor, aMonitor()}, "slo": {declare.SLO, aSLO()}, "time slice": {declare.SLO, aSlice()}, "dashboard": {declare.Dashboard, aDashboard()},
	}
}

// mirror answers with what it was sent, as an object of the kind.
func mirror(sent *object) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		*sent = nil
		if err := json.NewDecoder(r.Body).Decode(sent); err != nil {
			panic(err)
		}
		back := maps.Clone(*sent)
		back["unheard_of"] = object{"deep": []any{1.0}}
		back["modified"], back["modified_at"] = "2026-07-01T00:00:00Z", nil
		switch {
		case strings.Contains(r.URL.Path, "/slo"):
			back["id"], back["modified_at"] = "abc", 1781234567
			delete(back, "modified")
			reply(w, 200, object{"data": []any{back}, "error": nil})
		case strings.Contains(r.URL.Path, "/dashboard"):
			back["id"] = "abc-def-ghi"
			reply(w, 200, back)
		default:
			back["id"] = 9007199254740991
			reply(w, 200, back)
		}
	}
}

// TestNothingIsLost: what is sent is what was declared, and what comes back is all that was answered.
func TestNothingIsLost(t *testing.T) {
	t.Parallel()
	for name, test := range payloads() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var sent object
			c, w := connect(t, mirror(&sent))
			for _, update := range []bool{false, true} {
				var live declare.Live
				var err error
				if update {
					live, err = c.Update(t.Context(), test.kind, map[declare.Kind]string{declare.Monitor: "9007199254740991", declare.SLO: "abc", declare.Dashboard: "abc-def-ghi"}[test.kind], test.payload)
				} else {
					live, err = c.Create(t.Context(), test.kind, test.payload)
				}
				if err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(sent, test.payload) {
					t.Errorf("sent %v, want %v", sent, test.payload)
				}
				if live.Kind != test.kind || live.ID == "" || live.Modified == "" || live.Payload["unheard_of"] == nil || live.ID != map[declare.Kind]string{declare.Monitor: "9007199254740991", declare.SLO: "abc", declare.Dashboard: "abc-def-ghi"}[test.kind] {
					t.Errorf("live %+v", live)
				}
			}
			if !strings.HasPrefix(w.calls[0], "POST") || !strings.HasPrefix(w.calls[1], "PUT") {
				t.Error(w.calls)
			}
		})
	}
}

// TestUnknownParts are payloads that the official types would take in silence; the error names the place.
func TestUnknownParts(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		of     string
		change func(object)
		says   string
	}{
		"field":         {"monitor", func(o object) { o["nmae"] = "x" }, "nmae: Datadog's API has no such field"},
		"deep field":    {"monitor", func(o object) { o["options"].(object)["renotify"] = 1.0 }, "options.renotify: Datadog's API has no such field"},
		"deeper field":  {"monitor", func(o object) { o["options"].(object)["thresholds"].(object)["critcal"] = 1.0 }, "options.thresholds.critcal: Datadog's API has no such field"},
		"word":          {"monitor", func(o object) { o["type"] = "metric alrt" }, `type: Datadog's API does not take "metric alrt" here`},
		"deep word":     {"monitor", func(o object) { o["options"].(object)["on_missing_data"] = "page" }, `options.on_missing_data: Datadog's API does not take "page" here`},
		"type":          {"monitor", func(o object) { o["message"] = 5.0 }, "message: Datadog's API does not take 5 here"},
		"deep type":     {"monitor", func(o object) { o["options"].(object)["thresholds"].(object)["critical"] = "10" }, `options.thresholds.critical: Datadog's API does not take "10" here`},
		"fraction":      {"monitor", func(o object) { o["options"].(object)["new_group_delay"] = 1.5 }, "options.new_group_delay: Datadog's API does not take 1.5 here"},
		"changed":       {"monitor", func(o object) { o["created"] = "2026-07-01T00:00:00.5+02:00" }, "created: would not be sent as it is declared"},
		"missing":       {"monitor", func(o object) { delete(o, "query") }, "required field query missing"},
		"list":          {"slo", func(o object) { o["thresholds"].([]any)[0].(object)["timeframe"] = "365d" }, `thresholds[0].timeframe: Datadog's API does not take "365d" here`},
		"slo field":     {"slo", func(o object) { o["targets"] = 1.0 }, "targets: Datadog's API has no such field"},
		"specification": {"slo", func(o object) { o["sli_specification"] = object{"counts": object{}} }, `sli_specification: Datadog's API does not know an object such as {"counts":{}}`},
		"comparator": {"time slice", func(o object) {
			o["sli_specification"].(object)["time_slice"].(object)["comparator"] = "=="
		}, "sli_specification"},
		"widget": {"dashboard", func(o object) { o["widgets"].([]any)[0].(object)["definition"].(object)["type"] = "grup" }, "widgets[0].definition"},
		"inner widget": {"dashboard", func(o object) {
			o["widgets"].([]any)[0].(object)["definition"].(object)["widgets"].([]any)[0].(object)["definition"].(object)["contents"] = "x"
		}, "widgets[0].definition"},
		"layout": {"dashboard", func(o object) { o["layout_type"] = "orderd" }, `layout_type: Datadog's API does not take "orderd" here`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, w := connect(t, script(status(200, object{})))
			p := payloads()[test.of]
			test.change(p.payload)
			_, err := c.Create(t.Context(), p.kind, p.payload)
			if e := wantKind(t, err, datadog.ErrInvalid); !strings.Contains(e.Error(), test.says) {
				t.Errorf("%v, want %s", err, test.says)
			}
			if p.kind == declare.Monitor {
				if err := c.Validate(t.Context(), "5", p.payload); !strings.Contains(err.Error(), test.says) {
					t.Errorf("validate: %v", err)
				}
			}
			if name != "missing" {
				id := map[declare.Kind]string{declare.Monitor: "5"}[p.kind]
				if id == "" {
					id = "abc"
				}
				_, err = c.Update(t.Context(), p.kind, id, p.payload)
				wantKind(t, err, datadog.ErrInvalid)
			}
			if w.count() != 0 {
				t.Errorf("it was sent: %v", w.calls)
			}
		})
	}
}

// TestIDs: what is no id never becomes a path.
func TestIDs(t *testing.T) {
	t.Parallel()
	c, w := connect(t, script(status(200, object{})))
	bad := []string{"", "..", "a/b", "1/../../v2/users", "a?b", "a%2Fb", "a b", "-1", "0", "1.5", "9999999999999999999", strings.Repeat("a", 300)}
	for _, kind := range declare.Kinds() {
		for _, id := range bad {
			if kind != declare.Monitor && slices.Contains([]string{"-1", "0", "9999999999999999999"}, id) && kind != declare.Metric {
				continue
			}
			_, getErr := c.Get(t.Context(), kind, id)
			_, updateErr := c.Update(t.Context(), kind, id, aMonitor())
			for _, err := range []error{getErr, updateErr, c.Delete(t.Context(), kind, id, true)} {
				wantKind(t, err, datadog.ErrInvalid)
			}
			if kind == declare.Monitor || kind == declare.SLO {
				_, err := c.Deletable(t.Context(), kind, []string{id})
				wantKind(t, err, datadog.ErrInvalid)
			}
		}
	}
	if w.count() != 0 {
		t.Error(w.calls)
	}
}

// FuzzAnswers: no answer makes the client panic, and a failure is always an *Error.
func FuzzAnswers(f *testing.F) {
	for _, body := range []string{`{}`, `[]`, `{"errors":["x"]}`, `{"errors":{"a":["b",1]}}`, `{"data":[{"id":"a"}]}`, `{"id":1}`, `<html>`, `{"data":{"ok":[1]}}`, `nul`, ``} {
		for _, code := range []int{200, 204, 302, 400, 409} {
			f.Add(code, body)
		}
	}
	f.Fuzz(func(t *testing.T, code int, body string) {
		if code < 200 || code > 499 || code == 429 || code == 408 {
			return
		}
		c, _ := connect(t, func(w http.ResponseWriter, r *http.Request) { text(code, "text/plain", body)(w, r) })
		_, monitorErr := c.Get(t.Context(), declare.Monitor, "1")
		_, sloErr := c.Get(t.Context(), declare.SLO, "1")
		_, listErr := c.List(t.Context(), declare.SLO, "latam-prod", nil)
		_, deniedErr := c.Deletable(t.Context(), declare.SLO, []string{"1"})
		for _, err := range []error{monitorErr, sloErr, deniedErr} {
			if err != nil {
				wantKind(t, err, nil)
			}
		}
		_ = listErr
	})
}

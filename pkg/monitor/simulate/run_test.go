package simulate

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

func TestExpectations(t *testing.T) {
	t.Parallel()
	set := &declare.Set{Objects: []*declare.Object{
		monitor(t, "errors", "query alert", "max(last_5m):sum:m{*} > 10", `{"thresholds":{"critical":10,"warning":7}}`),
		monitor(t, "hosts", "query alert", "max(last_1m):sum:m{*} by {host} > 10", `{"thresholds":{"critical":10,"warning":7}}`),
		monitor(t, "check", "service check", `"c".over("*").by("host").last(1).count_by_status()`, ""),
		monitor(t, "gone", "query alert", "max(last_1m):sum:m{*} > 10", `{"thresholds":{"critical":10},"on_missing_data":"show_and_notify_no_data"}`),
		monitor(t, "strange", "query alert", "max(last_1m):top(sum:m{*}, 10, 'max', 'desc') > 10", ""),
	}}
	for _, c := range []struct{ text, want string }{
		{`monitor: errors, series: {m: "0x5 11 0x12"}, expect: [{at: 6m, state: alert, notified: [page, "@page"], not_notified: [chat, "@chat"], message_contains: "Bad: 11 > 10"},
			{at: 12m, state: ok, notified: chat, not_notified: page, message_contains: Fine}], detect_within: 0`, ""},
		{`monitor: errors, series: {m: "0x5 11 0x12"}, expect: [{at: 6m30s, state: warning}]`,
			"at 6m30s: expected warning, got alert: the value is 11, and alert is > 10, warning > 7"},
		{`monitor: errors, series: {m: "0x5 11 0x12"}, expect: [{at: 5m, state: alert}, {at: 6m, state: ok}]`,
			"at 5m: expected alert, got ok: the value is 0, and alert is > 10, warning > 7; at 6m: expected ok, got alert: the value is 11, and alert is > 10, warning > 7"},
		{`monitor: errors, series: {m: "0x5 11"}, expect: [{at: 6m, notified: chat, not_notified: [page], message_contains: Fine}]`,
			`at 6m: expected that chat is told, told were @page, page; at 6m: expected that page is not told, but it was; at 6m: expected a message with "Fine", got "Bad: 11 > 10 @page Runbook: x"`},
		{`monitor: errors, series: {m: "0x5 8 11"}, expect: [{at: 6m, state: warning}, {at: 7m, state: alert}], detect_within: 0`, ""},
		{`monitor: errors, series: {m: "0x5 8 8 11"}, expect: [{at: 8m, state: alert}], detect_within: 1m`, "it was detected after 2m, expected within 1m from 6m on"},
		{`monitor: errors, series: {m: "0x5 8 8 11"}, expect: [{at: 8m, state: alert}], detect_within: 1m, bad_since: 7m`, ""},
		{`monitor: errors, series: {m: "11x5"}, expect: [{at: 5m, state: alert}], detect_within: 1m, bad_since: 3m`, ""},
		// Nothing but ok is expected: then nothing may happen in between.
		{`monitor: errors, series: {m: "0 11 0x9"}, expect: [{at: 0, state: ok}, {at: 10m, state: ok}]`,
			"nothing but ok is expected, but there is 1m: ok → alert (11) errors, told @page, page"},
		{`monitor: errors, series: {m: "0x5 11"}, expect: [{at: 5m, state: ok}]`, ""},
		{`monitor: errors, series: {m: "0x5", n: 0}, expect: [{at: 5m, state: ok}]`, "the series of n is not read by monitor.errors, which reads m"},
		{`monitor: errors, expect: [{at: 5m, state: ok}]`, "at 5m: expected ok, got no_data: there is no value, and alert is > 10"},
		{`monitor: errors, expect: [{at: 5m, state: no_data}]`, ""},
		{`monitor: hosts, series: {"m{host:a}": "0 11", "m{host:b}": "0 8"}, expect: [{at: 1m, state: alert}, {at: 1m, state: alert, group: "host:a"}, {at: 1m, state: warning, group: "host:b", notified: chat}]`, ""},
		{`monitor: hosts, series: {"m{host:a}": "0 11", "m{host:b}": "0 8"}, expect: [{at: 1m, state: ok, group: "host:c"}]`, "at 1m: there is no group host:c, there are host:a, host:b"},
		{`monitor: hosts, series: {"m{host:a}": "0 11", "m{host:b}": "0 8"}, expect: [{at: 1m, state: ok, group: "host:b"}]`,
			"at 1m: expected ok, got warning of host:b: the value is 8, and alert is > 10, warning > 7"},
		{`monitor: hosts, expect: [{at: 1m, state: ok}]`, "at 1m: expected ok, got no_data: none of its series was there"},
		{`monitor: check, series: {"c{host:a}": "0 2"}, expect: [{at: 1m, state: ok}]`, "at 1m: expected ok, got alert of host:a; nothing but ok is expected, but there is 1m: ok → alert host:a check, told @page, page"},
		{`monitor: check, series: {"c{host:a}": "5"}, expect: [{at: 1m, state: ok}]`, "the status 5 of the check c is none: 0 is ok, 1 warning, 2 critical, 3 unknown"},
		{`monitor: gone, series: {m: "0 0 _x5"}, expect: [{at: 3m, state: no_data, notified: "@chat"}], detect_within: 0s`, ""},
		{`monitor: strange, series: {m: "0"}, expect: [{at: 0, state: ok}]`, "not evaluable: the function top, at top(sum:m{*}, 10, 'max', 'desc')"},
	} {
		tests, err := loadText(set, "version: 1\ntests:\n  - {name: x, "+c.text+"}")
		if err != nil {
			t.Fatal(err)
		}
		r := Run(set, tests)[0]
		if r.Reason != c.want || r.Passed != (c.want == "") || r.Skipped {
			t.Errorf("%s\n got %q\nwant %q", c.text, r.Reason, c.want)
		}
	}
}

func TestMessages(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ message, want string }{
		{"{{#is_alert}}A{{else}}B{{/is_alert}} {{^is_alert}}C{{else}}D{{/is_alert}}", "A D"},
		{"{{#is_warning}}A {{#is_alert}}B{{else}}C{{/is_alert}}{{else}}{{#is_alert}}D{{else}}E{{/is_alert}}{{/is_warning}}", "D"},
		{"x{{#is_warning}}{{#is_no_data}}D{{else}}E{{/is_no_data}}{{/is_warning}}", "x"},
		{"{{ value }} {{comparator}} {{threshold}} {{warn_threshold}} {{#is_priority 'P2'}}two{{/is_priority}}{{#is_priority 'P1'}}one{{/is_priority}}", "11 > 10 7 two"},
		{"{{host.name}} {{[http.route].name}} {{env.name}} {{host}}", "a /v1/x prod a"},
		{`{{#is_match "host.name" "x" "a"}}yes{{/is_match}} {{#is_exact_match "env.name" "pro"}}no{{/is_exact_match}}`, "yes"},
		{"{{last_triggered_at}} {{local_time 'last_triggered_at' 'America/Santiago'}} {{triggered_duration_sec}}{{override_priority 'P1'}}", "1m 1m 0"},
		{"{{other.name}}", "not evaluable: {{other.name}} of the message, which is no known variable and no tag that the query groups by or is filtered by"},
		{"{{#is_new}}x{{/is_new}}", "not evaluable: the block {{#is_new}} of the message"},
		{"{{#is_alert}}x", `the message does not close the block "is_alert"`},
		{"{{/is_alert}}x", `the message closes the block "is_alert", which is not the one that is open`},
		{"{{#is_alert}}{{#is_warning}}{{/is_alert}}{{/is_warning}}", `the message closes the block "is_alert", which is not the one that is open`},
		{strings.Repeat("{{#is_alert}}", 30), "the blocks of the message are nested too deeply"},
		{"plain", "monitor.m: the event alert is for @page, but the message does not tell it"},
		{"@page.com", "monitor.m: the event alert is for @page, but the message does not tell it"},
	} {
		o := monitor(t, "m", "query alert", "max(last_1m):sum:m{env:prod} by {host,http.route} > 10", `{"thresholds":{"critical":10,"warning":7}}`)
		o.Payload["priority"] = 2.0
		o.Payload["message"] = c.message
		if !strings.Contains(c.want, "does not tell it") {
			o.Notify = nil
		}
		_, r := timeline(t, &declare.Set{Objects: []*declare.Object{o}}, "monitor m", "m{env:prod,host:A,http.route:/v1/x} = 0 11")
		got := strings.TrimPrefix(r.Reason, "message of monitor.m: ")
		if len(r.Timeline) > 0 {
			got = r.Timeline[1].Message
		}
		if got != c.want {
			t.Errorf("%s\n got %q\nwant %q", c.message, got, c.want)
		}
	}
	if got := handles("Hi @a, (@b) x@c @a. @d@e.com! @ \n@f"); strings.Join(got, " ") != "@a @d@e.com @f" {
		t.Errorf("the handles are %q", got)
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	set := small(t)
	tests, err := loadText(set, `version: 1
tests:
  - {name: eleven errors page, monitor: errors, series: {"latam.errors{env:prod}": "0x5 11 0x12"}, expect: [{at: 6m, state: alert}]}
  - {name: three are fine, monitor: errors, series: {"latam.errors{env:prod}": "3x9"}, expect: [{at: 6m, state: ok}]}
  - {name: eight are not, monitor: errors, series: {"latam.errors{env:prod}": "0x1 8x9"}, expect: [{at: 1m, state: ok}, {at: 6m, state: alert}]}
  - {name: later, monitor: errors, skip: anomalies cannot be evaluated}
`)
	if err != nil {
		t.Fatal(err)
	}
	results := Run(set, tests)
	var text bytes.Buffer
	if err := WriteText(&text, results); err != nil {
		t.Fatal(err)
	}
	want := `PASS  eleven errors page  (errors: alert, told @page, page)
PASS  three are fine  (errors: quiet)
FAIL  eight are not
      monitors/tests/t.yaml:5: at 6m: expected alert, got warning: the value is 8, and alert is > 10, warning > 7
      what happened:
        0s: new → ok (0) errors
        2m: ok → warning (8) errors, told @chat, chat
SKIP  later: anomalies cannot be evaluated
2 passed, 1 failed, 1 skipped
`
	if text.String() != want {
		t.Errorf("got\n%s\nwant\n%s", text.String(), want)
	}
	doc, err := json.Marshal(NewReport(results))
	if err != nil {
		t.Fatal(err)
	}
	var r Report
	if err := json.Unmarshal(doc, &r); err != nil {
		t.Fatal(err)
	}
	if r.Schema != Schema || r.Passed != 2 || r.Failed != 1 || r.Skipped != 1 || len(r.Tests) != 4 {
		t.Errorf("the document is %s", doc)
	}
	first := r.Tests[0]
	if first.Outcome != "passed" || first.Target != "monitor.errors" || first.Line != 3 || *first.DetectionSeconds != 0 || first.Timeline[1].AtSeconds != 360 || *first.Timeline[1].Value != 11 {
		t.Errorf("the first test is %+v", first)
	}
}

func TestCoverage(t *testing.T) {
	t.Parallel()
	set := burning(t, latency(t))
	helper := monitor(t, "helper", "query alert", "max(last_1m):sum:m{*} > 10", "")
	helper.Notify, helper.Roles = nil, nil
	both := monitor(t, "both", "composite", "!${ref:monitor.helper}", "")
	both.Refs = []declare.Key{helper.Key}
	set.Objects = append(set.Objects, helper, both, monitor(t, "untested", "query alert", "max(last_1m):sum:m{*} > 10", ""))
	tests, err := loadText(set, `version: 1
tests:
  - {name: a, slo: fast-enough, expect: {at: 1h, alerts: {fast: alert}}}
  - {name: b, monitor: both, expect: {at: 1h, state: ok}}
  - {name: c, monitor: both, expect: {at: 1h, state: no_data}}
  - {name: d, monitor: untested, skip: later}
`)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]Covered{}
	for _, c := range Coverage(set, tests) {
		got[c.Key.String()] = c
	}
	for name, want := range map[string]Covered{
		"slo.fast-enough": {Tests: 1, Fires: true}, "monitor.fast-enough-burn-slow": {Tests: 1, Fires: true},
		"monitor.helper": {Tests: 2, Fires: true, Quiet: true}, "monitor.both": {Tests: 2, Fires: true, Quiet: true}, "monitor.untested": {},
	} {
		c := got[name]
		if c.Tests != want.Tests || c.Fires != want.Fires || c.Quiet != want.Quiet {
			t.Errorf("%s is %+v, want %+v", name, c, want)
		}
	}
	if c := got["monitor.untested"]; len(c.Skipped) != 1 || c.Skipped[0] != "later" {
		t.Errorf("what is skipped is %+v", c)
	}
}

// A week of minutes of some series is evaluated in the time of a test.
func TestLargeTestIsFast(t *testing.T) {
	t.Parallel()
	set := small(t)
	tests, err := loadText(set, `version: 1
tests: [{name: x, monitor: errors, series: {"latam.errors{env:prod,a:1}": "0x10000", "latam.errors{env:prod,a:2}": "0x10000"}, expect: {at: 0, state: ok}}]`)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if r := Run(set, tests)[0]; !r.Passed {
		t.Fatal(r.Reason)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

package simulate

import (
	"errors"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/strictyaml"
)

func small(t testing.TB) *declare.Set {
	t.Helper()
	return &declare.Set{Objects: []*declare.Object{
		monitor(t, "errors", "query alert", "max(last_5m):sum:latam.errors{env:prod} > 10", `{"thresholds":{"critical":10,"warning":7}}`),
		monitor(t, "rate-flights", "query alert", "sum(last_5m):sum:rate{dataset:flights}.as_count() < 1", `{"thresholds":{"critical":1}}`),
		monitor(t, "rate-hotels", "query alert", "sum(last_5m):sum:rate{dataset:hotels}.as_count() < 1", `{"thresholds":{"critical":1}}`),
	}}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	tests, err := loadText(small(t), `version: 1
tests:
  - name: all keys
    monitor: errors
    interval: 30s
    bad_since: 2m
    detect_within: 90s
    series:
      "latam.errors{env:${env}, service:x}": "0x4 $${"
      'other{}': 5
    expect: {at: 3m, state: alert}
`)
	if err == nil || !strings.Contains(err.Error(), `t.yaml:9:51: series "latam.errors{env:prod, service:x}": expected points`) {
		t.Fatalf("got %v, %v", tests, err)
	}
	tests, err = loadText(small(t), `version: 1
tests:
  - name: all keys
    monitor: errors
    interval: 30s
    bad_since: 0
    detect_within: 1h30m
    series: {"latam.errors{env:${env}, service:x}": "0x4 11", "other": 5}
    expect:
      - {at: 3m, state: alert, group: "b:2, a:1", notified: page, not_notified: [chat, "@x"], message_contains: "in ${env}"}
      - {at: 0, state: no_data}
  - name: rate of ${each.name}
    for_each: datasets
    monitor: rate-${each.name}
    series: {"rate{dataset:${each.name}}": 1.5}
    expect: [{at: 1m, state: ok}]
  - {name: later, monitor: errors, skip: not yet}
`)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, one := range tests {
		names = append(names, one.Name+"="+one.Target.String())
	}
	if got, want := strings.Join(names, " "), "all keys=monitor.errors rate of flights=monitor.rate-flights rate of hotels=monitor.rate-hotels later=monitor.errors"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	first := tests[0]
	e := first.Expect[0]
	if first.Interval != 30*time.Second || *first.BadSince != 0 || first.DetectWithin != 90*time.Minute || first.File != "monitors/tests/t.yaml" || first.At.Line != 3 {
		t.Errorf("the first test is %+v", first)
	}
	if e.Group != "a:1,b:2" || e.Notified[0] != "page" || len(e.NotNotified) != 2 || e.Message != "in prod" || e.At != 3*time.Minute || first.Expect[1].State != NoData {
		t.Errorf("its expectations are %+v", first.Expect)
	}
	if s := first.series; s[0].tags[0].value != "prod" || s[0].length() != 6 || s[1].numbers[0] != 5 {
		t.Errorf("its series are %+v", s)
	}
	if tests[3].Skip != "not yet" {
		t.Errorf("the last test is %+v", tests[3])
	}
}

func TestLoadFaults(t *testing.T) {
	t.Parallel()
	const head = "version: 1\ntests:\n  - "
	for text, want := range map[string]string{
		"":                         `1:1: the file is empty; a file of tests begins with "version: 1"`,
		"version: 2\ntests: []":    "1:10: version must be 1, got the number 2",
		"tests: []":                `1:1: the key "version" is missing; write "version: 1"`,
		"version: 1\ntests: x":     `2:8: tests must be a list, got the text "x"`,
		"version: 1\ntest: []":     `2:1: unknown key "test"; did you mean "tests"?`,
		head + "{monitor: errors}": `3:5: the key "name" is missing in a test; say in a sentence what is tested`,
		head + "{name: x}":         `3:5: the test must name a monitor or an SLO in the test "x"; write monitor: NAME or slo: NAME`,
		head + "{name: x, slo: a, monitor: errors, expect: {at: 0, state: ok}}":               `3:5: the test must name a monitor or an SLO`,
		head + "{name: x, monitor: errros, expect: {at: 0, state: ok}}":                       `3:24: there is no monitor "errros" in the test "x"; did you mean "errors"?`,
		head + "{name: x, monitor: latency-of-hotels, expect: {at: 0, state: ok}}":            `3:24: there is no monitor "latency-of-hotels" in the test "x"; names are those after for_each`,
		head + "{name: x, monitor: errors}":                                                   `3:5: the key "expect" is missing in the test "x"`,
		head + "{name: x, monitor: errors, expect: []}":                                       `3:40: expect must be a list of what is expected in the test "x", got a list`,
		head + "{name: x, monitor: errors, expect: {state: ok}}":                              `3:40: the key "at" is missing in expect`,
		head + "{name: x, monitor: errors, expect: {at: soon, state: ok}}":                    `3:45: at is a time, got the text "soon"; such as 6m, 90s or 2h`,
		head + "{name: x, monitor: errors, expect: {at: 5, state: ok}}":                       `3:45: at must be text, got the number 5; put it in quotes`,
		head + "{name: x, monitor: errors, expect: {at: 100d, state: ok}}":                    `3:45: at has to be before the point 10081, which is 168h1m; a longer interval has fewer points`,
		head + "{name: x, monitor: errors, expect: {at: 0}}":                                  `3:40: nothing is expected in the test "x"`,
		head + "{name: x, monitor: errors, expect: {at: 0, state: alarm}}":                    `3:55: state must be one of ok, no_data, warning, alert, got the text "alarm"`,
		head + "{name: x, monitor: errors, expect: {at: 0, alerts: {a: ok}}}":                 `3:56: alerts are expected of an SLO, and a monitor is tested; write state`,
		head + "{name: x, monitor: errors, series: [], expect: {at: 0, state: ok}}":           `3:40: series must be a map, got a list`,
		head + "{name: x, monitor: errors, series: {\"m}\": 1}, expect: {at: 0, state: ok}}":  `3:41: "m}": expected a metric with its tags such as latam.errors{env:prod}`,
		head + "{name: x, monitor: errors, series: {m: \"1 y\"}, expect: {at: 0, state: ok}}": `3:47: series "m": expected points such as`,
		head + "{name: x, monitor: errors, series: {m: true}, expect: {at: 0, state: ok}}":    `3:44: the points of a series must be text, got true`,
		head + "{name: x, monitor: errors, interval: 1ms, expect: {at: 0, state: ok}}":        `3:42: interval must be from 1s to 1d, got 1ms; such as 60s`,
		head + "{name: \"a ${evn}\", monitor: errors, expect: {at: 0, state: ok}}":            `3:12: nothing is called ${evn} in a test; did you mean ${env}?`,
		head + "{name: \"a ${each.name}\", monitor: errors, expect: {at: 0, state: ok}}":      `3:12: nothing is called ${each.name} in a test; each is known in tests with for_each: datasets`,
		head + "{name: \"a ${b\", monitor: errors, expect: {at: 0, state: ok}}":               `3:12: a ${ has no } in a test; write $${ for a literal ${`,
		head + "{name: x, for_each: sets, monitor: errors, expect: {at: 0, state: ok}}":       `3:25: for_each must be one of datasets, got the text "sets"`,
		head + "{name: x, for_each: datasets, monitor: errors, expect: {at: 0, state: ok}}":   `3:12: the test "x" stands in monitors/tests/t.yaml:3 already; give each test a name of its own`,
	} {
		_, err := loadText(small(t), text)
		var problems *strictyaml.Problems
		if !errors.As(err, &problems) || !strings.HasPrefix(err.Error(), "monitors/tests/t.yaml:"+want) {
			t.Errorf("%s\n got %v\nwant %s", text, err, want)
		}
	}
}

func TestFolders(t *testing.T) {
	t.Parallel()
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte("version: 1\ntests:\n" + text)} }
	builtIn := fstest.MapFS{
		"tests/a.yaml":     file("  - {name: one, monitor: errors, expect: {at: 0, state: ok}}\n  - {name: two, monitor: errors, expect: {at: 0, state: ok}}\n"),
		"tests/b.yaml":     file("  - {name: three, monitor: rate-trains, series: {\"x{a:${unknown}}\": 1}, expect: {at: 0, state: ok}}\n"),
		"tests/readme.txt": {Data: []byte("x")},
		"other.yaml":       {Data: []byte("x")},
	}
	own := fstest.MapFS{"tests/a.yaml": file("  - {name: two, monitor: rate-hotels, expect: {at: 0, state: ok}}\n")}
	tests, err := load(small(t), nil, nil, folder{files: builtIn, dir: "monitors"}, folder{files: own, dir: "my", own: true}, folder{}, folder{files: fstest.MapFS{}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, one := range tests {
		got = append(got, one.Name+" "+one.File+" "+one.Target.Name+" "+one.Skip)
	}
	want := "one monitors/tests/a.yaml errors |three monitors/tests/b.yaml rate-trains the monitor rate-trains is not declared here|two my/tests/a.yaml rate-hotels "
	if strings.Join(got, "|") != want {
		t.Errorf("got %q\nwant %q", strings.Join(got, "|"), want)
	}
}

func FuzzLoad(f *testing.F) {
	text, err := os.ReadFile("../../../docs/monitors-test.md")
	if err == nil {
		for _, block := range strings.Split(string(text), "```") {
			f.Add(strings.TrimPrefix(block, "yaml\n"))
		}
	}
	f.Add("version: 1\ntests: [{name: x, monitor: errors, series: {\"latam.errors{env:prod}\": \"0x5 11\"}, expect: {at: 6m, state: alert}}]")
	set := small(f)
	f.Fuzz(func(t *testing.T, text string) {
		tests, err := loadText(set, text)
		var problems *strictyaml.Problems
		if err != nil && !errors.As(err, &problems) {
			t.Fatalf("%q gives %v", text, err)
		}
		for _, one := range tests {
			if len(one.series) > 20 || one.last() > 2000 {
				return
			}
		}
		for _, r := range Run(set, tests) {
			if !r.Passed && r.Reason == "" {
				t.Fatalf("%q: %+v has no reason", text, r)
			}
		}
	})
}

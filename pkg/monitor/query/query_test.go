package query_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/pkg/monitor/query"
)

// canonical are queries with their canonical forms; "" stands for the same text.
var canonical = []struct{ kind, text, want string }{
	{"query alert", "avg(last_10m):100 * sum:system.net.tcp.retrans_segs{kube_cluster_name:c} by {host} / sum:system.net.tcp.out_segs{kube_cluster_name:c} by {host} > 2", ""},
	{"query alert", "avg(last_10m):100 * (sum:a{*} by {host} + sum:b{*} by {host}) / (sum:c{*} by {host} + sum:d{*} by {host}) > 1", ""},
	{"query alert", "sum(last_15m):100 * default_zero(sum:gcp.serviceruntime.api.request_count{project_id:p,service:s,response_code_class:5xx}.as_count()) / sum:gcp.serviceruntime.api.request_count{project_id:p}.as_count() > 5", ""},
	{"query alert", "avg(last_4h):anomalies(sum:kubernetes.network.rx_bytes{a:b} by {kube_deployment}, 'agile', 3, direction='both', interval=60, alert_window='last_15m', count_default_zero='true', seasonality='hourly') >= 1", ""},
	{"query alert", "avg( last_15m ) : 8*sum:x{*}by{host}/1000000000>10", "avg(last_15m):8 * sum:x{*} by {host} / 1000000000 > 10"},
	{"query alert", "max(last_5m):default_zero(sum:latam.errors{env:prod}.as_count().rollup(sum,60)) > 10", "max(last_5m):default_zero(sum:latam.errors{env:prod}.as_count().rollup(sum, 60)) > 10"},
	{"query alert", "change(sum(last_5m),last_5m):exclude_null(avg:kubernetes.containers.restarts{a:b} by {pod_name}) > 5", ""},
	{"query alert", "pct_change(avg(last_60m), 1h_ago):avg:x{*} != -5.50", "pct_change(avg(last_1h),last_1h):avg:x{*} != -5.5"},
	{"query alert", "percentile(last_5m):p95:x{a:b,!c:d} by {http.route} > 1e-3", "percentile(last_5m):p95:x{a:b,!c:d} by {http.route} > 0.001"},
	{"metric alert", "avg(last_168h):-(avg:a{*} - (avg:b{*} - -3)) * -1 < -0", "avg(last_1w):-(avg:a{*} - (avg:b{*} - -3)) * -1 < 0"},
	{"query alert", "avg(last_5m):--avg:x{*} - - -abs(-(-avg:y{*})) > 1", "avg(last_5m):avg:x{*} - abs(avg:y{*}) > 1"},
	{"query alert", "avg(last_5m):avg:x{*} * 1000000000000000000000 + 0.0000001 > 5e300", "avg(last_5m):avg:x{*} * 1e+21 + 1e-07 > 5e+300"},
	{"query alert", "avg(last_1d):top5_mean(avg:x{*} by {host}.rollup(max,daily,'America/Santiago').fill( last , 300 )) > 1", "avg(last_1d):top5_mean(avg:x{*} by {host}.rollup(max, daily, 'America/Santiago').fill(last, 300)) > 1"},
	{"query alert", "avg(last_5m):timeshift(avg:x{*}.rollup(60), -3600) - count(value: value > 0.5 ):y{*} > 1", "avg(last_5m):timeshift(avg:x{*}.rollup(60), -3600) - count(v: v>0.5):y{*} > 1"},
	{"service check", `"http.can_connect".over("instance:x").by("instance","url").last(4).count_by_status()`, ""},
	{"service check", `'http.can_connect'.last( 4 ).over('*').exclude("a:b", "c").by("host").count_by_status( )`, `"http.can_connect".over("*").exclude("a:b","c").by("host").last(4).count_by_status()`},
	{"composite", "${ref:monitor.publishing-high} && !(1||2)", "${ref:monitor.publishing-high} && !(1 || 2)"},
	{"composite", "(1 && 2) || (3 && (4 && !!5)) ", "1 && 2 || 3 && (4 && 5)"},
	{"slo alert", `burn_rate("${ref:slo.http-latency}").over("30d").long_window("60m").short_window("5m") > 14.4`, `burn_rate("${ref:slo.http-latency}").over("30d").long_window("1h").short_window("5m") > 14.4`},
	{"slo alert", `error_budget("0123456789abcdef").over("90d") >= 75`, ""},
	{"log alert", ` logs("x").last("5m") > 1 `, `logs("x").last("5m") > 1`},
}

func TestCanonical(t *testing.T) {
	t.Parallel()
	for _, c := range canonical {
		want := c.want
		if want == "" {
			want = c.text
		}
		q, err := query.Parse(c.kind, c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if got := q.String(); got != want {
			t.Errorf("%s\n got %s\nwant %s", c.text, got, want)
		}
		again, err := query.Parse(c.kind, q.String())
		if err != nil || again.String() != q.String() {
			t.Errorf("%s: the canonical form is read as %v, %v", q, again, err)
		}
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"*":                                    "",
		"env:prod,service:x":                   "",
		"!a:b":                                 "",
		"NOT a:b":                              "!a:b",
		"production , a:b":                     "production,a:b",
		"a:b AND c:d":                          "a:b,c:d",
		"a:b and (c:d or c:e)":                 "a:b AND c IN (d,e)",
		"a:b AND (c:d OR e:f*)":                "",
		"a IN (x, y)":                          "a IN (x,y)",
		"a in (x)":                             "a:x",
		"a NOT IN (x,y)":                       "",
		"a NOT IN (x)":                         "!a:x",
		"a:x OR a:y*":                          "",
		"NOT (a:b AND c:d)":                    "",
		"NOT NOT (a:b AND c:d)":                "a:b,c:d",
		"NOT (a:b OR c:d)":                     "",
		"a:b OR (c:d OR e:f) OR (g:h AND i:j)": "a:b OR c:d OR e:f OR g:h AND i:j",
		"a:b AND NOT c:d AND (e OR f:g)":       "",
		"a:b:c/d-e.f,http.status:5*":           "",
	} {
		if want == "" {
			want = text
		}
		s, err := query.ParseSeries("sum:x{" + text + "}")
		if err != nil {
			t.Errorf("{%s}: %v", text, err)
			continue
		}
		if got := query.FormatFilter(s.Filter); got != want {
			t.Errorf("{%s}: got {%s}, want {%s}", text, got, want)
		}
		if again, err := query.ParseSeries(s.String()); err != nil || again.String() != s.String() {
			t.Errorf("%s is read as %v, %v", s, again, err)
		}
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("(", 60) + "1" + strings.Repeat(")", 60)
	// In the canonical form the innermost IN needs parentheses of its own.
	widening := strings.Repeat("NOT (b AND ", 50) + "a IN (x*,y)" + strings.Repeat(")", 50)
	for _, c := range []struct {
		kind, text string
		offset     int
		message    string
	}{
		{"query alert", "", 0, "expected how the window is aggregated"},
		{"query alert", "sum:x{*} > 1", 3, `expected "("`},
		{"query alert", "avg(5m):sum:x{*} > 1", 4, "from last_1m to last_1w"},
		{"query alert", "avg(last_8d):sum:x{*} > 1", 4, "from last_1m to last_1w"},
		{"query alert", "change(avg(last_5m),5m):avg:x{*} > 1", 20, "such as last_5m or 1h_ago"},
		{"query alert", "change(avg(last_5m),last_5m_ago):avg:x{*} > 1", 20, "such as last_5m or 1h_ago"},
		{"query alert", "change(avg(last_5m)):avg:x{*} > 1", 19, "how long ago"},
		{"query alert", "avg(last_5m):system.load.1{*} > 1", 13, "avg:system.load.1{*}"},
		{"query alert", "avg(last_5m):avg:x > 1", 19, `{*} for all`},
		{"query alert", "avg(last_5m):avg:x{} > 1", 19, `{*} for all`},
		{"query alert", "avg(last_5m):defualt_zero(avg:x{*}) > 1", 13, `did you mean "default_zero"?`},
		{"query alert", "avg(last_5m):avg:x{*}.as_cuont() > 1", 22, `did you mean "as_count"?`},
		{"query alert", "avg(last_5m):avg:x{*}.as_count(1) > 1", 22, `no arguments`},
		{"query alert", "avg(last_5m):avg:x{*}.rollup(sun, 60) > 1", 22, `rollup(sum, 60)`},
		{"query alert", "avg(last_5m):avg:x{*}.rollup(sum, -60) > 1", 22, `rollup(sum, 60)`},
		{"query alert", "avg(last_5m):avg:x{*}.rollup() > 1", 22, `rollup(sum, 60)`},
		{"query alert", "avg(last_5m):avg:x{*}.as_count().as_rate() > 1", 33, `stands after as_count()`},
		{"query alert", "avg(last_5m):avg:x{ä:ö} ? 1", 26, `at character 25 of`},
		{"query alert", "avg(last_5m):avg:x{*}.fill(0) > 1", 22, `fill(last, 300)`},
		{"query alert", "avg(last_5m):avg:x{*} by {host,host} > 1", 31, `twice`},
		{"query alert", "avg(last_5m):avg:x{*} by {host:a} > 1", 26, `only its name`},
		{"query alert", "avg(last_5m):avg:x{a:b AND !c:d} > 1", 19, "words alone"},
		{"query alert", "avg(last_5m):avg:x{a:} > 1", 19, "a tag with its value"},
		{"query alert", "avg(last_5m):avg:x{*} > ${critical}", 24, "filled in"},
		{"query alert", "avg(last_5m):avg:x{*} > threshold", 24, "write a number"},
		{"query alert", "avg(last_5m):avg:x{*} > 5 5", 26, "expected the end"},
		{"query alert", "avg(last_5m):avg:x{*} > 5m", 24, "a number"},
		{"query alert", "avg(last_5m):avg:x{*} => 5", 22, "a comparison"},
		{"query alert", "avg(last_5m):(avg:x{*} > 5", 23, `a parenthesis is not closed`},
		{"query alert", "avg(last_5m):" + deep + " > 5", 63, "more than 50"},
		{"query alert", "avg(last_5m):count(v: w<=1):x{*} > 5", 22, "name of the value again"},
		{"query alert", "avg(last_5m):top(avg:x{*}, 5, 'mean', avg:y{*}) > 5", 38, "stand before"},
		{"query alert", strings.Repeat("x", 1<<20), 16 << 10, "limit"},
		{"query alert", "avg(last_5m):avg:x{AND} > 1", 19, "expected a tag"},
		{"query alert", "avg(last_5m):avg:x{a:b,or} > 1", 23, "expected a tag"},
		{"query alert", "avg(last_5m):avg:" + strings.Repeat("x", 201) + "{*} > 1", 17, "200 are the limit"},
		{"query alert", "avg(last_5m):avg:x{" + widening + "} > 1", 0, "more than 50"},
		{"query alert", "avg(last_5m):" + strings.Repeat("1/", 8000) + "1 > 1", 0, "when it is written out"},
		{"service check", `"x".over("a'b").last(4).count_by_status()`, 11, `cannot have quotes`},
		{"composite", "1 && 123456789012345678901", 5, "the number of a monitor"},
		{"slo alert", `error_budget("` + strings.Repeat("a", 65) + `").over("7d") > 1`, 13, "the id of an SLO"},
		{"service check", `"x".by("host").last(4).count_by_status()`, 38, `.over("*")`},
		{"service check", `"x".over("a b ").last(4).count_by_status()`, 9, `without spaces`},
		{"service check", `"x".over("*").last(0).count_by_status()`, 19, "1 to 100"},
		{"service check", `"x".over("*").over("*")`, 14, "twice"},
		{"composite", "1 and 2", 2, "the end"},
		{"composite", "${ref:slo.x}", 0, "${ref:monitor.NAME}"},
		{"composite", "a && b", 0, "the number of a monitor"},
		{"slo alert", `burn_rate("x").over("30d") > 1`, 27, "long_window"},
		{"slo alert", `burn_rate("x").over("1d").long_window("1h").short_window("5m") > 1`, 25, "7d, 30d or 90d"},
		{"slo alert", `burn_rate("x").over("7d").long_window("49h").short_window("5m") > 1`, 64, "1h to 48h"},
		{"slo alert", `burn_rate("x").over("7d").long_window("1h").short_window("1h") > 1`, 63, "not shorter"},
		{"slo alert", `error_budget("${ref:monitor.x}").over("7d") > 1`, 13, "${ref:slo.NAME}"},
	} {
		_, err := query.Parse(c.kind, c.text)
		var fault *query.Fault
		if !errors.As(err, &fault) {
			t.Errorf("%s: got %v, want a fault", c.text, err)
			continue
		}
		if fault.Offset != c.offset || !strings.Contains(fault.Error(), c.message) {
			t.Errorf("%.80s:\n got %d: %v\nwant %d: …%s…", c.text, fault.Offset, fault, c.offset, c.message)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, c := range canonical {
		f.Add(c.kind, c.text)
	}
	f.Add("", "sum:x{NOT (a:b AND c IN (d,e)) OR f}")
	f.Fuzz(func(t *testing.T, kind, text string) {
		var q interface{ String() string }
		var err error
		parse := func(text string) (interface{ String() string }, error) {
			if kind == "" {
				return query.ParseExpr(text)
			}
			return query.Parse(kind, text)
		}
		if q, err = parse(text); err != nil {
			var fault *query.Fault
			if !errors.As(err, &fault) || fault.Offset < 0 || fault.Offset > len(text) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		again, err := parse(q.String())
		if err != nil {
			t.Fatalf("%q becomes %q: %v", text, q, err)
		}
		if !reflect.DeepEqual(again, q) || again.String() != q.String() {
			t.Fatalf("%q becomes %q and then %q", text, q, again)
		}
	})
}

package declare_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

// TestInterpolation puts texts together from pieces whose result is known, and compares the whole.
func TestInterpolation(t *testing.T) {
	t.Parallel()
	pieces := [][2]string{
		{"text", "text"}, {"${env}", "prod"}, {"${critical}", "10"}, {"${half}", "0.5"}, {"${large}", "10000000"}, {"${yes}", "true"},
		{"$${env}", "${env}"}, {"$", "$"}, {"{", "{"}, {"}", "}"}, {"{{value}}", "{{value}}"}, {" ", " "}, {"é", "é"},
		{"${each.key}", "a"}, {"${ref:monitor.n-${each.key}}", "${ref:monitor.n-a}"}, {"${name}", "latam"},
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var text, want strings.Builder
		for range 1 + random.IntN(8) {
			p := pieces[random.IntN(len(pieces))]
			if strings.HasSuffix(text.String(), "$") && strings.HasPrefix(p[0], "$") || strings.HasSuffix(text.String(), "$") && strings.HasPrefix(p[0], "{") {
				continue // together they would be another piece
			}
			text.WriteString(p[0])
			want.WriteString(p[1])
		}
		if strings.ContainsAny(strings.ReplaceAll(want.String(), "{{value}}", ""), "{}") && strings.Contains(strings.ReplaceAll(text.String(), "{{value}}", ""), "{{") {
			continue // braces that read as a variable of Datadog
		}
		o := options(t, map[string]string{"a.yaml": `version: 1
values: {half: 0.5, large: 1e7, yes: true}
monitors:
  n: {for_each: [a], title: n, query: "avg(last_5m):avg:system.cpu.idle{*} < 10", thresholds: {critical: 10}}
  m:
    for_each: [a]
    title: m
    query: "avg(last_5m):avg:system.cpu.idle{*} < ${critical}"
    thresholds: {critical: 10}
    message: {recovery: "x` + text.String() + `x"}
`})
		o.Notify = nil
		set, err := declare.Load(o)
		if err != nil {
			t.Fatalf("%s: %v", text.String(), err)
		}
		got := set.Lookup(declare.Key{Kind: declare.Monitor, Name: "m-a"}).Payload["message"]
		if want := "{{#is_recovery}}x" + want.String() + "x{{/is_recovery}}"; got != want {
			t.Errorf("%s: got %s, want %s", text.String(), got, want)
		}
	}
}

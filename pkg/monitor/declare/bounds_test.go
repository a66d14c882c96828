package declare_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/strictyaml"
)

// repeated writes a line for each number below n.
func repeated(n int, line func(i int) string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(line(i))
	}
	return b.String()
}

// TestBounds tells whether files that grow when they are expanded are refused, in bounded time.
func TestBounds(t *testing.T) {
	t.Parallel()
	const monitor = `title: "${each.key}", query: "avg(last_5m):avg:system.cpu.idle{*} < ${critical}", thresholds: {critical: 5}`
	keys := strings.TrimSuffix(repeated(5000, func(i int) string { return fmt.Sprintf("%d,", i) }), ",")
	for name, c := range map[string]struct{ file, want string }{
		"templates in use": {
			"version: 1\ntemplates:\n  t:\n    monitors:\n" + repeated(1000, func(i int) string { return fmt.Sprintf("      m%d: {title: t, query: q}\n", i) }) +
				"use:\n" + repeated(1000, func(i int) string { return fmt.Sprintf("  u%d: {template: t}\n", i) }),
			"there are more than 5000 objects",
		},
		"for_each": {
			"version: 1\nvalues: {keys: [" + keys + "]}\nmonitors:\n" +
				repeated(500, func(i int) string { return fmt.Sprintf("  m%d: {for_each: \"${keys}\", %s}\n", i, monitor) }),
			"there are more than 5000 objects",
		},
		"long texts": {
			"version: 1\nvalues: {keys: [" + keys + "]}\nmonitors:\n" +
				fmt.Sprintf("  m: {for_each: \"${keys}\", message: {alert: %s}, %s}\n", strings.Repeat("x", 60<<10), monitor),
			"all texts together are longer",
		},
		"a text that grows": {
			"version: 1\nvalues: {long: " + strings.Repeat("x", 60<<10) + "}\nmonitors:\n" +
				fmt.Sprintf("  m: {message: {alert: \"%s\"}, for_each: [a], %s}\n", strings.Repeat("${long}", 10_000), monitor),
			"becomes longer than 65536 bytes",
		},
		"a list in many places": {
			"version: 1\nvalues: {keys: [" + keys + "]}\nmonitors:\n" +
				repeated(1000, func(i int) string { return fmt.Sprintf("  m%d: {tags: \"${keys}\", title: t, query: q}\n", i) }),
			"tags in monitor m0 has 5000 entries, at most 100 are taken",
		},
		"lists in many objects": {
			"version: 1\nvalues: {keys: [" + keys + "]}\nmonitors:\n  m: {for_each: \"${keys}\", " + monitor + ", tags: [" + strings.Repeat("a,", 500) + "a]}\n",
			"tags in monitor m has 501 entries, at most 100 are taken",
		},
		"a chain of extends": {
			"version: 1\nmonitors:\n" + repeated(6000, func(i int) string { return fmt.Sprintf("  m%d: {extends: m%d}\n", i, i+1) }),
			`there is no monitor "m6000" to extend`,
		},
		"names that there are not": {
			"version: 1\nmonitors:\n" + repeated(5000, func(i int) string { return fmt.Sprintf("  m%d: {extends: n%d}\n", i, i) }),
			"there is no monitor",
		},
		"metrics that there are not": {
			"version: 1\nvalues: {keys: [" + keys + "]}\nmonitors:\n" +
				"  m: {for_each: \"${keys}\", title: \"${each.key}\", query: \"avg(last_5m):avg:system.m${each.key}{*} < ${critical}\", thresholds: {critical: 5}}\n",
			"which nothing sends",
		},
		"references in each other": {
			"version: 1\nmonitors: {m: {title: t, query: \"" + strings.Repeat("${ref:", 10_000) + "\"}}",
			"has no matching }",
		},
		"widgets": {
			"version: 1\nvalues: {keys: [" + keys + "]}\nmonitors:\n  m: {for_each: [" + keys[:2000] + "], " + monitor + "}\ndashboards:\n  d:\n    title: t\n    groups:\n" +
				repeated(100, func(int) string { return "      - {title: t, widgets: [{monitor: m}, {monitor: m}]}\n" }),
			"a group has at most 200",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			started := time.Now()
			o := options(t, map[string]string{"a.yaml": c.file})
			o.Notify = nil
			_, err := declare.Load(o)
			var problems *strictyaml.Problems
			if !errors.As(err, &problems) {
				t.Fatalf("got %v", err)
			}
			found := false
			for _, p := range problems.List {
				found = found || strings.Contains(p.Message, c.want)
			}
			if !found {
				t.Errorf("got %s\nwant %s", err, c.want)
			}
			if took := time.Since(started); took > slow {
				t.Errorf("it took %v", took)
			}
		})
	}
}

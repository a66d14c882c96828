package declare_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

// TestVerbatim: what was made elsewhere is sent as it is there.
func TestVerbatim(t *testing.T) {
	t.Parallel()
	load := func(entry string) (*declare.Set, error) {
		return declare.Load(declare.Options{
			BuiltIn:     fstest.MapFS{"a.yaml": {Data: []byte("version: 1\ntags: [\"team:data\"]\nmonitors:\n  old:\n    title: Old one\n    query: \"avg(last_5m):avg:system.load.1{*} > ${critical}\"\n    thresholds: {critical: 3}\n" + entry)}},
			Environment: "prod",
		})
	}
	set, err := load("    verbatim: true\n    message: \"Busy. @slack-ops {{#is_alert}}Now.{{/is_alert}}\"\n    tags: [\"env:production\", \"a:b\"]\n")
	if err != nil {
		t.Fatal(err)
	}
	got := set.Lookup(declare.Key{Kind: declare.Monitor, Name: "old"}).Payload
	for field, want := range map[string]any{"name": "Old one", "message": "Busy. @slack-ops {{#is_alert}}Now.{{/is_alert}}", "tags": []any{"a:b", "env:production"}} {
		if d := cmp.Diff(want, got[field]); d != "" {
			t.Errorf("%s: %s", field, d)
		}
	}
	for entry, want := range map[string]string{
		"    message: Busy.\n":                                "message in monitor old is one text",
		"    tags: [\"env:production\"]\n":                    "is not that of environment prod",
		"    verbatim: true\n    tags: [\"latamctl_id:x\"]\n": "is for latamctl itself",
	} {
		if _, err := load(entry); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", entry, err)
		}
	}
}

package stack

import (
	"fmt"
	"maps"
	"path/filepath"
	"testing"

	tfjson "github.com/hashicorp/terraform-json"

	"github.com/latamctl/latamctl/pkg/plan"
)

// TestOldRunsGo: the last 50 stay, and those that something may still be taken over from.
func TestOldRunsGo(t *testing.T) {
	f := chained(t)
	for i := range keptRuns + 10 {
		record := `{"version":1,"ended":"2026-01-03T04:00:00Z"}`
		if i == 3 {
			record = `{"version":1,"begun":true}`
		}
		if err := f.proc.WriteFile(fmt.Sprintf("work/runs/20260101T0000%02d/run.json", i), []byte(record)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.driver().Plan(t.Context(), PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	left, err := f.proc.FoldersBut("work/runs", 0)
	if err != nil || len(left) != keptRuns+1 || left[0] != "20260101T000003" || left[1] != "20260101T000011" {
		t.Errorf("%d runs are left, the first are %v, %v", len(left), left[:2], err)
	}
	text, err := f.proc.ReadFile(filepath.Join("work", ".gitignore"))
	if err != nil || string(text) != "*\n" {
		t.Errorf(".gitignore: %q, %v", text, err)
	}
}

// TestOutsideChangesThatAreNone: an empty list for a null is no change, another value is one.
func TestOutsideChangesThatAreNone(t *testing.T) {
	t.Parallel()
	drift := func(before, after map[string]any) bool {
		shown := []*tfjson.ResourceChange{{Address: "thing.one", Change: &tfjson.Change{Before: before, After: after}}}
		changes := []plan.Change{{Address: "thing.one", Action: plan.Update, Reason: changedOutside}}
		detail(changes, shown, nil)
		return !saysNothing(changes[0], shown)
	}
	same := map[string]any{"labels": nil, "routing": []any{}, "note": "", "size": 1.0}
	if drift(same, map[string]any{"labels": map[string]any{}, "routing": nil, "note": nil, "size": 1.0}) {
		t.Error("another form of nothing is a change")
	}
	for key, value := range map[string]any{"labels": map[string]any{"a": "b"}, "size": 2.0, "note": "x", "routing": []any{map[string]any{}}} {
		after := maps.Clone(same)
		after[key] = value
		if !drift(same, after) {
			t.Errorf("%s: a change is none", key)
		}
	}
	if saysNothing(plan.Change{Address: "thing.two", Action: plan.Update, Reason: changedOutside}, nil) {
		t.Error("a change whose attributes are not known is none")
	}
}

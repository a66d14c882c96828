package stack

import (
	"fmt"
	"path/filepath"
	"testing"
)

// TestOldRunsGo: the last 50 stay, and those that something may still be taken over from.
func TestOldRunsGo(t *testing.T) {
	f := chained(t)
	for i := range keptRuns + 10 {
		record := `{"version":1,"ended":"2026-01-03T04:00:00Z"}`
		if i == 3 {
			record = `{"version":1,"begun":true}`
		}
		if err := f.proc.WriteFile(fmt.Sprintf(f.opts.Dir+"/runs/20260101T0000%02d/run.json", i), []byte(record)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.driver().Plan(t.Context(), PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	left, err := f.proc.FoldersBut(f.opts.Dir+"/runs", 0)
	if err != nil || len(left) != keptRuns+1 || left[0] != "20260101T000003" || left[1] != "20260101T000011" {
		t.Errorf("%d runs are left, the first are %v, %v", len(left), left[:2], err)
	}
	text, err := f.proc.ReadFile(filepath.Join(f.opts.Dir, ".gitignore"))
	if err != nil || string(text) != "*\n" {
		t.Errorf(".gitignore: %q, %v", text, err)
	}
}

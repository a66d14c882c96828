package stack

import (
	"fmt"
	"path/filepath"
	"testing"
)

func TestSlots(t *testing.T) {
	t.Parallel()
	const gib = 1 << 30
	for _, tt := range []struct {
		processors int
		free       int64
		want       int
	}{
		{1, 0, 2}, {2, 8 * gib, 2}, {3, 8 * gib, 3}, {16, 8 * gib, 4}, {16, gib, 2}, {16, gib / 2, 1}, {16, gib / 4, 1},
	} {
		if got := slots(tt.processors, tt.free); got != tt.want {
			t.Errorf("%d processors, %d bytes: %d, want %d", tt.processors, tt.free, got, tt.want)
		}
	}
}

// TestOldRunsGo: the last 50 stay, and those that something may still be taken over from.
func TestOldRunsGo(t *testing.T) {
	f := chained(t)
	for i := range keptRuns + 10 {
		record := `{"version":1,"ended":"2026-01-03T04:00:00Z"}`
		if i == 3 {
			record = `{"version":1,"begun":true}`
		}
		if err := f.proc.WriteFile(fmt.Sprintf(".latamctl/runs/20260101T0000%02d/run.json", i), []byte(record)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.driver().Plan(t.Context(), PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	left, err := f.proc.FoldersBut(".latamctl/runs", 0)
	if err != nil || len(left) != keptRuns+1 || left[0] != "20260101T000003" || left[1] != "20260101T000011" {
		t.Errorf("%d runs are left, the first are %v, %v", len(left), left[:2], err)
	}
	text, err := f.proc.ReadFile(filepath.Join(".latamctl", ".gitignore"))
	if err != nil || string(text) != "*\n" {
		t.Errorf(".gitignore: %q, %v", text, err)
	}
}

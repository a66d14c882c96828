package bench

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func sampleReport() *Report {
	return &Report{
		Schema: Schema, Kind: "engine",
		Machine:   Machine{OS: "linux", Arch: "amd64", CPUs: 2, Go: "go1.26"},
		StartedAt: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		Settings:  map[string]any{"engine": "embedded", "record_bytes": 300},
		Runs: []Run{
			{
				Name: "pipeline-1000", Target: "embedded", Loop: OpenLoop, OfferedPerSecond: 1000, AchievedPerSecond: 998.4, Sustained: true, Seconds: 5.008, CPUSeconds: 1.5,
				Latencies: map[string]Latency{
					Commit:            {Count: 4100, P50: 0.4, P99: 0.9, P999: 1.25, Max: 2},
					PublishToReadable: {Count: 5000, P50: 3.1, P99: 4, P999: 5.5, Max: 6.001},
					PublishToDelivery: {Count: 5000, P50: 2.7, P99: 3.5, P999: 5, Max: 5.5},
					Publish:           {Count: 5000, P50: 2.1, P99: 3, P999: 4.5, Max: 5},
				},
				Counts:        map[string]int64{"done": 5000, "errors": 0, "unfinished": 0, "redelivered": 0, "commits": 4100},
				RowsPerCommit: &RowsPerCommit{Mean: 1.2, Max: 7}, Backlog: &Backlog{Middle: 3.1, Last: 3},
			},
			{
				Name: "get", Target: "embedded", Loop: ClosedLoop, AchievedPerSecond: 30_000, Sustained: true, Seconds: 5,
				Latencies: map[string]Latency{"get": {Count: 150_000, P50: 2, P99: 7, P999: 9, Max: 12}},
				Counts:    map[string]int64{"done": 150_000, "errors": 0},
			},
			{
				Name: "pipeline-1000", Target: "emulators", Loop: OpenLoop, OfferedPerSecond: 1000, AchievedPerSecond: 87, Seconds: 15,
				Latencies: map[string]Latency{Publish: {}, "other": {}},
				Counts:    map[string]int64{"done": 1305, "errors": 2, "unfinished": 3693},
			},
		},
		Comparisons: []Comparison{{Name: "ingest against a bare loop", Ratio: 0.934, Target: 0.9}},
		Notes:       []string{"something was left out"},
	}
}

// TestReportGolden pins what scripts and people read.
func TestReportGolden(t *testing.T) {
	t.Parallel()
	document, err := json.MarshalIndent(sampleReport(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	var table bytes.Buffer
	if err := sampleReport().WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string][]byte{"report.json": append(document, '\n'), "report.txt": table.Bytes()} {
		path := filepath.Join("testdata", name)
		if flag.Lookup("update").Value.String() == "true" {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
}

// TestNewReport checks what every report has, however little was measured.
func TestNewReport(t *testing.T) {
	t.Parallel()
	document, err := json.Marshal(NewReport("engine", time.Date(2026, 3, 1, 13, 0, 0, 0, time.FixedZone("", 3600))))
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(document, &got); err != nil {
		t.Fatal(err)
	}
	if got["schema"] != "latamctl.bench/v1" || got["kind"] != "engine" || got["started_at"] != "2026-03-01T12:00:00Z" {
		t.Errorf("report %s", document)
	}
	if runs, ok := got["runs"].([]any); !ok || len(runs) != 0 {
		t.Errorf("runs are %v, want an empty list", got["runs"])
	}
	machine, _ := got["machine"].(map[string]any)
	for _, key := range []string{"os", "arch", "cpus", "go"} {
		if machine[key] == nil {
			t.Errorf("machine has no %s: %s", key, document)
		}
	}
}

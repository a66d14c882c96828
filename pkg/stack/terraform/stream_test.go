package terraform

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/pkg/proc"
)

const sampleStream = `Acquiring state lock. This may take a few moments...
{"@level":"info","@message":"Terraform 1.11.4","@timestamp":"2026-11-25T17:58:16.477002Z","terraform":"1.11.4","type":"version","ui":"1.2"}
{"type":"resource_drift","@message":"d","change":{"resource":{"addr":"google_pubsub_topic.t","resource_type":"google_pubsub_topic"},"action":"update"}}
{"type":"planned_change","@message":"m","change":{"resource":{"addr":"x.new","resource_type":"x"},"previous_resource":{"addr":"x.old"},"action":"move"}}
{"type":"planned_change","change":{"resource":{"addr":"x.gone","resource_type":"x"},"action":"remove"}}
{"type":"planned_change","change":{"resource":{"addr":"x.r","resource_type":"x"},"action":"replace","reason":"cannot_update"}}
{"type":"planned_change","change":{"resource":{"addr":"data.x.d","resource_type":"x"},"action":"read"}}
{"type":"planned_change","change":{"resource":{"addr":"x.same","resource_type":"x"},"action":"noop"}}
{"type":"diagnostic","@level":"warn","@message":"Warning: w","diagnostic":{"severity":"warning","summary":"w","detail":"old","range":{"filename":"main.tf","start":{"line":3}}}}
{"type":"diagnostic","@level":"warn","@message":"Warning: w","diagnostic":{"severity":"warning","summary":"w","detail":"old","range":{"filename":"main.tf","start":{"line":3}}}}
{"type":"apply_progress","@message":"still","hook":{"resource":{"addr":"x.r"},"action":"create","elapsed_seconds":10}}
{"no":"type"}
{"type":"change_summary","changes":{"add":1,"change":0,"import":2,"remove":1,"operation":"plan"}}
{"type":"outputs","outputs":{"ip":{"sensitive":false,"action":"create","value":"10.0.0.1"},"key":{"sensitive":true,"action":"noop","value":"never"}}}
{"type":"plann`

func readAll(text string) (stream, []Event) {
	var s stream
	var events []Event
	for line := range strings.Lines(text) {
		if e, ok := s.line([]byte(line)); ok {
			events = append(events, e)
		}
	}
	return s, events
}

func TestStream(t *testing.T) {
	t.Parallel()
	s, events := readAll(sampleStream)
	want := Summary{
		Changes: []StreamChange{
			{Address: "x.new", Type: "x", Action: "move", PreviousAddress: "x.old"},
			{Address: "x.gone", Type: "x", Action: "forget"},
			{Address: "x.r", Type: "x", Action: "replace", Reason: "cannot_update"},
		},
		Drift:       []StreamChange{{Address: "google_pubsub_topic.t", Type: "google_pubsub_topic", Action: "update"}},
		Diagnostics: []Diagnostic{{Severity: "warning", Summary: "w", Detail: "old", File: "main.tf", Line: 3}},
		Outputs: map[string]OutputChange{
			"ip":  {Action: "create", Value: json.RawMessage(`"10.0.0.1"`)},
			"key": {Action: "no-op", Sensitive: true},
		},
		Add: 1, Import: 2, Remove: 1,
	}
	if diff := cmp.Diff(want, s.Summary); diff != "" {
		t.Error(diff)
	}
	if !s.finished || s.interrupted || len(s.plain) != 3 || !strings.HasPrefix(s.plain[0], "Acquiring") {
		t.Errorf("finished %t, interrupted %t, plain %q", s.finished, s.interrupted, s.plain)
	}
	if len(events) != 12 {
		t.Fatalf("%d events", len(events))
	}
	progress := events[9]
	if progress.Type != "apply_progress" || progress.Address != "x.r" || progress.Elapsed.Seconds() != 10 || progress.Action != "create" || progress.Message != "still" {
		t.Errorf("event %+v", progress)
	}
	if events[0].Time.IsZero() || events[3].Action != "forget" {
		t.Errorf("events %+v", events)
	}
	s, _ = readAll(strings.Repeat("plain\n", 1000))
	if len(s.plain) != plainLines {
		t.Errorf("%d plain lines are kept", len(s.plain))
	}
}

// TestFollow writes a file in pieces of all sizes: the lines come whole and in order.
func TestFollow(t *testing.T) {
	t.Parallel()
	long := `{"type":"log","@message":"` + strings.Repeat("x", 1<<20) + `"}`
	tooLong := strings.Repeat("y", 3<<20)
	want := []string{"first", long, "", "{}", tooLong, "after", "without an end"}
	text := []byte(strings.Join(want, "\n"))
	for _, piece := range []int{7, 4096, 1 << 20, len(text)} {
		if piece == 7 {
			piece = 100_003 // As small as a quick test allows; never a multiple of a line.
		}
		path := filepath.Join(t.TempDir(), "events")
		out, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		f, err := follow(proc.OS(), path, 2<<20, func(line []byte) { got = append(got, string(line)) })
		if err != nil {
			t.Fatal(err)
		}
		for rest := text; len(rest) > 0; {
			n := min(piece, len(rest))
			if _, err := out.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
			if err := f.poll(); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.finish(); err != nil {
			t.Fatal(err)
		}
		out.Close()
		wanted := []string{"first", long, "{}", tooLong[:2<<20], "after", "without an end"}
		if len(got) != len(wanted) {
			t.Fatalf("pieces of %d: %d lines, want %d", piece, len(got), len(wanted))
		}
		for i := range got {
			if got[i] != wanted[i] {
				t.Errorf("pieces of %d: line %d has %d bytes, want %d", piece, i, len(got[i]), len(wanted[i]))
			}
		}
	}
}

// FuzzFollow compares the follower with a split of the whole text, and the stream must take it all.
func FuzzFollow(f *testing.F) {
	f.Add([]byte(sampleStream), 10)
	f.Add([]byte("\n\n{}\n{\"type\":1}\n\x00"), 1)
	f.Add([]byte(`{"type":"outputs","outputs":{"a":null}}`), 3)
	f.Fuzz(func(t *testing.T, text []byte, piece int) {
		var got [][]byte
		var s stream
		x := &follower{maxLine: 1 << 20, line: func(b []byte) {
			got = append(got, bytes.Clone(b))
			s.line(b)
		}}
		for rest := text; len(rest) > 0; {
			n := min(max(1, piece%97), len(rest))
			x.take(rest[:n])
			rest = rest[n:]
		}
		x.end()
		var want [][]byte
		for line := range bytes.SplitSeq(text, []byte("\n")) {
			if len(line) > 0 {
				want = append(want, line)
			}
		}
		if len(got) != len(want) || !bytes.Equal(bytes.Join(got, nil), bytes.Join(want, nil)) {
			t.Errorf("%d lines, want %d", len(got), len(want))
		}
		for _, o := range s.Outputs {
			if o.Sensitive && o.Value != nil {
				t.Errorf("a sensitive value is in %s", fmt.Sprintf("%+v", o))
			}
		}
	})
}

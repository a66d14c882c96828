package query

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/web"
)

const recordsPath = "/v1/datasets/flights/records"

func flight(i int) string {
	return fmt.Sprintf(`{"origin":"SCL","departed_at":"2001-01-01T00:%02d:%02dZ","destination":"LIM"}`, i/60%60, i%60)
}

func TestPublish(t *testing.T) {
	t.Parallel()
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for _, tt := range []struct {
		name, contentType, body string
		want                    []string
	}{
		{"one object", "application/json", "\n " + flight(1) + "\n", []string{flight(1)}},
		{"one object with a charset", "application/json; charset=UTF-8", flight(1), []string{flight(1)}},
		{"over several lines", "application/json", strings.ReplaceAll(flight(1), ",", ",\n"), []string{strings.ReplaceAll(flight(1), ",", ",\n")}},
		{"lines", "application/x-ndjson", flight(1) + "\n\n" + flight(2) + "\r\n" + flight(3), []string{flight(1), flight(2), flight(3)}},
		{"one line", "application/x-ndjson", flight(1) + "\n", []string{flight(1)}},
	} {
		w := newWorld(t, testYAML, Options{})
		rec := w.do("POST", recordsPath, tt.body, "Content-Type", tt.contentType, "traceparent", parent)
		if rec.Code != 202 {
			t.Errorf("%s: %d %s", tt.name, rec.Code, rec.Body)
			continue
		}
		var got struct {
			Published  int      `json:"published"`
			MessageIDs []string `json:"message_ids"`
		}
		if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil || got.Published != len(tt.want) || len(got.MessageIDs) != len(tt.want) {
			t.Errorf("%s: %s", tt.name, rec.Body)
		}
		var sent []string
		for i, m := range w.bus.messages {
			sent = append(sent, string(m.Data))
			if w.bus.topics[i] != "flights-events" || !strings.HasPrefix(m.Attributes["traceparent"], "00-4bf92f3577b34da6a3ce929d0e0e4736-") {
				t.Errorf("%s: to %s with %v", tt.name, w.bus.topics[i], m.Attributes)
			}
		}
		if d := cmp.Diff(tt.want, sent); d != "" {
			t.Errorf("%s: %s", tt.name, d)
		}
	}
}

func TestOneBadRecordRefusesAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{})
	var body strings.Builder
	for i := range 50 {
		switch {
		case i == 0:
			body.WriteString(flight(i))
		case i == 1:
			body.WriteString(`{"origin":"SCL","departed_at":"2001-01-01T00:00:00Z","destination":"LIM","delay_minutes":"5"}`)
		case i == 2:
			body.WriteString("") // a blank line counts
		default:
			body.WriteString(`{"orign":1}`)
		}
		body.WriteString("\n")
	}
	p := problemOf(t, w.do("POST", recordsPath, body.String(), "Content-Type", "application/x-ndjson"))
	if p.Code != web.InvalidRecord || len(p.Errors) != 20 || p.Metadata["refused"] != 48.0 || p.Metadata["records"] != 49.0 {
		t.Errorf("%+v", p)
	}
	if f := p.Errors[0]; f.Line != 2 || f.Field != "delay_minutes" || f.Code != "wrong_type" || f.Detail == "" {
		t.Errorf("%+v", f)
	}
	if f := p.Errors[1]; f.Line != 4 || f.Field != "orign" || f.Code != "unknown_field" {
		t.Errorf("%+v", f)
	}
	if len(w.bus.messages) != 0 {
		t.Errorf("%d messages were published", len(w.bus.messages))
	}
}

func TestPublishIncompleteSaysWhich(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{MaxRecords: 5000})
	w.bus.err, w.bus.failAt = bus.ErrUnavailable, bus.MaxBatchMessages
	var body strings.Builder
	body.WriteString("\n") // so that lines and records are counted apart
	const extra = 3
	for i := range bus.MaxBatchMessages + extra {
		body.WriteString(flight(i) + "\n")
	}
	rec := w.do("POST", recordsPath, body.String(), "Content-Type", "application/x-ndjson")
	p := problemOf(t, rec)
	if p.Code != web.PublishIncomplete || rec.Header().Get("Retry-After") != "1" || len(p.Errors) != extra {
		t.Fatalf("%s with %d errors", p.Code, len(p.Errors))
	}
	if p.Errors[0].Line != bus.MaxBatchMessages+2 {
		t.Errorf("first unconfirmed line %d", p.Errors[0].Line)
	}
	published := p.Metadata["published"].([]any)
	if d := cmp.Diff(map[string]any{"line": 2.0, "message_id": "1"}, published[0]); d != "" || len(published) != bus.MaxBatchMessages {
		t.Errorf("%d published, %s", len(published), d)
	}
}

func TestBatchesStayWithinTheBusLimits(t *testing.T) {
	t.Parallel()
	lines := make([]line, 40)
	for i := range lines {
		lines[i].data = make([]byte, 500<<10)
	}
	for len(lines) > 0 {
		batch := nextBatch(t.Context(), lines)
		size := 0
		for _, m := range batch {
			size += len(m.Data)
		}
		if len(batch) == 0 || size > bus.MaxBatchBytes {
			t.Fatalf("a batch of %d messages, %d bytes", len(batch), size)
		}
		lines = lines[len(batch):]
	}
}

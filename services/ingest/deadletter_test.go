package ingest

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
)

func TestDeadLetterAttributes(t *testing.T) {
	t.Parallel()
	ds := loadDataset(t)
	cause := fmt.Errorf("decode: %w", &dataset.RejectError{Reason: dataset.ReasonPattern, Field: "code", Detail: "no"})
	published := time.Date(2024, 2, 29, 1, 2, 3, 4000, time.FixedZone("", -3*3600))
	own := map[string]string{
		bus.AttrStage: "decode", bus.AttrReason: "pattern", bus.AttrField: "code", bus.AttrError: cause.Error(),
		bus.AttrDataset: "events", bus.AttrSubscription: "events-ingest", bus.AttrMessageID: "77",
		bus.AttrPublishTime: "2024-02-29T04:02:03.000004Z",
	}
	with := func(more map[string]string) map[string]string {
		all := maps.Clone(own)
		maps.Copy(all, more)
		return all
	}
	for _, tc := range []struct {
		name    string
		attrs   map[string]string
		attempt int
		want    map[string]string
	}{
		{"none", nil, 0, own},
		{"originals", map[string]string{"event_id": "1", "ñ": "✈", "empty": ""}, 0, with(map[string]string{"event_id": "1", "ñ": "✈", "empty": ""})},
		{"delivery attempt", nil, 5, with(map[string]string{bus.AttrAttempt: "5"})},
		// A replayed dead letter that fails again must not carry the reasons of the first time.
		{"ours are replaced", map[string]string{bus.AttrReason: "old", bus.AttrAttempt: "9", "latam.future": "x", "latamx": "kept"}, 0, with(map[string]string{"latamx": "kept"})},
		{"a schema", map[string]string{"googclient_schemaname": "projects/p/schemas/s", "googclient_schemarevisionid": "r1", "googclient_schemaencoding": "BINARY"}, 0,
			with(map[string]string{bus.AttrSchema: "projects/p/schemas/s@r1", bus.AttrEncoding: "BINARY"})},
		{"reserved", map[string]string{"goog-x": "1", "googclient_deliveryattempt": "2", "goo": "kept"}, 0, with(map[string]string{"goo": "kept"})},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m := bus.Message{ID: "77", PublishTime: published, Attributes: tc.attrs, DeliveryAttempt: tc.attempt}
			if diff := cmp.Diff(tc.want, deadLetter(ds, m, stageDecode, cause)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestDeadLetterFitsPubsub checks the limits that would make publishing fail for ever.
func TestDeadLetterFitsPubsub(t *testing.T) {
	t.Parallel()
	ds := loadDataset(t)
	m := bus.Message{ID: "1", Attributes: map[string]string{}, DeliveryAttempt: 1}
	for i := range 100 {
		m.Attributes[fmt.Sprintf("attr%02d", i)] = strings.Repeat("v", maxAttributeValueBytes)
	}
	cause := &dataset.RejectError{Reason: dataset.ReasonUnknownField, Field: strings.Repeat("ñ", 3000), Detail: strings.Repeat("✈", 3000)}
	got := deadLetter(ds, m, stageCommit, cause)
	if len(got) != maxAttributes-1 {
		t.Errorf("%d attributes, want as many as Pub/Sub takes but one: %d", len(got), maxAttributes-1)
	}
	for key, value := range got {
		if len(key) > 256 || len(value) > maxAttributeValueBytes || !utf8.ValidString(value) {
			t.Errorf("attribute %s has %d bytes, valid UTF-8: %v", key, len(value), utf8.ValidString(value))
		}
	}
	if n := len(got[bus.AttrError]); n > 1000 || n < 990 {
		t.Errorf("the error has %d bytes, want it cut to 1000", n)
	}
	if got["attr00"] == "" || got[bus.AttrReason] != "unknown_field" {
		t.Error("the reason or the first of the originals is missing")
	}
}

func TestRejectionOfOtherErrors(t *testing.T) {
	t.Parallel()
	if reason, field := rejection(errors.New("x")); reason != "refused_by_store" || field != "" {
		t.Errorf("reason %q, field %q", reason, field)
	}
}

func FuzzCut(f *testing.F) {
	f.Add("short", 10)
	f.Add("exactly ten", 11)
	f.Add("ñandú ✈ ñandú ✈", 9)
	f.Add("\xff\xfe broken \xe2\x9c", 7)
	f.Add("✈✈✈✈", 3)
	f.Fuzz(func(t *testing.T, s string, n int) {
		if n < 3 || n > 2000 {
			return
		}
		got := cut(s, n)
		if len(got) > n || !utf8.ValidString(got) {
			t.Errorf("cut(%q, %d) = %q", s, n, got)
		}
		if valid := strings.ToValidUTF8(s, "�"); len(valid) <= n && got != valid {
			t.Errorf("cut(%q, %d) = %q, want it whole", s, n, got)
		} else if len(valid) > n && (!strings.HasSuffix(got, "…") || !strings.HasPrefix(valid, strings.TrimSuffix(got, "…")) || len(got) < n-3) {
			t.Errorf("cut(%q, %d) = %q, want as much as fits and an ellipsis", s, n, got)
		}
	})
}

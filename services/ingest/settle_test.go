package ingest

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
)

func TestAckOnlyAfterCommit(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		h.sink.setGate(make(chan struct{}))
		h.start(Options{Shards: 1})
		first := h.send(event("a", 1))
		h.wantOpen("first", first)
		if calls := h.sink.calls(); len(calls) != 1 || calls[0].table != "events" {
			t.Fatalf("calls of the sink: %+v, want one for table events", calls)
		}
		second, third := h.send(event("b", 2)), h.send(event("c", 3))
		time.Sleep(time.Hour) // No timeout of the service's own settles a write under way.
		h.wantOpen("first", first)
		h.wantOpen("second", second)
		h.letThrough(h.sink.gate)
		h.wantAck("first", first)
		h.wantOpen("second", second)
		h.wantOpen("third", third)
		h.letThrough(h.sink.gate)
		h.wantAck("second", second)
		h.wantAck("third", third)
		if got := h.sink.value("b"); got != "2" {
			t.Errorf("row b holds %s, want 2", got)
		}
		h.end()
	})
}

// TestRowAsDeclared checks that what is stored is the dataset's own row of the record.
func TestRowAsDeclared(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		h.start(Options{})
		m := h.message(event("a", 1))
		h.wantAck("message", h.deliver(m))
		ds := loadDataset(t)
		rec, err := ds.Decode(m.Data, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(rec.Row(m.PublishTime), h.sink.calls()[0].rows[0]); diff != "" {
			t.Errorf("row (-want +got):\n%s", diff)
		}
		if h.source.sub != "events-ingest" || h.source.opts.MaxMessages != 8000 || h.source.opts.MaxBytes != 64<<20 {
			t.Errorf("received from %s with %+v", h.source.sub, h.source.opts)
		}
		h.end()
	})
}

func TestRejects(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, data, reason, field string
	}{
		{"no JSON", `{"code":`, "bad_json", ""},
		{"empty", ``, "bad_json", ""},
		{"not UTF-8", "\xff\xfe", "bad_json", ""},
		{"no object", `[1]`, "bad_json", ""},
		{"unknown field", `{"code":"a","at":"1999-12-31T00:00:00Z","surplus":1}`, "unknown_field", "surplus"},
		{"missing field", `{"code":"a"}`, "missing_field", "at"},
		{"wrong type", `{"code":"a","at":"1999-12-31T00:00:00Z","n":"x"}`, "wrong_type", "n"},
		{"pattern", `{"code":"A!","at":"1999-12-31T00:00:00Z"}`, "pattern", "code"},
		{"range", `{"code":"a","at":"1999-12-31T00:00:00Z","n":-1}`, "range", "n"},
		{"too old when it was published", `{"code":"a","at":"1999-12-01T00:00:00Z"}`, "too_old", "at"},
		{"too large", `{"code":"a","at":"1999-12-31T00:00:00Z","text":"` + strings.Repeat("x", dataset.MaxRecordBytes) + `"}`, "oversize", ""},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, h *harness) {
				h.start(Options{})
				m := h.message(tc.data)
				m.Attributes = map[string]string{"event_id": "e-1", "googclient_x": "y", "latam.stage": "forged"}
				m.DeliveryAttempt = 3
				h.wantAck("the reject", h.deliver(m))
				letters := h.dead.all()
				if len(letters) != 1 || letters[0].topic != "events-dead" || letters[0].data != tc.data {
					t.Fatalf("dead letters %+v, want the message as it was on events-dead", letters)
				}
				got := letters[0].attributes
				if text := got[bus.AttrError]; text == "" || tc.field != "" && !strings.Contains(text, tc.field) {
					t.Errorf("error text %q does not name the field %q", text, tc.field)
				}
				delete(got, bus.AttrError)
				want := map[string]string{
					"event_id": "e-1", bus.AttrStage: "decode", bus.AttrReason: tc.reason, bus.AttrDataset: "events",
					bus.AttrSubscription: "events-ingest", bus.AttrMessageID: m.ID, bus.AttrAttempt: "3",
					bus.AttrPublishTime: "2000-01-01T00:00:00Z",
				}
				if tc.field != "" {
					want[bus.AttrField] = tc.field
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("attributes (-want +got):\n%s", diff)
				}
				if calls := h.sink.calls(); len(calls) != 0 {
					t.Errorf("a reject was stored: %+v", calls)
				}
				h.wantReady(nil)
				h.end()
			})
		})
	}
}

// TestRejectAckedOnlyWhenPublished blocks and fails the dead-letter topic.
func TestRejectAckedOnlyWhenPublished(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		h.dead.gate = make(chan struct{})
		h.start(Options{})
		m := h.message("no JSON")
		outcome := h.deliver(m)
		time.Sleep(10 * time.Second)
		h.wantOpen("the reject", outcome)
		h.letThrough(h.dead.gate)
		h.wantAck("the reject", outcome)

		h.dead.gate = nil
		h.dead.setErr(bus.ErrUnavailable)
		h.wantNack("a reject whose dead letter failed", h.deliver(m))
		h.dead.setErr(nil)
		h.wantAck("the same, delivered again", h.deliver(m))
		if letters := h.dead.all(); len(letters) != 2 {
			t.Errorf("%d dead letters, want 2", len(letters))
		}
		h.end()
	})
}

// together delivers records so that they share a batch: the sink holds a first one meanwhile.
func (h *harness) together(records ...string) []chan bool {
	h.t.Helper()
	gate := make(chan struct{})
	h.sink.setGate(gate)
	first := h.send(event("first", 0))
	h.wantOpen("the first", first)
	var outcomes []chan bool
	for _, record := range records {
		outcomes = append(outcomes, h.send(record))
	}
	h.idle()
	h.letThrough(gate)
	h.wantAck("the first", first)
	h.letThrough(gate)
	h.idle()
	h.sink.setGate(nil)
	return outcomes
}

func TestPoisonGoesToDeadLettersAlone(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		h.sink.setAnswer(refuse(store.ErrPoison))
		h.start(Options{Shards: 1})
		outcomes := h.together(event("a", 1), event("b", 6), event("c", 3))
		for i, outcome := range outcomes {
			h.wantAck("record "+string(rune('a'+i)), outcome)
		}
		letters := h.dead.all()
		if len(letters) != 1 || letters[0].data != event("b", 6) {
			t.Fatalf("dead letters %+v, want record b alone", letters)
		}
		if a := letters[0].attributes; a[bus.AttrStage] != "commit" || a[bus.AttrReason] != "refused_by_store" || !strings.Contains(a[bus.AttrError], store.ErrPoison.Error()) {
			t.Errorf("attributes %v, want stage commit, reason refused_by_store and the error", a)
		}
		if h.sink.value("a") != "1" || h.sink.value("c") != "3" {
			t.Error("the neighbours of the refused row are not stored")
		}
		if calls := h.sink.calls(); len(calls) != 2 || len(calls[1].rows) != 3 {
			t.Errorf("the three were not one batch: %d calls", len(calls))
		}
		h.wantReady(nil)
		h.end()
	})
}

func TestPoisonWhoseDeadLetterFails(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		h.sink.setAnswer(refuse(store.ErrPoison))
		h.dead.setErr(bus.ErrUnavailable)
		h.start(Options{Shards: 1})
		h.wantNack("the refused record", h.send(event("b", 6)))
		h.end()
	})
}

// TestRefusedRecordLeavesOlderOnes has two records of one key in a batch, of which the newer is
// refused: the older one was not tried, so it must not be rejected.
func TestRefusedRecordLeavesOlderOnes(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		h.sink.setAnswer(refuse(store.ErrPoison))
		h.start(Options{Shards: 1})
		outcomes := h.together(event("a", 1), eventAt("a", 6, eventTime().Add(time.Second)))
		h.wantAck("the refused record", outcomes[1])
		h.wantNack("the older record of its key", outcomes[0])
		if letters := h.dead.all(); len(letters) != 1 || !strings.Contains(letters[0].data, `"n":6`) {
			t.Errorf("dead letters %+v, want the refused record alone", letters)
		}
		h.wantAck("the older record, delivered again", h.send(event("a", 1)))
		if got := h.sink.value("a"); got != "1" {
			t.Errorf("row a holds %s, want 1", got)
		}
		h.end()
	})
}

// TestOutage checks that a store that is away costs no record: everything is tried again in process
// and then given back, nothing is rejected, the service says that it is not ready and recovers by itself.
func TestOutage(t *testing.T) {
	t.Parallel()
	for name, kind := range outage() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, h *harness) {
				h.sink.setAnswer(fail(kind))
				h.start(Options{Shards: 1})
				h.wantReady(nil)
				outcomes := h.together(event("a", 1), event("b", 2))
				h.wantReady(kind)
				h.wantOpen("record b", outcomes[1])
				h.wantGivenUp("record a", outcomes[0])
				if h.settled("record b", outcomes[1]) {
					t.Error("record b was acknowledged while the store was out")
				}
				calls := h.sink.calls()
				if len(calls) != 2+maxRetries {
					t.Errorf("%d calls of the store, want the first record, both and %d tries more", len(calls), maxRetries)
				}
				for _, call := range calls[1:] {
					if len(call.rows) != 2 {
						t.Errorf("a try of %d rows, want both together", len(call.rows))
					}
				}
				if !strings.Contains(h.log.String(), "messages_given_back=2") || strings.Count(h.log.String(), "level=ERROR") != 1 {
					t.Errorf("log %q, want one error for the batch", h.log)
				}
				h.sink.setAnswer(nil)
				h.wantAck("a record delivered again", h.send(event("a", 1)))
				h.wantReady(nil)
				if letters := h.dead.all(); len(letters) != 0 {
					t.Errorf("dead letters for an outage: %+v", letters)
				}
				h.end()
			})
		})
	}
}

// TestPartialOutage fails one row of a batch: the others are acknowledged at once, and its message
// alone comes back.
func TestPartialOutage(t *testing.T) {
	t.Parallel()
	for name, kind := range outage() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, h *harness) {
				h.sink.setAnswer(refuse(kind))
				h.start(Options{Shards: 1})
				outcomes := h.together(event("a", 1), event("b", 6), event("c", 3))
				h.wantAck("record a", outcomes[0])
				h.wantAck("record c", outcomes[2])
				h.wantReady(nil) // It stores, and the row has tries left.
				h.wantGivenUp("record b", outcomes[1])
				h.wantReady(kind)
				if h.sink.value("b") != "absent" || len(h.dead.all()) != 0 {
					t.Error("record b was stored or rejected")
				}
				h.end()
			})
		})
	}
}

// TestMixedOutcomes has a refused row beside one that found no store: each record gets its own.
func TestMixedOutcomes(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		h.sink.answer = func(rows []dataset.Row) []error {
			errs := make([]error, len(rows))
			for i, row := range rows {
				switch column(row, "n") {
				case "1":
					errs[i] = store.ErrPoison
				case "2":
					errs[i] = store.ErrUnavailable
				}
			}
			return errs
		}
		h.start(Options{Shards: 1})
		outcomes := h.together(event("a", 1), event("b", 2), event("c", 3))
		h.wantAck("the refused record", outcomes[0])
		h.wantAck("the stored record", outcomes[2])
		h.wantGivenUp("the record without a store", outcomes[1])
		h.wantReady(store.ErrUnavailable)
		// A refusal shows that the store answers again.
		h.wantAck("the refused record", h.send(event("a", 1)))
		h.wantReady(nil)
		if letters := h.dead.all(); len(letters) != 2 {
			t.Errorf("%d dead letters, want one for each refusal", len(letters))
		}
		h.end()
	})
}

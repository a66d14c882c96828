package ingest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
)

// failFirst fails the first commits of a row whose column n is the number given.
func failFirst(times int, n string, kind error) func([]dataset.Row) []error {
	return func(rows []dataset.Row) []error {
		errs := make([]error, len(rows))
		for i, row := range rows {
			if column(row, "n") == n && times > 0 {
				times--
				errs[i] = kind
			}
		}
		return errs
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	for tries, want := range map[int]time.Duration{
		0: 10 * time.Millisecond, 1: 10 * time.Millisecond, 2: 20 * time.Millisecond, 5: 160 * time.Millisecond,
		6: 200 * time.Millisecond, 40: 200 * time.Millisecond, 1 << 30: 200 * time.Millisecond,
	} {
		for range 100 {
			if got := backoff(tries, minRetryPause, maxRetryPause); got < want/2 || got > want {
				t.Errorf("pause %v before try %d, want between half and all of %v", got, tries, want)
			}
		}
	}
}

// TestRetry checks that only the row that failed is tried again, in process.
func TestRetry(t *testing.T) {
	t.Parallel()
	for failures := 1; failures <= maxRetries; failures++ {
		inBubble(t, func(t *testing.T, h *harness) {
			h.sink.setAnswer(failFirst(failures, "6", store.ErrUnavailable))
			h.start(Options{Shards: 1})
			outcomes := h.together(event("a", 1), event("b", 6), event("c", 3))
			h.wantAck("record a", outcomes[0])
			h.wantAck("record c", outcomes[2])
			time.Sleep(maxRetries * maxRetryPause)
			h.wantAck("record b", outcomes[1])
			calls := h.sink.calls()[2:]
			if len(calls) != failures {
				t.Errorf("%d tries more, want %d", len(calls), failures)
			}
			for _, call := range calls {
				if len(call.rows) != 1 || column(call.rows[0], "n") != "6" {
					t.Errorf("tried again %v, want record b alone", call.rows)
				}
			}
			h.wantReady(nil)
			h.end()
		})
	}
}

// TestRetryEndsInTime has a store that takes long to fail: what is over two seconds old is not tried again.
func TestRetryEndsInTime(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		h.sink.setAnswer(fail(store.ErrUnavailable))
		h.sink.during = func(context.Context, []dataset.Row) { time.Sleep(5 * time.Second) }
		h.start(Options{Shards: 1})
		sent := time.Now()
		if <-h.send(event("a", 1)) {
			t.Error("acknowledged, want it given back")
		}
		if took := time.Since(sent); took > 11*time.Second || len(h.sink.calls()) != 2 {
			t.Errorf("given back after %v and %d commits, want two", took, len(h.sink.calls()))
		}
		h.end()
	})
}

// TestRetryHoldsNothingUp lets records of the same shard pass one that waits for its next try.
func TestRetryHoldsNothingUp(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		h.sink.setAnswer(refuse(store.ErrUnavailable))
		h.start(Options{Shards: 1})
		waiting := h.send(event("a", 6))
		h.idle()
		for i := range 100 {
			sent := time.Now()
			if !<-h.send(event(fmt.Sprint("k", i), 1)) || time.Since(sent) > 2*time.Millisecond {
				t.Fatalf("record %d took %v beside one that waits", i, time.Since(sent))
			}
		}
		h.wantGivenUp("the record that fails", waiting)
		h.end()
	})
}

// TestRetryMeetsNewerRecord has a newer record of the key arrive while the older one waits.
func TestRetryMeetsNewerRecord(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		newer  string
		writes string // column n of the rows in their order
	}{
		// The newer one of the same time is stored already, so that the older one must not undo it.
		{"of the same time", event("a", 7), "6 7"},
		// Bigtable orders the two by their times, whichever is written last.
		{"of a later time", eventAt("a", 7, eventTime().Add(time.Second)), "6 7 6"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, h *harness) {
				h.sink.setAnswer(failFirst(1, "6", store.ErrUnavailable))
				h.start(Options{Shards: 1})
				older := h.send(event("a", 6))
				h.idle()
				h.wantAck("the newer record", h.send(tc.newer))
				time.Sleep(maxRetryPause)
				h.wantAck("the older record", older)
				var writes []string
				for _, call := range h.sink.calls() {
					for _, row := range call.rows {
						writes = append(writes, column(row, "n"))
					}
				}
				if got := strings.Join(writes, " "); got != tc.writes || h.sink.value("a") != "7" {
					t.Errorf("wrote %s, the row holds %s; want %s and 7", got, h.sink.value("a"), tc.writes)
				}
				h.end()
			})
		})
	}
}

// TestRetriesOfOneKeyMerge fails two records of a key, one after the other: one row is tried again, and
// the company of the newer one gives the older one no more tries.
func TestRetriesOfOneKeyMerge(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		h.sink.setAnswer(fail(store.ErrUnavailable))
		h.start(Options{Shards: 1})
		sent := time.Now()
		outcome := h.send(event("a", 1))
		for end := sent.Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			h.send(event("a", 2))
			select {
			case <-outcome:
				if took := time.Since(sent); took > retryFor+h.svc.opts.RetryDelay {
					t.Errorf("given back after %v", took)
				}
				end = time.Now()
			default:
				if time.Since(sent) > 3*time.Second {
					t.Fatal("a record is held for as long as newer ones of its key fail")
				}
			}
		}
		for _, call := range h.sink.calls() {
			if len(call.rows) != 1 {
				t.Errorf("a request of %d rows of one key", len(call.rows))
			}
		}
		h.end()
	})
}

// TestDrainTriesOnceMore stops the service while a record waits for its next try.
func TestDrainTriesOnceMore(t *testing.T) {
	t.Parallel()
	for name, failures := range map[string]int{"stored": 1, "given back": 9} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, h *harness) {
				h.sink.setAnswer(failFirst(failures, "6", store.ErrUnavailable))
				h.start(Options{Shards: 1})
				outcome := h.send(event("a", 6))
				h.wantOpen("a record that waits", outcome)
				start := time.Now()
				h.end()
				if took := time.Since(start); took > time.Millisecond {
					t.Errorf("the drain took %v", took)
				}
				if ack := h.settled("the record", outcome); ack != (failures == 1) || len(h.sink.calls()) != 2 {
					t.Errorf("acknowledged: %v after %d commits, want one more try", ack, len(h.sink.calls()))
				}
			})
		})
	}
}

// TestDrainGivesBack has a store that never answers: what it holds, and what waits behind it, is given
// back in time for Pub/Sub to hear of it, and Run returns.
func TestDrainGivesBack(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *harness) {
		h.sink.setGate(make(chan struct{}))
		h.start(Options{Shards: 1})
		outcomes := []chan bool{h.send(event("a", 1))}
		h.idle()
		outcomes = append(outcomes, h.send(event("b", 2)), h.send(event("c", 3)))
		h.idle()
		start := time.Now()
		h.end()
		if took := time.Since(start); took > 25*time.Second {
			t.Errorf("the drain took %v, want at most 25s", took)
		}
		for i, outcome := range outcomes {
			select {
			case ack := <-outcome:
				if ack {
					t.Errorf("record %d was acknowledged while the store has it in hands", i)
				}
			default:
				t.Errorf("record %d is left to its lease", i)
			}
		}
		if !strings.Contains(h.log.String(), "messages=3") {
			t.Errorf("log %q, want how many were given back", h.log)
		}
		h.letThrough(h.sink.gate)
		h.idle()
	})
}

// TestDuplicatePublishes sends one event under several message ids, in any order and through failures,
// as hedged and repeated publishes do: it is one row with one version, and every copy is acknowledged.
func TestDuplicatePublishes(t *testing.T) {
	t.Parallel()
	for failures := range 4 {
		inBubble(t, func(t *testing.T, h *harness) {
			h.sink.setAnswer(failFirst(failures, "6", store.ErrUnavailable))
			h.start(Options{Shards: 1})
			var copies []bus.Message
			for i := range 4 {
				m := h.message(event("a", 6))
				m.PublishTime = m.PublishTime.Add(time.Duration(i) * time.Millisecond)
				copies = append(copies, m)
			}
			var outcomes []chan bool
			for _, i := range []int{2, 0, 3, 1, 2} {
				outcomes = append(outcomes, h.deliver(copies[i]))
				time.Sleep(time.Duration(3*i) * time.Millisecond)
			}
			time.Sleep(maxRetries * maxRetryPause)
			for i, outcome := range outcomes {
				h.wantAck(fmt.Sprint("copy ", i), outcome)
			}
			cells := map[string]bool{}
			for _, call := range h.sink.calls() {
				for _, row := range call.rows {
					cells[fmt.Sprint(row.Key, row.Time.UnixMilli(), row.Cells)] = true
				}
			}
			if len(cells) != 1 || len(h.sink.stored) != 1 || h.sink.value("a") != "6" {
				t.Errorf("%d different writes and %d rows, want one", len(cells), len(h.sink.stored))
			}
			h.end()
		})
	}
}

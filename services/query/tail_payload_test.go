package query

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// fakePayloads reads messages that have a prefix, once its error is gone.
type fakePayloads struct {
	until time.Time // when the error ends
	err   error
}

func (p *fakePayloads) JSON(_ context.Context, data []byte, _ map[string]string) ([]byte, error) {
	switch {
	case time.Now().Before(p.until):
		return nil, p.err
	case data[0] == '!':
		return nil, &dataset.RejectError{Reason: dataset.ReasonBadEncoding}
	}
	return data[1:], nil
}

// TestTailReadsPayloads: a stream shows what ingest stores, also when a schema comes late, and skips
// what ingest rejects.
func TestTailReadsPayloads(t *testing.T) {
	inTail(t, TailOptions{}, func(t *testing.T, w *tailWorld) {
		w.service.deps.Payloads = &fakePayloads{until: time.Now().Add(5 * time.Second), err: errors.New("no schema now")}
		c := w.connect(tailPath)
		m := w.follower.publish("=" + flightTo("LIM", 1))
		w.follower.publish("!")
		m.Data = m.Data[1:]
		w.storeMessage(m)
		time.Sleep(2 * time.Second)
		if got := c.rows(); got != nil {
			t.Errorf("a message that cannot be read yet shows as %q", got)
		}
		time.Sleep(20 * time.Second)
		if d := cmp.Diff([]string{rowTo("LIM", 1)}, c.rows()); d != "" {
			t.Error(d)
		}
		if _, held, _, acked := w.follower.counts(); held != 0 || acked != 2 {
			t.Errorf("%d messages are held, %d acknowledged", held, acked)
		}
	})
}

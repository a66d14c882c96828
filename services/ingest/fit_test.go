package ingest

import (
	"bytes"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/engine"
)

// TestLargestMessageCanBeDeadLettered publishes the cut payload to our engine, which has the real
// service's limit.
func TestLargestMessageCanBeDeadLettered(t *testing.T) {
	t.Parallel()
	e, err := engine.Start(t.Context(), engine.Options{Kind: engine.Memory})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	client, err := bus.Open(t.Context(), bus.Options{Project: "p", Client: e.Pubsub})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	if err := client.Ensure(t.Context(), bus.Route{Topic: "big", Subscription: "big-ingest", DeadLetterTopic: "big-dead", DeadLetterSubscription: "big-dead-inspect"}); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		bytes int
		cut   bool
	}{"small": {100, false}, "as large as a message gets": {maxMessageBytes, true}} {
		attrs := map[string]string{bus.AttrReason: "oversize", bus.AttrError: strings.Repeat("x", maxErrorBytes)}
		data := fit(bytes.Repeat([]byte("a"), tc.bytes), attrs)
		if _, noted := attrs[bus.AttrDataBytes]; noted != tc.cut || tc.cut == (len(data) == tc.bytes) {
			t.Errorf("%s: %d of %d bytes, size noted: %v", name, len(data), tc.bytes, noted)
		}
		if _, err := client.Publish(t.Context(), "big-dead", data, attrs); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

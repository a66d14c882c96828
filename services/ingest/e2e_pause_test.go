package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/engine"
	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/services/ingest"
)

// counting counts the deliveries of each message.
type counting struct {
	*bus.Client
	mu         sync.Mutex
	deliveries map[string]int
}

func (c *counting) Receive(ctx context.Context, sub string, opts bus.ReceiveOptions, handle func(context.Context, bus.Message) bool) error {
	return c.Client.Receive(ctx, sub, opts, func(ctx context.Context, m bus.Message) bool {
		c.mu.Lock()
		c.deliveries[m.ID]++
		c.mu.Unlock()
		return handle(ctx, m)
	})
}

func (c *counting) most() (most int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.deliveries {
		most = max(most, n)
	}
	return most
}

// TestTableComesLate runs the service with Google's own clients before its table exists: it pauses, spends
// few deliveries on that, and stores everything once the table is there.
func TestTableComesLate(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	d, err := dataset.Load("latam.yaml", []byte(declaration))
	if err != nil {
		t.Fatal(err)
	}
	ds := d.Datasets[0]
	e, err := engine.Start(ctx, engine.Options{Kind: engine.Memory})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	messages, err := bus.Open(ctx, bus.Options{Project: "p", Client: e.Pubsub, Redial: e.RedialPubsub})
	if err != nil {
		t.Fatal(err)
	}
	if err := messages.Ensure(ctx, bus.RouteOf(ds)); err != nil {
		t.Fatal(err)
	}
	cells, err := store.Open(ctx, store.Options{Project: "p", Instance: "i", Client: e.Bigtable})
	if err != nil {
		t.Fatal(err)
	}
	const rows = 1000
	var batch []bus.Message
	for i := range rows {
		batch = append(batch, bus.Message{Data: fmt.Appendf(nil, `{"code":"k%d","n":%d}`, i, i)})
	}
	if _, err := messages.PublishBatch(ctx, ds.Topic, batch); err != nil {
		t.Fatal(err)
	}
	source := &counting{Client: messages, deliveries: map[string]int{}}
	svc, err := ingest.New(ingest.Options{}, ingest.Deps{
		Source: source, Sink: cells, DeadLetters: messages, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Now: time.Now,
	}, d.Datasets)
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- svc.Run(running) }()
	for !errors.Is(svc.Ready(), store.ErrMisconfigured) {
		if ctx.Err() != nil {
			t.Fatalf("not paused: %v", svc.Ready())
		}
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(3 * time.Second)
	paused := source.most()
	admin, err := store.OpenAdmin(ctx, "p", "i", e.Bigtable...)
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range store.TablesOf(ds) {
		if err := admin.Ensure(ctx, table); err != nil {
			t.Fatal(err)
		}
	}
	created := time.Now()
	waitForRows(ctx, t, cells, ds, rows)
	t.Logf("a message was delivered %d times in the pause and %d times in all; all rows %v after the table", paused, source.most(), time.Since(created).Round(time.Millisecond))
	if paused > 4 {
		t.Errorf("a message was delivered %d times during the pause", paused)
	}
	if err := svc.Ready(); err != nil {
		t.Errorf("ready: %v", err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
}

package ingest_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/engine"
	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/services/ingest"
)

const declaration = `
version: 1
name: test
datasets:
  events:
    fields:
      code: {type: string, required: true}
      n:    {type: int64, minimum: 0}
    key: [code]
`

// TestEndToEnd runs the service between Google's own clients and the memory engine: each record
// ends as one row or one dead letter.
func TestEndToEnd(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	d, err := dataset.Load("latam.yaml", []byte(declaration))
	if err != nil {
		t.Fatal(err)
	}
	ds := d.Datasets[0]
	messages, cells := openClients(ctx, t, ds)

	const rows, bad = 1000, 50
	var batch []bus.Message
	for i := range rows {
		batch = append(batch, bus.Message{Data: fmt.Appendf(nil, `{"code":"k%d","n":%d}`, i, i)})
		if i%(rows/bad) == 0 {
			batch = append(batch, bus.Message{Data: fmt.Appendf(nil, `{"code":"k%d","n":-1}`, i)})
		}
		if len(batch) >= bus.MaxBatchMessages/2 || i == rows-1 {
			if _, err := messages.PublishBatch(ctx, ds.Topic, batch); err != nil {
				t.Fatal(err)
			}
			batch = nil
		}
	}

	svc, err := ingest.New(ingest.Options{}, ingest.Deps{
		Source: messages, Sink: cells, DeadLetters: messages, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Now: time.Now,
	}, d.Datasets)
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- svc.Run(running) }()

	waitForRows(ctx, t, cells, ds, rows)
	receiving, done := context.WithCancel(ctx)
	var letters atomic.Int64
	err = messages.Receive(receiving, ds.DeadLetterSubscription(), bus.ReceiveOptions{}, func(_ context.Context, m bus.Message) bool {
		if m.Attributes[bus.AttrReason] != "range" || m.Attributes[bus.AttrField] != "n" {
			t.Errorf("dead letter %s has attributes %v", m.Data, m.Attributes)
		}
		if letters.Add(1) == bad {
			done()
		}
		return true
	})
	if err != nil || letters.Load() != bad {
		t.Errorf("%d dead letters, %v; want %d", letters.Load(), err, bad)
	}
	if err := svc.Ready(); err != nil {
		t.Errorf("ready: %v", err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
}

func openClients(ctx context.Context, t *testing.T, ds *dataset.Dataset) (*bus.Client, *store.Client) {
	t.Helper()
	return openClientsOn(ctx, t, ds, engine.Options{Kind: engine.Memory})
}

func openClientsOn(ctx context.Context, t testing.TB, ds *dataset.Dataset, opts engine.Options) (*bus.Client, *store.Client) {
	t.Helper()
	e, err := engine.Start(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	messages, err := bus.Open(ctx, bus.Options{Project: "p", Client: e.Pubsub})
	if err != nil {
		t.Fatal(err)
	}
	if err := messages.Ensure(ctx, bus.RouteOf(ds)); err != nil {
		t.Fatal(err)
	}
	admin, err := store.OpenAdmin(ctx, "p", "i", e.Bigtable...)
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range store.TablesOf(ds) {
		if err := admin.Ensure(ctx, table); err != nil {
			t.Fatal(err)
		}
	}
	cells, err := store.Open(ctx, store.Options{Project: "p", Instance: "i", Client: e.Bigtable})
	if err != nil {
		t.Fatal(err)
	}
	return messages, cells
}

// waitForRows waits until every record is stored, and checks the values.
func waitForRows(ctx context.Context, t *testing.T, cells *store.Client, ds *dataset.Dataset, want int) {
	t.Helper()
	for n := 0; n < want; {
		n = 0
		err := cells.Scan(ctx, ds.Table(), store.Scan{}, func(row dataset.Row) bool {
			rec, err := ds.Record(row)
			if err != nil {
				t.Fatalf("row %q: %v", row.Key, err)
			}
			code, number := rec.Value(ds.Field("code")).Text(), rec.Value(ds.Field("n")).Text()
			if code != "k"+number {
				t.Fatalf("row %s holds n=%s", code, number)
			}
			n++
			return true
		})
		if err != nil {
			t.Fatalf("%d of %d rows are stored: %v", n, want, err)
		}
	}
}

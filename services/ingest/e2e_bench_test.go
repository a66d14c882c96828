package ingest_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/engine"
	"github.com/latamctl/latamctl/services/ingest"
)

// BenchmarkIndexes works off waiting messages on the embedded engine: without an index, with one in
// which no row moves, and with one in which rows can move.
func BenchmarkIndexes(b *testing.B) {
	for _, index := range []string{"", "by_code_only: [code]", "by_place: [place, at]"} {
		b.Run("index="+strings.SplitN(index+"none:", ":", 2)[0], func(b *testing.B) {
			text := strings.Replace(movingDeclaration, "{by_place: [place, at], by_code: [code]}", "{"+index+"}", 1)
			d, err := dataset.Load("latam.yaml", []byte(text))
			if err != nil {
				b.Fatal(err)
			}
			benchmarkIndexes(b, d.Datasets[0])
		})
	}
}

func benchmarkIndexes(b *testing.B, ds *dataset.Dataset) {
	b.Helper()
	ctx := b.Context()
	messages, cells := openClientsOn(ctx, b, ds, engine.Options{Kind: engine.Embedded, Dir: b.TempDir()})
	at := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
	var batch []bus.Message
	for i := range b.N {
		batch = append(batch, bus.Message{Data: fmt.Appendf(nil, `{"code":"k%d","at":%q,"place":"%s"}`, i, at, strings.Repeat("p", 200))})
		if len(batch) == bus.MaxBatchMessages || i == b.N-1 {
			if _, err := messages.PublishBatch(ctx, ds.Topic, batch); err != nil {
				b.Fatal(err)
			}
			batch = batch[:0]
		}
	}
	svc, err := ingest.New(ingest.Options{}, ingest.Deps{
		Source: messages, Sink: cells, Rows: cells, DeadLetters: messages, Log: slog.New(slog.DiscardHandler), Now: time.Now,
	}, []*dataset.Dataset{ds})
	if err != nil {
		b.Fatal(err)
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	b.ResetTimer()
	go func() { ended <- svc.Run(running) }()
	await(ctx, b, "every record stored", func() bool {
		a, _ := svc.Activity(ds.Name)
		return a.Stored >= int64(b.N)
	})
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	stop()
	if err := <-ended; err != nil {
		b.Error(err)
	}
}

package ingest

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/latamctl/latamctl/examples"
	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/telemetry"
)

// flood delivers n messages from many goroutines, as Google's client does.
type flood struct {
	n    int
	next func(i int) []byte
}

func (f flood) Receive(ctx context.Context, _ string, opts bus.ReceiveOptions, handle func(context.Context, bus.Message) bool) error {
	room := make(chan struct{}, opts.MaxMessages)
	published := time.Now()
	var calls sync.WaitGroup
	for i := range f.n {
		room <- struct{}{}
		calls.Go(func() {
			handle(ctx, bus.Message{ID: fmt.Sprint(i), PublishTime: published, Data: f.next(i)})
			<-room
		})
	}
	calls.Wait()
	<-ctx.Done()
	return nil
}

// swallow commits at once and ends with the last row of its table.
type swallow struct {
	table string
	left  int
	done  func()
	mu    sync.Mutex
}

func (s *swallow) Put(_ context.Context, table string, rows []dataset.Row) []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if table != s.table {
		return make([]error, len(rows))
	}
	if s.left -= len(rows); s.left <= 0 {
		s.done()
	}
	return make([]error, len(rows))
}

// BenchmarkMessage is the cost of one message from its receipt to its acknowledgement, the store left
// out: of a dataset without an index, and with one in which no row moves.
func BenchmarkMessage(b *testing.B) {
	for _, indexes := range []int{0, 1} {
		b.Run(fmt.Sprint("indexes=", indexes), func(b *testing.B) {
			decl, err := dataset.Load("", examples.Declaration)
			if err != nil {
				b.Fatal(err)
			}
			decl.Datasets[0].Indexes = decl.Datasets[0].Indexes[:indexes]
			benchmarkMessages(b, decl.Datasets[0])
		})
	}
}

func benchmarkMessages(b *testing.B, ds *dataset.Dataset) {
	b.Helper()
	tel, err := telemetry.Start(b.Context(), telemetry.Options{Service: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	sink := &swallow{table: ds.Table(), left: b.N, done: cancel}
	svc, err := New(Options{}, Deps{
		Source: flood{n: b.N, next: func(i int) []byte {
			return fmt.Appendf(nil, `{"origin":"SFO","departed_at":"2001-01-02T19:10:%02d.%06dZ","destination":"LAX","delay_minutes":5,"distance_miles":337}`, i%60, i%1_000_000)
		}},
		Sink: sink, Rows: newFakeTables(), Log: slog.New(slog.DiscardHandler), Meter: tel.Meter, Now: time.Now,
	}, []*dataset.Dataset{ds})
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	if err := svc.Run(ctx); err != nil {
		b.Fatal(err)
	}
}

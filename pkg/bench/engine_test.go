package bench_test

import (
	"context"
	"errors"
	"flag"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/bench"
	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/engine"
	"github.com/latamctl/latamctl/pkg/store"
)

func TestMain(m *testing.M) {
	flag.Bool("update", false, "write the golden files")
	flag.Parse()
	os.Exit(m.Run())
}

// openMemory opens the clients on an engine in memory.
func openMemory(t *testing.T) bench.Deps {
	t.Helper()
	e, err := engine.Start(t.Context(), engine.Options{Kind: engine.Memory})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	b, err := bus.Open(t.Context(), bus.Options{Project: "p", Client: e.Pubsub})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	s, err := store.Open(t.Context(), store.Options{Project: "p", Instance: "i", Client: e.Bigtable})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	admin, err := store.OpenAdmin(t.Context(), "p", "i", e.Bigtable...)
	if err != nil {
		t.Fatal(err)
	}
	var spent atomic.Int64
	return bench.Deps{
		Target: "memory", Bus: b, Store: s, Admin: admin,
		CPU: func() time.Duration { return time.Duration(spent.Add(int64(time.Second))) },
	}
}

// TestEngineStoresEverything runs on a real engine and counts what is in the tables afterwards.
func TestEngineStoresEverything(t *testing.T) {
	t.Parallel()
	deps := openMemory(t)
	runs, err := bench.Engine(t.Context(), bench.Options{Rates: []int{500}, For: 200 * time.Millisecond, Rows: 700, Window: 50, Readers: 4}, deps)
	if err != nil {
		t.Fatal(err)
	}
	for _, run := range runs {
		if run.Counts["errors"] != 0 || run.Counts["unfinished"] != 0 || run.Counts["done"] == 0 || run.AchievedPerSecond == 0 {
			t.Errorf("run %+v", run)
		}
		if run.CPUSeconds != 1 || run.Target != "memory" {
			t.Errorf("%s took %g CPU seconds on %s, want 1 on memory", run.Name, run.CPUSeconds, run.Target)
		}
	}
	for i, table := range []string{"bench-500", "bench-0", "bench-reads"} {
		var rows int64
		size := 0
		err := deps.Store.Scan(t.Context(), table, store.Scan{}, func(row dataset.Row) bool {
			rows++
			for _, cell := range row.Cells {
				size += len(cell.Value)
			}
			return true
		})
		if want := runs[i].Counts["done"]; err != nil || rows != want || int64(size) != 300*want {
			t.Errorf("table %s has %d rows of %d bytes in all, %v; %s reported %d", table, rows, size, err, runs[i].Name, want)
		}
	}
}

// worker is the least that an ingest service does: it decodes what arrives and stores it.
func worker(deps bench.Deps, wait time.Duration) bench.NewWorker {
	return func(sink bench.Sink, ds *dataset.Dataset) (func(context.Context) error, error) {
		return func(ctx context.Context) error {
			return deps.Bus.Receive(ctx, ds.Subscription(), bus.ReceiveOptions{}, func(ctx context.Context, m bus.Message) bool {
				record, err := ds.Decode(m.Data, time.Now())
				if err != nil {
					return false // The round would never end.
				}
				time.Sleep(wait)
				return errors.Join(sink.Put(ctx, ds.Table(), []dataset.Row{record.Row(m.PublishTime)})...) == nil
			})
		}, nil
	}
}

func TestCompareIngest(t *testing.T) {
	t.Parallel()
	deps := openMemory(t)
	opts := bench.Options{Rates: []int{1000}, For: 100 * time.Millisecond, RecordBytes: 200}
	// A worker with a pause far longer than all the rest shows which way round the ratio is.
	runs, results, err := bench.CompareIngest(t.Context(), opts, deps, worker(deps, 500*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, run := range runs {
		order = append(order, run.Name)
		if run.Counts["done"] != 100 || run.Counts["errors"] != 0 || run.AchievedPerSecond == 0 {
			t.Errorf("run %+v", run)
		}
	}
	if got := strings.Join(order, " "); got != "bare ingest ingest bare bare ingest ingest bare" {
		t.Errorf("turns %s", got)
	}
	if len(results) == 0 || results[0].Ratio <= 0 || results[0].Ratio >= 1 || results[0].Target != 0.9 {
		t.Errorf("comparisons %+v, want a ratio under 1 first", results)
	}
	rows := 0
	if err := deps.Store.Scan(t.Context(), "bench-ingest", store.Scan{}, func(dataset.Row) bool { rows++; return true }); err != nil || rows != 800 {
		t.Errorf("the table has %d rows, %v; want 100 for each of eight turns", rows, err)
	}
}

func TestCompareIngestWithoutWork(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	idle := func(bench.Sink, *dataset.Dataset) (func(context.Context) error, error) {
		return func(context.Context) error { return broken }, nil
	}
	opts := bench.Options{Rates: []int{100}, For: 100 * time.Millisecond}
	if _, _, err := bench.CompareIngest(t.Context(), opts, openMemory(t), idle); !errors.Is(err, broken) {
		t.Errorf("error %v, want the worker's own", err)
	}
}

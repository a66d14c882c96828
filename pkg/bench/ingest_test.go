package bench

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
)

// decoding is the least that an ingest service does, with a pause of its own.
func decoding(f *fake, pause time.Duration) NewWorker {
	return func(sink Sink, ds *dataset.Dataset) (func(context.Context) error, error) {
		return func(ctx context.Context) error {
			return f.Receive(ctx, ds.Subscription(), bus.ReceiveOptions{}, func(ctx context.Context, m bus.Message) bool {
				record, err := ds.Decode(m.Data, time.Now())
				if err != nil {
					return false // The run would never end.
				}
				time.Sleep(pause)
				return errors.Join(sink.Put(ctx, ds.Table(), []dataset.Row{record.Row(time.Now())})...) == nil
			})
		}, nil
	}
}

// TestIngestLatencies knows every delay: publish, the worker's pause, and the commit.
func TestIngestLatencies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.publishTakes = 2 * time.Millisecond
		f.put = func() (time.Duration, error) { return time.Millisecond, nil }
		opts := Options{Rates: []int{50, 20}, For: time.Second, RecordBytes: 150}
		runs, ratios, err := Ingest(t.Context(), opts, f.deps(), decoding(f, 7*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, run := range runs {
			names = append(names, run.Name)
			if run.Counts["errors"] != 0 || run.Counts["unfinished"] != 0 || !run.Sustained {
				t.Errorf("run %+v", run)
			}
		}
		if got := strings.Join(names, " "); got != "bare-20 ingest-20 bare-50 ingest-50 bare ingest ingest bare bare ingest ingest bare" {
			t.Fatalf("runs %s", got)
		}
		for i, want := range map[int]float64{0: 3, 1: 10, 2: 3, 3: 10} {
			run := runs[i]
			l := run.Latencies[PublishToCommitted]
			for _, got := range []float64{l.P50, l.P99, l.P999} {
				if got < want || got > want*1.02 {
					t.Errorf("%s took %g ms until committed, want %g", run.Name, got, want)
				}
			}
			if rate := []int{20, 20, 50, 50}[i]; run.OfferedPerSecond != float64(rate) || run.Counts["done"] != int64(rate) || l.Count != uint64(rate) {
				t.Errorf("%s: %+v", run.Name, run)
			}
			if run.Latencies[Publish].P50 < 2 || run.Latencies[Commit].P50 < 1 {
				t.Errorf("%s: %+v", run.Name, run.Latencies)
			}
			if _, ok := run.Latencies[PublishToDelivery]; ok {
				t.Errorf("%s tells when records were delivered, which nobody knows", run.Name)
			}
		}
		if ratios[0].Ratio <= 0 || ratios[0].Target != IngestRatio {
			t.Errorf("comparison %+v", ratios)
		}
	})
}

// TestIngestThatLoses: a record that never comes through is counted, with the age that it has at the end.
func TestIngestThatLoses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.lose = 10
		run, err := ingestRun(t.Context(), Options{For: time.Second}.Defaults(), f.deps(), "ingest", 100, decoding(f, 0))
		if err != nil {
			t.Fatal(err)
		}
		if run.Sustained || run.Counts["unfinished"] != 10 || run.Latencies[PublishToCommitted].Max < 1000 {
			t.Errorf("run %+v", run)
		}
	})
}

func TestOffer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		took, err := Offer(t.Context(), Schedule{PerSecond: 10, For: time.Second}, 2, func(_ context.Context, i int) error {
			time.Sleep(time.Duration(1+i%2) * 300 * time.Millisecond) // Longer than the pause between two.
			if i == 4 {
				return errors.New("refused")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		even, odd := took[0], took[1]
		if even.Count() != 4 || odd.Count() != 5 || even.Max() != 300*time.Millisecond || odd.Max() != 600*time.Millisecond {
			t.Errorf("%d at most %s, %d at most %s", even.Count(), even.Max(), odd.Count(), odd.Max())
		}
		ctx, cancel := context.WithTimeout(t.Context(), 350*time.Millisecond)
		defer cancel()
		if _, err := Offer(ctx, Schedule{PerSecond: 10, For: time.Second}, 1, func(context.Context, int) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ended early: %v", err)
		}
	})
}

package cellstore

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/bigtable/admin/apiv2/adminpb"
	"cloud.google.com/go/bigtable/apiv2/bigtablepb"
)

// latencies collects durations and reports their percentiles.
type latencies struct {
	mu sync.Mutex
	d  []time.Duration
}

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	l.d = append(l.d, d)
	l.mu.Unlock()
}

func (l *latencies) report(b *testing.B) {
	slices.Sort(l.d)
	at := func(p float64) float64 {
		return float64(l.d[min(int(p*float64(len(l.d))), len(l.d)-1)].Microseconds()) / 1000
	}
	b.ReportMetric(at(0.50), "p50-ms")
	b.ReportMetric(at(0.99), "p99-ms")
	b.ReportMetric(0, "ns/op")
}

// benchBatch is a MutateRows request of n rows with three cells.
func benchBatch(first, n int) *bigtablepb.MutateRowsRequest {
	req := &bigtablepb.MutateRowsRequest{TableName: tableNamed("bench")}
	value := fmt.Sprintf("value %094d", first)
	for i := first; i < first+n; i++ {
		req.Entries = append(req.Entries, &bigtablepb.MutateRowsRequest_Entry{
			RowKey: fmt.Appendf(nil, "row#%010d", i*7919%1_000_000_007),
			Mutations: []*bigtablepb.Mutation{
				setCell("d", "origin", 1000, value), setCell("d", "delay", 1000, value), setCell("d", "when", 1000, value),
			},
		})
	}
	return req
}

func benchEnv(b *testing.B) *env {
	e := serve(b, Options{Dir: b.TempDir()})
	e.createTable("bench", map[string]*adminpb.ColumnFamily{"d": family1(versions(1))})
	return e
}

func (e *env) sendBatch(req *bigtablepb.MutateRowsRequest) error {
	stream, err := e.data.MutateRows(e.t.Context(), req)
	if err != nil {
		return err
	}
	for {
		res, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		for _, entry := range res.Entries {
			if entry.Status.Code != 0 {
				return fmt.Errorf("entry %d: %v", entry.Index, entry.Status)
			}
		}
	}
}

// BenchmarkMutateRows writes durable rows of three cells from four writers.
func BenchmarkMutateRows(b *testing.B) {
	for _, size := range []int{50, 250, 500} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			e := benchEnv(b)
			var lat latencies
			work := make(chan *bigtablepb.MutateRowsRequest, 8)
			b.ResetTimer()
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for req := range work {
						start := time.Now()
						if err := e.sendBatch(req); err != nil {
							b.Error(err)
						}
						lat.add(time.Since(start))
					}
				})
			}
			for i := range b.N {
				work <- benchBatch(i*size, size)
			}
			close(work)
			wg.Wait()
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "rows/s")
			lat.report(b)
		})
	}
}

// million is a table of 1,000,000 rows.
func million(b *testing.B) *env {
	e := benchEnv(b)
	const rows, size = 1_000_000, 1000
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := w; i < rows/size; i += 4 {
				if err := e.sendBatch(benchBatch(i*size, size)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	return e
}

// BenchmarkMillion reads from a table of 1,000,000 rows, which it builds once.
func BenchmarkMillion(b *testing.B) {
	start := time.Now()
	e := million(b)
	b.Logf("built in %v", time.Since(start))
	b.Run("ReadRow", func(b *testing.B) { benchReadRow(b, e) })
	b.Run("LimitRows", func(b *testing.B) { benchLimitRows(b, e, false) })
	b.Run("LimitRowsReversed", func(b *testing.B) { benchLimitRows(b, e, true) })
	b.Run("Scan", func(b *testing.B) { benchScan(b, e) })
}

func (e *env) count(req *bigtablepb.ReadRowsRequest) (rows int, err error) {
	req.TableName = tableNamed("bench")
	stream, err := e.data.ReadRows(withFeatures(e.t.Context(), &bigtablepb.FeatureFlags{ReverseScans: true}), req)
	if err != nil {
		return 0, err
	}
	for {
		res, err := stream.Recv()
		if err == io.EOF {
			return rows, nil
		}
		if err != nil {
			return rows, err
		}
		for _, c := range res.Chunks {
			if c.GetCommitRow() {
				rows++
			}
		}
	}
}

func benchReadRow(b *testing.B, e *env) {
	var lat latencies
	for i := range b.N {
		key := fmt.Appendf(nil, "row#%010d", (i*104729%1_000_000)*7919%1_000_000_007)
		start := time.Now()
		n, err := e.count(&bigtablepb.ReadRowsRequest{Rows: &bigtablepb.RowSet{RowKeys: [][]byte{key}}, RowsLimit: 1})
		if err != nil || n != 1 {
			b.Fatal(n, err)
		}
		lat.add(time.Since(start))
	}
	lat.report(b)
}

func benchLimitRows(b *testing.B, e *env, reversed bool) {
	var lat latencies
	for range b.N {
		start := time.Now()
		n, err := e.count(&bigtablepb.ReadRowsRequest{RowsLimit: 10, Reversed: reversed})
		if err != nil || n != 10 {
			b.Fatal(n, err)
		}
		lat.add(time.Since(start))
	}
	lat.report(b)
}

func benchScan(b *testing.B, e *env) {
	rows := 0
	for range b.N {
		n, err := e.count(&bigtablepb.ReadRowsRequest{RowsLimit: 200_000})
		if err != nil {
			b.Fatal(err)
		}
		rows += n
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
}

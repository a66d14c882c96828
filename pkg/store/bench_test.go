package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/engine"
	"github.com/latamctl/latamctl/pkg/store"
)

const benchRows = 20_000

var benchGets = 4

func benchKey(i int) string { return fmt.Sprintf("row-%08d", i) }

// openFilled opens a client on an engine in memory whose table holds rows of five cells.
func openFilled(b *testing.B) *store.Client {
	b.Helper()
	e, err := engine.Start(b.Context(), engine.Options{Kind: engine.Memory})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = e.Close() })
	admin, err := store.OpenAdmin(b.Context(), "p", "i", e.Bigtable...)
	if err != nil {
		b.Fatal(err)
	}
	if err := admin.Ensure(b.Context(), store.Table{Name: "bench"}); err != nil {
		b.Fatal(err)
	}
	c, err := store.Open(b.Context(), store.Options{Project: "p", Instance: "i", Client: e.Bigtable, MaxConcurrentGets: benchGets})
	if err != nil {
		b.Fatal(err)
	}
	for from := 0; from < benchRows; from += 500 {
		var rows []dataset.Row
		for i := from; i < from+500; i++ {
			row := dataset.Row{Key: benchKey(i), Time: time.UnixMilli(int64(i))}
			for _, name := range []string{"origin", "departed_at", "destination", "delay_minutes", "distance_miles"} {
				row.Cells = append(row.Cells, dataset.Cell{Column: name, Value: fmt.Appendf(nil, "%d", i)})
			}
			rows = append(rows, row)
		}
		for _, err := range c.Put(b.Context(), "bench", rows) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	return c
}

// reportCPU adds the processor time of the whole process for each operation, which says more than
// the elapsed time on a machine that others use too.
func reportCPU(b *testing.B) {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	b.Cleanup(func() { b.ReportMetric(float64(used()-before)/float64(b.N), "cpu-ns/op") })
}

// BenchmarkGet reads single rows from 64 callers at a time.
func BenchmarkGet(b *testing.B) {
	c := openFilled(b)
	b.ReportAllocs()
	reportCPU(b)
	b.ResetTimer()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.Get(context.Background(), "bench", benchKey(rand.IntN(benchRows)), nil); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkScan100 reads pages of 100 rows from 8 callers at a time.
func BenchmarkScan100(b *testing.B) {
	c := openFilled(b)
	b.ReportAllocs()
	reportCPU(b)
	b.ResetTimer()
	b.SetParallelism(4)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			n := 0
			s := store.Scan{Start: benchKey(rand.IntN(benchRows - 100)), Limit: 100}
			if err := c.Scan(context.Background(), "bench", s, func(dataset.Row) bool { n++; return true }); err != nil || n != 100 {
				b.Error(n, err)
			}
		}
	})
}

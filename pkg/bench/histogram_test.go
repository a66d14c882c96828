package bench

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

// TestHistogramAgainstSortedSamples compares quantiles with the exact ones of the same durations.
func TestHistogramAgainstSortedSamples(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for name, draw := range map[string]func() time.Duration{
		"constant":    func() time.Duration { return 5 * time.Millisecond },
		"nanoseconds": func() time.Duration { return time.Duration(random.IntN(300)) },
		"uniform":     func() time.Duration { return time.Duration(random.Int64N(int64(time.Second))) },
		"exponential": func() time.Duration { return time.Duration(random.ExpFloat64() * float64(3*time.Millisecond)) },
		"powers":      func() time.Duration { return time.Duration(1) << random.IntN(63) },
		"two peaks": func() time.Duration {
			return []time.Duration{time.Millisecond, time.Minute}[random.IntN(2)] + time.Duration(random.IntN(1000))
		},
	} {
		for _, n := range []int{1, 2, 99, 1000, 20_000} {
			var h Histogram
			samples := make([]time.Duration, n)
			for i := range samples {
				samples[i] = draw()
				h.Record(samples[i])
			}
			slices.Sort(samples)
			if h.Count() != uint64(n) || h.Max() != samples[n-1] {
				t.Errorf("%s: count %d and max %s, want %d and %s", name, h.Count(), h.Max(), n, samples[n-1])
			}
			for _, q := range []float64{0, 0.001, 0.5, 0.9, 0.99, 0.999, 1} {
				exact := samples[max(int(math.Ceil(q*float64(n))), 1)-1]
				if got := h.Quantile(q); got < exact || float64(got-exact) > float64(exact)/subs {
					t.Errorf("%s of %d: quantile %g is %s, the exact one is %s", name, n, q, got, exact)
				}
			}
		}
	}
}

func TestHistogramEdges(t *testing.T) {
	t.Parallel()
	var h Histogram
	if h.Quantile(0.5) != 0 || h.Max() != 0 {
		t.Error("an empty histogram has a quantile")
	}
	h.Record(-time.Second)
	if h.Quantile(1) != 0 || h.Count() != 1 {
		t.Errorf("a negative duration gives %s, want it to count as 0", h.Quantile(1))
	}
	h.Record(math.MaxInt64)
	if h.Quantile(1) != math.MaxInt64 {
		t.Errorf("the longest duration gives %d", h.Quantile(1))
	}
}

// TestBucketsMeet checks that each bucket begins where the one before ends.
func TestBucketsMeet(t *testing.T) {
	t.Parallel()
	for i := range buckets {
		upper := upperBound(i)
		if got := bucketOf(upper); got != i {
			t.Fatalf("%d, the last of bucket %d, is in bucket %d", upper, i, got)
		}
		if i < buckets-1 {
			if got := bucketOf(upper + 1); got != i+1 {
				t.Fatalf("%d, after the last of bucket %d, is in bucket %d", upper+1, i, got)
			}
		}
	}
	if last := upperBound(buckets - 1); last != math.MaxInt64 {
		t.Errorf("the buckets end at %d, not at the longest duration", last)
	}
}

func TestHistogramConcurrently(t *testing.T) {
	t.Parallel()
	var h Histogram
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := range 1000 {
				h.Record(time.Duration(w*1000 + i))
			}
		})
	}
	writers.Wait()
	if h.Count() != 4000 || h.Max() != 3999 || h.Quantile(1) != 3999 {
		t.Errorf("count %d, max %d, last %d; want 4000, 3999, 3999", h.Count(), h.Max(), h.Quantile(1))
	}
}

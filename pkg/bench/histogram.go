package bench

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// A bucket is at most 1/128 of its value wide, so that a quantile is never off by more than 0.8 %.
const (
	subBits = 7
	subs    = 1 << subBits
	// Durations under subs ns have a bucket each; every doubling above has subs more.
	buckets = (63 - subBits + 1) * subs
)

// Histogram counts durations in a fixed 57 KiB, however many there are. The zero value is empty
// and ready; it is safe for concurrent use.
type Histogram struct {
	counts [buckets]atomic.Uint64
	n      atomic.Uint64
	max    atomic.Int64
}

// Record adds one duration; a negative one counts as zero.
func (h *Histogram) Record(d time.Duration) {
	d = max(d, 0)
	h.counts[bucketOf(uint64(d))].Add(1)
	h.n.Add(1)
	raise(&h.max, int64(d))
}

// Count is the number of durations recorded.
func (h *Histogram) Count() uint64 { return h.n.Load() }

// Max is the longest duration, exactly.
func (h *Histogram) Max() time.Duration { return time.Duration(h.max.Load()) }

// Quantile returns the nearest-rank quantile for q in 0..1: at least the exact one and at most
// 0.8 % above it. It is 0 when nothing was recorded.
func (h *Histogram) Quantile(q float64) time.Duration {
	n := h.n.Load()
	if n == 0 {
		return 0
	}
	rank := min(max(uint64(math.Ceil(q*float64(n))), 1), n)
	for i := range h.counts {
		here := h.counts[i].Load()
		if here >= rank {
			return min(time.Duration(upperBound(i)), h.Max())
		}
		rank -= here
	}
	return h.Max()
}

// bucketOf keeps the highest subBits+1 bits of a value.
func bucketOf(v uint64) int {
	if v < subs {
		return int(v)
	}
	shift := bits.Len64(v) - 1 - subBits
	return (shift+1)*subs + int(v>>shift) - subs
}

// upperBound is the largest value of a bucket.
func upperBound(i int) uint64 {
	if i < subs {
		return uint64(i)
	}
	shift := i/subs - 1
	return (uint64(i%subs)+subs+1)<<shift - 1
}

package bench

import (
	"math"
	"runtime/metrics"
	"sync"
	"time"
)

// memoryInterval is how often the memory is looked at; a batch lives longer.
const memoryInterval = 20 * time.Millisecond

// peakMemory looks at the memory that the Go runtime holds, load generator included, until stop is
// called, which returns the most in MiB. Pages given back to the system and the program's file do
// not count.
func peakMemory() (stop func() float64) {
	end := make(chan struct{})
	var peak uint64
	var looking sync.WaitGroup
	looking.Go(func() {
		tick := time.NewTicker(memoryInterval)
		defer tick.Stop()
		for {
			peak = max(peak, heldMemory())
			select {
			case <-tick.C:
			case <-end:
				return
			}
		}
	})
	return func() float64 {
		close(end)
		looking.Wait()
		return round(float64(peak) / math.Pow(2, 20))
	}
}

func heldMemory() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}

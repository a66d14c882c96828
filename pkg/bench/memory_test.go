package bench

import (
	"testing"
	"time"
)

func TestPeakMemory(t *testing.T) {
	t.Parallel()
	stop := peakMemory()
	block := make([]byte, 256<<20)
	for i := 0; i < len(block); i += 4096 {
		block[i] = 1
	}
	time.Sleep(3 * memoryInterval) // Some looks have to meet the block.
	block[0]++
	if peak := stop(); peak < 256 {
		t.Errorf("the peak is %g MiB with a block of 256 MiB", peak)
	}
}

// TestCompareRuns: the figures are medians, so that one stall does not decide.
func TestCompareRuns(t *testing.T) {
	t.Parallel()
	var runs []Run
	for _, s := range []float64{1, 1, 1, 9} {
		runs = append(runs, Run{Name: bareName, Seconds: s, CPUSeconds: 2}, Run{Name: ingestName, Seconds: 2 * s, CPUSeconds: 2.5})
	}
	got := compareRuns(runs)
	if len(got) != 2 || got[0].Ratio != 0.5 || got[1].Ratio != 0.8 || got[0].Target != IngestRatio {
		t.Errorf("comparisons %+v, want 0.5 of the rate and 0.8 by processor time", got)
	}
}

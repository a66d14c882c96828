package proc

import "testing"

func TestMeminfo(t *testing.T) {
	t.Parallel()
	text := []byte("MemTotal:       24683520 kB\nMemFree:          123 kB\nMemAvailable:   2048 kB\nBroken: x kB\n")
	for key, want := range map[string]int64{"MemAvailable": 2 << 20, "MemFree": 123 << 10, "Broken": 0, "None": 0} {
		if got := meminfo(text, key); got != want {
			t.Errorf("%s: %d, want %d", key, got, want)
		}
	}
}

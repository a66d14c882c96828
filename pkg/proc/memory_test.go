package proc

import "testing"

func TestAvailableMemory(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"MemTotal:       24683600 kB\nMemFree:         2048 kB\nMemAvailable:   20480 kB\nBuffers: 1 kB\n": 20480 << 10,
		"MemAvailable:   7 kB":                   7 << 10,
		"MemAvailable:   -7 kB\n":                0,
		"MemAvailable:   9223372036854775807 kB": 0,
		"MemTotal: 5 kB\n":                       0,
		"":                                       0,
	} {
		if got := availableIn([]byte(text)); got != want {
			t.Errorf("%q: %d bytes, want %d", text, got, want)
		}
	}
}

package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestAskedAgainstAModel compares the check of a scan's keys with a look at all ranges and all keys.
func TestAskedAgainstAModel(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	refused := 0
	for range 20_000 {
		s := randomScan(rng)
		a := newAsked(s)
		var keys []string
		for range 1 + rng.IntN(5) {
			key := string([]byte("abcdefgh")[rng.IntN(8)]) + []string{"", "a"}[rng.IntN(2)]
			keys = append(keys, key)
			want := mayFollow(s, keys)
			err := a.take(key)
			if (err == nil) != want || err != nil && !errors.Is(err, ErrWrongAnswer) {
				t.Fatalf("seed %d: %+v: keys %q: %v, want good %v", seed, s, keys, err, want)
			}
			if err != nil {
				refused++
				break
			}
		}
	}
	if refused < 1000 || refused > 19_000 {
		t.Errorf("%d of 20000 refused: the generator shows too little", refused)
	}
}

func randomScan(rng *rand.Rand) Scan {
	bounds := []string{"", "a", "b", "c", "d", "e", "f", "g", "h", "i"}
	at := []int{rng.IntN(10), rng.IntN(10), rng.IntN(10), rng.IntN(10)}
	slices.Sort(at)
	s := Scan{Reverse: rng.IntN(2) == 0, Limit: rng.IntN(4)}
	if rng.IntN(2) == 0 {
		s.Start, s.End = bounds[at[0]], bounds[at[3]]
		return s
	}
	s.Ranges = []Range{{bounds[at[0]], bounds[at[1]]}, {bounds[at[2]], bounds[at[3]]}}
	if at[1] == 0 || at[1] > at[2] {
		s.Ranges = s.Ranges[:1]
	}
	return s
}

// mayFollow says whether the last key may come after those before it.
func mayFollow(s Scan, keys []string) bool {
	ranges := s.Ranges
	if ranges == nil {
		ranges = []Range{{s.Start, s.End}}
	}
	key := keys[len(keys)-1]
	if s.Limit > 0 && len(keys) > s.Limit {
		return false
	}
	if len(keys) > 1 {
		if before := keys[len(keys)-2]; s.Reverse && key >= before || !s.Reverse && key <= before {
			return false
		}
	}
	return slices.ContainsFunc(ranges, func(r Range) bool { return key >= r.Start && (r.End == "" || key < r.End) })
}

func TestMaxRowBytesIsChecked(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 1 << 30, -1} {
		if err := (Options{Project: "p", Instance: "i", MaxRowBytes: n}).Defaults().Validate(); err == nil {
			t.Error(fmt.Sprint(n, " was accepted"))
		}
	}
}

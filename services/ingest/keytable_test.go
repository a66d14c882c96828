package ingest

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"testing"
)

// TestKeyTable does the same to a table and to a map, also where many keys have one hash.
func TestKeyTable(t *testing.T) {
	t.Parallel()
	for _, hashes := range []uint64{1, 3, 1 << 20} {
		t.Run(fmt.Sprint(hashes, " hashes"), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(hashes, 1))
			var table keyTable[int]
			model := map[string]int{}
			for i := range 20_000 {
				key := fmt.Sprint(rng.IntN(400))
				hash := maphash.String(testSeed, key) % hashes
				known := table.find(hash, key)
				if want, ok := model[key]; (known != nil) != ok || ok && *known != want {
					t.Fatalf("step %d: key %s is %v, want %d, %v", i, key, known, want, ok)
				}
				if known != nil {
					*known = i
				} else {
					table.add(hash, key, i)
				}
				model[key] = i
				if table.len() != len(model) {
					t.Fatalf("step %d: %d keys, want %d", i, table.len(), len(model))
				}
				if rng.IntN(1000) == 0 {
					table.reset()
					clear(model)
				}
			}
		})
	}
}

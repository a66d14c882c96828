//go:build fault

package fault_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/pkg/testkit"
)

// TestF16LittleMemoryAndFewFiles runs ingest with 128 MiB and 64 file descriptors on messages of 9 MB,
// which no table can take.
func TestF16LittleMemoryAndFewFiles(t *testing.T) {
	r := newRig(t, rigOptions{seed: newSeed(t)})
	l := &load{rng: rand.New(rand.NewPCG(r.opts.seed, 10)), duplicates: 0.05, poison: 0.01, disorder: 50}
	for i := range 24 {
		r.publishAll(20, l)
		origin, at, destination := l.flight()
		size := 9_000_000
		if i == 0 {
			size = 9_999_900 // With its reasons it is more than a message may have, and is cut.
		}
		head := fmt.Sprintf(`{"origin":%q,"departed_at":%q,"destination":%q,"remark":"`, origin, at, destination)
		r.publish([]testkit.Attempt{{
			Key: origin + "," + at + "," + destination, Reason: "oversize",
			Payload: head + strings.Repeat("x", size-len(head)-2) + `"}`,
		}})
	}
	p := r.ingest("GOMEMLIMIT=128MiB", filesVar+"=64")
	r.settle()
	p.alive()
	r.checkMemory(p)
	r.wholeLetters()
	r.verdict("F16", fmt.Sprintf("rss_mib=%d", p.peakRSS()>>20))
}

// wholeLetters gives a dead letter that was cut to fit its whole payload again, once it is the
// beginning of what was sent.
func (r *rig) wholeLetters() {
	r.t.Helper()
	sent := map[string]string{}
	for _, a := range r.attempts() {
		sent[a.ID] = a.Payload
	}
	read, cut := r.allLetters(), 0
	for i, letter := range read {
		if whole := sent[letter.MessageID]; len(letter.Payload) < len(whole) && len(letter.Payload) > 9_000_000 && strings.HasPrefix(whole, letter.Payload) {
			read[i].Payload = whole
			cut++
		}
	}
	if cut != 1 {
		r.t.Errorf("%d dead letters were cut, want the one that is too large", cut)
	}
	r.letters = func() []testkit.Letter { return read }
}

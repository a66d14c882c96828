//go:build fault

package fault_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/testkit"
)

// poisonous makes a load with every kind of poison: 2 % that is not JSON, 1 % of another version of the
// declaration, big of a size that is not taken, and 0.1 % that is healthy and slow to read, of so many
// letters.
func poisonous(seed uint64, big float64, slow int) *load {
	l := &load{rng: rand.New(rand.NewPCG(seed, 10)), disorder: 50}
	l.extra = func(l *load) (testkit.Attempt, bool) {
		origin, at, destination := l.flight()
		key := origin + "," + at + "," + destination
		head := fmt.Sprintf(`{"origin":%q,"departed_at":%q,"destination":%q`, origin, at, destination)
		switch u := l.rng.Float64(); {
		case u < 0.02:
			return testkit.Attempt{Key: key, Reason: "bad_json", Payload: head + `,"delay_minutes":` + text(l.rng, 20)}, true
		case u < 0.03:
			return testkit.Attempt{Key: key, Reason: "unknown_field", Payload: head + `,"schema_version":2}`}, true
		case u < 0.031:
			// Each letter is written as an escape, and the value is what they spell.
			return testkit.Attempt{Key: key, Payload: head + `,"remark":"` + strings.Repeat(`\u0041`, slow) + `"}`}, true
		case u < 0.031+big:
			return testkit.Attempt{Key: key, Reason: "oversize", Payload: head + `,"remark":"` + strings.Repeat("x", dataset.MaxRecordBytes) + `"}`}, true
		}
		return testkit.Attempt{}, false
	}
	return l
}

// TestF08Poison publishes records that can never be stored among healthy ones.
func TestF08Poison(t *testing.T) {
	r := newRig(t, rigOptions{seed: newSeed(t)})
	p := r.ingest()
	l := poisonous(r.opts.seed, 0.01, 50_000)
	for left := number(t, "LATAM_F08_MESSAGES", 10_000); left > 0; left -= 5 {
		r.publish(l.batch(5)) // More of the big ones would not fit into one request.
	}
	r.settle()
	p.alive()
	report := r.verdict("F8")
	if letters := len(r.allLetters()); letters != report.DeadOK {
		t.Errorf("%d dead letters of %d records: each is to be published once", letters, report.DeadOK)
	}
	if report.Redelivered > 0 {
		t.Errorf("%d messages were delivered again: a dead letter was not published, or a record not stored", report.Redelivered)
	}
}

// TestF08PoisonDoesNotSlowTheOthers compares the rates of a clean backlog and of one with poison. It needs
// the machine for itself, so that it runs alone and on demand.
func TestF08PoisonDoesNotSlowTheOthers(t *testing.T) {
	if os.Getenv("LATAM_F08_RATE") == "" {
		t.Skip("LATAM_F08_RATE=1 compares rates; make soak does")
	}
	const messages = 20_000
	best := 0.0
	for range 3 { // A machine under other load slows one of the two.
		clean := backlogRate(t, messages, func(seed uint64) *load { return &load{rng: rand.New(rand.NewPCG(seed, 10))} })
		mixed := backlogRate(t, messages, func(seed uint64) *load { return poisonous(seed, 0, 5_000) }) // Few bytes more than the clean ones.
		t.Logf("F8: clean %.0f/s, with poison %.0f/s: %.0f %%", clean, mixed, 100*mixed/clean)
		if best = max(best, mixed/clean); best >= 0.8 {
			return
		}
	}
	t.Errorf("with poison the rate is %.0f %% of the clean one, want 80 %%", 100*best)
}

// backlogRate returns how many messages a second ingest takes off a backlog.
func backlogRate(t *testing.T, messages int, makeLoad func(seed uint64) *load) float64 {
	r := newRig(t, rigOptions{seed: newSeed(t)})
	r.publishAll(messages, makeLoad(r.opts.seed))
	p := r.spawn()
	p.await()
	began := time.Now()
	eventually(t, settleLimit, func() (bool, string) {
		n := r.host.stats().Backlog[subscription]
		return n == 0, fmt.Sprintf("%d wait", n)
	})
	took := time.Since(began)
	p.end()
	return float64(messages) / took.Seconds()
}

// TestF09DeadLetterTopicDown refuses every dead letter for a while: nothing is acknowledged before it
// is stored or safe as a dead letter.
func TestF09DeadLetterTopicDown(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{seed: newSeed(t)})
	l := &load{rng: rand.New(rand.NewPCG(r.opts.seed, 10)), poison: 0.10}
	r.host.faults.RefusePublishes(letterTopic, codes.Unavailable)
	p := r.ingest()
	r.publishAll(1000, l)
	down := time.Now()
	healthy, poison := 0, 0
	for _, a := range r.attempts() {
		if a.Reason != "" {
			poison++
		} else {
			healthy++
		}
	}
	// The healthy ones do not wait for the others, which all stay unacknowledged.
	eventually(t, 30*time.Second, func() (bool, string) {
		s := r.host.stats()
		return s.Backlog[subscription] == int64(poison), fmt.Sprintf("%d messages wait, want the %d poisonous ones", s.Backlog[subscription], poison)
	})
	for time.Since(down) < outage {
		if n := r.host.stats().Backlog[subscription]; n != int64(poison) {
			t.Fatalf("%d messages wait while no dead letter is taken, want %d", n, poison)
		}
		p.alive()
		time.Sleep(100 * time.Millisecond) // Between two looks.
	}
	r.host.faults.RefusePublishes(letterTopic, codes.OK)
	r.settle()
	r.verdict("F9", fmt.Sprintf("refused=%d", r.host.faults.Counts().PublishesRefused))
}

// outage is how long the topic of the dead letters is down.
const outage = 30 * time.Second

package ingest

import (
	"sync"
	"time"
)

// Activity is what ingest of one dataset has done since it started.
type Activity struct {
	// Stored counts the records that were stored and acknowledged, an older record of a key among them.
	Stored int64
	// PerSecond is the rate of the last 60 seconds, or since the start when that is less.
	PerSecond float64
	// LastCommit is when a record was stored last, zero when none was.
	LastCommit time.Time
	// NewestEvent is the highest event time stored, zero when nothing was.
	NewestEvent time.Time
	// InFlight counts the messages that are neither acknowledged nor given back.
	InFlight int64
	// Behind is the age by publish time of the oldest of them that was not delivered before.
	Behind time.Duration
	// Paused is why nothing is received or stored now: receive, store, schema or rejects; empty when it is.
	Paused string
	// Why is the whole reason of Paused with what to do, for people.
	Why string
}

// Activity returns what this process did for a dataset; false says that it does not ingest it.
func (s *Service) Activity(dataset string) (Activity, bool) {
	for _, r := range s.routes {
		if r.ds.Name == dataset {
			now := r.deps.Now()
			a := r.activity.at(now)
			a.InFlight, a.Paused = r.observed.inFlight.n.Load(), r.pausedBy()
			a.Behind, _ = r.ages(now)
			if a.Paused != "" {
				a.Why = r.whyPaused()
			}
			return a, true
		}
	}
	return Activity{}, false
}

// rateWindow is the number of seconds that the rate looks back.
const rateWindow = 60

// activity counts stored records, once for each batch.
type activity struct {
	mu          sync.Mutex
	began       time.Time
	stored      int64
	last, event time.Time
	// seconds are the counts of the last seconds, each at its Unix second modulo the window; newest
	// is the Unix second counted last.
	seconds [rateWindow]int64
	newest  int64
}

// add counts the records of one commit. newestEvent is the highest event time among them.
func (a *activity) add(now time.Time, records int, newestEvent time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.advance(now)
	a.stored += int64(records)
	a.seconds[a.newest%rateWindow] += int64(records)
	a.last = now
	if newestEvent.After(a.event) {
		a.event = newestEvent
	}
}

// advance empties the seconds between the newest counted one and now. A clock that goes back counts
// for the newest second.
func (a *activity) advance(now time.Time) {
	second := now.Unix()
	for s := max(a.newest+1, second-rateWindow+1); s <= second; s++ {
		a.seconds[s%rateWindow] = 0
	}
	a.newest = max(a.newest, second)
}

func (a *activity) at(now time.Time) Activity {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.advance(now)
	var sum int64
	for _, n := range a.seconds {
		sum += n
	}
	span := min(max(now.Sub(a.began), time.Second), rateWindow*time.Second)
	return Activity{Stored: a.stored, PerSecond: float64(sum) / span.Seconds(), LastCommit: a.last, NewestEvent: a.event}
}

package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
)

// The states of a route's gate.
const (
	gateOpen = iota
	// gateClosed receives nothing; what was received before is tried once and then given back.
	gateClosed
	// gateHolding receives a few messages and holds them until they can be stored: the lease of a
	// message that is held costs no delivery attempt, giving it back would.
	gateHolding
	// gateJudging receives a few messages to see whether records pass again.
	gateJudging
)

const (
	minProbePause, maxProbePause = time.Second, time.Minute
	// heldMessages and heldFor bound a probe that holds its messages.
	heldMessages, heldFor = 4, time.Hour
	// judgedRecords is how many records a probe looks at before it decides.
	judgedRecords = 10
)

// Why a Receive was ended while the service goes on.
var (
	errPaused      = errors.New("the route is paused")
	errResumed     = errors.New("the route goes on")
	errProbed      = errors.New("the probe has ended")
	errStreamStuck = errors.New("messages wait, but the stream delivers none")
)

// gate says whether a route takes messages. A route pauses when going on would harm every message:
// the store is misconfigured, or nearly all records break the declaration.
type gate struct {
	state atomic.Int32

	mu       sync.Mutex
	cause    error // nil when the gate is open
	probing  int32 // the state of a probe: holding or judging
	probes   int
	reopened time.Time
	// passed and rejected count the records that a judging probe has seen.
	passed, rejected int
}

func (g *gate) why() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.cause
}

// suspend pauses the route; probing says how it is to be probed. Doing so twice changes nothing.
func (r *route) suspend(probing int32, cause error) {
	g := &r.gate
	g.mu.Lock()
	if state := g.state.Load(); state == gateClosed || state == probing {
		g.mu.Unlock()
		return
	}
	if r.deps.Now().Sub(g.reopened) > maxProbePause {
		g.probes = 0 // A pause soon after the last one goes on where that ended.
	}
	g.cause, g.probing = cause, probing
	g.state.Store(gateClosed)
	g.mu.Unlock()
	r.deps.Log.Error("route paused, its messages wait in the subscription",
		"dataset", r.ds.Name, "subscription", r.ds.Subscription(), "error", cause)
	r.observed.platformError(stagePause)
	r.interrupt(errPaused)
	r.hurry()
}

// resume ends a probe that went well.
func (r *route) resume() {
	g := &r.gate
	g.mu.Lock()
	if state := g.state.Load(); state != gateHolding && state != gateJudging {
		g.mu.Unlock()
		return
	}
	g.cause, g.reopened = nil, r.deps.Now()
	g.state.Store(gateOpen)
	g.mu.Unlock()
	r.rejects.reset()
	r.deps.Log.Info("route goes on", "dataset", r.ds.Name, "subscription", r.ds.Subscription())
	r.interrupt(errResumed)
	r.hurry()
}

// probe waits and then opens the gate a little, until the route resumes or the probe has failed.
func (r *route) probe(ctx context.Context) {
	g := &r.gate
	g.mu.Lock()
	g.probes++
	state, wait := g.probing, backoff(g.probes, minProbePause, maxProbePause)
	g.passed, g.rejected = 0, 0
	g.mu.Unlock()
	pause(ctx, wait)
	if ctx.Err() != nil {
		return
	}
	opts := bus.ReceiveOptions{MaxMessages: judgedRecords, MaxBytes: r.opts.MaxBytes, MaxExtension: maxExtension}
	if state == gateHolding {
		opts.MaxMessages, opts.MaxExtension = heldMessages, heldFor
	}
	g.state.Store(state)
	if _, err := r.receive(ctx, state, opts); err != nil && ctx.Err() == nil {
		r.noteReceiveEnd(err, 0)
	}
	g.state.CompareAndSwap(state, gateClosed)
}

// judge counts a record of a judging probe and decides once it has seen enough.
func (r *route) judge(pass bool) {
	g := &r.gate
	g.mu.Lock()
	if pass {
		g.passed++
	} else {
		g.rejected++
	}
	seen, rejected := g.passed+g.rejected, g.rejected
	g.mu.Unlock()
	switch {
	case seen != judgedRecords:
	case float64(rejected) <= r.opts.MaxRejectShare*float64(seen):
		r.resume()
	case r.gate.state.CompareAndSwap(gateJudging, gateClosed):
		r.interrupt(errProbed)
	}
}

// passes counts a record that was decoded.
func (r *route) passes() {
	r.rejects.passed.Add(1)
	if r.gate.state.Load() == gateJudging {
		r.judge(true)
	}
}

// refuses counts a record that breaks the declaration. It is true when the route is paused by now, so
// that the record must be given back instead of being rejected.
func (r *route) refuses(cause error) bool {
	switch r.gate.state.Load() {
	case gateJudging:
		r.judge(false)
		return false // A few rejections for each probe are what it costs to see further.
	case gateClosed:
		return true
	}
	reason, field := rejection(cause)
	why, tooMany := r.rejects.add(r.deps.Now(), reason, field, r.opts.MaxRejectShare)
	if tooMany {
		r.suspend(gateJudging, fmt.Errorf("%w: %s: compare what the producers send with the declaration of dataset %s "+
			"(latamctl dead-letters list %s); --max-reject-share 1 rejects such records without end", errBadDeploy, why, r.ds.Name, r.ds.Name))
	}
	return tooMany
}

var errBadDeploy = errors.New("paused because most records break the declaration")

// The guard against a bad deploy looks at the last minute. So many rejections are no trickle of bad records.
const minRejects, rejectWindow = 1000, 60

// rejects counts the records of the last minute that were rejected, and those that passed.
type rejects struct {
	passed atomic.Int64 // ever

	mu sync.Mutex
	// seconds are the counts of the last seconds, each at its Unix second modulo the window.
	seconds [rejectWindow]struct{ rejected, passedBefore int64 }
	newest  int64
	reasons map[[2]string]int // since the minute began
}

// add counts a rejection. It is tooMany when a minute has many of them and they are more than the
// share of all records; why says so in words.
func (j *rejects) add(now time.Time, reason, field string, share float64) (why string, tooMany bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.advance(now)
	j.seconds[j.newest%rejectWindow].rejected++
	if key := [2]string{reason, field}; j.reasons[key] > 0 || len(j.reasons) < 64 { // The names of unknown fields have no end.
		j.reasons[key]++
	}
	var rejected int64
	for _, s := range j.seconds {
		rejected += s.rejected
	}
	passed := j.passed.Load() - j.seconds[(j.newest+1)%rejectWindow].passedBefore
	if rejected < minRejects || float64(rejected) <= share*float64(rejected+passed) {
		return "", false
	}
	return fmt.Sprintf("%d of the last %d, most by %s", rejected, rejected+passed, j.commonest()), true
}

func (j *rejects) commonest() string {
	var most [2]string
	for key, n := range j.reasons {
		if n > j.reasons[most] {
			most = key
		}
	}
	if most[1] != "" {
		return most[0] + " in field " + most[1]
	}
	return most[0]
}

// tick keeps the window's start right while nothing is rejected.
func (j *rejects) tick(now time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.advance(now)
}

func (j *rejects) advance(now time.Time) {
	second := now.Unix()
	if j.newest/rejectWindow != second/rejectWindow || j.reasons == nil {
		j.reasons = map[[2]string]int{}
	}
	passed := j.passed.Load()
	if j.newest == 0 {
		passed = 0 // Records may have passed before the first look at the clock, and they count.
	}
	for s := max(j.newest+1, second-rejectWindow+1); s <= second; s++ {
		j.seconds[s%rejectWindow].rejected, j.seconds[s%rejectWindow].passedBefore = 0, passed
	}
	j.newest = max(j.newest, second)
}

// reset forgets what led to a pause.
func (j *rejects) reset() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := range j.seconds {
		j.seconds[i].rejected, j.seconds[i].passedBefore = 0, j.passed.Load()
	}
	clear(j.reasons)
}

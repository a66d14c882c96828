package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/store"
)

const (
	// maxPending bounds the publishes under way. When it is reached the next message waits, which
	// its latency shows.
	maxPending   = 20_000
	probeTimeout = 30 * time.Second
	drainTimeout = 10 * time.Second
)

// pipeline is one run of publish, deliver, commit, acknowledge.
type pipeline struct {
	opts     Options
	deps     Deps
	schedule Schedule // without a rate in the closed loop
	name     string   // of the run, before its rate
	topic    string
	records  *records
	// message makes message i, due that long after the start.
	message func(i int, due time.Duration) []byte
	// receive takes messages to the store until its context ends.
	receive func(ctx context.Context) error
	// committing names the latency until a row is committed.
	committing string
	writer     *writer
	pending    chan struct{}
	window     chan struct{} // a place for each message in work; nil in the open loop
	probed     chan struct{}
	probe      sync.Once
	sends      sync.WaitGroup

	start                       time.Time
	sent, settled               atomic.Int64
	errors, failed, redelivered atomic.Int64
	lastReadable                atomic.Int64 // ns from the start
	arrived, done               bitmap
	published, delivered        Histogram
	readable                    Histogram
	samples                     []sample
}

// sample is a look at the backlog during the load.
type sample struct {
	at      time.Duration
	backlog int
}

// newPipeline prepares a run of one rate; rate 0 is as fast as it goes.
func newPipeline(opts Options, deps Deps, name, topic string, rate int) *pipeline {
	runtime.GC() // What an earlier run left must not be collected at the cost of this one.
	p := &pipeline{
		opts: opts, deps: deps, schedule: Schedule{PerSecond: rate, For: opts.For}, name: name, topic: topic,
		records: newRecords(opts, time.Now()), committing: PublishToReadable,
		pending: make(chan struct{}, maxPending), probed: make(chan struct{}),
	}
	most := maxMessages
	if rate == 0 {
		p.window = make(chan struct{}, opts.Window)
	} else {
		most = p.schedule.Total()
	}
	p.arrived, p.done = newBitmap(most), newBitmap(most)
	p.writer = newWriter(deps.Store, p.topic, p.committed)
	return p
}

// pipelineRun measures one rate; rate 0 is as fast as it goes.
func pipelineRun(ctx context.Context, opts Options, deps Deps, rate int) (Run, error) {
	p := newPipeline(opts, deps, "pipeline", fmt.Sprintf("bench-%d", rate), rate)
	route := bus.Route{
		Topic: p.topic, Subscription: p.topic + "-ingest",
		DeadLetterTopic: p.topic + "-dead", DeadLetterSubscription: p.topic + "-dead-inspect",
	}
	if err := deps.ensure(ctx, route, store.Table{Name: p.topic}); err != nil {
		return Run{}, err
	}
	p.message = p.records.message
	p.receive = func(ctx context.Context) error {
		return p.deps.Bus.Receive(ctx, route.Subscription, bus.ReceiveOptions{}, p.handle)
	}
	if err := p.receiveWhile(ctx, p.load); err != nil {
		return Run{}, err
	}
	return p.report(), nil
}

// receiveWhile stores what arrives until load returns.
func (p *pipeline) receiveWhile(ctx context.Context, load func(context.Context) error) error {
	writing := make(chan struct{})
	go func() { defer close(writing); p.writer.run(ctx) }()
	receiving, stop := context.WithCancel(ctx)
	defer stop()
	loading, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	received := make(chan error, 1)
	go func() {
		err := p.receive(receiving)
		if receiving.Err() == nil {
			cancel(fmt.Errorf("receive ended early: %w", err))
		}
		received <- err
	}()
	err := load(loading)
	p.sends.Wait()
	stop()
	err = errors.Join(err, <-received)
	close(p.writer.queue)
	<-writing
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (p *pipeline) load(ctx context.Context) error {
	if err := p.awaitProbe(ctx); err != nil {
		return err
	}
	// The deadline is for a system that takes no more messages; the end of the function ends the
	// publishes that are still under way when the drain gives up.
	sending, stop := context.WithTimeout(ctx, p.opts.For+drainTimeout)
	defer stop()
	p.start = time.Now()
	var err error
	if p.window == nil {
		err = p.openLoop(sending)
	} else {
		err = p.closedLoop(sending)
	}
	if err != nil && sending.Err() == nil || ctx.Err() != nil {
		return err
	}
	return p.drain(ctx)
}

// awaitProbe sends one message through, so that no run pays for opening connections and streams.
func (p *pipeline) awaitProbe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if _, err := p.deps.Bus.Publish(ctx, p.topic, p.message(probeNumber, 0), nil); err != nil {
		return err
	}
	select {
	case <-p.probed:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w within %s: %w", ErrNothingArrives, probeTimeout, context.Cause(ctx))
	}
}

func (p *pipeline) openLoop(ctx context.Context) error {
	sampling, stop := context.WithCancel(ctx)
	var sampler sync.WaitGroup
	sampler.Go(func() { p.sampleBacklog(sampling) })
	defer sampler.Wait()
	defer stop()
	return p.schedule.Run(ctx, p.start, func(i int, due time.Duration) { p.send(ctx, i, due) })
}

func (p *pipeline) closedLoop(ctx context.Context) error {
	over := time.NewTimer(p.opts.For)
	defer over.Stop()
	for i := range maxMessages {
		select {
		case p.window <- struct{}{}:
			p.send(ctx, i, time.Since(p.start))
		case <-over.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// send publishes without waiting for the answer.
func (p *pipeline) send(ctx context.Context, i int, due time.Duration) {
	select {
	case p.pending <- struct{}{}:
	case <-ctx.Done():
		return // It stays unfinished.
	}
	p.sent.Add(1)
	p.sends.Go(func() {
		defer func() { <-p.pending }()
		_, err := p.deps.Bus.Publish(ctx, p.topic, p.message(i, due), nil)
		switch {
		case err == nil:
			p.published.Record(time.Since(p.start) - due)
		case ctx.Err() == nil:
			p.errors.Add(1)
			if p.settle(i) {
				p.failed.Add(1)
			}
		}
	})
}

// settle counts a message once and frees its place in the window.
func (p *pipeline) settle(i int) (first bool) {
	if !p.done.set(i) {
		return false
	}
	p.settled.Add(1)
	if p.window != nil {
		<-p.window
	}
	return true
}

// handle takes a delivered message to its commit.
func (p *pipeline) handle(_ context.Context, m bus.Message) bool {
	i, due, ok := parse(m.Data)
	if !ok {
		return true
	}
	if i == probeNumber {
		p.probe.Do(func() { close(p.probed) })
		return true
	}
	if p.arrived.set(i) {
		p.delivered.Record(time.Since(p.start) - due)
	} else {
		p.redelivered.Add(1)
	}
	return p.writer.put(&item{row: p.records.row(i, m.Data), number: i, due: due})
}

func (p *pipeline) committed(batch []*item, errs []error) {
	now := time.Since(p.start)
	for i, it := range batch {
		if errs[i] == nil && p.settle(it.number) {
			p.readable.Record(now - it.due)
		}
	}
	raise(&p.lastReadable, int64(now))
}

// sampleBacklog looks at the backlog a hundred times during the load.
func (p *pipeline) sampleBacklog(ctx context.Context) {
	tick := time.NewTicker(max(p.opts.For/100, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			at := time.Since(p.start)
			p.samples = append(p.samples, sample{at, p.schedule.DueBy(at) - int(p.settled.Load())})
		case <-ctx.Done():
			return
		}
	}
}

// drain waits until all that was sent is done, yet not for ever: what is left is reported.
func (p *pipeline) drain(ctx context.Context) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	timeout := time.NewTimer(drainTimeout)
	defer timeout.Stop()
	for p.settled.Load() < p.sent.Load() {
		select {
		case <-tick.C:
		case <-timeout.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (p *pipeline) report() Run {
	end := time.Since(p.start)
	offered, settled := max(p.sent.Load(), int64(p.schedule.Total())), p.settled.Load()
	run := Run{
		Name: fmt.Sprintf("%s-%d", p.name, p.schedule.PerSecond), Target: p.deps.Target, Loop: OpenLoop,
		OfferedPerSecond: float64(p.schedule.PerSecond), Seconds: seconds(end), RowsPerCommit: p.writer.commits.rowsPerCommit(),
		Counts: map[string]int64{
			"done": settled - p.failed.Load(), "errors": p.errors.Load() + p.writer.failures.Load(), "unfinished": offered - settled,
			"redelivered": p.redelivered.Load(), "commits": p.writer.commits.n.Load(),
		},
	}
	if last := time.Duration(p.lastReadable.Load()); last > 0 {
		run.AchievedPerSecond = round(float64(run.Counts["done"]) / last.Seconds())
	}
	run.Sustained = run.Counts["errors"] == 0 && run.Counts["unfinished"] == 0
	if p.window != nil {
		run.Name, run.Loop = p.name+"-max", ClosedLoop
	} else {
		p.countUnfinished(end)
		b := backlogOf(p.samples, p.opts.For)
		run.Backlog, run.Sustained = &b, run.Sustained && !b.grew(p.schedule)
	}
	run.Latencies = map[string]Latency{
		Publish: LatencyOf(&p.published), p.committing: LatencyOf(&p.readable), Commit: LatencyOf(&p.writer.commits.duration),
	}
	if p.committing == PublishToReadable { // A worker does not tell what was delivered to it.
		run.Latencies[PublishToDelivery] = LatencyOf(&p.delivered)
	}
	return run
}

// countUnfinished adds the age of each message that did not come through, which is the least its
// latency can be: leaving it out would make an overloaded system look fast.
func (p *pipeline) countUnfinished(end time.Duration) {
	for i := range p.schedule.Total() {
		if !p.arrived.has(i) {
			p.delivered.Record(end - p.schedule.Due(i))
		}
		if !p.done.has(i) {
			p.readable.Record(end - p.schedule.Due(i))
		}
	}
}

// backlogOf averages the samples of the middle and of the last third of the load.
func backlogOf(samples []sample, lasts time.Duration) Backlog {
	mean := func(from, to time.Duration) float64 {
		sum, n := 0, 0
		for _, s := range samples {
			if s.at >= from && s.at < to {
				sum, n = sum+s.backlog, n+1
			}
		}
		return round(float64(sum) / float64(max(n, 1)))
	}
	return Backlog{Middle: mean(lasts/3, 2*lasts/3), Last: mean(2*lasts/3, lasts)}
}

// grew tells whether the backlog rose by more than a twentieth of what was offered meanwhile. The
// floor, what is due in 50 ms, is the noise of batches.
func (b Backlog) grew(s Schedule) bool {
	const share, noise, least = 0.05, 50 * time.Millisecond, 10
	third := s.For.Seconds() / 3
	return b.Last-b.Middle > max(share*float64(s.PerSecond)*third, float64(s.PerSecond)*noise.Seconds(), least)
}

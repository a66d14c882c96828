package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
)

// fake is a Pub/Sub, a Bigtable and its administration whose every delay is known.
type fake struct {
	publishTakes time.Duration
	// put takes what it returns and fails with the error.
	put func() (time.Duration, error)
	// refuse fails the publish of every n-th message when it is not 0, lose drops it in silence.
	refuse, lose int

	topic chan bus.Message
	turn  chan struct{} // one write at a time; a mutex would hold up the test's clock

	mu   sync.Mutex
	sent int
}

func newFake() *fake {
	return &fake{topic: make(chan bus.Message, 100_000), turn: make(chan struct{}, 1), put: func() (time.Duration, error) { return 0, nil }}
}

func (f *fake) deps() Deps { return Deps{Target: "fake", Bus: f, Store: f, Admin: fakeAdmin{}} }

type fakeAdmin struct{}

func (fakeAdmin) Ensure(context.Context, store.Table) error { return nil }

func (f *fake) Ensure(context.Context, bus.Route) error { return nil }

func (f *fake) Publish(ctx context.Context, _ string, data []byte, _ map[string]string) (string, error) {
	time.Sleep(f.publishTakes)
	f.mu.Lock()
	n := f.sent // The probe is message 0.
	f.sent++
	f.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case f.refuse > 0 && n%f.refuse == f.refuse-1:
		return "", bus.ErrUnavailable
	case f.lose > 0 && n%f.lose == f.lose-1:
		return "lost", nil
	}
	f.topic <- bus.Message{Data: data}
	return fmt.Sprint(n), nil
}

func (f *fake) PublishBatch(ctx context.Context, topic string, messages []bus.Message) ([]string, error) {
	ids := make([]string, len(messages))
	for i, m := range messages {
		ids[i], _ = f.Publish(ctx, topic, m.Data, nil)
	}
	return ids, nil
}

func (f *fake) Receive(ctx context.Context, _ string, _ bus.ReceiveOptions, handle func(context.Context, bus.Message) bool) error {
	var calls sync.WaitGroup
	defer calls.Wait()
	for {
		select {
		case m := <-f.topic:
			calls.Go(func() {
				if !handle(ctx, m) {
					f.topic <- m
				}
			})
		case <-ctx.Done():
			return nil
		}
	}
}

func (f *fake) Put(_ context.Context, _ string, rows []dataset.Row) []error {
	f.turn <- struct{}{}
	defer func() { <-f.turn }()
	takes, err := f.put()
	time.Sleep(takes)
	errs := make([]error, len(rows))
	for i := range errs {
		errs[i] = err
	}
	return errs
}

func (f *fake) Get(_ context.Context, _, key string, _ []string) (dataset.Row, error) {
	time.Sleep(time.Millisecond)
	return dataset.Row{Key: key, Cells: make([]dataset.Cell, 3)}, nil
}

func (f *fake) Scan(_ context.Context, _ string, s store.Scan, each func(dataset.Row) bool) error {
	time.Sleep(2 * time.Millisecond)
	for range s.Limit {
		each(dataset.Row{})
	}
	return nil
}

func testOptions() Options {
	return Options{Rates: []int{100}, For: time.Second}.Defaults()
}

func measureFake(t *testing.T, f *fake, rate int) Run {
	t.Helper()
	run, err := pipelineRun(t.Context(), testOptions(), f.deps(), rate)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// near allows for the width of a bucket.
func near(got float64, want time.Duration) bool {
	ms := float64(want) / float64(time.Millisecond)
	return got >= ms && got <= ms*1.01
}

func TestPipelineLatencies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.publishTakes = 3 * time.Millisecond
		f.put = func() (time.Duration, error) { return 4 * time.Millisecond, nil }
		run := measureFake(t, f, 100)
		for name, want := range map[string]time.Duration{
			Publish: 3 * time.Millisecond, PublishToDelivery: 3 * time.Millisecond, PublishToReadable: 7 * time.Millisecond, Commit: 4 * time.Millisecond,
		} {
			if l := run.Latencies[name]; !near(l.P50, want) || !near(l.Max, want) {
				t.Errorf("%s is %+v, want %s throughout", name, l, want)
			}
		}
		// The last message is due at 990 ms and readable at 997.
		if !run.Sustained || run.Counts["done"] != 100 || run.AchievedPerSecond != 100.3 || run.OfferedPerSecond != 100 {
			t.Errorf("run %+v", run)
		}
		if run.Latencies[PublishToReadable].Count != 100 || *run.RowsPerCommit != (RowsPerCommit{Mean: 1, Max: 1}) {
			t.Errorf("the probe is counted: %+v", run)
		}
	})
}

// TestPipelineCountsFromTheDueTime stalls one write: every message that was due meanwhile must
// show the wait, not the one alone that was in the write.
func TestPipelineCountsFromTheDueTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, start := newFake(), time.Now()
		stalled := false
		f.put = func() (time.Duration, error) {
			if !stalled && time.Since(start) >= 300*time.Millisecond {
				stalled = true
				return 400 * time.Millisecond, nil
			}
			return 0, nil
		}
		run := measureFake(t, f, 100)
		l := run.Latencies[PublishToReadable]
		if !near(l.Max, 400*time.Millisecond) || !near(l.P99, 390*time.Millisecond) {
			t.Errorf("latencies %+v, want 390 and 400 ms at p99 and max", l)
		}
		if l.P50 != 0 || !run.Sustained {
			t.Errorf("latencies %+v and sustained %v, want most messages untouched", l, run.Sustained)
		}
	})
}

// TestPipelineOverload takes a second for each write, one at a time.
func TestPipelineOverload(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.put = func() (time.Duration, error) { return time.Second, nil }
		run := measureFake(t, f, 100)
		if run.Sustained {
			t.Errorf("run is sustained: %+v", run)
		}
		if b := run.Backlog; b.Last <= b.Middle || !b.grew(Schedule{PerSecond: 100, For: time.Second}) {
			t.Errorf("backlog %+v did not grow", b)
		}
	})
}

// TestPipelineUnfinished loses messages: their age counts, and the run ends all the same.
func TestPipelineUnfinished(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.lose = 2
		run := measureFake(t, f, 100)
		if run.Sustained || run.Counts["unfinished"] != 50 || run.Counts["done"] != 50 {
			t.Errorf("run %+v", run)
		}
		if l := run.Latencies[PublishToReadable]; l.Count != 100 || l.P99 < 10_000 {
			t.Errorf("latencies %+v leave out what never came", l)
		}
	})
}

func TestPipelineErrors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.refuse = 4
		failures := 3
		f.put = func() (time.Duration, error) {
			if failures--; failures >= 0 {
				return time.Millisecond, store.ErrUnavailable
			}
			return 0, nil
		}
		run := measureFake(t, f, 100)
		// 101 messages with the probe, so 25 are refused; three writes of a row failed and came again.
		want := map[string]int64{"done": 75, "errors": 28, "unfinished": 0, "redelivered": 3, "commits": 78}
		for name, n := range want {
			if run.Counts[name] != n {
				t.Errorf("%s is %d, want %d: %+v", name, run.Counts[name], n, run)
			}
		}
		if run.Sustained {
			t.Error("a run with errors is sustained")
		}
	})
}

func TestPipelineClosedLoop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.publishTakes = 10 * time.Millisecond
		opts := testOptions()
		opts.Window = 5
		run, err := pipelineRun(t.Context(), opts, f.deps(), 0)
		if err != nil {
			t.Fatal(err)
		}
		// Five places, each free again after 10 ms.
		if run.Loop != ClosedLoop || run.Counts["done"] < 495 || run.Counts["done"] > 505 || run.AchievedPerSecond < 495 || run.AchievedPerSecond > 505 {
			t.Errorf("run %+v, want 500 a second", run)
		}
		if l := run.Latencies[PublishToReadable]; !near(l.Max, 10*time.Millisecond) || run.Backlog != nil {
			t.Errorf("run %+v", run)
		}
	})
}

// TestPipelineStuck puts nothing through at all.
func TestPipelineStuck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.lose = 1
		if _, err := pipelineRun(t.Context(), testOptions(), f.deps(), 100); !errors.Is(err, ErrNothingArrives) {
			t.Errorf("error %v, want %v", err, ErrNothingArrives)
		}
	})
}

func TestPipelineInterrupted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		enough := errors.New("enough")
		for _, rate := range []int{0, 100} {
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(500*time.Millisecond, func() { cancel(enough) })
			start := time.Now()
			f := newFake()
			f.publishTakes = time.Millisecond
			opts := testOptions()
			opts.Window = 5
			if _, err := pipelineRun(ctx, opts, f.deps(), rate); !errors.Is(err, enough) {
				t.Errorf("rate %d: error %v, want %v", rate, err, enough)
			}
			if took := time.Since(start); took > 600*time.Millisecond {
				t.Errorf("rate %d: it took %s to end", rate, took)
			}
		}
	})
}

// TestEngineOrder checks the order of the runs, and what is left out after a rate that is too much.
func TestEngineOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		opts := Options{Rates: []int{200, 100, 200}, For: time.Second, Rows: 1000, Window: 5}
		check := func(f *fake, want ...string) {
			t.Helper()
			f.publishTakes = time.Millisecond // Without a delay the closed loop would not let the clock go on.
			runs, err := Engine(t.Context(), opts, f.deps())
			var got []string
			for _, run := range runs {
				got = append(got, run.Name)
			}
			if fmt.Sprint(got) != fmt.Sprint(want) || err != nil {
				t.Errorf("runs %v, %v; want %v", got, err, want)
			}
		}
		check(newFake(), "pipeline-100", "pipeline-200", "pipeline-max", "fill", "get", "page-100", "limit-10")
		opts.StopEarly, opts.Rows = true, 0
		lossy := newFake()
		lossy.lose = 50
		check(lossy, "pipeline-100")
		opts.StopEarly = false
		check(lossy, "pipeline-100", "pipeline-200", "pipeline-max")
	})
}

func TestReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		opts := testOptions()
		opts.Rows, opts.Readers = 1000, 10
		runs, err := readRuns(t.Context(), opts, newFake().deps())
		if err != nil || len(runs) != 4 {
			t.Fatalf("%d runs, %v", len(runs), err)
		}
		if fill := runs[0]; fill.Counts["done"] != 1000 || fill.Counts["commits"] != 2 || fill.RowsPerCommit.Max != 500 {
			t.Errorf("fill %+v", fill)
		}
		for i, want := range map[int]float64{1: 10_000, 2: 5_000, 3: 500} {
			if run := runs[i]; run.AchievedPerSecond != want || !run.Sustained || run.Latencies[run.Name].Count != uint64(want) {
				t.Errorf("%s: %+v, want %g a second", run.Name, run, want)
			}
		}
	})
}

func TestOptionsValidate(t *testing.T) {
	t.Parallel()
	if err := (Options{}).Defaults().Validate(); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
	for name, change := range map[string]func(*Options){
		"rate 0":         func(o *Options) { o.Rates = []int{1000, 0} },
		"no message":     func(o *Options) { o.Rates, o.For = []int{1}, 100*time.Millisecond },
		"too many":       func(o *Options) { o.Rates, o.For = []int{1_000_000}, time.Minute },
		"many rates":     func(o *Options) { o.Rates = make([]int, maxRates+1) },
		"short":          func(o *Options) { o.For = time.Millisecond },
		"long":           func(o *Options) { o.For = time.Hour },
		"small record":   func(o *Options) { o.RecordBytes = headerBytes - 1 },
		"large record":   func(o *Options) { o.RecordBytes = maxRecordBytes + 1 },
		"no cell":        func(o *Options) { o.Cells = -1 },
		"many cells":     func(o *Options) { o.Cells, o.RecordBytes = 40, 32 },
		"negative rows":  func(o *Options) { o.Rows = -1 },
		"no reader":      func(o *Options) { o.Readers = -1 },
		"negative place": func(o *Options) { o.Window = -1 },
	} {
		o := Options{}.Defaults()
		change(&o)
		if o.Validate() == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

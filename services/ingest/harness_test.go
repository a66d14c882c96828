package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
)

const declaration = `
version: 1
name: test
datasets:
  events:
    fields:
      code: {type: string, required: true, pattern: "^[a-z0-9]+$"}
      at:   {type: timestamp, required: true}
      n:    {type: int64, minimum: 0}
      text: {type: string}
    key: [code]
    time: at
    retention: 30d
`

func loadDataset(t testing.TB) *dataset.Dataset {
	t.Helper()
	d, err := dataset.Load("latam.yaml", []byte(declaration))
	if err != nil {
		t.Fatal(err)
	}
	return d.Datasets[0]
}

// delivery is one message on its way to the service; outcome receives the acknowledgement once.
type delivery struct {
	message bus.Message
	outcome chan bool
}

// fakeSource delivers what is sent to it, each message in a goroutine of its own.
type fakeSource struct {
	queue chan delivery

	mu     sync.Mutex
	script []func(context.Context) error // the next calls of Receive, instead of delivering
	starts []time.Time
	opts   bus.ReceiveOptions
	sub    string
}

func (s *fakeSource) Receive(ctx context.Context, sub string, opts bus.ReceiveOptions, handle func(context.Context, bus.Message) bool) error {
	s.mu.Lock()
	s.starts = append(s.starts, time.Now())
	s.sub, s.opts = sub, opts
	var scripted func(context.Context) error
	if len(s.script) > 0 {
		scripted, s.script = s.script[0], s.script[1:]
	}
	s.mu.Unlock()
	if scripted != nil {
		return scripted(ctx)
	}
	var calls sync.WaitGroup
	defer calls.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case d := <-s.queue:
			calls.Go(func() { d.outcome <- handle(ctx, d.message) })
		}
	}
}

// attempts returns when Receive was called.
func (s *fakeSource) attempts() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]time.Time(nil), s.starts...)
}

// put is one call of the sink.
type put struct {
	table string
	rows  []dataset.Row
	start time.Time
}

// fakeSink stores rows as Bigtable does: of each key the newest event time, and of one event time
// the last write.
type fakeSink struct {
	// gate, when set, holds each call until it receives.
	gate chan struct{}
	// answer decides the outcome of each row; nil commits all.
	answer func(rows []dataset.Row) []error
	// during, when set, runs within each call.
	during func(ctx context.Context, rows []dataset.Row)

	mu     sync.Mutex
	puts   []put
	stored map[string]dataset.Row
}

func (s *fakeSink) Put(ctx context.Context, table string, rows []dataset.Row) []error {
	s.mu.Lock()
	s.puts = append(s.puts, put{table: table, rows: rows, start: time.Now()})
	gate, during := s.gate, s.during
	s.mu.Unlock()
	if gate != nil {
		<-gate
	}
	if during != nil {
		during(ctx, rows)
	}
	s.mu.Lock()
	answer := s.answer
	s.mu.Unlock()
	errs := make([]error, len(rows))
	if answer != nil {
		errs = answer(rows)
	}
	for i, row := range rows {
		if errs[i] == nil {
			s.apply(row)
		}
	}
	return errs
}

// setAnswer changes what a running service is answered.
func (s *fakeSink) setAnswer(answer func([]dataset.Row) []error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// setGate changes where the calls of a running service wait.
func (s *fakeSink) setGate(gate chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gate = gate
}

func (s *fakeSink) apply(row dataset.Row) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.stored[row.Key]; !ok || !row.Time.Before(old.Time) {
		s.stored[row.Key] = row
	}
}

func (s *fakeSink) calls() []put {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]put(nil), s.puts...)
}

// count returns how many rows are stored.
func (s *fakeSink) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.stored)
}

// value returns the column n of the only row whose key begins with code.
func (s *fakeSink) value(code string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, row := range s.stored {
		if strings.HasPrefix(key, code) {
			return column(row, "n")
		}
	}
	return "absent"
}

func column(row dataset.Row, name string) string {
	for _, cell := range row.Cells {
		if cell.Column == name {
			return string(cell.Value)
		}
	}
	return ""
}

// letter is one dead letter.
type letter struct {
	topic      string
	data       string
	attributes map[string]string
}

type fakeDeadLetters struct {
	gate chan struct{}
	err  error

	mu      sync.Mutex
	letters []letter
	ctxErr  error // of the context at the end of the last call
}

func (d *fakeDeadLetters) Publish(ctx context.Context, topic string, data []byte, attributes map[string]string) (string, error) {
	if d.gate != nil {
		<-d.gate
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ctxErr = ctx.Err()
	if d.err != nil {
		return "", d.err
	}
	d.letters = append(d.letters, letter{topic: topic, data: string(data), attributes: maps.Clone(attributes)})
	return fmt.Sprint(len(d.letters)), nil
}

func (d *fakeDeadLetters) setErr(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

func (d *fakeDeadLetters) all() []letter {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]letter(nil), d.letters...)
}

// harness is a service with fakes around it, in a synctest bubble.
type harness struct {
	t      *testing.T
	from   Source // instead of source
	source *fakeSource
	sink   *fakeSink
	dead   *fakeDeadLetters
	log    *bytes.Buffer
	svc    *Service

	payloads Payloads
	meter    metric.Meter
	tracer   trace.Tracer
	sent     int
	stop     context.CancelFunc
	ended    chan error
}

// inBubble runs a test on a fake clock with a harness that is not started yet.
func inBubble(t *testing.T, run func(t *testing.T, h *harness)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { run(t, newHarness(t)) })
}

func newHarness(t *testing.T) *harness {
	t.Helper()
	h := &harness{
		t: t, source: &fakeSource{queue: make(chan delivery, 1000)},
		sink: &fakeSink{stored: map[string]dataset.Row{}}, dead: &fakeDeadLetters{}, log: &bytes.Buffer{},
	}
	// A test that fails midway leaves calls at the gates, which the bubble would report instead of the failure.
	t.Cleanup(func() {
		for _, gate := range []chan struct{}{h.sink.gate, h.dead.gate} {
			if gate != nil {
				close(gate)
			}
		}
	})
	return h
}

func (h *harness) start(opts Options) {
	h.t.Helper()
	var err error
	var source Source = h.source
	if h.from != nil {
		source = h.from
	}
	h.svc, err = New(opts, Deps{
		Source: source, Payloads: h.payloads, Sink: h.sink, DeadLetters: h.dead, Meter: h.meter, Tracer: h.tracer,
		Log: slog.New(slog.NewTextHandler(h.log, nil)), Now: time.Now,
	}, []*dataset.Dataset{loadDataset(h.t)})
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(h.t.Context())
	h.stop, h.ended = cancel, make(chan error, 1)
	go func() { h.ended <- h.svc.Run(ctx) }()
}

// end stops the service and waits for its drain.
func (h *harness) end() {
	h.t.Helper()
	h.stop()
	if err := <-h.ended; err != nil {
		h.t.Errorf("run: %v, want nil after a drain", err)
	}
}

// deliver hands a message over and returns where its outcome will be.
func (h *harness) deliver(m bus.Message) chan bool {
	d := delivery{message: m, outcome: make(chan bool, 1)}
	h.source.queue <- d
	return d.outcome
}

// send delivers a new message that was published now.
func (h *harness) send(data string) chan bool { return h.deliver(h.message(data)) }

func (h *harness) message(data string) bus.Message {
	h.sent++
	return bus.Message{ID: fmt.Sprint(h.sent), PublishTime: time.Now(), Data: []byte(data)}
}

// event is a valid record; all events have the same event time.
func event(code string, n int) string { return eventAt(code, n, eventTime()) }

func eventAt(code string, n int, at time.Time) string {
	return fmt.Sprintf(`{"code":%q,"at":%q,"n":%d}`, code, at.Format(time.RFC3339Nano), n)
}

// eventTime is shortly before the bubble's clock starts.
func eventTime() time.Time { return time.Date(1999, 12, 31, 12, 0, 0, 0, time.UTC) }

// idle waits until nothing moves. The pause is what a batch may wait for messages under way.
func (h *harness) idle() {
	time.Sleep(2 * arrivalPoll)
	synctest.Wait()
}

// settled returns the outcome, which must be there by now.
func (h *harness) settled(what string, outcome chan bool) bool {
	h.t.Helper()
	h.idle()
	select {
	case ack := <-outcome:
		return ack
	default:
		h.t.Errorf("%s is not settled", what)
		return false
	}
}

func (h *harness) wantAck(what string, outcome chan bool) {
	h.t.Helper()
	if !h.settled(what, outcome) {
		h.t.Errorf("%s was given back, want it acknowledged", what)
	}
}

// wantNack passes the pause before a message is given back.
func (h *harness) wantNack(what string, outcome chan bool) {
	h.t.Helper()
	h.wantOpen(what, outcome)
	time.Sleep(h.svc.opts.RetryDelay)
	if h.settled(what, outcome) {
		h.t.Errorf("%s was acknowledged, want it given back", what)
	}
}

// wantGivenUp passes the tries in process and the pause before a message is given back.
func (h *harness) wantGivenUp(what string, outcome chan bool) {
	h.t.Helper()
	h.wantOpen(what, outcome)
	time.Sleep(maxRetries*maxRetryPause + h.svc.opts.RetryDelay)
	if h.settled(what, outcome) {
		h.t.Errorf("%s was acknowledged, want it given back", what)
	}
}

// wantOpen checks that the message is neither acknowledged nor given back.
func (h *harness) wantOpen(what string, outcome chan bool) {
	h.t.Helper()
	h.idle()
	select {
	case ack := <-outcome:
		h.t.Fatalf("%s is settled (acknowledged: %v) too early", what, ack)
	default:
	}
}

// wantReady checks what Ready says; nil wants it ready.
func (h *harness) wantReady(want error) {
	h.t.Helper()
	h.idle()
	switch err := h.svc.Ready(); {
	case want == nil && err != nil:
		h.t.Errorf("not ready: %v", err)
	case want != nil && (!errors.Is(err, want) || !strings.Contains(err.Error(), "dataset events")):
		h.t.Errorf("ready says %v, want %v and the dataset", err, want)
	}
}

// refuse answers each row by the value of its column n: 6 is refused.
func refuse(kind error) func([]dataset.Row) []error {
	return func(rows []dataset.Row) []error {
		errs := make([]error, len(rows))
		for i, row := range rows {
			if column(row, "n") == "6" {
				errs[i] = fmt.Errorf("write row: %w", kind)
			}
		}
		return errs
	}
}

// fail answers every row with an error, but for one whose column n is 0.
func fail(kind error) func([]dataset.Row) []error {
	return func(rows []dataset.Row) []error {
		errs := make([]error, len(rows))
		for i, row := range rows {
			if column(row, "n") != "0" {
				errs[i] = fmt.Errorf("write: %w", kind)
			}
		}
		return errs
	}
}

// outage are the kinds of error that are not a record's fault and may pass.
func outage() map[string]error {
	return map[string]error{"unavailable": store.ErrUnavailable, "canceled": context.Canceled}
}

// letThrough lets the one call go that waits at a gate.
func (h *harness) letThrough(gate chan struct{}) {
	h.t.Helper()
	h.idle()
	select {
	case gate <- struct{}{}:
	default:
		h.t.Fatal("no call waits at the gate")
	}
}

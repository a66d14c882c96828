package cli_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/api/option"

	"github.com/latamctl/latamctl/examples"
	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/pkg/testkit"
)

// The names that the load uses besides the flights dataset.
const (
	crashProject  = "latam-local"
	crashInstance = "latam"
	crashTopic    = "crash-direct"
	crashSub      = "crash-direct-check"
	crashTable    = "crash_direct"
	flightsLetter = "flights-dead-inspect"
)

// crashLoad drives a stack from two sides: flights through the whole pipeline, and messages and
// rows straight to the engine. Each has a ledger.
type crashLoad struct {
	t     *testing.T
	stack *crashStack
	seed  uint64
	ds    *dataset.Dataset // the flights

	bus                      *bus.Client
	store                    *store.Client
	flights, messages, table *testkit.Ledger

	stop    chan struct{} // closed when the load has to end
	workers sync.WaitGroup

	mu         sync.Mutex
	deliveries []testkit.Delivery
	letters    []testkit.Letter
}

func newCrashLoad(t *testing.T, s *crashStack, seed uint64) *crashLoad {
	t.Helper()
	l := &crashLoad{
		t: t, stack: s, seed: seed, stop: make(chan struct{}),
		flights: s.crashLedger("flights"), messages: s.crashLedger("messages"), table: s.crashLedger("table"),
	}
	decl, err := dataset.Load("", examples.Declaration)
	if err != nil {
		t.Fatal(err)
	}
	l.ds = decl.Dataset("flights")
	l.bus, err = bus.Open(t.Context(), bus.Options{
		Project: crashProject, Client: []option.ClientOption{s.dial(func(r ready) string { return r.Pubsub })},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.bus.Close() })
	l.store, err = store.Open(t.Context(), store.Options{
		Project: crashProject, Instance: crashInstance, CommitTimeout: commitTimeout,
		Client: []option.ClientOption{s.dial(func(r ready) string { return r.Bigtable })},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.store.Close() })
	return l
}

// prepare creates the topic, the subscription and the table of the direct side.
func (l *crashLoad) prepare() {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 30*time.Second)
	defer cancel()
	route := bus.Route{
		Topic: crashTopic, Subscription: crashSub,
		DeadLetterTopic: crashTopic + "-dead", DeadLetterSubscription: crashTopic + "-dead-inspect",
	}
	if err := l.bus.Ensure(ctx, route); err != nil {
		l.t.Fatal(err)
	}
	admin, err := store.OpenAdmin(ctx, crashProject, crashInstance, l.stack.dial(func(r ready) string { return r.Bigtable }))
	if err != nil {
		l.t.Fatal(err)
	}
	defer admin.Close()
	if err := admin.Ensure(ctx, store.Table{Name: crashTable}); err != nil {
		l.t.Fatal(err)
	}
}

// run starts the load.
func (l *crashLoad) run() {
	for worker := range uint64(2) {
		f := &flightSource{worker: int(worker), rng: l.random(1 + worker)}
		l.work(func() { l.publish("flights", l.flights, f.batch(), patience(f.rng)) })
	}
	m := &messageSource{rng: l.random(3)}
	l.work(func() { l.publish(crashTopic, l.messages, m.batch(), patience(m.rng)) })
	w := &rowSource{rng: l.random(4)}
	l.work(func() { l.put(w) })
	hold := l.random(5)
	l.receive(crashSub, func(m bus.Message) bool { return l.handle(m, hold) })
}

// handle works on a message for a moment. A kill meanwhile counts as one of the subscriber too, which
// forgets the message: only its redelivery can bring it back.
func (l *crashLoad) handle(m bus.Message, rng *rand.Rand) bool {
	l.mu.Lock()
	d := time.Duration(max(0, rng.Int64N(int64(2*holdMessage))-int64(holdMessage)))
	l.mu.Unlock()
	_, alive := l.stack.current()
	time.Sleep(d) // It is the work.
	if _, now := l.stack.current(); now != alive {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deliveries = append(l.deliveries, testkit.Delivery{ID: m.ID, Payload: string(m.Data)})
	return true
}

// holdMessage is how long at most the subscriber works on a message; half of them take no time.
const holdMessage = 400 * time.Millisecond

func (l *crashLoad) random(worker uint64) *rand.Rand { return rand.New(rand.NewPCG(l.seed, worker)) }

// work repeats a step until halt.
func (l *crashLoad) work(step func()) {
	l.workers.Go(func() {
		for {
			select {
			case <-l.stop:
				return
			default:
				step()
			}
		}
	})
}

// halt ends the publishing and the writing, each with its last answer; the subscriber goes on.
func (l *crashLoad) halt() {
	close(l.stop)
	l.workers.Wait()
}

// patience is how long a publish may take. Some are given up while the system is down, and so remain
// unanswered; others the client repeats until the system is up again.
func patience(rng *rand.Rand) time.Duration {
	if rng.IntN(2) == 0 {
		return 50 * time.Millisecond
	}
	return 5 * time.Second
}

// commitTimeout is the patience with a write.
const commitTimeout = 100 * time.Millisecond

// publish sends a batch. Only the absence of the system excuses a failure.
func (l *crashLoad) publish(topic string, ledger *testkit.Ledger, attempts []testkit.Attempt, timeout time.Duration) {
	if err := ledger.Intend(attempts); err != nil {
		l.t.Error(err)
		return
	}
	batch := make([]bus.Message, len(attempts))
	for i, a := range attempts {
		batch[i].Data = []byte(a.Payload)
	}
	ctx, cancel := context.WithTimeout(l.t.Context(), timeout)
	defer cancel()
	ids, err := l.bus.PublishBatch(ctx, topic, batch)
	switch {
	case err == nil:
		if err := ledger.Acknowledge(attempts, ids); err != nil {
			l.t.Error(err)
		}
	case !errors.Is(err, bus.ErrUnavailable):
		l.t.Errorf("attempts %d and on: %v", attempts[0].N, err)
	}
}

// put writes a batch of rows.
func (l *crashLoad) put(w *rowSource) {
	attempts := w.batch()
	if err := l.table.Intend(attempts); err != nil {
		l.t.Error(err)
		return
	}
	rows := make([]dataset.Row, len(attempts))
	for i, a := range attempts {
		rows[i] = dataset.Row{Key: a.Key, Time: rowTime()}
		for _, c := range rowCells(a.Payload) {
			column := strings.TrimPrefix(c.Column, dataset.Family+":")
			rows[i].Cells = append(rows[i].Cells, dataset.Cell{Column: column, Value: []byte(c.Value)})
		}
	}
	var taken []testkit.Attempt
	for i, err := range l.store.Put(l.t.Context(), crashTable, rows) {
		switch {
		case err == nil:
			taken = append(taken, attempts[i])
		case !errors.Is(err, store.ErrUnavailable):
			l.t.Errorf("attempt %d: %v", attempts[i].N, err)
		}
	}
	if err := l.table.Acknowledge(taken, nil); err != nil {
		l.t.Error(err)
	}
	w.written(taken)
}

// receive gives each message of a subscription to handle until the test ends.
func (l *crashLoad) receive(subscription string, handle func(bus.Message) bool) {
	ctx, cancel := context.WithCancel(l.t.Context())
	ended := make(chan struct{})
	l.t.Cleanup(func() {
		cancel()
		<-ended
	})
	go func() {
		defer close(ended)
		err := l.bus.Receive(ctx, subscription, bus.ReceiveOptions{}, func(_ context.Context, m bus.Message) bool { return handle(m) })
		if ctx.Err() == nil {
			l.t.Errorf("the client gave up on subscription %s: %v", subscription, err)
		}
	}()
}

// receiveLetters begins to read the dead letters.
func (l *crashLoad) receiveLetters() {
	l.receive(flightsLetter, func(m bus.Message) bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.letters = append(l.letters, testkit.Letter{
			MessageID: m.Attributes[bus.AttrMessageID], Reason: m.Attributes[bus.AttrReason], Payload: string(m.Data),
		})
		return true
	})
}

// received returns what was received so far.
func (l *crashLoad) received() ([]testkit.Delivery, []testkit.Letter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.deliveries), slices.Clone(l.letters)
}

// flightSource makes records of the flights dataset: new ones, some of them sent twice, and some
// that the declaration refuses.
type flightSource struct {
	worker, last int
	burst        int // large batches that are still to come
	rng          *rand.Rand
	sent         []testkit.Attempt
}

const (
	flightsBatch    = 40
	flightsBurst    = 300 // one in so many batches begins a burst, which leaves a backlog to the next kill
	flightsRepeated = 20  // one in so many repeats a record sent before
	flightsPoison   = 100 // one in so many is refused
)

func (f *flightSource) batch() []testkit.Attempt {
	size := 1 + f.rng.IntN(flightsBatch)
	if f.burst > 0 {
		f.burst--
		size = bus.MaxBatchMessages
	} else if f.rng.IntN(flightsBurst) == 0 {
		f.burst = 8
	}
	attempts := make([]testkit.Attempt, size)
	for i := range attempts {
		switch {
		case f.rng.IntN(flightsPoison) == 0:
			attempts[i] = f.poison()
		case len(f.sent) > 0 && f.rng.IntN(flightsRepeated) == 0:
			attempts[i] = f.sent[f.rng.IntN(len(f.sent))]
		default:
			attempts[i] = f.healthy()
			f.sent = append(f.sent, attempts[i])
		}
	}
	return attempts
}

// departure is a new one each time.
func (f *flightSource) departure() (origin, at, destination string) {
	f.last++
	origin = []string{"SCL", "LIM", "GRU", "BOG", "EZE", "MIA"}[f.rng.IntN(6)]
	at = time.Date(2020, 1, 1, 0, 0, f.last, 0, time.UTC).Format(time.RFC3339)
	return origin, at, fmt.Sprintf("W%c%c", 'A'+f.worker/26, 'A'+f.worker%26)
}

func (f *flightSource) healthy() testkit.Attempt {
	origin, at, destination := f.departure()
	record := fmt.Sprintf(`{"origin":%q,"departed_at":%q,"destination":%q,"delay_minutes":%d`, origin, at, destination, f.rng.IntN(200)-20)
	if f.rng.IntN(10) > 0 {
		record += fmt.Sprintf(`,"distance_miles":%d`, f.rng.IntN(9000))
	}
	return testkit.Attempt{Key: origin + "," + at + "," + destination, Payload: record + "}"}
}

func (f *flightSource) poison() testkit.Attempt {
	origin, at, destination := f.departure()
	kinds := []struct{ reason, record string }{
		{"bad_json", `{"origin":"%s","departed_at":"%s","destination":"%s"`},
		{"unknown_field", `{"origin":"%s","departed_at":"%s","destination":"%s","gate":7}`},
		{"missing_field", `{"origin":"%s","departed_at":"%s","destination":null,"delay_minutes":7,"distance_miles":null}%.0s`},
		{"wrong_type", `{"origin":"%s","departed_at":"%s","destination":"%s","delay_minutes":"7"}`},
		{"pattern", `{"origin":"%s","departed_at":"%s","destination":"%s?"}`},
		{"range", `{"origin":"%s","departed_at":"%s","destination":"%s","distance_miles":-1}`},
	}
	kind := kinds[f.rng.IntN(len(kinds))]
	return testkit.Attempt{
		Key: origin + "," + at + "," + destination, Reason: kind.reason,
		Payload: fmt.Sprintf(kind.record, origin, at, destination),
	}
}

// flightShape reads a record as anyone would who knows JSON and the declaration.
func flightShape() testkit.Shape {
	fields := []string{"origin", "departed_at", "destination", "delay_minutes", "distance_miles"}
	return testkit.Shape{
		Cells: func(payload string) []testkit.Cell {
			record := decodeRecord(payload)
			at, _ := time.Parse(time.RFC3339, fmt.Sprint(record["departed_at"]))
			cells := make([]testkit.Cell, len(fields))
			for i, name := range fields {
				cells[i] = testkit.Cell{Column: dataset.Family + ":" + name, Time: at}
				if v, ok := record[name]; ok {
					cells[i].Value = fmt.Sprint(v)
				}
			}
			return cells
		},
		Identity: func(row testkit.Row) string {
			value := map[string]string{}
			for _, c := range row.Cells {
				value[strings.TrimPrefix(c.Column, dataset.Family+":")] = c.Value
			}
			return value["origin"] + "," + value["departed_at"] + "," + value["destination"]
		},
	}
}

func decodeRecord(payload string) map[string]any {
	var record map[string]any
	dec := json.NewDecoder(strings.NewReader(payload))
	dec.UseNumber()
	_ = dec.Decode(&record) // A record that is none has no field.
	return record
}

// messageSource makes messages of about 1 KiB, no two of them alike.
type messageSource struct {
	last int
	rng  *rand.Rand
}

func (m *messageSource) batch() []testkit.Attempt {
	attempts := make([]testkit.Attempt, 1+m.rng.IntN(10))
	for i := range attempts {
		m.last++
		key := fmt.Sprintf("message-%d", m.last)
		attempts[i] = testkit.Attempt{Key: key, Payload: key + " " + letters(m.rng, 1+m.rng.IntN(2048))}
	}
	return attempts
}

func letters(rng *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('a' + rng.IntN(26))
	}
	return string(b)
}

// rowSource makes rows with a key of their own, and now and then a later version of an earlier row.
type rowSource struct {
	last, version int
	rng           *rand.Rand
	// settled are the keys whose last write was acknowledged. Only they are written again: a write
	// without an answer may still land after the next one.
	settled []string
}

func (w *rowSource) batch() []testkit.Attempt {
	attempts := make([]testkit.Attempt, 1+w.rng.IntN(20))
	for i := range attempts {
		w.version++
		key := ""
		if n := len(w.settled); n > 0 && w.rng.IntN(5) == 0 {
			at := w.rng.IntN(n)
			key = w.settled[at]
			w.settled = slices.Delete(w.settled, at, at+1)
		} else {
			w.last++
			key = fmt.Sprintf("row-%d", w.last)
		}
		attempts[i] = testkit.Attempt{Key: key, Payload: fmt.Sprintf("%s %d %s", key, w.version, letters(w.rng, w.rng.IntN(200)))}
	}
	return attempts
}

func (w *rowSource) written(attempts []testkit.Attempt) {
	for _, a := range attempts {
		w.settled = append(w.settled, a.Key)
	}
}

// rowTime is the time of all rows, so that a later version takes the place of an earlier one.
func rowTime() time.Time { return time.UnixMilli(1_600_000_000_000) }

// rowCells spreads a payload over columns, so that half a row shows.
func rowCells(payload string) []testkit.Cell {
	parts := strings.SplitN(payload, " ", 3)
	var cells []testkit.Cell
	for i, name := range []string{"key", "version", "body"} {
		cells = append(cells, testkit.Cell{Column: dataset.Family + ":" + name, Time: rowTime(), Value: parts[i]})
	}
	return cells
}

func rowShape() testkit.Shape {
	return testkit.Shape{Cells: rowCells, Identity: func(row testkit.Row) string { return row.Key }}
}

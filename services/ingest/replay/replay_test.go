package replay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/services/ingest"
)

const declaration = `
version: 1
name: test
datasets:
  events:
    fields:
      code: {type: string, required: true}
      at:   {type: timestamp, required: true}
      n:    {type: int64}
    key: [code]
    time: at
    retention: 3650d
`

func loadDataset(t testing.TB) *dataset.Dataset {
	t.Helper()
	d, err := dataset.Load("latam.yaml", []byte(declaration))
	if err != nil {
		t.Fatal(err)
	}
	return d.Datasets[0]
}

// topic is a Pub/Sub topic that keeps everything. It delivers in some disorder.
type topic struct {
	rng  *rand.Rand
	fail error // of the subscription
	// redelivery is how long a message that was given back stays away.
	redelivery time.Duration
	ahead      time.Duration // of its clock

	mu       sync.Mutex
	messages []bus.Message
	opts     bus.FollowOptions
}

func (p *topic) publish(data string) bus.Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := bus.Message{ID: strconv.Itoa(len(p.messages) + 9), Data: []byte(data), PublishTime: time.Now().Add(p.ahead)}
	p.messages = append(p.messages, m)
	return m
}

// next returns what was published since the place n, in disorder.
func (p *topic) next(n int) []bus.Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	fresh := slices.Clone(p.messages[n:])
	for i := range fresh {
		j := min(len(fresh)-1, i+p.rng.IntN(20))
		fresh[i], fresh[j] = fresh[j], fresh[i]
	}
	return fresh
}

func (p *topic) Follow(ctx context.Context, _ string, opts bus.FollowOptions, handle func(context.Context, bus.Message) bool) error {
	p.opts = opts
	opts.Ready(opts.From)
	var calls sync.WaitGroup
	defer calls.Wait()
	slots := make(chan struct{}, opts.MaxMessages)
	for n := 0; ctx.Err() == nil; {
		fresh := p.next(n)
		n += len(fresh)
		for _, m := range fresh {
			if m.PublishTime.Before(opts.From) {
				continue
			}
			slots <- struct{}{}
			calls.Go(func() {
				for !handle(ctx, m) && ctx.Err() == nil {
					time.Sleep(p.redelivery)
				}
				<-slots
			})
		}
		if p.fail != nil {
			return p.fail
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// table stores rows as Bigtable does, with every version.
type table struct {
	rng     *rand.Rand
	refuse  func(dataset.Row) error
	slowest time.Duration

	mu    sync.Mutex
	rows  map[string]map[int64]string // by key, then event time
	puts  int
	reads int
}

func newTable(rng *rand.Rand) *table {
	return &table{rng: rng, rows: map[string]map[int64]string{}, slowest: 30 * time.Millisecond}
}

func (s *table) write(row dataset.Row) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rows[row.Key] == nil {
		s.rows[row.Key] = map[int64]string{}
	}
	s.rows[row.Key][row.Time.UnixMilli()] = string(row.Cells[2].Value)
	s.puts++
}

func (s *table) pause() {
	s.mu.Lock()
	d := time.Duration(s.rng.Int64N(int64(s.slowest)))
	s.mu.Unlock()
	time.Sleep(d)
}

func (s *table) Put(_ context.Context, _ string, rows []dataset.Row) []error {
	s.pause()
	errs := make([]error, len(rows))
	for i, row := range rows {
		if s.refuse != nil {
			errs[i] = s.refuse(row)
		}
		if errs[i] == nil {
			s.write(row)
		}
	}
	return errs
}

func (s *table) GetMany(_ context.Context, _ string, keys, _ []string) ([]dataset.Row, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	rows := make([]dataset.Row, len(keys))
	for i, key := range keys {
		newest := int64(-1)
		for at, n := range s.rows[key] {
			if at > newest {
				newest = at
				rows[i] = dataset.Row{Key: key, Time: time.UnixMilli(at), Cells: []dataset.Cell{
					{Column: "at", Value: []byte(time.UnixMilli(at).UTC().Format(time.RFC3339))},
					{Column: "code", Value: []byte(strings.TrimRight(key, "\x00\x01"))}, {Column: "n", Value: []byte(n)},
				}}
			}
		}
	}
	return rows, nil
}

func (s *table) versions() map[string]map[int64]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]map[int64]string{}
	for key, of := range s.rows {
		all[key] = map[int64]string{}
		for at, n := range of {
			all[key][at] = n
		}
	}
	return all
}

// letters are the dead letters.
type letters struct {
	mu  sync.Mutex
	all []string
}

func (l *letters) Publish(_ context.Context, _ string, data []byte, _ map[string]string) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(data))
	return "", nil
}

func record(code string, event, n int) string {
	at := time.Unix(int64(1_000_000_000+event), 0).UTC().Format(time.RFC3339)
	return fmt.Sprintf(`{"code":%q,"at":%q,"n":%d}`, code, at, n)
}

type rig struct {
	ds      *dataset.Dataset
	topic   *topic
	table   *table
	letters *letters
}

func newRig(t *testing.T, seed uint64) *rig {
	return &rig{
		ds: loadDataset(t), topic: &topic{rng: rand.New(rand.NewPCG(seed, 1)), redelivery: 10 * time.Millisecond},
		table: newTable(rand.New(rand.NewPCG(seed, 2))), letters: &letters{},
	}
}

func (r *rig) replay(t *testing.T, opts Options) *Replay {
	t.Helper()
	made, err := New(opts, r.topic, ingest.Deps{
		Sink: r.table, DeadLetters: r.letters, Log: slog.New(slog.DiscardHandler), Now: time.Now,
	}, r.ds)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// publishLive publishes a record and has ingest store it a moment later.
func (r *rig) publishLive(data string, after time.Duration) {
	m := r.topic.publish(data)
	time.Sleep(after)
	row, err := ingest.Row(context.Background(), r.ds, nil, m)
	if err == nil {
		r.table.write(row)
	}
}

// TestReplayIsAsIfNothingHappened replays windows of a topic that is being published to, whose records
// replace each other at the same event time. In the end each row is what the last published record of
// its newest event time says, and there is no cell besides those that ingest wrote.
func TestReplayIsAsIfNothingHappened(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 3))
			keys := []int{12, 150}[seed%2] // A key is written often, or hardly more than twice.
			r := newRig(t, seed)
			n := 0
			step := func() {
				n++
				r.publishLive(record(fmt.Sprintf("k%d", rng.IntN(keys)), rng.IntN(1+12/keys*2), n), time.Duration(rng.IntN(5))*time.Millisecond)
			}
			began := time.Now()
			for range 400 {
				step()
				time.Sleep(time.Duration(rng.IntN(10)) * time.Millisecond)
			}
			from := began.Add(time.Duration(rng.Int64N(int64(time.Second))))
			to := from.Add(1 + time.Duration(rng.Int64N(int64(time.Since(from)))))
			if seed%3 == 0 {
				to = time.Now()
			}
			var live sync.WaitGroup
			live.Go(func() {
				for range 300 {
					step()
					time.Sleep(time.Duration(rng.IntN(10)) * time.Millisecond)
				}
			})
			made := r.replay(t, Options{From: from, To: to, QuietFor: time.Second})
			report, err := made.Run(t.Context())
			live.Wait()
			if err != nil || report.Restless {
				t.Errorf("seed %d: %v, %+v", seed, err, report)
			}
			want := map[string]map[int64]string{}
			for _, m := range r.topic.messages {
				row, err := ingest.Row(t.Context(), r.ds, nil, m)
				if err != nil {
					t.Fatal(err)
				}
				if want[row.Key] == nil {
					want[row.Key] = map[int64]string{}
				}
				want[row.Key][row.Time.UnixMilli()] = string(row.Cells[2].Value)
			}
			if d := cmp.Diff(shownVersions(want), shownVersions(r.table.versions())); d != "" {
				t.Errorf("seed %d (-want +got):\n%s", seed, d)
			}
			inWindow := int64(0)
			for _, m := range r.topic.messages {
				if !m.PublishTime.Before(from) && m.PublishTime.Before(to) {
					inWindow++
				}
			}
			if report.Window != inWindow || report.Stored+report.Replaced != inWindow {
				t.Errorf("seed %d: %+v, the window has %d", seed, report, inWindow)
			}
		})
	}
}

// shownVersions keeps which versions there are and what the newest says, which is what anybody sees. Of
// an event time that a newer one hides, ingest does not keep the order either.
func shownVersions(rows map[string]map[int64]string) map[string]string {
	shown := map[string]string{}
	for key, of := range rows {
		at := slices.Sorted(maps.Keys(of))
		shown[key] = fmt.Sprintf("%v %s", at, of[at[len(at)-1]])
	}
	return shown
}

// TestLaterRecordComesFirst: Pub/Sub may deliver what replaces a record of the window before that record.
func TestLaterRecordComesFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1)
		from := time.Now()
		r.publishLive(record("a", 1, 1), time.Second)
		to := time.Now()
		r.publishLive(record("a", 1, 2), time.Second)
		made := r.replay(t, Options{From: from, To: to})
		made.follower = &oneByOne{r.topic, []int{1, 0}}
		report, err := made.Run(t.Context())
		if got := shownVersions(r.table.versions())["a\x00\x01"]; err != nil || report.Replaced != 1 || !strings.HasSuffix(got, " 2") {
			t.Errorf("%v, %+v: the row is %s", err, report, got)
		}
	})
}

// TestClocksDiffer: a record that ingest stored before our write of an older one is stored once more,
// although by the clock of Pub/Sub it was published after that write.
func TestClocksDiffer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1)
		r.table.slowest = 50 * time.Millisecond
		r.topic.ahead = 1500 * time.Millisecond
		from := time.Now()
		r.publishLive(record("a", 1, 1), time.Second)
		var live sync.WaitGroup
		live.Go(func() {
			time.Sleep(time.Millisecond)
			r.publishLive(record("a", 1, 2), 0)
			time.Sleep(40 * time.Millisecond)
		})
		made := r.replay(t, Options{From: from, To: from.Add(2 * time.Second)})
		made.follower = &oneByOne{r.topic, []int{0, 1}}
		report, err := made.Run(t.Context())
		live.Wait()
		if got := shownVersions(r.table.versions())["a\x00\x01"]; err != nil || report.Later != 1 || !strings.HasSuffix(got, " 2") {
			t.Errorf("%v, %+v: the row is %s", err, report, got)
		}
	})
}

// oneByOne delivers a message once the one before is settled.
type oneByOne struct {
	*topic
	order []int
}

func (f *oneByOne) Follow(ctx context.Context, _ string, opts bus.FollowOptions, handle func(context.Context, bus.Message) bool) error {
	opts.Ready(opts.From)
	for _, i := range f.order {
		for i >= len(f.next(0)) {
			time.Sleep(time.Millisecond)
		}
		f.mu.Lock()
		m := f.messages[i]
		f.mu.Unlock()
		handle(ctx, m)
		time.Sleep(time.Second / 2)
	}
	<-ctx.Done()
	return nil
}

// TestReplayRefills: rows that are gone come back, from the window only, and twice is as good as once.
func TestReplayRefills(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1)
		r.topic.publish(record("before", 1, 1))
		time.Sleep(time.Second)
		from := time.Now()
		r.topic.publish(record("a", 1, 2))
		r.topic.publish(`{"code":"bad"`)
		r.topic.publish(record("b", 1, 3))
		time.Sleep(time.Second)
		to := time.Now()
		r.topic.publish(record("after", 1, 4))
		var first map[string]map[int64]string
		for range 2 {
			report, err := r.replay(t, Options{From: from, To: to}).Run(t.Context())
			want := Counts{Read: 4, Window: 3, Stored: 2, Rejected: map[string]int64{"bad_json": 1}}
			if d := cmp.Diff(want, report.Counts); err != nil || d != "" {
				t.Errorf("%v (-want +got):\n%s", err, d)
			}
			got := r.table.versions()
			if len(got) != 2 || first != nil && !cmp.Equal(first, got) {
				t.Errorf("the table has %v, it had %v", got, first)
			}
			first = got
		}
		if len(r.letters.all) != 2 {
			t.Errorf("dead letters %q", r.letters.all)
		}
	})
}

// TestReplayOutlastsFailures: what cannot be stored now is stored later, however long that takes.
func TestReplayOutlastsFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1)
		from := time.Now()
		for i := range 50 {
			r.topic.publish(record(fmt.Sprint(i), 1, i))
		}
		time.Sleep(time.Second)
		r.topic.redelivery = 40 * time.Second // Far longer than nothing may come.
		repaired := time.Now().Add(time.Minute)
		r.table.refuse = func(dataset.Row) error {
			if time.Now().Before(repaired) {
				return store.ErrUnavailable
			}
			return nil
		}
		report, err := r.replay(t, Options{From: from, To: time.Now()}).Run(t.Context())
		if err != nil || report.Stored != 50 || report.Retried == 0 || len(r.table.rows) != 50 {
			t.Errorf("%v: %+v, %d rows", err, report, len(r.table.rows))
		}
	})
}

// TestReplayEnds early: by its caller, with what was in work settled, and by the loss of its subscription.
func TestReplayEnds(t *testing.T) {
	t.Parallel()
	cause := errors.New("enough")
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1)
		from := time.Now()
		for i := range 100 {
			r.topic.publish(record(fmt.Sprint(i), 1, i))
		}
		time.Sleep(time.Second)
		ctx, stop := context.WithCancelCause(t.Context())
		time.AfterFunc(2*time.Second, func() { stop(cause) })
		report, err := r.replay(t, Options{From: from, To: time.Now(), PerSecond: 10}).Run(ctx)
		if !errors.Is(err, cause) || report.Stored < 15 || report.Stored > 25 || int(report.Stored) != len(r.table.rows) {
			t.Errorf("%v: %+v, %d rows", err, report, len(r.table.rows))
		}
		if r.topic.opts.Keep < 24*time.Hour || r.topic.opts.MaxMessages > 600 {
			t.Errorf("a slow replay may lose what waits: %+v", r.topic.opts)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1)
		r.topic.fail = bus.ErrNotFound
		if report, err := r.replay(t, Options{From: time.Now(), To: time.Now().Add(1)}).Run(t.Context()); !errors.Is(err, bus.ErrNotFound) {
			t.Errorf("%v: %+v", err, report)
		}
	})
}

// TestReplayForgets: with too little memory it writes more, and nothing wrong while messages come in order.
func TestReplayForgets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1)
		from := time.Now()
		for i := range 100 {
			r.publishLive(record(fmt.Sprint(i), 1, i), 0)
			time.Sleep(time.Millisecond)
		}
		to := time.Now()
		var live sync.WaitGroup
		live.Go(func() {
			time.Sleep(15 * time.Millisecond)
			for i := range 100 {
				r.publishLive(record(fmt.Sprint(i), 1, 1000+i), 0)
			}
		})
		r.table.slowest = 200 * time.Millisecond
		_, err := r.replay(t, Options{From: from, To: to, MaxKeys: 5}).Run(t.Context())
		live.Wait()
		for key, of := range r.table.versions() {
			if got := of[(1_000_000_000+1)*1000]; len(got) != 4 || err != nil {
				t.Errorf("%v: row %q has %s, which was replaced", err, key, got)
			}
		}
	})
}

func TestPreview(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1)
		from := time.Now()
		for _, data := range []string{
			record("same", 1, 1), record("changed", 1, 5), record("twice", 1, 1), record("twice", 1, 2),
			record("older", 1, 1), record("new", 1, 1), record("outranked", 1, 1),
			`{"code":"x"}`, `{"code":"old","at":"1980-01-01T00:00:00Z"}`,
		} {
			r.topic.publish(data)
		}
		time.Sleep(time.Second)
		to := time.Now()
		for _, data := range []string{record("same", 1, 1), record("changed", 1, 4), record("twice", 1, 2), record("older", 2, 9), record("outranked", 1, 7)} {
			row, err := ingest.Row(t.Context(), r.ds, nil, bus.Message{Data: []byte(data)})
			if err != nil {
				t.Fatal(err)
			}
			r.table.write(row)
		}
		r.topic.publish(record("outranked", 1, 7))
		before := r.table.puts
		got, report, err := r.replay(t, Options{From: from, To: to}).Preview(t.Context(), r.table)
		want := Preview{
			Records: 9, New: 1, Changed: 1, Same: 2, Older: 1,
			Rejected: map[string]int64{"missing_field": 1, "too_old": 1},
			Changes:  []Change{{ID: "changed", Fields: []FieldChange{{Field: "n", Old: "4", New: "5"}}}},
		}
		if d := cmp.Diff(want, got); err != nil || d != "" {
			t.Errorf("%v, %+v (-want +got):\n%s", err, report, d)
		}
		if r.table.puts != before || len(r.letters.all) != 0 || report.Window != 9 {
			t.Errorf("%d writes, letters %q, %+v", r.table.puts-before, r.letters.all, report)
		}
	})
}

func TestOptions(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, o := range []Options{
		{}, {From: now, To: now}, {From: now, To: now.Add(1), QuietFor: 1}, {From: now, To: now.Add(1), PerSecond: -1},
		{From: now, To: now.Add(1), MaxMessages: -1},
	} {
		if _, err := New(o, nil, ingest.Deps{Now: time.Now}, loadDataset(t)); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

// TestMemory compares the memory with a map that forgets nothing.
func TestMemory(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 1))
	forgotten := map[digest]bool{}
	m := newMemory[int](10)
	m.forget = func(gone map[digest]int) {
		for key := range gone {
			forgotten[key] = true
		}
	}
	all, order := map[digest]int{}, []digest{}
	for i := range 2000 {
		key := digest{rng.Uint64N(40), 0}
		m.put(key, i)
		all[key] = i
		delete(forgotten, key)
		order = append(slices.DeleteFunc(order, func(k digest) bool { return k == key }), key)
		for back, k := range order {
			got, ok := m.get(k)
			if ok && got != all[k] || !ok && (!forgotten[k] || back >= len(order)-10) || ok && forgotten[k] {
				t.Fatalf("put %d: key %v is %d, %v; want %d, forgotten %v", i, k, got, ok, all[k], forgotten[k])
			}
		}
		if len(m.now)+len(m.past) > 20 {
			t.Fatalf("it remembers %d keys", len(m.now)+len(m.past))
		}
	}
}

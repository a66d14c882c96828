package backfill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
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

// declaration has no time field: the time of a row is the position's.
const declaration = `
version: 1
name: test
datasets:
  events:
    fields:
      code: {type: string, required: true}
      n:    {type: int64, minimum: 0}
    key: [code]
`

func loadDataset(t testing.TB) *dataset.Dataset {
	t.Helper()
	d, err := dataset.Load("latam.yaml", []byte(declaration))
	if err != nil {
		t.Fatal(err)
	}
	return d.Datasets[0]
}

// lines are a file in memory.
type lines struct {
	all  []string
	next int
	fail error // at the end
}

func (l *lines) Next() ([]byte, error) {
	if l.next == len(l.all) {
		if l.fail != nil {
			return nil, l.fail
		}
		return nil, io.EOF
	}
	l.next++
	return []byte(l.all[l.next-1]), nil
}

func (l *lines) Close() error { return nil }

func file(name string, all ...string) File {
	return File{Name: name, Identity: fmt.Sprint(len(all)), Open: func(context.Context) (Records, error) { return &lines{all: all}, nil }}
}

func records(from, to, keys int) []string {
	var all []string
	for n := from; n < to; n++ {
		all = append(all, fmt.Sprintf(`{"code":"k%d","n":%d}`, n%keys, n))
	}
	return all
}

// world is what survives a crash: the table, the dead letters and the saved position.
type world struct {
	t     *testing.T
	rng   *rand.Rand
	files []File

	mu       sync.Mutex
	rows     map[string]map[int64]string // by key, then time in milliseconds
	done     map[string]bool             // payloads of letters
	position Position
	saves    int
	refuse   func() error
}

// life is one process. Once it is dead it changes nothing.
type life struct {
	*world
	dead bool
}

func (l *life) Put(_ context.Context, _ string, rows []dataset.Row) []error {
	if len(rows) > 1 {
		time.Sleep(time.Duration(l.random(20)) * time.Millisecond)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	errs := make([]error, len(rows))
	for i, row := range rows {
		switch {
		case l.dead:
			errs[i] = store.ErrUnavailable
		case l.refuse != nil && l.refuse() != nil:
			errs[i] = l.refuse()
		default:
			if l.rows[row.Key] == nil {
				l.rows[row.Key] = map[int64]string{}
			}
			l.rows[row.Key][row.Time.UnixMilli()] = string(row.Cells[1].Value)
		}
	}
	return errs
}

func (w *world) random(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rng.IntN(n)
}

func (l *life) Publish(_ context.Context, _ string, data []byte, attributes map[string]string) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return "", bus.ErrUnavailable
	}
	l.done[attributes[AttrFile]+"#"+attributes[AttrRecord]+" "+string(data)] = true
	return "", nil
}

// save checks that everything before the position is settled.
func (l *life) save(p Position) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return nil
	}
	if p.Total < l.position.Total {
		l.t.Errorf("the position went back from %d to %d", l.position.Total, p.Total)
	}
	l.position = p
	l.saves++
	total := int64(0)
	for i, f := range l.files {
		opened, err := f.Open(context.Background())
		if err != nil {
			continue
		}
		for n, text := range opened.(*lines).all {
			total++
			if inPosition := i < p.File || i == p.File && int64(n) < p.Records; inPosition != (total <= p.Total) {
				l.t.Errorf("%+v: record %d of file %d, which is number %d", p, n+1, i+1, total)
			}
			if total <= p.Total && !l.settled(f.Name, n+1, text) {
				l.t.Errorf("the position is %d, and record %d is not settled: %s", p.Total, total, text)
			}
		}
	}
	return nil
}

// settled tells whether a record is a letter, or its row is of it or a later one. The caller holds the lock.
func (w *world) settled(name string, n int, text string) bool {
	var r struct {
		Code string
		N    int
	}
	if json.Unmarshal([]byte(text), &r) != nil || r.N < 0 || r.Code == "" {
		return w.done[fmt.Sprintf("%s#%d %s", name, n, text)]
	}
	for key, versions := range w.rows {
		if strings.TrimRight(key, "\x00\x01") == r.Code {
			for _, value := range versions {
				var stored int
				_, _ = fmt.Sscan(value, &stored)
				return stored >= r.N
			}
		}
	}
	return false
}

func newWorld(t *testing.T, seed uint64, files ...File) *world {
	return &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 0)), files: files, rows: map[string]map[int64]string{}, done: map[string]bool{},
		position: Begin(loadDataset(t), files, "", time.Now()),
	}
}

func (w *world) start(opts Options) (*Backfill, *life) {
	w.t.Helper()
	l := &life{world: w}
	b, err := New(opts, Deps{Save: l.save, Ingest: ingest.Deps{Sink: l, DeadLetters: l, Log: slog.New(slog.DiscardHandler), Now: time.Now}},
		loadDataset(w.t), w.files, w.position)
	if err != nil {
		w.t.Fatal(err)
	}
	return b, l
}

// TestKilledAnywhere kills a backfill again and again. In the end each row is of its key's last record,
// has one version, and the position was never ahead.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			poisoned := append(records(0, 300, 40), `{"code":"k1","n":-5}`, `{"code"`)
			w := newWorld(t, seed, file("a", poisoned...), file("empty"), file("b", records(300, 700, 40)...), file("c", records(700, 705, 1000)...))
			opts := Options{PerSecond: 400, SaveEvery: 50 * time.Millisecond, Worker: ingest.Options{BatchRows: 7}}
			kills := 0
			for !w.position.Complete() {
				b, l := w.start(opts)
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Duration(w.random(1500))*time.Millisecond, func() {
					l.mu.Lock()
					l.dead = true
					l.mu.Unlock()
					cancel()
				})
				if err := b.Run(ctx); err != nil {
					kills++
				}
				cancel()
			}
			if kills == 0 {
				t.Error("nothing was killed")
			}
			for key, versions := range w.rows {
				if len(versions) != 1 || versions[w.position.At.UnixMilli()] == "" {
					t.Errorf("row %q has versions %v", key, versions)
				}
				want := 0
				for n := range 705 {
					if name := fmt.Sprintf("k%d", n%40); n < 700 && strings.TrimRight(key, "\x00\x01") == name {
						want = n
					}
				}
				for _, value := range versions {
					if n := 0; want > 0 {
						_, _ = fmt.Sscan(value, &n)
						if n != want {
							t.Errorf("row %q is of record %d, want %d", key, n, want)
						}
					}
				}
			}
			if len(w.rows) != 45 || len(w.done) != 2 || w.position.Total != 707 {
				t.Errorf("%d rows, letters %v, %+v", len(w.rows), w.done, w.position)
			}
		})
	}
}

// TestLaterRecordWins although the earlier one is tried again for long, while many others pass.
func TestLaterRecordWins(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := slices.Concat([]string{`{"code":"x","n":1}`}, records(0, 14_000, 120_000), []string{`{"code":"x","n":2}`}, records(14_000, 120_000, 120_000))
		w := newWorld(t, 1, file("a", all...))
		b, l := w.start(Options{})
		refusing := time.Now().Add(20 * time.Second)
		stubborn := &onceRefused{life: l, until: refusing}
		b.deps.Ingest.Sink = stubborn
		b.deps.Save = func(p Position) error { w.position = p; return nil }
		if err := b.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		for key, versions := range w.rows {
			if strings.HasPrefix(key, "x") && versions[w.position.At.UnixMilli()] != "2" {
				t.Errorf("row %q: %v", key, versions)
			}
		}
		if b.Counts().Retried == 0 || len(w.rows) != 120_001 {
			t.Errorf("%+v, %d rows", b.Counts(), len(w.rows))
		}
	})
}

// onceRefused refuses the first record of key x for a while, and takes the second.
type onceRefused struct {
	*life
	until time.Time
}

func (s *onceRefused) Put(ctx context.Context, table string, rows []dataset.Row) []error {
	time.Sleep(500 * time.Millisecond) // The second record comes when the worker has given the first one back.
	errs := make([]error, len(rows))
	for i, row := range rows {
		if strings.HasPrefix(row.Key, "x") && string(row.Cells[1].Value) == "1" && time.Now().Before(s.until) {
			errs[i] = store.ErrUnavailable
		} else {
			errs[i] = s.life.Put(ctx, table, rows[i:i+1])[0]
		}
	}
	return errs
}

func TestEnds(t *testing.T) {
	t.Parallel()
	broken := func(fail error) File {
		return File{Name: "f", Identity: "1", Open: func(context.Context) (Records, error) { return &lines{all: records(0, 50, 50), fail: fail}, nil }}
	}
	cause := errors.New("enough")
	for name, tt := range map[string]struct {
		file  File
		opts  Options
		end   time.Duration
		want  error
		total func(int64) bool
	}{
		"read error":        {file: broken(errors.New("torn")), want: ErrUnreadable, total: func(n int64) bool { return n == 50 }},
		"not there":         {file: File{Name: "f", Open: func(context.Context) (Records, error) { return nil, io.ErrUnexpectedEOF }}, want: ErrUnreadable, total: func(n int64) bool { return n == 0 }},
		"interrupted":       {file: broken(nil), opts: Options{PerSecond: 10}, end: 2 * time.Second, want: cause, total: func(n int64) bool { return n > 15 && n < 25 }},
		"too many rejected": {file: file("f", slices.Repeat([]string{"{}"}, 5000)...), opts: Options{MaxRejected: 20, PerSecond: 1000}, want: ErrTooManyRejected, total: func(n int64) bool { return n >= 20 && n < 100 }},
		"few rejected":      {file: file("f", slices.Repeat([]string{"{}"}, 20)...), opts: Options{MaxRejected: 20}, total: func(n int64) bool { return n == 20 }},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 1, tt.file)
			b, _ := w.start(tt.opts)
			ctx, stop := context.WithCancelCause(t.Context())
			defer stop(nil)
			if tt.end > 0 {
				time.AfterFunc(tt.end, func() { stop(cause) })
			}
			if err := b.Run(ctx); !errors.Is(err, tt.want) || !tt.total(w.position.Total) || w.position.Complete() != (tt.want == nil) {
				t.Errorf("%s: %v, %+v", name, err, w.position)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, file("f", records(0, 5000, 5000)...))
		b, _ := w.start(Options{PerSecond: 1000})
		b.deps.Save = func(Position) error { return cause }
		if err := b.Run(t.Context()); !errors.Is(err, cause) || len(w.rows) > 1000 {
			t.Errorf("a position that cannot be saved: %v, %d rows", err, len(w.rows))
		}
	})
	synctest.Test(t, func(t *testing.T) { // A file that has lost records, and yet looks the same.
		w := newWorld(t, 1, file("f", records(0, 5, 5)...))
		w.position.Records, w.position.Total = 9, 9
		b, _ := w.start(Options{})
		b.deps.Save = func(Position) error { return nil }
		if err := b.Run(t.Context()); !errors.Is(err, ErrUnreadable) {
			t.Error(err)
		}
	})
}

func TestPositionFits(t *testing.T) {
	t.Parallel()
	ds := loadDataset(t)
	files := []File{{Name: "a", Identity: "1"}, {Name: "b", Identity: "2"}}
	p := Begin(ds, files, "csv", time.Unix(5, 0))
	for _, others := range [][]File{nil, files[:1], {files[1], files[0]}, {files[0], {Name: "b", Identity: "3"}}} {
		if err := p.Fits(ds, others); !errors.Is(err, ErrOther) {
			t.Errorf("%v: %v", others, err)
		}
	}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParsePosition(text)
	if d := cmp.Diff(p, again); err != nil || d != "" || again.Fits(ds, files) != nil || again.Complete() {
		t.Errorf("%v, %s", err, d)
	}
	again.Dataset = "other"
	if err := again.Fits(ds, files); !errors.Is(err, ErrOther) {
		t.Error(err)
	}
}

func FuzzParsePosition(f *testing.F) {
	f.Add([]byte(`{"schema":"latamctl.backfill-position/v1","dataset":"d","at":"2026-01-01T00:00:00Z","files":[{"name":"a","identity":"1"}],"file":0,"records":3,"total":3}`))
	f.Add([]byte(`{"schema":"latamctl.backfill-position/v1","files":[],"file":0}`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := ParsePosition(text)
		if err != nil {
			return
		}
		if p.File > len(p.Files) || p.File < 0 || p.Records < 0 || p.Total < p.Records {
			t.Errorf("%+v is taken", p)
		}
		again, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if q, err := ParsePosition(again); err != nil || !cmp.Equal(p, q) {
			t.Errorf("%+v became %+v, %v", p, q, err)
		}
	})
}

package topiclog

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/protobuf/proto"
)

// testLog opens a log in a folder of a storage.
func testLog(t testing.TB, st storage, opts Options) *messageLog {
	t.Helper()
	l, err := openLog(st, "log", opts.Defaults(), counter())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func counter() func(int) uint64 {
	var n atomic.Uint64
	return func(k int) uint64 { return n.Add(uint64(k)) - uint64(k) + 1 }
}

func appendData(l *messageLog, data ...[]byte) error {
	p := &publication{}
	for _, d := range data {
		m := &pubsubpb.PubsubMessage{Data: d}
		body, err := proto.Marshal(m)
		if err != nil {
			return err
		}
		p.msgs, p.bodies, p.bytes = append(p.msgs, m), append(p.bodies, body), p.bytes+len(body)
	}
	return l.append(p)
}

func mustAppend(t testing.TB, l *messageLog, data ...string) {
	t.Helper()
	b := make([][]byte, len(data))
	for i, d := range data {
		b[i] = []byte(d)
	}
	if err := appendData(l, b...); err != nil {
		t.Fatal(err)
	}
}

// readLog returns every payload of a log, in order.
func readLog(t testing.TB, l *messageLog) []string {
	t.Helper()
	first, end := l.bounds()
	var r logReader
	out := []string{}
	for seq := first; seq < end; seq++ {
		m, err := l.read(&r, seq)
		if err != nil {
			t.Fatalf("read %d: %v", seq, err)
		}
		if m.seq != seq {
			t.Fatalf("read %d gave %d", seq, m.seq)
		}
		out = append(out, string(m.pb.GetData()))
	}
	return out
}

func equal(a, b []string) bool { return fmt.Sprintf("%q", a) == fmt.Sprintf("%q", b) }

func TestLogKeepsOrderOverSegmentsAndRestarts(t *testing.T) {
	t.Parallel()
	for _, caching := range []bool{false, true} {
		t.Run(fmt.Sprintf("caching=%v", caching), func(t *testing.T) {
			t.Parallel()
			st := diskStorage{root: t.TempDir()}
			opts := Options{Dir: "x", SegmentBytes: 4 << 10, CacheBytes: 2 << 10}
			rng := rand.New(rand.NewPCG(1, 2))
			var want []string
			for range 5 {
				l := testLog(t, st, opts)
				l.caching.Store(caching)
				for range 40 {
					batch := make([]string, 1+rng.IntN(5))
					for i := range batch {
						batch[i] = fmt.Sprintf("%d-%s", len(want)+i, bytes.Repeat([]byte("p"), rng.IntN(300)))
					}
					mustAppend(t, l, batch...)
					want = append(want, batch...)
				}
				if got := readLog(t, l); !equal(got, want) {
					t.Fatalf("read %d messages, want %d in order", len(got), len(want))
				}
				// A random walk uses the index, forward skips and jumps back.
				var r logReader
				for range 300 {
					seq := uint64(rng.IntN(len(want)))
					m, err := l.read(&r, seq)
					if err != nil || string(m.pb.GetData()) != want[seq] {
						t.Fatalf("read %d: %v", seq, err)
					}
				}
				if len(l.segs) < 3 {
					t.Fatalf("%d segments, the test needs several", len(l.segs))
				}
				if err := l.close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestLogSharesSyncs(t *testing.T) {
	t.Parallel()
	st := &faultStorage{storage: newMemStorage(), syncDelay: 2 * time.Millisecond}
	l := testLog(t, st, Options{})
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() { _ = appendData(l, fmt.Appendf(nil, "%d", i)) })
	}
	wg.Wait()
	if _, end := l.bounds(); end != 200 {
		t.Fatalf("%d messages, want 200", end)
	}
	if n := st.syncs.Load(); n > 50 {
		t.Errorf("200 publishers needed %d syncs, they should share", n)
	}
}

func TestLogFindsTimes(t *testing.T) {
	t.Parallel()
	c := newClock()
	l := testLog(t, newMemStorage(), Options{Now: c.Now, SegmentBytes: 4 << 10})
	var times []int64
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range 300 {
		if i == 150 {
			c.advance(-time.Hour) // a clock set back must not break the order
		}
		c.advance(time.Duration(rng.IntN(3)) * time.Second)
		mustAppend(t, l, fmt.Sprintf("%0100d", i))
		ts, err := l.timeOf(uint64(i))
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 && ts < times[i-1] {
			t.Fatalf("message %d is older than the one before", i)
		}
		times = append(times, ts)
	}
	for range 500 {
		at := times[rng.IntN(len(times))] + int64(rng.IntN(3)-1)
		want := uint64(len(times))
		for i, ts := range times {
			if ts >= at {
				want = uint64(i)
				break
			}
		}
		if got, err := l.seqAt(at); err != nil || got != want {
			t.Fatalf("seqAt(%d) = %d, %v, want %d", at, got, err, want)
		}
	}
	if got, _ := l.seqAt(math.MaxInt64); got != 300 {
		t.Errorf("seqAt(never) = %d, want the end", got)
	}
}

func TestLogCountsBytes(t *testing.T) {
	t.Parallel()
	st := newMemStorage()
	l := testLog(t, st, Options{SegmentBytes: 4 << 10})
	for i := range 200 {
		mustAppend(t, l, fmt.Sprintf("%0*d", 10+i, i))
	}
	check := func(l *messageLog) {
		first, end := l.bounds()
		var want int64
		var r logReader
		for seq := end; seq > first; seq-- {
			m, err := l.read(&r, seq-1)
			if err != nil {
				t.Fatal(err)
			}
			want += int64(m.bytes)
			from, err1 := l.bytesBefore(seq - 1)
			to, err2 := l.bytesBefore(end)
			if err := errors.Join(err1, err2); err != nil || to-from != want {
				t.Fatalf("from %d: %d bytes, %v, want %d", seq-1, to-from, err, want)
			}
		}
	}
	check(l)
	if err := l.collect(120, math.MaxInt64); err != nil {
		t.Fatal(err)
	}
	if first, _ := l.bounds(); first == 0 || first > 120 {
		t.Fatalf("the log begins at %d after collecting before 120", first)
	}
	check(l)
	check(testLog(t, st, Options{SegmentBytes: 4 << 10}))
}

func TestLogCollectsWholeSegmentsOnly(t *testing.T) {
	t.Parallel()
	c := newClock()
	st := newMemStorage()
	l := testLog(t, st, Options{Now: c.Now, SegmentBytes: 4 << 10})
	for i := range 100 {
		c.advance(time.Second)
		mustAppend(t, l, fmt.Sprintf("%0300d", i))
	}
	old := l.segs[0]
	if err := l.collect(math.MaxUint64, old.lastTime); err != nil {
		t.Fatal(err)
	}
	if l.segs[0] != old {
		t.Error("a segment was deleted although its newest message is not past the cutoff")
	}
	if err := l.collect(old.end-1, math.MaxInt64); err != nil {
		t.Fatal(err)
	}
	if l.segs[0] != old {
		t.Error("a segment was deleted although its last message is needed")
	}
	if err := l.collect(math.MaxUint64, math.MaxInt64); err != nil {
		t.Fatal(err)
	}
	if len(l.segs) != 1 {
		t.Errorf("%d segments left, want the one that is written", len(l.segs))
	}
	names, _ := st.list("log")
	if len(names) != 1 {
		t.Errorf("files left: %v", names)
	}
	var r logReader
	if _, err := l.read(&r, 0); !errors.Is(err, errGone) {
		t.Errorf("read of a deleted message: %v, want errGone", err)
	}
}

// faultStorage fails on request. A short write leaves part of the bytes.
type faultStorage struct {
	storage
	syncDelay time.Duration
	syncs     atomic.Int64
	fail      atomic.Pointer[fault]
}

type fault struct {
	write, sync, truncate, open, replace error
	short                                int // bytes written before write fails
}

type faultFile struct {
	file
	st *faultStorage
}

func (s *faultStorage) current() fault {
	if f := s.fail.Load(); f != nil {
		return *f
	}
	return fault{}
}

func (s *faultStorage) open(name string) (file, error) {
	if err := s.current().open; err != nil {
		return nil, err
	}
	f, err := s.storage.open(name)
	return &faultFile{f, s}, err
}

func (s *faultStorage) replace(name string, data []byte, durable bool) error {
	if err := s.current().replace; err != nil {
		return err
	}
	return s.storage.replace(name, data, durable)
}

func (f *faultFile) WriteAt(p []byte, off int64) (int, error) {
	if c := f.st.current(); c.write != nil {
		n, _ := f.file.WriteAt(p[:min(c.short, len(p))], off)
		return n, c.write
	}
	return f.file.WriteAt(p, off)
}

func (f *faultFile) sync() error {
	f.st.syncs.Add(1)
	time.Sleep(f.st.syncDelay)
	if err := f.st.current().sync; err != nil {
		return err
	}
	return f.file.sync()
}

func (f *faultFile) truncate(n int64) error {
	if err := f.st.current().truncate; err != nil {
		return err
	}
	return f.file.truncate(n)
}

func TestLogSurvivesFailedWrites(t *testing.T) {
	t.Parallel()
	full := syscall.ENOSPC
	for name, fail := range map[string]fault{
		"disk full":                      {write: full},
		"short write":                    {write: full, short: 50},
		"whole records, then full":       {write: full, short: 200},
		"sync fails":                     {sync: syscall.EIO},
		"cannot be cut back either":      {write: full, short: 200, truncate: syscall.EIO},
		"sync fails and cannot be cut":   {sync: syscall.EIO, truncate: syscall.EIO},
		"no new segment can be made":     {open: full},
		"short write beyond one segment": {write: full, short: 5000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st := &faultStorage{storage: newMemStorage()}
			opts := Options{SegmentBytes: 4 << 10}
			l := testLog(t, st, opts)
			var want []string
			rng := rand.New(rand.NewPCG(5, 6))
			for i := range 60 {
				if rng.IntN(3) == 0 {
					st.fail.Store(&fail)
				}
				batch := [][]byte{fmt.Appendf(nil, "%d-a-%0100d", i, 0), fmt.Appendf(nil, "%d-b", i), fmt.Appendf(nil, "%d-c-%0*d", i, 1+rng.IntN(500), 0)}
				if err := appendData(l, batch...); err == nil {
					for _, b := range batch {
						want = append(want, string(b))
					}
				} else if st.fail.Load() == nil {
					t.Fatalf("append: %v", err)
				}
				st.fail.Store(nil)
			}
			// What could not be cut back is cut before the next append.
			mustAppend(t, l, "last")
			want = append(want, "last")
			if got := readLog(t, l); !equal(got, want) {
				t.Fatalf("the log has %d messages, want the %d that were accepted", len(got), len(want))
			}
			if got := readLog(t, testLog(t, st, opts)); !equal(got, want) {
				t.Fatalf("reopened, the log has %d messages, want the %d that were accepted", len(got), len(want))
			}
		})
	}
}

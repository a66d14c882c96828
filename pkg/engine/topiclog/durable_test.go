package topiclog

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
)

func TestReopen(t *testing.T) {
	t.Parallel()
	f := open(t, Options{Dir: t.TempDir()}).alpha()
	f.subscribe(&pubsubpb.Subscription{Name: subB, Topic: topicA, DeadLetterPolicy: &pubsubpb.DeadLetterPolicy{DeadLetterTopic: topicA, MaxDeliveryAttempts: 10}})
	var ids []string
	ids = append(ids, f.publish(topicA, names("m", 10)...)...)
	msgs := f.pull(subA)
	f.ack(subA, msgs[0], msgs[3], msgs[4], msgs[9])
	f.nack(subB, f.pull(subB)...)
	f = f.reopen()
	if got := datas(f.pull(subA)); !equal(got, []string{"m1", "m2", "m5", "m6", "m7", "m8"}) {
		t.Errorf("after a restart: %v", got)
	}
	again := f.pull(subB)
	if len(again) != 10 || again[0].GetDeliveryAttempt() != 2 || again[0].GetMessage().GetMessageId() != ids[0] {
		t.Errorf("subscription with attempts after a restart: %v", again)
	}
	ids = append(ids, f.publish(topicA, "new")...)
	f = f.reopen()
	// An ack id from before the restart still settles its message.
	f.ack(subA, msgs[1], again[0])
	if got := datas(f.pull(subA)); !equal(got, []string{"m2", "m5", "m6", "m7", "m8", "new"}) {
		t.Errorf("after the second restart: %v", got)
	}
	ids = append(ids, f.publish(topicA, "x", "y")...)
	checkIDs(t, ids)
}

// checkIDs requires ids that are decimal, unique and rising.
func checkIDs(t testing.TB, ids []string) {
	t.Helper()
	last := uint64(0)
	for i, id := range ids {
		n, err := strconv.ParseUint(id, 10, 63)
		if err != nil || n <= last {
			t.Fatalf("id %d is %s after %d: %v", i, id, last, err)
		}
		last = n
	}
}

func TestIDsAreNotReused(t *testing.T) {
	t.Parallel()
	c := newClock() // a clock that stands still, or goes back
	f := open(t, Options{Dir: t.TempDir(), Now: c.Now}).alpha()
	var ids []string
	for i := range 6 {
		ids = append(ids, f.publish(topicA, "a", "b")...)
		if i == 2 {
			c.advance(-100 * time.Hour)
		}
		if i == 4 { // an old copy of the metadata
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			name := filepath.Join(f.opts.Dir, metadataFile)
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			b = []byte(strings.Replace(string(b), fmt.Sprintf(`"epoch":%d`, f.epoch), `"epoch":1`, 1))
			if err := os.WriteFile(name, b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		f = f.reopen()
	}
	checkIDs(t, ids)
}

func TestOneProcessPerFolder(t *testing.T) {
	t.Parallel()
	f := open(t, Options{Dir: t.TempDir()})
	if s, err := Open(f.opts); err == nil {
		_ = s.Close()
		t.Error("a second server opened the same folder")
	}
	f = f.reopen()
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}

// copyDir copies a folder while it is in use, as a crash would leave it.
func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := t.TempDir()
	err := filepath.WalkDir(from, func(p string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		rel, _ := filepath.Rel(from, p)
		if err != nil || e.IsDir() {
			return errors.Join(err, os.MkdirAll(filepath.Join(to, rel), 0o755))
		}
		b, err := os.ReadFile(p)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a temporary file or a collected segment
		}
		return errors.Join(err, os.WriteFile(filepath.Join(to, rel), b, 0o644))
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// TestKilled copies the folder of a running server at random moments, opens
// the copy, and requires every answered publish and no message twice in the
// log. What was acknowledged and flushed must not come back.
func TestKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := open(t, Options{Dir: dir, SegmentBytes: 64 << 10, FlushInterval: time.Millisecond}).alpha()
	var mu sync.Mutex
	answered := map[string]bool{}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				data := fmt.Sprintf("%d-%d-%0*d", w, i, 1+i%200, 0)
				f.publish(topicA, data)
				mu.Lock()
				answered[data] = true
				mu.Unlock()
				if i%3 == 0 {
					res, err := f.sub.Pull(f.ctx, &pubsubpb.PullRequest{Subscription: subA, MaxMessages: 2, ReturnImmediately: true})
					if err == nil && len(res.GetReceivedMessages()) > 0 {
						f.ack(subA, res.GetReceivedMessages()[0])
					}
				}
			}
		})
	}
	for round := range 6 {
		n := 0
		until(t, "some publishes", func() bool {
			mu.Lock()
			defer mu.Unlock()
			n = len(answered)
			return n >= 150*(round+1)
		})
		mu.Lock()
		before := make([]string, 0, len(answered))
		for d := range answered {
			before = append(before, d)
		}
		mu.Unlock()
		checkCopy(t, copyDir(t, dir), before)
	}
	close(stop)
	wg.Wait()
}

// checkCopy opens what a crash left.
func checkCopy(t *testing.T, dir string, answered []string) {
	t.Helper()
	f := open(t, Options{Dir: dir, SegmentBytes: 64 << 10})
	defer func() { _ = f.Close() }()
	stored := map[string]int{}
	for _, d := range readLog(t, f.topics[topicA].log) {
		stored[d]++
		if stored[d] > 1 {
			t.Fatalf("%s is stored twice", d)
		}
	}
	for _, d := range answered {
		if stored[d] == 0 {
			t.Fatalf("%s was answered and is not in the log of %d", d, len(stored))
		}
	}
	seen := map[string]bool{}
	for _, d := range datas(f.pull(subA)) {
		seen[d] = true
	}
	sub := f.subs[subA]
	if st := sub.stats(); int(st.BacklogMessages) != len(seen) {
		t.Fatalf("backlog of %d, %d delivered", st.BacklogMessages, len(seen))
	}
	f.publish(topicA, "after the crash")
	if got := datas(f.pull(subA)); !equal(got, []string{"after the crash"}) {
		t.Fatalf("after the crash: %v", got)
	}
}

// TestDamagedFiles truncates and flips bytes of random files of a closed
// server. Opening must work or name what is wrong; what opens must serve.
func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	f := open(t, Options{Dir: t.TempDir(), SegmentBytes: 8 << 10}).alpha()
	for i := range 60 {
		f.publish(topicA, fmt.Sprintf("%03d%0*d", i, i*5, 0), fmt.Sprintf("%03db", i))
	}
	msgs := f.pull(subA)
	f.ack(subA, msgs[len(msgs)-20:]...)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(11, 12))
	opened, refused := 0, 0
	for range 150 {
		dir := copyDir(t, f.opts.Dir)
		what := damage(t, rng, dir)
		s, err := Open(Options{Dir: dir, SegmentBytes: 8 << 10})
		if err != nil {
			refused++
			if !strings.Contains(err.Error(), what) {
				t.Errorf("damaged %s, refused with: %v", what, err)
			}
			continue
		}
		opened++
		g := wrap(t, s, Options{Dir: dir})
		if s.topics[topicA] != nil && s.subs[subA] != nil {
			got := datas(g.pull(subA))
			if !slices.IsSorted(got) {
				t.Errorf("damaged %s: %d messages out of order", what, len(got))
			}
			g.publish(topicA, "after")
			if got := datas(g.pull(subA)); !equal(got, []string{"after"}) {
				t.Errorf("damaged %s: a new message came as %v", what, got)
			}
		}
		if err := s.Close(); err != nil {
			t.Errorf("damaged %s: close: %v", what, err)
		}
	}
	if opened < 10 || refused < 10 {
		t.Errorf("%d opened, %d refused: the damage is one-sided", opened, refused)
	}
}

// damage changes one file and returns its name.
func damage(t *testing.T, rng *rand.Rand, dir string) string {
	var files []string
	for _, pattern := range []string{"topics/*/*.seg", "cursors/*", metadataFile} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	name := files[rng.IntN(len(files))]
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > 0 {
		if at := rng.IntN(len(b)); rng.IntN(2) == 0 {
			b = b[:at]
		} else {
			b[at] ^= byte(1 + rng.IntN(255))
		}
	}
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return filepath.Base(name)
}

func TestWriteErrors(t *testing.T) {
	t.Parallel()
	st := &faultStorage{storage: newMemStorage()}
	opts := Options{Dir: "memory"}.Defaults()
	s, err := openOn(st, opts, nil)
	if err != nil {
		t.Fatal(err)
	}
	f := wrap(t, s, opts).alpha()
	f.publish(topicA, "one")
	for _, c := range []struct {
		fault fault
		want  codes.Code
	}{
		{fault{write: syscall.ENOSPC, short: 30}, codes.ResourceExhausted},
		{fault{sync: syscall.EIO}, codes.Unavailable},
		{fault{write: syscall.EIO, truncate: syscall.EIO, short: 100}, codes.Unavailable},
	} {
		st.fail.Store(&c.fault)
		_, err := f.pub.Publish(f.ctx, &pubsubpb.PublishRequest{Topic: topicA, Messages: messages(3)})
		wantCode(t, "publish", err, c.want)
		st.fail.Store(nil)
	}
	st.fail.Store(&fault{replace: syscall.ENOSPC})
	_, err = f.pub.CreateTopic(f.ctx, &pubsubpb.Topic{Name: topicB})
	wantCode(t, "create topic", err, codes.ResourceExhausted)
	_, err = f.pub.DeleteTopic(f.ctx, &pubsubpb.DeleteTopicRequest{Topic: topicA})
	wantCode(t, "delete topic", err, codes.ResourceExhausted)
	_, err = f.sub.DeleteSubscription(f.ctx, &pubsubpb.DeleteSubscriptionRequest{Subscription: subA})
	wantCode(t, "delete subscription", err, codes.ResourceExhausted)
	_, err = f.pub.DetachSubscription(f.ctx, &pubsubpb.DetachSubscriptionRequest{Subscription: subA})
	wantCode(t, "detach", err, codes.ResourceExhausted)
	_, err = f.sub.CreateSubscription(f.ctx, &pubsubpb.Subscription{Name: subB, Topic: topicA})
	wantCode(t, "create subscription", err, codes.ResourceExhausted)
	st.fail.Store(nil)
	f.publish(topicA, "two")
	if got := datas(f.pull(subA)); !equal(got, []string{"one", "two"}) {
		t.Errorf("after the errors: %v", got)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	s, err = openOn(st, opts, nil)
	if err != nil {
		t.Fatal(err)
	}
	f = wrap(t, s, opts)
	if got := datas(f.pull(subA)); !equal(got, []string{"one", "two"}) || len(f.topics) != 1 || len(f.subs) != 1 {
		t.Errorf("after the errors and a restart: %v, %d topics, %d subscriptions", got, len(f.topics), len(f.subs))
	}
}

func TestDamageReachesTheClient(t *testing.T) {
	t.Parallel()
	f := open(t, Options{Dir: t.TempDir(), CacheBytes: 1}).alpha()
	f.publish(topicA, "one", "two", "three")
	l := f.topics[topicA].log
	if _, err := l.segs[0].f.WriteAt([]byte{0xff}, headerBytes+1); err != nil {
		t.Fatal(err)
	}
	_, err := f.sub.Pull(f.ctx, &pubsubpb.PullRequest{Subscription: subA, MaxMessages: 5})
	wantCode(t, "pull of a damaged message", err, codes.DataLoss)
	if !strings.Contains(fmt.Sprint(err), l.segs[0].name) {
		t.Errorf("%v does not name the file", err)
	}
}

func TestCursorFiles(t *testing.T) {
	t.Parallel()
	st := newMemStorage()
	good := cursorState{generation: 3, next: 100, runs: []run{{1, 5, 0}, {6, 1, 2}, {50, 50, 1}}}
	b := good.encode(7)
	got, n, err := decodeCursor(b)
	if err != nil || n != 7 || fmt.Sprint(got) != fmt.Sprint(good) {
		t.Fatalf("%v, %d, %v", got, n, err)
	}
	for _, bad := range []cursorState{{next: 5, runs: []run{{3, 3, 0}}}, {next: 5, runs: []run{{1, 0, 0}}}, {next: 9, runs: []run{{3, 2, 0}, {2, 2, 0}}}} {
		if _, _, err := decodeCursor(bad.encode(1)); err == nil {
			t.Errorf("the impossible state %v was accepted", bad)
		}
	}
	for i := range b {
		bad := slices.Clone(b)
		bad[i] ^= 0x10
		if _, _, err := decodeCursor(bad); err == nil {
			t.Errorf("byte %d changed and not seen", i)
		}
		if _, _, err := decodeCursor(b[:i]); err == nil {
			t.Errorf("cut at %d and not seen", i)
		}
	}
	// The newer sound file wins; a damaged one leaves the other.
	put := func(durable bool, b []byte) { _ = st.replace(join(cursorDir, cursorName(1, durable)), b, false) }
	put(true, good.encode(8))
	newer := good
	newer.next = 200
	put(false, newer.encode(9))
	if got, n, found, err := loadCursor(st, 1); got.next != 200 || n != 9 || !found || err != nil {
		t.Errorf("%v %d %v %v", got, n, found, err)
	}
	put(false, b[:5])
	if got, _, found, err := loadCursor(st, 1); got.next != 100 || !found || !errors.Is(err, errCursor) {
		t.Errorf("%v %v %v", got, found, err)
	}
	put(true, nil)
	if _, _, found, _ := loadCursor(st, 1); found {
		t.Error("found a state in damaged files")
	}
}

// FuzzCursor decodes arbitrary bytes; what it accepts survives a round trip.
func FuzzCursor(f *testing.F) {
	f.Add(cursorState{next: 9, runs: []run{{2, 3, 1}}}.encode(1))
	f.Add([]byte(cursorMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		st, n, err := decodeCursor(b)
		if err != nil {
			return
		}
		again, m, err := decodeCursor(st.encode(n))
		if err != nil || m != n || fmt.Sprint(again) != fmt.Sprint(st) {
			t.Fatalf("%v became %v, %v", st, again, err)
		}
	})
}

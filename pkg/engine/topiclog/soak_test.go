package topiclog

import (
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
)

// What the soak offers. The lags are how many messages a subscription may be
// behind its topic before the publisher waits, so that memory and disk have a
// bound to be held to.
const (
	soakTopics       = 4
	soakBodyBytes    = 300
	soakRecordBytes  = headerBytes + soakBodyBytes + 3 // the body's field tag and length
	soakSegmentBytes = 1 << 20
	soakFastLag      = 10_000
	soakSlowLag      = 40_000 // three times what the cache of newest messages holds
	soakSlowBehind   = 20_000 // the slow subscription lets that many gather
	soakSamples      = 40
)

// soakDiskBound is the most the folder may hold: what every topic's slowest
// reader lacks, and for each topic the segment being written, the one being
// read, one whose acknowledgements are under way and one being deleted, and a
// MiB for the small files. Without deletion the soak would write 80 times that.
func soakDiskBound() int64 {
	lag := int64((soakTopics-1)*soakFastLag+soakSlowLag) * soakRecordBytes
	return lag + 4*soakTopics*soakSegmentBytes + 1<<20
}

// soakSub counts what one subscription received, each message once.
type soakSub struct {
	name    string
	topic   *soakTopic
	lag     int64
	slow    bool
	seen    []atomic.Uint64 // a bit for each message of the topic
	unique  atomic.Int64
	repeats atomic.Int64
}

type soakTopic struct {
	name   string
	total  int64
	sent   atomic.Int64
	failed atomic.Int64
	subs   []*soakSub
}

type soak struct {
	t      *testing.T
	f      *fixture
	client *pubsub.Client
	topics []*soakTopic
	subs   []*soakSub
}

// TestSoak sends LATAM_SOAK_MESSAGES messages through the official client and
// the log on disk, and expects memory and disk to stay flat and nothing to be
// lost.
func TestSoak(t *testing.T) {
	n, err := strconv.ParseInt(os.Getenv("LATAM_SOAK_MESSAGES"), 10, 64)
	if err != nil || n < soakSamples {
		t.Skipf("set LATAM_SOAK_MESSAGES to the number of messages, at least %d", soakSamples)
	}
	f := open(t, Options{Dir: t.TempDir(), SegmentBytes: soakSegmentBytes})
	s := &soak{t: t, f: f, client: official(t, f.Server)}
	s.create(n)
	ctx, stop := context.WithCancel(t.Context())
	var receivers, publishers sync.WaitGroup
	defer receivers.Wait()
	defer stop()
	for _, sub := range s.subs {
		receivers.Go(func() { s.receive(ctx, sub) })
	}
	start := time.Now()
	for _, topic := range s.topics {
		publishers.Go(func() { s.publish(ctx, topic) })
	}
	samples := s.watch(n, start)
	publishers.Wait()
	until(t, "all acknowledgements", func() bool { return s.backlog() == 0 })
	elapsed := time.Since(start)
	stop()
	receivers.Wait()
	s.checkCounts()
	checkHeap(t, samples)
	until(t, "the acknowledged segments to go", func() bool { return s.disk() <= soakTopics*soakSegmentBytes+1<<20 })
	t.Logf("%d messages in %v, %.0f a second; %d bytes left on the disk", n, elapsed.Round(time.Second), float64(n)/elapsed.Seconds(), s.disk())
}

func (s *soak) create(n int64) {
	for i := range soakTopics {
		topic := &soakTopic{name: fmt.Sprintf("%s/topics/soak-%d", project, i), total: n / soakTopics}
		if i == 0 {
			topic.total += n % soakTopics
		}
		s.f.topic(topic.name)
		s.topics = append(s.topics, topic)
		s.subscribe(topic, "fast", soakFastLag, false)
	}
	s.subscribe(s.topics[0], "slow", soakSlowLag, true)
}

func (s *soak) subscribe(topic *soakTopic, kind string, lag int64, slow bool) {
	sub := &soakSub{
		name:  strings.Replace(topic.name, "/topics/", "/subscriptions/"+kind+"-", 1),
		topic: topic, lag: lag, slow: slow, seen: make([]atomic.Uint64, topic.total/64+1),
	}
	topic.subs = append(topic.subs, sub)
	s.subs = append(s.subs, sub)
	s.f.subscribe(&pubsubpb.Subscription{Name: sub.name, Topic: topic.name})
}

// publish sends the messages of one topic as fast as its readers allow.
func (s *soak) publish(ctx context.Context, topic *soakTopic) {
	pub := s.client.Publisher(topic.name)
	pub.PublishSettings.DelayThreshold = 5 * time.Millisecond
	pub.PublishSettings.CountThreshold = 500
	var results []*pubsub.PublishResult
	for i := int64(0); i < topic.total && ctx.Err() == nil; {
		if !topic.room() {
			time.Sleep(time.Millisecond)
			continue
		}
		for end := min(i+500, topic.total); i < end; i++ {
			data := make([]byte, soakBodyBytes)
			binary.LittleEndian.PutUint64(data, uint64(i))
			results = append(results, pub.Publish(ctx, &pubsub.Message{Data: data}))
		}
		topic.sent.Store(i)
		if len(results) > soakFastLag {
			topic.settle(ctx, results[:len(results)/2])
			results = append([]*pubsub.PublishResult(nil), results[len(results)/2:]...)
		}
	}
	pub.Stop()
	topic.settle(ctx, results)
}

func (topic *soakTopic) room() bool {
	for _, sub := range topic.subs {
		if topic.sent.Load()-sub.unique.Load() >= sub.lag-500 {
			return false
		}
	}
	return true
}

func (topic *soakTopic) settle(ctx context.Context, results []*pubsub.PublishResult) {
	for _, r := range results {
		if _, err := r.Get(ctx); err != nil {
			topic.failed.Add(1)
		}
	}
}

func (s *soak) receive(ctx context.Context, sub *soakSub) {
	r := s.client.Subscriber(sub.name)
	r.ReceiveSettings.MaxOutstandingMessages = 2000
	r.ReceiveSettings.NumGoroutines = 1
	err := r.Receive(ctx, func(ctx context.Context, m *pubsub.Message) {
		sub.hold(ctx)
		i := binary.LittleEndian.Uint64(m.Data)
		if bit := uint64(1) << (i % 64); sub.seen[i/64].Or(bit)&bit == 0 {
			sub.unique.Add(1)
		} else {
			sub.repeats.Add(1)
		}
		m.Ack()
	})
	if err != nil {
		s.t.Errorf("receive from %s: %v", sub.name, err)
	}
}

// hold keeps a slow subscription behind its topic until the topic has ended.
func (sub *soakSub) hold(ctx context.Context) {
	for sub.slow && ctx.Err() == nil && sub.topic.sent.Load() < sub.topic.total &&
		sub.topic.sent.Load()-sub.unique.Load() < soakSlowBehind {
		time.Sleep(5 * time.Millisecond)
	}
}

func (s *soak) delivered() (n int64) {
	for _, sub := range s.subs {
		if !sub.slow {
			n += sub.unique.Load()
		}
	}
	return n
}

func (s *soak) backlog() (n int64) {
	for _, sub := range s.f.Stats().Subscriptions {
		n += sub.BacklogMessages
	}
	return n
}

// disk is what the files of the log hold now.
func (s *soak) disk() (bytes int64) {
	err := filepath.WalkDir(s.f.opts.Dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // a segment may go while it is looked at
		}
		if info, err := d.Info(); err == nil {
			bytes += info.Size()
		}
		return nil
	})
	if err != nil {
		s.t.Error(err)
	}
	return bytes
}

// watch samples memory as the messages pass and the disk in between.
func (s *soak) watch(n int64, start time.Time) (heap []uint64) {
	var most int64
	stalled, last := time.Now(), int64(0)
	for len(heap) < soakSamples {
		time.Sleep(20 * time.Millisecond)
		got := s.delivered()
		most = max(most, s.disk())
		if got > last {
			stalled, last = time.Now(), got
		} else if time.Since(stalled) > time.Minute {
			s.t.Fatalf("no message came for a minute, %d of %d were delivered", got, n)
		}
		if got < n*int64(len(heap)+1)/soakSamples {
			continue
		}
		runtime.GC()
		runtime.GC() // the first one leaves what pools hold
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		heap = append(heap, m.HeapInuse)
		s.t.Logf("%9d messages  %6.0f/s  RSS %s  heap %5.1f MiB  disk at most %5.1f MiB  backlog %d",
			got, float64(got)/time.Since(start).Seconds(), rss(), mib(m.HeapInuse), mib(uint64(most)), s.backlog())
		if most > soakDiskBound() {
			s.t.Errorf("the folder grew to %d bytes, the bound is %d", most, soakDiskBound())
		}
		most = 0
	}
	return heap
}

func mib(n uint64) float64 { return float64(n) / (1 << 20) }

// rss is the resident memory as the kernel says it, "?" where it does not.
func rss() string {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return "?"
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strings.TrimSpace(v)
		}
	}
	return "?"
}

func (s *soak) checkCounts() {
	for _, topic := range s.topics {
		if n := topic.failed.Load(); n > 0 {
			s.t.Errorf("%s: %d publishes failed", topic.name, n)
		}
	}
	for _, sub := range s.subs {
		set := 0
		for i := range sub.seen {
			set += bits.OnesCount64(sub.seen[i].Load())
		}
		if int64(set) != sub.topic.total {
			s.t.Errorf("%s received %d of %d messages", sub.name, set, sub.topic.total)
		}
		s.t.Logf("%s: %d messages, %d of them more than once", sub.name, set, sub.repeats.Load())
	}
}

// checkHeap compares the medians of the two halves: a single sample says more
// about what was under way at that moment.
func checkHeap(t *testing.T, samples []uint64) {
	half := len(samples) / 2
	first, second := slices.Clone(samples[:half]), slices.Clone(samples[half:])
	slices.Sort(first)
	slices.Sort(second)
	was, is := first[len(first)/2], second[len(second)/2]
	t.Logf("heap in use after collection, median and most: %.1f and %.1f MiB in the first half, %.1f and %.1f MiB in the second",
		mib(was), mib(first[len(first)-1]), mib(is), mib(second[len(second)-1]))
	if limit := was + was/10 + 8<<20; is > limit {
		t.Errorf("the heap grew from %d to %d bytes, the limit is %d", was, is, limit)
	}
}

package topiclog

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// maxCommitBytes bounds how many waiting publications one sync shares.
const maxCommitBytes = 8 << 20

var errLogClosed = errors.New("the log is closed")

// messageLog is the log of one topic: segments on a storage, the newest
// messages decoded in memory, and a committer that many publishers share.
type messageLog struct {
	st    storage
	dir   string
	opts  Options
	newID func(n int) uint64 // reserves n consecutive message ids
	// onCommit is called after each commit, without a lock held.
	onCommit func()
	// caching is off while nobody would read the newest messages.
	caching atomic.Bool

	mu        sync.RWMutex // guards the segments, the end and the tail
	segs      []*segment
	end       uint64 // one past the last committed sequence number
	lastTime  int64
	tail      []message // the newest messages without gap, up to end
	tailBytes int64

	queueMu sync.Mutex
	queue   []*publication
	running bool
	closed  bool

	buf []byte // of the committer
	// rolled is set when a segment was closed, so that retention looks at it.
	rolled atomic.Bool
	dirty  bool // bytes of a refused commit may lie behind the active segment's end
}

// message is one stored message. pb is shared by all who read it.
type message struct {
	seq   uint64
	time  int64
	bytes int // of the body
	pb    *pubsubpb.PubsubMessage
}

// publication is one Publish call on its way to the disk.
type publication struct {
	msgs   []*pubsubpb.PubsubMessage
	bodies [][]byte // the encoded msgs
	bytes  int
	done   chan struct{}
	err    error
}

// append stores the messages of p durably and gives each its id and time. It
// returns after the disk has them. An error means that none of them will be
// delivered, unless the process dies before the log was cut back.
func (l *messageLog) append(p *publication) error {
	p.done = make(chan struct{})
	l.queueMu.Lock()
	if l.closed {
		l.queueMu.Unlock()
		return errLogClosed
	}
	l.queue = append(l.queue, p)
	if !l.running {
		l.running = true
		go l.commitLoop()
	}
	l.queueMu.Unlock()
	<-p.done
	return p.err
}

// commitLoop commits until nobody waits: publishers that arrive during one
// sync share the next.
func (l *messageLog) commitLoop() {
	for {
		l.queueMu.Lock()
		n, bytes := 0, 0
		for n < len(l.queue) && (n == 0 || bytes+l.queue[n].bytes <= maxCommitBytes) {
			bytes += l.queue[n].bytes
			n++
		}
		if n == 0 {
			l.running = false
			l.queue = nil
			l.queueMu.Unlock()
			return
		}
		batch := slices.Clone(l.queue[:n])
		l.queue = slices.Delete(l.queue, 0, n)
		l.queueMu.Unlock()

		err := l.commit(batch, bytes)
		for _, p := range batch {
			p.err = err
			close(p.done)
		}
		if err == nil && l.onCommit != nil {
			l.onCommit()
		}
	}
}

// commit writes one batch behind the active segment's end and syncs it.
func (l *messageLog) commit(batch []*publication, bodyBytes int) error {
	if err := l.repair(); err != nil {
		return err
	}
	count := 0
	for _, p := range batch {
		count += len(p.msgs)
	}
	seg, err := l.roll(int64(bodyBytes + count*headerBytes))
	if err != nil {
		return err
	}
	now := max(l.opts.Now().UnixNano(), l.lastTime)
	headers, stored := l.encode(batch, count, seg, now)
	if _, err = seg.f.WriteAt(l.buf, seg.size); err == nil {
		err = seg.f.sync()
	}
	if err != nil {
		l.dirty = true
		// The next commit tries again when this one could not cut the tail back.
		return errors.Join(fmt.Errorf("append to %s: %w", seg.name, err), l.repair())
	}
	if cap(l.buf) > 1<<20 {
		l.buf = nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range headers {
		seg.note(h)
	}
	l.end, l.lastTime = seg.end, now
	l.cache(stored)
	return nil
}

// encode frames a batch into l.buf and stamps its messages.
func (l *messageLog) encode(batch []*publication, count int, seg *segment, now int64) ([]header, []message) {
	id, seq := l.newID(count), l.end
	stamp := timestamppb.New(time.Unix(0, now))
	headers, stored := make([]header, 0, count), make([]message, 0, count)
	l.buf = l.buf[:0]
	for _, p := range batch {
		for i, m := range p.msgs {
			h := header{length: len(p.bodies[i]), commit: uint32(seg.size), seq: seq, id: id, time: now}
			l.buf = appendRecord(l.buf, h, p.bodies[i])
			m.MessageId, m.PublishTime = formatID(id), stamp
			headers = append(headers, h)
			stored = append(stored, message{seq: seq, time: now, bytes: h.length, pb: m})
			id, seq = id+1, seq+1
		}
	}
	return headers, stored
}

// cache keeps the messages just committed for readers that keep up. The caller
// holds l.mu.
func (l *messageLog) cache(stored []message) {
	if !l.caching.Load() {
		l.tail, l.tailBytes = nil, 0
		return
	}
	l.tail = append(l.tail, stored...)
	for _, m := range stored {
		l.tailBytes += int64(m.bytes)
	}
	drop := 0
	for l.tailBytes > l.opts.CacheBytes && drop < len(l.tail)-1 {
		l.tailBytes -= int64(l.tail[drop].bytes)
		drop++
	}
	l.dropTail(drop)
}

// dropTail forgets the n oldest cached messages; their memory is free once no
// response holds them.
func (l *messageLog) dropTail(n int) {
	if n == 0 {
		return
	}
	clear(l.tail[:n])
	l.tail = l.tail[n:]
	if len(l.tail) == 0 {
		l.tail, l.tailBytes = nil, 0
	}
}

// trim forgets cached messages that everybody has read.
func (l *messageLog) trim(before uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	drop := 0
	for drop < len(l.tail) && l.tail[drop].seq < before {
		l.tailBytes -= int64(l.tail[drop].bytes)
		drop++
	}
	l.dropTail(drop)
}

// repair cuts what a refused commit may have left behind the last good record.
func (l *messageLog) repair() error {
	if !l.dirty {
		return nil
	}
	seg := l.active()
	if err := seg.f.truncate(seg.size); err != nil {
		return fmt.Errorf("cut %s back to byte %d: %w", seg.name, seg.size, err)
	}
	if err := seg.f.sync(); err != nil {
		return fmt.Errorf("sync %s: %w", seg.name, err)
	}
	l.dirty = false
	return nil
}

func (l *messageLog) active() *segment {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.segs[len(l.segs)-1]
}

// roll returns the segment to append to, a fresh one when need does not fit.
func (l *messageLog) roll(need int64) (*segment, error) {
	seg := l.active()
	if seg.size == 0 || seg.size+need <= l.opts.SegmentBytes {
		return seg, nil
	}
	next, err := l.newSegment(seg.end, seg.before+seg.size)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.segs = append(l.segs, next)
	l.rolled.Store(true)
	return next, nil
}

func (l *messageLog) newSegment(base uint64, before int64) (*segment, error) {
	name := segmentName(l.dir, base)
	f, err := l.st.open(name)
	if err != nil {
		return nil, fmt.Errorf("create segment %s: %w", name, err)
	}
	return &segment{name: name, f: f, base: base, end: base, before: before}, nil
}

// openLog reads the log in a folder, or begins one at sequence number 0. It
// cuts a torn tail and refuses any other damage with a CorruptError.
func openLog(st storage, dir string, opts Options, newID func(int) uint64) (*messageLog, error) {
	l := &messageLog{st: st, dir: dir, opts: opts, newID: newID}
	bases, err := segmentBases(st, dir)
	if err != nil {
		return nil, err
	}
	if len(bases) == 0 {
		seg, err := l.newSegment(0, 0)
		if err != nil {
			return nil, err
		}
		l.segs = []*segment{seg}
		return l, nil
	}
	var before int64
	for i, base := range bases {
		seg, err := l.loadSegment(base, before, i == len(bases)-1)
		if err != nil {
			return nil, errors.Join(err, l.closeFiles())
		}
		l.segs = append(l.segs, seg)
		l.end, before = seg.end, before+seg.size
		l.lastTime = max(l.lastTime, seg.lastTime)
	}
	return l, nil
}

func segmentBases(st storage, dir string) ([]uint64, error) {
	names, err := st.list(dir)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	var bases []uint64
	for _, n := range names {
		if base, ok := parseSegmentName(n); ok {
			bases = append(bases, base)
		}
	}
	slices.Sort(bases)
	return bases, nil
}

func (l *messageLog) loadSegment(base uint64, before int64, last bool) (*segment, error) {
	seg, err := l.newSegment(base, before)
	if err != nil {
		return nil, err
	}
	if len(l.segs) > 0 && base != l.end {
		err = &CorruptError{File: seg.name, Err: fmt.Errorf("%w: it begins at %d, the segment before ends at %d", errSequence, base, l.end)}
		return nil, errors.Join(err, seg.f.Close())
	}
	torn, err := seg.scan(last)
	if err != nil {
		return nil, errors.Join(err, seg.f.Close())
	}
	if torn == 0 {
		return seg, nil
	}
	l.opts.Log.Warn("cut an unfinished write from the log", "file", seg.name, "offset", seg.size, "bytes", torn)
	if err := seg.f.truncate(seg.size); err != nil {
		return nil, errors.Join(fmt.Errorf("cut %s at byte %d: %w", seg.name, seg.size, err), seg.f.Close())
	}
	if err := seg.f.sync(); err != nil {
		return nil, errors.Join(fmt.Errorf("sync %s: %w", seg.name, err), seg.f.Close())
	}
	return seg, nil
}

// close stops appends. The caller has made sure that none is under way.
func (l *messageLog) close() error {
	l.queueMu.Lock()
	l.closed = true
	l.queueMu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail = nil
	return l.closeFiles()
}

func (l *messageLog) closeFiles() error {
	var errs []error
	for _, s := range l.segs {
		if !s.removed {
			s.removed = true
			errs = append(errs, s.f.Close())
		}
	}
	return errors.Join(errs...)
}

package topiclog

import (
	"errors"
	"fmt"
	"sort"
	"strconv"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// errGone says that retention has deleted a message.
var errGone = errors.New("the message is past its retention")

// skipLimit is how many records a reader steps over before it would rather
// look the place up in the index.
const skipLimit = 256

// logReader is a place in a log. It reads forward cheaply, and anywhere else
// through the index. One goroutine uses it at a time.
type logReader struct {
	seg *segment
	seq uint64
	off int64
	win window
}

func formatID(id uint64) string { return strconv.FormatUint(id, 10) }

// bounds returns the first stored and one past the last committed number.
func (l *messageLog) bounds() (first, end uint64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.segs[0].base, l.end
}

// read returns a committed message, errGone when it was deleted, and a
// CorruptError when the disk no longer holds what was written.
func (l *messageLog) read(r *logReader, seq uint64) (message, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if n := len(l.tail); n > 0 && seq >= l.tail[0].seq && seq < l.end {
		r.win.buf = nil
		return l.tail[seq-l.tail[0].seq], nil
	}
	if err := l.seek(r, seq); err != nil {
		return message{}, err
	}
	h, body, err := r.win.record(r.off)
	if err == nil && h.seq != seq {
		err = errSequence
	}
	var m *pubsubpb.PubsubMessage
	if err == nil {
		m, err = decodeMessage(h, body)
	}
	if err != nil {
		return message{}, r.fail(err)
	}
	r.seq, r.off = seq+1, r.off+headerBytes+int64(h.length)
	return message{seq: seq, time: h.time, bytes: h.length, pb: m}, nil
}

func decodeMessage(h header, body []byte) (*pubsubpb.PubsubMessage, error) {
	m := &pubsubpb.PubsubMessage{}
	if err := proto.Unmarshal(body, m); err != nil {
		return nil, fmt.Errorf("decode message: %w", err)
	}
	m.MessageId, m.PublishTime = formatID(h.id), timestamppb.New(time.Unix(0, h.time))
	return m, nil
}

func (r *logReader) fail(err error) error {
	e := &CorruptError{File: r.seg.name, Offset: r.off, Err: err}
	r.seg = nil
	return e
}

// seek moves r to a committed record. The caller holds l.mu.
func (l *messageLog) seek(r *logReader, seq uint64) error {
	if seq < l.segs[0].base {
		return errGone
	}
	if seq >= l.end {
		return fmt.Errorf("read message %d of a log that ends at %d", seq, l.end)
	}
	if r.seg == nil || r.seg.removed || seq < r.seq || seq-r.seq > skipLimit || seq >= r.seg.end {
		i := sort.Search(len(l.segs), func(i int) bool { return l.segs[i].end > seq })
		p := l.segs[i].pointBefore(seq)
		r.place(l.segs[i], p)
	}
	r.win.limit = r.seg.size
	for r.seq < seq {
		if err := r.skip(); err != nil {
			return err
		}
	}
	return nil
}

func (r *logReader) place(s *segment, p indexPoint) {
	if r.seg != s {
		r.seg, r.win = s, window{f: s.f, buf: r.win.buf[:0], limit: s.size}
	}
	r.seq, r.off = p.seq, p.off
}

// skip steps over one record.
func (r *logReader) skip() error {
	h, err := r.peek()
	if err != nil {
		return err
	}
	r.seq, r.off = r.seq+1, r.off+headerBytes+int64(h.length)
	return nil
}

func (r *logReader) peek() (header, error) {
	b, err := r.win.at(r.off, headerBytes)
	if err != nil {
		return header{}, r.fail(err)
	}
	h := parseHeader(b)
	if h.seq != r.seq || h.length > maxBodyBytes {
		return h, r.fail(errSequence)
	}
	return h, nil
}

// seqAt returns the first number published at or after t, the end of the log
// when there is none.
func (l *messageLog) seqAt(t int64) (uint64, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	i := sort.Search(len(l.segs), func(i int) bool { return l.segs[i].lastTime >= t })
	if i == len(l.segs) {
		return l.end, nil
	}
	var r logReader
	r.place(l.segs[i], l.segs[i].pointBeforeTime(t))
	for r.seq < l.segs[i].end {
		h, err := r.peek()
		if err != nil {
			return 0, err
		}
		if h.time >= t {
			return r.seq, nil
		}
		if err := r.skip(); err != nil {
			return 0, err
		}
	}
	return r.seq, nil
}

// timeOf returns the publish time of a stored message.
func (l *messageLog) timeOf(seq uint64) (int64, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if n := len(l.tail); n > 0 && seq >= l.tail[0].seq && seq < l.end {
		return l.tail[seq-l.tail[0].seq].time, nil
	}
	var r logReader
	if err := l.seek(&r, seq); err != nil {
		return 0, err
	}
	h, err := r.peek()
	return h.time, err
}

// bytesBefore returns the bytes of bodies stored before seq, counted from an
// origin that is fixed while the log is open.
func (l *messageLog) bytesBefore(seq uint64) (int64, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	seq = max(seq, l.segs[0].base)
	last := l.segs[len(l.segs)-1]
	if seq >= l.end {
		return last.before + last.size - int64(l.end)*headerBytes, nil
	}
	var r logReader
	if err := l.seek(&r, seq); err != nil {
		return 0, err
	}
	return r.seg.before + r.off - int64(seq)*headerBytes, nil
}

// timeBeyond returns the time before which everything was published that lies
// beyond the newest bytes of the log, by whole segments; 0 when nothing does.
func (l *messageLog) timeBeyond(bytes int64) int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for i := len(l.segs) - 1; i >= 0; i-- {
		if bytes < 0 {
			return l.segs[i].lastTime + 1
		}
		bytes -= l.segs[i].size
	}
	return 0
}

// collect deletes whole segments, oldest first, that lie before needed and
// whose newest message is older than cutoff. It never deletes the segment that
// is being written.
func (l *messageLog) collect(needed uint64, cutoff int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.segs) > 1 && !l.segs[0].removed {
		s := l.segs[0]
		if s.end > needed || s.lastTime >= cutoff {
			return nil
		}
		if err := l.st.remove(s.name); err != nil {
			return fmt.Errorf("delete segment %s: %w", s.name, err)
		}
		s.removed = true
		l.segs = l.segs[1:]
		if err := s.f.Close(); err != nil {
			return fmt.Errorf("close segment %s: %w", s.name, err)
		}
	}
	return nil
}

package topiclog

import (
	"errors"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
)

// indexEveryBytes is the distance of the index points of a segment: a read at
// a random place scans at most this much.
const indexEveryBytes = 32 << 10

// readChunkBytes is how much a sequential reader asks of a file at a time.
const readChunkBytes = 128 << 10

const segmentSuffix = ".seg"

// segment is one file of a topic's log. Everything below size is immutable;
// the fields are guarded by the log's mutex.
type segment struct {
	name     string // within the storage
	f        file
	base     uint64 // first sequence number
	end      uint64 // one past the last
	size     int64
	before   int64 // bytes of all earlier segments, to count backlogs
	lastTime int64
	index    []indexPoint
	removed  bool
}

type indexPoint struct {
	seq  uint64
	off  int64
	time int64
}

// CorruptError reports a damaged log: the file, the byte offset of the first
// record that cannot be trusted, and what is wrong with it.
type CorruptError struct {
	File   string
	Offset int64
	Err    error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s is damaged at byte %d: %v", e.File, e.Offset, e.Err)
}

func (e *CorruptError) Unwrap() error { return e.Err }

func segmentName(dir string, base uint64) string {
	return fmt.Sprintf("%s/%020d%s", dir, base, segmentSuffix)
}

func parseSegmentName(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok || len(digits) != 20 {
		return 0, false
	}
	base, err := strconv.ParseUint(digits, 10, 64)
	return base, err == nil
}

// note takes a record that was appended at the segment's end into account.
func (s *segment) note(h header) {
	if n := len(s.index); n == 0 || s.size-s.index[n-1].off >= indexEveryBytes {
		s.index = append(s.index, indexPoint{h.seq, s.size, h.time})
	}
	s.size += headerBytes + int64(h.length)
	s.end = h.seq + 1
	s.lastTime = h.time
}

// pointBefore returns the last index point at or before seq.
func (s *segment) pointBefore(seq uint64) indexPoint {
	i := sort.Search(len(s.index), func(i int) bool { return s.index[i].seq > seq })
	if i == 0 {
		return indexPoint{seq: s.base}
	}
	return s.index[i-1]
}

// pointBeforeTime returns the last index point whose record is older than t.
func (s *segment) pointBeforeTime(t int64) indexPoint {
	i := sort.Search(len(s.index), func(i int) bool { return s.index[i].time >= t })
	if i == 0 {
		return indexPoint{seq: s.base}
	}
	return s.index[i-1]
}

// scan reads a segment from the start and builds its index. A damaged record
// is an error, unless it lies in the last commit of the topic's last segment:
// then scan stops there and torn is the number of bytes that follow.
func (s *segment) scan(last bool) (torn int64, err error) {
	fileBytes, err := s.f.size()
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", s.name, err)
	}
	w := window{f: s.f, limit: fileBytes}
	s.end = s.base
	for s.size < fileBytes {
		h, _, err := w.record(s.size)
		if err == nil && h.seq != s.end {
			err = errSequence
		}
		if err == nil {
			s.note(h)
			continue
		}
		if !isDamage(err) {
			return 0, fmt.Errorf("read %s at byte %d: %w", s.name, s.size, err)
		}
		if last {
			later, ferr := w.laterCommit(s.size, s.end)
			if ferr != nil {
				return 0, fmt.Errorf("read %s: %w", s.name, ferr)
			}
			if !later {
				return fileBytes - s.size, nil
			}
		}
		return 0, &CorruptError{File: s.name, Offset: s.size, Err: err}
	}
	return 0, nil
}

func isDamage(err error) bool {
	return errors.Is(err, errShort) || errors.Is(err, errLength) || errors.Is(err, errChecksum) || errors.Is(err, errSequence)
}

// window reads a file through one buffer; limit is the end of what may be read.
type window struct {
	f     file
	limit int64
	buf   []byte
	off   int64
}

// at returns n bytes at off, valid until the next call, or errShort.
func (w *window) at(off int64, n int) ([]byte, error) {
	if off+int64(n) > w.limit {
		return nil, errShort
	}
	if off < w.off || off+int64(n) > w.off+int64(len(w.buf)) {
		if err := w.fill(off, n); err != nil {
			return nil, err
		}
	}
	return w.buf[off-w.off:][:n], nil
}

func (w *window) fill(off int64, n int) error {
	want := int(min(int64(max(n, readChunkBytes)), w.limit-off))
	if cap(w.buf) < want {
		w.buf = make([]byte, want)
	}
	w.buf, w.off = w.buf[:want], off
	got, err := w.f.ReadAt(w.buf, off)
	w.buf = w.buf[:got]
	if got >= n {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return errShort
	}
	return err
}

// record reads and checks the record at off.
func (w *window) record(off int64) (header, []byte, error) {
	b, err := w.at(off, headerBytes)
	if err != nil {
		return header{}, nil, err
	}
	h := parseHeader(b)
	if h.length > maxBodyBytes {
		return h, nil, errLength
	}
	b, err = w.at(off, headerBytes+h.length)
	if err != nil {
		return h, nil, err
	}
	return parseRecord(b)
}

// laterCommit reports whether a sound record exists behind the damage at bad
// that was written after bad had been synced. If so the damage is no torn
// write: bytes that were once safe have changed.
func (w *window) laterCommit(bad int64, seq uint64) (bool, error) {
	for off := bad + 1; off+headerBytes <= w.limit; off++ {
		b, err := w.at(off, headerBytes)
		if err != nil {
			return false, err
		}
		h := parseHeader(b)
		if int64(h.commit) <= bad || int64(h.commit) > off || h.length > maxBodyBytes ||
			h.seq < seq || h.seq-seq > uint64(w.limit) {
			continue
		}
		if _, _, err := w.record(off); err == nil {
			return true, nil
		} else if !isDamage(err) {
			return false, err
		}
	}
	return false, nil
}

package topiclog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// cursorState is a subscription's or a snapshot's place in its topic: what
// comes at next or later is unread, of the rest the runs are unacknowledged.
type cursorState struct {
	generation uint64
	next       uint64
	runs       []run
}

type run struct {
	start, count uint64
	attempts     int
}

func (st cursorState) floor() uint64 {
	if len(st.runs) > 0 {
		return st.runs[0].start
	}
	return st.next
}

var errCursor = errors.New("the state file is damaged")

const cursorMagic = "TLC1"

// encode frames a state with a number that grows with every file and a
// CRC32C: magic, number, generation, next, runs as gaps, lengths and attempts.
func (st cursorState) encode(number uint64) []byte {
	b := append(make([]byte, 0, 64+8*len(st.runs)), cursorMagic...)
	b = binary.AppendUvarint(b, number)
	b = binary.AppendUvarint(b, st.generation)
	b = binary.AppendUvarint(b, st.next)
	b = binary.AppendUvarint(b, uint64(len(st.runs)))
	at := uint64(0)
	for _, r := range st.runs {
		b = binary.AppendUvarint(b, r.start-at)
		b = binary.AppendUvarint(b, r.count)
		b = binary.AppendUvarint(b, uint64(r.attempts))
		at = r.start + r.count
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli()))
}

func decodeCursor(b []byte) (st cursorState, number uint64, err error) {
	body := len(b) - 4
	if body < len(cursorMagic) || string(b[:len(cursorMagic)]) != cursorMagic ||
		binary.LittleEndian.Uint32(b[body:]) != crc32.Checksum(b[:body], castagnoli()) {
		return st, 0, errCursor
	}
	d := uvarints{b: b[len(cursorMagic):body]}
	number, st.generation, st.next = d.next(), d.next(), d.next()
	at := uint64(0)
	for n := d.next(); n > 0 && !d.bad; n-- {
		r := run{start: at + d.next(), count: d.next(), attempts: int(d.next())}
		if r.start < at || r.count == 0 || r.start+r.count < r.start || r.start+r.count > st.next {
			return cursorState{}, 0, errCursor
		}
		at = r.start + r.count
		st.runs = append(st.runs, r)
	}
	if d.bad || len(d.b) > 0 {
		return cursorState{}, 0, errCursor
	}
	return st, number, nil
}

type uvarints struct {
	b   []byte
	bad bool
}

func (d *uvarints) next() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

// A subscription has two state files: one written often, and one that is
// synced now and then, for when a power cut takes the first.
const cursorDir = "cursors"

func cursorName(uid uint64, durable bool) string {
	if durable {
		return fmt.Sprintf("%d.synced", uid)
	}
	return fmt.Sprintf("%d.recent", uid)
}

// loadCursor returns the newest sound state of a subscription; found is false
// when there is none.
func loadCursor(st storage, uid uint64) (best cursorState, number uint64, found bool, err error) {
	for _, durable := range []bool{true, false} {
		b, rerr := readAll(st, cursorDir, cursorName(uid, durable))
		if rerr != nil {
			return best, 0, false, fmt.Errorf("read state %s: %w", cursorName(uid, durable), rerr)
		}
		if b == nil {
			continue
		}
		state, n, derr := decodeCursor(b)
		if derr != nil {
			err = fmt.Errorf("%s: %w", join(cursorDir, cursorName(uid, durable)), derr)
			continue
		}
		if !found || n > number {
			best, number, found = state, n, true
		}
	}
	return best, number, found, err
}

// flush writes the state when it changed. durable waits for the disk; without
// it the disk is waited for once in SyncInterval.
func (s *subscription) flush(st storage, durable bool) error {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	if s.discarded {
		return nil
	}
	s.mu.Lock()
	if !s.dirty && !durable {
		s.mu.Unlock()
		return nil
	}
	s.dirty = false
	state := s.state()
	s.mu.Unlock()
	now := s.opts.Now()
	durable = durable || now.Sub(s.syncedAt) >= s.opts.SyncInterval
	s.flushed++
	if err := st.replace(join(cursorDir, cursorName(s.uid, durable)), state.encode(s.flushed), durable); err != nil {
		s.mu.Lock()
		s.dirty = true
		s.mu.Unlock()
		return fmt.Errorf("write state of %s: %w", s.name, err)
	}
	if durable {
		s.syncedAt = now
	}
	return nil
}

// discard removes the state files for good.
func (s *subscription) discard(st storage) error {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	s.discarded = true
	return errors.Join(
		st.remove(join(cursorDir, cursorName(s.uid, true))),
		st.remove(join(cursorDir, cursorName(s.uid, false))))
}

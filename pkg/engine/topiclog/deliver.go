package topiclog

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
)

// scanBudget is how many messages one call looks at, so that a filter that
// matches nothing does not hold the subscription's lock for long.
const scanBudget = 4096

// join adds a consumer, among which deliveries are shared.
func (s *subscription) join(*consumer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.consumers++
}

// leave removes a consumer. What it holds stays leased; a wake-up that it may
// have missed goes to another.
func (s *subscription) leave(c *consumer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.consumers--
	s.dropIdle(c)
	s.arrived(c)
	s.wakeReady()
}

func (s *subscription) dropIdle(c *consumer) {
	if !c.idle {
		return
	}
	c.idle = false
	for i, o := range s.idle {
		if o == c {
			s.idle = append(s.idle[:i], s.idle[i+1:]...)
			return
		}
	}
}

// notify tells a consumer that the log has grown.
func (s *subscription) notify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wakeReady()
}

// wakeReady wakes the consumer that has waited longest if there is work; it
// wakes the next one when it leaves some. One at a time, so that each has its
// turn however late it is scheduled.
func (s *subscription) wakeReady() {
	if s.woken > 0 || len(s.idle) == 0 || s.available() == 0 {
		return
	}
	c := s.idle[0]
	s.idle = s.idle[1:]
	c.idle, c.woken = false, true
	s.woken++
	c.signal()
}

// arrived notes that a woken consumer has come.
func (s *subscription) arrived(c *consumer) {
	if c.woken {
		c.woken = false
		s.woken--
	}
}

// wait queues a consumer to be woken.
func (s *subscription) wait(c *consumer) {
	c.idle = true
	s.idle = append(s.idle, c)
}

// available is how many messages could be delivered now, before filters.
func (s *subscription) available() uint64 {
	if s.gone != nil {
		return 0
	}
	n := uint64(len(s.ready.items))
	if _, end := s.topic.log.bounds(); end > s.next && s.parked < s.opts.MaxOutstanding {
		n += end - s.next
	}
	return n
}

// take leases the next messages to a consumer. With none it registers c to be
// woken, unless again is true: then there is more to look at.
func (s *subscription) take(c *consumer) (batch []*pubsubpb.ReceivedMessage, again bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone != nil {
		return nil, false, s.gone
	}
	now := s.opts.Now().UnixNano()
	s.expire(now)
	s.arm(now)
	s.dropIdle(c)
	s.arrived(c)
	if c.served && s.woken > 0 {
		// Another one was woken and is on its way: it is its turn.
		c.served = false
		s.wait(c)
		return nil, false, nil
	}
	c.served = false
	if c.full() {
		c.blocked = true
		s.wakeReady()
		return nil, false, nil
	}
	budget, limit, bytes := scanBudget, s.share(), 0
	_, end := s.topic.log.bounds()
	for len(batch) < limit && bytes < s.opts.MaxBatchBytes && !c.full() {
		e, m, perr := s.pick(now, end, &budget)
		if e == nil || perr != nil {
			err = perr
			break
		}
		batch = append(batch, s.lease(e, m, c, now))
		bytes += m.bytes
	}
	s.arm(now)
	if len(batch) > 0 {
		c.served = true
		s.wakeReady()
		return batch, false, nil
	}
	if budget == 0 || err != nil {
		return nil, true, err
	}
	s.wait(c)
	return nil, false, nil
}

// share is how many messages one consumer gets at a time: a part of what is
// there when others wait too.
func (s *subscription) share() int {
	n := max(uint64(s.consumers), 1)
	part := (s.available() + n - 1) / n
	return int(min(max(part, 8), uint64(s.opts.MaxBatchMessages)))
}

// pick returns the next message to deliver: first those to deliver again, in
// log order, then new ones.
func (s *subscription) pick(now int64, end uint64, budget *int) (*entry, message, error) {
	cutoff := s.cutoff(now)
	for e := s.ready.min(); e != nil; e = s.ready.min() {
		m, err := s.topic.log.read(&s.again, e.seq)
		if errors.Is(err, errGone) || err == nil && m.time < cutoff {
			s.remove(e)
			continue
		}
		if err != nil {
			return nil, m, err
		}
		s.ready.remove(e)
		return e, m, nil
	}
	for ; *budget > 0 && s.next < end && s.parked < s.opts.MaxOutstanding; *budget-- {
		m, err := s.topic.log.read(&s.fresh, s.next)
		if errors.Is(err, errGone) {
			s.next, _ = s.topic.log.bounds()
			continue
		}
		if err != nil {
			return nil, m, err
		}
		s.next++
		s.changed()
		if m.time < cutoff || s.match != nil && !s.match(m.pb.GetAttributes()) {
			continue
		}
		e := s.add(m.seq, m.bytes, m.time)
		if s.enterKey(e, m.pb.GetOrderingKey()) {
			continue
		}
		return e, m, nil
	}
	return nil, message{}, nil
}

// lease gives a message, that is in no heap, to a consumer.
func (s *subscription) lease(e *entry, m message, c *consumer, now int64) *pubsubpb.ReceivedMessage {
	d := c.lease
	if d == 0 {
		d = ackDeadline(s.cfg)
	}
	s.token++
	e.token, e.restored, e.state, e.at = s.token, false, stateLeased, now+int64(d)
	e.attempts++
	s.timers.push(e)
	c.messages++
	c.bytes += int64(e.bytes)
	if c.holds {
		e.owner = c
	}
	rm := &pubsubpb.ReceivedMessage{AckId: s.ackID(e), Message: m.pb}
	if s.cfg.GetDeadLetterPolicy() != nil {
		rm.DeliveryAttempt = int32(e.attempts)
	}
	return rm
}

// An ack id names the subscription, its generation, the message and the
// delivery, as numbers in base 36 joined by dots.
func (s *subscription) ackID(e *entry) string {
	var buf [64]byte
	b := strconv.AppendUint(buf[:0], s.uid, 36)
	for _, n := range [...]uint64{s.generation, e.seq, e.token} {
		b = strconv.AppendUint(append(b, '.'), n, 36)
	}
	return string(b)
}

type ackRef struct{ uid, generation, seq, token uint64 }

func parseAckID(id string) (ackRef, bool) {
	var f [4]uint64
	rest := id
	for i := range f {
		part, tail, more := strings.Cut(rest, ".")
		n, err := strconv.ParseUint(part, 36, 64)
		if err != nil || more == (i == len(f)-1) {
			return ackRef{}, false
		}
		f[i], rest = n, tail
	}
	return ackRef{f[0], f[1], f[2], f[3]}, true
}

// find returns the entry an ack id settles. Ids of an older delivery, of
// before a seek or of another subscription settle nothing, and that is no
// error: the message will be delivered again.
func (s *subscription) find(r ackRef) *entry {
	if r.uid != s.uid || r.generation != s.generation {
		return nil
	}
	e := s.entries[r.seq]
	if e == nil || e.token != r.token && !e.restored {
		return nil
	}
	return e
}

// acknowledge settles messages.
func (s *subscription) acknowledge(refs []ackRef) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range refs {
		if e := s.find(r); e != nil && e.state != stateDying {
			s.remove(e)
		}
	}
	s.wakeReady()
}

// modify extends leases to d from now; with 0 it gives the messages back.
func (s *subscription) modify(refs []ackRef, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.opts.Now().UnixNano()
	s.expire(now)
	for _, r := range refs {
		e := s.find(r)
		if e == nil || e.state != stateLeased {
			continue
		}
		if d > 0 {
			e.at = now + int64(d)
			s.timers.fix(e)
			continue
		}
		s.timers.remove(e)
		e.token = 0
		s.retire(e, now)
	}
	s.arm(now)
	s.wakeReady()
}

// expire moves what is due: leases that ended and backoffs that are over.
func (s *subscription) expire(now int64) {
	for e := s.timers.min(); e != nil && e.at <= now; e = s.timers.min() {
		s.timers.remove(e)
		if e.state == stateDelayed {
			s.makeReady(e)
			continue
		}
		s.retire(e, now)
	}
}

// retire decides what follows a failed delivery of an entry that is in no
// heap: the dead-letter topic, a backoff, or delivery again.
func (s *subscription) retire(e *entry, now int64) {
	s.release(e)
	s.changed()
	if p := s.cfg.GetDeadLetterPolicy(); p != nil && e.attempts >= maxAttempts(p) {
		e.state = stateDying
		s.dying = append(s.dying, e)
		s.startForwarding()
		return
	}
	if d := backoff(s.cfg.GetRetryPolicy(), e.attempts); d > 0 {
		s.delay(e, now+int64(d))
		return
	}
	s.makeReady(e)
}

func (s *subscription) delay(e *entry, until int64) {
	e.state, e.at = stateDelayed, until
	s.timers.push(e)
}

// arm makes sure that somebody looks when the next timer is due.
func (s *subscription) arm(now int64) {
	e := s.timers.min()
	if e == nil || s.closed || s.armedFor != 0 && s.armedFor <= e.at {
		return
	}
	s.armedFor = e.at
	d := max(time.Duration(e.at-now), time.Millisecond)
	if s.timer == nil {
		s.timer = time.AfterFunc(d, s.timerFired)
		return
	}
	s.timer.Reset(d)
}

func (s *subscription) timerFired() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.armedFor = 0
	now := s.opts.Now().UnixNano()
	s.expire(now)
	s.arm(now)
	s.wakeReady()
}

// end makes every stream and pull of the subscription end with err.
func (s *subscription) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop()
	s.gone = err
	s.clear()
	for _, c := range s.idle {
		c.idle = false
		c.signal()
	}
	s.idle = nil
}

// stop silences the timer. The caller holds s.mu.
func (s *subscription) stop() {
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
}

package cellstore

import (
	"hash/maphash"
	"math/bits"
	"sync"
)

// lockStripes is how many locks all rows share.
const lockStripes = 1024

// rowLocks keep a read-modify-write of a row apart from every other write of
// it. Plain writes need no lock against each other, their batches are atomic, so
// they share.
type rowLocks struct {
	once    sync.Once
	seed    maphash.Seed
	stripes [lockStripes]sync.RWMutex
}

// stripeSet is a set of stripes, which is locked in order to rule out deadlock.
type stripeSet [lockStripes / 64]uint64

func (l *rowLocks) add(set *stripeSet, table uint32, row []byte) {
	l.once.Do(func() { l.seed = maphash.MakeSeed() })
	i := (maphash.Bytes(l.seed, row) + uint64(table)*0x9e3779b97f4a7c15) % lockStripes
	set[i/64] |= 1 << (i % 64)
}

func (l *rowLocks) each(set *stripeSet, f func(*sync.RWMutex)) {
	for w, word := range set {
		for word != 0 {
			f(&l.stripes[w*64+bits.TrailingZeros64(word)])
			word &= word - 1
		}
	}
}

func (l *rowLocks) lock(set *stripeSet, exclusive bool) {
	if exclusive {
		l.each(set, (*sync.RWMutex).Lock)
	} else {
		l.each(set, (*sync.RWMutex).RLock)
	}
}

func (l *rowLocks) unlock(set *stripeSet, exclusive bool) {
	if exclusive {
		l.each(set, (*sync.RWMutex).Unlock)
	} else {
		l.each(set, (*sync.RWMutex).RUnlock)
	}
}

package ingest

import (
	"errors"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
)

// batch gathers records by key: one row of a request must not be written twice, and only the
// newest record of a key counts.
//
// A shard fills the same batch again once it is committed, so nothing of it may be kept.
type batch struct {
	keys  keyTable[*winner]
	spare []winner // for the next keys
	bytes int
	// replaced counts the records that pending settled without a write.
	replaced int
}

// winner is the newest record of a key in the batch, with the older ones that share its outcome.
type winner struct {
	item   *item
	losers []*item
}

// errNewerRefused gives a record back whose batch held a newer one of its key that was refused.
var errNewerRefused = errors.New("a newer record of the key was refused")

// tell passes the outcome on. A refusal is the winner's own: the older records were not tried, so
// they come again instead of following it to the dead letters.
func (w *winner) tell(err error) {
	w.item.answer(err)
	if errors.Is(err, store.ErrPoison) {
		err = errNewerRefused
	}
	for _, it := range w.losers {
		it.answer(err)
	}
}

// reset empties the batch.
func (b *batch) reset() {
	b.keys.reset()
	*b = batch{keys: b.keys, spare: b.spare}
}

// winnersAtOnce is how many winners are allocated together.
const winnersAtOnce = 64

func (b *batch) newWinner(it *item) *winner {
	if len(b.spare) == 0 {
		b.spare = make([]winner, winnersAtOnce)
	}
	w := &b.spare[0]
	w.item, b.spare = it, b.spare[1:]
	return w
}

// full tells whether the batch has as much as a request should.
func (b *batch) full(rows, bytes int) bool { return b.keys.len() >= rows || b.bytes >= bytes }

// answer gives every record of the batch the same outcome.
func (b *batch) answer(err error) {
	for _, e := range b.keys.entries {
		e.value.tell(err)
	}
}

func (b *batch) add(it *item) {
	b.bytes += rowBytes(it.row)
	known := b.keys.find(it.hash, it.row.Key)
	if known == nil {
		b.keys.add(it.hash, it.row.Key, b.newWinner(it))
		return
	}
	w := *known
	if it.stamp().before(w.item.stamp()) {
		w.losers = append(w.losers, it)
		return
	}
	w.losers = append(w.losers, w.item)
	w.item = it
}

// pending returns the rows to write. A record that a newer one of the same event time has already
// replaced is stored as it is: writing it now would undo the newer one, since both share a timestamp.
func (b *batch) pending(recent *recentKeys, stored func(*winner)) ([]dataset.Row, []*winner) {
	rows := make([]dataset.Row, 0, b.keys.len())
	winners := make([]*winner, 0, b.keys.len())
	for _, e := range b.keys.entries {
		w := e.value
		last := recent.get(e.hash, e.key)
		if s := w.item.stamp(); last != nil && s.event == last.event && s.before(*last) {
			stored(w)
			b.replaced += 1 + len(w.losers)
			continue
		}
		rows = append(rows, w.item.row)
		winners = append(winners, w)
	}
	return rows, winners
}

// rowBytes approximates the size of a row in a request.
func rowBytes(row dataset.Row) int {
	const perCellOverhead = 24
	n := len(row.Key)
	for _, cell := range row.Cells {
		n += len(cell.Column) + len(cell.Value) + perCellOverhead
	}
	return n
}

// recentKeysPerShard bounds how far apart two deliveries of one key may be for their publish
// order to hold: messages reach a shard slightly out of order, never by this many.
const recentKeysPerShard = 16384

// recentKeys remembers the stamps of at least the last max keys in two generations.
type recentKeys struct {
	max       int
	now, past keyTable[stamp]
}

// get returns the stamp of a key, nil when it is not remembered.
func (k *recentKeys) get(hash uint64, key string) *stamp {
	if known := k.now.find(hash, key); known != nil {
		return known
	}
	return k.past.find(hash, key)
}

func (k *recentKeys) put(hash uint64, key string, s stamp) {
	if known := k.now.find(hash, key); known != nil {
		if !s.before(*known) {
			*known = s
		}
		return
	}
	if known := k.past.find(hash, key); known != nil && s.before(*known) {
		return
	}
	if k.now.len() >= k.max {
		k.past, k.now = k.now, k.past
		k.now.reset()
	}
	k.now.add(hash, key, s)
}

package ingest

import (
	"errors"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
)

// batch gathers records by key: one row of a request must not be written twice, and only the
// newest record of a key counts.
type batch struct {
	byKey map[string]*winner
	order []*winner
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

func newBatch() *batch { return &batch{byKey: map[string]*winner{}} }

// full tells whether the batch has as much as a request should.
func (b *batch) full(rows, bytes int) bool { return len(b.order) >= rows || b.bytes >= bytes }

// answer gives every record of the batch the same outcome.
func (b *batch) answer(err error) {
	for _, w := range b.order {
		w.tell(err)
	}
}

func (b *batch) add(it *item) {
	b.bytes += rowBytes(it.row)
	w, ok := b.byKey[it.row.Key]
	if !ok {
		w = &winner{item: it}
		b.byKey[it.row.Key] = w
		b.order = append(b.order, w)
		return
	}
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
	rows := make([]dataset.Row, 0, len(b.order))
	winners := make([]*winner, 0, len(b.order))
	for _, w := range b.order {
		last, ok := recent.get(w.item.row.Key)
		if s := w.item.stamp(); ok && s.event == last.event && s.before(last) {
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
	now, past map[string]stamp
}

func newRecentKeys(limit int) recentKeys {
	return recentKeys{max: limit, now: map[string]stamp{}, past: map[string]stamp{}}
}

func (k *recentKeys) get(key string) (stamp, bool) {
	if s, ok := k.now[key]; ok {
		return s, true
	}
	s, ok := k.past[key]
	return s, ok
}

func (k *recentKeys) put(key string, s stamp) {
	if last, ok := k.get(key); ok && s.before(last) {
		return
	}
	if len(k.now) >= k.max {
		k.past, k.now = k.now, make(map[string]stamp, k.max)
	}
	k.now[key] = s
}

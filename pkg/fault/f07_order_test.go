//go:build fault

package fault_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/testkit"
)

// ordersDeclaration has records of one key with different event times.
const ordersDeclaration = `
version: 1
name: latam
datasets:
  orders:
    topic: flights
    fields:
      order_id: {type: string, required: true}
      at:      {type: timestamp, required: true}
      state:   {type: string}
      remark:  {type: string}
    key: [order_id]
    time: at
environments:
  local: {engine: embedded}
`

// order is one version of a record.
func order(rng *rand.Rand, id, version int) testkit.Attempt {
	at := time.Date(2020, 1, 1, 0, 0, id%86_400, version*1_000_000, time.UTC).Format(time.RFC3339Nano)
	return testkit.Attempt{
		Key:     fmt.Sprintf("order-%d", id),
		Payload: fmt.Sprintf(`{"order_id":"order-%d","at":%q,"state":"v%d %s","remark":%q}`, id, at, version, text(rng, 4), text(rng, 200)),
	}
}

// TestF07DuplicatesAndDisorder publishes each record 1 to 7 times, in up to three versions, from two
// publishers and out of order. A key's row is its greatest event time; of one time, what was
// published last.
func TestF07DuplicatesAndDisorder(t *testing.T) {
	t.Parallel()
	deliveries, window := number(t, "LATAM_F07_DELIVERIES", 20_000), 10_000
	r := newRig(t, rigOptions{seed: newSeed(t), declare: ordersDeclaration})
	var all []testkit.Attempt
	conflicts := 0
	for id := 0; len(all) < deliveries; id++ {
		for version := range 1 + r.rng.IntN(3) {
			a := order(r.rng, id, version)
			for range 1 + r.rng.IntN(7) {
				if r.rng.IntN(1000) == 0 { // The same time with another content.
					a = order(r.rng, id, version)
					conflicts++
				}
				all = append(all, a)
			}
		}
	}
	for i := range all {
		j := i + r.rng.IntN(min(window, len(all)-i))
		all[i], all[j] = all[j], all[i]
	}
	r.ingest()
	var publishers sync.WaitGroup
	for half := range 2 {
		publishers.Go(func() {
			for batch := range slices.Chunk(all, 100) {
				mine := slices.Clone(batch[half*len(batch)/2 : (half+1)*len(batch)/2])
				r.publish(mine)
			}
		})
	}
	publishers.Wait()
	r.settle()

	attempts := r.attempts()
	rows := r.rows(r.ds.Table())
	for i := range rows {
		rows[i].Cells = newest(rows[i].Cells)
	}
	inOrderOfWinning(attempts)
	report := testkit.CheckStored(attempts, rows, r.allLetters(), shapeOf(r.ds))
	report.Redelivered = int(r.host.faults.Counts().Redelivered)
	r.print("F7", report, fmt.Sprintf("conflicts=%d", conflicts))
	if !report.OK() {
		t.Errorf("F7: %v", report.Violations)
	}
	if conflicts == 0 {
		t.Error("there was no conflict")
	}
}

// newest drops the cells of earlier events, which the table's rule hides from every reader. Two cells
// of one time stay.
func newest(cells []testkit.Cell) []testkit.Cell {
	last := time.Time{}
	for _, c := range cells {
		if c.Time.After(last) {
			last = c.Time
		}
	}
	return slices.DeleteFunc(cells, func(c testkit.Cell) bool { return !c.Time.Equal(last) })
}

// inOrderOfWinning sorts attempts so that the last of a key is the one that its row has to show.
func inOrderOfWinning(attempts []testkit.Attempt) {
	at := func(a testkit.Attempt) time.Time {
		t, _ := time.Parse(time.RFC3339Nano, fmt.Sprint(decode(a.Payload)["at"]))
		return t
	}
	slices.SortStableFunc(attempts, func(a, b testkit.Attempt) int {
		return cmp.Or(
			at(a).Compare(at(b)),
			cmp.Compare(len(a.ID), len(b.ID)), cmp.Compare(a.ID, b.ID),
		)
	})
}

package query

import (
	"context"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// walker reads the rows of a listing, checks the filters that the plan left over, and hands on what
// is left.
type walker struct {
	l   listing
	now func() time.Time
	// limit is how many rows to hand on, 0 = all; maxScanned how many to read, 0 = all.
	limit, maxScanned int
	// keysOnly reads no values, where no filter needs one.
	keysOnly bool
	// until is when to stop; what was read until then is the answer.
	until time.Time
	// stop ends the reading early, for a drain; nil never does.
	stop <-chan struct{}
	// emit takes a row. It returns false when the row does not fit any more.
	emit func(row dataset.Row) (taken bool, err error)
	// tick is called now and then, with the time; nil is fine.
	tick func(now time.Time) error

	rows    int    // handed on
	scanned int    // read
	last    string // key of the last row that was handed on or left out
	more    bool   // there may be more
	newest  time.Time
	err     error
}

// run reads until the rows or one of the bounds are at their end. A bound leaves more set.
func (wk *walker) run(ctx context.Context, s *Service) error {
	rd := reading{plan: wk.l.plan, desc: wk.l.query.desc, columns: wk.l.ep.columnsFor(wk.l.query.fields, wk.l.plan.residual), limit: maxRows, keysOnly: wk.keysOnly && len(wk.l.plan.residual) == 0}
	if wk.maxScanned > 0 {
		rd.limit = wk.maxScanned + 1
	}
	if wk.limit > 0 && len(wk.l.plan.residual) == 0 {
		rd.expect = wk.limit + 1 // One more tells whether there are more.
	}
	if err := s.read(ctx, rd, wk.visit); err != nil {
		return err
	}
	return wk.err
}

// maxRows stands for no limit.
const maxRows = 1 << 60

// checkClockEvery is how many rows are read between two looks at the clock.
const checkClockEvery = 64

// visit adds one row; false ends the reading.
func (wk *walker) visit(key string, row dataset.Row, shown bool) bool {
	wk.scanned++
	if wk.limit > 0 && wk.rows == wk.limit || wk.maxScanned > 0 && wk.scanned > wk.maxScanned || wk.pause() {
		wk.more = true
		return false
	}
	if wk.err != nil {
		return false
	}
	if shown && len(wk.l.plan.residual) > 0 {
		rec, err := wk.l.ep.ds.Record(row)
		if err != nil {
			wk.err = err
			return false
		}
		shown = matchAll(wk.l.plan.residual, rec)
	}
	if !shown {
		wk.last = key
		return true
	}
	taken, err := wk.emit(row)
	if err != nil {
		wk.err = err
		return false
	}
	if !taken {
		wk.more = true
		return false
	}
	wk.rows++
	wk.last = key
	if row.Time.After(wk.newest) {
		wk.newest = row.Time
	}
	return true
}

// pause looks at the clock and the drain now and then; true ends the reading. At least one row is read.
func (wk *walker) pause() bool {
	if wk.scanned%checkClockEvery != 0 {
		return false
	}
	now := wk.now()
	if wk.tick != nil && wk.err == nil {
		wk.err = wk.tick(now)
	}
	select {
	case <-wk.stop:
		return true
	default:
	}
	return now.After(wk.until)
}

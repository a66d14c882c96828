package store

import (
	"errors"
	"fmt"
)

// ErrWrongAnswer says that Bigtable answered with rows that were not asked for, or not in their
// order. Nothing of such an answer may be shown: a row would stand under the id of another, and a
// walk by cursors would never end.
var ErrWrongAnswer = errors.New("bigtable answered with other rows than were asked for")

// asked checks the keys of a scan as they come.
type asked struct {
	ranges  []Range // in key order and apart
	reverse bool
	limit   int // 0 = none

	passed int // ranges that the keys have left behind
	rows   int
	last   string
}

func newAsked(s Scan) *asked {
	ranges := s.Ranges
	if ranges == nil {
		ranges = []Range{{s.Start, s.End}}
	}
	return &asked{ranges: ranges, reverse: s.Reverse, limit: s.Limit}
}

// take returns nil when the next key may be this one.
func (a *asked) take(key string) error {
	inOrder := a.rows == 0 || a.reverse && key < a.last || !a.reverse && key > a.last
	a.rows++
	a.last = key
	if !inOrder {
		return fmt.Errorf("%w: row %d is not behind the one before it", ErrWrongAnswer, a.rows)
	}
	if a.limit > 0 && a.rows > a.limit {
		return fmt.Errorf("%w: more than %d rows", ErrWrongAnswer, a.limit)
	}
	for ; a.passed < len(a.ranges); a.passed++ {
		r := a.ranges[a.passed]
		if a.reverse {
			r = a.ranges[len(a.ranges)-1-a.passed]
		}
		if key >= r.Start && (r.End == "" || key < r.End) {
			return nil
		}
	}
	return fmt.Errorf("%w: row %d is outside of the range", ErrWrongAnswer, a.rows)
}

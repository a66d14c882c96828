package cellstore

import (
	"bytes"
	"slices"

	"cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// interval is the row keys k with start <= k < end. A nil end has no bound.
type interval struct{ start, end []byte }

// single reports whether the interval holds one key only.
func (iv interval) single() bool {
	n := len(iv.start)
	return len(iv.end) == n+1 && iv.end[n] == 0 && bytes.Equal(iv.end[:n], iv.start)
}

// after returns the smallest row key greater than key.
func after(key []byte) []byte { return append(bytes.Clone(key), 0) }

// rowIntervals returns the requested rows as disjoint intervals in order. No
// rows at all means every row, as in the API.
func rowIntervals(set *bigtablepb.RowSet) ([]interval, error) {
	if len(set.GetRowKeys())+len(set.GetRowRanges()) == 0 {
		return []interval{{}}, nil
	}
	ivs := make([]interval, 0, len(set.GetRowKeys())+len(set.GetRowRanges()))
	for _, key := range set.GetRowKeys() {
		ivs = append(ivs, interval{start: key, end: after(key)})
	}
	for i, r := range set.GetRowRanges() {
		iv, err := rangeInterval(r)
		if err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "Error in element #%d of field 'row_ranges' : %v", i, err)
		}
		ivs = append(ivs, iv)
	}
	return mergeIntervals(ivs), nil
}

type rangeError string

func (e rangeError) Error() string { return string(e) }

func rangeInterval(r *bigtablepb.RowRange) (iv interval, err error) {
	var first, last []byte // as given, to compare
	switch k := r.GetStartKey().(type) {
	case *bigtablepb.RowRange_StartKeyClosed:
		first, iv.start = k.StartKeyClosed, k.StartKeyClosed
	case *bigtablepb.RowRange_StartKeyOpen:
		if first = k.StartKeyOpen; len(first) > 0 {
			iv.start = after(first)
		}
	}
	switch k := r.GetEndKey().(type) {
	case *bigtablepb.RowRange_EndKeyClosed:
		if last = k.EndKeyClosed; len(last) > 0 {
			iv.end = after(last)
		}
	case *bigtablepb.RowRange_EndKeyOpen:
		if last = k.EndKeyOpen; len(last) > 0 {
			iv.end = last
		}
	}
	if len(last) > 0 && bytes.Compare(first, last) > 0 {
		return iv, rangeError("start key must not be greater than end key")
	}
	return iv, nil
}

// mergeIntervals sorts intervals, joins those that touch and drops empty ones.
func mergeIntervals(ivs []interval) []interval {
	ivs = slices.DeleteFunc(ivs, func(iv interval) bool {
		return iv.end != nil && bytes.Compare(iv.start, iv.end) >= 0
	})
	slices.SortFunc(ivs, func(a, b interval) int { return bytes.Compare(a.start, b.start) })
	var merged []interval
	for _, iv := range ivs {
		if n := len(merged); n > 0 {
			last := &merged[n-1]
			if last.end == nil {
				break
			}
			if bytes.Compare(iv.start, last.end) < 0 || (bytes.Equal(iv.start, last.end) && !iv.single() && !last.single()) {
				if iv.end == nil || bytes.Compare(iv.end, last.end) > 0 {
					last.end = iv.end
				}
				continue
			}
		}
		merged = append(merged, iv)
	}
	return merged
}

// appendBounds appends the Pebble bounds of an interval in a table.
func (iv interval) appendBounds(lower, upper []byte, table uint32) (_, _ []byte) {
	lower = appendTablePrefix(lower, table)
	if len(iv.start) > 0 {
		lower = appendEscapedOpen(lower, iv.start)
	}
	upper = appendTablePrefix(upper, table)
	switch {
	case iv.end == nil:
		upper = upperBound(upper)
	default:
		upper = appendEscapedOpen(upper, iv.end)
	}
	return lower, upper
}

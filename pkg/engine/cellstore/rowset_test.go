package cellstore

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func rowRange(start string, startOpen bool, end string, endOpen bool) *bigtablepb.RowRange {
	r := &bigtablepb.RowRange{StartKey: &bigtablepb.RowRange_StartKeyClosed{StartKeyClosed: []byte(start)}}
	if startOpen {
		r.StartKey = &bigtablepb.RowRange_StartKeyOpen{StartKeyOpen: []byte(start)}
	}
	switch {
	case end == "":
	case endOpen:
		r.EndKey = &bigtablepb.RowRange_EndKeyOpen{EndKeyOpen: []byte(end)}
	default:
		r.EndKey = &bigtablepb.RowRange_EndKeyClosed{EndKeyClosed: []byte(end)}
	}
	return r
}

// Merged intervals are disjoint, in order, and hold just the keys that the row
// set names.
func TestRowIntervalsAgainstModel(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	letter := func() string { return string(rune('a' + rng.IntN(8))) }
	for range 5000 {
		set := &bigtablepb.RowSet{}
		for range rng.IntN(4) {
			set.RowKeys = append(set.RowKeys, []byte(letter()))
		}
		for range rng.IntN(4) {
			lo, hi := letter(), letter()
			if lo > hi {
				lo, hi = hi, lo
			}
			if rng.IntN(5) == 0 {
				hi = ""
			}
			set.RowRanges = append(set.RowRanges, rowRange(lo, rng.IntN(2) == 0, hi, rng.IntN(2) == 0))
		}
		ivs, err := rowIntervals(set)
		if err != nil {
			t.Fatal(err)
		}
		for i, iv := range ivs {
			if i > 0 && (ivs[i-1].end == nil || string(ivs[i-1].end) > string(iv.start)) {
				t.Fatalf("%v overlap in %v", ivs, set)
			}
		}
		for c := 'a'; c < 'j'; c++ {
			for _, key := range []string{string(c), string(c) + "\x00", string(c) + "z"} {
				if got, want := holds(ivs, key), named(set, key); got != want {
					t.Fatalf("key %q: in %v is %v, in %v is %v", key, ivs, got, set, want)
				}
			}
		}
	}
}

func holds(ivs []interval, key string) bool {
	for _, iv := range ivs {
		if key >= string(iv.start) && (iv.end == nil || key < string(iv.end)) {
			return true
		}
	}
	return false
}

func named(set *bigtablepb.RowSet, key string) bool {
	if len(set.RowKeys)+len(set.RowRanges) == 0 {
		return true
	}
	for _, k := range set.RowKeys {
		if key == string(k) {
			return true
		}
	}
	for _, r := range set.RowRanges {
		in := true
		switch s := r.StartKey.(type) {
		case *bigtablepb.RowRange_StartKeyClosed:
			in = key >= string(s.StartKeyClosed)
		case *bigtablepb.RowRange_StartKeyOpen:
			in = key > string(s.StartKeyOpen)
		}
		switch e := r.EndKey.(type) {
		case *bigtablepb.RowRange_EndKeyClosed:
			in = in && key <= string(e.EndKeyClosed)
		case *bigtablepb.RowRange_EndKeyOpen:
			in = in && key < string(e.EndKeyOpen)
		}
		if in {
			return true
		}
	}
	return false
}

func TestRowIntervalsEdges(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		set  *bigtablepb.RowSet
		want string
		code codes.Code
	}{
		{"nil is all", nil, `[{"" inf}]`, codes.OK},
		{"empty is all", &bigtablepb.RowSet{}, `[{"" inf}]`, codes.OK},
		{"nil range is all", &bigtablepb.RowSet{RowRanges: []*bigtablepb.RowRange{nil}}, `[{"" inf}]`, codes.OK},
		{"empty open ends", &bigtablepb.RowSet{RowRanges: []*bigtablepb.RowRange{{
			StartKey: &bigtablepb.RowRange_StartKeyOpen{}, EndKey: &bigtablepb.RowRange_EndKeyOpen{},
		}}}, `[{"" inf}]`, codes.OK},
		{"same key twice", &bigtablepb.RowSet{RowKeys: [][]byte{[]byte("a"), []byte("a")}}, `[{"a" "a\x00"}]`, codes.OK},
		{"empty range", &bigtablepb.RowSet{RowRanges: []*bigtablepb.RowRange{rowRange("a", true, "a", true)}}, `[]`, codes.OK},
		{"inverted", &bigtablepb.RowSet{RowRanges: []*bigtablepb.RowRange{rowRange("b", false, "a", false)}}, ``, codes.InvalidArgument},
	} {
		ivs, err := rowIntervals(tt.set)
		if status.Code(err) != tt.code {
			t.Errorf("%s: error %v, want %v", tt.name, err, tt.code)
		}
		if got := intervalsText(ivs); err == nil && got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func intervalsText(ivs []interval) string {
	s := []string{}
	for _, iv := range ivs {
		end := "inf"
		if iv.end != nil {
			end = fmt.Sprintf("%q", iv.end)
		}
		s = append(s, fmt.Sprintf("{%q %s}", iv.start, end))
	}
	return fmt.Sprint(s)
}

package query

import (
	"math"
	"math/big"
	"math/bits"
	"slices"
	"strconv"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// state is what is kept of the values of one field in one group.
type state struct {
	count int64
	// The sum of int64 values has 128 bits, so that it cannot overflow.
	high int64
	low  uint64
	// The sum of float64 values is compensated as Neumaier does: lost has what rounding took from sum.
	sum, lost   float64
	least, most dataset.Value
	// values has the bits of all values, for percentiles, in their order: see ordered.
	values []int64
}

// add counts a value, and returns by how much the memory grew.
func (s *state) add(sl slot, v dataset.Value) (grown int) {
	s.count++
	if sl.sums {
		s.addToSum(v)
	}
	if sl.least && (s.count == 1 || v.Compare(s.least) < 0) {
		grown += textBytes(v) - textBytes(s.least)
		s.least = v
	}
	if sl.most && (s.count == 1 || v.Compare(s.most) > 0) {
		grown += textBytes(v) - textBytes(s.most)
		s.most = v
	}
	if sl.percent {
		before := cap(s.values)
		s.values = append(s.values, ordered(v))
		grown += (cap(s.values) - before) * 8
	}
	return grown
}

func textBytes(v dataset.Value) int {
	if v.Type() != dataset.String {
		return 0
	}
	return len(v.Text())
}

func (s *state) addToSum(v dataset.Value) {
	if v.Type() == dataset.Int64 {
		n := v.Int()
		var carry uint64
		s.low, carry = bits.Add64(s.low, uint64(n), 0)
		s.high += n>>63 + int64(carry)
		return
	}
	f := v.Float()
	sum := s.sum + f
	if math.Abs(s.sum) >= math.Abs(f) {
		s.lost += s.sum - sum + f
	} else {
		s.lost += f - sum + s.sum
	}
	s.sum = sum
}

// ordered maps a number to an int64 in the same order: int64 values are themselves, and float64
// values become their bits, those of negative ones turned around.
func ordered(v dataset.Value) int64 {
	if v.Type() == dataset.Int64 {
		return v.Int()
	}
	return turned(int64(math.Float64bits(v.Float())))
}

// turned is its own inverse.
func turned(bits int64) int64 { return bits ^ int64(uint64(bits>>63)>>1) }

func (s *state) appendMetric(dst []byte, m metric) []byte {
	if m.fn == fnCount {
		return appendInt(dst, s.count)
	}
	if s.count == 0 {
		return append(dst, "null"...)
	}
	integers := m.field.Type == dataset.Int64
	switch m.fn {
	case fnMin:
		return s.least.AppendJSON(dst)
	case fnMax:
		return s.most.AppendJSON(dst)
	case fnSum:
		if integers {
			return appendBig(dst, s.integerSum())
		}
		return appendFloat(dst, s.sum+s.lost)
	case fnAvg:
		if integers {
			return appendAverage(dst, s.integerSum(), s.count)
		}
		return appendFloat(dst, (s.sum+s.lost)/float64(s.count))
	}
	at := s.nearestRank(percent(m.fn))
	if integers {
		return appendInt(dst, at)
	}
	return appendFloat(dst, math.Float64frombits(uint64(turned(at))))
}

func (s *state) integerSum() *big.Int {
	sum := new(big.Int).Lsh(big.NewInt(s.high), 64)
	return sum.Add(sum, new(big.Int).SetUint64(s.low))
}

// nearestRank is the smallest value that at least percent of the values do not exceed. There is one.
func (s *state) nearestRank(percent int64) int64 {
	if !slices.IsSorted(s.values) {
		slices.Sort(s.values)
	}
	return s.values[(s.count*percent+99)/100-1]
}

// appendKey writes what the rows of a group have in common, each member followed by what comes.
func (q aggregateQuery) appendKey(dst []byte, key groupKey) []byte {
	for i, f := range q.groupBy {
		dst = key.values[i].AppendJSON(appendMember(dst, f.Name))
	}
	if q.interval == 0 {
		return dst
	}
	dst = appendMember(dst, paramInterval)
	if !key.timed {
		return append(dst, "null"...)
	}
	dst = time.Unix(key.bucket, 0).UTC().AppendFormat(append(dst, '"'), time.RFC3339)
	return append(dst, '"')
}

// appendMember begins a member. Names of fields and metrics need no escaping.
func appendMember(dst []byte, name string) []byte {
	if dst[len(dst)-1] != '{' {
		dst = append(dst, ',')
	}
	return append(append(append(dst, '"'), name...), `":`...)
}

// maxExactInt is the largest integer that every reader of JSON keeps; larger ones are written as strings.
const maxExactInt = 1<<53 - 1

func appendInt(dst []byte, n int64) []byte {
	if n < -maxExactInt || n > maxExactInt {
		return append(strconv.AppendInt(append(dst, '"'), n, 10), '"')
	}
	return strconv.AppendInt(dst, n, 10)
}

func appendBig(dst []byte, n *big.Int) []byte {
	if n.IsInt64() {
		return appendInt(dst, n.Int64())
	}
	return append(n.Append(append(dst, '"'), 10), '"')
}

// appendAverage writes the float64 next to sum / n.
func appendAverage(dst []byte, sum *big.Int, n int64) []byte {
	f, _ := new(big.Rat).SetFrac(sum, big.NewInt(n)).Float64()
	return appendFloat(dst, f)
}

// appendFloat writes a number as rows have it, and null for one beyond the range of a float64.
func appendFloat(dst []byte, f float64) []byte {
	if math.IsInf(f, 0) || math.IsNaN(f) {
		return append(dst, "null"...)
	}
	v, err := dataset.ParseText(&dataset.Field{Type: dataset.Float64}, strconv.FormatFloat(f, 'g', -1, 64))
	if err != nil {
		return append(dst, "null"...) // It cannot be: the text is a JSON number.
	}
	return v.AppendJSON(dst)
}

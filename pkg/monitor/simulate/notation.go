package simulate

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// The largest series that are read.
const (
	// MaxPoints is how many points a series may have: a week of minutes.
	MaxPoints = 7*24*60 + 1
	// maxBins is how many different values a point of a distribution may have.
	maxBins = 100
)

// bin is a number of equal values of a distribution.
type bin struct{ value, count float64 }

// points are the points of a series: numbers of which NaN is a missing one, or the values of a
// distribution of which nil is a missing point.
type points struct {
	numbers []float64
	bins    [][]bin
}

// distribution reports whether the points are those of a distribution.
func (p points) distribution() bool { return p.bins != nil }

// length is the number of points.
func (p points) length() int { return max(len(p.numbers), len(p.bins)) }

// notationFault is what is wrong with a series; column counts bytes from 0.
type notationFault struct {
	column  int
	message string
}

func (f *notationFault) Error() string { return f.message }

var (
	// numberItem is a number with an optional step and an optional count.
	numberItem  = regexp.MustCompile(`^([+-]?` + unsigned + `)(?:([+-])(` + unsigned + `))?(?:x([0-9]+))?$`)
	missingItem = regexp.MustCompile(`^_(?:x([0-9]+))?$`)
	binsItem    = regexp.MustCompile(`^\{([^{}]*)\}(?:x([0-9]+))?$`)
	binItem     = regexp.MustCompile(`^([+-]?` + unsigned + `):([0-9]+)$`)
)

const unsigned = `(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?`

// parsePoints reads the notation of a series.
func parsePoints(text string) (points, error) {
	var p points
	var missing, numbers, distributions int
	for _, item := range items(text) {
		before := p.length()
		var err error
		switch {
		case missingItem.MatchString(item.text):
			err = p.missing(missingItem.FindStringSubmatch(item.text)[1])
			missing++
		case numberItem.MatchString(item.text):
			numbers++
			err = p.number(numberItem.FindStringSubmatch(item.text))
		case binsItem.MatchString(item.text):
			distributions++
			err = p.values(binsItem.FindStringSubmatch(item.text))
		default:
			err = fmt.Errorf("expected points such as 0x5, 1+2x3, _x2 or {0.04:95 0.2:5}x9, got %s", strconv.Quote(item.text))
		}
		if err == nil && numbers > 0 && distributions > 0 {
			err = fmt.Errorf("a series has numbers or values of a distribution, not both")
		}
		if err != nil {
			return points{}, &notationFault{column: item.column, message: err.Error()}
		}
		if p.length() == before {
			return points{}, &notationFault{column: item.column, message: "expected at least one point"}
		}
	}
	if numbers+distributions+missing == 0 {
		return points{}, &notationFault{message: "expected points such as 0x5 11 0x12, got nothing"}
	}
	if distributions > 0 {
		p.numbers = nil
	} else {
		p.bins = nil
	}
	return p, nil
}

type item struct {
	text   string
	column int
}

// items splits at white space that is not in braces.
func items(text string) []item {
	var out []item
	start, depth := -1, 0
	for i, r := range text {
		space := r == ' ' || r == '\t' || r == '\n' || r == '\r'
		switch {
		case r == '{':
			depth++
		case r == '}':
			depth = max(0, depth-1)
		}
		if space && depth == 0 {
			if start >= 0 {
				out = append(out, item{text[start:i], start})
			}
			start = -1
		} else if start < 0 {
			start = i
		}
	}
	if start >= 0 {
		out = append(out, item{text[start:], start})
	}
	return out
}

// room reads a count and checks that so many more points are allowed.
func (p *points) room(count string, more int) (int, error) {
	n, err := strconv.Atoi(count)
	if err != nil || n > MaxPoints || p.length()+n+more > MaxPoints {
		return 0, fmt.Errorf("a series may have %d points", MaxPoints)
	}
	return n + more, nil
}

// add appends a point to both forms; the one that is not used is dropped at the end.
func (p *points) add(v float64, bins []bin) {
	p.numbers = append(p.numbers, v)
	p.bins = append(p.bins, bins)
}

func (p *points) missing(count string) error {
	if count == "" {
		count = "1"
	}
	n, err := p.room(count, 0)
	for range n {
		p.add(math.NaN(), nil)
	}
	return err
}

func (p *points) number(match []string) error {
	start, err := finite(match[1])
	if err != nil {
		return err
	}
	step := 0.0
	if match[3] != "" {
		if match[4] == "" {
			return fmt.Errorf("a step needs a count: write %sx5", match[0])
		}
		if step, err = finite(match[2] + match[3]); err != nil {
			return err
		}
	}
	n, err := p.room("0"+match[4], 1)
	if err != nil {
		return err
	}
	for i := range n {
		v := start + float64(i)*step
		if math.IsInf(v, 0) {
			return fmt.Errorf("the numbers of %s are too large", match[0])
		}
		p.add(v, nil)
	}
	return nil
}

func (p *points) values(match []string) error {
	fields := strings.Fields(match[1])
	if len(fields) == 0 || len(fields) > maxBins {
		return fmt.Errorf("a point of a distribution has 1 to %d values with their counts such as {0.04:95 0.2:5}; a missing point is _", maxBins)
	}
	bins := make([]bin, 0, len(fields))
	for _, f := range fields {
		m := binItem.FindStringSubmatch(f)
		if m == nil {
			return fmt.Errorf("expected a value with its count such as 0.04:95, got %s", strconv.Quote(f))
		}
		v, err := finite(m[1])
		if err != nil {
			return err
		}
		count, err := finite(m[2])
		if err != nil {
			return err
		}
		bins = append(bins, bin{value: v, count: count})
	}
	n, err := p.room("0"+match[2], 1)
	for range n {
		p.add(0, bins)
	}
	return err
}

func finite(text string) (float64, error) {
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(v, 0) {
		return 0, fmt.Errorf("the number %s is too large", text)
	}
	return v, nil
}

package dataset

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

const (
	day  = 24 * time.Hour
	week = 7 * day
)

var errDuration = errors.New("expected a duration such as 400d, 2w, 36h or 50ms")

// ParseDuration reads a duration in Go's units and in days (d, 24 hours) and
// weeks (w): "400d", "36h", "1d12h".
func ParseDuration(text string) (time.Duration, error) {
	s, sign := text, 1.0
	if rest, ok := strings.CutPrefix(s, "-"); ok {
		s, sign = rest, -1
	}
	if s == "0" {
		return 0, nil
	}
	if s == "" {
		return 0, errDuration
	}
	total, exact := 0.0, int64(0)
	for s != "" {
		number := s[:len(s)-len(strings.TrimLeft(s, "0123456789."))]
		s = s[len(number):]
		name := s[:len(s)-len(strings.TrimLeft(s, "nuµμmshdw"))]
		s = s[len(name):]
		unit := durationUnit(name)
		amount, err := strconv.ParseFloat(number, 64)
		if err != nil || unit == 0 {
			return 0, errDuration
		}
		total += amount * float64(unit)
		if total >= math.MaxInt64/2 {
			return 0, errors.New("the duration is longer than 146 years")
		}
		if whole, err := strconv.ParseInt(number, 10, 64); err == nil {
			exact += whole * int64(unit)
		} else {
			exact += int64(math.Round(amount * float64(unit)))
		}
	}
	return time.Duration(int64(sign) * exact), nil
}

func durationUnit(name string) time.Duration {
	switch name {
	case "ns":
		return time.Nanosecond
	case "us", "µs", "μs":
		return time.Microsecond
	case "ms":
		return time.Millisecond
	case "s":
		return time.Second
	case "m":
		return time.Minute
	case "h":
		return time.Hour
	case "d":
		return day
	case "w":
		return week
	}
	return 0
}

// FormatDuration writes a duration the way ParseDuration reads it, in days
// when it is a whole number of them.
func FormatDuration(d time.Duration) string {
	if d != 0 && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

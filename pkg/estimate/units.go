package estimate

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ParseRate reads a rate, such as 5k/s, 1.5M/h or 300/m, and returns it as a number a second.
func ParseRate(text string) (float64, error) {
	number, per, ok := strings.Cut(text, "/")
	seconds := map[string]float64{"s": 1, "m": 60, "h": 3600, "d": 86400}[per]
	if !ok || seconds == 0 {
		return 0, fmt.Errorf("expected a rate such as 500/s, 5k/s or 1.5M/h, got %q", text)
	}
	value, err := parseNumber(number, map[string]float64{"": 1, "k": 1e3, "M": 1e6})
	if err != nil {
		return 0, fmt.Errorf("expected a rate such as 500/s, 5k/s or 1.5M/h, got %q", text)
	}
	return value / seconds, nil
}

// FormatRate writes a rate the way ParseRate reads it.
func FormatRate(rate float64) string {
	unit := ""
	switch {
	case rate >= 1e6:
		rate, unit = rate/1e6, "M"
	case rate >= 1e3:
		rate, unit = rate/1e3, "k"
	}
	return strconv.FormatFloat(rate, 'f', -1, 64) + unit + "/s"
}

// ParseBytes reads a size, such as 300B, 1.5kB or 2KiB, and returns whole bytes.
func ParseBytes(text string) (int64, error) {
	units := map[string]float64{"B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "KiB": 1 << 10, "MiB": 1 << 20}
	value, err := parseNumber(text, units)
	if err != nil || value != math.Trunc(value) {
		return 0, fmt.Errorf("expected a size in whole bytes such as 300B, 1.5kB or 2KiB, got %q", text)
	}
	return int64(value), nil
}

// FormatBytes writes a size the way ParseBytes reads it.
func FormatBytes(n int64) string {
	if n > 0 && n%1024 == 0 {
		return strconv.FormatInt(n/1024, 10) + "KiB"
	}
	return strconv.FormatInt(n, 10) + "B"
}

// parseNumber reads decimal digits with one point at most, and one of the units. Nothing else of
// what ParseFloat takes is a number here: no sign, no exponent, no Inf.
func parseNumber(text string, units map[string]float64) (float64, error) {
	digits := text[:len(text)-len(strings.TrimLeft(text, "0123456789."))]
	factor, known := units[text[len(digits):]]
	value, err := strconv.ParseFloat(digits, 64)
	if err != nil || !known || value*factor > 1e15 {
		return 0, strconv.ErrSyntax
	}
	return value * factor, nil
}

package dataset

const secondsPerDay = 86400

// The years 0000 to 9999 are those that RFC 3339 can write.
const (
	minDay    = -719528 // 0000-01-01
	maxDay    = 2932896 // 9999-12-31
	minSecond = minDay * secondsPerDay
	maxSecond = (maxDay+1)*secondsPerDay - 1
)

// dayOf returns the days from 1970-01-01 to a date of the proleptic Gregorian
// calendar. Years are counted from March, so that the leap day comes last.
func dayOf(year, month, day int) int64 {
	if month <= 2 {
		year--
	}
	era := floorDiv(year, 400)
	yoe := year - era*400
	doy := (153*((month+9)%12)+2)/5 + day - 1
	doe := yoe*365 + yoe/4 - yoe/100 + doy
	return int64(era*146097 + doe - 719468)
}

// civil is the inverse of dayOf.
func civil(days int64) (year, month, day int) {
	z := int(days) + 719468
	era := floorDiv(z, 146097)
	doe := z - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	day = doy - (153*mp+2)/5 + 1
	month = mp + 3
	year = yoe + era*400
	if month > 12 {
		month -= 12
		year++
	}
	return year, month, day
}

func floorDiv(a, b int) int {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func daysIn(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// digits reads n decimal digits at the start of s; -1 when they are not there.
func digits(s string, n int) int {
	if len(s) < n {
		return -1
	}
	v := 0
	for i := range n {
		c := s[i] - '0'
		if c > 9 {
			return -1
		}
		v = v*10 + int(c)
	}
	return v
}

// parseDate reads exactly 2006-01-02.
func parseDate(s string) (days int64, ok bool) {
	if len(s) != 10 || s[4] != '-' || s[7] != '-' {
		return 0, false
	}
	year, month, day := digits(s, 4), digits(s[5:], 2), digits(s[8:], 2)
	if year < 0 || month < 1 || month > 12 || day < 1 || day > daysIn(year, month) {
		return 0, false
	}
	return dayOf(year, month, day), true
}

// parseTimestamp reads RFC 3339 with at most nine digits of a second. Lenient
// also takes a plain date, and a space before the offset, which is what a "+"
// becomes in a query string that was not escaped.
func parseTimestamp(s string, lenient bool) (sec int64, nanos int32, ok bool) {
	if len(s) < 10 {
		return 0, 0, false
	}
	days, ok := parseDate(s[:10])
	if !ok {
		return 0, 0, false
	}
	sec = days * secondsPerDay
	if len(s) == 10 {
		return sec, 0, lenient
	}
	if len(s) < 20 || s[10]|0x20 != 't' || s[13] != ':' || s[16] != ':' {
		return 0, 0, false
	}
	h, m, second := digits(s[11:], 2), digits(s[14:], 2), digits(s[17:], 2)
	if h < 0 || h > 23 || m < 0 || m > 59 || second < 0 || second > 59 {
		return 0, 0, false
	}
	nanos, rest, ok := parseFraction(s[19:])
	if !ok {
		return 0, 0, false
	}
	offset, ok := parseOffset(rest, lenient)
	sec += int64(h*3600+m*60+second) - offset
	return sec, nanos, ok && sec >= minSecond && sec <= maxSecond
}

// parseFraction reads an optional ".123" into nanoseconds.
func parseFraction(s string) (nanos int32, rest string, ok bool) {
	if s == "" || s[0] != '.' {
		return 0, s, true
	}
	i := 1
	for i < len(s) && s[i]-'0' <= 9 {
		i++
	}
	n := i - 1
	if n < 1 || n > 9 {
		return 0, s, false
	}
	v := digits(s[1:], n)
	for range 9 - n {
		v *= 10
	}
	return int32(v), s[i:], true
}

// parseOffset reads "Z" or "+02:00" into seconds east of UTC.
func parseOffset(s string, lenient bool) (seconds int64, ok bool) {
	if s == "Z" || s == "z" {
		return 0, true
	}
	if len(s) != 6 || s[3] != ':' {
		return 0, false
	}
	h, m := digits(s[1:], 2), digits(s[4:], 2)
	if h < 0 || h > 23 || m < 0 || m > 59 {
		return 0, false
	}
	seconds = int64(h*3600 + m*60)
	switch {
	case s[0] == '+', s[0] == ' ' && lenient:
		return seconds, true
	case s[0] == '-':
		return -seconds, true
	}
	return 0, false
}

func appendPadded(dst []byte, v, width int) []byte {
	var buf [9]byte
	for i := width - 1; i >= 0; i-- {
		buf[i] = byte('0' + v%10)
		v /= 10
	}
	return append(dst, buf[:width]...)
}

func appendDate(dst []byte, days int64) []byte {
	year, month, day := civil(days)
	dst = append(appendPadded(dst, year, 4), '-')
	dst = append(appendPadded(dst, month, 2), '-')
	return appendPadded(dst, day, 2)
}

func appendTimestamp(dst []byte, sec int64, nanos int32) []byte {
	days := sec / secondsPerDay
	if sec%secondsPerDay < 0 {
		days--
	}
	of := int(sec - days*secondsPerDay)
	dst = append(appendDate(dst, days), 'T')
	dst = append(appendPadded(dst, of/3600, 2), ':')
	dst = append(appendPadded(dst, of/60%60, 2), ':')
	dst = appendPadded(dst, of%60, 2)
	if nanos != 0 {
		dst = appendPadded(append(dst, '.'), int(nanos), 9)
		for dst[len(dst)-1] == '0' {
			dst = dst[:len(dst)-1]
		}
	}
	return append(dst, 'Z')
}

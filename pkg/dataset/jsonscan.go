package dataset

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxJSONDepth is how deeply arrays and objects may nest in one value.
const maxJSONDepth = 100

var errDepth = errors.New("nested deeper than " + strconv.Itoa(maxJSONDepth) + " levels")

// jsonScanner reads one JSON text (RFC 8259) from front to back. The text must
// be valid UTF-8.
type jsonScanner struct {
	s   string
	pos int
	// spaced is set once white space between tokens was skipped.
	spaced bool
}

func (sc *jsonScanner) skipSpace() {
	for sc.pos < len(sc.s) {
		switch sc.s[sc.pos] {
		case ' ', '\t', '\n', '\r':
			sc.pos++
			sc.spaced = true
		default:
			return
		}
	}
}

// peek returns the next byte, 0 at the end of the text.
func (sc *jsonScanner) peek() byte {
	if sc.pos < len(sc.s) {
		return sc.s[sc.pos]
	}
	return 0
}

func (sc *jsonScanner) errorf(expected string) error {
	if sc.pos >= len(sc.s) {
		return fmt.Errorf("expected %s, but the text ends at byte %d", expected, sc.pos+1)
	}
	r, _ := utf8.DecodeRuneInString(sc.s[sc.pos:])
	return fmt.Errorf("expected %s at byte %d, got %q", expected, sc.pos+1, r)
}

// rawString reads a string and returns what stands between its quotes, and
// whether that has escapes.
func (sc *jsonScanner) rawString() (raw string, escaped bool, err error) {
	if sc.peek() != '"' {
		return "", false, sc.errorf(`'"'`)
	}
	sc.pos++
	start := sc.pos
	for sc.pos < len(sc.s) {
		switch c := sc.s[sc.pos]; {
		case c == '"':
			raw = sc.s[start:sc.pos]
			sc.pos++
			return raw, escaped, nil
		case c == '\\':
			escaped = true
			if err := sc.escape(); err != nil {
				return "", false, err
			}
		case c < 0x20:
			return "", false, sc.errorf("an escaped control character")
		default:
			sc.pos++
		}
	}
	return "", false, sc.errorf(`the closing '"'`)
}

func (sc *jsonScanner) escape() error {
	sc.pos++
	switch sc.peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		sc.pos++
		return nil
	case 'u':
		sc.pos++
		for range 4 {
			if hexDigit(sc.peek()) < 0 {
				return sc.errorf("four hexadecimal digits")
			}
			sc.pos++
		}
		return nil
	}
	return sc.errorf("an escape that JSON knows")
}

func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// text reads a string and resolves its escapes.
func (sc *jsonScanner) text() (string, error) {
	raw, escaped, err := sc.rawString()
	if err != nil || !escaped {
		return raw, err
	}
	return unescapeJSON(raw), nil
}

// unescapeJSON resolves the escapes of a scanned string. Half a surrogate pair
// becomes U+FFFD, as encoding/json has it.
func unescapeJSON(raw string) string {
	var b strings.Builder
	b.Grow(len(raw))
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			b.WriteByte(raw[i])
			continue
		}
		i++
		switch raw[i] {
		case 'b':
			b.WriteByte('\b')
		case 'f':
			b.WriteByte('\f')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 't':
			b.WriteByte('\t')
		case 'u':
			r := hex4(raw[i+1:])
			i += 4
			if utf16.IsSurrogate(r) {
				pair := rune(utf8.RuneError)
				if strings.HasPrefix(raw[i+1:], `\u`) {
					pair = utf16.DecodeRune(r, hex4(raw[i+3:]))
				}
				if r = pair; r != utf8.RuneError {
					i += 6
				}
			}
			b.WriteRune(r)
		default:
			b.WriteByte(raw[i])
		}
	}
	return b.String()
}

func hex4(s string) rune {
	var r rune
	for i := range 4 {
		r = r<<4 | rune(hexDigit(s[i]))
	}
	return r
}

// number reads a number and returns its text, and whether it has neither
// fraction nor exponent.
func (sc *jsonScanner) number() (text string, integer bool, err error) {
	start := sc.pos
	if sc.peek() == '-' {
		sc.pos++
	}
	switch c := sc.peek(); {
	case c == '0':
		sc.pos++
	case c >= '1' && c <= '9':
		sc.skipDigits()
	default:
		return "", false, sc.errorf("a digit")
	}
	integer = true
	if sc.peek() == '.' {
		integer = false
		sc.pos++
		if !sc.skipDigits() {
			return "", false, sc.errorf("a digit")
		}
	}
	if sc.peek()|0x20 == 'e' {
		integer = false
		sc.pos++
		if c := sc.peek(); c == '+' || c == '-' {
			sc.pos++
		}
		if !sc.skipDigits() {
			return "", false, sc.errorf("a digit")
		}
	}
	return sc.s[start:sc.pos], integer, nil
}

func (sc *jsonScanner) skipDigits() bool {
	start := sc.pos
	for sc.pos < len(sc.s) && sc.s[sc.pos]-'0' <= 9 {
		sc.pos++
	}
	return sc.pos > start
}

func (sc *jsonScanner) literal(word string) error {
	if !strings.HasPrefix(sc.s[sc.pos:], word) {
		return sc.errorf("a JSON value")
	}
	sc.pos += len(word)
	return nil
}

// value reads over one value of any type and checks it; depth counts the
// arrays and objects around it.
func (sc *jsonScanner) value(depth int) (err error) {
	switch c := sc.peek(); c {
	case '"':
		_, _, err = sc.rawString()
	case 't':
		err = sc.literal("true")
	case 'f':
		err = sc.literal("false")
	case 'n':
		err = sc.literal("null")
	case '{', '[':
		if depth >= maxJSONDepth {
			return errDepth
		}
		err = sc.container(depth+1, c)
	default:
		if c != '-' && c-'0' > 9 {
			return sc.errorf("a JSON value")
		}
		_, _, err = sc.number()
	}
	return err
}

func (sc *jsonScanner) container(depth int, open byte) error {
	end := open + 2 // ']' and '}' stand two after their openers in ASCII.
	sc.pos++
	sc.skipSpace()
	if sc.peek() == end {
		sc.pos++
		return nil
	}
	for {
		if open == '{' {
			if _, _, err := sc.rawString(); err != nil {
				return err
			}
			if err := sc.colon(); err != nil {
				return err
			}
		}
		if err := sc.value(depth); err != nil {
			return err
		}
		more, err := sc.comma(end)
		if err != nil || !more {
			return err
		}
	}
}

// colon reads the ":" after a member's name, and the white space around it.
func (sc *jsonScanner) colon() error {
	sc.skipSpace()
	if sc.peek() != ':' {
		return sc.errorf("':'")
	}
	sc.pos++
	sc.skipSpace()
	return nil
}

// comma reads what follows an element: "," and more is true, or the end.
func (sc *jsonScanner) comma(end byte) (more bool, err error) {
	sc.skipSpace()
	switch sc.peek() {
	case ',':
		sc.pos++
		sc.skipSpace()
		return true, nil
	case end:
		sc.pos++
		return false, nil
	}
	return false, sc.errorf("',' or " + strconv.QuoteRune(rune(end)))
}

// compactJSON checks one JSON value and removes the white space between its tokens.
func compactJSON(text string) (string, bool) {
	if !utf8.ValidString(text) {
		return "", false
	}
	sc := jsonScanner{s: text}
	sc.skipSpace()
	start := sc.pos
	sc.spaced = false
	if sc.value(0) != nil {
		return "", false
	}
	end, spaced := sc.pos, sc.spaced
	sc.skipSpace()
	if sc.pos != len(text) {
		return "", false
	}
	if !spaced {
		return text[start:end], true
	}
	return stripSpace(text[start:end]), true
}

// stripSpace removes white space outside the strings of a valid JSON text.
func stripSpace(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	inString := false
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !inString && (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
			continue
		}
		b.WriteByte(c)
		switch {
		case c == '"':
			inString = !inString
		case c == '\\' && inString:
			i++
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// isJSONNumber reports whether the whole text is a number as JSON writes it.
func isJSONNumber(text string) bool {
	sc := jsonScanner{s: text}
	_, _, err := sc.number()
	return err == nil && sc.pos == len(text)
}

// exactInt returns the integer that a JSON number stands for, whichever way it
// is written ("1e3", "12.0"); ok is false when it is not integral or beyond int64.
func exactInt(text string) (n int64, ok bool) {
	mantissa, exponent := text, 0
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		mantissa = text[:i]
		e, err := strconv.Atoi(text[i+1:])
		if err != nil || e > 1<<30 || e < -1<<30 {
			// Beyond any integral int64, unless the mantissa is zero.
			e = 1 << 30
		}
		exponent = e
	}
	mantissa, negative := strings.CutPrefix(mantissa, "-")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	all := strings.TrimLeft(whole+fraction, "0")
	if all == "" {
		return 0, true
	}
	significant := strings.TrimRight(all, "0")
	zeros := exponent - len(fraction) + len(all) - len(significant)
	if zeros < 0 || len(significant)+zeros > 19 {
		return 0, false
	}
	sign := ""
	if negative {
		sign = "-"
	}
	n, err := strconv.ParseInt(sign+significant+strings.Repeat("0", zeros), 10, 64)
	return n, err == nil
}

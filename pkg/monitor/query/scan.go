package query

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxText is the length of the longest query, as it is given and in its canonical form.
const maxText = 16 << 10

// maxDepth is how deep parentheses may stand in each other.
const maxDepth = 50

// Fault is why a text is no query.
type Fault struct {
	Offset  int // of the byte at which reading stopped
	Message string
	Hint    string // what to do about it, or ""

	before int // characters before Offset
}

func (f *Fault) Error() string {
	text := fmt.Sprintf("at character %d of the query: %s", f.before+1, f.Message)
	if f.Hint != "" {
		text += "; " + f.Hint
	}
	return text
}

// scanner walks over a text. The parse functions return the first fault and stop there.
type scanner struct {
	text  string
	at    int
	depth int
}

func newScanner(text string) (*scanner, error) {
	s := &scanner{text: text}
	if len(text) > maxText {
		s.at = maxText
		return nil, s.fault(fmt.Sprintf("the text has %d bytes, and %d are the limit", len(text), maxText), "")
	}
	s.space()
	return s, nil
}

func (s *scanner) fault(message, hint string) error {
	return &Fault{Offset: s.at, Message: message, Hint: hint, before: utf8.RuneCountInString(s.text[:s.at])}
}

// expected is the fault that something else stands here.
func (s *scanner) expected(what, hint string) error {
	return s.fault(fmt.Sprintf("expected %s, found %s", what, s.here()), hint)
}

// here quotes what stands at the current place, for messages.
func (s *scanner) here() string {
	if s.at >= len(s.text) {
		return "the end"
	}
	rest := s.text[s.at:]
	n := 1
	if isWord(rest[0]) {
		for n < len(rest) && n < 40 && isWord(rest[n]) {
			n++
		}
	} else {
		for n < len(rest) && n < 4 && rest[n]&0xC0 == 0x80 {
			n++
		}
	}
	return strconv.Quote(rest[:n])
}

func (s *scanner) space() {
	for s.at < len(s.text) && strings.IndexByte(" \t\r\n", s.text[s.at]) >= 0 {
		s.at++
	}
}

func (s *scanner) peek() byte {
	if s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0
}

// take consumes a sign and the space after it, if it stands here.
func (s *scanner) take(sign string) bool {
	if !strings.HasPrefix(s.text[s.at:], sign) {
		return false
	}
	s.at += len(sign)
	s.space()
	return true
}

func (s *scanner) need(sign, hint string) error {
	if !s.take(sign) {
		return s.expected(strconv.Quote(sign), hint)
	}
	return nil
}

func (s *scanner) end() error {
	if s.at < len(s.text) {
		return s.expected("the end", "")
	}
	return nil
}

// enter and leave bound how deep the parser calls itself.
func (s *scanner) enter() error {
	if s.depth++; s.depth > maxDepth {
		return s.fault(fmt.Sprintf("more than %d parentheses stand in each other", maxDepth), "")
	}
	return nil
}

func (s *scanner) leave() { s.depth-- }

// word reads letters, digits, dots and underscores, the form of names of metrics and functions.
func (s *scanner) word() string {
	from := s.at
	for s.at < len(s.text) && isWord(s.text[s.at]) {
		s.at++
	}
	word := s.text[from:s.at]
	s.space()
	return word
}

// peekWord returns the word that stands here and leaves it there.
func (s *scanner) peekWord() string {
	at := s.at
	word := s.word()
	s.at = at
	return word
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isWord(c byte) bool { return isLetter(c) || isDigit(c) || c == '_' || c == '.' }

// digits consumes digits and tells whether there were any.
func (s *scanner) digits() bool {
	from := s.at
	for isDigit(s.peek()) {
		s.at++
	}
	return s.at > from
}

// number reads a number without a sign.
func (s *scanner) number() (float64, error) {
	from := s.at
	any := s.digits()
	if s.peek() == '.' {
		s.at++
		any = s.digits() || any
	}
	if !any {
		s.at = from
		return 0, s.expectedNumber()
	}
	if s.peek()|0x20 == 'e' {
		at := s.at
		s.at++
		if s.peek() == '+' || s.peek() == '-' {
			s.at++
		}
		if !s.digits() {
			s.at = at
		}
	}
	value, err := strconv.ParseFloat(s.text[from:s.at], 64)
	if err != nil || math.IsInf(value, 0) || isWord(s.peek()) {
		s.at = from
		return 0, s.expectedNumber()
	}
	s.space()
	return value, nil
}

func (s *scanner) expectedNumber() error {
	hint := ""
	if strings.HasPrefix(s.text[s.at:], "${") {
		hint = "a value is filled in before; is its name right?"
	}
	return s.expected("a number", hint)
}

// signed reads a number that may have a sign.
func (s *scanner) signed() (float64, error) {
	minus := s.take("-")
	value, err := s.number()
	if minus && value != 0 {
		value = -value
	}
	return value, err
}

// quoted reads a text in one of the kinds of quotes and returns what is between them.
func (s *scanner) quoted(quotes string) (string, error) {
	q := s.peek()
	if q == 0 || strings.IndexByte(quotes, q) < 0 {
		return "", s.expected("a text in quotes, "+quotes[:1]+"…"+quotes[:1], "")
	}
	n := strings.IndexByte(s.text[s.at+1:], q)
	if n < 0 {
		return "", s.fault("the quote that opens here is not closed", "")
	}
	inner := s.text[s.at+1 : s.at+1+n]
	if i := strings.IndexFunc(inner, func(r rune) bool { return r < ' ' || r == '"' || r == '\'' || r == '\\' }); i >= 0 {
		s.at += 1 + i
		return "", s.fault("a text in quotes cannot have quotes, backslashes or line breaks", "")
	}
	s.at += n + 2
	s.space()
	return inner, nil
}

// oneOf reads the first of signs that stands here; longer ones must come first.
func (s *scanner) oneOf(signs ...string) string {
	for _, sign := range signs {
		if s.take(sign) {
			return sign
		}
	}
	return ""
}

// comparison reads an operator of a threshold.
func (s *scanner) comparison(signs ...string) (string, error) {
	op := s.oneOf(signs...)
	if op == "" {
		return "", s.expected("a comparison ("+strings.Join(signs, ", ")+")", "")
	}
	return op, nil
}

// formatNumber writes a number in the shortest form that is read back as the same.
func formatNumber(v float64) string {
	if v == 0 {
		return "0"
	}
	if a := math.Abs(v); a < 1e-6 || a >= 1e21 {
		return strconv.FormatFloat(v, 'e', -1, 64)
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}

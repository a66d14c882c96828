package query

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	minute = time.Minute
	hour   = time.Hour
	day    = 24 * time.Hour
	week   = 7 * day
)

// Parse reads the query of a monitor of a type, such as "query alert". Queries of types that are not
// understood here become *Opaque. The error is a *Fault.
func Parse(kind, text string) (Query, error) {
	switch kind {
	case "query alert", "metric alert":
		return parseAll(text, (*scanner).metric)
	case "service check":
		return parseAll(text, (*scanner).check)
	case "composite":
		return parseAll(text, (*scanner).composite)
	case "slo alert":
		return parseAll(text, (*scanner).sloAlert)
	}
	return &Opaque{Text: strings.TrimSpace(text)}, nil
}

// ParseExpr reads an expression without window and threshold, as SLOs and dashboards have it. The error is a *Fault.
func ParseExpr(text string) (Expr, error) { return parseAll(text, (*scanner).expr) }

// ParseSeries reads a single series. The error is a *Fault.
func ParseSeries(text string) (*Series, error) { return parseAll(text, (*scanner).series) }

// parseAll reads the whole text. The canonical form is held to the same limits, so that it can always
// be read again.
func parseAll[T fmt.Stringer](text string, parse func(*scanner) (T, error)) (T, error) {
	var none T
	s, err := newScanner(text)
	if err != nil {
		return none, err
	}
	parsed, err := parse(s)
	if err == nil {
		err = s.end()
	}
	if err != nil {
		return none, err
	}
	canonical := parsed.String()
	if len(canonical) > maxText {
		return none, &Fault{Message: fmt.Sprintf("the query has %d bytes when it is written out, and %d are the limit", len(canonical), maxText)}
	}
	if nesting(canonical) > maxDepth {
		return none, &Fault{Message: fmt.Sprintf("more than %d parentheses stand in each other", maxDepth)}
	}
	return parsed, nil
}

// nesting counts how deep parentheses stand in each other.
func nesting(text string) int {
	depth, most := 0, 0
	for i := range len(text) {
		switch text[i] {
		case '(':
			depth++
			most = max(most, depth)
		case ')':
			depth--
		}
	}
	return most
}

// metric reads avg(last_5m):EXPR > 3, with change(avg(last_5m),last_5m) in front for a change.
func (s *scanner) metric() (Query, error) {
	m := &Metric{}
	if name := s.peekWord(); name == "change" || name == "pct_change" {
		s.word()
		m.Change = &Change{Percent: name == "pct_change"}
		if err := s.need("(", "a change is change(avg(last_5m),last_5m):EXPRESSION > THRESHOLD"); err != nil {
			return nil, err
		}
	}
	if err := s.window(m); err != nil {
		return nil, err
	}
	if m.Change != nil {
		if err := s.shift(m.Change); err != nil {
			return nil, err
		}
	}
	if err := s.need(":", "a monitor's query is AGGREGATE(WINDOW):EXPRESSION > THRESHOLD"); err != nil {
		return nil, err
	}
	var err error
	if m.Expr, err = s.expr(); err != nil {
		return nil, err
	}
	if m.Op, err = s.comparison(">=", "<=", "==", "!=", ">", "<"); err != nil {
		return nil, err
	}
	if s.peekWord() == "threshold" {
		return nil, s.fault("thresholds that are queries are not supported", "write a number")
	}
	m.Threshold, err = s.signed()
	return m, err
}

// window reads avg(last_5m).
func (s *scanner) window(m *Metric) error {
	name := s.peekWord()
	if !slices.Contains([]string{"avg", "sum", "min", "max", "percentile"}, name) && !isPercentile(name) {
		return s.expected("how the window is aggregated (avg, sum, min, max or a percentile such as p95)",
			"a monitor's query is AGGREGATE(WINDOW):EXPRESSION > THRESHOLD")
	}
	m.Aggregate = s.word()
	if err := s.need("(", "the window follows, such as "+name+"(last_5m)"); err != nil {
		return err
	}
	from := s.at
	text, ok := strings.CutPrefix(s.word(), "last_")
	if m.Window = duration(text); !ok || m.Window < minute || m.Window > week {
		s.at = from
		return s.expected("a window from last_1m to last_1w", "such as last_5m, last_4h or last_1d")
	}
	return s.need(")", "")
}

// shift reads the second part of a change: ,last_5m) or ,5m_ago).
func (s *scanner) shift(c *Change) error {
	if err := s.need(",", "how long ago it was that the change is from follows, such as last_5m"); err != nil {
		return err
	}
	from := s.at
	text, last := strings.CutPrefix(s.word(), "last_")
	text, ago := strings.CutSuffix(text, "_ago")
	if c.Shift = duration(text); last == ago || c.Shift < minute || c.Shift > week {
		s.at = from
		return s.expected("a time ago from last_1m to last_1w", "such as last_5m or 1h_ago")
	}
	return s.need(")", "")
}

// duration reads 5m, 4h, 2d or 1w; anything else is 0.
func duration(text string) time.Duration {
	if len(text) < 2 || len(text) > 6 {
		return 0
	}
	unit, ok := map[byte]time.Duration{'m': minute, 'h': hour, 'd': day, 'w': week}[text[len(text)-1]]
	n, err := strconv.ParseUint(text[:len(text)-1], 10, 32)
	if !ok || err != nil {
		return 0
	}
	return time.Duration(n) * unit
}

// formatDuration writes a whole number of minutes as Datadog does: days only up to two, and a week.
func formatDuration(d time.Duration) string {
	switch {
	case d == week:
		return "1w"
	case d == day || d == 2*day:
		return strconv.Itoa(int(d/day)) + "d"
	case d%hour == 0:
		return strconv.Itoa(int(d/hour)) + "h"
	}
	return strconv.Itoa(int(d/minute)) + "m"
}

// isPercentile knows p50, p95, p99.9.
func isPercentile(name string) bool {
	digits, ok := strings.CutPrefix(name, "p")
	if !ok || digits == "" || !isDigit(digits[0]) || !isDigit(digits[len(digits)-1]) {
		return false
	}
	v, err := strconv.ParseFloat(digits, 64)
	return err == nil && v > 0 && v < 100 && len(digits) <= 6 && strings.Trim(digits, "0123456789.") == ""
}

// expr reads a sum of products.
func (s *scanner) expr() (Expr, error) {
	left, err := s.product()
	for err == nil {
		op := s.oneOf("+", "-")
		if op == "" {
			return left, nil
		}
		var right Expr
		right, err = s.product()
		left = &Binary{Op: op[0], Left: left, Right: right}
	}
	return nil, err
}

func (s *scanner) product() (Expr, error) {
	left, err := s.unary()
	for err == nil {
		op := s.oneOf("*", "/")
		if op == "" {
			return left, nil
		}
		var right Expr
		right, err = s.unary()
		left = &Binary{Op: op[0], Left: left, Right: right}
	}
	return nil, err
}

// unary reads any number of minus signs and what they stand before. Two of them are none.
func (s *scanner) unary() (Expr, error) {
	minus := false
	for s.take("-") {
		minus = !minus
	}
	e, err := s.primary()
	if err != nil || !minus {
		return e, err
	}
	switch of := e.(type) {
	case *Number:
		if of.Value != 0 {
			return &Number{Value: -of.Value}, nil
		}
		return of, nil
	case *Negate:
		return of.Of, nil
	}
	return &Negate{Of: e}, nil
}

func (s *scanner) primary() (Expr, error) {
	c := s.peek()
	switch {
	case c == '(':
		return s.parenthesis()
	case isDigit(c) || c == '.':
		value, err := s.number()
		return &Number{Value: value}, err
	case !isLetter(c):
		return nil, s.expected("a series, a function, a number or a parenthesis", "a series is AGGREGATE:METRIC{FILTER}")
	}
	from := s.at
	name := s.word()
	if s.peek() == '(' && name != "count" {
		return s.call(name, from)
	}
	s.at = from
	return s.series()
}

func (s *scanner) parenthesis() (Expr, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	s.take("(")
	e, err := s.expr()
	if err != nil {
		return nil, err
	}
	return e, s.need(")", "a parenthesis is not closed")
}

// call reads (ARG, …) after the name of a function: first expressions, then words.
func (s *scanner) call(name string, from int) (Expr, error) {
	if near := nearFunction(name); near != "" {
		s.at = from
		return nil, s.fault(fmt.Sprintf("there is no function %q", name), fmt.Sprintf("did you mean %q?", near))
	}
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	s.take("(")
	c := &Call{Name: name}
	for {
		at := s.at
		if word := s.argument(len(c.Args) == 0); word != "" {
			c.Words = append(c.Words, word)
		} else {
			e, err := s.expr()
			if err != nil {
				return nil, err
			}
			if len(c.Words) > 0 {
				s.at = at
				return nil, s.fault("expressions stand before the other arguments of a function", "")
			}
			c.Args = append(c.Args, e)
		}
		if s.take(")") {
			return c, nil
		}
		if err := s.need(",", "or a ) that ends the arguments of "+name); err != nil {
			return nil, err
		}
	}
}

// argument reads an argument that is no expression, or returns "" and stays where it is: a text in
// quotes, NAME=VALUE, and unless it is the first one, a number.
func (s *scanner) argument(first bool) string {
	from := s.at
	word := ""
	switch c := s.peek(); {
	case c == '\'' || c == '"':
		word = s.literal()
	case isLetter(c):
		name := s.word()
		if s.take("=") {
			if value := s.literal(); value != "" {
				word = name + "=" + value
			}
		}
	case !first:
		word = s.literal()
	}
	if word != "" && (s.peek() == ',' || s.peek() == ')') {
		return word
	}
	s.at = from
	return ""
}

// literal reads a text in quotes, a number or a name, and returns it as it is written; "" if there is none.
func (s *scanner) literal() string {
	from := s.at
	switch c := s.peek(); {
	case c == '\'' || c == '"':
		inner, err := s.quoted("'\"")
		if err != nil {
			return ""
		}
		return string(c) + inner + string(c)
	case isLetter(c):
		return s.word()
	}
	value, err := s.signed()
	if err != nil {
		s.at = from
		return ""
	}
	return formatNumber(value)
}

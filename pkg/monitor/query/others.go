package query

import (
	"fmt"
	"strings"
	"time"
)

// check reads "name".over("tag:value").by("tag").last(4).count_by_status(); the parts may stand in any order.
func (s *scanner) check() (Query, error) {
	const shape = `a service check is "NAME".over("TAG:VALUE").by("TAG").last(4).count_by_status()`
	c := &Check{}
	var err error
	if c.Name, err = s.quoted(`"'`); err != nil {
		return nil, err
	}
	if c.Name == "" {
		return nil, s.fault("the check has no name", shape)
	}
	seen := map[string]bool{}
	for {
		if err := s.need(".", shape); err != nil {
			return nil, err
		}
		from := s.at
		part := s.word()
		if seen[part] {
			s.at = from
			return nil, s.fault(fmt.Sprintf("%s stands here twice", part), shape)
		}
		seen[part] = true
		switch part {
		case "over":
			c.Over, err = s.list()
		case "exclude":
			c.Exclude, err = s.list()
		case "by":
			c.By, err = s.list()
		case "last":
			err = s.last(c)
		case "count_by_status":
			return s.checkEnd(c, shape)
		default:
			s.at = from
			err = s.expected("over, exclude, by, last or count_by_status", shape)
		}
		if err != nil {
			return nil, err
		}
	}
}

// checkEnd reads the () of count_by_status and checks that all parts were there.
func (s *scanner) checkEnd(c *Check, shape string) (Query, error) {
	switch {
	case c.Over == nil:
		return nil, s.fault("over is missing", `write .over("*") for everything`)
	case c.Last == 0:
		return nil, s.fault("last is missing", shape)
	}
	if err := s.need("(", shape); err != nil {
		return nil, err
	}
	return c, s.need(")", shape)
}

// list reads ("a", "b").
func (s *scanner) list() ([]string, error) {
	if err := s.need("(", ""); err != nil {
		return nil, err
	}
	var list []string
	for {
		from := s.at
		one, err := s.quoted(`"'`)
		if err != nil {
			return nil, err
		}
		if strings.TrimSpace(one) != one || one == "" {
			s.at = from
			return nil, s.expected("a tag without spaces around it", "")
		}
		list = append(list, one)
		if s.take(")") {
			return list, nil
		}
		if err := s.need(",", ""); err != nil {
			return nil, err
		}
	}
}

// last reads how many statuses of a check are looked at.
func (s *scanner) last(c *Check) error {
	if err := s.need("(", ""); err != nil {
		return err
	}
	from := s.at
	n, err := s.number()
	if err != nil || n < 1 || n > 100 || n != float64(int(n)) {
		s.at = from
		return s.expected("a whole number from 1 to 100", "")
	}
	c.Last = int(n)
	return s.need(")", "")
}

// composite reads conditions on other monitors.
func (s *scanner) composite() (Query, error) {
	logic, err := s.or()
	return &Composite{Expr: logic}, err
}

func (s *scanner) or() (Logic, error) {
	left, err := s.and()
	for err == nil && s.take("||") {
		var right Logic
		right, err = s.and()
		left = &Or{Left: left, Right: right}
	}
	return left, err
}

func (s *scanner) and() (Logic, error) {
	left, err := s.not()
	for err == nil && s.take("&&") {
		var right Logic
		right, err = s.not()
		left = &And{Left: left, Right: right}
	}
	return left, err
}

// not reads an operand with any number of ! before it. Two of them are none.
func (s *scanner) not() (Logic, error) {
	not := false
	for s.take("!") {
		not = !not
	}
	of, err := s.operand()
	if err != nil || !not {
		return of, err
	}
	if inner, ok := of.(*Not); ok {
		return inner.Of, nil
	}
	return &Not{Of: of}, nil
}

func (s *scanner) operand() (Logic, error) {
	if s.peek() == '(' {
		if err := s.enter(); err != nil {
			return nil, err
		}
		defer s.leave()
		s.take("(")
		logic, err := s.or()
		if err != nil {
			return nil, err
		}
		return logic, s.need(")", "a parenthesis is not closed")
	}
	if s.peek() == '$' {
		ref, err := s.reference("monitor")
		return &Operand{ID: ref}, err
	}
	from := s.at
	if !s.digits() || isWord(s.peek()) || s.at-from > 20 {
		s.at = from
		return nil, s.expected("the number of a monitor or ${ref:monitor.NAME}", "conditions are joined by &&, || and !")
	}
	id := s.text[from:s.at]
	s.space()
	return &Operand{ID: id}, nil
}

// reference reads ${ref:KIND.NAME} and returns it as it is written.
func (s *scanner) reference(kind string) (string, error) {
	from := s.at
	open := "${ref:" + kind + "."
	if strings.HasPrefix(s.text[s.at:], open) {
		s.at += len(open)
		n := 0
		for c := s.peek(); isWord(c) || c == '-'; c = s.peek() {
			s.at++
			n++
		}
		if n > 0 && s.peek() == '}' {
			s.at++
			ref := s.text[from:s.at]
			s.space()
			return ref, nil
		}
	}
	s.at = from
	return "", s.expected("a reference ${ref:"+kind+".NAME}", "")
}

// sloAlert reads error_budget("id").over("30d") > 75 or burn_rate("id").over("30d").long_window("1h").short_window("5m") > 14.4.
func (s *scanner) sloAlert() (Query, error) {
	const hint = `an SLO alert is error_budget("ID").over("30d") > 75 or burn_rate("ID").over("30d").long_window("1h").short_window("5m") > 14.4`
	name := s.peekWord()
	if name != "error_budget" && name != "burn_rate" {
		return nil, s.expected("error_budget or burn_rate", hint)
	}
	a := &SLOAlert{}
	var err error
	if a.ID, err = s.sloID(); err != nil {
		return nil, err
	}
	if a.Over, err = s.part("over", hint); err != nil {
		return nil, err
	}
	if a.Over != "7d" && a.Over != "30d" && a.Over != "90d" {
		return nil, s.fault(fmt.Sprintf("the SLO is watched over 7d, 30d or 90d, not %q", a.Over), "")
	}
	if name == "burn_rate" {
		if err := s.windows(a, hint); err != nil {
			return nil, err
		}
	}
	if a.Op, err = s.comparison(">=", ">"); err != nil {
		return nil, err
	}
	a.Threshold, err = s.signed()
	return a, err
}

func (s *scanner) sloID() (string, error) {
	s.word()
	if err := s.need("(", ""); err != nil {
		return "", err
	}
	q := s.peek()
	from := s.at
	id, err := s.quoted(`"'`)
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(id, "$") {
		inner := &scanner{text: id}
		if ref, err := inner.reference("slo"); err != nil || ref != id {
			s.at = from
			return "", s.fault(fmt.Sprintf("expected a reference ${ref:slo.NAME}, found %c%s%c", q, id, q), "")
		}
	} else if id == "" || len(id) > 64 || strings.Trim(strings.ToLower(id), "0123456789abcdefghijklmnopqrstuvwxyz-_") != "" {
		s.at = from
		return "", s.fault("expected the id of an SLO or ${ref:slo.NAME}", "")
	}
	return id, s.need(")", "")
}

// part reads .name("value").
func (s *scanner) part(name, hint string) (string, error) {
	if err := s.need(".", hint); err != nil {
		return "", err
	}
	if s.peekWord() != name {
		return "", s.expected(name, hint)
	}
	s.word()
	if err := s.need("(", hint); err != nil {
		return "", err
	}
	value, err := s.quoted(`"'`)
	if err != nil {
		return "", err
	}
	return value, s.need(")", hint)
}

// windows reads the two windows of a burn rate and checks that Datadog takes them.
func (s *scanner) windows(a *SLOAlert, hint string) error {
	for _, w := range []struct {
		name string
		to   *time.Duration
	}{{"long_window", &a.LongWindow}, {"short_window", &a.ShortWindow}} {
		from := s.at
		text, err := s.part(w.name, hint)
		if err != nil {
			return err
		}
		if *w.to = duration(text); *w.to < minute {
			s.at = from
			return s.fault(fmt.Sprintf("expected a time such as 1h or 5m for %s, found %q", w.name, text), "")
		}
	}
	if a.LongWindow < hour || a.LongWindow > 48*hour {
		return s.fault(fmt.Sprintf("the long window is %s; Datadog takes 1h to 48h", formatDuration(a.LongWindow)), "")
	}
	if a.ShortWindow >= a.LongWindow {
		return s.fault("the short window is not shorter than the long one", "a twelfth of it is usual")
	}
	return nil
}

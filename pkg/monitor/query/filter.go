package query

import (
	"strings"
)

// filter reads {…}: {*}, tags joined by commas, or a condition of AND, OR, NOT and IN.
func (s *scanner) filter() ([]Matcher, error) {
	if err := s.need("{", "which tags it is about follows, {*} for all"); err != nil {
		return nil, err
	}
	from := s.at
	if s.tag() == "*" {
		return nil, s.need("}", "* stands alone")
	}
	s.at = from
	if s.peek() == '}' {
		return nil, s.expected("a tag", "write {*} for all")
	}
	f := filterScanner{scanner: s}
	matchers, err := f.anyOf()
	if err != nil {
		return nil, err
	}
	if f.symbols && f.words {
		s.at = from
		return nil, s.fault("the filter has both signs (, and !) and words (AND, OR, NOT, IN), which Datadog refuses", "write it with words alone")
	}
	return matchers, s.need("}", "tags are joined by a comma, AND or OR")
}

// filterScanner notes which of the two ways to write a filter is used.
type filterScanner struct {
	*scanner
	symbols, words bool
}

// symbol consumes one of , and !.
func (s *filterScanner) symbol(sign string) bool {
	taken := s.take(sign)
	s.symbols = s.symbols || taken
	return taken
}

// keyword consumes a word of the language of filters, in any case.
func (s *filterScanner) keyword(word string) bool {
	from := s.at
	if strings.EqualFold(s.tag(), word) {
		s.words = true
		return true
	}
	s.at = from
	return false
}

// anyOf reads alternatives. One alternative is what it holds; more become one matcher.
func (s *filterScanner) anyOf() ([]Matcher, error) {
	var any [][]Matcher
	for {
		all, err := s.allOf()
		if err != nil {
			return nil, err
		}
		if len(all) == 1 && all[0].Any != nil && !all[0].Not {
			any = append(any, all[0].Any...) // (a OR b) OR c
		} else {
			any = append(any, all)
		}
		if s.keyword("OR") {
			continue
		}
		if len(any) == 1 {
			return any[0], nil
		}
		return []Matcher{{Any: any}}, nil
	}
}

// allOf reads conditions that hold together.
func (s *filterScanner) allOf() ([]Matcher, error) {
	var all []Matcher
	for {
		some, err := s.condition()
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
		if !s.symbol(",") && !s.keyword("AND") {
			return all, nil
		}
	}
}

// condition reads a tag, a tag IN (values), a parenthesis, or one of them with NOT or ! before it.
func (s *filterScanner) condition() ([]Matcher, error) {
	not := false
	for s.symbol("!") || s.keyword("NOT") {
		not = !not
	}
	var of []Matcher
	var err error
	if s.peek() == '(' {
		if err := s.enter(); err != nil {
			return nil, err
		}
		defer s.leave()
		s.take("(")
		if of, err = s.anyOf(); err == nil {
			err = s.need(")", "a parenthesis is not closed")
		}
	} else {
		of, err = s.matcher()
	}
	switch {
	case err != nil:
		return nil, err
	case !not:
		return of, nil
	case len(of) == 1:
		of[0].Not = !of[0].Not
		if all := of[0].Any; !of[0].Not && len(all) == 1 {
			return all[0], nil
		}
		return of, nil
	}
	return []Matcher{{Not: true, Any: [][]Matcher{of}}}, nil
}

// matcher reads key:value, a bare tag, or key IN (value, value).
func (s *filterScanner) matcher() ([]Matcher, error) {
	from := s.at
	tag := s.tag()
	if tag == "" || tag == "*" || isKeyword(tag) {
		s.at = from
		return nil, s.expected("a tag", "such as env:prod")
	}
	key, value, ok := strings.Cut(tag, ":")
	if ok && (key == "" || value == "") {
		s.at = from
		return nil, s.expected("a tag with its value", "such as env:prod")
	}
	if ok {
		return []Matcher{{Key: key, Value: value}}, nil
	}
	not := s.keyword("NOT")
	if s.keyword("IN") {
		return s.in(tag, not)
	}
	if not {
		return nil, s.expected("IN", "such as env NOT IN (test,dev)")
	}
	return []Matcher{{Value: tag}}, nil
}

// in reads (value, value).
func (s *filterScanner) in(key string, not bool) ([]Matcher, error) {
	if err := s.need("(", "the values follow, such as env IN (test,dev)"); err != nil {
		return nil, err
	}
	var any [][]Matcher
	for {
		value := s.tag()
		if value == "" {
			return nil, s.expected("a value of "+key, "")
		}
		any = append(any, []Matcher{{Key: key, Value: value}})
		if s.take(")") {
			break
		}
		if err := s.need(",", "or a ) that ends the values of "+key); err != nil {
			return nil, err
		}
	}
	if len(any) == 1 {
		any[0][0].Not = not
		return any[0], nil
	}
	return []Matcher{{Not: not, Any: any}}, nil
}

// tag reads up to the next separator. Tags may hold letters of any language.
func (s *scanner) tag() string {
	from := s.at
	for s.at < len(s.text) && strings.IndexByte(",{}()!\"' \t\r\n", s.text[s.at]) < 0 {
		s.at++
	}
	tag := s.text[from:s.at]
	s.space()
	return tag
}

// isKeyword tells whether a bare tag would be read as part of the language.
func isKeyword(tag string) bool {
	switch strings.ToUpper(tag) {
	case "AND", "OR", "NOT", "IN":
		return true
	}
	return false
}

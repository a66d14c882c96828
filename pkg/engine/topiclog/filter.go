package topiclog

import (
	"fmt"
	"strconv"
	"strings"
)

// maxFilterBytes is the service's limit; it also bounds the parser's depth.
const maxFilterBytes = 256

// matcher decides over the attributes of a message.
type matcher func(attrs map[string]string) bool

// parseFilter compiles an expression of the Pub/Sub filter language:
//
//	attributes:key                     the attribute exists
//	attributes.key = "v"  !=  "v"      a missing attribute is unequal
//	hasPrefix(attributes.key, "v")
//	NOT x, -x, x AND y, x OR y, (x)
//
// A key that is not made of letters, digits, "_" and "-" is written in quotes.
// Mixing AND with OR needs parentheses, as in the service. An empty filter
// returns a nil matcher: everything matches.
func parseFilter(src string) (matcher, error) {
	if src == "" {
		return nil, nil
	}
	if len(src) > maxFilterBytes {
		return nil, fmt.Errorf("the filter has %d bytes, the limit is %d", len(src), maxFilterBytes)
	}
	p := &filterParser{src: src}
	p.next()
	m, err := p.expression()
	if err != nil {
		return nil, err
	}
	if p.tok != "" {
		return nil, p.errorf("end of the filter")
	}
	return m, nil
}

// filterParser is a recursive descent parser with one token of lookahead. tok
// is "" at the end; a bad byte is a token that nothing accepts.
type filterParser struct {
	src string
	pos int // behind tok
	tok string
}

func (p *filterParser) errorf(want string) error {
	got := "the end"
	if p.tok != "" {
		got = strconv.Quote(p.tok)
	}
	return fmt.Errorf("filter %q at byte %d: found %s, want %s", p.src, p.pos-len(p.tok), got, want)
}

func (p *filterParser) next() {
	for p.pos < len(p.src) && strings.IndexByte(" \t\r\n", p.src[p.pos]) >= 0 {
		p.pos++
	}
	start := p.pos
	switch {
	case start == len(p.src):
	case p.src[start] == '"':
		p.pos = stringEnd(p.src, start)
	case strings.HasPrefix(p.src[start:], "!="):
		p.pos += 2
	case isKeyByte(p.src[start]) && p.src[start] != '-':
		for p.pos < len(p.src) && isKeyByte(p.src[p.pos]) {
			p.pos++
		}
	default:
		p.pos++
	}
	p.tok = p.src[start:p.pos]
}

// stringEnd returns the offset behind the string literal that begins at start.
func stringEnd(src string, start int) int {
	for i := start + 1; i < len(src); i++ {
		switch src[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(src)
}

func isKeyByte(c byte) bool {
	return c == '_' || c == '-' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

func (p *filterParser) accept(tok string) error {
	if p.tok != tok {
		return p.errorf(strconv.Quote(tok))
	}
	p.next()
	return nil
}

func (p *filterParser) expression() (matcher, error) {
	first, err := p.unary()
	if err != nil {
		return nil, err
	}
	op, terms := p.tok, []matcher{first}
	if op != "AND" && op != "OR" {
		return first, nil
	}
	for p.tok == "AND" || p.tok == "OR" {
		if p.tok != op {
			return nil, p.errorf("parentheses, to combine AND with OR")
		}
		p.next()
		m, err := p.unary()
		if err != nil {
			return nil, err
		}
		terms = append(terms, m)
	}
	all := op == "AND"
	return func(attrs map[string]string) bool {
		for _, m := range terms {
			if m(attrs) != all {
				return !all
			}
		}
		return all
	}, nil
}

func (p *filterParser) unary() (matcher, error) {
	switch p.tok {
	case "NOT", "-":
		p.next()
		m, err := p.unary()
		if err != nil {
			return nil, err
		}
		return func(attrs map[string]string) bool { return !m(attrs) }, nil
	case "(":
		p.next()
		m, err := p.expression()
		if err != nil {
			return nil, err
		}
		return m, p.accept(")")
	case "hasPrefix":
		p.next()
		return p.hasPrefix()
	case "attributes":
		p.next()
		return p.comparison()
	}
	return nil, p.errorf(`"attributes", "hasPrefix", "NOT" or "("`)
}

func (p *filterParser) comparison() (matcher, error) {
	if p.tok == ":" {
		p.next()
		key, err := p.key()
		if err != nil {
			return nil, err
		}
		return func(attrs map[string]string) bool { _, ok := attrs[key]; return ok }, nil
	}
	if err := p.accept("."); err != nil {
		return nil, p.errorf(`":" or "."`)
	}
	key, err := p.key()
	if err != nil {
		return nil, err
	}
	op := p.tok
	if op != "=" && op != "!=" {
		return nil, p.errorf(`"=" or "!="`)
	}
	p.next()
	val, err := p.literal()
	if err != nil {
		return nil, err
	}
	return func(attrs map[string]string) bool {
		got, ok := attrs[key]
		return (ok && got == val) == (op == "=")
	}, nil
}

func (p *filterParser) hasPrefix() (matcher, error) {
	for _, tok := range []string{"(", "attributes", "."} {
		if err := p.accept(tok); err != nil {
			return nil, err
		}
	}
	key, err := p.key()
	if err != nil {
		return nil, err
	}
	if err := p.accept(","); err != nil {
		return nil, err
	}
	prefix, err := p.literal()
	if err != nil {
		return nil, err
	}
	return func(attrs map[string]string) bool {
		got, ok := attrs[key]
		return ok && strings.HasPrefix(got, prefix)
	}, p.accept(")")
}

func (p *filterParser) key() (string, error) {
	if strings.HasPrefix(p.tok, `"`) {
		return p.literal()
	}
	if p.tok == "" || !isKeyByte(p.tok[0]) || p.tok == "-" {
		return "", p.errorf("an attribute key")
	}
	key := p.tok
	p.next()
	return key, nil
}

func (p *filterParser) literal() (string, error) {
	if !strings.HasPrefix(p.tok, `"`) {
		return "", p.errorf("a quoted string")
	}
	s, err := strconv.Unquote(p.tok)
	if err != nil {
		return "", p.errorf("a well-formed quoted string")
	}
	p.next()
	return s, nil
}

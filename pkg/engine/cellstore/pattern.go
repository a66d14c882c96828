package cellstore

import (
	"bytes"
	"errors"

	"rsc.io/binaryregexp"
	"rsc.io/binaryregexp/syntax"
)

// pattern matches a whole byte string against an RE2 expression, in which, as in
// Bigtable, every byte counts for itself.
type pattern struct {
	literals [][]byte // any of them, when re is nil
	re       *binaryregexp.Regexp
}

// maxPatternNodes bounds the size of a compiled expression: counted repetition
// makes short expressions large.
const maxPatternNodes = 50_000

// metaCharacters are those besides "|", which separates alternatives.
const metaCharacters = `\.+*?()[]{}^$`

func newPattern(expr []byte) (pattern, error) {
	if !bytes.ContainsAny(expr, metaCharacters) {
		return pattern{literals: bytes.Split(expr, []byte("|"))}, nil
	}
	src := rewritePattern(expr)
	// Parsed on its own first, so that "a)|(b" is the error it should be.
	tree, err := syntax.Parse(src, syntax.Perl)
	if err != nil {
		return pattern{}, err
	}
	if patternNodes(tree) > maxPatternNodes {
		return pattern{}, errors.New("the expression is too large")
	}
	re, err := binaryregexp.Compile(`\A(?:` + src + `)\z`)
	if err != nil {
		return pattern{}, err
	}
	return pattern{re: re}, nil
}

func (p pattern) match(b []byte) bool {
	if p.re == nil {
		for _, literal := range p.literals {
			if bytes.Equal(literal, b) {
				return true
			}
		}
		return false
	}
	return p.re.Match(b)
}

// matchString is match without a copy of the string.
func (p pattern) matchString(s string) bool {
	if p.re != nil {
		return p.re.MatchString(s)
	}
	for _, literal := range p.literals {
		if string(literal) == s {
			return true
		}
	}
	return false
}

// rewritePattern puts an RE2 expression into the syntax of package binaryregexp:
// bytes above 127 become \x escapes, \Q...\E becomes single escapes, and \C,
// any byte, is spelled out.
func rewritePattern(expr []byte) string {
	var out bytes.Buffer
	quoted := false
	for i := 0; i < len(expr); i++ {
		c := expr[i]
		var next byte
		if c == '\\' && i+1 < len(expr) {
			next = expr[i+1]
		}
		switch {
		case c >= 0x80:
			writeHex(&out, c)
		case quoted && next == 'E':
			quoted = false
			i++
		case quoted:
			if bytes.IndexByte([]byte(metaCharacters), c) >= 0 {
				out.WriteByte('\\')
			}
			out.WriteByte(c)
		case next == 'Q':
			quoted = true
			i++
		case next == 'C':
			out.WriteString(`(?s:.)`)
			i++
		case next >= 0x80:
			// An escaped byte stands for itself; the loop writes it.
		case next != 0:
			out.WriteByte(c)
			out.WriteByte(next)
			i++
		default:
			out.WriteByte(c)
		}
	}
	return out.String()
}

func writeHex(out *bytes.Buffer, c byte) {
	const digits = "0123456789abcdef"
	out.WriteString(`\x`)
	out.WriteByte(digits[c>>4])
	out.WriteByte(digits[c&15])
}

// patternNodes estimates how many instructions an expression compiles to.
func patternNodes(re *syntax.Regexp) int {
	n := 1 + len(re.Rune)
	for _, sub := range re.Sub {
		if n += patternNodes(sub); n > maxPatternNodes {
			return n
		}
	}
	if re.Op == syntax.OpRepeat {
		n *= max(1, re.Min, re.Max)
	}
	return n
}

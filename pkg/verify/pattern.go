package verify

import (
	"math/rand/v2"
	"regexp/syntax"
	"strings"
)

// matching makes a string that the pattern accepts; Decode has the last word.
func matching(pattern string) (string, error) {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	generate(&b, re.Simplify(), 0)
	return b.String(), nil
}

const (
	maxPatternDepth = 50
	maxRepeats      = 3
)

func generate(b *strings.Builder, re *syntax.Regexp, depth int) {
	if depth > maxPatternDepth {
		return
	}
	switch re.Op {
	case syntax.OpLiteral:
		b.WriteString(string(re.Rune))
	case syntax.OpCharClass:
		b.WriteRune(pick(re.Rune))
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		b.WriteRune('a' + rune(rand.IntN(26)))
	case syntax.OpCapture, syntax.OpConcat:
		for _, sub := range re.Sub {
			generate(b, sub, depth+1)
		}
	case syntax.OpAlternate:
		generate(b, re.Sub[rand.IntN(len(re.Sub))], depth+1)
	case syntax.OpStar, syntax.OpPlus, syntax.OpQuest, syntax.OpRepeat:
		for range repeats(re) {
			generate(b, re.Sub[0], depth+1)
		}
	}
}

func repeats(re *syntax.Regexp) int {
	lo, hi := 1, maxRepeats
	switch re.Op {
	case syntax.OpQuest:
		hi = 1
	case syntax.OpRepeat:
		lo = re.Min
		if hi = re.Max; hi < 0 {
			hi = lo + maxRepeats
		}
	}
	return lo + rand.IntN(hi-lo+1)
}

// pick prefers a printable ASCII character of the class, because row ids then stay readable.
func pick(ranges []rune) rune {
	var ascii []rune
	for i := 0; i < len(ranges); i += 2 {
		for c := max(ranges[i], '!'); c <= min(ranges[i+1], '~'); c++ {
			ascii = append(ascii, c)
		}
	}
	if len(ascii) > 0 {
		return ascii[rand.IntN(len(ascii))]
	}
	return ranges[0]
}

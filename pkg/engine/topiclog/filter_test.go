package topiclog

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestFilter(t *testing.T) {
	t.Parallel()
	attrs := map[string]string{
		"lang": "en", "name": "com", "quote": `say "hi"`, "ce-type": "a.b", "iana.org/tag": "x", "みんな": "all", "empty": "", "under_score": "1",
	}
	for _, c := range []struct {
		filter string
		want   bool
	}{
		{``, true},
		{`attributes:lang`, true},
		{`attributes:"lang"`, true},
		{`attributes:missing`, false},
		{`attributes : lang`, true},
		{`attributes.name = "com"`, true},
		{`attributes.name="com"`, true},
		{`attributes.name = "net"`, false},
		{`attributes.name != "net"`, true},
		{`attributes.missing != "net"`, true},
		{`attributes.missing = ""`, false},
		{`attributes.empty = ""`, true},
		{`attributes."iana.org/tag" = "x"`, true},
		{`attributes:"iana.org/tag"`, true},
		{`attributes:"みんな"`, true},
		{`attributes.ce-type = "a.b"`, true},
		{`attributes.under_score = "1"`, true},
		{`attributes.quote = "say \"hi\""`, true},
		{`attributes.name = "\u0063om"`, true},
		{`attributes.name = "\x63\157m"`, true},
		{`hasPrefix(attributes.name, "co")`, true},
		{`hasPrefix(attributes.name, "")`, true},
		{`hasPrefix(attributes.name, "x")`, false},
		{`hasPrefix(attributes.missing, "")`, false},
		{`hasPrefix( attributes."name" , "c" )`, true},
		{`NOT attributes:lang`, false},
		{`-attributes:lang`, false},
		{`NOT NOT attributes:lang`, true},
		{`NOT attributes:missing AND attributes:lang`, true},
		{`attributes:lang AND attributes:name AND attributes:missing`, false},
		{`attributes:missing OR attributes:nope OR attributes:lang`, true},
		{`(attributes:missing OR attributes:lang) AND attributes:name`, true},
		{`NOT (attributes:lang AND attributes:name)`, false},
		{`attributes.name = "com" AND -attributes:"nope"`, true},
		{"attributes:lang\n\tAND attributes:name", true},
		{`((attributes:lang))`, true},
	} {
		m, err := parseFilter(c.filter)
		if err != nil {
			t.Errorf("%s: %v", c.filter, err)
			continue
		}
		if got := m == nil || m(attrs); got != c.want {
			t.Errorf("%s = %v, want %v", c.filter, got, c.want)
		}
	}
}

func TestFilterErrors(t *testing.T) {
	t.Parallel()
	for _, f := range []string{
		` `, `attributes`, `attributes:`, `attributes.`, `attributes.a`, `attributes.a =`, `attributes.a = b`, `attributes.a = $`,
		`attributes.a = "x`, `attributes.a = "\q"`, `attributes.a > "x"`, `attributes.a.b = "x"`, `(attributes:a`, `attributes:a)`, `()`,
		`hasPrefix(attributes.a)`, `hasPrefix(attributes.a, b)`, `hasPrefix(attributes:a, "b")`, `hasPrefix`, `hasSuffix(attributes.a, "b")`,
		`data:x`, `attributes:a and attributes:b`, `attributes:a AND`, `NOT`, `OR attributes:a`, `attributes:a attributes:b`,
		`attributes:a AND attributes:b OR attributes:c`, `attributes:` + strings.Repeat("a", 256), "attributes:\x00",
	} {
		if _, err := parseFilter(f); err == nil {
			t.Errorf("%q was accepted", f)
		}
	}
}

// node builds a filter together with what it means.
type node struct {
	src  string
	eval func(map[string]string) bool
}

func randomNode(rng *rand.Rand, depth int) node {
	if depth == 0 {
		return randomTerm(rng)
	}
	a, b := randomNode(rng, depth-1), randomNode(rng, rng.IntN(depth))
	switch rng.IntN(3) {
	case 0:
		return node{"(" + a.src + " AND " + b.src + ")", func(m map[string]string) bool { return a.eval(m) && b.eval(m) }}
	case 1:
		return node{"(" + a.src + " OR " + b.src + ")", func(m map[string]string) bool { return a.eval(m) || b.eval(m) }}
	}
	return node{"NOT " + a.src, func(m map[string]string) bool { return !a.eval(m) }}
}

func randomTerm(rng *rand.Rand) node {
	k, v := string(rune('a'+rng.IntN(3))), string(rune('x'+rng.IntN(3)))
	switch rng.IntN(4) {
	case 0:
		return node{"attributes:" + k, func(m map[string]string) bool { _, ok := m[k]; return ok }}
	case 1:
		return node{fmt.Sprintf("attributes.%s = %q", k, v), func(m map[string]string) bool { g, ok := m[k]; return ok && g == v }}
	case 2:
		return node{fmt.Sprintf("attributes.%s != %q", k, v), func(m map[string]string) bool { return m[k] != v }}
	}
	return node{fmt.Sprintf("hasPrefix(attributes.%s, %q)", k, v), func(m map[string]string) bool {
		return strings.HasPrefix(m[k], v)
	}}
}

func TestFilterAgainstItsMeaning(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(7, 8))
	for tried := 0; tried < 2000; {
		n := randomNode(rng, rng.IntN(4))
		if len(n.src) > maxFilterBytes {
			continue
		}
		tried++
		m, err := parseFilter(n.src)
		if err != nil {
			t.Fatalf("%s: %v", n.src, err)
		}
		for range 20 {
			attrs := map[string]string{}
			for _, k := range []string{"a", "b", "c"} {
				if rng.IntN(2) == 0 {
					attrs[k] = string(rune('x' + rng.IntN(3)))
				}
			}
			if m(attrs) != n.eval(attrs) {
				t.Fatalf("%s on %v = %v", n.src, attrs, m(attrs))
			}
		}
	}
}

// FuzzFilter checks that any text is either refused or gives a filter that
// evaluates, and whose negation is its opposite.
func FuzzFilter(f *testing.F) {
	for _, s := range []string{`attributes:a`, `attributes.a = "b"`, `hasPrefix(attributes.a, "b") AND NOT (attributes:b OR -attributes:c)`, `"\`, `((((`, `NOT NOT`, "attributes.\"\\x00\" != \"\\377\""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, src string) {
		m, err := parseFilter(src)
		if err != nil || m == nil {
			return
		}
		attrs := map[string]string{"a": "b", "b": ""}
		got := m(attrs)
		if neg, err := parseFilter("NOT (" + src + ")"); err == nil && neg(attrs) == got {
			t.Fatalf("%q and its negation are both %v", src, got)
		}
	})
}

package contract

import (
	"regexp/syntax"
	"slices"
	"unicode"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// splitParts is into how many parts a table is split when it is made.
const splitParts = 4

// splitKeys are the row keys at which a dataset's table is split when it is made, so that the first
// load is spread. They are derived only where the first key field is a string whose pattern begins
// with one set of ASCII characters, such as ^[A-Z]{3}$: they cut this set into even parts. Other
// tables begin as one part; Bigtable splits all of them by itself later.
func splitKeys(ds *dataset.Dataset) []string {
	first := ds.Key[0]
	if first.Type != dataset.String || first.Pattern == nil {
		return []string{}
	}
	letters := firstLetters(first.Pattern.String())
	if len(letters) < splitParts {
		return []string{}
	}
	keys := make([]string, splitParts-1)
	for i := range keys {
		keys[i] = string(letters[(i+1)*len(letters)/splitParts])
	}
	return keys
}

// firstLetters are the characters that a text can begin with which matches the pattern, in their
// order; nil when the pattern does not say so in its first element.
func firstLetters(pattern string) []rune {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil || re.Op != syntax.OpConcat || len(re.Sub) < 2 || re.Sub[0].Op != syntax.OpBeginText {
		return nil
	}
	class := re.Sub[1]
	if class.Op == syntax.OpPlus || class.Op == syntax.OpRepeat && class.Min > 0 {
		class = class.Sub[0]
	}
	if class.Op != syntax.OpCharClass {
		return nil
	}
	var letters []rune
	for i := 0; i < len(class.Rune); i += 2 {
		if class.Rune[i+1] > unicode.MaxASCII {
			return nil
		}
		for c := class.Rune[i]; c <= class.Rune[i+1]; c++ {
			if c > ' ' {
				letters = append(letters, c)
			}
		}
	}
	slices.Sort(letters)
	return letters
}

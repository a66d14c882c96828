package monitor

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/pkg/strictyaml"
)

// What is written as YAML reads as the same.
func FuzzYAMLReadsTheSame(f *testing.F) {
	for seed := range uint64(300) {
		f.Add(seed, "a: b # c\n- x\n\n  y \t{{#is_alert}}\u00e9\u2028\"'\\")
	}
	f.Fuzz(func(t *testing.T, seed uint64, alphabet string) {
		r := rand.New(rand.NewPCG(seed, 2))
		want := plain(map[string]any{"v": randomTree(r, []rune(alphabet), 3), "w": randomTree(r, []rune(alphabet), 0)})
		text := yamlText(want)
		reader := &strictyaml.Reader{}
		root := reader.Read([]byte(text), "")
		if err := reader.Err(""); err != nil {
			if len(want.(map[string]any)) == 0 {
				return
			}
			t.Fatalf("%v\n%s\n%s", err, text, jsonText(want))
		}
		if got := plain(root.Any()); jsonText(got) != jsonText(want) {
			t.Errorf("wrote %s\n%s\nread %s", jsonText(want), text, jsonText(got))
		}
	})
}

func randomTree(r *rand.Rand, alphabet []rune, depth int) any {
	if depth == 0 || r.IntN(3) == 0 {
		switch r.IntN(6) {
		case 0:
			return float64(r.IntN(100000)) / 100
		case 1:
			return r.IntN(2) == 0
		case 2:
			return []string{"true", "No", "null", "1", "1e3", "30d", "0x1F", "~", "-", "2024-01-01", "a b", "a: b", "@x", "- a", "#", "1_000", ".5", "NaN", "1:30"}[r.IntN(19)]
		}
		return randomText(r, alphabet)
	}
	if r.IntN(2) == 0 {
		list := make([]any, r.IntN(4))
		for i := range list {
			list[i] = randomTree(r, alphabet, depth-1)
		}
		return list
	}
	m := map[string]any{}
	for range r.IntN(4) {
		m["k"+randomText(r, []rune("ab :#-"))] = randomTree(r, alphabet, depth-1)
	}
	return m
}

func randomText(r *rand.Rand, alphabet []rune) string {
	var b strings.Builder
	for range r.IntN(12) {
		if len(alphabet) > 0 {
			b.WriteRune(alphabet[r.IntN(len(alphabet))])
		}
	}
	return strings.ToValidUTF8(b.String(), "?")
}

// An edit script makes the second text of the first, and is as short as a naive search finds.
func TestEditScripts(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 3))
	for range 2000 {
		before, after := randomLines(r), randomLines(r)
		edits := editScript(before, after)
		var was, is []string
		changes := 0
		for _, e := range edits {
			if e.sign != '+' {
				was = append(was, e.line)
			}
			if e.sign != '-' {
				is = append(is, e.line)
			}
			if e.sign != ' ' {
				changes++
			}
		}
		if !slices.Equal(was, before) || !slices.Equal(is, after) {
			t.Fatalf("%q to %q: the script is %v", before, after, edits)
		}
		if want := distance(before, after); changes != want {
			t.Fatalf("%q to %q: %d changes, %d are enough", before, after, changes, want)
		}
		if (unified(before, after) == "") != slices.Equal(before, after) {
			t.Fatalf("%q to %q: %q", before, after, unified(before, after))
		}
	}
}

func randomLines(r *rand.Rand) []string {
	lines := make([]string, r.IntN(8))
	for i := range lines {
		lines[i] = string(rune('a' + r.IntN(3)))
	}
	return lines
}

// distance is the number of lines to remove and to add, by trying everything.
func distance(before, after []string) int {
	switch {
	case len(before) == 0 || len(after) == 0:
		return len(before) + len(after)
	case before[0] == after[0]:
		return distance(before[1:], after[1:])
	}
	return 1 + min(distance(before[1:], after), distance(before, after[1:]))
}

func TestUnifiedFormat(t *testing.T) {
	t.Parallel()
	var before []string
	for i := range 20 {
		before = append(before, fmt.Sprintf("line %d", i+1))
	}
	after := slices.Clone(before)
	after[4] = "five"
	after = append(after, "line 21")
	want := `@@ -2,7 +2,7 @@
 line 2
 line 3
 line 4
-line 5
+five
 line 6
 line 7
 line 8
@@ -18,3 +18,4 @@
 line 18
 line 19
 line 20
+line 21
`
	if got := unified(before, after); got != want {
		t.Errorf("got\n%s", got)
	}
	if got := unified(nil, []string{"a"}); got != "@@ -0,0 +1,1 @@\n+a\n" {
		t.Errorf("got %q", got)
	}
}

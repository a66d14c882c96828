// Package strictyaml reads YAML files in which everything must be known: it keeps the place of each
// value, reports every fault with file, line and column, and names what was probably meant.
package strictyaml

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// maxShownProblems is how many problems one message prints.
const maxShownProblems = 50

// maxShownLine is how many characters of a source line a message prints.
const maxShownLine = 120

// Problems are the faults of a file in its order.
type Problems struct {
	File string // "" prints as latam.yaml
	List []Problem
}

// Problem is one fault. Line and Column count from 1, columns in characters.
type Problem struct {
	Line    int
	Column  int
	Message string
	// Source is the whole line at fault.
	Source string
	// Hint says what to do about it; it may be empty.
	Hint string
}

// Error prints each problem with its place, its line and a caret.
func (p *Problems) Error() string {
	file := p.File
	if file == "" {
		file = "latam.yaml"
	}
	var b strings.Builder
	for i, one := range p.List {
		if i == maxShownProblems {
			fmt.Fprintf(&b, "\n%s: and %d more", file, len(p.List)-i)
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		one.write(&b, file)
	}
	return b.String()
}

func (p Problem) write(b *strings.Builder, file string) {
	fmt.Fprintf(b, "%s:%d:%d: %s", file, p.Line, p.Column, p.Message)
	if p.Hint != "" {
		b.WriteString("; " + p.Hint)
	}
	source, column := window(p.Source, p.Column)
	if source == "" {
		return
	}
	number := strconv.Itoa(p.Line)
	fmt.Fprintf(b, "\n  %s | %s\n  %*s | %*s^", number, source, len(number), "", column-1, "")
}

// window cuts a long line around the column and replaces what would not print
// as one cell.
func window(source string, column int) (string, int) {
	line := []rune(strings.TrimRight(source, " \t\r"))
	for i, r := range line {
		switch {
		case r == '\t':
			line[i] = ' '
		case !unicode.IsPrint(r):
			line[i] = unicode.ReplacementChar
		}
	}
	column = max(1, column)
	before, after := "", ""
	if start := min(column-1-maxShownLine/2, len(line)-maxShownLine); start > 0 {
		line, column, before = line[start:], column-start+1, "…"
	}
	if len(line) > maxShownLine {
		line, after = line[:maxShownLine], "…"
	}
	return before + string(line) + after, column
}

func (p *Problems) sort() {
	slices.SortStableFunc(p.List, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// maxNearest is the length of the longest name that Nearest compares.
const maxNearest = 64

// Nearest returns the candidate that name was probably meant to be: the one
// with the fewest typing errors, regardless of case; "" when none is near.
func Nearest(name string, candidates []string) string {
	if name == "" || len(name) > maxNearest {
		return ""
	}
	best, bestDistance := "", 0
	for _, c := range candidates {
		if len(c) > maxNearest {
			continue
		}
		d := typingErrors(strings.ToLower(name), strings.ToLower(c))
		limit := max(1, max(len(name), len(c))/3)
		if len(name) >= 3 && len(c) > len(name) && strings.EqualFold(c[:len(name)], name) {
			d = min(d, limit)
		}
		if d > limit || d >= len(c) {
			continue
		}
		if best == "" || d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// typingErrors counts insertions, deletions, substitutions and swaps of
// neighbours that turn a into b.
func typingErrors(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	row := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

package plan

import (
	"fmt"
	"io"
	"strings"
)

// MaxMarkdown is how many bytes Markdown writes at most: GitHub takes comments of 65,536 characters.
const MaxMarkdown = 60_000

// The shares of MaxMarkdown. What is left over goes to the details.
const (
	failureBytes = 14_000
	lossBytes    = 14_000
	tableBytes   = 12_000
	lineBytes    = 400
	// minDetail is the least room for a section's details; with less they are left out as a whole.
	minDetail = 400
)

// Markdown writes a plan for a pull request: failures and what can lose data first, then the
// table, then the details folded. It never exceeds MaxMarkdown; what does not fit is cut in the
// middle and said so. Names and values come from outside, so they cannot become markup, links or
// mentions: they are in fenced blocks that no line of theirs can end, or escaped.
func Markdown(w io.Writer, title string, p *Plan) error {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n\n%s\n", escape(cut(Clean(title), lineBytes)), escape(cut(p.Summary(), lineBytes)))
	fence(&b, "Failed", failureLines(p), failureBytes)
	fence(&b, "Deleted and replaced", lossLines(p), lossBytes)
	b.WriteString("\n| " + p.noun() + " | grade | + | ~ | -/+ | - | outputs | |\n|---|---|--:|--:|--:|--:|--:|---|\n")
	for _, line := range fit(tableLines(p), tableBytes, "| … | %d "+p.noun()+"s more | | | | | | |") {
		b.WriteString(line + "\n")
	}
	details(&b, p)
	_, err := io.WriteString(w, b.String())
	return err
}

func failureLines(p *Plan) []string {
	var lines []string
	for i := range p.Sections {
		if s := &p.Sections[i]; s.Error != "" {
			lines = append(lines, "- "+s.Name)
			for line := range strings.Lines(strings.TrimSpace(s.Error)) {
				lines = append(lines, "! "+line)
			}
		}
	}
	return lines
}

func lossLines(p *Plan) []string {
	var lines []string
	for _, action := range []Action{Delete, Replace} {
		for i := range p.Sections {
			s := &p.Sections[i]
			for _, c := range sorted(s.Changes) {
				if c.Action == action {
					lines = append(lines, changeLine(s.Name+"/", c))
				}
			}
		}
	}
	return lines
}

// changeLine is a change as a line of a diff.
func changeLine(prefix string, c Change) string {
	sign := "!"
	switch c.Action {
	case Delete:
		sign = "-"
	case Create, Import:
		sign = "+"
	case Replace, Update, Forget:
	}
	line := sign + " " + strings.TrimSpace(c.Action.symbol()) + " " + prefix + c.Address
	if c.Protected && c.Action.loses() {
		line += "  protected"
	}
	if c.Action == Replace && len(c.Forces) > 0 {
		line += "  forced by " + strings.Join(c.Forces, ", ")
	}
	if c.Reason != "" {
		line += "  (" + c.Reason + ")"
	}
	return line
}

// fence writes a block whose lines all begin with a sign, so that none of them can end it.
func fence(b *strings.Builder, title string, lines []string, most int) {
	if len(lines) == 0 {
		return
	}
	if title != "" {
		fmt.Fprintf(b, "\n**%s**\n", title)
	}
	b.WriteString("\n```diff\n")
	for i, line := range lines {
		lines[i] = cutBytes(Clean(line), lineBytes)
	}
	for _, line := range fit(lines, most, "! … %d lines left out, latamctl plan --detail shows them …") {
		b.WriteString(line + "\n")
	}
	b.WriteString("```\n")
}

func tableLines(p *Plan) []string {
	lines := make([]string, 0, len(p.Sections))
	for i := range p.Sections {
		s := &p.Sections[i]
		c := s.Counts()
		remark, _ := s.remark()
		lines = append(lines, fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s | %s |",
			cell(s.Name), cell(string(s.Grade)), number(c.Create+c.Import), number(c.Update), number(c.Replace), number(c.Delete+c.Forget), number(len(s.Outputs)), cell(remark)))
	}
	return lines
}

const cellRunes = 120

func cell(text string) string { return escape(cut(Clean(text), cellRunes)) }

// details folds each section's changes away, as long as there is room.
func details(b *strings.Builder, p *Plan) {
	leftOut := 0
	for i := range p.Sections {
		s := &p.Sections[i]
		lines := detailLines(s)
		if len(lines) == 0 {
			continue
		}
		room := MaxMarkdown - b.Len() - 2*minDetail
		if room < minDetail {
			leftOut++
			continue
		}
		fmt.Fprintf(b, "\n<details><summary>%s</summary>\n", cell(s.Name))
		fence(b, "", lines, room-minDetail)
		b.WriteString("\n</details>\n")
	}
	if leftOut > 0 {
		fmt.Fprintf(b, "\n%s of %s left out: there was no room.\n", "Details", quantity(leftOut, p.noun()+" are", p.noun()+"s are"))
	}
}

func detailLines(s *Section) []string {
	var lines []string
	for _, c := range sorted(s.Changes) {
		lines = append(lines, changeLine("", c))
		lines = append(lines, attributeLines(c)...)
	}
	for _, name := range s.Outputs {
		lines = append(lines, "! ~ output "+name)
	}
	for _, c := range sorted(s.Drift) {
		lines = append(lines, "! changed outside: "+c.Address)
		lines = append(lines, attributeLines(c)...)
	}
	return lines
}

func attributeLines(c Change) []string {
	lines := make([]string, 0, len(c.Attributes))
	for _, a := range c.Attributes {
		lines = append(lines, "#     "+a.Path+": "+a.difference())
	}
	return lines
}

// fit keeps the first and the last lines when all of them are too many bytes, with a note between
// that says how many are missing.
func fit(lines []string, most int, note string) []string {
	size := 0
	for _, line := range lines {
		size += len(line) + 1
	}
	if size <= most {
		return lines
	}
	room := most - len(note) - len("1000000000") - 1
	head, tail := 0, len(lines)
	used := 0
	for front := true; head < tail; front = !front {
		next := lines[head]
		if !front {
			next = lines[tail-1]
		}
		if used += len(next) + 1; used > room {
			break
		}
		if front {
			head++
		} else {
			tail--
		}
	}
	out := append([]string{}, lines[:head]...)
	out = append(out, fmt.Sprintf(note, tail-head))
	return append(out, lines[tail:]...)
}

// cutBytes keeps both ends of a long line, whole runes only.
func cutBytes(line string, most int) string {
	if len(line) <= most {
		return line
	}
	half := (most - len("…")) / 2
	return strings.ToValidUTF8(line[:half], "") + "…" + strings.ToValidUTF8(line[len(line)-half:], "")
}

// escape makes text that Markdown shows as it is. What GitHub turns into mentions and references
// after rendering is parted by a space without width, because entities would not stop that.
func escape(text string) string {
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == '@' || r == '#':
			fmt.Fprintf(&b, "&#%d;&#8203;", r)
		case r == ':' && strings.HasPrefix(text[i:], ": "):
			b.WriteRune(r) // No link and no emoji begins so.
		case strings.ContainsRune("&<>|`*_[]()~!\\\"'{}$^+=:", r):
			fmt.Fprintf(&b, "&#%d;", r)
		case r == '.' && strings.HasSuffix(strings.ToLower(text[:i]), "www"):
			b.WriteString("&#46;")
		case r == '-' && i == 0:
			b.WriteString("&#45;")
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

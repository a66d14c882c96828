package plan

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Colour is what a piece of text means; the caller knows how to paint it.
type Colour string

// The colours.
const (
	Good   Colour = "good"   // created
	Caring Colour = "caring" // changed
	Losing Colour = "losing" // deleted, replaced, failed
	Faint  Colour = "faint"  // remarks
)

// TextOptions say how a plan is shown to a person.
type TextOptions struct {
	// Detail shows every change with its attributes; without it only what can lose data is shown one by one.
	Detail bool
	// Paint colours a piece of text. Nil leaves it as it is.
	Paint func(Colour, string) string
	// Width is how many columns the table may take; addresses are never cut. Default 80.
	Width int
}

const (
	defaultWidth = 80
	minName      = 12
	gradeColumns = 11
	// valueRunes is how much of a value a line shows.
	valueRunes = 60
)

// Text writes a plan for a person: what can lose data first, then one table, then remarks.
func Text(w io.Writer, p *Plan, o TextOptions) error {
	if o.Width <= 0 {
		o.Width = defaultWidth
	}
	if o.Paint == nil {
		o.Paint = func(_ Colour, text string) string { return text }
	}
	t := textPlan{p: p, o: o}
	t.failures()
	t.losses()
	if o.Detail {
		t.details()
	}
	t.table()
	t.summary()
	_, err := io.WriteString(w, t.b.String())
	return err
}

type textPlan struct {
	p *Plan
	o TextOptions
	b strings.Builder
}

func (t *textPlan) linef(format string, args ...any) { fmt.Fprintf(&t.b, format+"\n", args...) }

func (t *textPlan) failures() {
	for i := range t.p.Sections {
		if s := &t.p.Sections[i]; s.Error != "" {
			t.linef("%s %s", t.o.Paint(Losing, Clean(s.Name)+" could not be planned:"), cleanLines(s.Error, "  "))
		}
	}
}

// losses shows deletions, then replacements, of all sections before anything else.
func (t *textPlan) losses() {
	shown := false
	for _, action := range []Action{Delete, Replace} {
		for i := range t.p.Sections {
			s := &t.p.Sections[i]
			for _, c := range sorted(s.Changes) {
				if c.Action == action {
					shown = true
					t.change(s.Name+"/", c)
				}
			}
		}
	}
	if shown {
		t.linef("")
	}
}

// change is one object with what forces its replacement, and with its attributes when they are asked for.
func (t *textPlan) change(prefix string, c Change) {
	line := t.o.Paint(c.Action.colour(), c.Action.symbol()+" "+Clean(prefix+c.Address))
	if c.Protected && c.Action.loses() {
		line += "  " + t.o.Paint(Losing, "protected")
	}
	if c.Reason != "" {
		line += "  " + t.o.Paint(Faint, "("+Clean(c.Reason)+")")
	}
	t.linef("%s", line)
	if c.Action == Replace && len(c.Forces) > 0 {
		t.linef("      forced by %s", Clean(strings.Join(c.Forces, ", ")))
	}
	if t.o.Detail {
		t.attributes(c)
	}
}

func (t *textPlan) attributes(c Change) {
	for _, a := range c.Attributes {
		t.linef("      %s: %s", Clean(a.Path), a.difference())
	}
}

// details shows the changes that losses does not, and drift.
func (t *textPlan) details() {
	for i := range t.p.Sections {
		s := &t.p.Sections[i]
		before := t.b.Len()
		for _, c := range sorted(s.Changes) {
			if !c.Action.loses() {
				t.change(s.Name+"/", c)
			}
		}
		for _, name := range s.Outputs {
			t.linef("  ~ output %s", Clean(s.Name+"/"+name))
		}
		for _, c := range sorted(s.Drift) {
			t.linef("%s", t.o.Paint(Caring, "  ! "+Clean(s.Name+"/"+c.Address)+"  changed outside"))
			t.attributes(c)
		}
		if t.b.Len() > before {
			t.linef("")
		}
	}
}

// table is one line per section, with its remark below the numbers that say nothing.
func (t *textPlan) table() {
	noun := strings.ToUpper(t.p.noun())
	name := len(noun)
	for i := range t.p.Sections {
		name = max(name, utf8.RuneCountInString(Clean(t.p.Sections[i].Name)))
	}
	const rest = len("  provisional     +     ~   -/+     -  outputs    time")
	name = min(name, max(t.o.Width-rest, minName))
	row := func(c ...string) string {
		return strings.TrimRight(fmt.Sprintf("%-*s  %-11s %5s %5s %5s %5s  %7s  %6s", name, c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]), " ")
	}
	t.linef("%s", t.o.Paint(Faint, row(noun, "GRADE", "+", "~", "-/+", "-", "OUTPUTS", "TIME")))
	for i := range t.p.Sections {
		s := &t.p.Sections[i]
		label := cut(Clean(s.Name), name)
		if !s.Pending() && (s.Failed() || s.Note != "" || len(s.Drift) > 0) {
			remark, colour := s.remark()
			t.remark(name, label, remark, colour)
			continue
		}
		c := s.Counts()
		line := row(label, cut(Clean(string(s.Grade)), gradeColumns), number(c.Create+c.Import), number(c.Update), number(c.Replace), number(c.Delete+c.Forget), number(len(s.Outputs)), seconds(s.Took))
		if c.Replace+c.Delete > 0 {
			line = t.o.Paint(Losing, line)
		}
		t.linef("%s", line)
		if remark, colour := s.remark(); remark != "" {
			t.remark(name, "", remark, colour)
		}
	}
}

// remark is what the numbers do not say, whole: it may name the setting that is missing.
func (t *textPlan) remark(name int, label, remark string, colour Colour) {
	for i, line := range wrap(Clean(remark), t.o.Width-name-2) {
		if i > 0 {
			label = ""
		}
		t.linef("%-*s  %s", name, label, t.o.Paint(colour, line))
	}
}

// wrap breaks a text between words into lines of at most so many columns, as far as words allow.
func wrap(text string, columns int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > columns {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// remark says what the numbers do not.
func (s *Section) remark() (string, Colour) {
	switch {
	case s.Error != "":
		return "failed, see above", Losing
	case s.Blocked != "":
		return "waits for " + s.Blocked + ", which failed", Losing
	}
	var parts []string
	if n := len(s.Drift); n > 0 {
		parts = append(parts, quantity(n, "object was", "objects were")+" changed outside")
	}
	if s.Note != "" {
		parts = append(parts, s.Note)
	}
	colour := Faint
	if len(s.Drift) > 0 {
		colour = Caring
	}
	return strings.Join(parts, "; "), colour
}

func (t *textPlan) summary() {
	t.linef("")
	if t.p.Failed() {
		t.linef("%s", t.o.Paint(Losing, "The plan is not complete: see what failed above."))
	}
	t.linef("%s", t.p.Summary())
}

// Summary is one sentence about a whole plan.
func (p *Plan) Summary() string {
	parts := p.Counts().parts()
	env := Clean(p.Environment)
	switch {
	case len(parts) > 0:
		return fmt.Sprintf("Environment %s: %s.", env, strings.Join(parts, ", "))
	case p.Pending():
		return fmt.Sprintf("Environment %s: only outputs change.", env)
	case p.Failed():
		return fmt.Sprintf("Environment %s: no change is known.", env)
	}
	return fmt.Sprintf("Environment %s: nothing to change.", env)
}

// Brief says what a section comes to in a few words, such as "2 to create, 1 to delete".
func (s *Section) Brief() string {
	parts := s.Counts().parts()
	switch {
	case len(parts) > 0:
		return strings.Join(parts, ", ")
	case len(s.Outputs) > 0:
		return "only outputs change"
	case s.Note != "":
		return s.Note
	}
	return "nothing to change"
}

// parts are the numbers that are not zero, with what they count.
func (c Counts) parts() []string {
	var parts []string
	for _, part := range []struct {
		n    int
		what string
	}{
		{c.Create, "to create"}, {c.Import, "to import"}, {c.Update, "to change"}, {c.Replace, "to replace"},
		{c.Delete, "to delete"}, {c.Forget, "to forget"}, {c.Drift, "changed outside"},
	} {
		if part.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", part.n, part.what))
		}
	}
	return parts
}

// difference is an attribute's old and new value. A sensitive one is never shown, whatever it holds.
func (a Attribute) difference() string {
	switch {
	case a.Sensitive:
		return "(sensitive)"
	case a.Unknown:
		return value(a.Before) + " -> (known after the apply)"
	}
	return value(a.Before) + " -> " + value(a.After)
}

func value(text string) string {
	if text == "" {
		return "(none)"
	}
	return cut(Clean(text), valueRunes)
}

func (a Action) symbol() string {
	switch a {
	case Delete:
		return "  -"
	case Replace:
		return "-/+"
	case Update:
		return "  ~"
	case Create:
		return "  +"
	case Import:
		return " <-"
	case Forget:
		return "  ."
	}
	return "  ?"
}

func (a Action) colour() Colour {
	switch a {
	case Delete, Replace:
		return Losing
	case Create, Import:
		return Good
	case Update, Forget:
		return Caring
	}
	return Caring
}

// sorted orders changes by what they can lose, then by address, so that equal plans look equal.
func sorted(changes []Change) []Change {
	rank := map[Action]int{Delete: 0, Replace: 1, Update: 2, Create: 3, Import: 4, Forget: 5}
	out := slices.Clone(changes)
	slices.SortStableFunc(out, func(x, y Change) int {
		if x.Action != y.Action {
			return rank[x.Action] - rank[y.Action]
		}
		return strings.Compare(x.Address, y.Address)
	})
	return out
}

func number(n int) string {
	if n == 0 {
		return "."
	}
	return strconv.Itoa(n)
}

func seconds(d time.Duration) string {
	switch {
	case d <= 0:
		return ""
	case d >= 100*time.Second:
		return d.Round(time.Second).String()
	}
	return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + "s"
}

// Clean keeps text from moving a terminal's cursor or breaking a line: names come from outside.
func Clean(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Bidi_Control, r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
}

// cleanLines is Clean for text of several lines, each but the first indented.
func cleanLines(text, indent string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(Clean(line), " ")
	}
	return strings.Join(lines, "\n"+indent)
}

// cut keeps both ends of a long text.
func cut(text string, most int) string {
	runes := []rune(text)
	if most < 4 || len(runes) <= most {
		return text
	}
	head := (most - 1) / 2
	return string(runes[:head]) + "…" + string(runes[len(runes)-(most-1-head):])
}

package query

import (
	"strconv"
	"strings"
	"time"
)

// String writes the query in its canonical form.
func (m *Metric) String() string {
	var b strings.Builder
	window := m.Aggregate + "(last_" + formatDuration(m.Window) + ")"
	switch {
	case m.Change == nil:
		b.WriteString(window)
	case m.Change.Percent:
		b.WriteString("pct_change(" + window + ",last_" + formatDuration(m.Change.Shift) + ")")
	default:
		b.WriteString("change(" + window + ",last_" + formatDuration(m.Change.Shift) + ")")
	}
	b.WriteByte(':')
	write(&b, m.Expr)
	b.WriteString(" " + m.Op + " " + formatNumber(m.Threshold))
	return b.String()
}

// String writes the query in its canonical form.
func (c *Check) String() string {
	var b strings.Builder
	b.WriteString(`"` + c.Name + `"`)
	for _, part := range []struct {
		name string
		list []string
	}{{"over", c.Over}, {"exclude", c.Exclude}, {"by", c.By}} {
		if len(part.list) > 0 {
			b.WriteString("." + part.name + `("` + strings.Join(part.list, `","`) + `")`)
		}
	}
	b.WriteString(".last(" + strconv.Itoa(c.Last) + ").count_by_status()")
	return b.String()
}

// String writes the query in its canonical form.
func (c *Composite) String() string { return c.Expr.String() }

// String writes the query in its canonical form.
func (a *SLOAlert) String() string {
	text := `error_budget("` + a.ID + `").over("` + a.Over + `")`
	if a.LongWindow > 0 {
		text = `burn_rate("` + a.ID + `").over("` + a.Over + `").long_window("` + sloWindow(a.LongWindow) + `").short_window("` + sloWindow(a.ShortWindow) + `")`
	}
	return text + " " + a.Op + " " + formatNumber(a.Threshold)
}

// String returns the text as it is.
func (o *Opaque) String() string { return o.Text }

func (o *Operand) String() string { return o.ID }

func (n *Not) String() string {
	switch n.Of.(type) {
	case *And, *Or:
		return "!(" + n.Of.String() + ")"
	}
	return "!" + n.Of.String()
}

func (a *And) String() string {
	var b strings.Builder
	writeLogic(&b, a)
	return b.String()
}

func (o *Or) String() string {
	var b strings.Builder
	writeLogic(&b, o)
	return b.String()
}

func writeLogic(b *strings.Builder, l Logic) {
	side := func(of Logic, parenthesis bool) {
		if parenthesis {
			b.WriteByte('(')
		}
		writeLogic(b, of)
		if parenthesis {
			b.WriteByte(')')
		}
	}
	isOr := func(l Logic) bool { _, ok := l.(*Or); return ok }
	isAnd := func(l Logic) bool { _, ok := l.(*And); return ok }
	switch l := l.(type) {
	case *And:
		side(l.Left, isOr(l.Left))
		b.WriteString(" && ")
		side(l.Right, isOr(l.Right) || isAnd(l.Right))
	case *Or:
		side(l.Left, false)
		b.WriteString(" || ")
		side(l.Right, isOr(l.Right))
	default:
		b.WriteString(l.String())
	}
}

func text(e Expr) string {
	var b strings.Builder
	write(&b, e)
	return b.String()
}

func (n *Number) String() string { return formatNumber(n.Value) }
func (s *Series) String() string { return text(s) }
func (c *Call) String() string   { return text(c) }
func (b *Binary) String() string { return text(b) }
func (n *Negate) String() string { return text(n) }

func write(b *strings.Builder, e Expr) {
	switch e := e.(type) {
	case *Number:
		b.WriteString(formatNumber(e.Value))
	case *Series:
		e.write(b)
	case *Call:
		b.WriteString(e.Name + "(")
		for i, arg := range e.Args {
			if i > 0 {
				b.WriteString(", ")
			}
			write(b, arg)
		}
		for i, word := range e.Words {
			if i+len(e.Args) > 0 {
				b.WriteString(", ")
			}
			b.WriteString(word)
		}
		b.WriteByte(')')
	case *Binary:
		own := strength(e)
		writeSide(b, e.Left, strength(e.Left) < own)
		b.WriteString(" " + string(e.Op) + " ")
		writeSide(b, e.Right, strength(e.Right) <= own)
	case *Negate:
		b.WriteByte('-')
		writeSide(b, e.Of, strength(e.Of) < 3)
	}
}

func writeSide(b *strings.Builder, e Expr, parenthesis bool) {
	if parenthesis {
		b.WriteByte('(')
	}
	write(b, e)
	if parenthesis {
		b.WriteByte(')')
	}
}

// strength is how tightly the parts of an expression hold together.
func strength(e Expr) int {
	switch e := e.(type) {
	case *Binary:
		if e.Op == '+' || e.Op == '-' {
			return 1
		}
		return 2
	default:
		return 3
	}
}

func (s *Series) write(b *strings.Builder) {
	b.WriteString(s.Aggregate)
	if s.Count != nil {
		b.WriteString("(v: v" + s.Count.Op + formatNumber(s.Count.Bound) + ")")
	}
	b.WriteString(":" + s.Metric + "{" + FormatFilter(s.Filter) + "}")
	if len(s.By) > 0 {
		b.WriteString(" by {" + strings.Join(s.By, ",") + "}")
	}
	for _, m := range s.Modifiers {
		b.WriteString("." + m.Name + "(" + strings.Join(m.Args, ", ") + ")")
	}
}

// FormatFilter writes what stands between the braces of a series: tags joined by commas, or by AND
// and OR where commas cannot say it.
func FormatFilter(matchers []Matcher) string {
	if len(matchers) == 0 {
		return "*"
	}
	var b strings.Builder
	for _, m := range matchers {
		if m.Any != nil {
			writeAll(&b, matchers, len(matchers) == 1)
			return b.String()
		}
	}
	for i, m := range matchers {
		if i > 0 {
			b.WriteByte(',')
		}
		if m.Not {
			b.WriteByte('!')
		}
		b.WriteString(m.tag())
	}
	return b.String()
}

func (m Matcher) tag() string {
	if m.Key == "" {
		return m.Value
	}
	return m.Key + ":" + m.Value
}

// writeAll writes matchers that hold together; alone ones need no parentheses.
func writeAll(b *strings.Builder, matchers []Matcher, alone bool) {
	for i, m := range matchers {
		if i > 0 {
			b.WriteString(" AND ")
		}
		m.write(b, alone)
	}
}

func (m Matcher) write(b *strings.Builder, alone bool) {
	key, values := m.oneKey()
	switch {
	case m.Any == nil && m.Not:
		b.WriteString("NOT " + m.tag())
		return
	case m.Any == nil:
		b.WriteString(m.tag())
		return
	case key != "" && m.Not:
		b.WriteString(key + " NOT IN (" + strings.Join(values, ",") + ")")
		return
	case key != "":
		b.WriteString(key + " IN (" + strings.Join(values, ",") + ")")
		return
	case m.Not:
		b.WriteString("NOT ")
	}
	parenthesis := m.Not || !alone
	if parenthesis {
		b.WriteByte('(')
	}
	for i, all := range m.Any {
		if i > 0 {
			b.WriteString(" OR ")
		}
		writeAll(b, all, false)
	}
	if parenthesis {
		b.WriteByte(')')
	}
}

// oneKey returns the values if the alternatives are values of one key, as IN writes them; else "".
func (m Matcher) oneKey() (string, []string) {
	if len(m.Any) < 2 || len(m.Any[0]) != 1 {
		return "", nil
	}
	key := m.Any[0][0].Key
	var values []string
	for _, all := range m.Any {
		if len(all) != 1 || all[0].Not || all[0].Any != nil || all[0].Key != key || strings.Contains(all[0].Value, "*") {
			return "", nil
		}
		values = append(values, all[0].Value)
	}
	return key, values
}

// sloWindow writes a window of an SLO alert: hours where it is whole ones.
func sloWindow(d time.Duration) string {
	if d%hour == 0 {
		return strconv.Itoa(int(d/hour)) + "h"
	}
	return strconv.Itoa(int(d/minute)) + "m"
}

package cli

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/latamctl/latamctl/pkg/plan"
)

// screen redraws the last lines of a terminal in place.
type screen struct {
	out  io.Writer
	size func() (columns, rows int, ok bool)

	mu    sync.Mutex
	held  bool
	drawn []string // what stands there now, without colours
}

// liveLine is one line of a live region.
type liveLine struct {
	text   string
	colour plan.Colour
	final  bool // nothing will change about it
}

// erase takes the live lines away, also when the terminal became narrower and wrapped them. The
// caller holds the lock.
func (s *screen) erase(b *strings.Builder, columns int) {
	up := 0
	for _, line := range s.drawn {
		up += max(1, (utf8.RuneCountInString(line)+columns-1)/columns)
	}
	if up > 0 {
		fmt.Fprintf(b, "\x1b[%dA\r\x1b[J", up)
	}
	s.drawn = nil
}

// dimensions of the terminal, or what a terminal is taken to have.
func (s *screen) dimensions() (columns, rows int) {
	if s.size != nil {
		if columns, rows, ok := s.size(); ok {
			return max(columns, 20), max(rows, 3)
		}
	}
	return 80, 24
}

// print writes lines that stay, above the live ones.
func (s *screen) print(lines []string) {
	if len(lines) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	columns, _ := s.dimensions()
	s.erase(&b, columns)
	for _, line := range lines {
		b.WriteString(line + "\n")
	}
	_, _ = io.WriteString(s.out, b.String()) // The writer is patient.
}

// draw replaces the live lines. When they are more than the terminal has rows, those about which
// nothing changes any more are left out first.
func (s *screen) draw(lines []liveLine, paint func(plan.Colour, string) string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held || len(lines) == 0 && len(s.drawn) == 0 {
		return
	}
	columns, rows := s.dimensions()
	var b strings.Builder
	s.erase(&b, columns)
	for _, line := range visible(lines, rows-1) {
		text := []rune(line.text)
		if len(text) > columns-1 {
			text = append(text[:columns-2], '…')
		}
		s.drawn = append(s.drawn, string(text))
		b.WriteString(paint(line.colour, string(text)) + "\n")
	}
	_, _ = io.WriteString(s.out, b.String()) // The writer is patient.
}

// visible keeps at most so many lines: what goes on comes first, in the order that it has.
func visible(lines []liveLine, most int) []liveLine {
	over := len(lines) - most
	if over <= 0 {
		return lines
	}
	over++ // One line says how many are not shown.
	hidden := 0
	var out []liveLine
	for _, line := range lines {
		if line.final && hidden < over {
			hidden++
			continue
		}
		out = append(out, line)
	}
	if len(out) > most-1 {
		hidden += len(out) - (most - 1)
		out = out[:most-1]
	}
	return append(out, liveLine{text: fmt.Sprintf("… and %d more", hidden), colour: plan.Faint})
}

// hold takes the live lines away, or lets them come back.
func (s *screen) hold(held bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held = held; !held {
		return
	}
	var b strings.Builder
	columns, _ := s.dimensions()
	s.erase(&b, columns)
	_, _ = io.WriteString(s.out, b.String()) // The writer is patient.
}

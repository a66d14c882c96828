package cellstore

import (
	"bytes"
	"cmp"
	"math/rand/v2"
	"slices"
)

// rowFilter is a compiled RowFilter. It holds no state of a run and may be used
// by many requests at once.
type rowFilter struct {
	root node
}

// split takes the tests off the beginning of a filter that need no more of a cell than its column,
// so that the cells of other columns are not even loaded; columns is nil when there are none.
func (f *rowFilter) split() (columns columnTest, rest *rowFilter) {
	columns, root := leadingColumns(f.root)
	return columns, &rowFilter{root: root}
}

func leadingColumns(root node) (columns columnTest, rest node) {
	switch n := root.(type) {
	case columnTest:
		return n, nil
	case chain:
		for len(n) > 0 {
			first, ok := n[0].(columnTest)
			if !ok {
				break
			}
			columns, n = bothColumns(columns, first), n[1:]
		}
		return columns, n
	}
	return nil, root
}

func bothColumns(a, b columnTest) columnTest {
	if a == nil {
		return b
	}
	return func(f *family, qualifier []byte) bool { return a(f, qualifier) && b(f, qualifier) }
}

// node is one step of a filter. It may overwrite the cells it is given and
// returns them in row order.
type node interface {
	apply(ev *evaluation, cells []cell) []cell
}

// evaluation is the run of a filter over one row.
type evaluation struct {
	row  []byte
	sunk []cell // what sinks sent straight to the output
}

// run returns the cells of a row that pass, in row order. It may overwrite cells.
func (f *rowFilter) run(row []byte, cells []cell) []cell {
	if f.root == nil || len(cells) == 0 {
		return cells
	}
	ev := evaluation{row: row}
	out := f.root.apply(&ev, cells)
	if len(ev.sunk) == 0 {
		return out
	}
	out = append(slices.Clone(out), ev.sunk...)
	slices.SortStableFunc(out, compareCells)
	return out
}

// compareCells orders the cells of a row: by family, qualifier, newest first.
func compareCells(a, b cell) int {
	if a.family.id != b.family.id {
		return cmp.Compare(a.family.id, b.family.id)
	}
	if c := bytes.Compare(a.qualifier, b.qualifier); c != 0 {
		return c
	}
	return cmp.Compare(b.micros, a.micros)
}

// cellTest keeps the cells for which it is true.
type cellTest func(*cell) bool

func (keep cellTest) apply(_ *evaluation, cells []cell) []cell {
	out := cells[:0]
	for i := range cells {
		if keep(&cells[i]) {
			out = append(out, cells[i])
		}
	}
	return out
}

// columnTest keeps the cells of the columns for which it is true.
type columnTest func(f *family, qualifier []byte) bool

func (keep columnTest) apply(_ *evaluation, cells []cell) []cell {
	out := cells[:0]
	for i := range cells {
		if keep(cells[i].family, cells[i].qualifier) {
			out = append(out, cells[i])
		}
	}
	return out
}

// rowTest keeps all cells of the rows for which it is true.
type rowTest func(row []byte) bool

func (keep rowTest) apply(ev *evaluation, cells []cell) []cell {
	if keep(ev.row) {
		return cells
	}
	return nil
}

// chain passes the output of each step to the next.
type chain []node

func (c chain) apply(ev *evaluation, cells []cell) []cell {
	for _, step := range c {
		if len(cells) == 0 {
			return nil
		}
		cells = step.apply(ev, cells)
	}
	return cells
}

// interleave runs its branches on copies of the input and merges their outputs,
// duplicates included.
type interleave []node

func (l interleave) apply(ev *evaluation, cells []cell) []cell {
	var out []cell
	for _, branch := range l {
		out = append(out, branch.apply(ev, slices.Clone(cells))...)
	}
	slices.SortStableFunc(out, compareCells)
	return out
}

// condition applies one of two filters, by whether the predicate passes any
// cell. A nil filter passes none.
type condition struct{ predicate, yes, no node }

func (c condition) apply(ev *evaluation, cells []cell) []cell {
	next := c.no
	if len(c.predicate.apply(ev, slices.Clone(cells))) > 0 {
		next = c.yes
	}
	if next == nil {
		return nil
	}
	return next.apply(ev, cells)
}

// sink sends cells to the output of the read and nothing to the next step.
type sink struct{}

func (sink) apply(ev *evaluation, cells []cell) []cell {
	ev.sunk = append(ev.sunk, cells...)
	return nil
}

// rowOffset skips the first cells of a row, rowLimit the others.
type (
	rowOffset int
	rowLimit  int
)

func (n rowOffset) apply(_ *evaluation, cells []cell) []cell { return cells[min(int(n), len(cells)):] }
func (n rowLimit) apply(_ *evaluation, cells []cell) []cell  { return cells[:min(int(n), len(cells))] }

// columnLimit keeps the first cells of each column.
type columnLimit int

func (n columnLimit) apply(_ *evaluation, cells []cell) []cell {
	out := cells[:0]
	seen := 0
	var last cell
	for i, c := range cells {
		if i == 0 || !c.sameColumn(&last) {
			seen = 0
		}
		last = c
		if seen++; seen <= int(n) {
			out = append(out, c)
		}
	}
	return out
}

// cellChange passes every cell, changed.
type cellChange func(*cell)

func (change cellChange) apply(_ *evaluation, cells []cell) []cell {
	for i := range cells {
		change(&cells[i])
	}
	return cells
}

// sample passes a row with a probability.
type sample float64

func (p sample) apply(_ *evaluation, cells []cell) []cell {
	if rand.Float64() < float64(p) {
		return cells
	}
	return nil
}

// byteRange is a range of byte strings whose ends may be open, closed or absent.
type byteRange struct {
	low, high         []byte
	lowOpen, highOpen bool
	unbounded         bool // no high end
}

func (r byteRange) contains(b []byte) bool {
	if c := bytes.Compare(b, r.low); c < 0 || (c == 0 && r.lowOpen) {
		return false
	}
	if r.unbounded {
		return true
	}
	c := bytes.Compare(b, r.high)
	return c < 0 || (c == 0 && !r.highOpen)
}

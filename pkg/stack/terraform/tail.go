package terraform

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/latamctl/latamctl/pkg/proc"
)

// follower reads the lines of a file that another program appends to. It never blocks that program.
type follower struct {
	path    string
	file    io.ReaderAt
	close   func() error
	offset  int64
	pending []byte // a line whose end is not written yet
	maxLine int
	cut     bool // the pending line was too long: its rest is dropped
	line    func([]byte)
}

func follow(p *proc.Process, path string, maxLine int, line func([]byte)) (*follower, error) {
	f, err := p.OpenAt(path)
	if err != nil {
		return nil, fmt.Errorf("follow the output of terraform: %w", err)
	}
	return &follower{path: path, file: f, close: f.Close, maxLine: maxLine, line: line}, nil
}

// poll reads what was written since the last time.
func (f *follower) poll() error {
	buf := make([]byte, 64<<10)
	for {
		n, err := f.file.ReadAt(buf, f.offset)
		f.offset += int64(n)
		f.take(buf[:n])
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the output of terraform in %s: %w", f.path, err)
		}
	}
}

func (f *follower) take(b []byte) {
	for {
		line, rest, whole := bytes.Cut(b, []byte("\n"))
		if !f.cut {
			f.pending = append(f.pending, line...)
		}
		if len(f.pending) > f.maxLine { // Its start is shown; it is no event any more.
			f.pending, f.cut = f.pending[:f.maxLine], true
		}
		if !whole {
			return
		}
		f.end()
		b = rest
	}
}

// end passes the pending line on.
func (f *follower) end() {
	if len(f.pending) > 0 {
		f.line(f.pending)
	}
	f.pending, f.cut = f.pending[:0], false
}

// finish reads what is left, with a last line that has no end.
func (f *follower) finish() error {
	err := f.poll()
	f.end()
	return errors.Join(err, f.close())
}

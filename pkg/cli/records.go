package cli

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// errNothingYet says that a slow input has no record at the moment.
var errNothingYet = errors.New("no record yet")

// maxLineBytes is the largest record that Pub/Sub takes.
const maxLineBytes = 10 << 20

// recordReader reads records as JSON objects, ahead of its caller, so that a slow input does not
// hold up what was read before.
type recordReader struct {
	name    string
	records chan readRecord
	stop    chan struct{}
	file    io.Closer
}

type readRecord struct {
	data []byte
	err  error
}

// idleFlush is how long a half-filled batch waits for a slow input.
const idleFlush = 10 * time.Millisecond

// next returns the next record, io.EOF at the end, or errNothingYet when hurry is set and the
// input is slow.
func (r *recordReader) next(ctx context.Context, hurry bool) ([]byte, error) {
	select {
	case rec := <-r.records:
		return rec.data, rec.err
	default:
	}
	var idle <-chan time.Time
	if hurry {
		timer := time.NewTimer(idleFlush)
		defer timer.Stop()
		idle = timer.C
	}
	select {
	case rec := <-r.records:
		return rec.data, rec.err
	case <-idle:
		return nil, errNothingYet
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Close ends the reading.
func (r *recordReader) Close() error {
	close(r.stop)
	return r.file.Close()
}

// openRecords opens the input of publish and finds out what it is.
func (a *app) openRecords(ds *dataset.Dataset, o publishOptions) (*recordReader, error) {
	name, file := "standard input", io.NopCloser(a.proc.In)
	if o.file != "-" {
		f, err := a.proc.Open(o.file)
		if err != nil {
			return nil, fail(exitUsage, "check --file", err)
		}
		name, file = o.file, f
	} else if a.proc.InTerminal {
		return nil, failf(exitUsage, "name a file with -f, or pipe records in", "standard input is a terminal")
	}
	source, err := newSource(name, file, ds, o)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	r := &recordReader{name: name, records: make(chan readRecord, 4096), stop: make(chan struct{}), file: file}
	go r.readAhead(source)
	return r, nil
}

func (r *recordReader) readAhead(next func() ([]byte, error)) {
	for {
		data, err := next()
		select {
		case r.records <- readRecord{data, err}:
		case <-r.stop:
			return
		}
		if err != nil {
			return
		}
	}
}

// newSource returns the function that reads one record after the other.
func newSource(name string, file io.Reader, ds *dataset.Dataset, o publishOptions) (func() ([]byte, error), error) {
	in, err := decompressed(name, bufio.NewReaderSize(file, 1<<16))
	if err != nil {
		return nil, err
	}
	format, err := inputFormat(name, in, o.format)
	if err != nil {
		return nil, err
	}
	if format == "csv" {
		rows, err := dataset.NewCSVReader(ds, in, dataset.CSVOptions{Null: o.null, IgnoreUnknown: o.ignoreUnknown})
		if err != nil {
			return nil, fail(exitFailed, "correct the header line, or leave other columns out with --ignore-unknown", fmt.Errorf("read %s: %w", name, err))
		}
		return func() ([]byte, error) { return named(name, rows.Next) }, nil
	}
	lines := &lineReader{in: in, name: name}
	return lines.next, nil
}

// decompressed reads gzip and Zstandard as what is in them.
func decompressed(name string, in *bufio.Reader) (*bufio.Reader, error) {
	magic, _ := in.Peek(4)
	var plain io.Reader
	var err error
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		plain, err = gzip.NewReader(in)
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		// In one goroutine, and in little memory: that of a window, whatever the file says.
		plain, err = zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxZstdWindow))
	default:
		return in, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return bufio.NewReaderSize(plain, 1<<16), nil
}

// maxZstdWindow is what zstd itself reads without being told to take more memory.
const maxZstdWindow = 128 << 20

func named(name string, next func() ([]byte, error)) ([]byte, error) {
	data, err := next()
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("read %s: %w", name, err)
	}
	return bytes.Clone(data), err
}

// inputFormat goes by the flag, the name and then the first byte.
func inputFormat(name string, in *bufio.Reader, flag string) (string, error) {
	plain := strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(name), ".gz"), ".zst")
	switch {
	case flag == "csv" || flag == "ndjson":
		return flag, nil
	case flag != "":
		return "", failf(exitUsage, "", "format %q is not ndjson or csv", flag)
	case strings.HasSuffix(plain, ".csv"):
		return "csv", nil
	case strings.HasSuffix(plain, ".ndjson"), strings.HasSuffix(plain, ".jsonl"):
		return "ndjson", nil
	}
	head, _ := in.Peek(512)
	head = bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\ufeff")), " \t\r\n")
	switch {
	case len(head) == 0 || head[0] == '{':
		return "ndjson", nil
	case head[0] == '[':
		return "", failf(exitFailed, "turn the array into lines first: jq -c '.[]' FILE | latamctl publish DATASET -f -", "read %s: it is a JSON array, not one object a line", name)
	}
	return "csv", nil
}

// lineReader reads NDJSON: one record a line, blank lines left out.
type lineReader struct {
	in   *bufio.Reader
	name string
	line int
}

func (l *lineReader) next() ([]byte, error) {
	for {
		line, err := l.read()
		if err != nil {
			return nil, err
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			return line, nil
		}
	}
}

// read returns one line of any length up to the limit.
func (l *lineReader) read() ([]byte, error) {
	l.line++
	var line []byte
	for {
		part, err := l.in.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > maxLineBytes:
			return nil, fmt.Errorf("read %s: line %d is longer than Pub/Sub's %d bytes", l.name, l.line, maxLineBytes)
		case err == nil, errors.Is(err, io.EOF) && len(line) > 0:
			return line, nil
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF):
			return nil, io.EOF
		default:
			return nil, fmt.Errorf("read %s: line %d: %w", l.name, l.line, err)
		}
	}
}

package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/latamctl/latamctl/pkg/bucket"
	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/proc"
	"github.com/latamctl/latamctl/services/ingest/backfill"
)

// progressCount is a number that a progress line shows.
type progressCount struct{ n atomic.Int64 }

// backfillFiles finds the files of a backfill.
func (a *app) backfillFiles(ctx context.Context, ds *dataset.Dataset, o backfillOptions) ([]backfill.File, error) {
	var files []backfill.File
	for _, name := range o.files {
		switch {
		case strings.HasPrefix(name, "gs://"):
			objects, err := bucket.FindObjects(ctx, name, bucket.Options{Proc: a.proc, Endpoint: o.storageURL})
			if err != nil {
				return nil, objectFault(err)
			}
			for _, object := range objects {
				files = append(files, a.objectFile(ds, o, object))
			}
		case name == "-":
			return nil, failf(exitUsage, "latamctl publish "+ds.Name+" -f - sends what comes in", "standard input cannot be gone on with after an end")
		default:
			file, err := a.localFile(ds, o, name)
			if err != nil {
				return nil, err
			}
			files = append(files, file)
		}
	}
	return files, nil
}

// objectFault gives the errors of a bucket their exit codes.
func objectFault(err error) error {
	switch {
	case errors.Is(err, bucket.ErrDenied):
		return fail(exitDenied, "gcloud auth application-default login signs in; the right to read is roles/storage.objectViewer", err)
	case errors.Is(err, bucket.ErrUnavailable):
		return fail(exitUnavailable, "try again", err)
	}
	return fail(exitUsage, "check --file", err)
}

func (a *app) objectFile(ds *dataset.Dataset, o backfillOptions, object *bucket.Object) backfill.File {
	return backfill.File{
		Name: object.URL, Identity: "generation " + string(object.Generation),
		Open: func(ctx context.Context) (backfill.Records, error) {
			return openSource(object.URL, object.Open(ctx), ds, o.records)
		},
	}
}

// headBytes is how much of a file tells it from another one besides its size and times.
const headBytes = 64 << 10

func (a *app) localFile(ds *dataset.Dataset, o backfillOptions, name string) (backfill.File, error) {
	if a.proc.IsDir(name) {
		return backfill.File{}, failf(exitUsage, "name the files in it", "%s is a folder", name)
	}
	head, err := a.headOf(name)
	if err != nil {
		return backfill.File{}, fail(exitUsage, "check --file", err)
	}
	stamp, err := a.proc.Stamp(name)
	if err != nil {
		return backfill.File{}, fail(exitUsage, "check --file", err)
	}
	return backfill.File{
		Name: a.proc.Path(name), Identity: stamp + "/" + head,
		Open: func(context.Context) (backfill.Records, error) {
			file, err := a.proc.Open(name)
			if err != nil {
				return nil, err
			}
			return openSource(name, file, ds, o.records)
		},
	}, nil
}

// headOf is the digest of a file's first bytes.
func (a *app) headOf(name string) (string, error) {
	file, err := a.proc.Open(name)
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	_, err = io.CopyN(sum, file, headBytes)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return hex.EncodeToString(sum.Sum(nil)[:16]), errors.Join(err, file.Close())
}

// sourceRecords are the records of an open file.
type sourceRecords struct {
	next func() ([]byte, error)
	io.Closer
}

func (s sourceRecords) Next() ([]byte, error) { return s.next() }

func openSource(name string, file io.ReadCloser, ds *dataset.Dataset, o publishOptions) (backfill.Records, error) {
	next, err := newSource(name, file, ds, o)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return sourceRecords{next, file}, nil
}

// reject is a line of the file of rejected records.
type reject struct {
	File   string `json:"file"`
	Record int64  `json:"record"`
	Reason string `json:"reason"`
	Field  string `json:"field,omitempty"`
	Error  string `json:"error"`
	// Data is the record; DataBase64 when it is not text.
	Data       string `json:"data,omitempty"`
	DataBase64 string `json:"data_base64,omitempty"`
}

// rejectsFile takes rejected records instead of the dead letters.
type rejectsFile struct {
	mu      sync.Mutex
	journal *proc.Journal
	// known are those behind the position that an earlier run has written.
	known map[string]bool
}

func rejectName(file, record string) string { return record + " of " + file }

// openRejects opens the file of rejected records. One that is there is gone on with only by the
// backfill that made it.
func openRejects(p *proc.Process, path string, from backfill.Position) (*rejectsFile, error) {
	old, err := readRejects(p, path)
	if err != nil {
		return nil, fail(exitUsage, "check --rejects", err)
	}
	r := &rejectsFile{known: map[string]bool{}}
	whole := int64(0)
	for line := range bytes.Lines(old) {
		var was reject
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // Its writing was cut off; the record comes again.
		}
		if err := json.Unmarshal(line, &was); err != nil {
			return nil, failf(exitRefused, "name another file with --rejects", "%s is there already, and is not a file of rejected records", path)
		}
		whole += int64(len(line))
		r.known[rejectName(was.File, strconv.FormatInt(was.Record, 10))] = true
	}
	if !rejectsOf(r.known, from) {
		return nil, failf(exitRefused, "move it away, or name another file with --rejects", "%s has rejected records of another backfill, and nothing is overwritten", path)
	}
	if r.journal, err = p.OpenJournal(path); err == nil {
		err = r.journal.Truncate(whole)
	}
	if err != nil {
		return nil, fail(exitUsage, "name a file that can be written with --rejects", err)
	}
	return r, nil
}

// rejectsOf tells whether rejected records are of the files of a position.
func rejectsOf(known map[string]bool, p backfill.Position) bool {
	for name := range known {
		mine := false
		for _, f := range p.Files {
			mine = mine || strings.HasSuffix(name, " of "+f.Name)
		}
		if !mine {
			return false
		}
	}
	return true
}

// maxRejectsBytes bounds the file of rejected records that is gone on with.
const maxRejectsBytes = 1 << 30

func readRejects(p *proc.Process, path string) ([]byte, error) {
	if !p.Exists(path) {
		return nil, nil
	}
	return p.ReadFileLimit(p.Path(path), maxRejectsBytes)
}

// Publish writes a rejected record.
func (r *rejectsFile) Publish(_ context.Context, _ string, data []byte, attributes map[string]string) (string, error) {
	name := rejectName(attributes[backfill.AttrFile], attributes[backfill.AttrRecord])
	record, _ := strconv.ParseInt(attributes[backfill.AttrRecord], 10, 64) // We wrote it.
	line := reject{
		File: attributes[backfill.AttrFile], Record: record, Reason: attributes[bus.AttrReason], Field: attributes[bus.AttrField], Error: attributes[bus.AttrError],
	}
	if utf8.Valid(data) {
		line.Data = string(data)
	} else {
		line.DataBase64 = base64.StdEncoding.EncodeToString(data)
	}
	text, err := json.Marshal(line)
	if err != nil {
		return "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known[name] {
		return name, nil
	}
	if _, err := r.journal.Write(append(text, '\n')); err != nil {
		return "", fmt.Errorf("write a rejected record: %w", err)
	}
	r.known[name] = true
	return name, nil
}

// Sync makes what was written durable.
func (r *rejectsFile) Sync() error { return r.journal.Sync() }

// Close ends it.
func (r *rejectsFile) Close() error { return r.journal.Close() }

// backfillDocument is how a backfill ended, for programs.
type backfillDocument struct {
	Schema   string `json:"schema"`
	Dataset  string `json:"dataset"`
	DryRun   bool   `json:"dry_run"`
	Complete bool   `json:"complete"`
	Position string `json:"position"`
	Total    int64  `json:"total"`
	backfill.Counts
	Rejects   string  `json:"rejects,omitempty"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"rate_per_second"`
	Error     string  `json:"error,omitempty"`
}

// report says what was done.
func (r *backfillRun) report(c backfill.Counts, p backfill.Position, failed string) error {
	a, seconds := r.app, r.seconds()
	perSecond := float64(c.Records) / max(seconds, 0.001)
	if a.global.output == outputJSON {
		return json.NewEncoder(a.proc.Out).Encode(backfillDocument{
			Schema: "latamctl.backfill/v1", Dataset: r.ds.Name, Complete: p.Complete(), Position: r.position, Total: p.Total, Counts: c,
			Rejects: r.o.rejects, Seconds: seconds, PerSecond: perSecond, Error: failed,
		})
	}
	if failed != "" {
		return nil // The error says how far it came.
	}
	var b strings.Builder
	fmt.Fprintf(&b, "stored %d records in %s in %.2fs (%.0f/s)", c.Stored, r.ds.Name, seconds, perSecond)
	if c.Skipped > 0 {
		fmt.Fprintf(&b, ", %d were stored before", c.Skipped)
	}
	if n := c.RejectedAll(); n > 0 {
		where := "dead letters"
		if r.o.rejects != "" {
			where = "rejected into " + r.o.rejects
		}
		fmt.Fprintf(&b, ", %d %s (%s)", n, where, reasons(c.Rejected))
	}
	_, err := fmt.Fprintf(a.proc.Out, "%s\nposition: %s\n", b.String(), r.position)
	return err
}

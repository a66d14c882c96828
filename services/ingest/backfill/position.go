package backfill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// positionSchema names the format of a saved position.
const positionSchema = "latamctl.backfill-position/v1"

// Position is how far a backfill has come. Every record before it is settled.
type Position struct {
	Schema  string `json:"schema"`
	Dataset string `json:"dataset"`
	// At is the time of records in a dataset without a time field: when the backfill began.
	At time.Time `json:"at"`
	// Reading is how the files are read: the flags that matter.
	Reading string         `json:"reading,omitempty"`
	Files   []PositionFile `json:"files"`
	// File is the place in Files of the one to go on with, Records how many of its records are settled,
	// and Total how many of all files. Once every one is settled, File is the number of files.
	File    int   `json:"file"`
	Records int64 `json:"records"`
	Total   int64 `json:"total"`
}

// PositionFile is one of the files.
type PositionFile struct {
	Name     string `json:"name"`
	Identity string `json:"identity"`
}

// ErrOther says that a position is of another backfill: of other files, or of files that have changed.
var ErrOther = errors.New("the position is of another backfill")

// Begin is the position before the first record.
func Begin(ds *dataset.Dataset, files []File, reading string, at time.Time) Position {
	p := Position{Schema: positionSchema, Dataset: ds.Name, At: at.UTC(), Reading: reading}
	for _, f := range files {
		p.Files = append(p.Files, PositionFile{Name: f.Name, Identity: f.Identity})
	}
	return p
}

// ParsePosition reads a position that was saved as JSON.
func ParsePosition(text []byte) (Position, error) {
	var p Position
	if err := json.Unmarshal(text, &p); err != nil {
		return Position{}, fmt.Errorf("it is not a saved position: %w", err)
	}
	switch {
	case p.Schema != positionSchema:
		return Position{}, fmt.Errorf("it is not a saved position: expected schema %s, got %.60q", positionSchema, p.Schema)
	case p.File < 0 || p.File > len(p.Files) || p.Records < 0 || p.Total < p.Records || p.File == len(p.Files) && p.Records > 0:
		return Position{}, fmt.Errorf("it is not a saved position: record %d of file %d of %d", p.Records, p.File+1, len(p.Files))
	}
	return p, nil
}

// Complete says that every record of every file is settled.
func (p Position) Complete() bool { return p.File == len(p.Files) }

// Fits tells whether the position is of these files, as they are now. The error is ErrOther.
func (p Position) Fits(ds *dataset.Dataset, files []File) error {
	if p.Dataset != ds.Name {
		return fmt.Errorf("%w: it is of dataset %.60q, not %s", ErrOther, p.Dataset, ds.Name)
	}
	if len(files) != len(p.Files) {
		return fmt.Errorf("%w: it is of %d files, not %d", ErrOther, len(p.Files), len(files))
	}
	for i, f := range files {
		switch was := p.Files[i]; {
		case was.Name != f.Name:
			return fmt.Errorf("%w: file %d was %.200s, and is %s now", ErrOther, i+1, was.Name, f.Name)
		case was.Identity != f.Identity:
			return fmt.Errorf("%w: %s has changed since", ErrOther, f.Name)
		}
	}
	return nil
}

// span is how far the records in work may be apart at most. The worker remembers as many keys, so that
// of two records with one key and one time the later wins, also when the earlier one is tried again.
const span = 16_000

// tracker keeps the position and the counts.
type tracker struct {
	at time.Time

	mu    sync.Mutex
	start Position // of the current file
	begun int64    // records of all files that were given to the worker, or settled before
	done  int64    // records of all files up to which everything is settled
	// ahead are settled records behind one that is not.
	ahead  map[int64]struct{}
	moved  chan struct{} // closed when done has moved on
	counts Counts
}

func newTracker(from Position) *tracker {
	return &tracker{
		at: from.At, start: from, begun: from.Total, done: from.Total, ahead: map[int64]struct{}{}, moved: make(chan struct{}),
		counts: Counts{Skipped: from.Total, Rejected: map[string]int64{}},
	}
}

// begin numbers the next record, once it is not too far ahead; false says that the context has ended.
func (t *tracker) begin(ctx context.Context) (total int64, ok bool) {
	for {
		t.mu.Lock()
		if t.begun-t.done < span {
			t.begun++
			defer t.mu.Unlock()
			return t.begun, true
		}
		moved := t.moved
		t.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return 0, false
		}
	}
}

// settled notes a record, and moves the position on when it was the first that was missing.
func (t *tracker) settled(total int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts.Records++
	t.ahead[total] = struct{}{}
	before := t.done
	for {
		if _, ok := t.ahead[t.done+1]; !ok {
			break
		}
		t.done++
		delete(t.ahead, t.done)
	}
	if t.done > before && t.begun-before >= span {
		close(t.moved)
		t.moved = make(chan struct{})
	}
}

// nextFile begins with the next file, when everything of the current one is settled.
func (t *tracker) nextFile() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.start.File++
	t.start.Records, t.start.Total = 0, t.done
}

func (t *tracker) position() Position {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.start
	p.Records += t.done - p.Total
	p.Total = t.done
	return p
}

func (t *tracker) retried() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts.Retried++
}

// rejected counts a dead letter and returns how many there are.
func (t *tracker) rejected(reason string) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts.Rejected[reason]++
	return t.counts.RejectedAll()
}

func (t *tracker) snapshot() Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.counts
	c.Rejected = maps.Clone(c.Rejected)
	c.Stored = max(0, c.Records-c.RejectedAll())
	return c
}

package replay

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/services/ingest"
)

// Rows reads stored rows, as store.Client does.
type Rows interface {
	GetMany(ctx context.Context, table string, keys, columns []string) ([]dataset.Row, error)
}

// effect is what storing a record does to its row.
type effect int

const (
	appears effect = iota
	changes
	stays
	hidden    // its event time is older than that of the row
	outranked // it is not of the window, and newer than what is
)

// FieldChange is one field of a row that would change. A missing value is "".
type FieldChange struct {
	Field string `json:"field"`
	Old   string `json:"old"`
	New   string `json:"new"`
}

// Change is a row that would change.
type Change struct {
	ID     string        `json:"id"`
	Fields []FieldChange `json:"fields"`
}

// Preview says what processing records would do. Rows are counted once each, for the record of
// theirs that counts in the end.
type Preview struct {
	Records  int64            `json:"records"`
	New      int64            `json:"new"`
	Changed  int64            `json:"changed"`
	Same     int64            `json:"same"`
	Older    int64            `json:"older"`
	Rejected map[string]int64 `json:"rejected"`
	// Changes are some of the rows that would change.
	Changes []Change `json:"changes"`
}

// RejectedAll is how many records would be rejected, for whatever reason.
func (p Preview) RejectedAll() (n int64) {
	for _, of := range p.Rejected {
		n += of
	}
	return n
}

// TooOld is how many records are older than the retention.
func (p Preview) TooOld() int64 { return p.Rejected[string(dataset.ReasonTooOld)] }

const (
	// maxChanges is how many rows that would change are described.
	maxChanges = 10
	// candidates is how many are kept in case that others turn out to be replaced.
	candidates = 20 * maxChanges
	// compareRows is how many rows are read at a time.
	compareRows = 500
)

// Comparer compares records with the stored rows. It is safe for concurrent use.
type Comparer struct {
	ds      *dataset.Dataset
	rows    Rows
	digests digester

	mu      sync.Mutex
	preview Preview
	seen    memory[compared]
	changes map[digest]Change
}

// compared is the newest record of a key and its effect.
type compared struct {
	stamp  stamp
	effect effect
}

// NewComparer makes a comparer that remembers maxKeys keys at least; 0 means 1,000,000. A key whose
// records are further apart is counted once for each.
func NewComparer(ds *dataset.Dataset, rows Rows, maxKeys int) *Comparer {
	setDefault(&maxKeys, 1_000_000)
	c := &Comparer{
		ds: ds, rows: rows, digests: newDigester(), seen: newMemory[compared](maxKeys), changes: map[digest]Change{},
		preview: Preview{Rejected: map[string]int64{}},
	}
	c.seen.forget = func(gone map[digest]compared) {
		for key, of := range gone {
			c.preview.count(of.effect)
			delete(c.changes, key)
		}
	}
	return c
}

// Reject counts a record that would be rejected.
func (c *Comparer) Reject(err *dataset.RejectError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.preview.Records++
	c.preview.Rejected[string(err.Reason)]++
}

// Placed is a record with its row.
type Placed struct {
	Row     dataset.Row
	Message bus.Message
}

// Compare reads the rows of records and notes what would become of them.
func (c *Comparer) Compare(ctx context.Context, records []Placed) error {
	for part := range slices.Chunk(records, compareRows) {
		keys := make([]string, len(part))
		for i, p := range part {
			keys[i] = p.Row.Key
		}
		stored, err := c.rows.GetMany(ctx, c.ds.Table(), keys, nil)
		if err != nil {
			return err
		}
		for i, p := range part {
			c.note(p, stored[i])
		}
	}
	return nil
}

func (c *Comparer) note(p Placed, stored dataset.Row) {
	does, change := c.effectOf(p.Row, stored)
	key, mark := c.digests.of(p.Row.Key), stampOf(p.Row.Time.UnixMilli(), p.Message)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.preview.Records++
	c.place(key, compared{mark, does}, change)
}

// place keeps a record when it is the newest of its key. The caller holds the lock.
func (c *Comparer) place(key digest, of compared, change Change) {
	if known, ok := c.seen.get(key); ok && of.stamp.before(known.stamp) {
		return
	}
	c.seen.put(key, of)
	delete(c.changes, key)
	if of.effect == changes && len(c.changes) < candidates {
		c.changes[key] = change
	}
}

// outrank notes a record that is not to be processed, yet is newer than others of its key.
func (c *Comparer) outrank(row dataset.Row, m bus.Message) {
	key, mark := c.digests.of(row.Key), stampOf(row.Time.UnixMilli(), m)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.place(key, compared{mark, outranked}, Change{})
}

// effectOf compares a record's row with the stored one.
func (c *Comparer) effectOf(row, stored dataset.Row) (effect, Change) {
	switch {
	case len(stored.Cells) == 0:
		return appears, Change{}
	case row.Time.Before(stored.Time):
		return hidden, Change{}
	}
	old := make(map[string][]byte, len(stored.Cells))
	for _, cell := range stored.Cells {
		old[cell.Column] = cell.Value
	}
	var change Change
	for _, cell := range row.Cells {
		if before := old[cell.Column]; !bytes.Equal(before, cell.Value) {
			change.Fields = append(change.Fields, FieldChange{Field: cell.Column, Old: shown(before), New: shown(cell.Value)})
		}
	}
	if len(change.Fields) == 0 {
		return stays, Change{}
	}
	change.ID, _ = c.ds.RowID(row.Key) // It has one: it was made of the record.
	return changes, change
}

// maxShown is how many bytes of a value are shown.
const maxShown = 200

// shown is a cell as text.
func shown(cell []byte) string {
	text := strings.ToValidUTF8(strings.TrimPrefix(string(cell), "\xff"), "�")
	if len(text) > maxShown {
		return strings.ToValidUTF8(text[:maxShown], "") + "…"
	}
	return text
}

func (p *Preview) count(e effect) {
	switch e {
	case appears:
		p.New++
	case changes:
		p.Changed++
	case stays:
		p.Same++
	case hidden:
		p.Older++
	case outranked:
	}
}

// Preview returns what was found so far.
func (c *Comparer) Preview() Preview {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.preview
	p.Rejected = maps.Clone(p.Rejected)
	p.Changes = []Change{}
	c.seen.all(func(key digest, of compared) {
		p.count(of.effect)
		if change, ok := c.changes[key]; ok && of.effect == changes {
			p.Changes = append(p.Changes, change)
		}
	})
	slices.SortFunc(p.Changes, func(a, b Change) int { return strings.Compare(a.ID, b.ID) })
	p.Changes = p.Changes[:min(len(p.Changes), maxChanges)]
	return p
}

// Preview reads the window and says what processing it would do. It writes nothing.
func (r *Replay) Preview(ctx context.Context, rows Rows) (Preview, Report, error) {
	run, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	p := &previewing{replay: r, stop: stop, comparer: NewComparer(r.ds, rows, r.opts.MaxKeys), queue: make(chan asked)}
	var running sync.WaitGroup
	running.Go(func() { r.window.await(run, stop) })
	ended := make(chan struct{})
	running.Go(func() { p.compare(ended) })
	err := r.follower.Follow(run, r.ds.Topic, bus.FollowOptions{
		From: r.opts.From, Ready: r.window.begin, MaxMessages: r.opts.MaxMessages, MaxBytes: r.opts.MaxBytes, Keep: keepBacklog,
	}, p.take)
	stop(err)
	close(ended)
	running.Wait()
	report := r.window.report()
	switch cause := context.Cause(run); {
	case errors.Is(cause, errDone):
		return p.comparer.Preview(), report, nil
	case ctx.Err() != nil:
		return p.comparer.Preview(), report, context.Cause(ctx)
	default:
		return Preview{}, report, cause
	}
}

// previewing is a preview under way. Messages wait for each other to share reads.
type previewing struct {
	replay   *Replay
	stop     context.CancelCauseFunc
	comparer *Comparer
	queue    chan asked
}

type asked struct {
	placed Placed
	answer chan error
}

func (p *previewing) take(ctx context.Context, m bus.Message) bool {
	r := p.replay
	inWindow, relevant := r.window.arrived(m)
	if !relevant {
		return true
	}
	if inWindow && r.limit != nil && r.limit.Wait(ctx) != nil {
		return false
	}
	row, err := ingest.Row(ctx, r.ds, r.deps.Payloads, m)
	var rejected *dataset.RejectError
	switch {
	case !inWindow && err != nil:
		return true
	case !inWindow:
		p.comparer.outrank(row, m)
		return true
	case errors.As(err, &rejected):
		p.comparer.Reject(rejected)
		r.window.settled(m, true, true)
		return true
	case err != nil:
		return p.giveBack(ctx, err)
	}
	a := asked{Placed{Row: row, Message: m}, make(chan error, 1)}
	p.queue <- a
	if err := <-a.answer; err != nil {
		return p.giveBack(ctx, err)
	}
	r.window.settled(m, true, true)
	return true
}

// giveBack returns a message that could not be compared, after a pause, unless there is no sense in it.
func (p *previewing) giveBack(ctx context.Context, err error) bool {
	if errors.Is(err, store.ErrMisconfigured) {
		p.stop(err)
		return false
	}
	p.replay.deps.Log.Warn("a record could not be compared, it is read again", "dataset", p.replay.ds.Name, "error", err)
	select {
	case <-ctx.Done():
	case <-time.After(previewRetry):
	}
	return false
}

const (
	previewRetry = time.Second
	// company is how long a record waits for others to share a read.
	company = 2 * time.Millisecond
)

// compare answers what is asked, many at a time, until the reading has ended.
func (p *previewing) compare(ended <-chan struct{}) {
	for {
		select {
		case <-ended:
			return
		case first := <-p.queue:
			p.answer(p.gather(first))
		}
	}
}

func (p *previewing) gather(first asked) []asked {
	all := []asked{first}
	timer := time.NewTimer(company)
	defer timer.Stop()
	for len(all) < compareRows {
		select {
		case next := <-p.queue:
			all = append(all, next)
		case <-timer.C:
			return all
		}
	}
	return all
}

// answer compares without the context of the run: what was asked when it ends is still answered.
func (p *previewing) answer(all []asked) {
	placed := make([]Placed, len(all))
	for i, a := range all {
		placed[i] = a.placed
	}
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	err := p.comparer.Compare(ctx, placed)
	for _, a := range all {
		a.answer <- err
	}
}

// readTimeout bounds one read of stored rows.
const readTimeout = 30 * time.Second

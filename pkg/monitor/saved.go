package monitor

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/plan"
)

// SavedSchema is the schema of saved plans.
const SavedSchema = "latamctl.monitors-saved-plan/v1"

// MaxSavedBytes is the size of the largest saved plan that is read.
const MaxSavedBytes = 64 << 20

// Saved is a plan in a file: what was looked at, and what it is about to change. It is carried out
// only when both are still the same.
type Saved struct {
	Schema string        `json:"schema"`
	Stack  string        `json:"stack"`
	Site   string        `json:"site"`
	Made   time.Time     `json:"made"`
	Prune  bool          `json:"prune"`
	Names  []string      `json:"names,omitempty"`
	Change []SavedChange `json:"changes"`
	// Digest is over everything else.
	Digest string `json:"digest"`
}

// SavedChange is one object of a saved plan.
type SavedChange struct {
	Action plan.Action `json:"action"`
	Key    string      `json:"key"`
	Reason string      `json:"reason,omitempty"`
	// ID, Modified and LiveHash are of the object at Datadog, empty when it is made.
	ID       string `json:"id,omitempty"`
	Modified string `json:"modified,omitempty"`
	LiveHash string `json:"live_hash,omitempty"`
	// Hash and Payload are what is declared, empty when it is deleted.
	Hash    string         `json:"hash,omitempty"`
	Payload map[string]any `json:"payload,omitempty"`
}

// Save returns a plan as a file for a sync later. Equal plans are equal bytes, but for the time.
func (s *Syncer) Save(p *Planned) ([]byte, error) {
	saved := s.saved(p)
	var err error
	if saved.Digest, err = saved.digest(); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // Queries are full of > and &&.
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(saved); err != nil {
		return nil, fmt.Errorf("write the plan: %w", err)
	}
	return b.Bytes(), nil
}

func (s *Syncer) saved(p *Planned) *Saved {
	saved := &Saved{
		Schema: SavedSchema, Stack: s.stack, Site: s.o.Site, Made: s.o.Now().UTC().Truncate(time.Second),
		Prune: p.options.Prune, Names: p.options.Names, Change: []SavedChange{},
	}
	for _, st := range p.steps {
		change := SavedChange{Action: st.action, Key: st.key.String(), Reason: st.reason, Payload: st.want}
		if st.want != nil {
			change.Hash = digest(st.key.Kind, normalise(st.key.Kind, st.want))
		}
		switch {
		case st.live != nil:
			change.ID, change.Modified, change.LiveHash = st.live.live.ID, st.live.live.Modified, st.live.sum
		case st.metric != nil:
			change.ID, change.LiveHash = st.metric.ID, digest(declare.Metric, normalise(declare.Metric, st.metric.Payload))
		}
		saved.Change = append(saved.Change, change)
	}
	return saved
}

func (s *Saved) digest() (string, error) {
	bare := *s
	bare.Digest = ""
	content, err := json.Marshal(bare)
	if err != nil {
		return "", fmt.Errorf("sum up the plan: %w", err)
	}
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:]), nil
}

// ErrSaved is the kind of errors about a file that is no saved plan.
var ErrSaved = errors.New("not a saved plan")

// ReadSaved reads a saved plan. The error is of kind ErrSaved when it is none, or was edited.
func ReadSaved(content []byte) (*Saved, error) {
	if len(content) > MaxSavedBytes {
		return nil, fmt.Errorf("%w: it has %d bytes, and %d are the limit", ErrSaved, len(content), MaxSavedBytes)
	}
	saved := &Saved{}
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(saved); err != nil {
		return nil, fmt.Errorf("%w, as latamctl monitors plan --out writes it: %w", ErrSaved, err)
	}
	if saved.Schema != SavedSchema {
		return nil, fmt.Errorf("%w: its schema is %q instead of %q", ErrSaved, saved.Schema, SavedSchema)
	}
	sum, err := saved.digest()
	if err != nil {
		return nil, err
	}
	if sum != saved.Digest {
		return nil, fmt.Errorf("%w: it was edited after latamctl monitors plan wrote it", ErrSaved)
	}
	return saved, nil
}

// Resume reads Datadog again and returns the plan when it is the saved one. Anything that moved since
// is a *Refusal that names it.
func (s *Syncer) Resume(ctx context.Context, saved *Saved) (*Planned, error) {
	if saved.Stack != s.stack || saved.Site != s.o.Site {
		return nil, refusef("make a plan here: latamctl monitors plan --env "+s.o.Set.Environment+" --out FILE", "the plan is for stack %s at %s, and this is %s at %s", saved.Stack, saved.Site, s.stack, s.o.Site)
	}
	none := 0 // What exists was judged when the plan was made, and has to be the same.
	p, err := s.Plan(ctx, PlanOptions{Prune: saved.Prune, Names: saved.Names, ExpectExisting: &none})
	if err != nil {
		return nil, err
	}
	if moved := moved(saved.Change, s.saved(p).Change); len(moved) > 0 {
		return nil, refusef("make the plan again: latamctl monitors plan --env "+s.o.Set.Environment+" --out FILE", "%s since the plan was made: %s", quantity(len(moved), "object changed", "objects changed"), some(moved))
	}
	return p, nil
}

// moved names the objects in which two plans differ.
func moved(before, now []SavedChange) []string {
	identity := func(c SavedChange) string {
		c.Payload, c.Reason = nil, "" // The hash stands for the payload.
		return jsonText(c)
	}
	count := map[string]int{}
	for _, c := range before {
		count[identity(c)]++
	}
	var names []string
	for _, c := range now {
		if id := identity(c); count[id] > 0 {
			count[id]--
		} else {
			names = append(names, c.Key)
		}
	}
	for _, c := range before {
		if id := identity(c); count[id] > 0 {
			count[id]--
			names = append(names, c.Key)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/latamctl/latamctl/pkg/stack/state"
	"github.com/latamctl/latamctl/pkg/stack/terraform"
)

// recordVersion is the version of the records that this program writes and reads.
const recordVersion = 1

// record is what a run writes down while it goes on, for the next one to go on from.
type record struct {
	Version     int       `json:"version"`
	Run         string    `json:"run"`
	Command     string    `json:"command"` // up or down
	Environment string    `json:"environment"`
	Host        string    `json:"host"`
	PID         int       `json:"pid"`
	Started     time.Time `json:"started"`
	Ended       time.Time `json:"ended,omitzero"`
	Selection   Selection `json:"selection"`
	// Begun is set once the plan was approved. What was only planned is nothing to resume.
	Begun  bool                    `json:"begun,omitempty"`
	Stacks map[string]*stackRecord `json:"stacks"`
}

// stackRecord is how far a run came with one stack.
type stackRecord struct {
	Phase   Phase     `json:"phase"`
	Inputs  string    `json:"inputs,omitempty"`
	Plan    string    `json:"plan,omitempty"` // digest of the plan file
	Started time.Time `json:"started,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	// Running is the program of the last apply, written before it does anything.
	Running *terraform.Running `json:"running,omitempty"`
	Blocked string             `json:"blocked_by,omitempty"`
}

// journal keeps the record of a run.
type journal struct {
	d    *Driver
	path string

	mu  sync.Mutex
	rec record
}

func (d *Driver) openJournal(r *run, command string, s Selection) (*journal, error) {
	host, _ := d.opts.Proc.Owner()
	j := &journal{d: d, path: filepath.Join(r.dir, "run.json"), rec: record{
		Version: recordVersion, Run: r.id, Command: command, Environment: d.opts.Environment, Host: host, PID: d.opts.Proc.PID,
		Started: d.opts.Proc.Now().UTC(), Selection: s, Stacks: map[string]*stackRecord{},
	}}
	return j, j.change(func(*record) {})
}

// change writes the record after a change to it.
func (j *journal) change(f func(*record)) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	f(&j.rec)
	data, err := json.MarshalIndent(&j.rec, "", "  ")
	if err == nil {
		err = j.d.opts.Proc.WriteSecretFile(j.path, append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write the record of run %s: %w", j.rec.Run, err)
	}
	return nil
}

func (j *journal) stack(name string, f func(*stackRecord)) error {
	return j.change(func(rec *record) {
		if rec.Stacks[name] == nil {
			rec.Stacks[name] = &stackRecord{}
		}
		f(rec.Stacks[name])
	})
}

// begun tells whether the plan was approved, so that there is something to resume.
func (j *journal) begun() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.rec.Begun
}

func (j *journal) end() {
	if err := j.change(func(rec *record) { rec.Ended = j.d.opts.Proc.Now().UTC() }); err != nil {
		j.d.opts.Log.Warn("the end of the run was not recorded", "error", err)
	}
}

// journals are the records of earlier runs of this environment, oldest first. One that cannot be read is left alone.
func (d *Driver) journals(except string) ([]*journal, error) {
	paths, err := d.opts.Proc.Glob(filepath.Join(d.opts.Dir, "runs", "*", "run.json"))
	if err != nil {
		return nil, fmt.Errorf("list the records of runs: %w", err)
	}
	slices.Sort(paths)
	var out []*journal
	for _, path := range paths {
		j := &journal{d: d, path: path}
		data, err := d.opts.Proc.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read the record of a run: %w", err)
		}
		if json.Unmarshal(data, &j.rec) != nil || j.rec.Version != recordVersion {
			d.opts.Log.Warn("a record of a run cannot be read", "file", path)
			continue
		}
		if j.rec.Environment == d.opts.Environment && j.rec.Run != except {
			out = append(out, j)
		}
	}
	return out, nil
}

// lastUp is the record of the last up before this run that began to apply.
func (d *Driver) lastUp(except string) (*record, error) {
	all, err := d.journals(except)
	if err != nil {
		return nil, err
	}
	for _, j := range slices.Backward(all) {
		if j.rec.Command == "up" && j.rec.Begun {
			return &j.rec, nil
		}
	}
	return nil, fmt.Errorf("resume the last run: there is none of environment %s in %s; leave --resume out", d.opts.Environment, filepath.Join(d.opts.Dir, "runs"))
}

// adopt takes over what runs that were killed left behind: it waits for a terraform that still runs,
// and notes how their applies ended.
func (d *Driver) adopt(ctx context.Context, r *run) error {
	a, ok := d.opts.Terraform.(adopter)
	if !ok {
		return nil
	}
	all, err := d.journals(r.id)
	if err != nil {
		return err
	}
	host, _ := d.opts.Proc.Owner()
	for _, j := range all {
		if j.rec.Host != host {
			continue
		}
		if !j.rec.Ended.IsZero() {
			d.removeSecrets(filepath.Dir(j.path)) // It may have been killed between its end and its cleaning.
			continue
		}
		for name, s := range j.rec.Stacks {
			if s.Phase != Applying {
				continue
			}
			if err := d.adoptStack(ctx, a, j, name, s); err != nil {
				return err
			}
		}
		j.end()
		d.clean(&run{id: j.rec.Run, dir: filepath.Dir(j.path)}) // It could not do so itself.
	}
	return nil
}

func (d *Driver) adoptStack(ctx context.Context, a adopter, j *journal, name string, s *stackRecord) error {
	if s.Running == nil { // It was killed before terraform began.
		return j.stack(name, func(s *stackRecord) { s.Phase = Skipped })
	}
	alive, err := a.Alive(*s.Running)
	if err != nil {
		return fmt.Errorf("find out whether the terraform of run %s still runs: %w", j.rec.Run, err)
	}
	if alive {
		d.step(Step{Stack: name, Phase: Applying, Message: fmt.Sprintf("waiting for terraform, process %d, which run %s started", s.Running.PID, j.rec.Run)})
	}
	w := terraform.Workspace{Stack: name, Dir: d.folder(name), RunDir: filepath.Dir(j.path)}
	_, err = a.Wait(ctx, w, *s.Running, func(e terraform.Event) { d.step(Step{Stack: name, Phase: Applying, Event: &e}) })
	if ctx.Err() != nil {
		return err
	}
	phase := Done
	if err != nil {
		phase = Broken
		d.step(Step{Stack: name, Phase: Waiting, Message: "what run " + j.rec.Run + " left did not end well; it is planned again", Err: err})
	} else {
		d.remember(ctx, j.rec.Run, name, s.Inputs, j.rec.Command == "down")
	}
	return j.stack(name, func(s *stackRecord) { s.Phase, s.Ended = phase, d.opts.Proc.Now().UTC() })
}

// remember notes a good apply beside the state. A note that cannot be written only costs time later.
func (d *Driver) remember(ctx context.Context, runID, stack, inputs string, destroyed bool) {
	err := func() error {
		if destroyed {
			return d.states.DeleteNote(ctx, stack)
		}
		st, err := d.states.Read(ctx, stack)
		if err != nil {
			return err
		}
		return d.states.PutNote(ctx, stack, state.Note{
			Inputs: inputs, Serial: st.Serial, Lineage: st.Lineage, Terraform: d.opts.TerraformVersion, Run: runID, Applied: d.opts.Proc.Now().UTC(),
		})
	}()
	if err != nil {
		d.opts.Log.Warn("the apply was not noted beside the state", "stack", stack, "error", err)
	}
}

// lock takes the lock of the environment, or says who holds it.
func (d *Driver) lock(ctx context.Context, r *run, command string) (locked context.Context, release func(), err error) {
	host, user := d.opts.Proc.Owner()
	o := d.opts.RunLock
	if o.Waiting == nil {
		o.Waiting = func(h state.Holder) { d.step(Step{Phase: Waiting, Message: "waiting for " + h.String()}) }
	}
	who := state.Holder{Run: r.id, Host: host, Machine: d.opts.Proc.Machine(), PID: d.opts.Proc.PID, User: user, Command: "latamctl " + command + " --env " + d.opts.Environment}
	locked, lock, err := d.states.AcquireRun(ctx, who, o)
	if errors.Is(err, state.ErrRunning) {
		holder := "another run"
		if h, readErr := d.states.RunHolder(ctx); readErr == nil && h != nil {
			holder = h.String()
		}
		return nil, nil, &LockedError{What: "environment " + d.opts.Environment, Holder: holder, Hint: "wait for it, or give more time with --lock-timeout", Cause: err}
	}
	if err != nil {
		return nil, nil, err
	}
	return locked, func() {
		if err := lock.Release(context.WithoutCancel(ctx)); err != nil {
			d.opts.Log.Warn("the lock of the environment was not released; it is stale in a few minutes", "error", err)
		}
	}, nil
}

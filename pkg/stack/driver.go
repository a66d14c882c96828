package stack

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"github.com/latamctl/latamctl/pkg/bucket"
	"github.com/latamctl/latamctl/pkg/plan"
	"github.com/latamctl/latamctl/pkg/stack/state"
	"github.com/latamctl/latamctl/pkg/stack/terraform"
)

// Driver plans, applies and destroys the stacks of one environment.
type Driver struct {
	opts   Options
	states *state.States

	mu sync.Mutex // held while a step is observed
}

// New returns a driver. It asks nothing of the cloud and writes nothing yet.
func New(o Options) (*Driver, error) {
	o.Defaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(o.Proc.Path(o.Dir))
	if err != nil {
		return nil, fmt.Errorf("find the folder of runs: %w", err)
	}
	o.Dir = dir
	return &Driver{opts: o, states: state.New(o.State, o.Environment)}, nil
}

func (d *Driver) step(s Step) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s.Time = d.opts.Proc.Now()
	d.opts.Observe(s)
}

// program names the terraform program for digests.
func (d *Driver) program() string {
	if d.opts.TerraformDigest != "" {
		return d.opts.TerraformDigest
	}
	return d.opts.TerraformVersion
}

// hasState tells whether the place of the states exists. A folder comes into being by itself, so it
// always does.
func (d *Driver) hasState(ctx context.Context) (bool, error) {
	if d.opts.CreateState == nil {
		return true, nil
	}
	_, _, err := d.opts.State.Read(ctx, d.opts.Environment+"/latamctl.lock")
	switch {
	case errors.Is(err, bucket.ErrNoBucket):
		return false, nil
	case err != nil && !errors.Is(err, bucket.ErrNotExist):
		return false, fmt.Errorf("look for the states of environment %s in %s: %w", d.opts.Environment, d.opts.State.URL(), err)
	}
	return true, nil
}

// run is one use of the driver, with a folder of its own.
type run struct {
	id, dir string
	record  *journal // nil for what changes nothing
}

func (d *Driver) newRun() (*run, error) {
	id := fmt.Sprintf("%s-%06x", d.opts.Proc.Now().UTC().Format("20060102T150405.000Z"), rand.IntN(1<<24))
	r := &run{id: id, dir: filepath.Join(d.opts.Dir, "runs", id)}
	if err := d.opts.Proc.MakeDir(r.dir); err != nil {
		return nil, fmt.Errorf("create the folder of run %s: %w", id, err)
	}
	d.ignore()
	return r, nil
}

// clean removes what may hold secrets, and the oldest runs. The logs stay.
func (d *Driver) clean(r *run) {
	d.prune()
	d.removeSecrets(r.dir)
	if err := d.opts.Proc.RemoveFolder(filepath.Join(r.dir, "empty")); err != nil {
		d.opts.Log.Warn("a throwaway folder could not be removed", "run", r.id, "error", err)
	}
}

// removeSecrets removes the files of a run that may hold secrets.
func (d *Driver) removeSecrets(dir string) {
	for _, pattern := range []string{"*.tfvars.json", "*.tfplan"} {
		paths, err := d.opts.Proc.Glob(filepath.Join(dir, pattern))
		if err != nil {
			continue
		}
		for _, path := range paths {
			if err := d.opts.Proc.Remove(path); err != nil {
				d.opts.Log.Warn("a file with secrets could not be removed", "file", path, "error", err)
			}
		}
	}
}

// pause waits before a retry: the delay doubles, and a quarter more or less keeps stacks apart.
func (d *Driver) pause(ctx context.Context, retry int) error {
	delay := d.opts.RetryDelay << min(retry, 6)
	delay += time.Duration((rand.Float64() - 0.5) / 2 * float64(delay))
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// explain turns the failures that have a way out into errors that name it.
func (d *Driver) explain(err error) error {
	var f *terraform.Failure
	if !errors.As(err, &f) {
		return err
	}
	switch {
	case f.ErroredState != "":
		return fmt.Errorf("%w; run latamctl up --env %s again, which saves it first", err, d.opts.Environment)
	case f.Kind == terraform.Locked:
		holder := "somebody else"
		if f.Lock != nil {
			holder = fmt.Sprintf("%s (%s, since %s, id %s)", f.Lock.Who, f.Lock.Operation, f.Lock.Created.UTC().Format(time.RFC3339), f.Lock.ID)
		}
		return &LockedError{
			What: "stack " + f.Stack, Holder: holder, Cause: err,
			Hint: fmt.Sprintf("wait for it, or if it is dead: latamctl unlock %s --env %s", f.Stack, d.opts.Environment),
		}
	case f.Kind == terraform.Stale:
		return fmt.Errorf("%w; somebody else applied the stack meanwhile: run the command again", err)
	}
	return err
}

// isLost tells whether more is wrong than that a run was asked to stop.
func isLost(err error) bool {
	var f *terraform.Failure
	return errors.As(err, &f) && (f.Kind == terraform.Killed || f.ErroredState != "")
}

func isTransient(err error) bool {
	var f *terraform.Failure
	return errors.As(err, &f) && f.Kind == terraform.Transient && f.ErroredState == ""
}

// outputOf is the path of the raw output behind an error, or empty.
func outputOf(err error) string {
	var f *terraform.Failure
	if errors.As(err, &f) {
		return f.Output
	}
	return ""
}

// killOnDemand kills what runs once the options say so, until the returned function is called.
func (d *Driver) killOnDemand(nodes []*node) (stop func()) {
	k, ok := d.opts.Terraform.(killer)
	if !ok || d.opts.Kill == nil {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		select {
		case <-done:
			return
		case <-d.opts.Kill:
		}
		for _, n := range nodes {
			if killed, err := k.Kill(n.name); err != nil || killed {
				d.opts.Log.Warn("killed terraform", "stack", n.name, "error", err)
			}
		}
	}()
	return sync.OnceFunc(func() { close(done) })
}

// cluster says how to reach the cluster, as far as it exists.
func (d *Driver) cluster(ctx context.Context) (Cluster, error) {
	st, err := d.states.Read(ctx, d.opts.ManifestsCluster)
	if err != nil {
		return Cluster{}, err
	}
	return clusterOf(st)
}

// sectionOf finds a section by its name.
func sectionOf(p *plan.Plan, name string) *plan.Section {
	for i := range p.Sections {
		if p.Sections[i].Name == name {
			return &p.Sections[i]
		}
	}
	return nil
}

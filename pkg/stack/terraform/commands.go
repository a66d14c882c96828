package terraform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/hashicorp/terraform-exec/tfexec"
	tfjson "github.com/hashicorp/terraform-json"
)

var _ Runner = (*Terraform)(nil)

// summary is what the stream came to. Took is set by those who know when it began.
func (s *stream) summary() *Summary {
	out := s.Summary
	return &out
}

// Plan compares the configuration with the state and, without NoRefresh, with every object. The
// summary is never nil; with an error it says how far the plan came.
func (t *Terraform) Plan(ctx context.Context, w Workspace, o PlanOptions, on func(Event)) (*Summary, error) {
	s, err := t.plan(ctx, w, o, on)
	var f *Failure
	if errors.As(err, &f) && f.wantsInit() {
		// Someone changed .terraform behind our back, so what is remembered of it is wrong.
		if err := t.forgetInit(w); err != nil {
			return s, err
		}
		if err := t.Init(ctx, w); err != nil {
			return s, err
		}
		return t.plan(ctx, w, o, on)
	}
	return s, err
}

func (t *Terraform) plan(ctx context.Context, w Workspace, o PlanOptions, on func(Event)) (*Summary, error) {
	if err := t.refuseErrored(w, "plan"); err != nil {
		return &Summary{}, err
	}
	options := []tfexec.PlanOption{
		tfexec.LockTimeout(t.options.LockTimeout.String()), tfexec.Parallelism(t.options.Parallelism),
		tfexec.Lock(!o.NoLock), tfexec.Refresh(!o.NoRefresh), tfexec.Destroy(o.Destroy),
	}
	out, err := t.planFile(o.Out)
	if err != nil {
		return &Summary{}, fmt.Errorf("plan of stack %s: %w", w.Stack, err)
	}
	if out != "" {
		options = append(options, tfexec.Out(out))
	}
	if w.VarFile != "" {
		file, err := filepath.Abs(t.proc.Path(w.VarFile))
		if err != nil {
			return &Summary{}, err
		}
		options = append(options, tfexec.VarFile(file))
	}
	s, err := t.stream(ctx, w, job{
		command: "plan", flags: []string{"-json"}, recorded: true, on: on,
		call: func(ctx context.Context, tf *tfexec.Terraform) error {
			_, err := tf.Plan(ctx, options...)
			return err
		},
	})
	if err != nil && out != "" {
		err = errors.Join(err, t.proc.Remove(out))
	}
	return s, err
}

// planFile makes the plan's file before terraform does, so that only its owner may read it from the
// start: it holds every sensitive value.
func (t *Terraform) planFile(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	if err := t.proc.WriteSecretFile(path, nil); err != nil {
		return "", fmt.Errorf("make the plan file: %w", err)
	}
	return filepath.Abs(t.proc.Path(path))
}

// Apply carries a saved plan out. It is interrupted once when the context ends, and then waited
// for, however long that takes.
func (t *Terraform) Apply(ctx context.Context, w Workspace, planFile string, on func(Event)) (*Summary, error) {
	if err := t.refuseErrored(w, "apply"); err != nil {
		return &Summary{}, err
	}
	file, err := filepath.Abs(t.proc.Path(planFile))
	if err != nil {
		return &Summary{}, fmt.Errorf("apply of stack %s: %w", w.Stack, err)
	}
	return t.stream(ctx, w, job{
		command: "apply", flags: []string{"-json"}, recorded: true, on: on,
		call: func(ctx context.Context, tf *tfexec.Terraform) error {
			return tf.Apply(ctx, tfexec.DirOrPlan(file),
				tfexec.LockTimeout(t.options.LockTimeout.String()), tfexec.Parallelism(t.options.Parallelism))
		},
	})
}

func (t *Terraform) stream(ctx context.Context, w Workspace, j job) (*Summary, error) {
	begun := time.Now()
	s, err := t.run(ctx, w, j)
	out := s.summary()
	out.Took = time.Since(begun)
	return out, err
}

// Show reads a plan file whole, with sensitive values: what it returns must not be written anywhere.
func (t *Terraform) Show(ctx context.Context, w Workspace, planFile string) (*tfjson.Plan, error) {
	file, err := filepath.Abs(t.proc.Path(planFile))
	if err != nil {
		return nil, fmt.Errorf("show the plan of stack %s: %w", w.Stack, err)
	}
	var plan *tfjson.Plan
	_, err = t.run(ctx, w, job{command: "show", pipe: true, call: func(ctx context.Context, tf *tfexec.Terraform) error {
		var err error
		plan, err = tf.ShowPlanFile(ctx, file, tfexec.JSONNumber(true))
		return err
	}})
	return plan, err
}

// Output reads the outputs of a stack by running terraform, with sensitive values. It is for
// backends whose states cannot be read without it.
func (t *Terraform) Output(ctx context.Context, w Workspace) (map[string]OutputChange, error) {
	var outputs map[string]tfexec.OutputMeta
	_, err := t.run(ctx, w, job{command: "output", pipe: true, call: func(ctx context.Context, tf *tfexec.Terraform) error {
		var err error
		outputs, err = tf.Output(ctx)
		return err
	}})
	if err != nil {
		return nil, err
	}
	out := make(map[string]OutputChange, len(outputs))
	for name, o := range outputs {
		out[name] = OutputChange{Action: "no-op", Sensitive: o.Sensitive, Value: json.RawMessage(o.Value)}
	}
	return out, nil
}

// ForceUnlock takes away the lock with this id, whoever holds it. The caller must know that its
// holder is dead.
func (t *Terraform) ForceUnlock(ctx context.Context, w Workspace, id string) error {
	_, err := t.run(ctx, w, job{command: "force-unlock", call: func(ctx context.Context, tf *tfexec.Terraform) error {
		return tf.ForceUnlock(ctx, id)
	}})
	return err
}

// erroredState is the name that terraform gives to a state that it could not save.
const erroredState = "errored.tfstate"

// Errored returns the path of a state that could not be saved and was not pushed yet, or "".
func (t *Terraform) Errored(w Workspace) string {
	if path := t.proc.Path(filepath.Join(w.Dir, erroredState)); w.Dir != "" && t.proc.Exists(path) {
		return path
	}
	return ""
}

// refuseErrored keeps a command from working with a state that is known to be behind the world: it
// would create everything once more, and a second failure would write over the file.
func (t *Terraform) refuseErrored(w Workspace, command string) error {
	path := t.Errored(w)
	if path == "" {
		return nil
	}
	return &Failure{
		Command: command, Stack: w.Stack, Kind: Failed, ErroredState: path,
		Cause: fmt.Errorf("an earlier apply could not save its state, and what it created is known nowhere else; push it first: terraform -chdir=%s state push %s", filepath.Dir(path), erroredState),
	}
}

// StatePush saves a state file as the state of the stack; terraform refuses one that is older than
// what is there, or of another stack. An errored.tfstate is renamed once it is pushed.
func (t *Terraform) StatePush(ctx context.Context, w Workspace, file string) error {
	path, err := filepath.Abs(t.proc.Path(file))
	if err != nil {
		return fmt.Errorf("push the state of stack %s: %w", w.Stack, err)
	}
	_, err = t.run(ctx, w, job{command: "state push", call: func(ctx context.Context, tf *tfexec.Terraform) error {
		return tf.StatePush(ctx, path, tfexec.LockTimeout(t.options.LockTimeout.String()))
	}})
	if err != nil || filepath.Base(path) != erroredState {
		return err
	}
	if err := t.proc.Rename(path, path+".pushed"); err != nil {
		return fmt.Errorf("the state of stack %s was pushed; keep its file from being pushed again: %w", w.Stack, err)
	}
	return nil
}

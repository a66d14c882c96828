package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/plan"
	"github.com/latamctl/latamctl/pkg/stack/state"
	"github.com/latamctl/latamctl/pkg/stack/terraform"
)

// unlockOptions are the flags of unlock.
type unlockOptions struct {
	driveOptions
	id string
}

func unlockCmd(a *app) *cobra.Command {
	var o unlockOptions
	cmd := &cobra.Command{
		Use: "unlock [STACK]", GroupID: groupCloud,
		Short: "Show who holds locks, and remove one whose program is gone",
		Long: `unlock shows who changes the environment and which stacks are locked, or the lock of one stack's
state: who took it, when, for what. With --id it removes exactly that lock. A stack's lock is left
behind only when terraform itself was killed; removing one whose program still runs can lose what
that program is creating, so unlock refuses it where it can tell. Exit 9 while something is locked.`,
		Example: "  latamctl unlock --env prod\n  latamctl unlock --env prod storage\n  latamctl unlock --env prod storage --id 1764068400123456",
		Args:    cobra.MaximumNArgs(1),
	}
	cmd.RunE = a.run(settings, func(ctx context.Context, args []string) error { return a.runUnlock(ctx, args, o) })
	f := cmd.Flags()
	f.StringVar(&o.id, "id", "", "remove the lock with this id; without it the lock is shown")
	f.StringVar(&o.workDir, "work-dir", defaultWorkDir, "folder with the records of runs")
	config.MarkInvocation(f, "id")
	addTerraformFlags(cmd, &o.driveOptions)
	addCloudSettings(cmd, &o.settings)
	return cmd
}

// lockDocument is a lock for programs.
type lockDocument struct {
	Schema    string `json:"schema"`
	Stack     string `json:"stack"`
	Locked    bool   `json:"locked"`
	Removed   bool   `json:"removed"`
	ID        string `json:"id,omitempty"`
	Who       string `json:"who,omitempty"`
	Operation string `json:"operation,omitempty"`
	Created   string `json:"created,omitempty"`
}

func (a *app) runUnlock(ctx context.Context, args []string, o unlockOptions) error {
	if err := a.needCloud("unlock"); err != nil {
		return err
	}
	e, err := a.openEnvironment(ctx, &o.driveOptions)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		return a.runUnlockEnvironment(ctx, e, o.id)
	}
	s, err := a.stack(e.stacks, args[0])
	if err != nil {
		return err
	}
	if o.id == "" {
		return a.showLock(ctx, e, s.Name)
	}
	lock, err := e.states.Unlock(ctx, s.Name, o.id, a.livingApply(o.workDir))
	switch {
	case errors.Is(err, state.ErrNotLocked):
		return a.printLock(lockDocument{Stack: s.Name})
	case errors.Is(err, state.ErrAlive):
		return fail(exitLocked, "wait until it ends; latamctl up --env "+a.global.env+" --resume waits for it", err)
	case errors.Is(err, state.ErrOtherLock):
		return fail(exitRefused, a.unlockLine(s.Name, lock), err)
	case err != nil:
		return a.cloudFault(ctx, err)
	}
	doc := lockDocumentOf(s.Name, lock)
	doc.Locked, doc.Removed = false, true
	return a.printLock(doc)
}

// unlockLine is the command that removes a lock.
func (a *app) unlockLine(stack string, lock *state.Lock) string {
	return fmt.Sprintf("if its program is gone: latamctl unlock --env %s %s --id %s", a.global.env, stack, lock.ID)
}

// showLock says who holds a lock, and exits as every command does that meets it.
func (a *app) showLock(ctx context.Context, e *environment, stack string) error {
	lock, err := e.states.Lock(ctx, stack)
	if err != nil {
		return a.cloudFault(ctx, err)
	}
	if lock == nil {
		return a.printLock(lockDocument{Stack: stack})
	}
	if err := a.printLock(lockDocumentOf(stack, lock)); err != nil {
		return err
	}
	if a.global.output != outputJSON {
		fmt.Fprintln(a.proc.Err, a.unlockLine(stack, lock))
	}
	return endsWith(exitLocked)
}

func lockDocumentOf(stack string, lock *state.Lock) lockDocument {
	doc := lockDocument{Stack: stack, Locked: true, ID: lock.ID, Who: lock.Who, Operation: lock.Operation}
	if !lock.Created.IsZero() {
		doc.Created = lock.Created.UTC().Format(time.RFC3339)
	}
	return doc
}

func (a *app) printLock(doc lockDocument) error {
	doc.Schema = "latamctl.unlock/v1"
	if a.global.output == outputJSON {
		return json.NewEncoder(a.proc.Out).Encode(doc)
	}
	switch {
	case doc.Removed:
		fmt.Fprintf(a.proc.Out, "stack %s is not locked any more: the lock %s of %s is removed\n", doc.Stack, plan.Clean(doc.ID), plan.Clean(doc.Who))
	case doc.Locked:
		fmt.Fprintf(a.proc.Out, "stack %s is locked\n  id         %s\n  who        %s\n  operation  %s\n  since      %s\n",
			doc.Stack, plan.Clean(doc.ID), plan.Clean(doc.Who), plan.Clean(doc.Operation), doc.Created)
	default:
		fmt.Fprintf(a.proc.Out, "stack %s is not locked\n", doc.Stack)
	}
	return nil
}

// runRecord is what unlock reads of the record that a run writes down before each apply.
type runRecord struct {
	Run         string `json:"run"`
	Environment string `json:"environment"`
	Stacks      map[string]struct {
		Running *terraform.Running `json:"running"`
	} `json:"stacks"`
}

// livingApply tells whether a terraform that an earlier run of ours started still works on a stack.
func (a *app) livingApply(dir string) func(context.Context, state.Lock) (string, error) {
	return func(_ context.Context, lock state.Lock) (string, error) {
		paths, err := a.proc.Glob(filepath.Join(dir, "runs", "*", "run.json"))
		if err != nil {
			return "", fmt.Errorf("list the records of runs: %w", err)
		}
		for _, path := range paths {
			var rec runRecord
			data, err := a.proc.ReadFile(path)
			if err != nil {
				return "", fmt.Errorf("read the record of a run: %w", err)
			}
			if json.Unmarshal(data, &rec) != nil || rec.Environment != a.global.env {
				continue
			}
			running := rec.Stacks[lock.Stack].Running
			if running == nil {
				continue
			}
			identity, err := a.proc.ProcessIdentity(running.PID)
			if err != nil {
				return "", err
			}
			if identity != "" && identity == running.Identity {
				return fmt.Sprintf("process %d of run %s", running.PID, rec.Run), nil
			}
		}
		return "", nil
	}
}

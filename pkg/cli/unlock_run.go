package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/latamctl/latamctl/pkg/plan"
	"github.com/latamctl/latamctl/pkg/stack/state"
)

// locksDocument is all that is locked in an environment, for programs.
type locksDocument struct {
	Schema      string         `json:"schema"`
	Environment string         `json:"environment"`
	Locked      bool           `json:"locked"`
	Removed     bool           `json:"removed"`
	Run         *state.Holder  `json:"run,omitempty"`
	Stacks      []lockDocument `json:"stacks"`
}

// runUnlockEnvironment shows who changes the environment and which stacks are locked, or removes the
// lock of a run that is gone.
func (a *app) runUnlockEnvironment(ctx context.Context, e *environment, id string) error {
	doc := locksDocument{Schema: "latamctl.locks/v1", Environment: a.global.env, Stacks: []lockDocument{}}
	var err error
	if id != "" {
		doc.Run, err = e.states.EndRun(ctx, id, a.livingRun)
		doc.Removed = err == nil
		switch {
		case errors.Is(err, state.ErrNotLocked):
			doc.Run = nil
		case errors.Is(err, state.ErrAlive):
			return fail(exitLocked, "wait until it ends", err)
		case errors.Is(err, state.ErrOtherLock):
			return fail(exitRefused, a.endRunLine(doc.Run), err)
		case err != nil:
			return a.cloudFault(ctx, err)
		}
		return a.printLocks(doc)
	}
	if doc.Run, err = e.states.RunHolder(ctx); err != nil {
		return a.cloudFault(ctx, err)
	}
	locks, err := e.states.Locks(ctx, e.stacks.Names())
	if err != nil {
		return a.cloudFault(ctx, err)
	}
	for i := range locks {
		one := lockDocumentOf(locks[i].Stack, &locks[i])
		one.Schema = "latamctl.unlock/v1"
		doc.Stacks = append(doc.Stacks, one)
	}
	doc.Locked = doc.Run != nil || len(locks) > 0
	if err := a.printLocks(doc); err != nil || !doc.Locked {
		return err
	}
	if a.global.output != outputJSON && doc.Run != nil {
		fmt.Fprintln(a.proc.Err, a.endRunLine(doc.Run))
	}
	for i := range locks {
		if a.global.output != outputJSON {
			fmt.Fprintln(a.proc.Err, a.unlockLine(locks[i].Stack, &locks[i]))
		}
	}
	return endsWith(exitLocked)
}

// endRunLine is the command that removes the lock of a run.
func (a *app) endRunLine(h *state.Holder) string {
	return fmt.Sprintf("the lock of a run that is gone ends by itself within 5 minutes; at once: latamctl unlock --env %s --id %s", a.global.env, plan.Clean(h.ID))
}

// livingRun tells whether the process of a run still runs, as far as this machine can know.
func (a *app) livingRun(h state.Holder) (string, error) {
	if host, _ := a.proc.Owner(); h.Host != host || h.Machine != a.proc.Machine() {
		return "", nil
	}
	identity, err := a.proc.ProcessIdentity(h.PID)
	if err != nil || identity == "" {
		return "", err
	}
	return fmt.Sprintf("process %d on this machine", h.PID), nil
}

func (a *app) printLocks(doc locksDocument) error {
	if a.global.output == outputJSON {
		return json.NewEncoder(a.proc.Out).Encode(doc)
	}
	out := a.proc.Out
	switch {
	case doc.Removed:
		fmt.Fprintf(out, "environment %s is not locked any more: the lock %s of %s is removed\n", doc.Environment, plan.Clean(doc.Run.ID), plan.Clean(doc.Run.String()))
	case doc.Run != nil:
		h := doc.Run
		fmt.Fprintf(out, "environment %s is changed by a run\n  id         %s\n  who        %s@%s, process %d\n  command    %s\n  since      %s\n  last seen  %s\n",
			doc.Environment, plan.Clean(h.ID), plan.Clean(h.User), plan.Clean(h.Host), h.PID, plan.Clean(h.Command),
			h.Started.UTC().Format(time.RFC3339), h.Heartbeat.UTC().Format(time.RFC3339))
	case !doc.Locked:
		fmt.Fprintf(out, "environment %s is not locked, and none of its stacks is\n", doc.Environment)
	}
	for _, one := range doc.Stacks {
		if err := a.printLock(one); err != nil {
			return err
		}
	}
	return nil
}

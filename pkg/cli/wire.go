package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/latamctl/latamctl/pkg/bucket"
	"github.com/latamctl/latamctl/pkg/deploy"
	"github.com/latamctl/latamctl/pkg/stack"
	"github.com/latamctl/latamctl/pkg/stack/state"
	"github.com/latamctl/latamctl/pkg/stack/terraform"
)

// openDriver opens the driver of an environment's stacks: settings, states, terraform, manifests.
func (a *app) openDriver(ctx context.Context, o driveOptions) (driver, error) {
	e, err := a.openEnvironment(ctx, &o)
	if err != nil {
		return nil, err
	}
	if e.contract.StateBucket != "" {
		if e.contract.AdoptStateBucket, err = e.bucketExists(ctx); err != nil {
			return nil, err
		}
	}
	program, err := a.findTerraform(ctx, o.terraformBin)
	if err != nil {
		return nil, err
	}
	leader, err := a.proc.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program, which starts terraform: %w", err)
	}
	// Zero stands for the runner's own default, and here for no wait at all.
	runner, err := terraform.New(a.proc, terraform.Options{
		Bin: program.Path, Version: program.Version, Digest: program.Digest, Leader: leader,
		Env: terraform.Env(a.proc, o.terraformEnv...), LockTimeout: max(o.lockTimeout, time.Nanosecond), CacheDir: a.proc.UserCacheDir(),
	})
	if err != nil {
		return nil, err
	}
	objects, off, err := a.openManifests(o, e)
	if err != nil {
		return nil, err
	}
	opts := a.stackOptions(e, o, program, runner)
	opts.Manifests, opts.ManifestsOff = objects, off
	return stack.New(opts)
}

// stackOptions are what the driver works with.
func (a *app) stackOptions(e *environment, o driveOptions, program terraform.Program, runner terraform.Runner) stack.Options {
	retries := o.retries
	if retries == 0 {
		retries = -1 // Zero stands for the driver's own default.
	}
	opts := stack.Options{
		Environment: a.global.env, Stacks: e.stacks, Inputs: e.contract, State: e.bucket,
		Terraform: runner, TerraformVersion: program.Version, TerraformDigest: program.Digest,
		ManifestsAfter: manifestsStack,
		Dir:            o.workDir, Proc: a.proc, Log: a.log, Parallel: o.parallel, Retries: retries,
		RunLock: a.runLock(o),
		Kill:    o.kill, Observe: o.observe,
	}
	if e.contract.StateBucket != "" {
		opts.CreateState = func(ctx context.Context) error {
			_, err := e.bucket.Ensure(ctx, e.bucketSettings())
			if err == nil {
				e.contract.AdoptStateBucket = true
			}
			return err
		}
	}
	return opts
}

// runLock is how the lock of the environment is waited for. The lock of a process that is gone from
// this machine is taken over at once.
func (a *app) runLock(o driveOptions) state.RunLockOptions {
	return state.RunLockOptions{
		Wait: o.lockTimeout, Now: a.proc.Now,
		Alive: func(pid int) bool {
			identity, err := a.proc.ProcessIdentity(pid)
			return err != nil || identity != ""
		},
		Waiting: func(h state.Holder) {
			o.observe(stack.Step{Phase: stack.Waiting, Message: "another run holds the environment: " + h.String()})
		},
	}
}

// bucketExists tells whether the bucket of the states is there already.
func (e *environment) bucketExists(ctx context.Context) (bool, error) {
	_, err := e.bucket.Inspect(ctx, e.bucketSettings())
	switch {
	case errors.Is(err, bucket.ErrNoBucket), errors.Is(err, bucket.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look for the bucket of the states: %w", err)
	}
	return true, nil
}

// findTerraform looks for the program: the one that was named, the one on PATH, or the one that
// doctor installed.
func (a *app) findTerraform(ctx context.Context, bin string) (terraform.Program, error) {
	program, err := terraform.Find(ctx, a.proc, bin)
	if bin != "" || !errors.Is(err, terraform.ErrNotFound) {
		return program, err
	}
	installed := filepath.Join(a.proc.UserCacheDir(), "terraform", terraform.InstallVersion, "terraform")
	if !a.proc.Exists(installed) {
		return program, err
	}
	return terraform.Find(ctx, a.proc, installed)
}

// stackFault gives the errors of the driver their exit codes and hints.
func (a *app) stackFault(err error) error {
	var refused *stack.Refused
	var stale *stack.StaleBundle
	var locked *stack.LockedError
	var interrupted *stack.Interrupted
	var failed *stack.Failed
	var run *terraform.Failure
	var conflict *deploy.ConflictError
	var foreign *deploy.ForeignError
	var missing *deploy.MissingAPIError
	var held *deploy.HeldError
	var unknown *stack.NoStackError
	switch {
	case errors.As(err, &unknown):
		return fail(exitUsage, "latamctl stacks list says what each is", err)
	case errors.As(err, &refused):
		return fail(exitRefused, refused.Hint, withoutHint(refused, refused.Hint))
	case errors.As(err, &stale):
		return fail(exitRefused, "latamctl plan --env "+a.global.env+" --out "+stale.Folder+" makes it anew", withoutHint(err, "plan again"))
	case errors.As(err, &locked):
		return fail(exitLocked, a.lockedHint(locked), withoutHint(err, locked.Hint))
	case errors.As(err, &interrupted):
		return fail(exitInterrupted, cmp.Or(interrupted.Hint, "latamctl up --resume --env "+a.global.env+" goes on from here"), withoutHint(err, interrupted.Hint))
	case errors.As(err, &failed) && slices.ContainsFunc(failed.Errs, func(err error) bool { return terraform.KindOf(err) == terraform.NoProviders }):
		return fail(exitUnavailable, providersHint, err)
	case errors.As(err, &failed) && len(failed.Errs) > 1:
		code := exitFailed
		if !slices.ContainsFunc(failed.Errs, func(err error) bool { return terraform.KindOf(err) != terraform.Denied }) {
			code = exitDenied
		}
		return fail(code, a.mendHint(), err)
	case errors.As(err, &run):
		return a.terraformFault(run, err)
	case errors.Is(err, deploy.ErrDenied):
		return fail(exitDenied, strings.ReplaceAll(loginHint, "%s", a.global.env), err)
	case errors.Is(err, deploy.ErrUnavailable):
		return fail(exitUnavailable, "try again; latamctl doctor --env "+a.global.env+" checks the way to it", err)
	case errors.As(err, &conflict), errors.As(err, &foreign):
		return fail(exitRefused, "if latamctl is to have them from now on: --take-over", err)
	case errors.As(err, &held):
		return fail(exitLocked, "wait until it ends; latamctl deploy --env "+a.global.env+" --status shows it", err)
	case errors.As(err, &missing):
		return fail(exitRefused, "turn the API on in the cluster; the stack cluster turns on what these objects need", err)
	case errors.As(err, &failed):
		return fail(exitFailed, a.mendHint(), err)
	}
	return err
}

// withoutHint leaves out what an error says to do next, because the hint says it.
func withoutHint(err error, hint string) error {
	text, found := strings.CutSuffix(err.Error(), "; "+hint)
	if !found || hint == "" {
		return err
	}
	return errors.New(text)
}

// mendHint is how to go on after a failure that somebody has to mend.
func (a *app) mendHint() string {
	return "mend the cause, then: latamctl " + cmp.Or(a.again, "up --resume") + " --env " + a.global.env
}

// lockedHint is how to go on when somebody else holds a lock.
func (a *app) lockedHint(l *stack.LockedError) string {
	name, isStack := strings.CutPrefix(l.What, "stack ")
	if !isStack {
		return "wait until it ends, or longer with --lock-timeout; the lock of a run that was killed ends by itself, or at once: latamctl unlock --env " + a.global.env
	}
	return fmt.Sprintf("wait until it ends; if it was killed: latamctl unlock --env %s %s", a.global.env, name)
}

// terraformFault gives a failure of terraform its code.
func (a *app) terraformFault(f *terraform.Failure, err error) error {
	switch f.Kind {
	case terraform.Denied:
		hint := "grant what is missing, or log in: " + strings.ReplaceAll(loginHint, "%s", a.global.env)
		if f.Command == "apply" {
			hint += "; then: latamctl up --resume --env " + a.global.env
		}
		return fail(exitDenied, hint, err)
	case terraform.Locked:
		return fail(exitLocked, fmt.Sprintf("wait until it ends; if it was killed: latamctl unlock --env %s %s", a.global.env, f.Stack), err)
	case terraform.Stale:
		return fail(exitRefused, "plan again", err)
	case terraform.Interrupted:
		return fail(exitInterrupted, "latamctl up --resume --env "+a.global.env+" goes on from here", err)
	case terraform.NoProviders:
		return fail(exitUnavailable, providersHint, err)
	case terraform.Killed:
		return fail(exitFailed, fmt.Sprintf("latamctl unlock --env %s %s shows whether its lock is left; after that: latamctl up --resume --env %s", a.global.env, f.Stack, a.global.env), err)
	case terraform.Transient, terraform.Invalid, terraform.Failed:
	}
	return fail(exitFailed, a.mendHint(), err)
}

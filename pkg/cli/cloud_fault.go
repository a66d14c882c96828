package cli

import (
	"context"
	"errors"
	"strings"

	"github.com/latamctl/latamctl/pkg/bucket"
	"github.com/latamctl/latamctl/pkg/plan"
	"github.com/latamctl/latamctl/pkg/proc"
	"github.com/latamctl/latamctl/pkg/stack"
	"github.com/latamctl/latamctl/pkg/stack/terraform"
)

const (
	loginHint   = "gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS; latamctl doctor --env %s checks them"
	installHint = "latamctl doctor --install-terraform installs a pinned version, or point --terraform-bin at terraform or tofu"
)

// cloudFault gives the errors of stacks, states and terraform their exit codes and hints.
func (a *app) cloudFault(ctx context.Context, err error) error {
	var f *fault
	var refused *plan.Refusal
	var failed *stack.Failed
	switch {
	case err == nil, errors.As(err, &f):
		return err
	case errors.As(err, &refused):
		return refusalFault(refused)
	case errors.Is(err, terraform.ErrNotFound):
		return fail(exitUnavailable, installHint, err)
	case errors.Is(context.Cause(ctx), proc.ErrInterrupted) && !errors.As(err, &failed):
		return fail(exitInterrupted, "run the command again", err)
	case errors.Is(err, bucket.ErrDenied):
		return fail(exitDenied, strings.ReplaceAll(loginHint, "%s", a.global.env), err)
	case errors.Is(err, bucket.ErrUnavailable):
		return fail(exitUnavailable, "try again; latamctl doctor --env "+a.global.env+" checks the way to it", err)
	case errors.Is(err, bucket.ErrNoBucket):
		return fail(exitUnavailable, "latamctl up --env "+a.global.env+" creates it", err)
	}
	return a.stackFault(err)
}

// refusalFault names the flags that would let a plan through.
func refusalFault(r *plan.Refusal) error {
	flags := make([]string, 0, len(r.Protected))
	for _, address := range r.Protected {
		flags = append(flags, "--allow-delete "+shellQuote(address))
	}
	hint := "check the declaration: what is removed there is deleted"
	if len(flags) > 0 {
		hint = "if that is meant, name each: " + strings.Join(flags, " ")
	}
	return fail(exitRefused, hint, r)
}

// shellQuote makes a text one word of a shell.
func shellQuote(text string) string {
	return "'" + strings.ReplaceAll(plan.Clean(text), "'", `'\''`) + "'"
}

package cli

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/bucket"
	"github.com/latamctl/latamctl/pkg/plan"
	"github.com/latamctl/latamctl/pkg/proc"
	"github.com/latamctl/latamctl/pkg/stack"
	"github.com/latamctl/latamctl/pkg/stack/terraform"
)

const (
	loginHint     = "latamctl doctor --env %s shows whose credentials these are; gcloud auth application-default login or GOOGLE_APPLICATION_CREDENTIALS gives others"
	providersHint = "reach registry.terraform.io (HTTPS_PROXY), or name a mirror of the providers: TF_CLI_CONFIG_FILE=FILE with provider_installation, which terraform providers mirror DIR fills"
	installHint   = "latamctl doctor --install-terraform installs a pinned version, or point --terraform-bin at terraform or tofu"
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
	// So many flags are more than a person reads.
	const most = 6
	var flags []string
	for _, address := range r.Protected {
		if stack, _, ok := strings.Cut(address, "/"); ok && len(r.Protected) > most {
			address = stack + "/*"
		}
		if flag := "--allow-delete " + shellQuote(address); !slices.Contains(flags, flag) {
			flags = append(flags, flag)
		}
	}
	hint := "check the declaration: what is removed there is deleted"
	switch {
	case len(r.Protected) > most:
		hint = "if that is meant, name each, or all of a stack: " + strings.Join(flags, " ")
	case len(flags) > 0:
		hint = "if that is meant, name each: " + strings.Join(flags, " ")
	}
	return fail(exitRefused, hint, r)
}

// shellQuote makes a text one word of a shell.
func shellQuote(text string) string {
	return "'" + strings.ReplaceAll(plan.Clean(text), "'", `'\''`) + "'"
}

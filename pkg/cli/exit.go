package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/proc"
	"github.com/latamctl/latamctl/pkg/store"
)

// The exit codes, which scripts rely on.
const (
	exitOK          = 0   // done
	exitFailed      = 1   // failed
	exitUsage       = 2   // the command line is wrong
	exitPending     = 3   // changes are pending, or drift was found
	exitDenied      = 4   // not authenticated or not allowed
	exitInvalid     = 5   // the declaration or a setting is invalid
	exitVerify      = 6   // verification failed
	exitUnavailable = 7   // a dependency is unavailable
	exitRefused     = 8   // refused by a guard
	exitLocked      = 9   // locked by someone else
	exitTimeout     = 10  // timed out
	exitInterrupted = 130 // interrupted, safe to resume
)

// fault is an error with what the user needs besides its text.
type fault struct {
	err  error
	code int
	hint string // the next command to try, or what to change
}

func (f *fault) Error() string { return f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

// fail returns an error with its exit code and hint.
func fail(code int, hint string, err error) error { return &fault{err: err, code: code, hint: hint} }

// failf is fail with a formatted message.
func failf(code int, hint, format string, args ...any) error {
	return fail(code, hint, fmt.Errorf(format, args...))
}

// exitCode finds the code of an error: the one attached to it, else the one of its kind.
func exitCode(ctx context.Context, err error) int {
	var f *fault
	var problems *dataset.Problems
	var setting *config.ValueError
	var status endsWith
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &f):
		return f.code
	case errors.As(err, &status):
		return int(status)
	case errors.Is(context.Cause(ctx), proc.ErrInterrupted):
		return exitInterrupted
	case errors.As(err, &problems), errors.As(err, &setting):
		return exitInvalid
	case errors.Is(err, context.DeadlineExceeded):
		return exitTimeout
	case errors.Is(err, bus.ErrDenied):
		return exitDenied
	case errors.Is(err, bus.ErrUnavailable), errors.Is(err, store.ErrUnavailable):
		return exitUnavailable
	case strings.HasPrefix(err.Error(), "unknown command"), strings.HasPrefix(err.Error(), "required flag"):
		return exitUsage
	}
	return exitFailed
}

// report prints an error once, for a person or as one JSON document, and returns its exit code.
func (a *app) report(ctx context.Context, err error) int {
	code := exitCode(ctx, err)
	var status endsWith
	if err == nil || errors.As(err, &status) {
		return code
	}
	var f *fault
	hint := ""
	if errors.As(err, &f) {
		hint = f.hint
	}
	if code == exitUsage && hint == "" {
		hint = "latamctl --help lists the commands; latamctl COMMAND --help its flags"
	}
	if a.global.output == outputJSON {
		doc := map[string]any{"schema": "latamctl.error/v1", "error": err.Error(), "hint": hint, "exit_code": code}
		b, _ := json.Marshal(doc) // Strings and a number always encode.
		fmt.Fprintln(a.proc.Err, string(b))
		return code
	}
	fmt.Fprintf(a.proc.Err, "%s %v\n", a.paint(a.proc.ErrTerminal, red, "error:"), err)
	if hint != "" {
		fmt.Fprintf(a.proc.Err, "%s %s\n", a.paint(a.proc.ErrTerminal, cyan, "hint:"), hint)
	}
	return code
}

// The colours, as SGR codes.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
	gray   = "90"
)

// paint colours text for a terminal whose owner has not said otherwise.
func (a *app) paint(terminal bool, colour, text string) string {
	if !terminal || a.global.noColor || a.proc.Env("NO_COLOR") != "" || a.proc.Env("TERM") == "dumb" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

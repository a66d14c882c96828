// Package datadog speaks with Datadog's API: typed by the official client, at the pace that the
// server allows, without ever repeating a write that may have happened.
package datadog

import (
	"errors"
	"fmt"
	"strings"
)

// The kinds of failure that callers tell apart. An *Error wraps at most one of them.
var (
	// ErrNotFound: the object does not exist.
	ErrNotFound = errors.New("not found")
	// ErrDenied: the keys are wrong or lack a right.
	ErrDenied = errors.New("not allowed")
	// ErrInvalid: Datadog refuses the content.
	ErrInvalid = errors.New("not valid")
	// ErrReferenced: something else needs the object, so it cannot be deleted.
	ErrReferenced = errors.New("referenced by others")
	// ErrUnavailable: Datadog did not answer within the time that a call may take.
	ErrUnavailable = errors.New("unavailable")
	// ErrAmbiguous: a create was sent, and whether it happened is not known. Look before another try.
	ErrAmbiguous = errors.New("it is not known whether it happened")
	// ErrPartial: a list could not be read as a whole.
	ErrPartial = errors.New("read only in part")
)

// Error is a failed call.
type Error struct {
	Method, Path string // without query and keys
	Status       int    // 0 without an answer
	Messages     []string
	// Duplicate is the id of the monitor that Datadog says is the same, or "".
	Duplicate string
	Kind      error // one of the above, or nil
	Cause     error
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", e.Method, e.Path)
	if e.Status != 0 {
		fmt.Fprintf(&b, ": HTTP %d", e.Status)
	}
	if len(e.Messages) > 0 {
		b.WriteString(": " + strings.Join(e.Messages, "; "))
	} else if e.Cause != nil {
		b.WriteString(": " + e.Cause.Error())
	}
	return b.String()
}

// Unwrap returns the kind and the cause.
func (e *Error) Unwrap() []error {
	var errs []error
	for _, err := range []error{e.Kind, e.Cause} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// keyFault says what is wrong with the keys before anybody was asked. It wraps ErrDenied.
type keyFault string

func (f keyFault) Error() string { return string(f) }

func (f keyFault) Unwrap() error { return ErrDenied }

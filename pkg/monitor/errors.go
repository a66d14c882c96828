package monitor

import (
	"errors"
	"fmt"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/strictyaml"
)

// ErrRefused is the kind of every Refusal.
var ErrRefused = errors.New("refused")

// Refusal says why nothing was done although it could have been, and what the reader may do about it.
type Refusal struct {
	What string
	// Hint is the next command, or what to change.
	Hint string
	// Err is what was found; it may be nil.
	Err error
}

func (r *Refusal) Error() string {
	if r.Err != nil {
		return r.What + ": " + r.Err.Error()
	}
	return r.What
}

// Unwrap returns ErrRefused and the cause.
func (r *Refusal) Unwrap() []error {
	if r.Err != nil {
		return []error{ErrRefused, r.Err}
	}
	return []error{ErrRefused}
}

func refusef(hint, format string, args ...any) error {
	return &Refusal{What: fmt.Sprintf(format, args...), Hint: hint}
}

// Rejected is a declared monitor that Datadog would not take.
type Rejected struct {
	Key  declare.Key
	File string
	At   strictyaml.Place
	Err  error
}

func (r *Rejected) Error() string {
	return fmt.Sprintf("%s: %s %s: Datadog refuses it: %v", place(r.File, r.At), r.Key.Kind, r.Key.Name, r.Err)
}

func (r *Rejected) Unwrap() error { return r.Err }

func place(file string, at strictyaml.Place) string {
	if at.Line == 0 {
		return file
	}
	return fmt.Sprintf("%s:%d:%d", file, at.Line, at.Column)
}

// Unverified says that Datadog still differed after everything was done.
type Unverified struct{ Keys []declare.Key }

func (u *Unverified) Error() string {
	return fmt.Sprintf("everything was sent, and Datadog still differs in %s: %s", quantity(len(u.Keys), "object", "objects"), some(names(u.Keys)))
}

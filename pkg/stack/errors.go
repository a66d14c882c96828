package stack

import (
	"fmt"
	"strings"
)

// Refused says that a run was not begun, or a stack not applied, because that could lose something
// or was not approved.
type Refused struct {
	Doing string // such as "destroy environment prod"
	Why   string
	Hint  string // what to do instead, may be empty
	Cause error  // may be nil
}

func (e *Refused) Error() string {
	text := e.Doing + ": " + e.Why
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	if e.Hint != "" {
		text += "; " + e.Hint
	}
	return text
}

// Unwrap returns what made it refuse.
func (e *Refused) Unwrap() error { return e.Cause }

// StaleBundle says that a plan from before no longer fits. Nothing was touched.
type StaleBundle struct {
	Folder string
	// Mismatches say what differs, one for each difference, such as "stack storage: its state is at
	// serial 8, the plan was made at 7".
	Mismatches []string
}

func (e *StaleBundle) Error() string {
	return fmt.Sprintf("apply the plan in %s: it no longer fits, nothing was touched: %s; plan again", e.Folder, strings.Join(e.Mismatches, "; "))
}

// LockedError says that somebody else holds the state of a stack, or the environment.
type LockedError struct {
	What   string // such as "stack storage" or "environment prod"
	Holder string
	Hint   string
	Cause  error // may be nil
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("%s is locked by %s; %s", e.What, e.Holder, e.Hint)
}

// Unwrap returns what found the lock.
func (e *LockedError) Unwrap() error { return e.Cause }

// Interrupted says that a run was asked to stop and did, with nothing lost.
type Interrupted struct {
	Run   string
	Hint  string // how to go on
	Cause error
}

func (e *Interrupted) Error() string {
	return fmt.Sprintf("run %s was interrupted and nothing is lost; %s", e.Run, e.Hint)
}

// Unwrap returns the cause of the context's end.
func (e *Interrupted) Unwrap() error { return e.Cause }

// Failed says that a run ended with stacks that are not as they should be. Its report says how each ended.
type Failed struct {
	Stacks []string // that failed themselves, in their order
	Errs   []error  // theirs
}

func (e *Failed) Error() string {
	if len(e.Stacks) == 1 && strings.Contains(e.Errs[0].Error(), "stack "+e.Stacks[0]) {
		return e.Errs[0].Error()
	}
	if len(e.Stacks) == 1 {
		if text := e.Errs[0].Error(); strings.Contains(text, "stack "+e.Stacks[0]) {
			return text
		}
		return fmt.Sprintf("stack %s: %v", e.Stacks[0], e.Errs[0])
	}
	return fmt.Sprintf("%d stacks failed: %s", len(e.Stacks), strings.Join(e.Stacks, ", "))
}

// Unwrap returns the errors of the stacks.
func (e *Failed) Unwrap() []error { return e.Errs }

// NoStackError says that a stack was named which does not exist.
type NoStackError struct {
	Name   string
	Stacks []string // that exist
}

func (e *NoStackError) Error() string {
	return fmt.Sprintf("there is no stack %q; the stacks are %s", e.Name, strings.Join(e.Stacks, ", "))
}

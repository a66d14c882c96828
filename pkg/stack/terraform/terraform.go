// Package terraform runs the terraform program for one working folder at a time. It wraps
// hashicorp/terraform-exec so that an apply survives this process, is never killed by a timer, and
// never writes a sensitive value into the event stream.
package terraform

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	tfjson "github.com/hashicorp/terraform-json"
)

// Options say which program runs and how.
type Options struct {
	// Bin is the terraform (or tofu) program; Find looks for it.
	Bin string
	// Version and Digest are what Find says about Bin.
	Version, Digest string
	// Leader is the program that becomes terraform: this binary, re-executed. See Become.
	Leader string
	// Env is the environment of terraform, complete: nothing of this process's own is added.
	Env map[string]string
	// LockTimeout is how long terraform waits for a state lock. Default 5m.
	LockTimeout time.Duration
	// Parallelism is how many operations one terraform runs at once. Default 10, which is terraform's.
	Parallelism int
	// CacheDir keeps the providers that all stacks share. Empty uses none: each stack gets its own.
	CacheDir string
	// Poll is the pause between two looks at the event file. Default 50ms.
	Poll time.Duration
	// MaxLine is the longest line of terraform's output that is read as an event, in bytes. Default 64 MiB.
	MaxLine int
}

// Defaults fills in what is not set.
func (o *Options) Defaults() {
	o.LockTimeout = cmp.Or(o.LockTimeout, 5*time.Minute)
	o.Parallelism = cmp.Or(o.Parallelism, 10)
	o.Poll = cmp.Or(o.Poll, 50*time.Millisecond)
	o.MaxLine = cmp.Or(o.MaxLine, 64<<20)
}

// Validate tells what cannot work.
func (o *Options) Validate() error {
	switch {
	case o.Bin == "" || !filepath.IsAbs(o.Bin):
		return fmt.Errorf("options of terraform: want the absolute path of the program, got %q", o.Bin)
	case o.Leader == "" || !filepath.IsAbs(o.Leader):
		return fmt.Errorf("options of terraform: want the absolute path of the leader, got %q", o.Leader)
	case o.Version == "":
		return errors.New("options of terraform: want the version of the program, as Find returns it")
	case o.Env == nil:
		return errors.New("options of terraform: want an environment, as Env returns it; without one terraform would inherit everything")
	case o.LockTimeout < 0 || o.Parallelism < 1 || o.Poll < time.Millisecond || o.MaxLine < 1<<20:
		return fmt.Errorf("options of terraform: want a lock timeout of at least 0s (got %s), a parallelism of at least 1 (got %d), a poll of at least 1ms (got %s) and lines of at least 1 MiB (got %d)",
			o.LockTimeout, o.Parallelism, o.Poll, o.MaxLine)
	}
	return nil
}

// Workspace is the folder of one stack, ready to run in: sources, backend, variables.
type Workspace struct {
	Stack   string
	Dir     string // sources with the generated backend; .terraform is kept in it
	VarFile string // 0600 JSON with the variables
	RunDir  string // where output and event files of this run go, one per command
	// Started is called when a plan or apply is about to run and before it does anything, so that a
	// record of it can be written. Its error calls the command off. It may be nil.
	Started func(Running) error
}

// Running is a terraform program that runs, or ran. It is made to be kept in a record.
type Running struct {
	PID int `json:"pid"`
	// Identity tells the program from a later one with the same PID.
	Identity string `json:"identity"`
	Command  string `json:"command"`
	// Output is the path of its event stream.
	Output string `json:"output"`
}

// PlanOptions are the variants of a plan.
type PlanOptions struct {
	Out     string // the plan file to write, 0600; empty keeps none
	Destroy bool
	// NoLock leaves the state unlocked, for drift.
	NoLock bool
	// NoRefresh trusts the state instead of reading every object.
	NoRefresh bool
}

// Event is one line of terraform's JSON stream, without values of attributes.
type Event struct {
	Time    time.Time
	Type    string // planned_change, apply_start, apply_progress, apply_complete, apply_errored, diagnostic, resource_drift, change_summary, outputs, log, ...
	Message string
	Address string // of the resource, when the event is about one
	Action  string // create, update, delete, replace, read, no-op, import, forget
	Elapsed time.Duration
}

// Summary is what a plan's or apply's stream said.
type Summary struct {
	Changes                     []StreamChange // planned_change messages, without no-ops and reads
	Drift                       []StreamChange // resource_drift messages
	Outputs                     map[string]OutputChange
	Diagnostics                 []Diagnostic
	Add, Change, Import, Remove int
	Took                        time.Duration
}

// StreamChange is one planned change as the stream has it.
type StreamChange struct {
	Address, Type, Action, Reason, PreviousAddress string
}

// OutputChange is one output of a plan. Value is absent when it is unknown or sensitive.
type OutputChange struct {
	Action    string
	Sensitive bool
	Value     json.RawMessage
}

// Diagnostic is an error or a warning of terraform.
type Diagnostic struct {
	Severity string // error or warning
	Summary  string
	Detail   string
	Address  string // of the resource it is about, or empty
	File     string
	Line     int
}

// Kind sorts failures by what can be done about them.
type Kind string

// The kinds of failures.
const (
	Transient   Kind = "transient"    // 429, 5xx, resets, IAM and APIs that need a moment: plan again
	Denied      Kind = "denied"       // not authenticated or not allowed
	Locked      Kind = "locked"       // someone holds the state's lock
	Stale       Kind = "stale"        // the saved plan no longer fits the state
	NoProviders Kind = "no providers" // neither the registry nor a mirror gave the providers; terraform itself tried again
	Invalid     Kind = "invalid"      // the configuration or a variable is wrong
	Interrupted Kind = "interrupted"  // it was asked to stop and did
	Killed      Kind = "killed"       // it ended without saying how
	Failed      Kind = "failed"       // anything else
)

// Failure is a terraform command that did not succeed.
type Failure struct {
	Command     string // init, plan, apply, ...
	Stack       string
	Kind        Kind
	Diagnostics []Diagnostic // errors first
	Output      string       // path of the raw output
	// Working are the resources that were being changed, when Kind is Killed.
	Working []string
	// Lock is who holds the state's lock, when Kind is Locked.
	Lock *Lock
	// ErroredState is the path of a state that could not be saved. It must be pushed before anything
	// else is done with the stack: see StatePush.
	ErroredState string
	// Cause is what stood in the way, when it is not among the diagnostics. It may be nil.
	Cause error
}

// Lock is who holds a state's lock, as terraform writes it.
type Lock struct {
	ID, Operation, Who, Version, Path string
	Created                           time.Time
}

// ErrNotFound says that there is no terraform program.
var ErrNotFound = errors.New("terraform is not installed")

// Runner is what this package gives to the driver; *Terraform implements it.
type Runner interface {
	Init(ctx context.Context, w Workspace) error
	Plan(ctx context.Context, w Workspace, o PlanOptions, on func(Event)) (*Summary, error)
	Show(ctx context.Context, w Workspace, planFile string) (*tfjson.Plan, error)
	Apply(ctx context.Context, w Workspace, planFile string, on func(Event)) (*Summary, error)
}

// Package stack takes the stacks of an environment from their declaration to what runs: it plans
// them in order, applies exactly what was planned, destroys in reverse, finds drift, and never loses
// a state on the way.
package stack

import (
	"context"
	"time"

	"github.com/latamctl/latamctl/pkg/plan"
	"github.com/latamctl/latamctl/pkg/stack/contract"
	"github.com/latamctl/latamctl/pkg/stack/terraform"
)

// Inputs derives the values of variables.
type Inputs interface {
	// Values returns the value of each derived variable of a stack, ready for JSON.
	Values(s *contract.Stack) (map[string]any, error)
	// Off says why a stack is left out of this environment, or returns "".
	Off(s *contract.Stack) string
}

// Manifests are the Kubernetes objects of an environment.
type Manifests interface {
	// Plan compares them with the cluster by a server-side dry run. Without a cluster everything is created, and the grade is provisional.
	Plan(ctx context.Context, cluster Cluster) (plan.Section, error)
	// Apply makes the cluster match, and waits for nothing.
	Apply(ctx context.Context, cluster Cluster, on func(message string)) (plan.Section, error)
	// Delete removes what Apply made.
	Delete(ctx context.Context, cluster Cluster, on func(message string)) (plan.Section, error)
}

// Cluster says how to reach the cluster; the zero value is a cluster that does not exist yet.
type Cluster struct {
	Endpoint string // host name or https URL
	CA       []byte // PEM; empty trusts the system's authorities
}

// Selection is which stacks a command is about. The zero value is all of them.
type Selection struct {
	Stacks         []string
	WithDeps       bool // and everything that they need
	WithDependents bool // and everything that needs them
}

// Step is one thing that happened, for progress and records.
type Step struct {
	Time    time.Time
	Stack   string
	Phase   Phase
	Message string
	// Event is the terraform event behind it, if there is one.
	Event *terraform.Event
	// Done and Total count a stack's resources in an apply or destroy, once they are known.
	Done, Total int
	Err         error
}

// Phase is where a stack is.
type Phase string

// The phases of a stack. The last six are final.
const (
	Waiting   Phase = "waiting"
	Planned   Phase = "planned"
	Preparing Phase = "preparing" // files, variables, init
	Planning  Phase = "planning"
	Applying  Phase = "applying"
	Retrying  Phase = "retrying"
	Done      Phase = "done"
	Unchanged Phase = "unchanged"
	Broken    Phase = "failed"
	Stopped   Phase = "interrupted" // it was asked to stop and saved what it did
	Blocked   Phase = "blocked"     // a stack before it failed
	Skipped   Phase = "skipped"     // off, not selected, or not started any more
)

// PlanOptions are the variants of Plan.
type PlanOptions struct {
	Selection
	// Bundle is the folder to write the plan to, so that it can be applied later; empty writes none.
	Bundle  string
	Destroy bool
	// NoRefresh trusts the states instead of asking the cloud about every object.
	NoRefresh bool
	// Changed leaves out what is the same as at its last apply, by the digests of its inputs.
	Changed bool
}

// UpOptions are the variants of Up.
type UpOptions struct {
	Selection
	// Bundle is a plan written before. It is applied as it is or not at all.
	Bundle string
	// Approve is asked once, with everything that would change. Its error ends the run.
	Approve func(ctx context.Context, p *plan.Plan) error
	// AllowDelete are the addresses (stack/address, or the address alone) of protected objects that may be deleted or replaced.
	AllowDelete []string
	// FailFast starts nothing new after the first failure.
	FailFast bool
	// Resume goes on with the last run: what it finished is not planned again while nothing about it changed.
	Resume bool
}

// DownOptions are the variants of Down.
type DownOptions struct {
	Selection
	Approve     func(ctx context.Context, p *plan.Plan) error
	AllowDelete []string
	// IncludeKept are the stacks with Keep that are destroyed as well.
	IncludeKept []string
	// Cascade destroys the dependents of the selected stacks too, instead of refusing.
	Cascade bool
}

// Outcome is how a stack ended.
type Outcome struct {
	Stack   string        `json:"stack"`
	Phase   Phase         `json:"outcome"`
	Created int           `json:"created"`
	Changed int           `json:"changed"`
	Deleted int           `json:"deleted"`
	Blocked string        `json:"blocked_by,omitempty"`
	Retries int           `json:"retries,omitempty"`
	Took    time.Duration `json:"-"`
	Err     error         `json:"-"`
	Log     string        `json:"log,omitempty"` // the raw output
}

// Report is how a run ended.
type Report struct {
	Run      string     `json:"run"` // its id, the folder under Dir/runs
	Begun    bool       `json:"-"`   // whether anything was applied, so that there is something to resume
	Plan     *plan.Plan `json:"plan,omitempty"`
	Outcomes []Outcome  `json:"stacks"`
}

package stack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/latamctl/latamctl/pkg/bucket"
	"github.com/latamctl/latamctl/pkg/proc"
	"github.com/latamctl/latamctl/pkg/stack/contract"
	"github.com/latamctl/latamctl/pkg/stack/state"
	"github.com/latamctl/latamctl/pkg/stack/terraform"
)

// Options are what a Driver works with.
type Options struct {
	// Environment is the name of the environment, such as prod.
	Environment string
	Stacks      *contract.Set
	// Inputs returns the values of a stack's variables that are derived from the declaration.
	Inputs Inputs
	// State is where the states are. It may not exist yet.
	State bucket.Bucket
	// CreateState creates State when it does not exist, after a plan was approved. Nil means that it
	// comes into being by itself, as a folder does.
	CreateState func(context.Context) error
	// Terraform runs the program. It is a *terraform.Terraform, whose Alive, Wait, Errored, StatePush
	// and Kill are used where the Runner has them.
	Terraform terraform.Runner
	// TerraformVersion and TerraformDigest name the program for bundles and digests.
	TerraformVersion, TerraformDigest string
	// Manifests are applied after the stack ManifestsAfter. Nil applies none.
	Manifests Manifests
	// ManifestsOff says why an environment has no manifests yet; then Manifests is nil.
	ManifestsOff string
	// ManifestsAfter is the stack whose end the manifests wait for. Default apps.
	ManifestsAfter string
	// ManifestsCluster is the stack with the cluster's outputs, endpoint and ca. Default cluster.
	ManifestsCluster string
	// Dir is where working folders and runs are kept, such as .latamctl.
	Dir  string
	Proc *proc.Process
	Log  *slog.Logger
	// Parallel is how many terraform programs run at once. Default 4, or as many as have room in memory.
	Parallel int
	// Retries is how often a stack is planned again after a transient failure. Default 2; -1 never does.
	Retries int
	// RetryDelay is the wait before the first retry; it doubles, with jitter. Default 5s.
	RetryDelay time.Duration
	// RunLock is how the lock of the environment is kept. Its zero value tries once.
	RunLock state.RunLockOptions
	// Kill, when it is closed, kills the running programs of terraform and loses what they were
	// creating. It is what a person who insists can still do.
	Kill <-chan struct{}
	// Observe gets every step as it happens, from one goroutine at a time. It must not block.
	Observe func(Step)
}

// Defaults fills in what is not set.
func (o *Options) Defaults() {
	if o.Parallel == 0 && o.Proc != nil {
		o.Parallel = slots(o.Proc.AvailableMemory())
	}
	o.Retries = cmp.Or(o.Retries, 2)
	o.RetryDelay = cmp.Or(o.RetryDelay, 5*time.Second)
	o.ManifestsAfter = cmp.Or(o.ManifestsAfter, "apps")
	o.ManifestsCluster = cmp.Or(o.ManifestsCluster, clusterStack)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Observe == nil {
		o.Observe = func(Step) {}
	}
}

// A terraform waits for the cloud more than it computes, so more of them than processors are faster.
// One takes 356 MB with its providers while it plans, as measured.
const (
	mostPrograms  = 4
	programMemory = 400 << 20
)

// slots is how many programs have room in free memory, which is in bytes and 0 when it is not known.
func slots(free int64) int {
	if free == 0 {
		return mostPrograms
	}
	return max(1, min(mostPrograms, int(free/programMemory)))
}

// Validate tells what cannot work.
func (o *Options) Validate() error {
	switch {
	case o.Environment == "" || filepath.Base(o.Environment) != o.Environment:
		return fmt.Errorf("options of the driver: the environment %q is not a name such as prod", o.Environment)
	case o.Stacks == nil || o.Inputs == nil || o.State == nil || o.Terraform == nil || o.Proc == nil:
		return errors.New("options of the driver: Stacks, Inputs, State, Terraform and Proc must be set")
	case o.Manifests != nil && o.ManifestsOff != "":
		return errors.New("options of the driver: ManifestsOff is for environments without Manifests")
	case o.Dir == "":
		return errors.New("options of the driver: Dir must be set, such as .latamctl")
	case o.Parallel < 1 || o.Retries < -1 || o.RetryDelay < 0:
		return fmt.Errorf("options of the driver: want at least 1 program at a time (got %d), retries of at least -1 (got %d) and a delay of at least 0s (got %s)",
			o.Parallel, o.Retries, o.RetryDelay)
	}
	return nil
}

// adopter is a Runner that can follow programs which an earlier latamctl left running.
type adopter interface {
	Alive(r terraform.Running) (bool, error)
	Wait(ctx context.Context, w terraform.Workspace, r terraform.Running, on func(terraform.Event)) (*terraform.Summary, error)
}

// rescuer is a Runner that can save a state which an earlier apply could not save.
type rescuer interface {
	Errored(w terraform.Workspace) string
	StatePush(ctx context.Context, w terraform.Workspace, file string) error
}

// killer is a Runner that can kill what runs for a stack.
type killer interface {
	Kill(stack string) (bool, error)
}

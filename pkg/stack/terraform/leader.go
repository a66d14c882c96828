package terraform

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/latamctl/latamctl/pkg/proc"
)

// leaderVariable holds the order of a leader, and marks this program as one.
const leaderVariable = "LATAMCTL_TERRAFORM_LEADER"

// leaderPoll is the pause between two looks for the word to go.
const leaderPoll = 2 * time.Millisecond

// order says what a leader becomes.
type order struct {
	Bin     string `json:"bin"`
	Version string `json:"version"` // the answer to "version -json", which terraform-exec asks
	Parent  int    `json:"parent"`
	// Flags are put after the name of the command. They are those that terraform-exec does not know,
	// or for which it asks for the version once more.
	Flags  []string `json:"flags,omitempty"`
	Stdout string   `json:"stdout,omitempty"` // file; empty keeps the pipe
	Stderr string   `json:"stderr,omitempty"`
	Ready  string   `json:"ready"` // file that is written before terraform starts
	Go     string   `json:"go"`    // file that is waited for; empty waits for nothing
}

// Become turns this process into terraform when it was started as a leader, and returns at once
// when it was not. It must be the first thing that the program does.
//
// terraform-exec starts its programs so that the kernel kills them when latamctl ends, and reads
// their output from a pipe that ends with latamctl too. A terraform that is killed in an apply
// forgets what it created and leaves its lock behind. So terraform-exec starts this program instead,
// which takes both ties off, puts its output onto files, and then becomes terraform by exec: the
// process stays the same one, so an interrupt of terraform-exec reaches terraform itself.
func Become(p *proc.Process) {
	text, ok := p.Getenv(leaderVariable)
	if !ok {
		return
	}
	if err := lead(p, text); err != nil {
		fmt.Fprintf(p.Err, "error: start terraform: %v\n", err)
		p.Exit(1)
		return
	}
	p.Exit(0)
}

func lead(p *proc.Process, text string) error {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return fmt.Errorf("read the variable %s: %w", leaderVariable, err)
	}
	if slices.Equal(p.Args, []string{"version", "-json"}) {
		fmt.Fprintf(p.Out, "{%q: %q, %q: {}}\n", "terraform_version", o.Version, "provider_selections")
		return nil
	}
	if len(p.Args) == 0 {
		return fmt.Errorf("want a command of terraform as argument, got none")
	}
	if err := p.Detach(); err != nil {
		return err
	}
	if err := checkParent(p, o.Parent); err != nil {
		return err
	}
	if err := p.RedirectOutput(o.Stdout, o.Stderr); err != nil {
		return err
	}
	if err := announce(p, o); err != nil {
		return err
	}
	env := slices.DeleteFunc(p.Environ(), func(v string) bool { return strings.HasPrefix(v, leaderVariable+"=") })
	return p.Exec(o.Bin, slices.Insert(slices.Clone(p.Args), subcommand(p.Args), o.Flags...), env)
}

// subcommand is the index after the name of the command, which is two words for "state push".
func subcommand(args []string) int {
	if args[0] == "state" && len(args) > 1 {
		return 2
	}
	return 1
}

// neverBegan is in the output of a leader that did not become terraform.
const neverBegan = "nothing was run"

// checkParent tells whether latamctl is gone. Then nobody knows of this process, so it must not run.
func checkParent(p *proc.Process, want int) error {
	if got := p.ParentPID(); got != want {
		return fmt.Errorf("the process %d that asked for terraform is gone; %s", want, neverBegan)
	}
	return nil
}

// announce says which process terraform will be, and waits for the word to go: by then the parent
// has written down that this process exists.
func announce(p *proc.Process, o order) error {
	id, err := p.ProcessIdentity(p.PID)
	if err != nil {
		return err
	}
	ready, err := json.Marshal(Running{PID: p.PID, Identity: id})
	if err != nil {
		return err
	}
	if err := p.WriteSecretFile(o.Ready, ready); err != nil {
		return err
	}
	for o.Go != "" && !p.Exists(o.Go) {
		if err := checkParent(p, o.Parent); err != nil {
			return err
		}
		time.Sleep(leaderPoll)
	}
	return nil
}

package terraform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/terraform-exec/tfexec"

	"github.com/latamctl/latamctl/pkg/proc"
)

// Terraform runs one program. Its methods may be called at the same time for different stacks.
type Terraform struct {
	proc    *proc.Process
	options Options
	direct  string // configuration of terraform under which providers are downloaded
	mu      sync.Mutex
	running map[string]Running // by stack
}

// New returns a runner of terraform.
func New(p *proc.Process, o Options) (*Terraform, error) {
	o.Defaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if refused := tfexec.ProhibitedEnv(o.Env); len(refused) > 0 {
		return nil, fmt.Errorf("options of terraform: the variables %s change what terraform does, so they cannot be passed on", strings.Join(refused, ", "))
	}
	if o.CacheDir != "" {
		dir, err := filepath.Abs(p.Path(o.CacheDir)) // terraform runs in other folders.
		if err != nil {
			return nil, fmt.Errorf("options of terraform: folder of the cache: %w", err)
		}
		o.CacheDir = dir
	}
	return &Terraform{proc: p, options: o, direct: "provider_installation {\n  direct {}\n}\n", running: make(map[string]Running)}, nil
}

// job is one command to run.
type job struct {
	command string
	flags   []string // see order.Flags
	// pipe leaves standard output to terraform-exec, which decodes it.
	pipe bool
	// recorded commands wait for Workspace.Started.
	recorded bool
	env      map[string]string // more variables, for this command alone
	on       func(Event)
	call     func(ctx context.Context, tf *tfexec.Terraform) error
}

// execution is one command while it runs.
type execution struct {
	t        *Terraform
	w        Workspace
	j        job
	order    order
	output   string
	stream   stream
	follower *follower
	running  Running
	err      error // why it was called off
}

// run runs one command to its end. An end of the context is one interrupt; nothing here ever kills
// the program. The stream says what happened also when there is an error.
func (t *Terraform) run(ctx context.Context, w Workspace, j job) (*stream, error) {
	x := &execution{t: t, w: w, j: j}
	if ctx.Err() != nil {
		return &x.stream, x.failure(ctx, nil)
	}
	if err := x.prepare(); err != nil {
		return &x.stream, fmt.Errorf("%s of stack %s: %w", j.command, w.Stack, err)
	}
	defer x.clean()
	tf, err := x.program()
	if err != nil {
		return &x.stream, fmt.Errorf("%s of stack %s: %w", j.command, w.Stack, err)
	}
	// The program is not bound to the context of the caller: it is interrupted only after it has
	// said which process it is, because terraform-exec does not wait for one that is interrupted earlier.
	own, interrupt := context.WithCancel(context.WithoutCancel(ctx))
	defer interrupt()
	ended := make(chan error, 1)
	go func() { ended <- j.call(own, tf) }()
	err = x.follow(ctx, interrupt, ended)
	x.awaitGone()
	x.unregister()
	if ferr := x.follower.finish(); ferr != nil && err == nil {
		err = ferr
	}
	if x.succeeded(own, err) {
		return &x.stream, nil
	}
	return &x.stream, x.failure(ctx, err)
}

// prepare makes the files of the command in the folder of the run.
func (x *execution) prepare() error {
	p := x.t.proc
	if x.w.RunDir == "" || x.w.Dir == "" {
		return errors.New("want a working folder and a folder for the run")
	}
	if err := p.MakeSecretDir(x.w.RunDir); err != nil {
		return fmt.Errorf("make the folder of the run: %w", err)
	}
	base, err := x.claim()
	if err != nil {
		return fmt.Errorf("make the file of the output: %w", err)
	}
	x.order = order{
		Bin: x.t.options.Bin, Version: x.t.options.Version, Parent: p.PID, Flags: x.j.flags,
		Stdout: x.output, Stderr: x.output, Ready: base + ".ready",
	}
	if x.j.pipe {
		x.order.Stdout = ""
	}
	if x.j.recorded && x.w.Started != nil {
		x.order.Go = base + ".go"
	}
	x.follower, err = follow(p, x.output, x.t.options.MaxLine, func(line []byte) {
		if e, ok := x.stream.line(line); ok && x.j.on != nil {
			x.j.on(e)
		}
	})
	return err
}

// claim finds a name that no earlier command of the run has: a retry keeps the output of the first try.
func (x *execution) claim() (base string, err error) {
	dir, err := filepath.Abs(x.t.proc.Path(x.w.RunDir)) // The leader runs in the working folder.
	if err != nil {
		return "", err
	}
	name := x.w.Stack + "-" + strings.ReplaceAll(x.j.command, " ", "-")
	for n := 1; ; n++ {
		base = filepath.Join(dir, name)
		if n > 1 {
			base = fmt.Sprintf("%s-%d", base, n)
		}
		x.output = base + ".ndjson"
		if err := x.t.proc.ClaimSecretFile(x.output); !errors.Is(err, fs.ErrExist) {
			return base, err
		}
	}
}

func (x *execution) clean() {
	_ = x.t.proc.Remove(x.order.Ready) // They are empty of meaning now, and in nobody's way.
	if x.order.Go != "" {
		_ = x.t.proc.Remove(x.order.Go)
	}
}

// program is terraform-exec for this one command: what is set on it would stay for the next.
func (x *execution) program() (*tfexec.Terraform, error) {
	tf, err := tfexec.NewTerraform(x.t.proc.Path(x.w.Dir), x.t.options.Leader)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(x.order)
	if err != nil {
		return nil, err
	}
	env := maps.Clone(x.t.options.Env)
	maps.Copy(env, x.j.env)
	env[leaderVariable] = string(text)
	return tf, errors.Join(tf.SetEnv(env), tf.SetWaitDelay(0))
}

// follow reads the output until the program has ended, and passes an interrupt on.
func (x *execution) follow(ctx context.Context, interrupt func(), ended <-chan error) error {
	tick := time.NewTicker(leaderPoll)
	defer tick.Stop()
	stop := ctx.Done()
	for {
		select {
		case err := <-ended:
			return err
		case <-stop:
			if x.running.PID != 0 { // Else the next tick looks again.
				interrupt()
				stop = nil
			}
		case <-tick.C:
		}
		if x.running.PID == 0 {
			if !x.begin(ctx) {
				continue
			}
			tick.Reset(x.t.options.Poll)
			if x.err != nil {
				interrupt()
				stop = nil
			}
		}
		if err := x.follower.poll(); err != nil && x.err == nil {
			x.err = err
		}
	}
}

// begin looks whether the leader is ready, and lets it go when there is a record of it.
func (x *execution) begin(ctx context.Context) bool {
	b, err := x.t.proc.ReadFile(x.order.Ready)
	if err != nil {
		return false // It is not there yet, or never will be: then the program ends.
	}
	if err := json.Unmarshal(b, &x.running); err != nil || x.running.PID == 0 {
		return false
	}
	x.running.Command, x.running.Output = x.j.command, x.output
	x.register()
	if x.order.Go == "" {
		return true
	}
	if ctx.Err() != nil { // It has done nothing yet, so it need not begin.
		return true
	}
	if err := x.w.Started(x.running); err != nil {
		x.err = err
		return true
	}
	if err := x.t.proc.WriteSecretFile(x.order.Go, nil); err != nil {
		x.err = fmt.Errorf("let terraform begin: %w", err)
	}
	return true
}

// gonePoll is the pause between two looks at a process that is not this one's to wait for.
const gonePoll = 20 * time.Millisecond

// awaitGone waits until the program is gone: terraform-exec may come back earlier when the
// interrupt meets the start.
func (x *execution) awaitGone() {
	for x.running.PID != 0 {
		if alive, err := x.t.Alive(x.running); err != nil || !alive {
			return
		}
		time.Sleep(gonePoll)
	}
}

// register makes the program known to Kill. Only plans and applies are: a command that reads beside
// one must not stand for it.
func (x *execution) register() {
	x.t.mu.Lock()
	defer x.t.mu.Unlock()
	if x.j.recorded {
		x.t.running[x.w.Stack] = x.running
	}
}

func (x *execution) unregister() {
	x.t.mu.Lock()
	defer x.t.mu.Unlock()
	if x.j.recorded {
		delete(x.t.running, x.w.Stack)
	}
}

// succeeded tells whether the command did all it should. terraform-exec reports every end after an
// interrupt as an error, also that of an apply which was complete by then.
func (x *execution) succeeded(own context.Context, err error) bool {
	if x.err != nil {
		return false
	}
	if err == nil {
		return true
	}
	_, _, exited := proc.ExitStatus(err)
	return own.Err() != nil && !exited && x.stream.finished && len(x.stream.errors()) == 0
}

// failure says why the command failed. err is what terraform-exec says; its text is never used after
// an interrupt, when it may have none.
func (x *execution) failure(ctx context.Context, err error) error {
	f := &Failure{Command: x.j.command, Stack: x.w.Stack, Output: x.output, Cause: x.err}
	end := ending{plain: x.stream.plain, interrupted: x.stream.interrupted || ctx.Err() != nil}
	code, signal, exited := proc.ExitStatus(err)
	switch {
	case x.err != nil:
	case exited && lethal(signal): // Also after an interrupt, which did nothing then.
		end.signal, end.interrupted = signal, false
	case ctx.Err() != nil:
		f.Cause = context.Cause(ctx)
	case exited && signal != "":
		end.signal = signal
	case exited:
		end.code = code
		if len(end.plain) == 0 { // What a leader says before it has its files is in the error alone.
			end.plain = strings.Split(err.Error(), "\n")
		}
	default:
		f.Cause = err
	}
	f.fill(&x.stream, end)
	if path := x.t.Errored(x.w); path != "" {
		f.ErroredState = path
	}
	return f
}

// lethal tells whether a signal leaves a program no time to save anything. One that asks it to end
// ends terraform only while it has not begun.
func lethal(signal string) bool {
	return signal != "" && !slices.Contains([]string{"interrupt", "terminated", "hangup"}, signal)
}

// Kill ends the plan or apply of a stack, and its providers, at once. What it was creating is lost to
// the state, and the lock stays: only a person can decide that. It returns false when none runs.
func (t *Terraform) Kill(stack string) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, ok := t.running[stack]
	if !ok {
		return false, nil
	}
	if alive, err := t.Alive(r); err != nil || !alive {
		return false, err
	}
	return true, t.proc.KillGroup(r.PID)
}

// Running returns the plan or apply that runs for a stack now.
func (t *Terraform) Running(stack string) (Running, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, ok := t.running[stack]
	return r, ok
}

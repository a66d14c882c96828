package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/plan"
	"github.com/latamctl/latamctl/pkg/proc"
	"github.com/latamctl/latamctl/pkg/stack"
	"github.com/latamctl/latamctl/pkg/stack/contract"
)

// driver takes the stacks of an environment from what is declared to what runs.
type driver interface {
	Plan(ctx context.Context, o stack.PlanOptions) (*plan.Plan, error)
	Up(ctx context.Context, o stack.UpOptions) (*stack.Report, error)
	Down(ctx context.Context, o stack.DownOptions) (*stack.Report, error)
	Drift(ctx context.Context, o stack.Selection) (*plan.Plan, error)
}

// driverMaker opens the driver of an environment. What it opens is closed when the context ends.
type driverMaker func(ctx context.Context, o driveOptions) (driver, error)

// driveOptions are how stacks are driven, for all commands that do.
type driveOptions struct {
	settings     contract.Settings
	terraformBin string
	terraformEnv []string
	stacksDir    string
	workDir      string
	parallel     int
	retries      int
	lockTimeout  time.Duration
	stacks       []string
	withDeps     bool
	dependents   bool
	events       string
	kubeconfig   string
	manifests    string
	takeOver     bool
	storageURL   string
	deleting     bool // the command only deletes

	// observe gets every step. It does not block.
	observe observer
	// kill is closed when a person insists that running programs are killed.
	kill <-chan struct{}
}

const (
	defaultWorkDir     = ".latamctl"
	defaultRetries     = 2
	defaultLockTimeout = 5 * time.Minute
)

// addDriveFlags adds what all commands that drive stacks have.
func addDriveFlags(cmd *cobra.Command, o *driveOptions) {
	f := cmd.Flags()
	f.StringSliceVarP(&o.stacks, "stack", "s", nil, "only this stack (can be repeated)")
	f.BoolVar(&o.withDeps, "with-deps", false, "and the stacks that it needs")
	f.BoolVar(&o.dependents, "with-dependents", false, "and the stacks that need it")
	f.IntVarP(&o.parallel, "parallel", "j", 0, "terraform programs at a time (default 4, or as many as have room in memory)")
	f.IntVar(&o.retries, "retries", defaultRetries, "how often a stack is planned again after a failure that may pass")
	f.DurationVar(&o.lockTimeout, "lock-timeout", defaultLockTimeout, "longest wait for a lock that someone else holds")
	f.StringVar(&o.events, "events", "", "write every step as NDJSON to this file, or - for standard output")
	f.BoolVar(&o.takeOver, "take-over", false, "take Kubernetes objects that others made and fields that others declare")
	f.StringVar(&o.workDir, "work-dir", defaultWorkDir, "folder of working copies, records and raw logs")
	addTerraformFlags(cmd, o)
	addObjectFlags(cmd, o)
	config.MarkInvocation(f, "stack", "with-deps", "with-dependents", "events", "take-over")
	for _, name := range []string{"stack", "with-deps", "with-dependents", "parallel", "retries", "lock-timeout", "events", "work-dir", "take-over"} {
		annotate(f.Lookup(name), cloudOnly)
	}
	addCloudSettings(cmd, &o.settings)
}

// addObjectFlags adds what says where the Kubernetes objects are.
func addObjectFlags(cmd *cobra.Command, o *driveOptions) {
	f := cmd.Flags()
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "cluster of the Kubernetes objects (default the one that the stack cluster makes)")
	f.StringVar(&o.manifests, "manifests", manifestsApply, "Kubernetes objects: apply, or skip where something else applies what stacks manifests writes")
	for _, name := range []string{"kubeconfig", "manifests"} {
		annotate(f.Lookup(name), cloudOnly)
	}
}

// addTerraformFlags adds what says where the program and the stacks are.
func addTerraformFlags(cmd *cobra.Command, o *driveOptions) {
	f := cmd.Flags()
	f.StringVar(&o.terraformBin, "terraform-bin", "", "terraform or tofu program (default terraform on PATH)")
	f.StringSliceVar(&o.terraformEnv, "terraform-env", nil, "further variables that terraform and its providers may see, such as VAULT_ADDR; Google's are passed on anyway")
	f.StringVar(&o.stacksDir, "stacks-dir", "", "folder with stacks of your own, added to the built-in ones; one of the same name replaces it")
	f.StringVar(&o.storageURL, "storage-endpoint", "", "address of Cloud Storage, for tests")
	for _, name := range []string{"terraform-bin", "terraform-env", "stacks-dir", "storage-endpoint"} {
		annotate(f.Lookup(name), cloudOnly)
	}
}

func (o *driveOptions) selection() stack.Selection {
	return stack.Selection{Stacks: o.stacks, WithDeps: o.withDeps, WithDependents: o.dependents}
}

// session is one run against an environment on Google Cloud: its progress and its interrupts.
type session struct {
	a        *app
	driver   driver
	progress *progress
	killed   chan struct{}
	restore  []func()
	asked    int
}

// openSession prepares a run. The caller closes the session on every path.
func (a *app) openSession(ctx context.Context, o driveOptions) (*session, error) {
	if o.parallel < 0 || o.retries < 0 || o.lockTimeout < 0 {
		return nil, failf(exitUsage, "", "--parallel, --retries and --lock-timeout are not negative")
	}
	a.proc.SurviveClosedPipes()
	a.proc.Out = &patient{w: a.proc.Out}
	events, closeEvents, err := a.openEvents(o.events)
	if err != nil {
		return nil, err
	}
	s := &session{a: a, killed: make(chan struct{}), restore: []func(){closeEvents}}
	po := progressOptions{out: &patient{w: a.proc.Err}, quiet: a.global.quiet, paint: a.planPaint(a.proc.ErrTerminal), now: a.proc.Now}
	if events != nil {
		po.events = events
	}
	if a.proc.ErrTerminal && a.proc.Env("TERM") != "dumb" && !a.global.verbose {
		po.size = a.proc.ErrSize
	}
	s.progress = newProgress(po)
	s.restore = append(s.restore, s.progress.close)
	if a.interrupts != nil {
		s.restore = append(s.restore, a.interrupts.Handle(s.interrupted()))
	}
	o.observe, o.kill = s.progress.observe, s.killed
	if s.driver, err = a.newDriver(ctx, o); err != nil {
		s.close()
		return nil, a.cloudFault(ctx, err)
	}
	return s, nil
}

// close ends the progress, then the events. It can be called again.
func (s *session) close() {
	for i := len(s.restore) - 1; i >= 0; i-- {
		s.restore[i]()
	}
	s.restore = nil
}

// openEvents opens where --events goes.
func (a *app) openEvents(to string) (w *patient, closeEvents func(), err error) {
	switch to {
	case "":
		return nil, func() {}, nil
	case "-":
		return &patient{w: a.proc.Out}, func() {}, nil
	}
	f, err := a.proc.CreateSecretFile(to)
	if err != nil {
		return nil, nil, failf(exitUsage, "choose a file that can be written with --events", "create the file of --events: %w", err)
	}
	return &patient{w: f}, func() {
		if err := f.Close(); err != nil {
			a.log.Warn("close the file of --events", "file", to, "error", err)
		}
	}, nil
}

// planPaint gives a plan's colours to a terminal.
func (a *app) planPaint(terminal bool) func(plan.Colour, string) string {
	return func(c plan.Colour, text string) string {
		code := gray
		switch c {
		case plan.Good:
			code = green
		case plan.Caring:
			code = yellow
		case plan.Losing:
			code = red
		case plan.Faint:
		}
		return a.paint(terminal, code, text)
	}
}

// endsWith is an exit code that is no error: everything that there is to say was said.
type endsWith int

func (e endsWith) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// showPlan writes a plan to standard output in the format that was asked for.
func (a *app) showPlan(p *plan.Plan, schema, title, format string, detail bool) error {
	switch {
	case a.global.output == outputJSON:
		return json.NewEncoder(a.proc.Out).Encode(plan.NewDocument(schema, p))
	case format == formatMarkdown:
		return plan.Markdown(a.proc.Out, title, p)
	}
	return plan.Text(a.proc.Out, p, plan.TextOptions{Detail: detail, Paint: a.planPaint(a.proc.OutTerminal)})
}

// planSummary adds a plan to the summary of the CI job, where there is one.
func (a *app) planSummary(title string, p *plan.Plan) {
	var b strings.Builder
	_ = plan.Markdown(&b, title, p) // A builder takes everything.
	a.stepSummary(b.String())
}

// stepSummary adds Markdown to the summary of the CI job. Its absence must not fail the job.
func (a *app) stepSummary(markdown string) {
	file := a.proc.Env("GITHUB_STEP_SUMMARY")
	if file == "" {
		return
	}
	if err := a.proc.AppendFile(file, []byte(markdown+"\n")); err != nil {
		a.log.Warn("write the summary of the CI job", "file", file, "error", err)
	}
}

// planFailure is the error of a plan that is not complete. The plan was shown with why, so that only
// the code and the hint of the cause are kept.
func planFailure(p *plan.Plan, cause error) error {
	if cause != nil && (p == nil || !p.Failed()) {
		return cause
	}
	var failed []string
	for i := range p.Sections {
		if p.Sections[i].Error != "" {
			failed = append(failed, p.Sections[i].Name)
		}
	}
	code, hint := exitFailed, "the messages above say why; the raw logs are in "+defaultWorkDir+"/runs"
	var f *fault
	if errors.As(cause, &f) {
		code, hint = f.code, f.hint
	}
	return failf(code, hint, "could not be planned: %s", strings.Join(failed, ", "))
}

// interrupted is what the session does at each interrupt.
func (s *session) interrupted() func(n int) {
	const insist = 5 * time.Second
	var warned time.Time
	killed := false
	return func(n int) {
		now := s.a.proc.Now()
		switch {
		case n == 1:
			s.progress.note("interrupted: nothing new is started")
			for _, line := range s.finishing() {
				s.progress.note(line)
			}
		case killed:
			s.a.proc.Exit(exitInterrupted)
		case !warned.IsZero() && now.Sub(warned) <= insist:
			killed = true
			s.progress.note("killing what runs; latamctl unlock shows the locks that stay")
			close(s.killed)
		default:
			warned = now
			for _, line := range s.losses() {
				s.progress.note(line)
			}
			s.progress.note(fmt.Sprintf("Ctrl-C once more within %s kills it all the same", insist))
		}
	}
}

// finishing says what is still being worked on after the first interrupt.
func (s *session) finishing() []string {
	var lines []string
	for _, f := range s.progress.applying() {
		what := strings.Join(f.resources, ", ")
		if what == "" {
			what = "its state"
		}
		lines = append(lines, plan.Clean(fmt.Sprintf("finishing %s: %s; its lock will be released", f.stack, what)))
	}
	return lines
}

// losses names what a kill would lose.
func (s *session) losses() []string {
	flying := s.progress.applying()
	if len(flying) == 0 {
		return []string{"nothing is being applied: ending now would lose nothing but the plan"}
	}
	lines := []string{"a kill would lose these: they may exist and be in no state, and the locks of their stacks would stay"}
	for _, f := range flying {
		if len(f.resources) == 0 {
			lines = append(lines, "  "+f.stack+": what it has not saved yet")
		}
		for _, r := range f.resources {
			lines = append(lines, plan.Clean("  "+f.stack+"/"+r))
		}
	}
	return lines
}

// interruptedFault says what is finished and how to go on, when the run was interrupted.
func (s *session) interruptedFault(ctx context.Context, command string, err error) error {
	var failed *stack.Failed // Then more is wrong than the interrupt.
	if !errors.Is(context.Cause(ctx), proc.ErrInterrupted) || errors.As(err, &failed) {
		return nil
	}
	done := strings.Join(s.progress.finished(), ", ")
	hint := ""
	if command != "" {
		hint = fmt.Sprintf("latamctl %s --env %s goes on from here", command, s.a.global.env)
	}
	var stopped *stack.Interrupted
	if errors.As(err, &stopped) { // Its own text says the same once more.
		return fail(exitInterrupted, hint, fmt.Errorf("interrupted, finished: %s; nothing is lost (run %s)", cmp.Or(done, "nothing"), stopped.Run))
	}
	return fail(exitInterrupted, hint, fmt.Errorf("interrupted, finished: %s: %w", cmp.Or(done, "nothing"), err))
}

package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/plan"
	"github.com/latamctl/latamctl/pkg/stack"
)

// applyOptions are the flags of up for an environment on Google Cloud.
type applyOptions struct {
	driveOptions
	bundle           string
	allowDelete      []string
	failFast, resume bool
}

func addApplyFlags(cmd *cobra.Command, o *applyOptions) {
	f := cmd.Flags()
	f.StringVar(&o.bundle, "plan", "", "apply exactly the plan that plan --out wrote to this folder, or nothing")
	f.StringArrayVar(&o.allowDelete, "allow-delete", nil, "let this protected object be deleted or replaced: STACK/ADDRESS, or STACK/* (can be repeated)")
	f.BoolVar(&o.failFast, "fail-fast", false, "start nothing new after the first failure")
	f.BoolVar(&o.resume, "resume", false, "go on with the last run: what it finished is not planned again")
	config.MarkInvocation(f, "plan", "allow-delete", "fail-fast", "resume")
	for _, name := range []string{"plan", "allow-delete", "fail-fast", "resume"} {
		annotate(f.Lookup(name), cloudOnly)
	}
	addDriveFlags(cmd, &o.driveOptions)
}

// runApply is up for an environment on Google Cloud: plan, one question, apply.
func (a *app) runApply(ctx context.Context, o applyOptions) error {
	switch {
	case o.bundle != "" && o.resume:
		return failf(exitUsage, "choose one", "--plan applies a plan from before, --resume plans the rest of a run anew")
	case o.bundle != "" && len(o.stacks) > 0:
		return failf(exitUsage, "leave --stack out: the plan says which stacks it is for", "--plan and --stack exclude each other")
	}
	a.log = a.newLogger(settings) // A run that ends logs as one, not as a service.
	s, err := a.openSession(ctx, o.driveOptions)
	if err != nil {
		return err
	}
	defer s.close()
	report, err := s.driver.Up(ctx, stack.UpOptions{
		Selection: o.selection(), Bundle: o.bundle, AllowDelete: o.allowDelete, FailFast: o.failFast, Resume: o.resume,
		Approve: func(ctx context.Context, p *plan.Plan) error { return s.approveApply(ctx, p, o) },
	})
	s.close()
	return s.finish(ctx, outcome{command: "up", schema: "latamctl.up/v1", title: "Applied to", resume: "up --resume"}, report, err)
}

// approveApply asks once whether a plan may be applied, after the guard had its say. Asked again, it
// is about a stack whose plan turned out otherwise.
func (s *session) approveApply(ctx context.Context, p *plan.Plan, o applyOptions) error {
	release := s.progress.hold()
	defer release()
	s.asked++
	if s.asked > 1 && !s.a.global.quiet {
		fmt.Fprintln(s.a.proc.Err, "Planned again, because the stacks before it were applied:")
	}
	if err := s.preview(p, o.allowDelete); err != nil {
		return err
	}
	switch {
	case s.asked == 1 && o.bundle != "":
		return nil // The plan was read and named.
	case o.bundle != "":
		return failf(exitRefused, "plan again: latamctl plan --env "+s.a.global.env+" --out "+o.bundle, "the plan in %s does not say these changes", o.bundle)
	case s.a.global.yes:
		return nil
	case !s.a.interactive():
		return failf(exitRefused, "say --yes, or apply a plan that was read: latamctl up --env "+s.a.global.env+" --plan FOLDER", "nobody can be asked here whether to apply these changes")
	}
	answer, err := s.a.ask(ctx, fmt.Sprintf("Apply these changes to environment %s? Only 'yes' is accepted: ", s.a.global.env))
	if err != nil {
		return err
	}
	if answer != "yes" {
		return fail(exitRefused, "", errors.New("nothing was applied: the answer was not yes"))
	}
	return nil
}

// preview shows a plan before the question, and refuses what the guard does.
func (s *session) preview(p *plan.Plan, allow []string) error {
	a := s.a
	if !a.global.quiet || a.interactive() && !a.global.yes {
		_ = plan.Text(&patient{w: a.proc.Err}, p, plan.TextOptions{Paint: a.planPaint(a.proc.ErrTerminal)}) // Who reads it may be gone.
	}
	guard := plan.Guard{Allow: allow}
	if err := guard.Check(p); err != nil {
		return a.cloudFault(context.Background(), err)
	}
	if s.asked <= 1 {
		for _, address := range guard.Unused(p) {
			fmt.Fprintf(a.proc.Err, "--allow-delete %s names nothing that this plan deletes or replaces\n", shellQuote(address))
		}
	}
	return nil
}

// interactive tells whether there is a person to ask.
func (a *app) interactive() bool {
	return !a.global.noInput && a.proc.InTerminal && a.proc.ErrTerminal && a.proc.Env("CI") == ""
}

// ask prints a question and waits for a line. An interrupt is an answer too.
func (a *app) ask(ctx context.Context, question string) (string, error) {
	fmt.Fprint(a.proc.Err, question)
	type reply struct {
		line string
		err  error
	}
	replies := make(chan reply, 1)
	go func() {
		line, err := bufio.NewReader(a.proc.In).ReadString('\n')
		replies <- reply{line, err}
	}()
	select {
	case r := <-replies:
		if r.err != nil && !errors.Is(r.err, io.EOF) {
			return "", fmt.Errorf("read the answer: %w", r.err)
		}
		return strings.TrimSpace(r.line), nil
	case <-ctx.Done():
		fmt.Fprintln(a.proc.Err)
		return "", context.Cause(ctx)
	}
}

// outcome says how the end of a run is reported.
type outcome struct {
	command, schema, title string
	resume                 string // the command that goes on after an interrupt
}

// finish reports a run and turns its end into an exit code.
func (s *session) finish(ctx context.Context, o outcome, r *stack.Report, err error) error {
	a := s.a
	if r == nil || !r.Begun {
		o.resume = o.command // There is nothing to go on with.
	}
	fault := s.interruptedFault(ctx, o.resume, err)
	if err == nil {
		fault = nil // The interrupt came when everything was done.
	}
	var refused *plan.Refusal
	if r != nil && r.Plan != nil && s.asked == 0 && errors.As(err, &refused) && !a.global.quiet {
		_ = plan.Text(&patient{w: a.proc.Err}, r.Plan, plan.TextOptions{Paint: a.planPaint(a.proc.ErrTerminal)}) // Who reads it may be gone.
	}
	if r != nil && (a.global.output == outputJSON || begun(r)) {
		if shown := a.showReport(o, r, fault != nil, err); shown != nil {
			return shown
		}
		a.stepSummary(reportMarkdown(o.title+" "+a.global.env, r))
	}
	switch {
	case fault != nil:
		return fault
	case err != nil:
		return reportFailure(r, a.cloudFault(ctx, err))
	case r != nil && len(failedStacks(r)) > 0:
		return failf(exitFailed, "mend the cause, then: latamctl "+o.resume+" --env "+a.global.env, "not done: %s", strings.Join(failedStacks(r), ", "))
	}
	return nil
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/latamctl/latamctl/pkg/monitor"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/plan"
	"github.com/latamctl/latamctl/pkg/proc"
)

// monitorSession is one run against Datadog: what is declared, who is asked, and the interrupts.
type monitorSession struct {
	a       *app
	set     *declare.Set
	syncer  *monitor.Syncer
	restore func()
	done    []string // what was written, as the progress says it
}

// openMonitors reads what is declared and opens Datadog. The caller closes the session on every path.
func (a *app) openMonitors(o *monitorOptions) (*monitorSession, error) {
	set, err := a.loadMonitors(o)
	if err != nil {
		return nil, err
	}
	client, err := a.openDatadog(o.settings.DatadogSite)
	if err != nil {
		return nil, err
	}
	s := &monitorSession{a: a, set: set, restore: func() {}}
	s.syncer = monitor.New(monitor.Options{
		Remote: client, Set: set, Site: client.Site(), Process: a.proc, Dir: monitor.DefaultDir, Log: a.log, Now: a.proc.Now,
		Observe: s.observe(&patient{w: a.proc.Err}),
	})
	if a.interrupts != nil {
		s.restore = a.interrupts.Handle(s.interrupted)
	}
	return s, nil
}

func (s *monitorSession) close() { s.restore(); s.restore = func() {} }

// interrupted is what each interrupt does: the first lets what is under way end, the second does not.
func (s *monitorSession) interrupted(n int) {
	if n > 1 {
		s.a.proc.Exit(exitInterrupted)
		return
	}
	fmt.Fprintln(s.a.proc.Err, "interrupted: what is under way is finished, nothing new is started; Ctrl-C once more ends at once")
}

// observe writes a line for each object that was written or could not be.
func (s *monitorSession) observe(w io.Writer) func(monitor.Step) {
	words := map[plan.Action]string{
		plan.Create: "created", plan.Update: "changed", plan.Replace: "replaced", plan.Delete: "deleted", plan.Import: "taken over", plan.Forget: "left alone",
	}
	signs := map[plan.Action]string{plan.Create: "+", plan.Delete: "-", plan.Replace: "-/+"}
	return func(step monitor.Step) {
		if !step.Done {
			return
		}
		line := fmt.Sprintf("%-3s %s %s", signs[step.Action], plan.Clean(step.Key.String()), words[step.Action])
		if signs[step.Action] == "" {
			line = "~" + line[1:]
		}
		if step.Err == nil {
			s.done = append(s.done, step.Key.String())
		} else {
			line = fmt.Sprintf("!   %s: %s", plan.Clean(step.Key.String()), plan.Clean(step.Err.Error()))
		}
		if s.a.global.quiet && step.Err == nil {
			return
		}
		if step.Took >= time.Second {
			line += fmt.Sprintf(" (%s)", step.Took.Round(time.Second))
		}
		fmt.Fprintf(w, "[%d/%d] %s\n", step.Finished, step.Total, line)
	}
}

// fault gives an error of the run its exit code, and says after an interrupt how to go on.
func (s *monitorSession) fault(ctx context.Context, command string, err error) error {
	if err == nil {
		return nil
	}
	if !errors.Is(context.Cause(ctx), proc.ErrInterrupted) {
		return s.a.monitorFault(ctx, err)
	}
	hint := fmt.Sprintf("latamctl monitors %s --env %s goes on from here; nothing is made twice", command, s.a.global.env)
	if len(s.done) == 0 {
		return failf(exitInterrupted, hint, "interrupted before anything was written")
	}
	return failf(exitInterrupted, hint, "interrupted, finished: %s", someNames(s.done))
}

// someNames are the first of many names.
func someNames(names []string) string {
	const most = 10
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

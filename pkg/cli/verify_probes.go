package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/monitor"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/plan"
	"github.com/latamctl/latamctl/pkg/stack"
	"github.com/latamctl/latamctl/pkg/verify"
)

// verifyProbes look at what the environment's stacks and Datadog are like.
func (a *app) verifyProbes(o verifyOptions) map[string]verify.Probe {
	cloud, err := a.inCloud()
	switch {
	case err != nil || !cloud:
		skip := verify.Probe{Skip: "environment " + a.global.env + " runs on this machine: it has no stacks and no monitors"}
		return map[string]verify.Probe{verify.ProbeDrift: skip, verify.ProbeSynced: skip, verify.ProbeQuiet: skip, verify.ProbeDashboards: skip}
	}
	m := &monitorProbe{a: a, o: o}
	return map[string]verify.Probe{
		verify.ProbeDrift:  {Run: func(ctx context.Context) (string, string, error) { return a.probeDrift(ctx, o) }},
		verify.ProbeSynced: {Run: m.synced}, verify.ProbeQuiet: {Run: m.quiet}, verify.ProbeDashboards: {Run: m.dashboards},
	}
}

// probeDrift compares the stacks with what runs. What cannot be opened here is not seen; what differs,
// or cannot be compared, is a failure.
func (a *app) probeDrift(ctx context.Context, o verifyOptions) (seen, next string, err error) {
	drive := o.drive
	drive.workDir, drive.retries, drive.lockTimeout = defaultWorkDir, defaultRetries, defaultLockTimeout
	drive.observe = func(stack.Step) {}
	d, err := a.newDriver(ctx, drive)
	if err != nil {
		return "", "", verify.Unseen("the stacks cannot be compared from here: " + firstLine(err.Error()))
	}
	next = "latamctl drift --env " + a.global.env
	p, err := d.Drift(ctx, stack.Selection{})
	switch {
	case err != nil && exitCodeOf(a.cloudFault(ctx, err)) == exitDenied:
		return "", "", verify.Unseen("you may not look: " + firstLine(err.Error()))
	case err != nil:
		return "", next, err
	}
	var differing, failed []string
	for i := range p.Sections {
		s := &p.Sections[i]
		switch {
		case s.Failed():
			failed = append(failed, s.Name)
		case s.Pending() || len(s.Drift) > 0:
			differing = append(differing, s.Name)
		}
	}
	switch {
	case len(differing) > 0:
		return "", next, fmt.Errorf("what runs differs in %s", strings.Join(differing, ", "))
	case len(failed) > 0:
		return "", next, fmt.Errorf("could not be compared: %s", strings.Join(failed, ", "))
	}
	return fmt.Sprintf("%d stacks are as they are declared", len(p.Sections)), "", nil
}

// monitorProbe looks at Datadog.
type monitorProbe struct {
	a *app
	o verifyOptions
	// planned and failed are the outcome of the comparison, which two checks share.
	planned *plan.Plan
	failed  error
}

// open makes what compares Datadog with the declaration. It calls nobody yet.
func (m *monitorProbe) open() (*monitor.Syncer, error) {
	a := m.a
	if !slices.ContainsFunc([]string{apiKeyVar, appKeyVar, bearerVar}, func(name string) bool { return a.proc.Env(name) != "" }) {
		return nil, verify.Unseen("Datadog cannot be asked: neither " + apiKeyVar + " with " + appKeyVar + " nor " + bearerVar + " is set")
	}
	quiet := a.global.quiet
	a.global.quiet = true // Who is told is no matter of this.
	defer func() { a.global.quiet = quiet }()
	set, err := a.loadMonitors(&m.o.monitors)
	if err != nil {
		return nil, err
	}
	client, err := a.openDatadog(m.o.monitors.settings.DatadogSite)
	if err != nil {
		return nil, verify.Unseen("Datadog cannot be asked: " + firstLine(err.Error()))
	}
	return monitor.New(monitor.Options{Remote: client, Set: set, Site: client.Site(), Process: a.proc, Dir: monitor.DefaultDir, Log: a.log, Now: a.proc.Now}), nil
}

// unseen makes a Datadog that does not answer no failure of the system.
func (m *monitorProbe) unseen(ctx context.Context, err error) error {
	if code := exitCodeOf(m.a.monitorFault(ctx, err)); code == exitDenied || code == exitUnavailable {
		return verify.Unseen("Datadog cannot be asked: " + firstLine(err.Error()))
	}
	return err
}

func (m *monitorProbe) plan(ctx context.Context) (*plan.Plan, error) {
	if m.planned != nil || m.failed != nil {
		return m.planned, m.failed
	}
	syncer, err := m.open()
	if err != nil {
		m.failed = err
		return nil, err
	}
	planned, err := syncer.Plan(ctx, monitor.PlanOptions{})
	if err != nil {
		m.failed = m.unseen(ctx, err)
		return nil, m.failed
	}
	m.planned = planned.Plan
	return m.planned, nil
}

func (m *monitorProbe) next() string { return "latamctl monitors plan --env " + m.a.global.env }

func (m *monitorProbe) synced(ctx context.Context) (seen, next string, err error) {
	p, err := m.plan(ctx)
	if err != nil {
		return "", m.next(), err
	}
	var differing []string
	for i := range p.Sections {
		for _, change := range slices.Concat(p.Sections[i].Changes, p.Sections[i].Drift) {
			if name := p.Sections[i].Name + " " + change.Address; !slices.Contains(differing, name) {
				differing = append(differing, name)
			}
		}
	}
	if len(differing) > 0 {
		return "", m.next(), fmt.Errorf("%d differ: %s", len(differing), someNames(differing))
	}
	return "Datadog is as declared", "", nil
}

func (m *monitorProbe) dashboards(ctx context.Context) (seen, next string, err error) {
	p, err := m.plan(ctx)
	if err != nil {
		return "", m.next(), err
	}
	var missing []string
	for i := range p.Sections {
		for _, change := range p.Sections[i].Changes {
			if change.Action == plan.Create && change.Type == string(declare.Dashboard) {
				missing = append(missing, change.Address)
			}
		}
	}
	if len(missing) > 0 {
		return "", "latamctl monitors sync --env " + m.a.global.env, fmt.Errorf("missing: %s", someNames(missing))
	}
	return "all are there", "", nil
}

// quiet looks at the states. One that warns or has no data is said, and is no failure.
func (m *monitorProbe) quiet(ctx context.Context) (seen, next string, err error) {
	syncer, err := m.open()
	if err != nil {
		return "", m.next(), err
	}
	states, err := syncer.Status(ctx)
	if err != nil {
		return "", "latamctl monitors status --env " + m.a.global.env, m.unseen(ctx, err)
	}
	if len(states) == 0 {
		return "", "", verify.Unseen("Datadog has no monitors of " + m.a.stackName())
	}
	by := map[string][]string{}
	for i := range states {
		by[states[i].State] = append(by[states[i].State], states[i].Key.Name)
	}
	if alerting := by["Alert"]; len(alerting) > 0 {
		return "", "latamctl monitors status --env " + m.a.global.env, errors.New("alerting: " + someNames(alerting))
	}
	seen = fmt.Sprintf("none of %d alerts", len(states))
	for _, state := range []string{"Warn", "No Data"} {
		if names := by[state]; len(names) > 0 {
			seen += fmt.Sprintf("; %s: %s", strings.ToLower(state), someNames(names))
		}
	}
	return seen, "", nil
}

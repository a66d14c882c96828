package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/latamctl/latamctl/pkg/telemetry"
	"github.com/latamctl/latamctl/pkg/verify"
	"github.com/latamctl/latamctl/pkg/web"
)

// watchVerify verifies at an interval until the context ends. A failed round does not end it: what it
// saw is in its output and its metrics.
func (a *app) watchVerify(ctx context.Context, o verifyOptions, t *verifyTarget) error {
	count, err := telemetry.VerifyChecks.Counter(t.telemetry.telemetry.Meter)
	if err != nil {
		return err
	}
	took, err := telemetry.VerifyDuration.Histogram(t.telemetry.telemetry.Meter)
	if err != nil {
		return err
	}
	readable, err := telemetry.CanaryReadable.Histogram(t.telemetry.telemetry.Meter)
	if err != nil {
		return err
	}
	t.deps.Standing = &verify.Standing{}
	t.deps.Done = func(r verify.Result) {
		of := []attribute.KeyValue{attribute.String("hop", r.Hop), attribute.String("check", r.Check), attribute.String("dataset", r.Dataset)}
		took.Record(ctx, r.Milliseconds/1000, metric.WithAttributes(of...))
		count.Add(ctx, 1, metric.WithAttributes(append(of, attribute.String("outcome", string(r.Status)))...))
		if seconds, ok := canaryLatency(r, o.wait); ok {
			readable.Record(ctx, seconds, metric.WithAttributes(attribute.String("dataset", r.Dataset)))
		}
		if r.Status == verify.Fail && a.global.output == outputTable {
			a.printCheck(r)
		}
	}
	rounds := func(ctx context.Context) error { return a.verifyRounds(ctx, o, t) }
	if o.admin == "" {
		return rounds(ctx)
	}
	admin := web.NewAdmin(web.AdminOptions{}, web.AdminDeps{Metrics: t.telemetry.telemetry.Prometheus, Now: a.proc.Now})
	server, err := web.Listen(ctx, adminListener(serviceOptions{admin: o.admin}), web.Deps{Handler: admin.Handler(), Log: a.log, Now: a.proc.Now, OnDrain: admin.Drain})
	if err != nil {
		return listenFault("--admin", err)
	}
	a.log.Info("verifying", "every", o.watch, "admin", server.Addr())
	return runWithAdmin(ctx, adminServer{Server: server, drain: admin.Drain}, rounds)
}

// canaryLatency is the time from publishing a canary until it was readable. One that did not come out
// counts with the whole wait: a level that leaves it out would be met best when nothing works.
func canaryLatency(r verify.Result, wait time.Duration) (seconds float64, ok bool) {
	if r.Hop != verify.HopCanary || r.Check != verify.CheckFresh {
		return 0, false
	}
	switch r.Status {
	case verify.Pass:
		return r.LatencyMilliseconds / 1000, true
	case verify.Fail:
		return max(wait.Seconds(), r.Milliseconds/1000), true
	}
	return 0, false
}

// verifyRounds begins a round at each tick; one that takes longer than the interval is followed at once.
func (a *app) verifyRounds(ctx context.Context, o verifyOptions, t *verifyTarget) error {
	tick := time.NewTicker(o.watch)
	defer tick.Stop()
	for {
		started := a.proc.Now()
		t.deps.Probes = a.verifyProbes(o) // What one round has learnt is old in the next.
		report := verify.Run(ctx, t.options(o), t.deps)
		if ctx.Err() == nil {
			if err := a.showRound(o, started, report); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if t.deps.Standing.Pending() {
				verify.Run(ctx, t.options(o), t.deps) // It starts no check any more; it takes back what waits.
			}
			return nil
		}
	}
}

func (a *app) showRound(o verifyOptions, started time.Time, report verify.Report) error {
	if err := a.writeVerify(o, report); err != nil {
		return err
	}
	if a.global.output == outputJSON {
		return json.NewEncoder(a.proc.Out).Encode(report)
	}
	_, err := fmt.Fprintf(a.proc.Out, "%s  %s\n", started.UTC().Format(time.RFC3339), report.Summary())
	return err
}

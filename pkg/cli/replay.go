package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/proc"
	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/services/ingest/replay"
)

// replayOptions are the flags of replay.
type replayOptions struct {
	from, to string
	dryRun   bool
	rate     float64
	quietFor time.Duration
	dataDir  string
	cloud    cloudOptions
}

func replayCmd(a *app) *cobra.Command {
	var o replayOptions
	cmd := &cobra.Command{
		Use: "replay DATASET --from TIME", GroupID: groupData,
		Short: "Process again what a topic still keeps",
		Long: `replay reads again what was published in [from, to) and stores it as ingest does, through a
subscription of its own: that of ingest, and its backlog, stay as they are. The same records make
the same cells, so that it may run beside ingest and as often as you like; a record that was
replaced since is not brought back. What the declaration refuses goes to the dead letters again.
A time is RFC 3339, or a duration back from now. --dry-run reads everything, and tells which rows
would be new or changed.`,
		Example: `  latamctl replay flights --from 2h --dry-run
  latamctl replay flights --from 2026-11-30T01:00:00Z --to 2026-11-30T02:00:00Z
  latamctl replay flights --from 6h --rate 500 --yes --env prod`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: datasetArg(a),
		RunE:              a.run(settings, func(ctx context.Context, args []string) error { return a.runReplay(ctx, args[0], o) }),
	}
	f := cmd.Flags()
	f.StringVar(&o.from, "from", "", "publish time to begin at: 2026-11-30T01:00:00Z, or 2h for two hours ago")
	f.StringVar(&o.to, "to", "", "publish time to end before (default now)")
	f.BoolVar(&o.dryRun, "dry-run", false, "say what would change, and write nothing")
	f.Float64Var(&o.rate, "rate", 0, "most messages a second; 0 is as fast as they are stored")
	f.DurationVar(&o.quietFor, "quiet-for", replay.Options{}.Defaults().QuietFor,
		"end when nothing of the window came for this long; Pub/Sub does not say what is left")
	f.StringVar(&o.dataDir, "data-dir", defaultDataDir, "folder of the running latamctl up")
	addCloudFlags(cmd, &o.cloud)
	config.MarkInvocation(f, "from", "to", "dry-run", "rate", "quiet-for")
	_ = cmd.MarkFlagRequired("from") // It fails only for an unknown flag.
	return cmd
}

func (a *app) runReplay(ctx context.Context, name string, o replayOptions) error {
	ds, err := a.dataset(name)
	if err != nil {
		return err
	}
	from, to, err := a.replayWindow(o)
	if err != nil {
		return err
	}
	p, err := a.openWorker(ctx, "replay", o.dataDir, o.cloud, ds)
	if err != nil {
		return err
	}
	defer a.close(p)
	if from, err = a.withinTopic(ctx, p, ds, from, to); err != nil {
		return err
	}
	run, err := replay.New(replay.Options{From: from, To: to, QuietFor: o.quietFor, PerSecond: o.rate}, p.bus, a.ingestDeps(p), ds)
	if err != nil {
		return fail(exitUsage, "latamctl replay --help", err)
	}
	r := &replayRun{app: a, ds: ds, from: from, to: to, started: a.proc.Now(), rate: o.rate}
	if o.dryRun {
		return r.preview(ctx, p, run)
	}
	question := fmt.Sprintf("Process again what was published to topic %s from %s to %s? --dry-run says what it would change.", ds.Topic, shownTime(from), shownTime(to))
	if err := a.approve(ctx, question); err != nil {
		return err
	}
	if err := a.disownIndexes(ctx, p, []*dataset.Dataset{ds}); err != nil {
		return err
	}
	return r.process(ctx, run)
}

// shownTime is a time as --from takes it.
func shownTime(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// approve asks whether to go on. Without a person to ask, only --yes means yes.
func (a *app) approve(ctx context.Context, question string) error {
	switch {
	case a.global.yes:
		return nil
	case !a.interactive():
		return failf(exitRefused, "say --yes to go ahead, or --dry-run to see what it would do", "nobody can be asked here: %s", question)
	}
	answer, err := a.ask(ctx, question+" Only 'yes' is accepted: ")
	if err != nil {
		return err
	}
	if answer != "yes" {
		return fail(exitRefused, "", errors.New("nothing was done: the answer was not yes"))
	}
	return nil
}

// openWorker opens what a command needs to do the work of ingest, and checks that it can be done.
func (a *app) openWorker(ctx context.Context, command, dataDir string, cloud cloudOptions, ds *dataset.Dataset) (*platform, error) {
	eng, stack, err := a.clientEngine(ctx, dataDir, true)
	if err != nil {
		return nil, err
	}
	if stack != nil {
		cloud.project, cloud.instance = stack.Project, stack.Instance
	}
	p, err := a.openPlatform(ctx, command, eng, cloud)
	if err != nil {
		return nil, err
	}
	if err = p.ensure(ctx, []*dataset.Dataset{ds}); err == nil {
		err = a.checkWorker(ctx, p, ds)
	}
	if err != nil {
		a.close(p)
		return nil, err
	}
	return p, nil
}

func (a *app) checkWorker(ctx context.Context, p *platform, ds *dataset.Dataset) error {
	err := p.store.Ping(ctx, ds.Table())
	if err == nil {
		err = p.bus.Ping(ctx, ds.DeadLetterTopic())
	}
	switch {
	case errors.Is(err, store.ErrDenied), errors.Is(err, bus.ErrDenied):
		return fail(exitDenied, "grant your account what the service account of ingest has", err)
	case errors.Is(err, store.ErrMisconfigured), errors.Is(err, bus.ErrNotFound):
		return fail(exitUnavailable, "latamctl verify --env "+a.global.env+" says what is missing", err)
	}
	return err
}

// replayWindow reads --from and --to.
func (a *app) replayWindow(o replayOptions) (from, to time.Time, err error) {
	now := a.proc.Now()
	if from, err = timeFlag("--from", o.from, now); err != nil {
		return from, to, err
	}
	to = now
	if o.to != "" {
		if to, err = timeFlag("--to", o.to, now); err != nil {
			return from, to, err
		}
	}
	switch {
	case to.After(now):
		return from, to, failf(exitUsage, "leave --to out to process everything up to now", "--to %s is in the future", shownTime(to))
	case !from.Before(to):
		return from, to, failf(exitUsage, "--from is the earlier one", "the window from %s to %s is empty", shownTime(from), shownTime(to))
	case o.rate < 0:
		return from, to, failf(exitUsage, "", "--rate cannot be negative")
	}
	return from, to, nil
}

// timeFlag reads a time, or a duration back from now.
func timeFlag(flag, text string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t, nil
	}
	back, err := dataset.ParseDuration(text)
	if err != nil {
		return time.Time{}, failf(exitUsage, "such as 2026-11-30T01:00:00Z, or 2h for two hours ago", "%s: expected a time in RFC 3339 or a duration, got %q", flag, text)
	}
	return now.Add(-back), nil
}

// topicSlack is how far the window may begin before what the topic keeps, which moves on all the time.
const topicSlack = time.Minute

// withinTopic refuses a window that begins before what the topic keeps.
func (a *app) withinTopic(ctx context.Context, p *platform, ds *dataset.Dataset, from, to time.Time) (time.Time, error) {
	kept, err := p.bus.TopicKeeps(ctx, ds.Topic)
	if err != nil {
		return from, err
	}
	if kept == 0 {
		return from, failf(exitRefused, "set topic_retention of stack messaging, which holds from then on; files are stored with latamctl backfill "+ds.Name+" -f FILE",
			"topic %s keeps no message once it is acknowledged", ds.Topic)
	}
	oldest := a.proc.Now().Add(-kept)
	switch {
	case !from.Before(oldest):
		return from, nil
	case oldest.Sub(from) <= topicSlack && oldest.Before(to):
		a.note("topic %s keeps messages for %s: replaying from %s on", ds.Topic, dataset.FormatDuration(kept), shownTime(oldest))
		return oldest, nil
	}
	earliest := oldest.Add(topicSlack).Truncate(time.Second)
	return from, failf(exitRefused, fmt.Sprintf("--from %s is as far as it goes; older records are stored from files: latamctl backfill %s -f FILE", shownTime(earliest), ds.Name),
		"topic %s keeps messages for %s, and what was published at %s is gone", ds.Topic, dataset.FormatDuration(kept), shownTime(from))
}

// replayRun is one replay under way.
type replayRun struct {
	app      *app
	ds       *dataset.Dataset
	from, to time.Time
	started  time.Time
	rate     float64
}

func (r *replayRun) seconds() float64 { return r.app.proc.Now().Sub(r.started).Seconds() }

func (r *replayRun) process(ctx context.Context, run *replay.Replay) error {
	stop := r.app.showProgress(func() string {
		c := run.Counts()
		return fmt.Sprintf("%d read, %d stored, %d rejected, %.0f/s", c.Read, c.Stored, c.RejectedAll(), float64(c.Stored)/max(r.seconds(), 0.001))
	})
	report, err := run.Run(ctx)
	stop()
	if report.Restless {
		r.app.note("records of the window were still being replaced at their own event time; get shows whether the last update won, and publishing it again makes it win")
	}
	return errors.Join(r.report(report, err != nil), r.fault(ctx, err, report.Counts))
}

func (r *replayRun) preview(ctx context.Context, p *platform, run *replay.Replay) error {
	stop := r.app.showProgress(func() string { return fmt.Sprintf("%d read", run.Counts().Read) })
	preview, report, err := run.Preview(ctx, p.store)
	stop()
	if err != nil {
		return r.fault(ctx, err, report.Counts)
	}
	return r.app.showPreview(previewDocument{
		Schema: "latamctl.replay/v1", Dataset: r.ds.Name, DryRun: true, Preview: preview, Seconds: r.seconds(),
		Window: &windowDocument{Topic: r.ds.Topic, From: shownTime(r.from), To: shownTime(r.to)},
	})
}

// fault says how to go on after an error.
func (r *replayRun) fault(ctx context.Context, err error, did replay.Counts) error {
	if err == nil {
		return nil
	}
	again := fmt.Sprintf("latamctl replay %s --from %s --to %s", r.ds.Name, shownTime(r.from), shownTime(r.to))
	if r.rate > 0 {
		again += fmt.Sprintf(" --rate %g", r.rate)
	}
	if r.app.global.env != localEnv {
		again += " --env " + r.app.global.env
	}
	hint := "begin again, what is stored does no harm twice: " + again
	if errors.Is(err, proc.ErrInterrupted) {
		return failf(exitInterrupted, hint, "interrupted: %d records were stored, of those read so far", did.Stored)
	}
	code := exitCode(ctx, err)
	if errors.Is(err, bus.ErrNotFound) {
		code = exitUnavailable
	}
	return fail(code, hint, fmt.Errorf("replay %s: %w", r.ds.Name, err))
}

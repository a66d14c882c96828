package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/proc"
	"github.com/latamctl/latamctl/services/ingest"
	"github.com/latamctl/latamctl/services/ingest/backfill"
	"github.com/latamctl/latamctl/services/ingest/replay"
)

// backfillOptions are the flags of backfill.
type backfillOptions struct {
	files                            []string
	records                          publishOptions // how records are read
	rate                             float64
	position, at, rejects            string
	restart, dryRun, noCheck, tooOld bool
	maxRejected                      int64
	dataDir, storageURL              string
	cloud                            cloudOptions
}

func backfillCmd(a *app) *cobra.Command {
	var o backfillOptions
	cmd := &cobra.Command{
		Use: "backfill DATASET -f FILE", GroupID: groupData,
		Short: "Store the records of files, from where the last run ended",
		Long: `backfill stores the records of NDJSON or CSV files, here or in Cloud Storage, by the steps of
ingest but without Pub/Sub. Gzip and Zstandard are read as they are. First it reads through the
files and tells what would be rejected. How far it came is kept in a position file: the same
command goes on there, however the last run ended. Rejected records go to the dead letters, or
into a file with --rejects. A stored row gives way to a record with the same or a later event time.`,
		Example: `  latamctl backfill flights -f 2025.ndjson.zst --dry-run
  latamctl backfill flights -f 2025.ndjson.zst --rejects rejects.ndjson --rate 5000
  latamctl backfill flights -f 'gs://my-archive/flights/2025-*.csv.gz' --env prod --yes`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: datasetArg(a),
		RunE:              a.run(settings, func(ctx context.Context, args []string) error { return a.runBackfill(ctx, args[0], o) }),
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.files, "file", "f", nil, "file to read, or gs://BUCKET/OBJECT, where * stands for any part of a name; repeatable")
	f.StringVar(&o.records.format, "format", "", "ndjson or csv (default by the file's name, then its first byte)")
	f.BoolVar(&o.records.ignoreUnknown, "ignore-unknown", false, "leave out CSV columns that the dataset does not have")
	f.StringArrayVar(&o.records.null, "null", nil, "more text that means missing in a CSV cell, repeatable")
	f.Float64Var(&o.rate, "rate", 0, "most records a second; 0 is as fast as they are stored")
	f.StringVar(&o.position, "position", "", "file that keeps how far it came (default one for these files in the data folder)")
	f.BoolVar(&o.restart, "restart", false, "begin anew, whatever the position says")
	f.StringVar(&o.at, "at", "", "time of the rows of a dataset without a time field (default when the backfill began)")
	f.StringVar(&o.rejects, "rejects", "", "file for rejected records, with the reason of each, instead of the dead letters")
	f.Int64Var(&o.maxRejected, "max-rejected", 1000, "stop when more records than that are rejected; 0 does not")
	f.BoolVar(&o.tooOld, "allow-too-old", false, "go on although records are older than the retention, which are rejected")
	f.BoolVar(&o.noCheck, "no-check", false, "do not read through the files first")
	f.BoolVar(&o.dryRun, "dry-run", false, "say what would change, and write nothing")
	f.StringVar(&o.dataDir, "data-dir", defaultDataDir, "folder of the running latamctl up, and of positions")
	f.StringVar(&o.storageURL, "storage-endpoint", "", "address of Cloud Storage, for tests")
	addCloudFlags(cmd, &o.cloud)
	config.MarkInvocation(f, "file", "format", "ignore-unknown", "null", "rate", "position", "restart", "at", "rejects", "max-rejected", "allow-too-old", "no-check", "dry-run")
	_ = cmd.MarkFlagRequired("file") // It fails only for an unknown flag.
	return cmd
}

func (a *app) runBackfill(ctx context.Context, name string, o backfillOptions) error {
	ds, err := a.dataset(name)
	if err != nil {
		return err
	}
	if o.rate < 0 || o.maxRejected < 0 {
		return failf(exitUsage, "", "--rate and --max-rejected cannot be negative")
	}
	if !o.dryRun && !a.global.yes && !a.interactive() {
		return a.approve(ctx, "Store the records of "+strings.Join(o.files, ", ")+" in "+ds.Name+"?")
	}
	files, err := a.backfillFiles(ctx, ds, o)
	if err != nil {
		return err
	}
	r := &backfillRun{app: a, ds: ds, o: o, files: files, started: a.proc.Now()}
	if !o.dryRun {
		unlock, err := r.open(ctx)
		if err != nil {
			return err
		}
		defer unlock()
		if r.from.Complete() {
			a.note("already complete: %d records of %d files; --restart stores them again", r.from.Total, len(files))
			return r.report(backfill.Counts{Skipped: r.from.Total, Rejected: map[string]int64{}}, r.from, "")
		}
	}
	p, err := a.openWorker(ctx, "backfill", o.dataDir, o.cloud, ds)
	if err != nil {
		return err
	}
	defer a.close(p)
	if o.dryRun {
		return r.preview(ctx, p.store)
	}
	if err := r.prepare(ctx); err != nil {
		return err
	}
	if err := a.disownIndexes(ctx, p, []*dataset.Dataset{ds}); err != nil {
		return err
	}
	return r.store(ctx, p)
}

// backfillRun is one backfill under way.
type backfillRun struct {
	app      *app
	ds       *dataset.Dataset
	o        backfillOptions
	files    []backfill.File
	started  time.Time
	from     backfill.Position
	position string // the file that keeps it
}

func (r *backfillRun) seconds() float64 { return r.app.proc.Now().Sub(r.started).Seconds() }

// reading are the flags that decide what the records of a file are.
func (o backfillOptions) reading() string {
	return strings.TrimSpace(fmt.Sprintf("%s ignore-unknown=%t null=%q", o.records.format, o.records.ignoreUnknown, o.records.null))
}

// open takes the position into work, where the last run ended or at the start.
func (r *backfillRun) open(ctx context.Context) (unlock func(), err error) {
	a := r.app
	if r.position = r.o.position; r.position == "" {
		sum := sha256.New()
		for _, f := range r.files {
			fmt.Fprintf(sum, "%s %q ", a.global.env, f.Name)
		}
		r.position = filepath.Join(r.o.dataDir, "backfill-"+r.ds.Name+"-"+hex.EncodeToString(sum.Sum(nil)[:6])+".json")
	}
	waiting, cancel := context.WithTimeout(ctx, positionPatience)
	defer cancel()
	if unlock, err = a.proc.LockFile(waiting, r.position); err != nil {
		if ctx.Err() == nil && waiting.Err() != nil {
			return nil, fail(exitLocked, "wait until it ends, or stop it: the position is kept", fmt.Errorf("another backfill works with %s: %w", r.position, err))
		}
		return nil, fail(exitFailed, "name a file that can be written with --position", err)
	}
	if r.from, err = r.begin(); err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// positionPatience is how long the end of another backfill is waited for.
const positionPatience = 500 * time.Millisecond

// begin reads the position, or makes one.
func (r *backfillRun) begin() (backfill.Position, error) {
	a, o := r.app, r.o
	at := a.proc.Now()
	if o.at != "" {
		var err error
		if at, err = timeFlag("--at", o.at, at); err != nil {
			return backfill.Position{}, err
		}
	}
	text, err := a.proc.ReadFile(r.position)
	if errors.Is(err, fs.ErrNotExist) || err == nil && o.restart {
		return backfill.Begin(r.ds, r.files, o.reading(), at), nil
	}
	if err != nil {
		return backfill.Position{}, fail(exitFailed, "name another file with --position", fmt.Errorf("read the position: %w", err))
	}
	p, err := backfill.ParsePosition(text)
	if err != nil {
		return p, fail(exitRefused, "name another file with --position, or begin anew with --restart", fmt.Errorf("read the position %s: %w", r.position, err))
	}
	hint := "begin anew with --restart: what is stored does no harm twice"
	switch {
	case p.Fits(r.ds, r.files) != nil:
		return p, fail(exitRefused, hint, fmt.Errorf("go on after record %d, as %s says: %w", p.Total, r.position, p.Fits(r.ds, r.files)))
	case p.Reading != o.reading():
		return p, failf(exitRefused, hint, "go on after record %d, as %s says: the files were read with %s, and are to be read with %s", p.Total, r.position, p.Reading, o.reading())
	case o.at != "" && !p.At.Equal(at):
		return p, failf(exitRefused, hint, "go on after record %d, as %s says: its rows have the time %s, not that of --at", p.Total, r.position, shownTime(p.At))
	}
	return p, nil
}

// prepare reads through the files, refuses what is better looked at first, and asks.
func (r *backfillRun) prepare(ctx context.Context) error {
	a, o := r.app, r.o
	if r.from.Total > 0 {
		return a.approve(ctx, fmt.Sprintf("Go on after %d records with %s?", r.from.Total, r.files[r.from.File].Name))
	}
	if o.noCheck {
		return a.approve(ctx, fmt.Sprintf("Store the records of %d files in %s?", len(r.files), r.ds.Name))
	}
	c := replay.NewComparer(r.ds, nothingStored{}, 1)
	if err := r.read(ctx, c, "checked"); err != nil {
		return err
	}
	found := c.Preview()
	if n := found.TooOld(); n > 0 && !o.tooOld {
		return failf(exitRefused, "a longer retention keeps them; --allow-too-old goes on, and they are rejected",
			"%d of %d records are older than the retention of %s; nothing was written", n, found.Records, dataset.FormatDuration(r.ds.Retention))
	}
	if n := found.RejectedAll() - found.TooOld(); o.maxRejected > 0 && n > o.maxRejected {
		return failf(exitRefused, "latamctl backfill --dry-run shows what the others would do; --max-rejected goes on",
			"%d of %d records would be rejected, and --max-rejected is %d: %s; nothing was written", n, found.Records, o.maxRejected, reasons(found.Rejected))
	}
	question := fmt.Sprintf("Store %d records in %s?", found.Records-found.RejectedAll(), r.ds.Name)
	if n := found.RejectedAll(); n > 0 {
		question = fmt.Sprintf("Store %d records in %s, and reject %d (%s)?", found.Records-n, r.ds.Name, n, reasons(found.Rejected))
	}
	return a.approve(ctx, question)
}

// nothingStored is a store that is not asked.
type nothingStored struct{}

func (nothingStored) GetMany(_ context.Context, _ string, keys, _ []string) ([]dataset.Row, error) {
	return make([]dataset.Row, len(keys)), nil
}

// preview compares every record with what is stored.
func (r *backfillRun) preview(ctx context.Context, rows replay.Rows) error {
	c := replay.NewComparer(r.ds, rows, 0)
	r.from = backfill.Begin(r.ds, r.files, "", r.app.proc.Now())
	if err := r.read(ctx, c, "compared"); err != nil {
		return err
	}
	d := previewDocument{Schema: "latamctl.backfill/v1", Dataset: r.ds.Name, DryRun: true, Preview: c.Preview(), Seconds: r.seconds()}
	for _, f := range r.files {
		d.Files = append(d.Files, f.Name)
	}
	return r.app.showPreview(d)
}

// read gives the records of all files to a comparer.
func (r *backfillRun) read(ctx context.Context, c *replay.Comparer, verb string) error {
	read := &progressCount{}
	stop := r.app.showProgress(func() string { return fmt.Sprintf("%d records %s", read.n.Load(), verb) })
	defer stop()
	err := backfill.Read(ctx, r.ds, r.files, r.from.At, c, read.n.Store)
	if err != nil {
		return r.fault(ctx, err, 0)
	}
	return nil
}

// store runs the backfill.
func (r *backfillRun) store(ctx context.Context, p *platform) error {
	a, o := r.app, r.o
	deps := a.ingestDeps(p)
	save := r.save
	if o.rejects != "" {
		rejects, err := openRejects(a.proc, o.rejects, r.from)
		if err != nil {
			return err
		}
		defer func() { _ = rejects.Close() }() // Every save before has synced it.
		deps.DeadLetters = rejects
		save = func(p backfill.Position) error { return errors.Join(rejects.Sync(), r.save(p)) }
	}
	run, err := backfill.New(backfill.Options{PerSecond: o.rate, MaxRejected: o.maxRejected, Worker: ingest.Options{}},
		backfill.Deps{Ingest: deps, Save: save}, r.ds, r.files, r.from)
	if err != nil {
		return fail(exitRefused, "begin anew with --restart", err)
	}
	if err := save(r.from); err != nil {
		return fail(exitFailed, "name a file that can be written with --position", fmt.Errorf("save the position: %w", err))
	}
	r.started = a.proc.Now()
	stop := a.showProgress(func() string {
		c := run.Counts()
		return fmt.Sprintf("%d stored, %d rejected, %.0f/s", c.Skipped+c.Stored, c.RejectedAll(), float64(c.Records)/max(r.seconds(), 0.001))
	})
	err = run.Run(ctx)
	stop()
	return errors.Join(r.report(run.Counts(), run.Position(), errorText(err)), r.fault(ctx, err, run.Position().Total))
}

func (r *backfillRun) save(p backfill.Position) error {
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	return r.app.proc.WriteFile(r.position, append(text, '\n'))
}

// fault says how to go on after an error.
func (r *backfillRun) fault(ctx context.Context, err error, total int64) error {
	if err == nil {
		return nil
	}
	hint := "nothing was written"
	if total > 0 {
		hint = fmt.Sprintf("the first %d records are safe; the same command goes on behind them (position in %s)", total, r.position)
	}
	switch {
	case errors.Is(err, proc.ErrInterrupted):
		return failf(exitInterrupted, hint, "interrupted after %d records", total)
	case errors.Is(err, backfill.ErrTooManyRejected):
		return fail(exitRefused, hint+"; a higher --max-rejected takes more", fmt.Errorf("backfill %s: %w", r.ds.Name, err))
	}
	return fail(exitCode(ctx, err), hint, fmt.Errorf("backfill %s: %w", r.ds.Name, err))
}

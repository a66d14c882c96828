package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/payload"
)

// publishOptions are the flags of publish.
type publishOptions struct {
	file, format, dataDir string
	compress              string
	rate                  float64
	skip                  int64
	check, ignoreUnknown  bool
	null                  []string
	cloud                 cloudOptions
}

func publishCmd(a *app) *cobra.Command {
	var o publishOptions
	cmd := &cobra.Command{
		Use: "publish DATASET", GroupID: groupData,
		Short: "Send records to a dataset through Pub/Sub",
		Long: `publish sends one message for each record of an NDJSON or CSV file, in the file's order and as
they are: what breaks the declaration comes out at the dead-letter topic. Gzip and Zstandard are
read as they are. In CSV the first line names the fields, and an empty cell, or NA in a field that is not a
string, means missing.`,
		Example: `  latamctl publish flights -f flights.ndjson.gz
  latamctl publish weather -f weather.csv --check
  producer | latamctl publish flights -f - --rate 500`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: datasetArg(a),
		RunE:              a.run(settings, func(ctx context.Context, args []string) error { return a.runPublish(ctx, args[0], o) }),
	}
	f := cmd.Flags()
	f.StringVarP(&o.file, "file", "f", "-", "file to read; - is standard input")
	f.StringVar(&o.format, "format", "", "ndjson or csv (default by the file's name, then its first byte)")
	f.Float64Var(&o.rate, "rate", 0, "most records a second; 0 is as fast as they are taken")
	f.StringVar(&o.compress, "compress", "", "gzip or zstd: compress each record and say so in its attribute "+payload.AttrEncoding)
	f.Int64Var(&o.skip, "skip", 0, "leave out the first records, to resume")
	f.BoolVar(&o.check, "check", false, "check each record first and send only good ones; exit 1 when one is refused")
	f.BoolVar(&o.ignoreUnknown, "ignore-unknown", false, "leave out CSV columns that the dataset does not have")
	f.StringArrayVar(&o.null, "null", nil, "more text that means missing in a CSV cell, repeatable")
	f.StringVar(&o.dataDir, "data-dir", defaultDataDir, "folder of the running latamctl up")
	addCloudFlags(cmd, &o.cloud)
	config.MarkInvocation(f, "file", "format", "rate", "compress", "skip", "check", "ignore-unknown", "null")
	return cmd
}

func (a *app) runPublish(ctx context.Context, name string, o publishOptions) error {
	ds, err := a.dataset(name)
	if err != nil {
		return err
	}
	if o.rate < 0 || o.skip < 0 {
		return failf(exitUsage, "", "--rate and --skip cannot be negative")
	}
	if o.compress != "" && o.compress != payload.Gzip && o.compress != payload.Zstd {
		return failf(exitUsage, "", "--compress must be %s or %s, got %q", payload.Gzip, payload.Zstd, o.compress)
	}
	records, err := a.openRecords(ds, o)
	if err != nil {
		return err
	}
	defer func() { _ = records.Close() }()
	client, done, err := a.openBus(ctx, o)
	if err != nil {
		return err
	}
	defer done()
	run := &publishRun{app: a, ds: ds, opts: o, client: client, started: a.proc.Now()}
	err = run.all(ctx, records)
	run.progressEnd()
	return errors.Join(a.publishReport(run), run.fault(ctx, err))
}

// openBus dials Pub/Sub for a command.
func (a *app) openBus(ctx context.Context, o publishOptions) (*bus.Client, func(), error) {
	eng, stack, err := a.clientEngine(ctx, o.dataDir, false)
	if err != nil {
		return nil, nil, err
	}
	if stack != nil {
		o.cloud.project = stack.Project
	}
	return a.openPubsub(ctx, eng, o.cloud.project)
}

// publishRun is one publish under way.
type publishRun struct {
	app     *app
	ds      *dataset.Dataset
	opts    publishOptions
	client  *bus.Client
	started time.Time

	read, published, refused int64
	safe                     int64 // how many records from the start need not be sent again
	batch                    []bus.Message
	batchBytes               int
	drawn                    time.Time
}

// refusalsShown bounds how many refused records are described one by one.
const refusalsShown = 20

// all publishes every record, a request at a time: what one request carries keeps its order, and
// so does the whole file.
func (r *publishRun) all(ctx context.Context, records *recordReader) error {
	for {
		record, err := records.next(ctx, len(r.batch) > 0)
		switch {
		case errors.Is(err, errNothingYet):
			err = r.flush(ctx)
		case errors.Is(err, io.EOF):
			return r.flush(ctx)
		case err != nil:
			return errors.Join(err, r.flush(ctx))
		default:
			err = r.take(ctx, records.name, record)
		}
		if err != nil {
			return err
		}
	}
}

// take adds a record to the batch, sending the batch before when it would not fit and after when it is full.
func (r *publishRun) take(ctx context.Context, source string, record []byte) error {
	message := bus.Message{Data: record}
	if r.opts.compress != "" && r.read >= r.opts.skip {
		var err error
		if message.Data, err = payload.Pack(r.opts.compress, record); err != nil {
			return err
		}
		message.Attributes = map[string]string{payload.AttrEncoding: r.opts.compress}
	}
	if len(r.batch) > 0 && r.batchBytes+len(message.Data) > bus.MaxBatchBytes {
		if err := r.flush(ctx); err != nil {
			return err
		}
	}
	r.read++
	if r.read <= r.opts.skip || !r.accept(source, record) {
		return nil
	}
	r.batch = append(r.batch, message)
	r.batchBytes += len(message.Data)
	if len(r.batch) >= r.batchLimit() {
		return r.flush(ctx)
	}
	return nil
}

// batchLimit keeps batches small under a low rate, so that records flow instead of coming in bursts.
func (r *publishRun) batchLimit() int {
	if r.opts.rate == 0 {
		return bus.MaxBatchMessages
	}
	const batchesPerSecond = 20
	return min(bus.MaxBatchMessages, max(1, int(r.opts.rate/batchesPerSecond)))
}

// accept tells whether a record may be sent; without --check every one may.
func (r *publishRun) accept(source string, record []byte) bool {
	if !r.opts.check {
		return true
	}
	_, err := r.ds.Decode(record, r.app.proc.Now())
	if err == nil {
		return true
	}
	r.refused++
	if r.refused <= refusalsShown {
		fmt.Fprintf(r.app.proc.Err, "%s: record %d refused: %v\n", source, r.read, err)
	}
	return false
}

func (r *publishRun) flush(ctx context.Context) error {
	if len(r.batch) == 0 {
		return nil
	}
	if err := r.waitForRate(ctx); err != nil {
		return err
	}
	if _, err := r.client.PublishBatch(ctx, r.ds.Topic, r.batch); err != nil {
		return err
	}
	r.published += int64(len(r.batch))
	r.safe = r.read
	r.batch, r.batchBytes = r.batch[:0], 0
	r.progress()
	return nil
}

// waitForRate holds a batch back until its last record is due.
func (r *publishRun) waitForRate(ctx context.Context) error {
	if r.opts.rate == 0 {
		return nil
	}
	due := r.started.Add(time.Duration(float64(r.published+int64(len(r.batch))) / r.opts.rate * float64(time.Second)))
	wait := time.NewTimer(due.Sub(r.app.proc.Now()))
	defer wait.Stop()
	select {
	case <-wait.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

const progressInterval = 100 * time.Millisecond

// progress redraws one line on a terminal.
func (r *publishRun) progress() {
	now := r.app.proc.Now()
	if !r.app.proc.ErrTerminal || r.app.global.quiet || now.Sub(r.drawn) < progressInterval {
		return
	}
	r.drawn = now
	fmt.Fprintf(r.app.proc.Err, "\r%d published, %.0f/s\x1b[K", r.published, r.perSecond())
}

func (r *publishRun) progressEnd() {
	if !r.drawn.IsZero() {
		fmt.Fprint(r.app.proc.Err, "\r\x1b[K")
	}
}

func (r *publishRun) seconds() float64 { return r.app.proc.Now().Sub(r.started).Seconds() }

func (r *publishRun) perSecond() float64 {
	if s := r.seconds(); s > 0 {
		return float64(r.published) / s
	}
	return 0
}

// fault says how to go on after an error, and turns refused records into a failure.
func (r *publishRun) fault(ctx context.Context, err error) error {
	switch {
	case err != nil && r.safe > 0:
		hint := fmt.Sprintf("the first %d records are safe; go on with --skip %d", r.safe, r.safe)
		return fail(exitCode(ctx, err), hint, fmt.Errorf("publish to %s: %w", r.ds.Name, err))
	case err != nil:
		return fail(exitCode(ctx, err), "", fmt.Errorf("publish to %s: %w", r.ds.Name, err))
	case r.refused > 0:
		return failf(exitFailed, "correct them, or publish without --check to have them dead-lettered", "%d of %d records refused", r.refused, r.read-r.opts.skip)
	}
	return nil
}

// publishResult is what publish prints with -o json.
type publishResult struct {
	Schema    string  `json:"schema"`
	Dataset   string  `json:"dataset"`
	Topic     string  `json:"topic"`
	Published int64   `json:"published"`
	Refused   int64   `json:"refused"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"rate_per_second"`
}

func (a *app) publishReport(r *publishRun) error {
	if a.global.output == outputJSON {
		return json.NewEncoder(a.proc.Out).Encode(publishResult{
			Schema: "latamctl.publish/v1", Dataset: r.ds.Name, Topic: r.ds.Topic, Published: r.published,
			Refused: r.refused, Seconds: r.seconds(), PerSecond: r.perSecond(),
		})
	}
	refused := ""
	if r.refused > 0 {
		refused = fmt.Sprintf(", %d refused", r.refused)
	}
	_, err := fmt.Fprintf(a.proc.Out, "published %d records to %s in %.2fs (%.0f/s)%s\n", r.published, r.ds.Name, r.seconds(), r.perSecond(), refused)
	return err
}

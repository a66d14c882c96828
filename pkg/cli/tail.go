package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/proc"
)

// tailOptions are the flags of tail.
type tailOptions struct {
	limit          int
	fields, fromID string
	giveUpAfter    time.Duration
	api            apiOptions
}

func tailCmd(a *app) *cobra.Command {
	var o tailOptions
	cmd := &cobra.Command{
		Use: "tail DATASET [FIELD=VALUE]...", GroupID: groupData,
		Short: "Show rows as they become readable",
		Long: `tail shows each row of a dataset once it is stored, from now on. FIELD=VALUE and
FIELD[gte]=VALUE filter as in get, on any field. When the connection breaks, tail goes on
where it stopped; a row may then come twice, none is left out. Ctrl-C is the normal end
and exits 0, unless --limit asked for more rows.`,
		Example: `  latamctl tail flights
  latamctl tail flights origin=SFO 'delay_minutes[gte]=60' --fields destination,delay_minutes
  latamctl tail flights --limit 1 -o json`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: getArgs(a),
		RunE:              a.run(settings, func(ctx context.Context, args []string) error { return a.runTail(ctx, args, o) }),
	}
	f := cmd.Flags()
	f.IntVar(&o.limit, "limit", 0, "end after so many rows; 0 goes on")
	f.StringVar(&o.fields, "fields", "", "fields to show, separated by commas (default all)")
	f.StringVar(&o.fromID, "from-id", "", "go on after the event with this id, which -o json shows and Ctrl-C prints")
	addAPIFlags(cmd, &o.api)
	f.DurationVar(&o.giveUpAfter, "give-up-after", time.Minute, "how long to try to connect again")
	config.MarkInvocation(f, "limit", "fields", "from-id", "give-up-after")
	return cmd
}

// tailRun is one run of tail over all its connections.
type tailRun struct {
	a    *app
	ds   *dataset.Dataset
	o    tailOptions
	path string // with the query
	rows liveRows

	connected bool // at least once
	lastID    string
	shown     int
	retry     time.Duration
}

func (a *app) runTail(ctx context.Context, args []string, o tailOptions) error {
	ds, err := a.dataset(args[0])
	if err != nil {
		return err
	}
	query, err := filterArgs("tail", args[1:])
	if err != nil {
		return err
	}
	if o.fields != "" {
		query.Add("fields", o.fields)
	}
	if o.limit < 0 {
		return failf(exitUsage, "0 goes on without an end", "--limit %d is negative", o.limit)
	}
	t := &tailRun{a: a, ds: ds, o: o, lastID: o.fromID, rows: a.liveRows(ds, query.Get("fields"))}
	t.path = "/v1/datasets/" + url.PathEscape(ds.Name) + "/tail"
	if len(query) > 0 {
		t.path += "?" + query.Encode()
	}
	return t.run(ctx)
}

// errEnough ends a stream that has given as many rows as were asked for.
var errEnough = errors.New("enough rows")

// The pauses between two tries to connect.
const (
	minTailPause = 100 * time.Millisecond
	maxTailPause = 5 * time.Second
)

// run connects again whenever a stream ends, until there is reason to stop.
func (t *tailRun) run(ctx context.Context) error {
	var broken time.Time
	pause := time.Duration(0)
	for {
		opened, err := t.stream(ctx)
		switch {
		case errors.Is(err, errEnough):
			return nil
		case ctx.Err() != nil:
			return t.interrupted(ctx)
		case !t.connected && !opened, final(err):
			return err
		}
		now := t.a.proc.Now()
		if opened {
			t.connected, pause = true, 0
			broken = now
		}
		if now.Sub(broken) >= t.o.giveUpAfter {
			return failf(exitUnavailable, t.resumeHint(), "the live rows of %s did not come back within %s: %w", t.ds.Name, t.o.giveUpAfter, err)
		}
		if opened {
			t.a.note("the stream ended (%v), connecting again", err)
		}
		pause = min(max(2*pause, minTailPause, t.retry/10), maxTailPause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return t.interrupted(ctx)
		}
	}
}

// interrupted is the end by Ctrl-C: the normal one, as of up, unless some rows are still missing.
func (t *tailRun) interrupted(ctx context.Context) error {
	if !errors.Is(context.Cause(ctx), proc.ErrInterrupted) {
		return context.Cause(ctx)
	}
	if t.o.limit > 0 {
		return failf(exitInterrupted, t.resumeHint(), "interrupted after %d of %d rows", t.shown, t.o.limit)
	}
	if hint := t.resumeHint(); hint != "" {
		t.a.note("%d rows; %s", t.shown, hint)
	}
	return nil
}

func (t *tailRun) resumeHint() string {
	if t.lastID == "" {
		return ""
	}
	return "go on with --from-id " + t.lastID
}

// note tells a person what happens, beside the rows.
func (a *app) note(format string, args ...any) {
	if !a.global.quiet {
		fmt.Fprintf(a.proc.Err, format+"\n", args...)
	}
}

// final reports whether an error will not go away by connecting again.
func final(err error) bool {
	var f *fault
	return errors.As(err, &f) && f.code != exitUnavailable && f.code != exitTimeout
}

const (
	// silence is how long a stream may say nothing: three heartbeats.
	silence       = 30 * time.Second
	maxEventBytes = 4 << 20
)

var errSilent = errors.New("nothing was heard for " + silence.String())

// stream opens one connection and shows its rows until it ends, always with an error. opened says
// whether the API has accepted it.
func (t *tailRun) stream(ctx context.Context) (opened bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer watch.Stop()
	resp, err := t.connect(ctx)
	if err != nil {
		return false, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return false, t.refused(resp)
	}
	if kind := resp.Header.Get("Content-Type"); !strings.HasPrefix(kind, "text/event-stream") {
		return false, failf(exitFailed, "check --url", "open the live rows: the answer is of type %q, not what latamctl serve sends", kind)
	}
	events := newEventReader(&watchedReader{resp.Body, func() { watch.Reset(silence) }}, maxEventBytes)
	events.lastID = t.lastID
	for {
		ev, err := events.next()
		if events.retry > 0 {
			t.retry = events.retry
		}
		if err != nil {
			switch cause := context.Cause(ctx); {
			case cause != nil:
				err = cause
			case errors.Is(err, io.EOF):
				err = errors.New("the API closed it")
			}
			return true, err
		}
		if err := t.show(ev); err != nil {
			return true, err
		}
	}
}

// watchedReader tells when something was read.
type watchedReader struct {
	io.Reader
	heard func()
}

func (w *watchedReader) Read(b []byte) (int, error) {
	n, err := w.Reader.Read(b)
	if n > 0 {
		w.heard()
	}
	return n, err
}

// connect looks for the API and its credentials each time: an up that was started again has others.
func (t *tailRun) connect(ctx context.Context) (*http.Response, error) {
	api, err := t.a.api(ctx, t.o.api)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, api.base+t.path, nil)
	if err != nil {
		return nil, fail(exitUsage, "", err)
	}
	req.Header.Set("Accept", "text/event-stream")
	if t.lastID != "" {
		req.Header.Set("Last-Event-ID", t.lastID)
	}
	resp, err := api.http.Do(req)
	if err != nil {
		return nil, fail(exitUnavailable, "check that the API runs: latamctl up, or --url", fmt.Errorf("ask the API: %w", err))
	}
	return resp, nil
}

// refused reads why a stream was not opened. A service that does not know the last id any more,
// because it started anew with another key, begins anew: that beats ending.
func (t *tailRun) refused(resp *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxEventBytes))
	if err != nil {
		return fail(exitUnavailable, "", fmt.Errorf("read the API's answer: %w", err))
	}
	var problem struct{ Code string }
	_ = json.Unmarshal(body, &problem) // A proxy's answer has no problem document.
	if problem.Code == "CURSOR_MISMATCH" && t.lastID != t.o.fromID {
		t.lastID, t.o.fromID = "", ""
		t.a.note("the API has started anew and cannot go on where it stopped: rows of meanwhile are not shown, get has them")
		return fail(exitUnavailable, "", errors.New("the API has started anew"))
	}
	err = apiFault(resp.StatusCode, body)
	if resp.StatusCode == http.StatusTooManyRequests && t.connected {
		err = fail(exitUnavailable, "", err)
	}
	return err
}

// show prints an event.
func (t *tailRun) show(ev streamEvent) error {
	t.lastID = ev.ID
	switch ev.Kind {
	case "gap":
		var gap struct{ Detail string }
		_ = json.Unmarshal(ev.Data, &gap) // Whatever it says, the user should know.
		t.a.note("rows may be missing here: %s", cellText(json.RawMessage(gap.Detail)))
	case "row":
		if err := t.rows.write(ev.ID, ev.Data); err != nil {
			return fail(exitFailed, "", fmt.Errorf("show a row: %w", err))
		}
		if t.shown++; t.shown == t.o.limit {
			return errEnough
		}
	}
	return nil
}

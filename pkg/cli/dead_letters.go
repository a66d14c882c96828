package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/engine"
	"github.com/latamctl/latamctl/pkg/payload"
)

func deadLettersCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "dead-letters", GroupID: groupData,
		Short: "Look at rejected records, correct them and publish them again",
		Long: `dead-letters works on the records that ingest has rejected, or that Pub/Sub gave up on. They
wait in the subscription <topic>-dead-inspect, each with its reason. Looking takes nothing away:
what one command holds, others do not see until it ends, or for 20 seconds when it is killed.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(deadLettersListCmd(a), deadLettersShowCmd(a), deadLettersReplayCmd(a))
	return cmd
}

// letterFlags are what the three commands share.
type letterFlags struct {
	dataDir, project            string
	reason, stage, field, since string
}

func addLetterFlags(cmd *cobra.Command, o *letterFlags) {
	f := cmd.Flags()
	f.StringVar(&o.dataDir, "data-dir", defaultDataDir, "folder of the running latamctl up")
	f.StringVar(&o.project, "project", "", "Google Cloud project (default "+localProject+" on this machine)")
}

func addFilterFlags(cmd *cobra.Command, o *letterFlags) {
	f := cmd.Flags()
	f.StringVar(&o.reason, "reason", "", "only those with this reason, such as wrong_type")
	f.StringVar(&o.stage, "stage", "", "only those of this stage: decode or commit")
	f.StringVar(&o.field, "field", "", "only those with this field at fault")
	f.StringVar(&o.since, "since", "", "only those rejected since a time, or in the last while: 2026-11-23T00:00:00Z, 2h, 7d")
	config.MarkInvocation(f, "reason", "stage", "field", "since")
	for name, words := range map[string][]string{"reason": knownReasons(), "stage": {"decode", "commit"}} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)) // It fails only for an unknown flag.
	}
}

// letterFilter says which letters are meant; what is not set does not matter.
type letterFilter struct {
	ids                  map[string]bool // whether it was found
	reason, stage, field string
	since                time.Time
}

func (o *letterFlags) filter(now time.Time, ids []string) (letterFilter, error) {
	f := letterFilter{reason: o.reason, stage: o.stage, field: o.field}
	if len(ids) > 0 {
		f.ids = make(map[string]bool, len(ids))
		for _, id := range ids {
			f.ids[id] = false
		}
	}
	if o.since == "" {
		return f, nil
	}
	if ago, err := dataset.ParseDuration(o.since); err == nil && ago > 0 {
		f.since = now.Add(-ago)
		return f, nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if at, err := time.Parse(layout, o.since); err == nil {
			f.since = at
			return f, nil
		}
	}
	return f, failf(exitUsage, "for example 2026-11-23T00:00:00Z, 2026-11-23, 2h or 7d", "--since %q is neither a time nor a duration", o.since)
}

// narrows tells whether the filter leaves anything out.
func (f *letterFilter) narrows() bool {
	return f.ids != nil || f.reason != "" || f.stage != "" || f.field != "" || !f.since.IsZero()
}

// match notes which ids were found.
func (f *letterFilter) match(l *deadLetter) bool {
	if f.ids != nil {
		if _, wanted := f.ids[l.ID]; !wanted {
			return false
		}
		f.ids[l.ID] = true
	}
	return (f.reason == "" || l.Reason == f.reason) && (f.stage == "" || l.Stage == f.stage) &&
		(f.field == "" || l.Field == f.field) && !l.Rejected.Before(f.since)
}

// missing are the ids that were not found.
func (f *letterFilter) missing() []string {
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(f.ids)) {
		if !f.ids[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

// letterBox is the dead letters of a dataset, being looked through.
type letterBox struct {
	app     *app
	ds      *dataset.Dataset
	client  *bus.Client
	letters *bus.Letters
	done    func()
	dataDir string
	// payloads reads what is not plain JSON.
	payloads payloadReader
	// complete says that all letters were seen that nobody else holds.
	complete bool
}

// openLetterBox dials Pub/Sub and begins to look. The caller must close it.
func (a *app) openLetterBox(ctx context.Context, name string, o letterFlags) (*letterBox, error) {
	ds, err := a.dataset(name)
	if err != nil {
		return nil, err
	}
	eng, stack, err := a.clientEngine(ctx, o.dataDir, false)
	if err != nil {
		return nil, err
	}
	if stack != nil {
		o.project = stack.Project
	}
	opts := bus.LettersOptions{}
	if eng.Kind != engine.GCP {
		// An engine on this machine says that it has none only when it has none.
		opts.EmptyAnswers, opts.Pause = 2, 30*time.Millisecond
	}
	b := &letterBox{app: a, ds: ds, dataDir: o.dataDir}
	if b.client, b.done, err = a.openPubsub(ctx, eng, o.project); err != nil {
		return nil, err
	}
	b.payloads = payload.New(b.client, a.log)
	b.letters = b.client.Letters(ds.DeadLetterSubscription(), opts)
	return b, nil
}

// close gives back what is held.
func (b *letterBox) close() {
	if err := b.letters.Close(); err != nil && !errors.Is(err, bus.ErrNotFound) {
		b.app.log.Warn("the dead letters could not be given back; they come back by themselves", "within", bus.LettersOptions{}.Defaults().Lease.String(), "error", err)
	}
	b.done()
}

// all calls each with every page of letters.
func (b *letterBox) all(ctx context.Context, each func([]deadLetter) error) error {
	for {
		page, err := b.letters.Next(ctx)
		switch {
		case errors.Is(err, io.EOF):
			b.complete = true
			return nil
		case errors.Is(err, bus.ErrHeldEnough):
			return nil
		case err != nil:
			return b.fault(ctx, err)
		}
		letters := make([]deadLetter, len(page))
		for i, m := range page {
			letters[i] = readDeadLetter(m)
		}
		if err := each(letters); err != nil {
			return err
		}
	}
}

// fault gives an error its exit code and the way on.
func (b *letterBox) fault(ctx context.Context, err error) error {
	code, hint := exitCode(ctx, err), "run it again: nothing was taken away"
	switch {
	case errors.Is(err, bus.ErrNotFound):
		hint = "latamctl up and latamctl ingest create it"
		if b.app.global.env != localEnv {
			hint = "latamctl up --env " + b.app.global.env + " creates it"
		}
	case errors.Is(err, bus.ErrDenied):
		hint = "reading dead letters needs roles/pubsub.subscriber on " + b.ds.DeadLetterSubscription() + ", replaying them roles/pubsub.publisher on topic " + b.ds.Topic
	}
	return fail(code, hint, fmt.Errorf("dead letters of %s: %w", b.ds.Name, err))
}

// nothing tells why a look may have found nothing.
func (b *letterBox) nothing(f *letterFilter) {
	what := "no dead letters are waiting"
	if f.narrows() {
		what = "no dead letters like that are waiting"
	}
	b.app.note("%s in %s; those that another command holds right now cannot be seen", what, b.ds.DeadLetterSubscription())
	if f.reason != "" && !slices.Contains(knownReasons(), f.reason) {
		b.app.note("%s is no reason that is known; %s", f.reason, didYouMean(f.reason, knownReasons(), "reasons: "))
	}
}

// command is a command line on these letters, for a person to copy.
func (b *letterBox) command(verb string, more ...string) string {
	words := []string{"latamctl dead-letters", verb, b.ds.Name}
	words = append(words, more...)
	for _, flag := range [][3]string{
		{"--config", b.app.global.config, ""}, {"--env", b.app.global.env, localEnv}, {"--data-dir", b.dataDir, defaultDataDir},
	} {
		if value := flag[1]; value != "" && value != flag[2] {
			words = append(words, flag[0], shellArg(value))
		}
	}
	return strings.Join(words, " ")
}

// atLeast stands before a count when not everything was seen.
func (b *letterBox) atLeast() string {
	if b.complete {
		return ""
	}
	return "at least "
}

// counted is a number with the noun that goes with it.
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// documentStream prints one JSON document with an array in it item by item, so that they never have
// to fit in memory.
type documentStream struct {
	out         io.Writer
	head, items string
	count       int
}

// open prints what comes before the first item: head is a JSON object.
func openDocument(out io.Writer, head any, items string) (*documentStream, error) {
	text, err := json.Marshal(head)
	return &documentStream{out: out, head: strings.TrimSuffix(string(text), "}"), items: items}, err
}

func (s *documentStream) item(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := s.begin(); err != nil {
		return err
	}
	lead := ","
	if s.count == 0 {
		lead = ""
	}
	s.count++
	_, err = fmt.Fprintf(s.out, "%s%s", lead, text)
	return err
}

// begin prints the head once.
func (s *documentStream) begin() error {
	if s.head == "" {
		return nil
	}
	_, err := fmt.Fprintf(s.out, "%s,%q:[", s.head, s.items)
	s.head = ""
	return err
}

// end prints what comes after the last item: tail is a JSON object.
func (s *documentStream) end(tail any) error {
	text, err := json.Marshal(tail)
	if err != nil {
		return err
	}
	if err := s.begin(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "],%s\n", strings.TrimPrefix(string(text), "{"))
	return err
}

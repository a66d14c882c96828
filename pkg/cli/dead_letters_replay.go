package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/plan"
)

// replayLettersOptions are the flags of dead-letters replay.
type replayLettersOptions struct {
	letterFlags
	set, unset               []string
	all, drop, dryRun, force bool
}

func deadLettersReplayCmd(a *app) *cobra.Command {
	var o replayLettersOptions
	cmd := &cobra.Command{
		Use:   "replay DATASET [ID]...",
		Short: "Correct rejected records and publish them again, or drop them",
		Long: `replay publishes the records of dead letters to the topic of the dataset, as they were or with
--set and --unset, and takes each letter away once Pub/Sub has its record. Which ones is said by
ids, filters that must all hold, or --all. A record that the declaration would reject again stays
where it is and is named (exit 1); --force publishes it all the same.

It can be repeated: a record is its key, so that one that was published twice is one row. A record
of a dataset without a time field keeps the time of its first publish; with one, the last publish
wins at the same event time. A value is read by the field's type; null clears a field, and text in
double quotes is taken as a JSON string. --drop takes letters away without a replay, for good.`,
		Example: `  latamctl dead-letters replay flights 12345678901234567 --set delay_minutes=4
  latamctl dead-letters replay flights --reason unknown_field --field gate --unset gate --dry-run
  latamctl dead-letters replay flights --all
  latamctl dead-letters replay flights --reason bad_json --drop`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: datasetArg(a),
		RunE: a.run(settings, func(ctx context.Context, args []string) error {
			return a.runReplayLetters(ctx, args[0], args[1:], o)
		}),
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.set, "set", nil, "change a field of every record: field=value, repeatable")
	f.StringArrayVar(&o.unset, "unset", nil, "remove a field from every record, repeatable")
	f.BoolVar(&o.all, "all", false, "all letters")
	f.BoolVar(&o.drop, "drop", false, "take the letters away without publishing them; asks first")
	f.BoolVar(&o.dryRun, "dry-run", false, "show what would be published or dropped, and change nothing")
	f.BoolVar(&o.force, "force", false, "publish also what the declaration would reject again")
	config.MarkInvocation(f, "set", "unset", "all", "drop", "dry-run", "force")
	addFilterFlags(cmd, &o.letterFlags)
	addLetterFlags(cmd, &o.letterFlags)
	_ = cmd.RegisterFlagCompletionFunc("set", completeEdits(a, "=")) // They fail only for unknown flags.
	_ = cmd.RegisterFlagCompletionFunc("unset", completeEdits(a, ""))
	return cmd
}

// completeEdits completes the fields of the dataset.
func completeEdits(a *app, suffix string) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		decl, err := a.readDeclaration()
		if err != nil || len(args) == 0 || decl.Dataset(args[0]) == nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		names := decl.Dataset(args[0]).FieldNames()
		for i := range names {
			names[i] += suffix
		}
		return names, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
}

// check refuses what makes no sense together.
func (o *replayLettersOptions) check(filter *letterFilter) error {
	switch {
	case !o.all && !filter.narrows():
		return failf(exitUsage, "name ids, or --reason, --stage, --field, --since, or --all; --dry-run shows what would happen", "nothing says which dead letters are meant")
	case o.all && filter.narrows():
		return failf(exitUsage, "leave out --all to keep to them", "--all and ids or filters exclude each other")
	case o.drop && (len(o.set) > 0 || len(o.unset) > 0 || o.force):
		return failf(exitUsage, "leave out --drop to publish the letters, or the others to drop them", "--drop publishes nothing, so that --set, --unset and --force change nothing")
	}
	return nil
}

// letterAction is what became of one letter, or would become of it.
type letterAction struct {
	ID     string `json:"id"`
	Action string `json:"action"` // publish, drop, or keep
	// MessageID is the id of the new message.
	MessageID string   `json:"message_id,omitempty"`
	Changes   []change `json:"changes,omitempty"`
	// Why says why the letter stays.
	Why string `json:"why,omitempty"`
}

const (
	actionPublish = "publish"
	actionDrop    = "drop"
	actionKeep    = "keep"
)

// replayCounts are letters by what became of them.
type replayCounts struct {
	Matched int `json:"matched"`
	// Published counts records; Copies further letters of the same records.
	Published int `json:"published"`
	Copies    int `json:"copies"`
	Dropped   int `json:"dropped"`
	Kept      int `json:"kept"`
	// Again counts records that were published and came back as letters while this command ran.
	Again int `json:"rejected_again"`
	// Unchecked counts records whose encoding this command cannot read.
	Unchecked int  `json:"unchecked"`
	Complete  bool `json:"complete"`
}

// letterReplay is one replay under way.
type letterReplay struct {
	app    *app
	box    *letterBox
	opts   replayLettersOptions
	filter letterFilter
	edits  []edit
	doc    *documentStream // nil for people

	counts replayCounts
	sent   map[string]bool // records published by this run, by the id of their letters
	own    map[string]bool // the ids of the messages it has published
	batch  []*replayItem
	items  map[string]*replayItem // the batch by the id of its letters
	bytes  int
	// dropping are the letters to be dropped, others those that are not.
	dropping, others []string
}

// replayItem is a record to be published and the letters that are settled then.
type replayItem struct {
	letters []string
	message bus.Message
	action  letterAction
}

func (a *app) runReplayLetters(ctx context.Context, name string, ids []string, o replayLettersOptions) error {
	filter, err := o.filter(a.proc.Now(), ids)
	if err != nil {
		return err
	}
	if err := o.check(&filter); err != nil {
		return err
	}
	ds, err := a.dataset(name)
	if err != nil {
		return err
	}
	r := &letterReplay{app: a, opts: o, filter: filter, sent: map[string]bool{}, own: map[string]bool{}, items: map[string]*replayItem{}}
	if r.edits, err = a.readEdits(ds, o.set, o.unset); err != nil {
		return err
	}
	if o.drop && !o.dryRun && !a.global.yes && !a.interactive() {
		return failf(exitRefused, "say --yes to go ahead; --dry-run shows what would be dropped", "nobody can be asked here whether to drop dead letters of %s", ds.Name)
	}
	if r.box, err = a.openLetterBox(ctx, name, o.letterFlags); err != nil {
		return err
	}
	defer r.box.close()
	if a.global.output == outputJSON {
		if r.doc, err = r.document(); err != nil {
			return err
		}
	}
	err = r.box.all(ctx, func(page []deadLetter) error { return r.page(ctx, page) })
	if err == nil && o.drop && !o.dryRun {
		err = r.drop(ctx)
	}
	return errors.Join(r.report(), r.verdict(ctx, err))
}

func (r *letterReplay) document() (*documentStream, error) {
	return openDocument(r.app.proc.Out, struct {
		Schema  string `json:"schema"`
		Dataset string `json:"dataset"`
		Topic   string `json:"topic"`
		DryRun  bool   `json:"dry_run"`
	}{"latamctl.dead-letters-replay/v1", r.box.ds.Name, r.box.ds.Topic, r.opts.dryRun}, "letters")
}

// page settles the letters of one page that are meant; the others are held until the end.
func (r *letterReplay) page(ctx context.Context, page []deadLetter) error {
	for i := range page {
		l := &page[i]
		switch {
		case r.own[l.ID]:
			// It was published a moment ago and rejected again: doing it once more would never end.
			r.counts.Again++
			continue
		case !r.filter.match(l):
			if r.opts.drop {
				r.others = append(r.others, l.letterID)
			}
			continue
		}
		r.counts.Matched++
		if err := r.letter(ctx, l); err != nil {
			return err
		}
	}
	return r.flush(ctx)
}

func (r *letterReplay) letter(ctx context.Context, l *deadLetter) error {
	if r.opts.drop {
		r.dropping = append(r.dropping, l.letterID)
		return r.tell(letterAction{ID: l.ID, Action: actionDrop}, l)
	}
	if item := r.items[l.ID]; item != nil {
		r.counts.Copies++
		item.letters = append(item.letters, l.letterID)
		return nil
	}
	if r.sent[l.ID] {
		r.counts.Copies++
		return r.remove(ctx, []string{l.letterID})
	}
	item, err := r.prepare(ctx, l)
	if err != nil {
		r.counts.Kept++
		return r.tell(letterAction{ID: l.ID, Action: actionKeep, Why: err.Error()}, l)
	}
	if len(r.batch) > 0 && r.bytes+len(item.message.Data) > bus.MaxBatchBytes {
		if err := r.flush(ctx); err != nil {
			return err
		}
	}
	r.batch, r.items[l.ID] = append(r.batch, item), item
	if r.bytes += len(item.message.Data); len(r.batch) < bus.MaxBatchMessages {
		return nil
	}
	return r.flush(ctx)
}

// prepare makes the message that a letter's record is published with. The error says why it stays.
func (r *letterReplay) prepare(ctx context.Context, l *deadLetter) (*replayItem, error) {
	if l.CutFrom > 0 {
		return nil, errors.New(cutText(l))
	}
	changed, changes := *l, []change(nil)
	if len(r.edits) > 0 {
		text, err := r.box.recordJSON(ctx, l)
		if err == nil {
			changed.data, changes, err = applyEdits(r.box.ds, text, r.edits)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot be changed: %w", err)
		}
		if len(changes) > 0 {
			changed.Attributes, changed.schema = plainAttributes(l.Attributes), ""
		} else {
			changed.data = l.data // What stays as it was keeps its encoding, too.
		}
	}
	var again *dataset.RejectError
	switch err := r.box.check(ctx, &changed); {
	case err == nil:
	case errors.As(err, &again) && !r.opts.force:
		return nil, fmt.Errorf("would be rejected again: %w", err)
	case again == nil:
		r.counts.Unchecked++
	}
	return &replayItem{
		letters: []string{l.letterID},
		message: bus.Message{Data: changed.data, Attributes: replayAttributes(r.box.ds, &changed)},
		action:  letterAction{ID: l.ID, Action: actionPublish, Changes: changes},
	}, nil
}

// replayAttributes are the original ones. Where the publish time is the row's own, it goes along: a
// replay must not make an old record newer than those after it.
func replayAttributes(ds *dataset.Dataset, l *deadLetter) map[string]string {
	attributes := maps.Clone(l.Attributes)
	if ds.Time == nil {
		if attributes == nil {
			attributes = map[string]string{}
		}
		attributes[bus.AttrPublishTime] = l.Published.UTC().Format(time.RFC3339Nano)
	}
	return attributes
}

// flush publishes the batch, and takes the letters away that Pub/Sub then has the records of.
func (r *letterReplay) flush(ctx context.Context) error {
	batch := r.batch
	r.batch, r.bytes = nil, 0
	clear(r.items)
	if len(batch) == 0 {
		return nil
	}
	if r.opts.dryRun {
		for _, item := range batch {
			r.sent[item.action.ID] = true
			r.counts.Published++
			if err := r.tell(item.action, nil); err != nil {
				return err
			}
		}
		return nil
	}
	err := r.publish(ctx, batch)
	if len(batch) == 1 || !errors.Is(err, bus.ErrRefused) {
		return r.settled(ctx, batch, err)
	}
	// One record that the topic does not take must not keep the others from it.
	for _, item := range batch {
		one := []*replayItem{item}
		if err := r.settled(ctx, one, r.publish(ctx, one)); err != nil {
			return err
		}
	}
	return nil
}

// settled notes the end of a publish, and ends the run after an error that is not the record's own.
func (r *letterReplay) settled(ctx context.Context, batch []*replayItem, err error) error {
	if errors.Is(err, bus.ErrRefused) {
		for _, item := range batch {
			r.counts.Kept += len(item.letters)
			item.action.Action, item.action.Why = actionKeep, "the topic does not take it: "+err.Error()
			if err := r.tell(item.action, nil); err != nil {
				return err
			}
		}
		return nil
	}
	if err != nil {
		return r.box.fault(ctx, err)
	}
	var letters []string
	for _, item := range batch {
		letters = append(letters, item.letters...)
		r.sent[item.action.ID] = true
		r.counts.Published++
		if err := r.tell(item.action, nil); err != nil {
			return errors.Join(err, r.remove(ctx, letters))
		}
	}
	return r.remove(ctx, letters)
}

func (r *letterReplay) publish(ctx context.Context, batch []*replayItem) error {
	messages := make([]bus.Message, len(batch))
	for i, item := range batch {
		messages[i] = item.message
	}
	ids, err := r.box.client.PublishBatch(ctx, r.box.ds.Topic, messages)
	for i, id := range ids {
		r.own[id] = true
		batch[i].action.MessageID = id
	}
	return err
}

// remove takes letters away for good.
func (r *letterReplay) remove(ctx context.Context, letters []string) error {
	if r.opts.dryRun {
		return nil
	}
	if err := r.box.letters.Remove(ctx, letters); err != nil {
		return r.box.fault(ctx, err)
	}
	return nil
}

// drop asks and takes the letters away. Those that are not meant are given back before, because a
// person may take time to answer.
func (r *letterReplay) drop(ctx context.Context) error {
	if err := r.box.letters.Return(ctx, r.others); err != nil {
		return r.box.fault(ctx, err)
	}
	if len(r.dropping) == 0 {
		return nil
	}
	if !r.app.global.yes {
		answer, err := r.app.ask(ctx, fmt.Sprintf("Drop %s of %s for good? Type the name of the dataset to go ahead: ", counted(len(r.dropping), "dead letter"), r.box.ds.Name))
		if err != nil {
			return err
		}
		if answer != r.box.ds.Name {
			return fail(exitFailed, "", errors.New("not done: the answer was not the name of the dataset"))
		}
	}
	if err := r.remove(ctx, r.dropping); err != nil {
		return err
	}
	r.counts.Dropped = len(r.dropping)
	return nil
}

// tell shows what becomes of a letter: all of it to programs, the changes of a dry run to people, and
// to both what stays.
func (r *letterReplay) tell(action letterAction, l *deadLetter) error {
	if r.doc != nil {
		return r.doc.item(action)
	}
	id := plan.Clean(action.ID)
	switch {
	case action.Action == actionKeep:
		if r.counts.Kept <= refusalsShown || r.opts.dryRun {
			fmt.Fprintf(r.app.proc.Err, "%s kept: %s\n", id, plan.Clean(action.Why))
		}
	case !r.opts.dryRun:
	case action.Action == actionDrop:
		fmt.Fprintf(r.app.proc.Out, "%s would be dropped: %s, %s\n", id, plan.Clean(l.Reason), cutCell(plan.Clean(string(l.data)), 60))
	case len(action.Changes) == 0:
		fmt.Fprintf(r.app.proc.Out, "%s would be published as it is\n", id)
	default:
		fmt.Fprintf(r.app.proc.Out, "%s would be published with\n", id)
		for _, c := range action.Changes {
			fmt.Fprintf(r.app.proc.Out, "  %s: %s → %s\n", plan.Clean(c.Field), shownValue(c.Before), shownValue(c.After))
		}
	}
	return nil
}

func shownValue(v json.RawMessage) string {
	if v == nil {
		return "(none)"
	}
	return cutCell(plan.Clean(string(v)), 60)
}

// report prints the counts.
func (r *letterReplay) report() error {
	r.counts.Complete = r.box.complete
	if r.opts.dryRun && r.opts.drop {
		r.counts.Dropped = len(r.dropping)
	}
	c := r.counts
	if r.doc != nil {
		return r.doc.end(c)
	}
	would := ""
	if r.opts.dryRun {
		would = "would be "
	}
	text := fmt.Sprintf("%s %spublished to %s", counted(c.Published, "record"), would, r.box.ds.Topic)
	if r.opts.drop {
		text = fmt.Sprintf("%s of %s %sdropped", counted(c.Dropped, "dead letter"), r.box.ds.Name, would)
	}
	for _, more := range []struct {
		n    int
		text string
	}{
		{c.Copies, "%d further letters of them"}, {c.Kept, "%d kept"}, {c.Again, "%d rejected again"},
		{c.Unchecked, "%d not checked, because of their encoding"},
	} {
		if more.n > 0 {
			text += ", " + fmt.Sprintf(more.text, more.n)
		}
	}
	_, err := fmt.Fprintln(r.app.proc.Out, text)
	return err
}

// verdict is the end of the run as an error.
func (r *letterReplay) verdict(ctx context.Context, err error) error {
	c, missing := r.counts, r.filter.missing()
	switch {
	case err != nil && c.Published > 0 && !r.opts.dryRun:
		return fail(exitCode(ctx, err), "run it again: what was published is one row, however often", err)
	case err != nil:
		return err
	case len(missing) > 0:
		return r.box.notThere(missing)
	case c.Matched == 0:
		r.box.nothing(&r.filter)
	case c.Kept > 0:
		if c.Kept > refusalsShown && !r.opts.dryRun {
			r.app.note("and %d more that are kept", c.Kept-refusalsShown)
		}
		return failf(exitFailed, "correct them with --set field=value or --unset field, or publish them as they are with --force; "+r.box.command("show", "ID")+" explains one",
			"%d of %s kept back", c.Kept, counted(c.Matched, "dead letter"))
	case c.Again > 0:
		return failf(exitFailed, r.box.command("list")+" shows them with their reasons", "%s came back as dead letters", counted(c.Again, "record"))
	case !c.Complete:
		r.app.note("more are waiting than can be held at a time; run it again for the others")
	}
	return nil
}

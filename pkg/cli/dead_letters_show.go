package cli

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/plan"
)

func deadLettersShowCmd(a *app) *cobra.Command {
	var o letterFlags
	cmd := &cobra.Command{
		Use:   "show DATASET ID",
		Short: "Show one rejected record whole, why it was rejected, and what can be done",
		Long: `show prints one dead letter: its payload and attributes, the reason in words, the declaration of
the field at fault, whether the declaration accepts it by now, and the commands that go on from
there. ID is the id of the original message, as list shows it.`,
		Example:           "  latamctl dead-letters show flights 12345678901234567",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: datasetArg(a),
		RunE:              a.run(settings, func(ctx context.Context, args []string) error { return a.runShowLetter(ctx, args[0], args[1], o) }),
	}
	addLetterFlags(cmd, &o)
	return cmd
}

// maxCopies bounds how many letters of one record are kept to tell about.
const maxCopies = 100

func (a *app) runShowLetter(ctx context.Context, name, id string, o letterFlags) error {
	filter, err := o.filter(a.proc.Now(), []string{id})
	if err != nil {
		return err
	}
	box, err := a.openLetterBox(ctx, name, o)
	if err != nil {
		return err
	}
	defer box.close()
	var found []deadLetter
	err = box.all(ctx, func(page []deadLetter) error {
		for i := range page {
			if filter.match(&page[i]) && len(found) < maxCopies {
				found = append(found, page[i])
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return box.notThere([]string{id})
	}
	return a.printLetter(ctx, box, found)
}

// notThere is the error about letters that were named and not found.
func (b *letterBox) notThere(ids []string) error {
	hint := "it was replayed or dropped, has expired, or another command holds it: " + b.command("list") + " shows what is there"
	const most = 5
	shown := strings.Join(ids[:min(len(ids), most)], ", ")
	if len(ids) > most {
		shown += fmt.Sprintf(" and %d more", len(ids)-most)
	}
	return failf(exitFailed, hint, "no dead letter %s in %s", plan.Clean(shown), b.ds.DeadLetterSubscription())
}

// shownLetter is what show prints with -o json.
type shownLetter struct {
	Schema      string         `json:"schema"`
	Dataset     string         `json:"dataset"`
	Copies      int            `json:"copies"`
	Letter      letterDocument `json:"letter"`
	Explanation string         `json:"explanation"`
	Declaration string         `json:"declaration,omitempty"`
	AcceptedNow bool           `json:"accepted_now"`
	RejectedNow string         `json:"rejected_now,omitempty"`
	Next        []string       `json:"next"`
}

func (a *app) printLetter(ctx context.Context, b *letterBox, found []deadLetter) error {
	l := &found[0]
	now := b.check(ctx, l)
	doc := shownLetter{
		Schema: "latamctl.dead-letters-show/v1", Dataset: b.ds.Name, Copies: len(found), Letter: documentOf(l),
		Explanation: reasonText(l.Reason), AcceptedNow: now == nil, Next: b.nextSteps(l, now),
	}
	if f := b.ds.Field(l.Field); f != nil {
		doc.Declaration = declarationOf(f)
	}
	if now != nil {
		doc.RejectedNow = now.Error()
	}
	if a.global.output == outputJSON {
		return json.NewEncoder(a.proc.Out).Encode(doc)
	}
	payload := l.data
	if text, err := b.recordJSON(ctx, l); err == nil {
		payload = text
	}
	writeLetter(a.proc.Out, l, doc, payload)
	return nil
}

func writeLetter(out io.Writer, l *deadLetter, doc shownLetter, payload []byte) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(out, "%-12s %s\n", name, plan.Clean(fmt.Sprintf(format, args...)))
	}
	line("id", "%s", l.ID)
	line("rejected", "%s", l.Rejected.UTC().Format(time.RFC3339Nano))
	line("published", "%s", l.Published.UTC().Format(time.RFC3339Nano))
	if l.Deliveries > 0 {
		line("deliveries", "%d", l.Deliveries)
	}
	if l.Stage != "" {
		line("stage", "%s", l.Stage)
	}
	line("reason", "%s: %s", l.Reason, doc.Explanation)
	line("error", "%s", l.Error)
	if doc.Declaration != "" {
		line("declared", "%s", doc.Declaration)
	}
	switch {
	case doc.AcceptedNow:
		line("now", "the declaration accepts it")
	case doc.RejectedNow != l.Error:
		line("now", "%s", doc.RejectedNow)
	}
	if doc.Copies > 1 {
		line("copies", "%d letters of this record: ingest ended between a letter and its acknowledgement. replay publishes it once and removes all of them.", doc.Copies)
	}
	for _, name := range slices.Sorted(maps.Keys(l.Attributes)) {
		line("attribute", "%s: %s", name, l.Attributes[name])
	}
	line("payload", "%s", payloadTitle(l))
	fmt.Fprintf(out, "%s\n\nnext\n", payloadText(payload))
	for _, step := range doc.Next {
		fmt.Fprintf(out, "  %s\n", plan.Clean(step))
	}
}

func payloadTitle(l *deadLetter) string {
	title := fmt.Sprintf("%d bytes", len(l.data))
	if how := l.encoded(); how != "" {
		title += ", " + how
	}
	if l.CutFrom > 0 {
		title = cutText(l)
	}
	return title
}

// maxShownBytes bounds how much of a payload a terminal gets.
const maxShownBytes = 16 << 10

// payloadText is a payload to be read by a person: JSON with its structure, other text as it is, and
// the beginning of anything else in hexadecimal.
func payloadText(data []byte) string {
	const most, indent = 512, "  "
	var pretty bytes.Buffer
	if utf8.Valid(data) && json.Indent(&pretty, data, indent, indent) == nil {
		data = append([]byte(indent), pretty.Bytes()...)
	} else if !utf8.Valid(data) || bytes.ContainsRune(data, 0) {
		text := hex.Dump(data[:min(len(data), most)])
		return strings.TrimRight(text, "\n") + "\n" + indent + "it is not text; -o json has it whole in base64"
	}
	more := ""
	if len(data) > maxShownBytes {
		data, more = bytes.ToValidUTF8(data[:maxShownBytes], nil), "\n"+indent+"… -o json has it whole"
	}
	lines := strings.Split(string(data), "\n")
	for i, text := range lines {
		lines[i] = plan.Clean(text)
	}
	return strings.Join(lines, "\n") + more
}

// declarationOf is a field as latam.yaml declares it.
func declarationOf(f *dataset.Field) string {
	parts := []string{"type: " + string(f.Type)}
	if f.Required {
		parts = append(parts, "required: true")
	}
	if f.Pattern != nil {
		parts = append(parts, fmt.Sprintf("pattern: %q", f.Pattern))
	}
	if f.Minimum != nil {
		parts = append(parts, "minimum: "+f.Minimum.Text())
	}
	if f.Maximum != nil {
		parts = append(parts, "maximum: "+f.Maximum.Text())
	}
	text := f.Name + ": {" + strings.Join(parts, ", ") + "}"
	if f.InKey {
		text += ", in the key"
	}
	return text
}

// nextSteps are what can be done with a letter, the likeliest first. now is why the declaration
// rejects it today, nil when it does not.
func (b *letterBox) nextSteps(l *deadLetter, now error) []string {
	id := shellArg(l.ID)
	replay := func(more ...string) string { return b.command("replay", append([]string{id}, more...)...) }
	drop := replay("--drop") + "   # for good"
	var again *dataset.RejectError
	switch {
	case l.CutFrom > 0:
		return []string{"it cannot be replayed: publish the record anew in less than 1 MiB, then", drop}
	case now == nil:
		return []string{replay(), drop}
	case !errors.As(now, &again):
		return []string{replay() + "   # it cannot be checked here", drop}
	}
	switch f := b.ds.Field(again.Field); {
	case again.Reason == dataset.ReasonUnknownField:
		steps := []string{replay("--unset", shellArg(again.Field))}
		if near := b.ds.Field(dataset.Nearest(again.Field, b.ds.FieldNames())); near != nil {
			steps = slices.Insert(steps, 0, replay("--unset", shellArg(again.Field), "--set", near.Name+"=VALUE"))
		}
		return append(steps, "or declare the field in latam.yaml, then "+replay(), drop)
	case again.Reason == dataset.ReasonTooNew:
		return []string{replay() + "   # when its time has come", drop}
	case again.Reason == dataset.ReasonTooOld, again.Reason == dataset.ReasonOversize, again.Reason == dataset.ReasonKeyTooLong:
		return []string{drop, "or raise the limit in latam.yaml where it has one, then " + replay()}
	case f != nil:
		steps := []string{replay("--set", f.Name+"=VALUE", "--dry-run") + "   # then without --dry-run"}
		if !f.Required {
			steps = append(steps, replay("--unset", f.Name))
		}
		return append(steps, "or change the declaration of the field, then "+replay(), drop)
	}
	return []string{"publish the record as it should be with latamctl publish " + b.ds.Name + " -f FILE, then", drop}
}

// shellArg quotes a word only where a shell needs it.
func shellArg(text string) string {
	if text != "" && strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-") == "" {
		return text
	}
	return shellQuote(text)
}

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/plan"
)

// listLettersOptions are the flags of dead-letters list.
type listLettersOptions struct {
	letterFlags
	limit   int
	summary bool
}

func deadLettersListCmd(a *app) *cobra.Command {
	var o listLettersOptions
	cmd := &cobra.Command{
		Use:   "list DATASET",
		Short: "Show what was rejected, and count it by reason and field",
		Long: `list shows the newest dead letters of a dataset and below them all of them by reason and field:
how many, since when, and how many the declaration would accept by now. Nothing is taken away.
With -o json each letter comes with its payload and attributes; with --limit 0 that is a copy of all.`,
		Example: `  latamctl dead-letters list flights
  latamctl dead-letters list flights --reason wrong_type --since 2h
  latamctl dead-letters list flights --limit 0 -o json > letters.json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: datasetArg(a),
		RunE:              a.run(settings, func(ctx context.Context, args []string) error { return a.runListLetters(ctx, args[0], o) }),
	}
	f := cmd.Flags()
	f.IntVar(&o.limit, "limit", 20, "most letters shown, the newest; 0 is all, as they come")
	f.BoolVar(&o.summary, "summary", false, "only the counts")
	config.MarkInvocation(f, "limit", "summary")
	addFilterFlags(cmd, &o.letterFlags)
	addLetterFlags(cmd, &o.letterFlags)
	return cmd
}

// letterGroup counts the letters of one reason and field.
type letterGroup struct {
	Reason  string    `json:"reason"`
	Field   string    `json:"field,omitempty"`
	Letters int       `json:"letters"`
	Oldest  time.Time `json:"oldest"`
	Newest  time.Time `json:"newest"`
	// Accepted is how many the declaration accepts as it is now.
	Accepted int `json:"accepted_now"`
}

// letterGroups count letters as they come.
type letterGroups map[[2]string]*letterGroup

func (g letterGroups) add(l *deadLetter, accepted bool) {
	key := [2]string{l.Reason, l.Field}
	of := g[key]
	if of == nil {
		of = &letterGroup{Reason: l.Reason, Field: l.Field, Oldest: l.Rejected}
		g[key] = of
	}
	of.Letters++
	if l.Rejected.Before(of.Oldest) {
		of.Oldest = l.Rejected
	}
	if l.Rejected.After(of.Newest) {
		of.Newest = l.Rejected
	}
	if accepted {
		of.Accepted++
	}
}

// sorted has the largest group first.
func (g letterGroups) sorted() []letterGroup {
	all := make([]letterGroup, 0, len(g))
	for _, of := range g {
		all = append(all, *of)
	}
	slices.SortFunc(all, func(x, y letterGroup) int {
		return cmp.Or(cmp.Compare(y.Letters, x.Letters), cmp.Compare(x.Reason, y.Reason), cmp.Compare(x.Field, y.Field))
	})
	return all
}

// newest keeps the last few letters of many, in the order of their rejection.
type newest struct {
	most    int
	letters []deadLetter
}

func (n *newest) add(l deadLetter) {
	n.letters = append(n.letters, l)
	if len(n.letters) >= 2*n.most+64 {
		n.settle()
	}
}

func (n *newest) settle() []deadLetter {
	slices.SortStableFunc(n.letters, func(x, y deadLetter) int { return x.Rejected.Compare(y.Rejected) })
	if extra := len(n.letters) - n.most; extra > 0 {
		n.letters = slices.Delete(n.letters, 0, extra)
	}
	return n.letters
}

// letterPrinter shows letters one by one and then their counts.
type letterPrinter interface {
	letter(l *deadLetter) error
	end(b *letterBox, matched int, groups []letterGroup) error
}

func (a *app) runListLetters(ctx context.Context, name string, o listLettersOptions) (err error) {
	if o.limit < 0 {
		return failf(exitUsage, "0 is all", "--limit %d is negative", o.limit)
	}
	filter, err := o.filter(a.proc.Now(), nil)
	if err != nil {
		return err
	}
	box, err := a.openLetterBox(ctx, name, o.letterFlags)
	if err != nil {
		return err
	}
	defer box.close()
	printer, err := a.letterPrinter(box.ds, o.summary)
	if err != nil {
		return err
	}
	kept, groups, matched := newest{most: o.limit}, letterGroups{}, 0
	err = box.all(ctx, func(page []deadLetter) error {
		for i := range page {
			l := &page[i]
			if !filter.match(l) {
				continue
			}
			matched++
			groups.add(l, box.check(ctx, l) == nil)
			switch {
			case o.summary:
			case o.limit > 0:
				kept.add(*l)
			default:
				if err := printer.letter(l); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, l := range kept.settle() {
		if err := printer.letter(&l); err != nil {
			return err
		}
	}
	if matched == 0 {
		box.nothing(&filter)
	}
	return printer.end(box, matched, groups.sorted())
}

func (a *app) letterPrinter(ds *dataset.Dataset, summary bool) (letterPrinter, error) {
	if a.global.output != outputJSON {
		t := &letterTable{app: a, out: tabwriter.NewWriter(a.proc.Out, 0, 0, 2, ' ', 0), summary: summary}
		t.width, _, _ = a.proc.ErrSize() // Without a terminal nothing is cut.
		return t, nil
	}
	doc, err := openDocument(a.proc.Out, struct {
		Schema       string `json:"schema"`
		Dataset      string `json:"dataset"`
		Subscription string `json:"subscription"`
	}{"latamctl.dead-letters-list/v1", ds.Name, ds.DeadLetterSubscription()}, "letters")
	return &letterJSON{doc}, err
}

// letterTable prints aligned columns.
type letterTable struct {
	app     *app
	out     *tabwriter.Writer
	width   int // columns of the terminal; 0 is none
	shown   int
	summary bool
}

const letterPage = 1000

func (t *letterTable) letter(l *deadLetter) error {
	if t.shown == 0 {
		fmt.Fprintln(t.out, "ID\tREJECTED\tREASON\tFIELD\tERROR")
	}
	t.shown++
	id, reason, field := plan.Clean(l.ID), plan.Clean(l.Reason), plan.Clean(l.Field)
	const gaps = 8
	text := plan.Clean(shortError(l))
	if t.width > 0 {
		text = cutCell(text, t.width-utf8.RuneCountInString(id)-len(time.RFC3339)-max(len(reason), len("wrong_type"))-max(len(field), len("FIELD"))-gaps)
	}
	fmt.Fprintf(t.out, "%s\t%s\t%s\t%s\t%s\n", id, l.Rejected.UTC().Format(time.RFC3339), reason, cmp.Or(field, "-"), text)
	if t.shown%letterPage == 0 {
		return t.out.Flush()
	}
	return nil
}

// shortError is the error without what stands in columns of its own.
func shortError(l *deadLetter) string {
	_, text, found := strings.Cut(l.Error, l.Reason+": ")
	if !found {
		return l.Error
	}
	if l.Field != "" {
		text = strings.TrimPrefix(text, "field "+l.Field+": ")
	}
	return text
}

// cutCell shortens a text to a number of columns, but leaves enough of it to be of use.
func cutCell(text string, columns int) string {
	columns = max(columns, 24)
	runes := []rune(text)
	if len(runes) <= columns {
		return text
	}
	return string(runes[:columns-1]) + "…"
}

func (t *letterTable) end(b *letterBox, matched int, groups []letterGroup) error {
	if matched == 0 {
		return t.out.Flush()
	}
	if t.shown > 0 {
		fmt.Fprintln(t.out)
	}
	fmt.Fprintln(t.out, "LETTERS\tREASON\tFIELD\tOLDEST\tNEWEST\tACCEPTED NOW")
	accepted := 0
	for _, g := range groups {
		accepted += g.Accepted
		fmt.Fprintf(t.out, "%d\t%s\t%s\t%s\t%s\t%d\n", g.Letters, plan.Clean(g.Reason), cmp.Or(plan.Clean(g.Field), "-"),
			g.Oldest.UTC().Format(time.RFC3339), g.Newest.UTC().Format(time.RFC3339), g.Accepted)
	}
	err := t.out.Flush()
	shown := ""
	if t.shown < matched && !t.summary {
		shown = fmt.Sprintf(", the newest %d shown; --limit 0 shows all", t.shown)
	}
	fmt.Fprintf(t.app.proc.Out, "%s%s in %s%s\n", b.atLeast(), counted(matched, "dead letter"), b.ds.DeadLetterSubscription(), shown)
	t.app.note("%s explains one", b.command("show", "ID"))
	if accepted > 0 {
		t.app.note("%s publishes the %d that the declaration accepts now, and leaves the others", b.command("replay", "--all"), accepted)
	}
	return err
}

// letterJSON prints one document.
type letterJSON struct{ doc *documentStream }

// letterDocument is a letter for programs.
type letterDocument struct {
	ID         string            `json:"id"`
	Rejected   time.Time         `json:"rejected_at"`
	Published  time.Time         `json:"published_at"`
	Stage      string            `json:"stage,omitempty"`
	Reason     string            `json:"reason"`
	Field      string            `json:"field,omitempty"`
	Error      string            `json:"error"`
	Deliveries int               `json:"deliveries,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Bytes      int               `json:"bytes"`
	CutFrom    int               `json:"cut_from_bytes,omitempty"`
	// Data is the payload when it is text, DataBase64 when it is not.
	Data       *string `json:"data,omitempty"`
	DataBase64 []byte  `json:"data_base64,omitempty"`
}

func documentOf(l *deadLetter) letterDocument {
	doc := letterDocument{
		ID: l.ID, Rejected: l.Rejected.UTC(), Published: l.Published.UTC(), Stage: l.Stage, Reason: l.Reason, Field: l.Field,
		Error: l.Error, Deliveries: l.Deliveries, Attributes: l.Attributes, Bytes: len(l.data), CutFrom: l.CutFrom,
	}
	if utf8.Valid(l.data) {
		text := string(l.data)
		doc.Data = &text
	} else {
		doc.DataBase64 = l.data
	}
	return doc
}

func (j *letterJSON) letter(l *deadLetter) error { return j.doc.item(documentOf(l)) }

func (j *letterJSON) end(b *letterBox, matched int, groups []letterGroup) error {
	return errors.Join(j.doc.end(struct {
		Matched  int           `json:"matched"`
		Shown    int           `json:"shown"`
		Complete bool          `json:"complete"`
		Groups   []letterGroup `json:"groups"`
	}{matched, j.doc.count, b.complete, groups}))
}

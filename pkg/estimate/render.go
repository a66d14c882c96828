package estimate

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Text writes an estimate for a person.
func (e *Estimate) Text(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%s\n\n", e.headline())
	for _, row := range e.needs() {
		fmt.Fprintf(t, "%s\t%s\n", row[0], row[1])
	}
	fmt.Fprintln(t, "\nCOMPONENT\tWHAT\tAMOUNT\tUSD A MONTH\tPRICE\t")
	for _, l := range e.Lines {
		fmt.Fprintf(t, "%s\t%s\t%s %s\t%s\t%s\t\n", l.Component, l.What, amount(l.Amount), l.Unit, dollars(l.USD), e.seen(l.Price))
	}
	fmt.Fprintf(t, "TOTAL\t\t\t%s\t\t\n", dollars(e.TotalUSD))
	for _, l := range e.Optional {
		fmt.Fprintf(t, "on top: %s\t%s\t%s %s\t%s\t%s\t\n", l.Component, l.What, amount(l.Amount), l.Unit, dollars(l.USD), e.seen(l.Price))
	}
	fmt.Fprintln(t, "\nFROM TOPIC TO BIGTABLE\tUSD A MONTH\tNEEDS\t")
	for _, way := range e.Ways {
		fmt.Fprintf(t, "%s\t%s\t%s\t\n", way.Name, dollars(way.USD), way.Needs)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, warning := range e.Warnings {
		fmt.Fprintf(w, "\nwarning: %s", warning)
	}
	if len(e.Warnings) > 0 {
		fmt.Fprintln(w)
	}
	_, err := fmt.Fprintf(w, "\n%s\n", e.sources())
	return err
}

// Markdown writes an estimate as tables, for a page.
func (e *Estimate) Markdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n| needs | |\n|---|---|\n", e.headline())
	for _, row := range e.needs() {
		fmt.Fprintf(&b, "| %s | %s |\n", row[0], row[1])
	}
	b.WriteString("\n| component | what | amount | USD a month | price |\n|---|---|---|---|---|\n")
	for _, l := range e.Lines {
		fmt.Fprintf(&b, "| %s | %s | %s %s | %s | %s |\n", l.Component, l.What, amount(l.Amount), l.Unit, dollars(l.USD), e.seen(l.Price))
	}
	fmt.Fprintf(&b, "| **total** | | | **%s** | |\n", dollars(e.TotalUSD))
	for _, l := range e.Optional {
		fmt.Fprintf(&b, "| on top: %s | %s | %s %s | %s | %s |\n", l.Component, l.What, amount(l.Amount), l.Unit, dollars(l.USD), e.seen(l.Price))
	}
	b.WriteString("\n| from topic to Bigtable | USD a month | needs | note |\n|---|---|---|---|\n")
	for _, way := range e.Ways {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", way.Name, dollars(way.USD), way.Needs, way.Note)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (e *Estimate) headline() string {
	return fmt.Sprintf("%s records/s of %s in %s, kept %s; %s pages/s of %d rows read.",
		amount(e.Load.Rate), FormatBytes(e.Load.Bytes), plural(e.Load.Datasets, "dataset"), days(e), amount(e.Load.Reads), PageRows)
}

func days(e *Estimate) string {
	if d := e.Load.Retention.Hours() / 24; d == math.Trunc(d) {
		return plural(int(d), "day")
	}
	return amount(e.Load.Retention.Hours()) + " hours"
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return amount(float64(n)) + " " + noun + "s"
}

func (e *Estimate) needs() [][2]string {
	s := e.Sizes
	return [][2]string{
		{"Kubernetes nodes", fmt.Sprintf("%d of %s, %s on each at most", s.Nodes, e.Environment.MachineType, plural(s.PodsPerNode, "pod"))},
		{"pods", fmt.Sprintf("ingest %d, serve %d", s.IngestPods, s.ServePods)},
		{"Bigtable nodes", fmt.Sprintf("%d with %s", s.BigtableNodes, e.Environment.BigtableStorage)},
		{"Bigtable storage", fmt.Sprintf("%s GiB, backups %s GiB", amount(s.BigtableGiB), amount(s.BackupGiB))},
		{"BigQuery storage", amount(s.BigQueryGiB) + " GiB"},
		{"topics keep", amount(s.TopicGiB) + " GiB"},
	}
}

// seen tells how the price of a line was established.
func (e *Estimate) seen(key string) string {
	for _, p := range e.Prices {
		if p.Key == key {
			return p.Seen
		}
	}
	return ""
}

// sources says where prices are from, and names those that were not established.
func (e *Estimate) sources() string {
	var assumed []string
	for _, p := range e.Prices {
		if p.Seen == SeenAssumed {
			assumed = append(assumed, p.Key)
		}
	}
	text := fmt.Sprintf("List prices of %s in USD, read %s, without discounts and taxes. page: in the text of the provider's page;\ncopy: printed by others; assumed: found nowhere", e.PricesFrom, e.PriceRead)
	if len(assumed) > 0 {
		text += " (" + strings.Join(assumed, ", ") + ")"
	}
	return text + ". -o json has each with its address."
}

// dollars is an amount of money in whole USD, and in cents below ten.
func dollars(usd float64) string {
	if usd < 10 {
		return strconv.FormatFloat(usd, 'f', 2, 64)
	}
	return thousands(strconv.FormatFloat(usd, 'f', 0, 64))
}

// amount is a number with three digits at least, and no more than it needs.
func amount(x float64) string {
	precision := 0
	switch {
	case x != math.Trunc(x) && x < 10:
		precision = 2
	case x != math.Trunc(x) && x < 1000:
		precision = 1
	}
	whole, fraction, found := strings.Cut(strconv.FormatFloat(x, 'f', precision, 64), ".")
	if found {
		return thousands(whole) + "." + fraction
	}
	return thousands(whole)
}

// thousands puts a comma between groups of three digits.
func thousands(digits string) string {
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

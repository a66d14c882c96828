package plan

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing them")

const canary = "correct-horse-battery-staple"

// example has every kind of section, action and attribute.
func example() *Plan {
	return &Plan{Environment: "prod", Sections: []Section{
		{Name: "network", Grade: Exact, Took: 1234 * time.Millisecond},
		{Name: "storage", Grade: Exact, Took: 65 * time.Second, Outputs: []string{"instance_id"}, Changes: []Change{
			{Address: `google_bigtable_table.table["orders"]`, Type: "google_bigtable_table", Action: Create},
			{Address: "google_bigtable_instance.main", Type: "google_bigtable_instance", Action: Replace, Forces: []string{"name", "cluster[0].zone"}, Protected: true, Attributes: []Attribute{
				{Path: "name", Before: "latam", After: "latam-2"}, {Path: "id", Before: "x", Unknown: true}, {Path: "password", Before: canary, After: canary, Sensitive: true},
			}},
			{Address: `google_bigtable_table.table["flights"]`, Type: "google_bigtable_table", Action: Delete, Protected: true, Reason: "removed from the declaration"},
			{Address: "google_bigtable_app_profile.serve", Type: "google_bigtable_app_profile", Action: Update, Attributes: []Attribute{{Path: "description", After: "reads"}}},
		}},
		{Name: "cluster", Grade: Predicted, Changes: []Change{
			{Address: "google_container_cluster.main", Action: Import}, {Address: "google_project_service.old", Action: Forget}, {Address: "terraform_data.x", Action: Delete},
		}},
		{Name: "analytics", Grade: Exact, Drift: []Change{{Address: "google_bigquery_dataset.main", Action: Update, Attributes: []Attribute{{Path: "labels.team", Before: "a", After: "b"}}}}},
		{Name: "budget", Note: "off: set billing_account"},
		{Name: "apps", Error: "plan apps: Error 403: denied\nby policy \x1b[2J"},
		{Name: "gateway", Blocked: "apps"},
	}}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (-want +got):\n%s", name, d)
	}
}

func render(t *testing.T, p *Plan, o TextOptions) string {
	t.Helper()
	var b bytes.Buffer
	if err := Text(&b, p, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	t.Parallel()
	paint := func(c Colour, text string) string { return "<" + string(c) + ">" + text + "</>" }
	golden(t, "plan.txt", []byte(render(t, example(), TextOptions{})))
	golden(t, "detail.txt", []byte(render(t, example(), TextOptions{Detail: true, Paint: paint})))
	var md bytes.Buffer
	if err := Markdown(&md, "Plan for prod", example()); err != nil {
		t.Fatal(err)
	}
	golden(t, "plan.md", md.Bytes())
	doc, err := json.MarshalIndent(NewDocument("latamctl.plan/v1", example()), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "plan.json", append(doc, '\n'))
	for name, out := range map[string]string{"text": render(t, example(), TextOptions{Detail: true}), "markdown": md.String(), "json": string(doc)} {
		if strings.Contains(out, canary) {
			t.Errorf("%s shows a sensitive value", name)
		}
		if strings.Contains(out, "\x1b") {
			t.Errorf("%s lets a name move the cursor", name)
		}
	}
}

func TestNothingToChange(t *testing.T) {
	t.Parallel()
	p := &Plan{Environment: "prod", Sections: []Section{{Name: "network", Grade: Exact}}}
	if p.Pending() || p.Drifted() || p.Failed() {
		t.Error("a plan without changes is pending, drifted or failed")
	}
	if got := render(t, p, TextOptions{}); !strings.HasSuffix(got, "\nEnvironment prod: nothing to change.\n") {
		t.Errorf("got %q", got)
	}
	p.Sections[0].Outputs = []string{"x"}
	if !p.Pending() || !strings.Contains(p.Summary(), "only outputs change") {
		t.Errorf("changed outputs are not pending: %s", p.Summary())
	}
}

// TestColumns: the table keeps within its width with long names; addresses stay whole, to be copied.
func TestColumns(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("stack-", 20)
	p := &Plan{Environment: "prod", Sections: []Section{
		{Name: long, Grade: Provisional, Outputs: []string{"x"}, Took: time.Hour, Note: strings.Repeat("remark ", 30)},
		{Name: long + "2", Note: strings.Repeat("remark ", 30)},
		{Name: "s", Changes: []Change{{Address: long + long, Action: Delete}}},
	}}
	out := render(t, p, TextOptions{})
	for line := range strings.Lines(out) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 && !strings.Contains(line, long+long) {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	if !strings.Contains(out, "s/"+long+long+"\n") {
		t.Error("the address was cut")
	}
}

func TestGuard(t *testing.T) {
	t.Parallel()
	const table, instance, other = `google_bigtable_table.table["flights"]`, "google_bigtable_instance.main", "terraform_data.x"
	count := func(n int) Limit { return Limit{Set: true, Value: n} }
	for _, tt := range []struct {
		name      string
		guard     Guard
		protected []string
		losses    int
	}{
		{"nothing named", Guard{}, []string{"storage/" + instance, "storage/" + table}, 0},
		{"one by its address", Guard{Allow: []string{table}}, []string{"storage/" + instance}, 0},
		{"both", Guard{Allow: []string{table, "storage/" + instance}}, nil, 0},
		{"the section", Guard{Allow: []string{"storage/*"}}, nil, 0},
		{"another section", Guard{Allow: []string{"network/*", "network/" + table, "*"}}, []string{"storage/" + instance, "storage/" + table}, 0},
		{"part of an address", Guard{Allow: []string{"google_bigtable_table.table", "storage"}}, []string{"storage/" + instance, "storage/" + table}, 0},
		{"unprotected is limited too", Guard{Allow: []string{"storage/*"}, MaxDeletes: count(0)}, nil, 1},
		{"at the limit", Guard{Allow: []string{"storage/*"}, MaxDeletes: count(1)}, nil, 0},
		{"everything counts", Guard{MaxDeletes: count(2)}, []string{"storage/" + instance, "storage/" + table}, 3},
		{"percent is rounded down", Guard{Allow: []string{"storage/*"}, MaxDeletes: Limit{Set: true, Value: 10, Percent: true}, Existing: 9}, nil, 1},
		{"within percent", Guard{Allow: []string{"storage/*"}, MaxDeletes: Limit{Set: true, Value: 10, Percent: true}, Existing: 10}, nil, 0},
		{"named ones need no place", Guard{Allow: []string{"storage/*", other}, MaxDeletes: count(0)}, nil, 0},
	} {
		err := tt.guard.Check(example())
		if (err != nil) != (len(tt.protected) > 0 || tt.losses > 0) {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		var r *Refusal
		if !errors.As(err, &r) {
			continue
		}
		got := map[string]bool{}
		for _, a := range r.Protected {
			got[a] = true
		}
		for _, a := range tt.protected {
			if !got[a] || !strings.Contains(err.Error(), a) {
				t.Errorf("%s: %s is not refused in %q", tt.name, a, err)
			}
		}
		if len(r.Protected) != len(tt.protected) || r.Losses != tt.losses {
			t.Errorf("%s: got %v", tt.name, r)
		}
	}
	if got := (Guard{Allow: []string{table, "storage/*", "tabel", "google_bigtable_app_profile.serve"}}).Unused(example()); !cmp.Equal(got, []string{"tabel", "google_bigtable_app_profile.serve"}) {
		t.Errorf("unused %v", got)
	}
}

func TestParseLimit(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Limit{"": {}, "0": {Set: true}, "10": {Set: true, Value: 10}, "25%": {Set: true, Value: 25, Percent: true}} {
		got, err := ParseLimit(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"-1", "101%", "x", "1.5", "%"} {
		if _, err := ParseLimit(text); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestMarkdownOfALargePlan: what matters most survives the cut, and the cut says so.
func TestMarkdownOfALargePlan(t *testing.T) {
	t.Parallel()
	p := &Plan{Environment: "prod"}
	for i := range 500 {
		s := Section{Name: fmt.Sprintf("stack-%03d", i), Grade: Exact}
		for j := range 50 {
			s.Changes = append(s.Changes, Change{Address: fmt.Sprintf("r.x[%d]", j), Action: []Action{Delete, Create, Update}[j%3], Attributes: []Attribute{{Path: "a", After: strings.Repeat("v", 90)}}})
		}
		p.Sections = append(p.Sections, s)
	}
	p.Sections[499].Error = "the last one failed"
	var b bytes.Buffer
	if err := Markdown(&b, "Plan", p); err != nil {
		t.Fatal(err)
	}
	out := b.String()
	if len(out) > MaxMarkdown || len(out) < MaxMarkdown*8/10 {
		t.Errorf("%d bytes, want nearly %d", len(out), MaxMarkdown)
	}
	for _, want := range []string{"the last one failed", "stack-000/r.x[0]", "stack-499/r.x[48]", "lines left out", "stacks more", "| stack-000 |", "Details of"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing", want)
		}
	}
	checkMarkdown(t, out)
}

// checkMarkdown is a naive reading of what GitHub would make markup of.
func checkMarkdown(t *testing.T, out string) {
	t.Helper()
	if len(out) > MaxMarkdown {
		t.Errorf("%d bytes", len(out))
	}
	if !utf8.ValidString(out) {
		t.Error("not valid UTF-8")
	}
	fenced, open := false, 0
	for line := range strings.SplitSeq(out, "\n") {
		switch {
		case line == "```diff" && !fenced:
			fenced = true
			continue
		case line == "```" && fenced:
			fenced = false
			continue
		case fenced:
			if line == "" || !strings.ContainsRune("+-!#", rune(line[0])) || line[1] != ' ' {
				t.Errorf("line %q in a block begins with no sign of ours", line)
			}
			continue
		}
		rest := strings.NewReplacer("<details><summary>", "", "</summary>", "", "</details>", "", "**Failed**", "", "**Deleted and replaced**", "").Replace(line)
		open += strings.Count(line, "<details>") - strings.Count(line, "</details>")
		if strings.ContainsAny(rest, "<>`*_[]@") && !strings.Contains(rest, "|---|") {
			t.Errorf("markup outside of blocks: %q", line)
		}
		if strings.HasPrefix(line, "|") && strings.Count(line, "|") != 9 {
			t.Errorf("%d cells in %q", strings.Count(line, "|")-1, line)
		}
		for _, link := range []string{"://", "www.", "&#64;a", "&#35;1"} {
			if strings.Contains(rest, link) {
				t.Errorf("%s in %q", link, line)
			}
		}
	}
	if fenced || open != 0 {
		t.Errorf("a block or %d folds stay open", open)
	}
}

func FuzzMarkdown(f *testing.F) {
	f.Add("a|b", "```\n@octocat <script>alert(1)</script>", "x\n```\n# h", uint16(3))
	f.Add("www.evil.example", "[x](https://evil.example) #1", "</details>", uint16(700))
	f.Add("\\|", "\r```\r~~~", "\u2028```", uint16(90))
	f.Add("@a", strings.Repeat("`", 500), "\xff\xfe", uint16(1))
	f.Fuzz(func(t *testing.T, name, address, text string, n uint16) {
		p := &Plan{Environment: name}
		for i := range int(n)%40 + 1 {
			s := Section{Name: name, Grade: Grade(address), Note: text, Outputs: []string{address}}
			if i%5 == 0 {
				s.Error = text
			}
			for _, a := range []Action{Delete, Create, Replace, Action(name)} {
				for range int(n) % 97 / 4 {
					s.Changes = append(s.Changes, Change{Address: address, Action: a, Forces: []string{text}, Reason: name, Protected: true, Attributes: []Attribute{
						{Path: text, Before: address, After: name}, {Path: "s", Before: canary, Sensitive: true},
					}})
				}
			}
			s.Drift = s.Changes[:len(s.Changes)/2]
			p.Sections = append(p.Sections, s)
		}
		var one, two bytes.Buffer
		if err := errors.Join(Markdown(&one, text, p), Markdown(&two, text, p)); err != nil {
			t.Fatal(err)
		}
		if one.String() != two.String() {
			t.Error("the same plan gives two texts")
		}
		checkMarkdown(t, one.String())
		screen := render(t, p, TextOptions{Detail: true})
		for _, r := range screen {
			if r < ' ' && r != '\n' {
				t.Errorf("control character %U on the screen", r)
			}
		}
		if strings.Contains(one.String()+screen, canary) {
			t.Error("a sensitive value is shown")
		}
	})
}

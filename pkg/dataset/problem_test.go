package dataset

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/strictyaml"
)

func TestProblemsShowLineAndCaret(t *testing.T) {
	t.Parallel()
	text := strings.Replace(problemBase, "origin: {type: string, required: true}", "origin: {type: string, requierd: true}", 1)
	text = strings.Replace(text, "extra: json", "extra: jsn", 1)
	text = strings.Replace(text, "key: [origin, at]", "key: [origin, att, \"é\", dai]", 1)
	text = strings.Replace(text, "name: latam", "name: Latam\r", 1)
	_, err := Load("dir/latam.yaml", []byte(text))
	if err == nil {
		t.Fatal("no error")
	}
	want := `dir/latam.yaml:2:7: name "Latam" must begin with a lower-case letter
  2 | name: Latam
    |       ^
dir/latam.yaml:6:30: unknown key "requierd" in field origin; did you mean "required"?
  6 |       origin: {type: string, requierd: true}
    |                              ^
dir/latam.yaml:11:14: field extra: unknown type "jsn"; did you mean "json"?
  11 |       extra: jsn
     |              ^
dir/latam.yaml:12:19: key of dataset flights: there is no field "att"; did you mean "at"?
  12 |     key: [origin, att, "é", dai]
     |                   ^
dir/latam.yaml:12:24: key of dataset flights: there is no field "é"; the fields are origin, at, day, delay, ratio, extra
  12 |     key: [origin, att, "é", dai]
     |                        ^
dir/latam.yaml:12:29: key of dataset flights: there is no field "dai"; did you mean "day"?
  12 |     key: [origin, att, "é", dai]
     |                             ^`
	if got := err.Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestProblemsCutLongLinesAndLists(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	text.WriteString("version: 1\nname: latam\ndatasets: {one: {fields: {a: {type: string, required: true}}, key: [a],")
	for i := range 60 {
		fmt.Fprintf(&text, " zz%d: \x1b,", i)
	}
	text.WriteString("}}\n")
	_, err := Load("f", []byte(text.String()))
	if err == nil {
		t.Fatal("no error")
	}
	lines := strings.Split(err.Error(), "\n")
	if got := lines[len(lines)-1]; got != "f: and 10 more" {
		t.Errorf("the last line is %q", got)
	}
	for i, line := range lines {
		if len([]rune(line)) > 300 || strings.Contains(line, "\x1b") {
			t.Errorf("line %q", line)
		}
		if strings.HasSuffix(line, "^") {
			before := []rune(lines[i-1])
			at := len([]rune(line)) - 1
			if at >= len(before) || string(before[at:at+2]) != "zz" {
				t.Errorf("the caret is not under the key:\n%s\n%s", lines[i-1], line)
			}
		}
	}
}

func TestLoadHostile(t *testing.T) {
	t.Parallel()
	bomb := "version: 1\nname: latam\nenvironments:\n  a0: &a0 {k: [x, x, x, x, x, x, x, x]}\n"
	for i := 1; i < 20; i++ {
		p := fmt.Sprintf("*a%d", i-1)
		bomb += fmt.Sprintf("  a%d: &a%d {k: [%s]}\n", i, i, strings.Join([]string{p, p, p, p, p, p, p, p}, " , "))
	}
	inputs := []string{bomb, "a: &a [*a]", "a: &a {b: &b *a, c: *b}", "\x00", "\xef\xbb\xbfversion: 1", strings.Repeat("a", strictyaml.MaxFileBytes+1), strings.Repeat("[", strictyaml.MaxFileBytes), strings.Repeat("a:\n", strictyaml.MaxFileBytes/3), strings.Repeat("a:\n", 16_000)}
	for _, s := range []string{"[", "{", "{a: ", "a: ", "a:\n", "- ", "-\n", "? ", "&a ", "!a ", "*a ", "&a\n", "!a\n", "\"", "'", "---\n", "#\n", "a\n",
		"a: |\n", "\t", ",", "[],", "{},", "a: [", "%a\n", "|\n", ">\n ", "<<: ", "b, "} {
		for _, n := range []int{60_000, 6_000} {
			inputs = append(inputs, strings.Repeat(s, n/len(s)))
		}
	}
	for _, s := range inputs {
		start := time.Now()
		d, err := Load("f", []byte(s))
		if p := (*Problems)(nil); !errors.As(err, &p) || d != nil {
			t.Errorf("Load(%.20q…) gives %v, %v", s, d, err)
		}
		if took := time.Since(start); took > time.Minute {
			t.Errorf("Load(%.20q…, %d bytes) took %v", s, len(s), took)
		} else if took > time.Second {
			t.Logf("Load(%.20q…, %d bytes) took %v", s, len(s), took)
		}
	}
}

func TestLoadCountsAliases(t *testing.T) {
	t.Parallel()
	list := "[" + strings.Repeat("x, ", 1000) + "]"
	text := problemBase + "environments:\n  a:\n    k0: &a " + list + "\n"
	for i := 1; i < 90; i++ {
		text += fmt.Sprintf("    k%d: *a\n", i)
	}
	load(t, text)
	for i := 90; i < 120; i++ {
		text += fmt.Sprintf("    k%d: *a\n", i)
	}
	if _, err := Load("f", []byte(text)); err == nil || !strings.Contains(err.Error(), "too many values") {
		t.Errorf("got %v", err)
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	candidates := []string{"required", "type", "minimum", "maximum", "origin", "destination", "quota_per_minute"}
	for name, want := range map[string]string{
		"requierd": "required", "typ": "type", "tpye": "type", "Type": "type", "minimun": "minimum", "maxmum": "maximum", "orign": "origin",
		"dest": "destination", "quota": "quota_per_minute", "banana": "", "": "", "x": "", "é": "", strings.Repeat("a", 1000): "", "required": "required",
	} {
		if got := Nearest(name, candidates); got != want {
			t.Errorf("Nearest(%.20q) = %q, want %q", name, got, want)
		}
	}
	if got := Nearest("a", []string{"b"}); got != "" {
		t.Errorf("a single letter resembles nothing, got %q", got)
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"400d": 400 * 24 * time.Hour, "2w": 14 * 24 * time.Hour, "36h": 36 * time.Hour, "1d12h": 36 * time.Hour, "1.5h": 90 * time.Minute,
		"50ms": 50 * time.Millisecond, "7us": 7 * time.Microsecond, "9ns": 9, "0": 0, "0d": 0, "-2h": -2 * time.Hour, "1m30s": 90 * time.Second,
	} {
		got, err := ParseDuration(text)
		if err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v, want %v", text, got, err, want)
		}
		if back, err := ParseDuration(FormatDuration(got)); err != nil || back != got {
			t.Errorf("FormatDuration(%v) = %q", got, FormatDuration(got))
		}
	}
	for _, text := range []string{"", "-", "d", "1", "1x", "1dd", "1 d", "1e3s", "..d", "+1d", "1D", "999999999999999999w", "1d-1h", "--1d"} {
		if d, err := ParseDuration(text); err == nil {
			t.Errorf("ParseDuration(%q) = %v", text, d)
		}
	}
	for d, want := range map[time.Duration]string{400 * day: "400d", 36 * time.Hour: "36h", 90 * time.Minute: "1h30m", 50 * time.Millisecond: "50ms", 0: "0s"} {
		if got := FormatDuration(d); got != want {
			t.Errorf("FormatDuration(%v) = %q, want %q", d, got, want)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(exampleYAML)
	for _, c := range problemCases() {
		f.Add(strings.Replace(problemBase, c.old, c.new, 1))
	}
	f.Add("a: &a [*a]\nb: |\n  x\n? k\n: !!t 5\n<<: *a\n")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := Load("f", []byte(text))
		if err == nil {
			checkDeclaration(t, d)
			return
		}
		var p *Problems
		if !errors.As(err, &p) || len(p.List) == 0 || d != nil {
			t.Fatalf("got %v, %T", d, err)
		}
		lines := strings.Count(text, "\n") + strings.Count(text, "\r") + 1
		for i, one := range p.List {
			if one.Line < 1 || one.Line > lines+1 || one.Column < 1 || one.Message == "" {
				t.Fatalf("problem %+v", one)
			}
			if i > 0 && p.List[i-1].Line > one.Line {
				t.Fatal("not in the order of the file")
			}
		}
		_ = p.Error()
	})
}

// checkDeclaration checks what the rest of the program relies on.
func checkDeclaration(t *testing.T, d *Declaration) {
	t.Helper()
	if checkName(d.Name) != "" || len(d.Datasets) == 0 {
		t.Fatalf("declaration %+v", d)
	}
	for _, ds := range d.Datasets {
		if checkTableName(ds.Name) != "" || checkTopic(ds.Topic) != "" || len(ds.Fields) == 0 || len(ds.Key) == 0 || ds.Retention < 0 {
			t.Fatalf("dataset %+v", ds)
		}
		for i, f := range ds.Fields {
			if f.Index != i || kindOf(f.Type) == kindMissing || ds.Field(f.Name) != f {
				t.Fatalf("field %+v", f)
			}
		}
		for _, f := range ds.Key {
			if !f.Required || !f.InKey || f.Type == JSON {
				t.Fatalf("key field %+v", f)
			}
		}
		for _, ix := range ds.Indexes {
			if len(ix.Fields) == 0 || len(ds.IndexTable(&ix)) > 50 {
				t.Fatalf("index %+v", ix)
			}
		}
	}
}

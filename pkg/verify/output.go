package verify

import (
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
)

// byHop returns the results of each hop that has some, in the order of the hops.
func (rep *Report) byHop(each func(hop string, results []Result)) {
	for _, hop := range Hops() {
		results := slices.DeleteFunc(slices.Clone(rep.Results), func(r Result) bool { return r.Hop != hop })
		if len(results) > 0 {
			each(hop, results)
		}
	}
}

// Summary is the outcome in one line.
func (rep *Report) Summary() string {
	line := fmt.Sprintf("%d passed, %d failed, %d skipped at %s", rep.Passed, rep.Failed, rep.Skipped, rep.URL)
	if len(rep.Broken) > 0 {
		line += "; broken: " + strings.Join(rep.Broken, ", ")
	}
	return line
}

// Markdown writes the report for the summary of a CI job: what failed first.
func (rep *Report) Markdown(w io.Writer, title string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n%s\n", cell(title), cell(rep.Summary()))
	for _, r := range rep.Results {
		if r.Status == Fail {
			fmt.Fprintf(&b, "\n**%s**\n- expected: %s\n- seen: %s\n- next: %s\n", cell(r.Name()), cell(r.Expected), cell(r.Seen), cell(r.Next))
		}
	}
	b.WriteString("\n| hop | check | dataset | outcome | ms | seen |\n|---|---|---|---|---|---|\n")
	rep.byHop(func(hop string, results []Result) {
		for _, r := range results {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %.0f | %s |\n", hop, r.Check, cell(r.Dataset), r.Status, r.Milliseconds, cell(r.Seen))
		}
	})
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write the summary: %w", err)
	}
	return nil
}

// cell is text that cannot break out of a table or become markup: what was seen comes from outside.
func cell(text string) string {
	return strings.NewReplacer("\n", " ", "\r", " ", "|", "\\|", "<", "&lt;", "`", "'", "[", "\\[", "*", "\\*", "_", "\\_", "@", "&#64;").Replace(text)
}

type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Name     string       `xml:"name,attr"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Skipped  int          `xml:"skipped,attr"`
	Seconds  string       `xml:"time,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Seconds  string      `xml:"time,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name    string      `xml:"name,attr"`
	Class   string      `xml:"classname,attr"`
	Seconds string      `xml:"time,attr"`
	Failure *junitFault `xml:"failure"`
	Skipped *junitFault `xml:"skipped"`
}

type junitFault struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// JUnit writes the report as JUnit's XML: a suite for each hop, a case for each check.
func (rep *Report) JUnit(w io.Writer) error {
	all := junitSuites{Name: "latamctl verify " + rep.URL, Tests: len(rep.Results), Failures: rep.Failed, Skipped: rep.Skipped}
	total := 0.0
	rep.byHop(func(hop string, results []Result) {
		s := junitSuite{Name: hop, Tests: len(results)}
		sum := 0.0
		for _, r := range results {
			c := junitCase{Name: strings.TrimPrefix(r.Name(), hop+"/"), Class: "verify." + hop, Seconds: inSeconds(r.Milliseconds)}
			switch r.Status {
			case Fail:
				s.Failures++
				c.Failure = &junitFault{Message: r.Seen, Text: "expected: " + r.Expected + "\nseen: " + r.Seen + "\nnext: " + r.Next}
			case Skip:
				s.Skipped++
				c.Skipped = &junitFault{Message: r.Seen}
			case Pass:
			}
			sum += r.Milliseconds
			s.Cases = append(s.Cases, c)
		}
		s.Seconds = inSeconds(sum)
		total += sum
		all.Suites = append(all.Suites, s)
	})
	all.Seconds = inSeconds(total)
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return fmt.Errorf("write the JUnit report: %w", err)
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(all); err != nil {
		return fmt.Errorf("write the JUnit report: %w", err)
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func inSeconds(ms float64) string { return fmt.Sprintf("%.3f", ms/1000) }

package verify_test

import (
	"bytes"
	"encoding/xml"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/pkg/verify"
)

func sampleReport() verify.Report {
	return verify.Report{
		Schema: "latamctl.verify/v1", URL: "https://api.example.com", Passed: 1, Failed: 1, Skipped: 1, Broken: []string{"canary"},
		Results: []verify.Result{
			{Hop: "api", Check: "health", Status: verify.Pass, Expected: "200", Seen: "it answered 200", Milliseconds: 12.4},
			{Hop: "canary", Check: "fresh", Dataset: "flights", Status: verify.Fail, Expected: "a row", Seen: "<b>|no\nrow|`", Next: "look & see", Milliseconds: 1500},
			{Hop: "access", Check: "auth", Dataset: "flights", Status: verify.Skip, Expected: "401", Seen: "the dataset declares no auth"},
		},
	}
}

// TestMarkdown: what failed comes first, and what was seen cannot become markup.
func TestMarkdown(t *testing.T) {
	t.Parallel()
	report := sampleReport()
	var b bytes.Buffer
	if err := report.Markdown(&b, "Verification of prod"); err != nil {
		t.Fatal(err)
	}
	want := `## Verification of prod

1 passed, 1 failed, 1 skipped at https://api.example.com; broken: canary

**canary/fresh flights**
- expected: a row
- seen: &lt;b>\|no row\|'
- next: look & see

| hop | check | dataset | outcome | ms | seen |
|---|---|---|---|---|---|
| canary | fresh | flights | fail | 1500 | &lt;b>\|no row\|' |
| api | health |  | pass | 12 | it answered 200 |
| access | auth | flights | skip | 0 | the dataset declares no auth |
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

// TestJUnit reads the report as CI systems do.
func TestJUnit(t *testing.T) {
	t.Parallel()
	report := sampleReport()
	var b bytes.Buffer
	if err := report.JUnit(&b); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Tests    int    `xml:"tests,attr"`
		Failures int    `xml:"failures,attr"`
		Skipped  int    `xml:"skipped,attr"`
		Time     string `xml:"time,attr"`
		Suites   []struct {
			Name  string `xml:"name,attr"`
			Cases []struct {
				Name    string `xml:"name,attr"`
				Class   string `xml:"classname,attr"`
				Failure *struct {
					Message string `xml:"message,attr"`
					Text    string `xml:",chardata"`
				} `xml:"failure"`
				Skipped *struct {
					Message string `xml:"message,attr"`
				} `xml:"skipped"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Tests != 3 || got.Failures != 1 || got.Skipped != 1 || got.Time != "1.512" || len(got.Suites) != 3 {
		t.Fatalf("totals of\n%s", b.String())
	}
	canary, access := got.Suites[0], got.Suites[2]
	if canary.Name != "canary" || canary.Cases[0].Name != "fresh flights" || canary.Cases[0].Class != "verify.canary" || canary.Cases[0].Failure == nil ||
		!strings.Contains(canary.Cases[0].Failure.Text, "next: look & see") {
		t.Errorf("the failure:\n%s", b.String())
	}
	if access.Cases[0].Skipped == nil || access.Cases[0].Skipped.Message != "the dataset declares no auth" {
		t.Errorf("the skipped check:\n%s", b.String())
	}
}

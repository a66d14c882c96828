package simulate

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

const docFile = "../../../docs/monitors-test.md"

// TestDocument keeps the documentation of the tests true: its functions are those that are
// evaluated, its options are read, and its example passes.
func TestDocument(t *testing.T) {
	t.Parallel()
	src, err := os.ReadFile(docFile)
	if err != nil {
		t.Fatal(err)
	}
	doc := string(src)
	var want strings.Builder
	want.WriteString("| function | value |\n|---|---|\n")
	for _, f := range Functions() {
		fmt.Fprintf(&want, "| `%s` | %s |\n", f.Name, f.Does)
	}
	if !strings.Contains(doc, want.String()+"\n") {
		t.Errorf("%s should have the table\n%s", docFile, want.String())
	}
	for flag := range flags(Transition{}) {
		if !strings.Contains(doc, "`"+flag+"`") && !strings.HasSuffix(flag, "_recovery") {
			t.Errorf("%s does not have the block %s", docFile, flag)
		}
	}
	section := doc[strings.Index(doc, "## Series"):strings.Index(doc, "## What is evaluated")]
	rows := regexp.MustCompile("(?m)^\\| `([^`{]+)`[^|]* \\| ([0-9][0-9 ]*)").FindAllStringSubmatch(section, -1)
	if len(rows) != 3 {
		t.Errorf("%d rows of the notation are checked", len(rows))
	}
	for _, row := range rows {
		if p, err := parsePoints(row[1]); err != nil || show(p) != strings.TrimSpace(row[2]) {
			t.Errorf("%s is %q, %v, and not %q", row[1], show(p), err, row[2])
		}
	}
}

func TestDocumentedExamplePasses(t *testing.T) {
	t.Parallel()
	src, err := os.ReadFile(docFile)
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(src), "```yaml\n")
	example, _, _ = strings.Cut(example, "```")
	set := burning(t, latency(t))
	set.Objects[0].Key.Name = "response"
	for _, o := range set.Objects[1:] {
		o.Query = monitor(t, "x", "slo alert", strings.ReplaceAll(o.Payload["query"].(string), "fast-enough", "response"), "").Query
	}
	set.Objects = append(set.Objects,
		monitor(t, "ingest-errors", "query alert", "max(last_5m):default_zero(sum:latam.errors{env:prod,service:latam-ingest}.as_count().rollup(sum, 60)) > 10", `{"thresholds":{"critical":10}}`))
	for _, name := range []string{"flights", "hotels"} {
		set.Objects = append(set.Objects, monitor(t, "ingest-rate-"+name, "query alert",
			"sum(last_15m):sum:latam.ingest.records{env:prod,dataset:"+name+"}.as_count() < 1", `{"thresholds":{"critical":1}}`))
	}
	tests, err := loadText(set, example)
	if err != nil {
		t.Fatal(err)
	}
	if len(tests) != 4 {
		t.Fatalf("there are %d tests", len(tests))
	}
	for _, r := range Run(set, tests) {
		if !r.Passed {
			t.Errorf("%s: %s", r.Test.Name, r.Reason)
		}
	}
}

package estimate_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/pkg/estimate"
)

var update = flag.Bool("update", false, "write the tables of docs/capacity.md instead of comparing them")

// TestGeneratedTables keeps the tables of docs/capacity.md equal to the code: make docs writes them.
func TestGeneratedTables(t *testing.T) {
	t.Parallel()
	path := filepath.Join("..", "..", "docs", "capacity.md")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := replaceBlock(t, string(b), "example", exampleTable(t))
	page = replaceBlock(t, page, "rates", rateTable(t))
	page = replaceBlock(t, page, "prices", priceTable(t))
	if *update {
		if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(b), page); diff != "" {
		t.Errorf("docs/capacity.md is out of date, run make docs:\n%s", diff)
	}
}

// replaceBlock puts a text between <!-- name --> and <!-- /name -->.
func replaceBlock(t *testing.T, page, name, text string) string {
	t.Helper()
	begin, end := "<!-- "+name+" -->\n", "<!-- /"+name+" -->"
	head, rest, ok := strings.Cut(page, begin)
	_, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("docs/capacity.md has no place for %s", name)
	}
	return head + begin + text + end + tail
}

func exampleTable(t *testing.T) string {
	var b strings.Builder
	e := compute(t, estimate.Load{Rate: 1000, Bytes: 300, Retention: 90 * day, Reads: 10, Datasets: 1, Indexes: 1}, environment())
	if err := e.Markdown(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func rateTable(t *testing.T) string {
	var b strings.Builder
	b.WriteString("| records/s | nodes | ingest pods | Bigtable nodes | Bigtable GiB | USD a month | ingest / Dataflow / subscription |\n|---|---|---|---|---|---|---|\n")
	for _, rate := range []float64{100, 1000, 10000, 100000} {
		e := compute(t, estimate.Load{Rate: rate, Bytes: 300, Retention: 30 * day, Reads: 10, Datasets: 1, Indexes: 1}, environment())
		fmt.Fprintf(&b, "| %.0f | %d | %d | %d | %.0f | %.0f | %.0f / %.0f / %.0f |\n", rate, e.Sizes.Nodes, e.Sizes.IngestPods, e.Sizes.BigtableNodes,
			e.Sizes.BigtableGiB, e.TotalUSD, e.Ways[0].USD, e.Ways[1].USD, e.Ways[2].USD)
	}
	return b.String()
}

func priceTable(t *testing.T) string {
	var b strings.Builder
	list := prices(t)
	fmt.Fprintf(&b, "List prices of %s in %s, put together on %s.\n\n| price | USD | unit | seen | from | note |\n|---|---|---|---|---|---|\n", list.Region, list.Currency, list.Read)
	for _, p := range list.Prices {
		usd := fmt.Sprintf("%v", p.USD)
		for _, s := range p.Steps {
			usd += fmt.Sprintf(", above %v %v", s.Above, s.USD)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | [%s](%s) | %s |\n", p.Key, usd, p.Unit, p.Seen, p.Read, p.URL, p.Note)
	}
	return b.String()
}

// TestFiguresOfTheStacks: what sizes.go and cost.go take from the stacks is what stands there.
func TestFiguresOfTheStacks(t *testing.T) {
	t.Parallel()
	for file, wants := range map[string][]string{
		"apps/kubernetes/base/ingest.yaml":      {"requests: {cpu: 500m, memory: 512Mi}", "minReplicas: 2", "maxReplicas: 10", "name: cpu\n        target: {type: Utilization, averageUtilization: 60}"},
		"apps/kubernetes/base/serve/serve.yaml": {"requests: {cpu: 500m, memory: 512Mi}", "minReplicas: 2", "maxReplicas: 10", "name: cpu\n        target: {type: Utilization, averageUtilization: 60}"},
		"cluster/nodes.tf":                      {"disk_size_gb    = 50", `disk_type       = "pd-balanced"`},
		"observability/main.tf":                 {`requests = { cpu = "200m", memory = "256Mi" }`, "replicas            = 2"},
	} {
		b, err := os.ReadFile(filepath.Join("..", "..", "stacks", filepath.FromSlash(file)))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(string(b), want) {
				t.Errorf("stacks/%s has no %q any more: change the figure in pkg/estimate, too", file, want)
			}
		}
	}
	armor, err := os.ReadFile(filepath.Join("..", "..", "stacks", "apps", "armor.tf"))
	if err != nil {
		t.Fatal(err)
	}
	// Each rule has an action; the one for_each stands for as many as there are signatures.
	signatures := strings.Count(string(armor), "-stable")
	if rules := strings.Count(string(armor), " action ") - 1 + signatures; rules != 9 {
		t.Errorf("stacks/apps/armor.tf has %d rules, the estimate prices 9: change armorRules", rules)
	}
}

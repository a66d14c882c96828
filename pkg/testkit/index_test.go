package testkit_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/latamctl/latamctl/pkg/testkit"
)

func TestIndexCheckCatches(t *testing.T) {
	t.Parallel()
	entry := func(key string, cells int) testkit.Row {
		e := testkit.Row{Key: key}
		for range cells {
			e.Cells = append(e.Cells, cell("d:k", ""))
		}
		return e
	}
	rows := []testkit.Row{row("a 1"), row("b 1")}
	for name, tc := range map[string]struct {
		entries []testkit.Row
		want    testkit.Report
	}{
		"nothing wrong":       {[]testkit.Row{entry("of a", 1), entry("of b", 1)}, testkit.Report{Rows: 2}},
		"a row without entry": {[]testkit.Row{entry("of a", 1)}, testkit.Report{Rows: 1, Lost: 1}},
		"an entry of no row":  {[]testkit.Row{entry("of a", 1), entry("of b", 1), entry("of c", 1)}, testkit.Report{Rows: 3, Foreign: 1}},
		"an entry of another": {[]testkit.Row{entry("of a", 1), entry("of c", 1)}, testkit.Report{Rows: 2, Lost: 1, Foreign: 1}},
		"a second cell":       {[]testkit.Row{entry("of a", 2), entry("of b", 1)}, testkit.Report{Rows: 2, ExtraCells: 1}},
	} {
		got := testkit.CheckIndexed(rows, tc.entries, func(r testkit.Row) string { return "of " + strings.TrimPrefix(r.Key, "row of ") })
		if diff := cmp.Diff(tc.want, got, cmpopts.IgnoreFields(testkit.Report{}, "Violations")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if got.OK() != (name == "nothing wrong") || len(got.Violations) == 0 != got.OK() {
			t.Errorf("%s: OK is %v with %d descriptions", name, got.OK(), len(got.Violations))
		}
	}
}

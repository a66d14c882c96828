package dataset_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// TestReasonsAreExplained compares the list with the constants in the source.
func TestReasonsAreExplained(t *testing.T) {
	t.Parallel()
	declared := map[dataset.Reason]bool{}
	for _, file := range []string{"decode.go", "reasons.go"} {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(spec.Names[0].Name, "Reason") && len(spec.Values) == 1 {
				if value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value); err == nil {
					declared[dataset.Reason(value)] = true
				}
			}
			return true
		})
	}
	for _, info := range dataset.Reasons() {
		if !declared[info.Reason] || info.Title == "" || !strings.HasSuffix(info.Explanation, ".") {
			t.Errorf("%+v is not declared or not explained", info)
		}
		delete(declared, info.Reason)
		if got, ok := dataset.LookupReason(string(info.Reason)); !ok || got != info {
			t.Errorf("LookupReason(%s) = %+v, %v", info.Reason, got, ok)
		}
	}
	if len(declared) > 0 {
		t.Errorf("no explanation of %v", declared)
	}
}

package cli_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/latamctl/latamctl/"

// levels gives each package its level: a package may import lower levels only. A package and its
// own subpackages count as one.
var levels = map[string]int{
	"pkg/strictyaml": -1,

	"examples":      0,
	"stacks":        0,
	"monitors":      0,
	"release":       0, // It has tests only.
	"pkg/plan":      0,
	"pkg/dataset":   0,
	"pkg/telemetry": 0,
	"pkg/estimate":  0,
	"pkg/config":    0,
	"pkg/proc":      0,
	"pkg/schema":    0,

	"pkg/bus":       1,
	"pkg/payload":   1,
	"pkg/store":     1,
	"pkg/warehouse": 1,
	"pkg/web":       1,
	"pkg/engine":    1,
	"pkg/bucket":    1,
	// Only tests import it.
	"pkg/testkit": 1,

	"pkg/bench":       2,
	"pkg/deploy":      2,
	"pkg/monitor":     2,
	"pkg/stack":       2,
	"pkg/verify":      2,
	"services/ingest": 2,
	"services/query":  2,

	// It exists under the build tag fault only.
	"pkg/fault": 3,

	"pkg/cli":      4,
	"cmd/latamctl": 5,
}

// owners says which package alone may import a vendor's library, and what the others use instead.
var owners = []struct{ library, owner, instead string }{
	{"cloud.google.com/go/pubsub/v2", "pkg/bus", "pkg/bus"},
	{"cloud.google.com/go/bigtable", "pkg/store", "pkg/store"},
	{"google.golang.org/api/bigquery/v2", "pkg/warehouse", "pkg/warehouse"},
	{"google.golang.org/api/storage/v1", "pkg/bucket", "pkg/bucket"},
	{"google.golang.org/api/serviceusage/v1", "pkg/stack", "state.CheckCloud"},
	{"google.golang.org/api/cloudresourcemanager/v1", "pkg/stack", "state.CheckCloud"},
	{"github.com/hashicorp/terraform-exec/tfexec", "pkg/stack", "pkg/stack/terraform"},
	{"github.com/hashicorp/terraform-json", "pkg/stack", "pkg/stack"},
	{"github.com/hashicorp/hc-install/releases", "pkg/stack", "terraform.Install"},
	{"github.com/hashicorp/hcl/v2/hclparse", "pkg/stack", "pkg/stack/contract"},
	{"k8s.io/client-go/dynamic", "pkg/deploy", "pkg/deploy"},
	{"k8s.io/client-go/rest", "pkg/deploy", "pkg/deploy"},
	{module + "pkg/deploy/deploytest", "", "it in tests only"},
	{module + "pkg/deploy/clustertest", "", "it in tests only"},
	{"sigs.k8s.io/kustomize/api/krusty", "pkg/deploy", "deploy.Render"},
	{"github.com/DataDog/datadog-api-client-go/v2/api/datadog", "pkg/monitor", "pkg/monitor/datadog"},
	{"github.com/DataDog/datadog-api-client-go/v2/api/datadogV1", "pkg/monitor", "pkg/monitor/datadog"},
	{"github.com/spf13/viper", "pkg/config", "pkg/config"},
	{"github.com/spf13/cobra", "pkg/cli", "a function that pkg/cli calls"},
	{"github.com/cockroachdb/pebble/v2", "pkg/engine", "pkg/engine"},
	{"github.com/goccy/go-yaml", "pkg/strictyaml", "pkg/strictyaml"},
	{"github.com/prometheus/client_golang/prometheus", "pkg/telemetry", "pkg/telemetry"},
	{"github.com/go-jose/go-jose/v4", "pkg/web", "pkg/web/auth"},
	{"github.com/twmb/avro", "pkg/schema", "pkg/schema"},
	{"github.com/bufbuild/protocompile", "pkg/schema", "pkg/schema"},
	{module + "pkg/testkit", "pkg/testkit", "it in tests only"},
	{"github.com/getkin/kin-openapi/openapi3", "pkg/monitor", "services/query/openapi, and it in tests only"},
	{module + "pkg/monitor/monitortest", "", "it in tests only"},
	{"github.com/santhosh-tekuri/jsonschema/v6", "services/query", "services/query/openapi/openapitest in tests"},
	{module + "services/query/openapi/openapitest", "", "it in tests only"},
}

type listed struct {
	ImportPath string
	Imports    []string
}

func TestImportLevels(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-tags", "fault", "-json=ImportPath,Imports", module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; seen++ {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		checkImports(t, p)
	}
	if seen < len(levels) {
		t.Errorf("go list named %d packages, the table has %d", seen, len(levels))
	}
}

// TestNoFaultsInTheProgram proves that what breaks ingest on purpose is in no program but the one that
// is built for it.
func TestNoFaultsInTheProgram(t *testing.T) {
	t.Parallel()
	for tags, want := range map[string]bool{"": false, "fault": true} {
		out, err := exec.Command("go", "list", "-tags", tags, "-deps", module+"cmd/latamctl").Output()
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		if got := slices.Contains(strings.Fields(string(out)), module+"pkg/fault"); got != want {
			t.Errorf("built with the tags %q the program contains pkg/fault: %v, want %v", tags, got, want)
		}
	}
}

func checkImports(t *testing.T, p listed) {
	from, level, ok := place(p.ImportPath)
	if !ok {
		t.Errorf("%s is in no level: add it to the table on purpose", p.ImportPath)
		return
	}
	for _, imported := range p.Imports {
		if to, toLevel, ok := place(imported); ok && to != from && toLevel >= level {
			t.Errorf("%s (level %d) may not import %s (level %d): declare an interface and let pkg/cli wire it", from, level, to, toLevel)
		}
		for _, o := range owners {
			if imported == o.library && from != o.owner {
				t.Errorf("%s may not import %s: use %s", from, imported, o.instead)
			}
		}
	}
}

// place returns the table's entry that a package belongs to.
func place(importPath string) (name string, level int, ok bool) {
	path, mine := strings.CutPrefix(importPath, module)
	if !mine {
		return "", 0, false
	}
	for name, level := range levels {
		if path == name || strings.HasPrefix(path, name+"/") {
			return name, level, true
		}
	}
	return path, 0, false
}

package stacks_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/latamctl/latamctl/examples"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/stack/contract"
	"github.com/latamctl/latamctl/services/query/openapi"
	"github.com/latamctl/latamctl/stacks"
)

// flights is the built-in example as an environment with every optional setting on.
var flights = sync.OnceValues(func() (*contract.Environment, error) {
	declaration, err := dataset.Load("latam.yaml", examples.Declaration)
	if err != nil {
		return nil, err
	}
	s := contract.DefaultSettings()
	s.Project, s.BackendHost, s.DNSZone, s.APIConsumers = "latam-prod", "backend.latam.example.com", "latam", []string{"airports"}
	s.GithubRepository, s.GithubRepositoryID, s.GithubOwnerID = "latam/data", "4242", "77"
	s.BillingAccount, s.BudgetAmount, s.BudgetEmails = "000000-AAAAAA-BBBBBB", 750.5, []string{"data@example.com"}
	s.DatadogIntegrationEmail = "ddgci-0123@datadog-gci-sts.iam.gserviceaccount.com"
	document, err := openapi.Build(openapi.Options{Declaration: declaration, Target: openapi.Gateway, ServerURL: "https://" + s.BackendHost})
	if err != nil {
		return nil, err
	}
	text, err := document.YAML()
	if err != nil {
		return nil, err
	}
	set, err := contract.Load(stacks.FS(), nil)
	if err != nil {
		return nil, err
	}
	e := &contract.Environment{
		Name: "prod", Declaration: declaration, Settings: s.Defaults(), Stacks: set,
		GatewayDocument: string(text), StateBucket: "latam-prod-latam-tfstate",
	}
	return e, e.Validate()
})

// outputs are what stacks take from others, as the cloud would give it.
var outputs = map[string]any{"cluster.endpoint": "gke-0123.us-central1.gke.goog", "cluster.ca": ""}

// writeValues writes the values of a stack's variables, with changes, and returns the file.
func writeValues(t *testing.T, stack, dir string, changes map[string]any) string {
	t.Helper()
	e, err := flights()
	if err != nil {
		t.Fatal(err)
	}
	s, err := e.Stacks.Lookup(stack)
	if err != nil {
		t.Fatal(err)
	}
	if why := e.Off(s); why != "" {
		t.Fatalf("stack %s is off where everything is on: %s", stack, why)
	}
	values, err := e.Values(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range s.Inputs {
		if in.From == "" {
			continue
		}
		value, ok := outputs[in.From]
		if !ok {
			t.Fatalf("stack %s takes %s: say in outputs what that is", stack, in.From)
		}
		values[in.Name] = value
	}
	maps.Copy(values, changes)
	data, err := json.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "values.tfvars.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

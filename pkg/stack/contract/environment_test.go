package contract_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/examples"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/stack"
	"github.com/latamctl/latamctl/pkg/stack/contract"
)

var update = flag.Bool("update", false, "write the golden files and what is generated in stacks")

func declaration(t testing.TB, src string) *dataset.Declaration {
	t.Helper()
	d, err := dataset.Load("", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// example is the environment prod of the built-in example.
func example(t testing.TB) *contract.Environment {
	t.Helper()
	s := goodSettings()
	s.BackendHost, s.BillingAccount, s.BudgetAmount = "backend.latam.example.com", "01ABCD-234567-89EF01", 500
	return &contract.Environment{
		Name: "prod", Declaration: declaration(t, string(examples.Declaration)), Settings: s,
		GatewayDocument: "openapi: 3.0.4\n", StateBucket: "my-project-latam-tfstate",
	}
}

var _ stack.Inputs = (*contract.Environment)(nil)

func TestStateLocation(t *testing.T) {
	t.Parallel()
	e := example(t)
	for setting, want := range map[string]string{"": "gs://my-project-latam-tfstate", "gs://ours": "gs://ours", "./state": "./state"} {
		e.Settings.State = setting
		if got := e.StateLocation(); got != want {
			t.Errorf("%q: %s, want %s", setting, got, want)
		}
	}
}

// everything is a stack with the whole catalogue.
func everything() *contract.Stack {
	s := &contract.Stack{Name: "everything"}
	for _, v := range contract.Catalogue() {
		s.Inputs = append(s.Inputs, contract.Input{Name: v.Name, Type: v.Type, Description: v.Description, Sensitive: v.Sensitive})
	}
	slices.SortFunc(s.Inputs, func(a, b contract.Input) int { return strings.Compare(a.Name, b.Name) })
	return s
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; look at it with go test -update\ngot\n%s", path, got)
	}
}

func TestValuesOfTheExample(t *testing.T) {
	t.Parallel()
	values, err := example(t).Values(everything())
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(values, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(got, []byte("null")) {
		t.Error("a value is null, which no variable takes")
	}
	golden(t, "flights.values.json", append(got, '\n'))
}

func TestValues(t *testing.T) {
	t.Parallel()
	e := example(t)
	set := load(t, contracts(map[string]string{"network": networkContract, "cluster": clusterContract}), nil)
	values, err := e.Values(set.Get("cluster"))
	if err != nil {
		t.Fatal(err)
	}
	if len(values) != 2 || values["project"] != "my-project" {
		t.Errorf("the values are %v: outputs of others are none of them", values)
	}
	e.Settings.Project = "x"
	_, err = e.Values(set.Get("cluster"))
	var setting *contract.SettingError
	if !errors.As(err, &setting) || setting.Key != "project" || !strings.Contains(err.Error(), "stack cluster") {
		t.Errorf("got %v", err)
	}
	_, err = example(t).Values(&contract.Stack{Name: "odd", Inputs: []contract.Input{{Name: "odd"}}})
	if err == nil || !strings.Contains(err.Error(), "the catalogue has no variable odd") {
		t.Errorf("got %v", err)
	}
}

func TestOff(t *testing.T) {
	t.Parallel()
	e := example(t)
	e.Stacks = load(t, contracts(map[string]string{
		"apps":    "description: x\nrequires: [backend_host, api_consumers]\n",
		"gateway": "description: x\nneeds: [apps]\n",
		"budget":  "description: x\nrequires: [billing_account, budget_amount, deletion_protection]\n",
	}), nil)
	for name, want := range map[string]string{
		"apps":    "set api_consumers in environments.prod of latam.yaml",
		"gateway": "it needs apps, which is off: set api_consumers in environments.prod of latam.yaml",
		"budget":  "",
	} {
		if got := e.Off(e.Stacks.Get(name)); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	e.Settings.APIConsumers, e.Settings.BackendHost = []string{"web"}, ""
	if got := e.Off(e.Stacks.Get("apps")); !strings.HasPrefix(got, "set backend_host in") {
		t.Errorf("apps: %q", got)
	}
	e.Stacks = nil
	if got := e.Off(&contract.Stack{Needs: []string{"apps"}}); got != "" {
		t.Errorf("without the set: %q", got)
	}
}

const oneDataset = "version: 1\nname: NAME\ndatasets:\n  DATASET:\n    topic: TOPIC\n    fields: {code: {type: string, required: true}}\n    key: [code]\n"

func TestNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, dataset, topic, want string }{
		{"latam", "flights", "flights", ""},
		{"abcd", "flights", "flights", ""},
		{"a-name-of-22-characters", "flights", "flights", "setting name: the service account a-name-of-22-characters-gateway has 31 characters, at most 30 are allowed; shorten \"name\" in latam.yaml"},
		{"a-name-of-21-character", "flights", "flights", ""},
		{"abc", "flights", "flights", "setting name: the Bigtable cluster abc-b has 5 characters, at least 6 are needed; lengthen \"name\" in latam.yaml"},
		{"latam", "flights", strings.Repeat("t", 230), ""},
		{"latam", "flights", strings.Repeat("t", 240), "setting datasets: dataset flights: the subscription ttt"},
	} {
		e := example(t)
		e.Declaration = declaration(t, strings.NewReplacer("NAME", c.name, "DATASET", c.dataset, "TOPIC", c.topic).Replace(oneDataset))
		err := e.Validate()
		if c.want == "" && err != nil || !strings.Contains(errText(err), c.want) {
			t.Errorf("%s, %.20s: got %v, want %s", c.name, c.topic, err, c.want)
		}
	}
	e := example(t)
	e.StateBucket = strings.Repeat("b", 64)
	if err := e.Validate(); err == nil || !strings.Contains(err.Error(), "has 64 characters, at most 63") {
		t.Errorf("got %v", err)
	}
	e = example(t)
	e.Settings.APIConsumers = []string{strings.Repeat("c", 51)}
	if err := e.Validate(); err == nil || !strings.Contains(err.Error(), "setting api_consumers: ccc") || !strings.Contains(err.Error(), "has 51 characters, at most 50 are allowed beside the name latam") {
		t.Errorf("got %v", err)
	}
	e = example(t)
	e.Name = "Prod"
	if err := e.Validate(); err == nil || !strings.Contains(err.Error(), `setting env: the name of an environment may have`) {
		t.Errorf("got %v", err)
	}
	if got := example(t).Email("latam-ingest"); got != "latam-ingest@my-project.iam.gserviceaccount.com" {
		t.Errorf("the e-mail is %s", got)
	}
}

func TestBigtableInstance(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"latam": "latam-bigtable", "latam2": "latam2", "abc": "abc-bigtable"} {
		if got := contract.BigtableInstance(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	e := example(t)
	e.Settings.Instance = "another"
	if got := e.Names().BigtableInstance; got != "another" {
		t.Errorf("the setting gives %s", got)
	}
}

func TestDatasetsClash(t *testing.T) {
	t.Parallel()
	const fields = "{topic: TOPIC, fields: {code: {type: string, required: true}}, key: [code]}\n"
	for _, c := range []struct{ a, topicA, b, topicB, want string }{
		{"a-b", "one", "a_b", "two", "the BigQuery table a_b of dataset a_b is also one of dataset a-b; rename one of them in latam.yaml"},
		{"a", "one", "a_latest", "two", "the BigQuery table a_latest of dataset a_latest is also one of dataset a"},
		{"a_live", "one", "a", "two", "the BigQuery table a_live of dataset a is also one of dataset a_live"},
		{"a", "one", "b", "one-bigquery-dead", "the topic one-bigquery-dead of dataset b is also one of dataset a; rename one of their topics in latam.yaml"},
		{"a", "one", "b", "one-bigquery", "the subscription one-bigquery-dead-inspect of dataset b is also one of dataset a"},
		{"a", "one", "b", "two", ""},
	} {
		e := example(t)
		e.Declaration = declaration(t, "version: 1\nname: latam\ndatasets:\n  "+c.a+": "+strings.Replace(fields, "TOPIC", c.topicA, 1)+
			"  "+c.b+": "+strings.Replace(fields, "TOPIC", c.topicB, 1))
		err := e.Validate()
		if c.want == "" && err != nil || !strings.Contains(errText(err), c.want) {
			t.Errorf("%s and %s: got %v, want %s", c.a, c.b, err, c.want)
		}
	}
}

func TestSplitKeys(t *testing.T) {
	t.Parallel()
	for field, want := range map[string]string{
		`{type: string, required: true, pattern: "^[A-Z]{3}$"}`:    "G N T",
		`{type: string, required: true, pattern: "^[0-9a-f]+$"}`:   "4 8 c",
		`{type: string, required: true, pattern: "^[a-d]x"}`:       "b c d",
		`{type: string, required: true, pattern: "^[a-c]x"}`:       "",
		`{type: string, required: true, pattern: "[A-Z]{3}"}`:      "",
		`{type: string, required: true, pattern: "^[A-Z]{3}$|^x"}`: "",
		`{type: string, required: true, pattern: "^[A-Z]{0,3}x"}`:  "",
		`{type: string, required: true, pattern: "^[A-Z]?x"}`:      "",
		`{type: string, required: true, pattern: "^[^a]x"}`:        "",
		`{type: string, required: true}`:                           "",
		`{type: int64, required: true}`:                            "",
	} {
		e := example(t)
		e.Declaration = declaration(t, "version: 1\nname: latam\ndatasets: {d-s: {fields: {code: "+field+"}, key: [code]}}\n")
		values, err := e.Values(everything())
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(values["datasets"])
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]struct {
			SplitKeys []string `json:"split_keys"`
			View      string   `json:"bigquery_view"`
			Table     string   `json:"bigquery_table"`
		}
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if keys := strings.Join(got["d-s"].SplitKeys, " "); keys != want {
			t.Errorf("%s: %q, want %q", field, keys, want)
		}
		if got["d-s"].View != "d-s_latest" || got["d-s"].Table != "d_s" {
			t.Errorf("the view is %s, the table %s", got["d-s"].View, got["d-s"].Table)
		}
	}
}

package contract_test

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/pkg/stack/contract"
	"github.com/latamctl/latamctl/pkg/strictyaml"
)

// contracts makes a folder of stacks from name → contract.
func contracts(byName map[string]string) fstest.MapFS {
	out := fstest.MapFS{}
	for name, text := range byName {
		out[name+"/contract.yaml"] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}

const networkContract = `description: VPC
inputs: [region, project]
outputs:
  network_id: {type: string, description: Id of the VPC}
  secret:     {type: "map(string)", description: Keys, sensitive: true}
protected: [google_compute_network]
keep: true
`

const clusterContract = `description: GKE
needs: []
inputs: [project, datasets]
from:
  vpc: network.network_id
  keys: network.secret
requires: [backend_host]
`

func load(t *testing.T, builtin, own fs.FS) *contract.Set {
	t.Helper()
	set, err := contract.Load(builtin, own)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestLoad(t *testing.T) {
	t.Parallel()
	set := load(t, contracts(map[string]string{"network": networkContract, "cluster": clusterContract}), nil)
	if got := strings.Join(set.Names(), " "); got != "network cluster" {
		t.Fatalf("the order is %s", got)
	}
	network, cluster := set.Stacks[0], set.Stacks[1]
	for _, c := range []struct{ what, got, want any }{
		{"needs", cluster.Needs, []string{"network"}},
		{"provides", network.Provides, []contract.Output{
			{Name: "network_id", Type: "string", Description: "Id of the VPC"},
			{Name: "secret", Type: "map(string)", Description: "Keys", Sensitive: true},
		}},
		{"inputs", cluster.Inputs[1:], []contract.Input{
			{Name: "keys", Type: "map(string)", From: "network.secret", Sensitive: true, Description: "Keys"},
			{Name: "project", Type: "string", Description: "Id of the Google Cloud project"},
			{Name: "vpc", Type: "string", From: "network.network_id", Description: "Id of the VPC"},
		}},
		{"protected", network.Protected, []string{"google_compute_network"}},
		{"keep", network.Keep, true},
		{"requires", cluster.Requires, []string{"backend_host"}},
		{"own", network.Own, false},
	} {
		if diff := cmp.Diff(c.want, c.got); diff != "" {
			t.Errorf("%s: %s", c.what, diff)
		}
	}
	if stack, output := cluster.Inputs[1].Source(); stack != "network" || output != "secret" {
		t.Errorf("the source is %s, %s", stack, output)
	}
}

func TestLoadOwn(t *testing.T) {
	t.Parallel()
	builtin := contracts(map[string]string{"network": networkContract, "cluster": clusterContract})
	own := contracts(map[string]string{
		"network": strings.Replace(networkContract, "VPC", "our VPC", 1),
		"extra":   "description: more\nneeds: [cluster]\n",
		".hidden": "nonsense",
	})
	own["modules/topic/main.tf"] = &fstest.MapFile{Data: []byte("")}
	own["README.md"] = &fstest.MapFile{Data: []byte("")}
	set := load(t, builtin, own)
	if got := strings.Join(set.Names(), " "); got != "network cluster extra" {
		t.Errorf("the order is %s", got)
	}
	if network := set.Get("network"); !network.Own || network.Description != "our VPC" {
		t.Errorf("network is %+v", network)
	}
	if set.Get("cluster").Own {
		t.Error("cluster is not of the user's folder")
	}
	if data, err := fs.ReadFile(set.Get("network").Files, "contract.yaml"); err != nil || !strings.Contains(string(data), "our VPC") {
		t.Errorf("the files of network are others: %v", err)
	}
}

func TestLoadFaults(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		contract string
		want     []string
	}{
		"empty":           {"", []string{"stacks/it/contract.yaml:1:1: the file is empty"}},
		"no description":  {"keep: false\n", []string{`it/contract.yaml:1:1: the key "description" is missing`}},
		"two lines":       {"description: |\n  a\n  b\n", []string{"1:14: description has more than one line"}},
		"unknown key":     {"description: x\nneed: [network]\n", []string{`2:1: unknown key "need"; did you mean "needs"?`}},
		"unknown need":    {"description: x\nneeds: [netwrok]\n", []string{`2:9: there is no stack "netwrok"; did you mean "network"?`}},
		"need twice":      {"description: x\nneeds: [network, network]\n", []string{`2:18: needs: "network" stands twice`}},
		"needs itself":    {"description: x\nneeds: [it]\n", []string{"2:9: needs: stack it needs itself"}},
		"unknown input":   {"description: x\ninputs:\n  - regoin\n", []string{`3:5: inputs: the catalogue has no variable "regoin"; did you mean "region"?`}},
		"input twice":     {"description: x\ninputs: [region, region]\n", []string{`2:18: inputs: "region" stands twice`}},
		"input and from":  {"description: x\ninputs: [region]\nfrom: {region: network.network_id}\n", []string{"3:8: from: region is among the inputs as well"}},
		"from no dot":     {"description: x\nfrom: {a: network}\n", []string{"2:11: from: a must name an output, got the text \"network\"; write stack.output"}},
		"from no stack":   {"description: x\nfrom: {a: netwrk.id}\n", []string{`2:11: there is no stack "netwrk"; did you mean "network"?`}},
		"from no output":  {"description: x\nfrom: {a: network.networkid}\n", []string{`2:11: from: stack network has no output "networkid"; did you mean "network_id"?`}},
		"from its own":    {"description: x\nfrom: {a: it.b}\n", []string{"2:11: from: a reads an output of its own stack"}},
		"from wrong type": {"description: x\nfrom: {node_min: network.network_id}\n", []string{"2:18: from: the variable node_min has the type number, the output network.network_id has string"}},
		"from bad name":   {"description: x\nfrom: {A-b: network.network_id}\n", []string{`2:8: from: "A-b" is no name of a variable`}},
		"from a list":     {"description: x\nfrom: [network.id]\n", []string{"2:7: from must be a map"}},
		"output type":     {"description: x\noutputs: {a: {type: strin, description: x}}\n", []string{`2:21: type in output a: "strin" is no type of Terraform`}},
		"output bare":     {"description: x\noutputs: {a: string}\n", []string{"2:14: expected a map in output a, got the text \"string\"; its keys are type, description, sensitive"}},
		"output twice":    {"description: x\noutputs:\n  a: {type: string, description: x}\n  a: {type: string, description: x}\n", []string{`4:3: duplicate key "a"`}},
		"output name":     {"description: x\noutputs: {A: {type: string, description: x}}\n", []string{`2:11: outputs: "A" is no name of an output`}},
		"no output text":  {"description: x\noutputs: {a: {type: string}}\n", []string{`2:11: the key "description" is missing in output a`}},
		"protected":       {"description: x\nprotected: [Bigtable]\n", []string{`2:13: protected: "Bigtable" is no resource type`}},
		"keep":            {"description: x\nkeep: sometimes\n", []string{`2:7: keep must be true or false`}},
		"requires":        {"description: x\nrequires: [billing_acount]\n", []string{`2:12: requires: there is no setting "billing_acount"; did you mean "billing_account"?`}},
		"several":         {"description: x\nkeep: 1\nneeds: [a]\n", []string{"2:7: keep must", "3:9: there is no stack"}},
		"huge type":       {"description: x\noutputs: {a: {type: \"" + strings.Repeat("list(", 2000) + "\", description: x}}\n", []string{"the type has 10000 bytes, at most 4096 are read"}},
	} {
		_, err := contract.Load(contracts(map[string]string{"network": networkContract, "it": c.contract}), nil)
		var problems *strictyaml.Problems
		if !errors.As(err, &problems) {
			t.Errorf("%s: got %v", name, err)
			continue
		}
		if len(problems.List) != len(c.want) {
			t.Errorf("%s: %d faults, want %d:\n%v", name, len(problems.List), len(c.want), err)
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got\n%v\nwant\n%s", name, err, want)
			}
		}
	}
}

func TestLoadCycle(t *testing.T) {
	t.Parallel()
	_, err := contract.Load(contracts(map[string]string{
		"a": "description: a\nneeds: [z, c]\n", "b": "description: b\nneeds:\n  - a\n", "c": "description: c\nneeds: [b]\n",
		"z": "description: z\n", "after": "description: x\nneeds: [c]\n",
	}), nil)
	want := "stacks/a/contract.yaml:2:12: the stacks need each other: a → c → b → a; remove one of these needs"
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestLoadNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"kubernetes", "Net", "a_b", "1a", "a-", strings.Repeat("a", 31)} {
		if _, err := contract.Load(contracts(map[string]string{name: "description: x\n"}), nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	load(t, contracts(map[string]string{strings.Repeat("a", 30): "description: x\n", "a": "description: x\n"}), nil)
	if set := load(t, nil, nil); len(set.Stacks) != 0 {
		t.Error("there are stacks without a folder")
	}
}

func TestLoadUnreadable(t *testing.T) {
	t.Parallel()
	if _, err := contract.Load(brokenFS{contracts(map[string]string{"a": networkContract})}, nil); err == nil || !strings.Contains(err.Error(), "contract of stack a: ") {
		t.Errorf("got %v", err)
	}
}

// brokenFS cannot open contracts.
type brokenFS struct{ fstest.MapFS }

func (b brokenFS) Open(name string) (fs.File, error) {
	if strings.HasSuffix(name, contract.File) {
		return nil, fs.ErrPermission
	}
	return b.MapFS.Open(name)
}

func (b brokenFS) ReadFile(name string) ([]byte, error) {
	if strings.HasSuffix(name, contract.File) {
		return nil, fs.ErrPermission
	}
	return b.MapFS.ReadFile(name)
}

func FuzzLoad(f *testing.F) {
	f.Add(networkContract)
	f.Add(clusterContract)
	f.Add("description: x\noutputs: {a: {type: \"object({a=optional(string)})\", description: x}}\n")
	f.Add("description: &a x\nneeds: [*a, it]\nfrom: {a: it.a, b: network.b.c}\n")
	f.Fuzz(func(t *testing.T, src string) {
		files := contracts(map[string]string{"network": networkContract, "it": src})
		set, err := contract.Load(files, nil)
		if err != nil {
			var problems *strictyaml.Problems
			if !errors.As(err, &problems) {
				t.Fatalf("%q gives another error: %v", src, err)
			}
			return
		}
		if len(set.Stacks) != 2 {
			t.Fatalf("%q gives %d stacks", src, len(set.Stacks))
		}
		// What a contract makes fits that contract.
		it := set.Get("it")
		files["it/variables.tf"] = &fstest.MapFile{Data: contract.VariablesTF(it)}
		again := load(t, files, nil).Get("it")
		if err := contract.CheckStack(again); err != nil && len(it.Provides) == 0 && len(it.Protected) == 0 {
			t.Fatalf("%q: %v\n%s", src, err, contract.VariablesTF(it))
		}
	})
}

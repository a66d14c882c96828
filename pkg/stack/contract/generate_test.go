package contract_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/latamctl/latamctl/pkg/stack/contract"
	"github.com/latamctl/latamctl/pkg/testkit/tfmirror"
	"github.com/latamctl/latamctl/stacks"
)

func TestVariablesTF(t *testing.T) {
	t.Parallel()
	s := everything()
	s.Inputs = append(s.Inputs, contract.Input{Name: "secret", Type: "string", From: "a.b", Sensitive: true, Description: `A "key" of ${b}` + "\t"})
	got := contract.VariablesTF(s)
	golden(t, "variables.tf.golden", got)
	terraform, err := exec.LookPath("terraform")
	if err != nil {
		t.Skip("terraform is not on PATH: its own format is not compared")
	}
	cmd := exec.Command(terraform, "fmt", "-")
	cmd.Stdin = bytes.NewReader(got)
	formatted, err := cmd.Output()
	if err != nil || !bytes.Equal(formatted, got) {
		t.Errorf("terraform fmt makes of it, %v:\n%s", err, formatted)
	}
}

func TestReadme(t *testing.T) {
	t.Parallel()
	set := load(t, contracts(map[string]string{"network": networkContract, "cluster": clusterContract}), nil)
	cluster := set.Get("cluster")
	golden(t, "cluster.readme.golden", []byte(contract.ReadmeTables(cluster)+"\n"+contract.ReadmeTables(set.Get("network"))))
	tables := "<!-- contract -->\n" + contract.ReadmeTables(cluster) + "<!-- /contract -->"
	for _, c := range []struct{ current, want string }{
		{"# cluster\n\n<!-- contract -->\nold\n<!-- /contract -->\n\nAnd more.\n", "# cluster\n\n" + tables + "\n\nAnd more.\n"},
		{"# cluster\n", "# cluster\n\n" + tables + "\n"},
		{"", tables + "\n"},
	} {
		got, err := contract.Readme(cluster, []byte(c.current))
		if err != nil || string(got) != c.want {
			t.Errorf("%q gives %v\n%s\nwant\n%s", c.current, err, got, c.want)
		}
		if again, err := contract.Readme(cluster, got); err != nil || !bytes.Equal(again, got) {
			t.Errorf("a second time it is another, %v:\n%s", err, again)
		}
	}
}

func TestGraph(t *testing.T) {
	t.Parallel()
	set := load(t, contracts(map[string]string{"network": networkContract, "cluster": clusterContract, "end": "description: x\nneeds: [cluster]\n"}), nil)
	const dot = `digraph stacks {
  rankdir=LR;
  node [shape=box];
  "network";
  "cluster";
  "end";
  "network" -> "cluster" [label="secret, network_id"];
  "cluster" -> "end";
}
`
	const mermaid = `graph LR
  s_network["network"]
  s_cluster["cluster"]
  s_end["end"]
  s_network -->|secret, network_id| s_cluster
  s_cluster --> s_end
`
	if got := set.DOT(); got != dot {
		t.Errorf("got\n%s\nwant\n%s", got, dot)
	}
	if got := set.Mermaid(); got != mermaid {
		t.Errorf("got\n%s\nwant\n%s", got, mermaid)
	}
	text, err := set.GraphJSON()
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Schema string
		Stacks []struct {
			Name            string
			Keep            bool
			Needs, Requires []string
		}
		Edges []struct {
			From, To string
			Outputs  []string
		}
	}
	if err := json.Unmarshal(text, &doc); err != nil || doc.Schema != "latamctl.stacks.graph/v1" || len(doc.Stacks) != 3 || len(doc.Edges) != 2 {
		t.Fatalf("got %v\n%s", err, text)
	}
	if doc.Stacks[0].Name != "network" || !doc.Stacks[0].Keep || doc.Stacks[0].Needs == nil || doc.Stacks[1].Requires[0] != "backend_host" ||
		doc.Edges[0].From != "network" || doc.Edges[0].To != "cluster" || strings.Join(doc.Edges[0].Outputs, " ") != "secret network_id" {
		t.Errorf("got %s", text)
	}
}

// TestBuiltinStacks holds every built-in stack to its contract, with what is generated from it. With
// -update it writes that.
func TestBuiltinStacks(t *testing.T) {
	t.Parallel()
	files := stacks.FS()
	if *update {
		files = os.DirFS("../../../stacks")
	}
	set := load(t, files, nil)
	if len(set.Stacks) == 0 {
		t.Skip("there are no built-in stacks to hold to their contracts")
	}
	for _, s := range set.Stacks {
		stale, err := contract.Stale(s)
		if err != nil {
			t.Error(err)
		}
		for _, f := range stale {
			if !*update {
				t.Errorf("stacks/%s is not what contract.yaml makes; run go test ./pkg/stack/contract -update", f.Path)
			} else if err := os.WriteFile(filepath.Join("../../../stacks", f.Path), f.Data, 0o644); err != nil {
				t.Error(err)
			}
		}
	}
	if *update {
		set = load(t, os.DirFS("../../../stacks"), nil)
	}
	if err := contract.Check(set); err != nil {
		t.Error(err)
	}
	e := example(t)
	e.Stacks = set
	for _, s := range set.Stacks {
		if _, err := e.Values(s); err != nil {
			t.Error(err)
		}
		if reason := e.Off(s); reason != "" {
			t.Errorf("stack %s is off in an environment with everything: %s", s.Name, reason)
		}
	}
}

// written puts files of New into a folder for Load.
func written(files []contract.NewFile) fstest.MapFS {
	out := fstest.MapFS{}
	for _, f := range files {
		out[f.Path] = &fstest.MapFile{Data: f.Data}
	}
	return out
}

func TestNew(t *testing.T) {
	t.Parallel()
	builtin := contracts(map[string]string{"network": networkContract, "cluster": clusterContract})
	set := load(t, builtin, nil)
	files, err := set.New("extra", contract.NewOptions{After: []string{"network", "cluster", "network"}, Description: `Our "extra": things`, Keep: true})
	if err != nil {
		t.Fatal(err)
	}
	both := load(t, builtin, written(files))
	extra := both.Get("extra")
	if extra == nil || !extra.Own || !extra.Keep || extra.Description != `Our "extra": things` || strings.Join(extra.Needs, " ") != "cluster network" {
		t.Fatalf("it is %+v", extra)
	}
	if err := contract.CheckStack(extra); err != nil {
		t.Error(err)
	}
	if stale, err := contract.Stale(extra); err != nil || len(stale) != 0 {
		t.Errorf("stale are %v, %v", stale, err)
	}
	if _, err := example(t).Values(extra); err != nil {
		t.Error(err)
	}
	var paths []string
	for _, f := range files {
		paths = append(paths, f.Path)
	}
	want := "extra/contract.yaml extra/versions.tf extra/main.tf extra/outputs.tf extra/variables.tf extra/README.md extra/tests/extra.tftest.hcl"
	if got := strings.Join(paths, " "); got != want {
		t.Errorf("the files are %s", got)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	set := load(t, contracts(map[string]string{"network": networkContract}), nil)
	for _, c := range []struct {
		name string
		o    contract.NewOptions
		want string
	}{
		{"network", contract.NewOptions{}, "make stack network: it exists already"},
		{"extra", contract.NewOptions{After: []string{"netwrk"}}, `make stack extra: there is no stack "netwrk"; did you mean network?`},
		{"../x", contract.NewOptions{}, "expected a name of at most 30 lower-case letters"},
		{"kubernetes", contract.NewOptions{}, "expected a name"},
		{"extra", contract.NewOptions{Description: "a\nb"}, "expected a description of one line"},
	} {
		if files, err := set.New(c.name, c.o); err == nil || files != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
	}
}

// TestNewWithTerraform lets terraform judge a new stack, offline.
func TestNewWithTerraform(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds stand-ins of the providers")
	}
	terraform, err := exec.LookPath("terraform")
	if err != nil {
		t.Skip("terraform is not on PATH")
	}
	config := tfmirror.Config(t)
	files, err := load(t, nil, nil).New("extra", contract.NewOptions{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, f := range files {
		path := filepath.Join(dir, f.Path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"fmt", "-check", "-diff", "-recursive"}, {"init", "-backend=false", "-input=false"}, {"validate"}, {"test"}} {
		cmd := exec.Command(terraform, append(args, "-no-color")...)
		cmd.Dir = filepath.Join(dir, "extra")
		cmd.Env = append(os.Environ(), "TF_CLI_CONFIG_FILE="+config, "CHECKPOINT_DISABLE=1")
		if args[0] == "fmt" {
			cmd.Args = append([]string{terraform}, args...)
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("terraform %s: %v\n%s", args[0], err, out)
		}
	}
}

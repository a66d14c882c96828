package contract_test

import (
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/latamctl/latamctl/pkg/stack/contract"
	"github.com/latamctl/latamctl/pkg/strictyaml"
)

const topicContract = `description: A topic
inputs: [project, node_min]
outputs:
  topic: {type: string, description: Id of the topic}
  key:   {type: string, sensitive: true, description: Key}
protected: [google_pubsub_topic]
`

// topicFiles is a whole stack that fits its contract.
func topicFiles() map[string]string {
	return map[string]string{
		"contract.yaml": topicContract,
		"variables.tf":  "variable \"project\" {\n  type = string\n}\n\nvariable \"node_min\" {\n  type = number\n}\n",
		"main.tf":       "terraform {\n  required_version = \">= 1.9\"\n}\n\nresource \"google_pubsub_topic\" \"this\" {\n  name = var.project\n}\n",
		"outputs.tf":    "output \"topic\" {\n  value = google_pubsub_topic.this.id\n}\n\noutput \"key\" {\n  value     = \"x\"\n  sensitive = true\n}\n",
		"README.md":     "# it\n\n<!-- contract -->\n<!-- /contract -->\n",
	}
}

func folder(stack string, files map[string]string) fstest.MapFS {
	out := fstest.MapFS{}
	for name, text := range files {
		out[stack+"/"+name] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}

func TestCheck(t *testing.T) {
	t.Parallel()
	if err := contract.Check(load(t, folder("it", topicFiles()), nil)); err != nil {
		t.Error(err)
	}
}

func TestCheckFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ file, old, new, want string }{
		{"variables.tf", `"node_min"`, `"node_mni"`, "stacks/it/variables.tf:5:10: the variable \"node_mni\" is not in the contract; did you mean \"node_min\"?\n  5 | variable \"node_mni\" {\n    |          ^"},
		{"variables.tf", `"node_min"`, `"node_mni"`, "stacks/it/contract.yaml:1:1: no variable block takes the input node_min; run `latamctl stacks check --write`"},
		{"variables.tf", "number", "string", "stacks/it/variables.tf:6:3: the variable node_min must have the type `number`, as in the contract"},
		{"variables.tf", "  type = number\n", "", "stacks/it/variables.tf:5:10: the variable node_min has no type, the contract says `number`"},
		{"variables.tf", "type = number", "type = number\n  sensitive = true", "the variable node_min must have sensitive = false"},
		{"variables.tf", "type = number", "type = numbr", "the variable node_min must have the type `number`"},
		{"outputs.tf", `"topic"`, `"topics"`, `stacks/it/outputs.tf:1:8: the output "topics" is not in the contract`},
		{"outputs.tf", `"topic"`, `"topics"`, "stacks/it/contract.yaml:1:1: no output block gives the output topic"},
		{"outputs.tf", "  sensitive = true\n", "", "stacks/it/outputs.tf:5:8: the output key must have sensitive = true, as in the contract"},
		{"outputs.tf", "sensitive = true", "sensitive = var.x", "the output key must have sensitive = true"},
		{"main.tf", "google_pubsub_topic", "google_pubsub_tpic", `stacks/it/contract.yaml:1:1: protected: the stack has no resource of type google_pubsub_topic; did you mean "google_pubsub_tpic"?`},
		{"main.tf", `required_version = ">= 1.9"`, "backend \"gcs\" {}", "stacks/it/main.tf:2:3: the block backend is written by latamctl"},
		{"main.tf", `required_version = ">= 1.9"`, "cloud {}", "stacks/it/main.tf:2:3: the block cloud is written by latamctl"},
		{"main.tf", "= var.project\n}", "= var.project\n", "stacks/it/main.tf:5:39: Unclosed configuration block: "},
		{"main.tf", "resource", "resource \"", "stacks/it/main.tf:5:"},
	} {
		files := topicFiles()
		if !strings.Contains(files[c.file], c.old) {
			t.Fatalf("%s has no %q", c.file, c.old)
		}
		files[c.file] = strings.Replace(files[c.file], c.old, c.new, 1)
		err := contract.Check(load(t, folder("it", files), nil))
		var problems *strictyaml.Problems
		if !errors.As(err, &problems) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, %q for %q: got\n%v\nwant\n%s", c.file, c.new, c.old, err, c.want)
		}
	}
}

func TestCheckWithoutFiles(t *testing.T) {
	t.Parallel()
	err := contract.Check(load(t, folder("it", map[string]string{"contract.yaml": topicContract}), nil))
	if err == nil || !strings.Contains(err.Error(), "stacks/it/contract.yaml:1:1: stack it has no .tf file") {
		t.Errorf("got %v", err)
	}
	files := topicFiles()
	files["big.tf"] = strings.Repeat("# 3456789\n", 110_000)
	if err := contract.Check(load(t, folder("it", files), nil)); err == nil || !strings.Contains(err.Error(), "stacks/it/big.tf:1:1: the file has 1100000 bytes") {
		t.Errorf("got %v", err)
	}
}

// TestCheckHostile gives the parser what makes it recurse. None of it may end the program, or take long.
func TestCheckHostile(t *testing.T) {
	t.Parallel()
	for _, part := range []string{"(", "[", "{", "list(", "\"${", "{a=", "[for a in ", "-", "!", "- ", "a ? ", "a ? b : ", "object({a=", "a.", "a[", "\"%{if a}",
		"<<A\n${", "f(a,", "%{", "{for a in b: ", "{\n", "a = [\n", "a + ", "a == ", "(!", "a[0]", "\"x\" "} {
		hostile := strings.Repeat(part, 100_000/len(part))
		files := topicFiles()
		files["x.tf"] = "locals {\n a = " + hostile
		start := time.Now()
		err := contract.Check(load(t, folder("it", files), nil))
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%q took %v", part, took)
		}
		var problems *strictyaml.Problems
		if !errors.As(err, &problems) || len(err.Error()) > 100_000 {
			t.Errorf("%q gives %.200v", part, err)
		}
		_, err = contract.Load(contracts(map[string]string{"it": "description: x\noutputs: {a: {type: " + strconv.Quote(strings.Repeat(part, 4000/len(part))) + ", description: x}}\n"}), nil)
		if err == nil {
			t.Errorf("%q is a type", part)
		}
	}
	files := topicFiles()
	files["x.tf"] = "locals {\n  a = " + strings.Repeat("[", 201) + "\n"
	if err := contract.Check(load(t, folder("it", files), nil)); err == nil || !strings.Contains(err.Error(), "stacks/it/x.tf:2:206: the values are nested too deeply: at most 200 levels are read") {
		t.Errorf("got %v", err)
	}
}

func TestCheckNamesEveryStack(t *testing.T) {
	t.Parallel()
	files := topicFiles()
	delete(files, "outputs.tf")
	all := folder("one", files)
	for name, file := range folder("two", files) {
		all[name] = file
	}
	err := contract.Check(load(t, all, nil))
	for _, want := range []string{"stacks/one/contract.yaml", "stacks/two/contract.yaml"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestStale(t *testing.T) {
	t.Parallel()
	files := topicFiles()
	stale := func() map[string]string {
		out := map[string]string{}
		list, err := contract.Stale(load(t, folder("it", files), nil).Get("it"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range list {
			out[strings.TrimPrefix(f.Path, "it/")] = string(f.Data)
		}
		return out
	}
	first := stale()
	if len(first) != 2 || first["variables.tf"] == "" || first["README.md"] == "" {
		t.Fatalf("stale are %v", first)
	}
	for name, text := range first {
		files[name] = text
	}
	if again := stale(); len(again) != 0 {
		t.Errorf("after writing them, stale are %v", again)
	}
	if err := contract.Check(load(t, folder("it", files), nil)); err != nil {
		t.Error(err)
	}
	delete(files, "README.md")
	delete(files, "variables.tf")
	if got := stale(); len(got) != 1 || got["variables.tf"] == "" {
		t.Errorf("without a README and variables, stale are %v", got)
	}
	files["README.md"] = "<!-- contract -->\n"
	if _, err := contract.Stale(load(t, folder("it", files), nil).Get("it")); err == nil || !strings.Contains(err.Error(), "tables of stack it: README.md has the mark <!-- contract -->") {
		t.Errorf("got %v", err)
	}
}

func TestSourceDigest(t *testing.T) {
	t.Parallel()
	digest := func(change func(files map[string]string)) string {
		files := topicFiles()
		change(files)
		got, err := load(t, folder("it", files), nil).Get("it").SourceDigest()
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	first := digest(func(map[string]string) {})
	if !strings.HasPrefix(first, "sha256:") || len(first) != 71 {
		t.Errorf("the digest is %s", first)
	}
	for name, same := range map[string]bool{
		"main.tf": false, "more.tf": false, "modules/a/main.tf": false, "views/x.sql": false, ".terraform.lock.hcl": false, "contract.yaml": false,
		"README.md": true, "tests/it.tftest.hcl": true, "it.tftest.hcl": true, ".terraform/x": true, "kubernetes/x.yaml": true,
	} {
		got := digest(func(files map[string]string) { files[name] += "\n# more\n" })
		if (got == first) != same {
			t.Errorf("a change in %s keeps the digest: %t", name, got == first)
		}
	}
	// Moving bytes between names and files changes it.
	moved := digest(func(files map[string]string) { files["a"] = "1b2" })
	if moved == digest(func(files map[string]string) { files["a"], files["b"] = "1", "2" }) {
		t.Error("the digest does not tell where a file ends")
	}
	s := &contract.Stack{Name: "it", Files: unreadable{fstest.MapFS{"main.tf": &fstest.MapFile{}}}}
	if _, err := s.SourceDigest(); err == nil || !strings.Contains(err.Error(), "read main.tf of stack it") {
		t.Errorf("got %v", err)
	}
}

// unreadable lists files that cannot be read.
type unreadable struct{ fstest.MapFS }

func (unreadable) ReadFile(string) ([]byte, error) { return nil, fs.ErrPermission }

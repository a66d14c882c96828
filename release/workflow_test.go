package release

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/pkg/strictyaml"
)

// workflow is one file of .github/workflows.
type workflow struct {
	file  string
	text  string
	root  *strictyaml.Node
	names []string // of the jobs, in the file's order
	jobs  map[string]job
}

// job is one job of a workflow.
type job struct {
	node  *strictyaml.Node
	steps []*strictyaml.Node
}

// at walks down the keys of maps; nil when one of them is not there.
func at(n *strictyaml.Node, keys ...string) *strictyaml.Node {
	for _, key := range keys {
		if n == nil || n.Kind != strictyaml.Map {
			return nil
		}
		var next *strictyaml.Node
		for _, e := range n.Entries {
			if e.Key == key {
				next = e.Value
			}
		}
		n = next
	}
	return n
}

// text is the text of a scalar, empty when there is none.
func text(n *strictyaml.Node, keys ...string) string {
	if n = at(n, keys...); n == nil {
		return ""
	}
	s, _ := n.Value.(string)
	return s
}

// entries are those of a map, none when there is no map.
func entries(n *strictyaml.Node) []strictyaml.Entry {
	if n == nil {
		return nil
	}
	return n.Entries
}

func parseWorkflow(t testing.TB, file, src string) workflow {
	t.Helper()
	var r strictyaml.Reader
	w := workflow{file: file, text: src, root: r.Read([]byte(src), "a workflow"), jobs: map[string]job{}}
	if err := r.Err(file); err != nil {
		t.Fatal(err)
	}
	for _, e := range entries(at(w.root, "jobs")) {
		j := job{node: e.Value}
		if steps := at(e.Value, "steps"); steps != nil {
			j.steps = steps.Items
		}
		w.names = append(w.names, e.Key)
		w.jobs[e.Key] = j
	}
	return w
}

// workflows are the files as they are.
func workflows(t testing.TB) map[string]workflow {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("..", ".github", "workflows", "*"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]workflow{}
	for _, path := range paths {
		name := filepath.Base(path)
		if filepath.Ext(name) != ".yml" {
			t.Errorf("%s: the files here end in .yml", name)
		}
		all[name] = parseWorkflow(t, name, read(t, path))
	}
	return all
}

func read(t testing.TB, path string) string {
	t.Helper()
	src, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(src)
}

// triggers are the events that start a workflow.
func (w workflow) triggers() []string {
	on := at(w.root, "on")
	if on == nil {
		return nil
	}
	var names []string
	for _, e := range on.Entries {
		names = append(names, e.Key)
	}
	for _, item := range on.Items {
		names = append(names, item.Value.(string))
	}
	if on.Kind == strictyaml.Scalar {
		names = append(names, text(on))
	}
	return names
}

// scripts are the run texts of a job.
func (j job) scripts() []string {
	var all []string
	for _, s := range j.steps {
		if run := text(s, "run"); run != "" {
			all = append(all, run)
		}
	}
	return all
}

// uses tells whether a job has a step with an action.
func (j job) uses(action string) bool {
	for _, s := range j.steps {
		if strings.HasPrefix(text(s, "uses"), action+"@") {
			return true
		}
	}
	return false
}

// TestWorkflowsAreThere keeps the four of them, what starts each, and the two that others rely on.
func TestWorkflowsAreThere(t *testing.T) {
	t.Parallel()
	all := workflows(t)
	for name, want := range map[string]string{
		"check.yml": "pull_request push", "release.yml": "push", "deploy.yml": "push workflow_dispatch",
		"nightly.yml": "schedule workflow_dispatch", "environment.yml": "workflow_call",
	} {
		w, ok := all[name]
		if !ok {
			t.Errorf("%s is not there", name)
			continue
		}
		if got := strings.Join(w.triggers(), " "); got != want {
			t.Errorf("%s starts on %q, not on %q", name, got, want)
		}
	}
	if len(all) != 5 {
		t.Errorf("there are %d workflows: describe the new one in docs/release.md and here", len(all))
	}
}

// TestDeploymentOrder keeps the way of a change into an environment: each step before the next one, and
// back again when one that shows whether the system works fails.
func TestDeploymentOrder(t *testing.T) {
	t.Parallel()
	all := workflows(t)
	for _, want := range []struct {
		file, job string
		steps     []string
	}{
		{"deploy.yml", "build", []string{"make vuln", "make release"}},
		{"environment.yml", "plan", []string{"make push", "make scan", "latamctl plan --out plans/stacks", "gcloud storage cp"}},
		{"environment.yml", "apply", []string{
			"gh attestation verify", "gcloud storage cp", "latamctl up --plan plans/stacks", "latamctl deploy --image", "latamctl verify",
			"latamctl bench api", "latamctl deploy --rollback", "latamctl monitors sync --plan", "gcloud storage rm",
		}},
		{"release.yml", "build", []string{"make licenses", "make vuln", "make release", "make reproducible"}},
		{"release.yml", "publish", []string{"sha256sum --check", "make push", "cosign sign", "gh release create"}},
	} {
		rest := strings.Join(all[want.file].jobs[want.job].scripts(), "\n")
		for _, step := range want.steps {
			_, after, ok := strings.Cut(rest, step)
			if !ok {
				t.Errorf("%s: job %s has no %q after what comes before it", want.file, want.job, step)
				break
			}
			rest = after
		}
	}
	if got := text(all["deploy.yml"].jobs["prod"].node, "needs"); got != "staging" {
		t.Errorf("prod comes after %q, not after staging", got)
	}
	if got := text(all["environment.yml"].jobs["apply"].node, "environment"); got != "${{ inputs.environment }}" {
		t.Errorf("what applies runs in the GitHub environment %q, so nobody is asked to approve", got)
	}
	for _, s := range all["environment.yml"].jobs["apply"].steps {
		if run, cond := text(s, "run"), text(s, "if"); strings.Contains(run, "--rollback") && !strings.HasPrefix(cond, "failure() && ") {
			t.Errorf("the rollback runs if %q", cond)
		}
	}
}

var target = regexp.MustCompile(`(?m)^([a-z]+):`)

// TestMakeTargets follows every make in the workflows to a target that help shows.
func TestMakeTargets(t *testing.T) {
	t.Parallel()
	makefile := read(t, filepath.Join("..", "Makefile"))
	known := map[string]bool{}
	for _, m := range target.FindAllStringSubmatch(makefile, -1) {
		known[m[1]] = true
	}
	called := 0
	for name, w := range workflows(t) {
		for _, j := range w.jobs {
			for _, goal := range makeGoals(j) {
				called++
				if !known[goal] {
					t.Errorf("%s calls make %s, which is not in the Makefile", name, goal)
				}
			}
		}
	}
	if called < 15 {
		t.Errorf("only %d calls of make were found", called)
	}
}

var makeCall = regexp.MustCompile(`(?m)(?:^|[;&|]|\s)make ("\$TARGET"|[a-z]+)`)

// makeGoals are the targets that a job makes, those of its matrix included.
func makeGoals(j job) []string {
	var goals []string
	for _, script := range j.scripts() {
		for _, m := range makeCall.FindAllStringSubmatch(script, -1) {
			if m[1] != `"$TARGET"` {
				goals = append(goals, m[1])
				continue
			}
			for _, item := range at(j.node, "strategy", "matrix", "target").Items {
				goals = append(goals, item.Value.(string))
			}
		}
	}
	return goals
}

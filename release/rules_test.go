package release

import (
	"fmt"
	gover "go/version"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/pkg/strictyaml"
)

// actions are those that may run here: few, and each from somebody who would have to be trusted anyway.
var actions = []string{
	"actions/checkout", "actions/setup-go", "actions/upload-artifact", "actions/download-artifact",
	"actions/attest-build-provenance", "google-github-actions/auth", "sigstore/cosign-installer",
}

// secrets are those that exist. Google Cloud needs none, and the one of GitHub is github.token.
var secrets = []string{"DD_API_KEY", "DD_APP_KEY", "DD_READ_APP_KEY", "LATAM_API_KEY", "LATAM_API_KEY_STAGING", "LATAM_API_KEY_PROD"}

// rules are what every workflow keeps, each under its name.
var rules = []struct {
	name  string
	check func(workflow) []string
}{
	{"permissions", checkPermissions},
	{"pinned", checkPins},
	{"triggers", checkTriggers},
	{"expressions", checkExpressions},
	{"checkout", checkCheckout},
	{"limits", checkLimits},
	{"secrets", checkSecrets},
	{"forks", checkForks},
	{"plans", checkPlans},
	{"toolchain", checkToolchain},
}

// TestWorkflowRules holds the workflows to the rules.
func TestWorkflowRules(t *testing.T) {
	t.Parallel()
	pins := map[string]string{}
	for name, w := range workflows(t) {
		for _, rule := range rules {
			for _, problem := range rule.check(w) {
				t.Errorf("%s: %s: %s", name, rule.name, problem)
			}
		}
		for _, m := range usesLine.FindAllStringSubmatch(w.text, -1) {
			action, pin, _ := strings.Cut(strings.TrimSpace(m[1]), "@")
			if before, ok := pins[action]; ok && before != pin && pin != "" {
				t.Errorf("%s: %s is pinned to %s here and to %s elsewhere", name, action, pin, before)
			}
			pins[action] = pin
		}
	}
}

func checkPermissions(w workflow) (problems []string) {
	if p := at(w.root, "permissions"); p == nil || p.Kind != strictyaml.Map || len(p.Entries) > 0 {
		problems = append(problems, "the file does not begin with permissions: {}")
	}
	for _, name := range w.names {
		j := w.jobs[name]
		p := at(j.node, "permissions")
		if p == nil || p.Kind != strictyaml.Map {
			problems = append(problems, fmt.Sprintf("job %s does not list its permissions", name))
			continue
		}
		for _, e := range p.Entries {
			value := text(e.Value)
			switch needed := map[string]string{
				"pull-requests": "gh pr comment", "contents": "gh release create", "packages": "make push", "attestations": "actions/attest-build-provenance",
			}[e.Key]; {
			case value == "read", needed != "" && has(j, needed), e.Key == "id-token" && value == "write" && signsIn(j):
			default:
				problems = append(problems, fmt.Sprintf("job %s may %s %s and has no use for it", name, value, e.Key))
			}
		}
	}
	return problems
}

// has tells whether a job runs a command or an action, or calls a workflow that may.
func has(j job, what string) bool {
	return strings.HasPrefix(text(j.node, "uses"), "./") || j.uses(what) || strings.Contains(strings.Join(j.scripts(), "\n"), what)
}

// signsIn tells whether a job takes an identity: at Google Cloud, or to sign.
func signsIn(j job) bool {
	return has(j, "google-github-actions/auth") || has(j, "actions/attest-build-provenance") || has(j, "cosign sign")
}

var (
	usesLine = regexp.MustCompile(`(?m)^\s*(?:- )?uses:(.*?)(?:#(.*))?$`)
	pinned   = regexp.MustCompile(`^[0-9a-f]{40}$`)
	version  = regexp.MustCompile(`^ v\d+\.\d+\.\d+$`)
)

func checkPins(w workflow) (problems []string) {
	var seen []string
	for _, m := range usesLine.FindAllStringSubmatch(w.text, -1) {
		used := strings.TrimSpace(m[1])
		seen = append(seen, used)
		if strings.HasPrefix(used, "./") {
			continue // It is of the same commit.
		}
		action, pin, _ := strings.Cut(used, "@")
		switch {
		case !slices.Contains(actions, action):
			problems = append(problems, action+" is not among the actions that may run here")
		case !pinned.MatchString(pin):
			problems = append(problems, used+" is not pinned to a commit: a tag can be moved")
		case !version.MatchString(m[2]):
			problems = append(problems, used+" has no comment like # v1.2.3 that says which version it is")
		}
	}
	for _, name := range w.names {
		for _, s := range w.jobs[name].steps {
			if used := text(s, "uses"); used != "" && !slices.Contains(seen, used) {
				problems = append(problems, "write uses: "+used+" on a line of its own")
			}
		}
		if at(w.jobs[name].node, "container") != nil || at(w.jobs[name].node, "services") != nil {
			problems = append(problems, "job "+name+" runs in an image, which these rules do not pin")
		}
	}
	return problems
}

func checkTriggers(w workflow) (problems []string) {
	allowed := []string{"pull_request", "push", "schedule", "workflow_dispatch", "workflow_call"}
	if len(w.triggers()) == 0 {
		problems = append(problems, "nothing starts it")
	}
	for _, event := range w.triggers() {
		if !slices.Contains(allowed, event) {
			problems = append(problems, event+" runs with rights that somebody outside can start")
		}
	}
	return problems
}

// checkExpressions keeps what others wrote out of the shell: GitHub puts the value of an expression
// into the script as text before the shell reads it.
func checkExpressions(w workflow) (problems []string) {
	if text(w.root, "defaults", "run", "shell") != "bash" {
		problems = append(problems, "defaults.run.shell is not bash, so that a failure before a | is lost")
	}
	for _, name := range w.names {
		for _, s := range w.jobs[name].steps {
			if run := text(s, "run"); strings.Contains(run, "${{") {
				problems = append(problems, fmt.Sprintf("job %s has an expression in run: pass it by env: %s", name, run))
			}
			if at(s, "shell") != nil {
				problems = append(problems, fmt.Sprintf("job %s chooses another shell", name))
			}
		}
	}
	return problems
}

func checkCheckout(w workflow) (problems []string) {
	for _, name := range w.names {
		for _, s := range w.jobs[name].steps {
			if !strings.HasPrefix(text(s, "uses"), "actions/checkout@") {
				continue
			}
			if keep := at(s, "with", "persist-credentials"); keep == nil || keep.Value != false {
				problems = append(problems, fmt.Sprintf("job %s leaves the token in .git/config: persist-credentials: false", name))
			}
			if at(s, "with", "ref") != nil || at(s, "with", "repository") != nil {
				problems = append(problems, fmt.Sprintf("job %s checks out something else than what started it", name))
			}
		}
	}
	return problems
}

func checkLimits(w workflow) (problems []string) {
	if at(w.root, "concurrency") == nil && !slices.Equal(w.triggers(), []string{"workflow_call"}) {
		problems = append(problems, "there is no concurrency group")
	}
	for _, name := range w.names {
		j := w.jobs[name]
		if at(j.node, "uses") != nil {
			continue // Its limits are those of the workflow that it calls.
		}
		if at(j.node, "timeout-minutes") == nil {
			problems = append(problems, "job "+name+" has no timeout-minutes")
		}
		if runner := text(j.node, "runs-on"); runner != "ubuntu-24.04" {
			problems = append(problems, fmt.Sprintf("job %s runs on %q, which is not ubuntu-24.04", name, runner))
		}
	}
	return problems
}

var secretUse = regexp.MustCompile(`secrets(?:\.([A-Za-z0-9_]+)|\b)`)

// checkSecrets allows the secrets that exist, in the env of one step or for a workflow that is called.
func checkSecrets(w workflow) (problems []string) {
	for _, key := range []string{"credentials_json", "service_account_key", "GOOGLE_CREDENTIALS"} {
		if strings.Contains(w.text, key) {
			problems = append(problems, key+": sign in by workload identity, without a key")
		}
	}
	for _, line := range strings.Split(w.text, "\n") {
		_, expression, ok := strings.Cut(line, "${{")
		if !ok {
			continue
		}
		for _, m := range secretUse.FindAllStringSubmatch(expression, -1) {
			if !slices.Contains(secrets, m[1]) {
				problems = append(problems, "a secret that is not among those that exist: "+strings.TrimSpace(line))
			}
		}
	}
	for _, name := range w.names {
		j := w.jobs[name]
		if text(j.node, "secrets") == "inherit" {
			problems = append(problems, "job "+name+" hands on every secret")
		}
		for _, n := range []*strictyaml.Node{at(w.root, "env"), at(j.node, "env")} {
			for _, e := range entries(n) {
				if strings.Contains(text(e.Value), "secrets") || strings.Contains(text(e.Value), "github.token") {
					problems = append(problems, fmt.Sprintf("job %s gives %s to every step: give it to the one that needs it", name, e.Key))
				}
			}
		}
	}
	return problems
}

// checkForks keeps identities, secrets and writing away from the code of pull requests.
func checkForks(w workflow) (problems []string) {
	if !slices.Contains(w.triggers(), "pull_request") {
		return nil
	}
	if strings.Contains(w.text, "APPLY_SERVICE_ACCOUNT") {
		problems = append(problems, "a pull request signs in as the identity that applies")
	}
	for _, name := range w.names {
		j := w.jobs[name]
		trusted := strings.Contains(text(j.node, "if"), "github.event.pull_request.head.repo.full_name == github.repository")
		if (text(j.node, "permissions", "id-token") != "" || strings.Contains(nodeText(j.node), "secrets.")) && !trusted {
			problems = append(problems, fmt.Sprintf("job %s has an identity or a secret, and does not ask whether a fork runs it", name))
		}
		for _, e := range entries(at(j.node, "permissions")) {
			if text(e.Value) == "write" && e.Key != "id-token" && (j.uses("actions/checkout") || strings.Contains(strings.Join(j.scripts(), "\n"), "bin/")) {
				problems = append(problems, fmt.Sprintf("job %s runs the code of a pull request and may write %s", name, e.Key))
			}
		}
	}
	return problems
}

// nodeText is every text below a node.
func nodeText(n *strictyaml.Node) string {
	all := text(n)
	for _, e := range n.Entries {
		all += "\n" + nodeText(e.Value)
	}
	for _, item := range n.Items {
		all += "\n" + nodeText(item)
	}
	return all
}

// checkPlans keeps plan files, which hold secrets, out of artifacts, which every reader of a public
// repository can download.
func checkPlans(w workflow) (problems []string) {
	for _, name := range w.names {
		for _, s := range w.jobs[name].steps {
			if !strings.HasPrefix(text(s, "uses"), "actions/upload-artifact@") {
				continue
			}
			for _, path := range strings.Fields(text(s, "with", "path")) {
				if path == "." || strings.HasPrefix(path, "plans") || strings.HasPrefix(path, ".latamctl") || strings.Contains(path, "*") {
					problems = append(problems, fmt.Sprintf("job %s uploads %s, where plans with their secrets can be", name, path))
				}
			}
		}
	}
	return problems
}

// checkToolchain has all workflows build with the Go of .go-version, and what is shipped without a cache,
// which jobs of other branches could have filled.
func checkToolchain(w workflow) (problems []string) {
	shipped := !slices.Contains(w.triggers(), "pull_request") && !slices.Contains(w.triggers(), "schedule")
	for _, name := range w.names {
		for _, s := range w.jobs[name].steps {
			if !strings.HasPrefix(text(s, "uses"), "actions/setup-go@") {
				continue
			}
			if text(s, "with", "go-version-file") != ".go-version" || at(s, "with", "go-version") != nil {
				problems = append(problems, "job "+name+" does not build with the Go of .go-version")
			}
			if cache := at(s, "with", "cache"); shipped && (cache == nil || cache.Value != false) {
				problems = append(problems, "job "+name+" builds what is shipped from a cache")
			}
		}
	}
	return problems
}

// TestGoVersion keeps .go-version one that can build the module, with the patches of its release line: the
// version in go.mod has none, because it says what is needed and not what is used.
func TestGoVersion(t *testing.T) {
	t.Parallel()
	used := strings.TrimSpace(read(t, filepath.Join("..", ".go-version")))
	needed := regexp.MustCompile(`(?m)^go (\S+)$`).FindStringSubmatch(read(t, filepath.Join("..", "go.mod")))
	if needed == nil || !gover.IsValid("go"+used) || gover.Compare("go"+used, "go"+needed[1]) < 0 {
		t.Errorf(".go-version is %q, go.mod needs %q", used, needed)
	}
}

// checkout is the step as it should be.
const checkout = "actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2"

// good keeps all rules; the tests below break them one by one.
const good = `on: {pull_request: {}}
permissions: {}
concurrency: x
defaults: {run: {shell: bash}}
jobs:
  a:
    runs-on: ubuntu-24.04
    timeout-minutes: 5
    permissions: {contents: read}
    steps:
      - uses: ` + checkout + `
        with: {persist-credentials: false}
      - run: make test
`

// TestRulesGoRed breaks each rule in each way that it knows, and expects that rule alone to say so.
func TestRulesGoRed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ rule, old, new, want string }{
		{"permissions", "permissions: {}\n", "", "does not begin with"},
		{"permissions", "permissions: {}\n", "permissions: read-all\n", "does not begin with"},
		{"permissions", "permissions: {}\n", "permissions: {contents: read}\n", "does not begin with"},
		{"permissions", "    permissions: {contents: read}\n", "", "does not list"},
		{"permissions", "    permissions: {contents: read}\n", "    permissions: write-all\n", "does not list"},
		{"permissions", "{contents: read}", "{contents: write}", "may write contents"},
		{"permissions", "{contents: read}", "{contents: read, actions: write}", "may write actions"},
		{"pinned", "de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2", "v6", "not pinned"},
		{"pinned", "de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2", "de0fac2e4500 # v6.0.2", "not pinned"},
		{"pinned", " # v6.0.2", "", "no comment"},
		{"pinned", "- run: make test", "- uses: tj-actions/changed-files@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2", "not among the actions"},
		{"pinned", "    steps:", "    container: alpine\n    steps:", "runs in an image"},
		{"pinned", "- run: make test", "- {name: x, uses: tj-actions/changed-files@v1}", "on a line of its own"},
		{"triggers", "{pull_request: {}}", "{pull_request_target: {}}", "pull_request_target"},
		{"triggers", "{pull_request: {}}", "[push, workflow_run]", "workflow_run"},
		{"triggers", "{pull_request: {}}", "issue_comment", "issue_comment"},
		{"expressions", "make test", "echo ${{ github.event.pull_request.title }}", "expression in run"},
		{"expressions", "make test", "|\n          true\n          echo ${{ github.ref_name }}", "expression in run"},
		{"expressions", "defaults: {run: {shell: bash}}\n", "", "not bash"},
		{"expressions", "- run: make test", "- {run: make test, shell: sh}", "another shell"},
		{"checkout", "        with: {persist-credentials: false}\n", "", "leaves the token"},
		{"checkout", "persist-credentials: false", "persist-credentials: true", "leaves the token"},
		{"checkout", "persist-credentials: false", "persist-credentials: false, ref: main", "something else"},
		{"limits", "concurrency: x\n", "", "no concurrency"},
		{"limits", "    timeout-minutes: 5\n", "", "no timeout"},
		{"limits", "ubuntu-24.04", "ubuntu-latest", "ubuntu-latest"},
		{"limits", "ubuntu-24.04", "[self-hosted]", "not ubuntu-24.04"},
		{"secrets", "make test", "make test\n        with: {credentials_json: x}", "without a key"},
		{"secrets", "{pull_request: {}}", "${{ secrets.AWS_KEY }}", "not among those that exist"},
		{"secrets", "{pull_request: {}}", "${{ toJSON(secrets) }}", "not among those that exist"},
		{"secrets", "    steps:", "    secrets: inherit\n    steps:", "hands on every secret"},
		{"secrets", "    steps:", "    env: {DD_API_KEY: '${{ secrets.DD_API_KEY }}'}\n    steps:", "to every step"},
		{"forks", "{contents: read}", "{contents: read, id-token: write}", "whether a fork runs it"},
		{"forks", "- run: make test", "- {run: make test, env: {DD_API_KEY: '${{ secrets.DD_API_KEY }}'}}", "whether a fork runs it"},
		{"forks", "{contents: read}", "{contents: read, pull-requests: write}", "may write pull-requests"},
		{"forks", "- run: make test", "- {run: make test, env: {A: '${{ vars.GCP_APPLY_SERVICE_ACCOUNT }}'}}", "identity that applies"},
		{"plans", "- run: make test", "- uses: actions/upload-artifact@043fb46d1a93c77aae656e7c1c64a875d1fc6a0a # v7.0.1\n        with: {path: plans/stacks}", "uploads plans/stacks"},
		{"plans", "- run: make test", "- uses: actions/upload-artifact@043fb46d1a93c77aae656e7c1c64a875d1fc6a0a # v7.0.1\n        with: {path: .}", "uploads ."},
		{"toolchain", "- run: make test", "- uses: actions/setup-go@4a3601121dd01d1626a1e23e37211e3254c1c06c # v6.4.0\n        with: {go-version-file: go.mod}", "the Go of .go-version"},
	} {
		t.Run(c.rule+"/"+c.want, func(t *testing.T) {
			t.Parallel()
			if !strings.Contains(good, c.old) {
				t.Fatalf("the example has no %q", c.old)
			}
			w := parseWorkflow(t, "bad.yml", strings.Replace(good, c.old, c.new, 1))
			var problems []string
			for _, rule := range rules {
				if rule.name == c.rule {
					problems = rule.check(w)
				}
			}
			if !slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, c.want) }) {
				t.Errorf("%s says %q, nothing with %q", c.rule, problems, c.want)
			}
		})
	}
	cached := strings.Replace(strings.Replace(good, "pull_request", "push", 1), "- run: make test",
		"- uses: actions/setup-go@4a3601121dd01d1626a1e23e37211e3254c1c06c # v6.4.0\n        with: {go-version-file: .go-version}", 1)
	if problems := checkToolchain(parseWorkflow(t, "cached.yml", cached)); len(problems) != 1 || !strings.Contains(problems[0], "from a cache") {
		t.Errorf("toolchain: %q for a build that is shipped from a cache", problems)
	}
	for _, rule := range rules {
		if problems := rule.check(parseWorkflow(t, "good.yml", good)); len(problems) > 0 {
			t.Errorf("%s: %q, although all is well", rule.name, problems)
		}
	}
}

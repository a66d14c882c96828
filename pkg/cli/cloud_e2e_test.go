package cli_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/pkg/deploy/deploytest"
	"github.com/latamctl/latamctl/pkg/testkit/tfmirror"
)

// cloud is an environment on a Google Cloud that is a folder: terraform is real, its providers have
// the real schemas, and each resource that exists is a file.
type cloud struct {
	t     *testing.T
	begun time.Time
	dir   string
	world string
	env   []string
	kube  *deploytest.Server
}

// mirror is the configuration of terraform that has the stand-ins of the providers.
func mirror(t *testing.T) string {
	t.Helper()
	if os.Getenv("LATAM_CLOUD") == "" {
		t.Skip("minutes of real terraform: make cloud runs it")
	}
	return tfmirror.Config(t)
}

const platformDeclaration = `
version: 1
name: latam
datasets:
  flights:
    description: Departures and their delay
    fields:
      origin:         {type: string, required: true, pattern: "^[A-Z]{3}$", description: IATA code}
      departed_at:    {type: timestamp, required: true}
      destination:    {type: string, required: true, pattern: "^[A-Z]{3}$"}
      delay_minutes:  {type: int64}
      distance_miles: {type: int64, minimum: 0}
    key: [origin, departed_at, destination]
    time: departed_at
    indexes: {by_destination: [destination, departed_at]}
    retention: 400d
    api: {auth: api_key, quota_per_minute: 600}
%s
environments:
  prod:
    engine: gcp
    project: my-project
    region: us-central1
    state: ./state
    backend_host: backend.latam.example.com
    dns_zone: latam
    api_consumers: [mobile, partner]
    image: us-central1-docker.pkg.dev/my-project/latam/latamctl@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
    github_repository: latamctl/latamctl
    github_repository_id: "123456"
    github_owner_id: "654321"
    billing_account: 012345-6789AB-CDEF01
    budget_amount: 500
    budget_emails: [team@example.com]
    datadog_integration_email: datadog@datadog-gci-sts.iam.gserviceaccount.com
`

const weatherDataset = `
  weather:
    description: Hourly observations
    fields:
      station:     {type: string, required: true}
      observed_at: {type: timestamp, required: true}
      celsius:     {type: float64}
    key: [station, observed_at]
    time: observed_at
`

// newCloud is an empty project with a declaration of the flights.
func newCloud(t *testing.T) *cloud {
	t.Helper()
	rc := mirror(t)
	c := &cloud{t: t, dir: t.TempDir(), kube: deploytest.New(), begun: time.Now()}
	t.Cleanup(c.kube.Close)
	c.world = filepath.Join(c.dir, "world")
	c.declare("")
	c.env = []string{
		"TF_CLI_CONFIG_FILE=" + rc, "STUB_WORLD=" + c.world,
		"LATAM_KUBECONFIG=" + c.kubeconfig(), "NO_COLOR=1", "GITHUB_STEP_SUMMARY=", "LATAM_TERRAFORM_ENV=STUB_WORLD,STUB_FAIL,STUB_DELAY",
	}
	return c
}

// declare writes latam.yaml with further datasets.
func (c *cloud) declare(more string) {
	c.t.Helper()
	writeFile(c.t, c.dir, "latam.yaml", fmt.Sprintf(platformDeclaration, more))
}

func (c *cloud) kubeconfig() string {
	c.t.Helper()
	config := map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "test",
		"clusters": []any{map[string]any{"name": "test", "cluster": map[string]any{"server": c.kube.Endpoint, "certificate-authority-data": c.kube.CA}}},
		"users":    []any{map[string]any{"name": "test", "user": map[string]any{"token": deploytest.Token}}},
		"contexts": []any{map[string]any{"name": "test", "context": map[string]any{"cluster": "test", "user": "test"}}},
	}
	b, err := json.Marshal(config)
	if err != nil {
		c.t.Fatal(err)
	}
	writeFile(c.t, c.dir, "kubeconfig.json", string(b))
	return filepath.Join(c.dir, "kubeconfig.json")
}

// result is how a command ended.
type result struct {
	code           int
	stdout, stderr string
}

// run runs latamctl --env prod with the arguments to its end.
func (c *cloud) run(args ...string) result { c.t.Helper(); return c.runWith(nil, args...) }

func (c *cloud) runWith(env []string, args ...string) result {
	c.t.Helper()
	cmd := c.command(env, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	begun := time.Now()
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		c.t.Fatal(err)
	}
	c.t.Logf("%5.1fs +%5.1fs %s: exit %d", begun.Sub(c.begun).Seconds(), time.Since(begun).Seconds(), strings.Join(args, " "), cmd.ProcessState.ExitCode())
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

func (c *cloud) command(env []string, args ...string) *exec.Cmd {
	c.t.Helper()
	return command(c.t.Context(), c.t, c.dir, slices.Concat(c.env, env), append([]string{"--env", "prod"}, args...)...)
}

// want fails the test when a command ended with another exit code.
func (c *cloud) want(code int, r result, what string) result {
	c.t.Helper()
	if r.code != code {
		c.t.Fatalf("%s: exit %d, want %d\nstdout:\n%s\nstderr:\n%s", what, r.code, code, tail(r.stdout), tail(r.stderr))
	}
	return r
}

// existing is what exists in the world: type and id of each resource, in order.
func (c *cloud) existing() []string {
	c.t.Helper()
	files, err := filepath.Glob(filepath.Join(c.world, "*", "*.json"))
	if err != nil {
		c.t.Fatal(err)
	}
	var all []string
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			c.t.Fatal(err)
		}
		var e struct{ Type, ID string }
		if err := json.Unmarshal(b, &e); err != nil {
			c.t.Fatal(err)
		}
		all = append(all, e.Type+" "+e.ID)
	}
	slices.Sort(all)
	return all
}

// managed is what the states hold: stack/address of each resource, in order.
func (c *cloud) managed() []string {
	c.t.Helper()
	files, err := filepath.Glob(filepath.Join(c.dir, "state", "prod", "*", "default.tfstate"))
	if err != nil {
		c.t.Fatal(err)
	}
	var all []string
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			c.t.Fatal(err)
		}
		var s struct {
			Resources []struct {
				Mode, Type, Name string
				Instances        []struct {
					IndexKey any `json:"index_key"`
				}
			}
		}
		if err := json.Unmarshal(b, &s); err != nil {
			c.t.Fatal(err)
		}
		for _, r := range s.Resources {
			for _, i := range r.Instances {
				key := ""
				if i.IndexKey != nil {
					b, _ := json.Marshal(i.IndexKey)
					key = "[" + string(b) + "]"
				}
				if r.Mode == "managed" {
					all = append(all, filepath.Base(filepath.Dir(f))+"/"+r.Type+"."+r.Name+key)
				}
			}
		}
	}
	slices.Sort(all)
	return all
}

// changes are the changes of a plan in JSON: action stack/address.
func changes(t *testing.T, doc string) []string {
	t.Helper()
	var p struct {
		Sections []struct {
			Name    string
			Changes []struct{ Address, Action string }
		}
	}
	if err := json.Unmarshal([]byte(doc), &p); err != nil {
		t.Fatalf("%v: %s", err, tail(doc))
	}
	all := []string{}
	for _, s := range p.Sections {
		for _, ch := range s.Changes {
			all = append(all, ch.Action+" "+s.Name+"/"+ch.Address)
		}
	}
	slices.Sort(all)
	return all
}

// golden compares lines with a file of testdata.
func golden(t *testing.T, file string, got []string) {
	t.Helper()
	path := filepath.Join("testdata", "cloud", file)
	text := strings.Join(got, "\n") + "\n"
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(text, "\n")); diff != "" {
		t.Errorf("%s differs (-update writes it):\n%s", file, diff)
	}
}

// TestCloudFromNothing takes an empty project to the whole system and back: what a team goes
// through with it, in that order.
func TestCloudFromNothing(t *testing.T) {
	t.Parallel()
	c := newCloud(t)

	// An empty project can be planned in full, and planning leaves nothing behind.
	first := c.want(3, c.run("plan", "-o", "json"), "plan of an empty project")
	fresh := changes(t, first.stdout)
	golden(t, "fresh.golden", fresh)
	if got := c.existing(); len(got) > 0 {
		t.Fatalf("a plan created %v", got)
	}

	c.want(8, c.run("up", "--no-input"), "up without an answer")
	c.want(0, c.run("up", "--yes"), "up")
	golden(t, "managed.golden", c.managed())
	if world, states := len(c.existing()), len(c.managed()); world == 0 || states == 0 {
		t.Fatalf("%d resources exist, %d are in states", world, states)
	}

	c.unchanged("after up")
	c.addAndRemoveADataset()
	c.driftIsFound()
	c.outputsAreMasked()
	c.comesDown()
}

func (c *cloud) unchanged(when string) {
	t := c.t
	t.Helper()
	before := c.existing()
	if r := c.want(0, c.run("plan", "-o", "json"), "plan "+when); len(changes(t, r.stdout)) > 0 {
		t.Errorf("%s something is left to change: %v", when, changes(t, r.stdout))
	}
	c.want(0, c.run("up", "--no-input"), "up "+when)
	r := c.want(0, c.runWith([]string{"STUB_FAIL=any"}, "plan", "--changed"), "plan --changed "+when)
	if !strings.Contains(r.stdout, "unchanged") {
		t.Errorf("plan --changed %s says:\n%s", when, r.stdout)
	}
	if diff := cmp.Diff(before, c.existing()); diff != "" {
		t.Errorf("%s:\n%s", when, diff)
	}
}

func (c *cloud) addAndRemoveADataset() {
	t := c.t
	t.Helper()
	c.declare(weatherDataset)
	r := c.want(3, c.run("plan", "-o", "json"), "plan with one more dataset")
	golden(t, "dataset-added.golden", changes(t, r.stdout))
	c.want(0, c.run("up", "--yes"), "up with one more dataset")

	c.declare("")
	before := c.existing()
	refused := c.want(8, c.run("up", "--yes"), "up with a dataset less")
	if !strings.Contains(refused.stderr, "--allow-delete") || !strings.Contains(refused.stderr, "weather") {
		t.Errorf("the refusal does not say what it refuses and how to allow it:\n%s", refused.stderr)
	}
	if diff := cmp.Diff(before, c.existing()); diff != "" {
		t.Errorf("a refused run changed:\n%s", diff)
	}
	var allow []string
	for _, change := range changes(t, c.want(3, c.run("plan", "-o", "json"), "plan with a dataset less").stdout) {
		if action, address, _ := strings.Cut(change, " "); action == "delete" {
			allow = append(allow, "--allow-delete", address)
		}
	}
	c.want(0, c.run(append([]string{"up", "--yes"}, allow...)...), "up with a dataset less, allowed")
	for _, left := range c.existing() {
		if strings.Contains(left, "weather") {
			t.Errorf("%s is left", left)
		}
	}
	c.unchanged("after a dataset was removed")
}

// change edits or, with nil, deletes the resource of the world whose type and part of its id are given.
func (c *cloud) change(typ, id string, edit func(state map[string]any)) {
	t := c.t
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(c.world, typ, "*.json"))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var e map[string]any
		if err := json.Unmarshal(b, &e); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(e["id"].(string), id) {
			continue
		}
		if edit == nil {
			if err := os.Remove(f); err != nil {
				t.Fatal(err)
			}
			return
		}
		edit(e["state"].(map[string]any))
		if b, err = json.Marshal(e); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f, b, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("no %s %s exists", typ, id)
}

func (c *cloud) driftIsFound() {
	t := c.t
	t.Helper()
	c.want(0, c.run("drift"), "drift of an untouched environment")
	c.change("google_pubsub_subscription", "flights-ingest", func(s map[string]any) { s["ack_deadline_seconds"] = 11 })
	c.change("google_pubsub_subscription", "flights-dead-inspect", nil)
	r := c.want(3, c.run("drift"), "drift after changes by hand")
	for _, word := range []string{"messaging", `google_pubsub_subscription.ingest["flights"]`, `google_pubsub_subscription.dead_letters["flights"]`, "ack_deadline_seconds"} {
		if !strings.Contains(r.stdout, word) {
			t.Errorf("drift does not name %s:\n%s", word, r.stdout)
		}
	}
	c.want(0, c.run("up", "--yes"), "up mends it")
	c.want(0, c.run("drift"), "drift after it was mended")
}

// stubSecret is what the stand-in makes every API key.
const stubSecret = "stub-key-string"

func (c *cloud) outputsAreMasked() {
	t := c.t
	t.Helper()
	masked := c.want(0, c.run("output"), "output")
	if strings.Contains(masked.stdout, stubSecret) || !strings.Contains(masked.stdout, "gateway") {
		t.Errorf("output shows a secret, or nothing of the gateway:\n%s", masked.stdout)
	}
	revealed := c.want(0, c.run("output", "gateway", "-o", "json", "--reveal"), "output --reveal")
	if !strings.Contains(revealed.stdout, stubSecret) {
		t.Errorf("output --reveal does not show the API keys:\n%s", revealed.stdout)
	}
	// Only the states, the saved plans and what was revealed may hold it.
	err := filepath.WalkDir(filepath.Join(c.dir, ".latamctl"), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil && bytes.Contains(b, []byte(stubSecret)) {
			t.Errorf("%s holds the secret", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (c *cloud) comesDown() {
	t := c.t
	t.Helper()
	before := c.existing()
	c.want(8, c.run("down", "--no-input", "--yes"), "down without the name of the environment")
	c.want(8, c.run("down", "-s", "network", "--yes", "--confirm", "prod"), "down of what others stand on")
	c.want(8, c.run("down", "--yes", "--confirm", "prod"), "down with data in it")
	if diff := cmp.Diff(before, c.existing()); diff != "" {
		t.Errorf("a refused down changed:\n%s", diff)
	}
	planned := c.want(3, c.run("plan", "--destroy", "-o", "json"), "plan --destroy")
	args := []string{"down", "--yes", "--confirm", "prod"}
	for _, kept := range []string{"storage"} {
		args = append(args, "--include-kept", kept, "--allow-delete", kept+"/*")
	}
	for _, change := range changes(t, planned.stdout) {
		if action, address, _ := strings.Cut(change, " "); action == "delete" {
			args = append(args, "--allow-delete", address)
		}
	}
	c.want(0, c.run(args...), "down")
	for _, left := range c.managed() {
		if name, _, _ := strings.Cut(left, "/"); name != "bootstrap" {
			t.Errorf("%s is left", left)
		}
	}
}

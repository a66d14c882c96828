package cli_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// says fails the test unless a text has all the words.
func says(t *testing.T, what, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%s does not say %q:\n%s", what, word, text)
		}
	}
}

// TestCloudFailures has a service that is unavailable for a while, and a permission that is missing.
func TestCloudFailures(t *testing.T) {
	t.Parallel()
	c := newChain(t)
	c.ownStack("people", nil, googleStack+"resource \"google_service_account\" \"a\" {\n  account_id = \"someone\"\n}\noutput \"email\" {\n  value = google_service_account.a.email\n}\n",
		"outputs:\n  email: {type: string, description: Its address}\n")
	c.ownStack("after", []string{"people"}, "variable \"email\" {\n  type = string\n}\nresource \"terraform_data\" \"a\" {\n  input = var.email\n}\n", "from:\n  email: people.email\n")
	failing := []string{"STUB_FAIL=google_pubsub_topic=503: Service Unavailable*2,google_service_account=403: denied"}
	all := []string{"-s", "chain,people,after", "--yes"}

	r := c.want(4, c.runWith(failing, append([]string{"up"}, all...)...), "up with failures")
	t.Logf("up with failures:\n%s%s", r.stdout, r.stderr)
	says(t, "up", r.stdout, "planned again 2 times", "waits for people", "people-apply.ndjson")
	says(t, "up", r.stderr, "chain: retrying", "google_service_account.a", "403", "latamctl doctor --env prod", "latamctl up --resume --env prod")
	if strings.Contains(r.stderr, "people: retrying") {
		t.Errorf("a permission that is missing was tried again:\n%s", r.stderr)
	}
	if made := c.existing(); len(made) != chainLinks {
		t.Errorf("%v exist, want the chain alone", made)
	}
	r = c.want(0, c.run("up", "--resume", "--yes"), "up --resume with the permission")
	if managed := c.managed(); len(managed) != chainLinks+2 {
		t.Errorf("the states hold %v", managed)
	}
	c.want(0, c.run(append([]string{"plan"}, all[:2]...)...), "the plan after it")

	// A service that does not come back is given up, with the reason.
	c.ownStack("more", nil, strings.ReplaceAll(chainOfTopics("more"), "google_pubsub_topic", "google_pubsub_schema"))
	r = c.want(1, c.runWith([]string{"STUB_FAIL=google_pubsub_schema=503: Service Unavailable"}, "up", "-s", "more", "--yes", "--retries", "1"), "up without the service")
	t.Logf("up without the service:\n%s%s", r.stdout, r.stderr)
	says(t, "up", r.stdout, "planned again once")
}

// TestTwoAtOnce starts up while another one applies: it waits as long as it was told, and never
// applies at the same time.
func TestTwoAtOnce(t *testing.T) {
	t.Parallel()
	c := newPlain(t)
	c.slowPlain()
	first := c.begin(nil, "up", "-s", "chain", "--yes")
	if !first.await(`"event":"apply_start"`, 1) {
		t.Fatalf("it was over before: %s", first.end().stderr)
	}
	patient := c.begin(nil, "up", "-s", "chain", "--yes", "--lock-timeout", "2m")
	r := c.want(9, c.run("up", "-s", "chain", "--yes", "--lock-timeout", "100ms"), "up while another applies")
	t.Logf("locked:\n%s", r.stderr)
	says(t, "the second", r.stderr, "environment prod is locked by", "latamctl up --env prod", "--lock-timeout")
	if !alive(first.cmd.Process.Pid) {
		t.Fatal("the first had ended: nothing was shown")
	}
	c.want(0, first.end(), "the first up")
	c.want(0, patient.end(), "the patient up")
	says(t, "the patient up", patient.stderr.String(), "another run holds the environment")
	if n := c.made(); n != chainLinks {
		t.Errorf("%d objects were made, want %d: both have applied", n, chainLinks)
	}
	c.nothingLost("after two at once")

	// And two that start at the same moment.
	c.ownStack("other", nil, "resource \"terraform_data\" \"a\" {}\n")
	one, two := c.begin(nil, "up", "-s", "other", "--yes"), c.begin(nil, "up", "-s", "other", "--yes")
	c.want(0, one.end(), "one")
	c.want(0, two.end(), "the other")
	if n := c.made(); n != chainLinks+1 {
		t.Errorf("%d objects were made, want %d: both have applied", n, chainLinks+1)
	}
}

// slowPlain makes every object of the plain chain take longer.
func (c *cloud) slowPlain() {
	c.t.Helper()
	path := filepath.Join(c.dir, "own", "chain", "main.tf")
	b, err := os.ReadFile(path)
	if err != nil {
		c.t.Fatal(err)
	}
	writeFile(c.t, filepath.Dir(path), "main.tf", strings.ReplaceAll(string(b), "sleep 0.1", "sleep 0.4"))
}

// made counts how often terraform began to make something, in all runs.
func (c *cloud) made() int {
	c.t.Helper()
	logs, err := filepath.Glob(filepath.Join(c.dir, ".latamctl", "runs", "*", "*-apply*.ndjson"))
	if err != nil {
		c.t.Fatal(err)
	}
	n := 0
	for _, log := range logs {
		b, err := os.ReadFile(log)
		if err != nil {
			c.t.Fatal(err)
		}
		n += strings.Count(string(b), `"type":"apply_start"`)
	}
	return n
}

// TestBundles applies a plan from before: exactly it, or nothing.
func TestBundles(t *testing.T) {
	t.Parallel()
	c := newPlain(t)
	data := "resource \"terraform_data\" \"a\" {\n  input = sha256(jsonencode(var.datasets))\n}\nvariable \"datasets\" {\n  type = any\n}\n"
	c.ownStack("declared", nil, data, "inputs:\n  - datasets\n")
	plan := func(when string) []string {
		t.Helper()
		c.want(3, c.run("plan", "-s", "declared", "--out", "bundle"), "plan --out "+when)
		return c.managed()
	}
	refused := func(when string, words ...string) {
		t.Helper()
		before := c.managed()
		r := c.want(8, c.run("up", "--plan", "bundle"), "up --plan "+when)
		t.Logf("%s: %s", when, r.stderr)
		says(t, "up --plan "+when, r.stderr, append(words, "nothing was touched", "latamctl plan --env prod --out bundle")...)
		if now := c.managed(); !slices.Equal(before, now) {
			t.Errorf("%s: it changed %v to %v", when, before, now)
		}
	}
	plan("")
	c.declare(weatherDataset)
	refused("after the declaration changed", "stack declared: what the declaration and the settings give it changed")
	c.declare("")
	c.ownStack("declared", nil, data+"resource \"terraform_data\" \"b\" {}\n", "inputs:\n  - datasets\n")
	refused("after a source changed", "stack declared: its sources changed")
	c.ownStack("declared", nil, data, "inputs:\n  - datasets\n")
	file := filepath.Join(c.dir, "bundle", "declared.tfplan")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	edited := slices.Clone(whole)
	edited[len(edited)/2] ^= 1
	writeFile(t, filepath.Dir(file), "declared.tfplan", string(edited))
	refused("after its file was edited", "stack declared: its plan file changed")
	writeFile(t, filepath.Dir(file), "declared.tfplan", string(whole))

	c.want(0, c.run("up", "--plan", "bundle"), "up --plan")
	if got := c.managed(); !slices.Equal(got, []string{"declared/terraform_data.a"}) {
		t.Errorf("it made %v", got)
	}
	refused("for the second time", "stack declared: its state was none, is ")
	r := c.run("up", "--plan", "elsewhere")
	t.Logf("without a bundle: exit %d: %s", r.code, r.stderr)
	says(t, "up --plan of a folder that is not there", r.stderr, "elsewhere", "--out")
}

// TestWithoutTerraform has no terraform on PATH.
func TestWithoutTerraform(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := &cloud{t: t, dir: dir, env: []string{"PATH=" + dir, "HOME=" + dir, "XDG_CACHE_HOME=" + dir, "LATAM_MANIFESTS=skip"}}
	c.declare("")
	for _, command := range []string{"plan", "up", "drift"} {
		r := c.want(7, c.run(command), command)
		says(t, command, r.stderr, "terraform is not installed", "latamctl doctor --install-terraform", "--terraform-bin")
	}
}

// TestNobodyReads takes away who reads: a plan ends, and an apply is carried out all the same.
func TestNobodyReads(t *testing.T) {
	t.Parallel()
	c := newPlain(t)
	plan := c.command(nil, "plan", "-s", "chain")
	out, err := plan.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := plan.Start(); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil { // As head does after its line.
		t.Fatal(err)
	}
	if _ = plan.Wait(); plan.ProcessState.ExitCode() != 3 {
		t.Errorf("plan into a closed pipe ended with %v", plan.ProcessState)
	}

	gone, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	up := c.command(nil, "up", "-s", "chain", "--yes", "--events", "-")
	up.Stdout, up.Stderr = w, w
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	if err := up.Wait(); err != nil {
		t.Errorf("up without anybody who reads: %v", err)
	}
	c.nothingLost("without anybody who reads")
	if n := len(c.existing()); n != chainLinks {
		t.Errorf("%d objects exist, want %d", n, chainLinks)
	}
	c.want(0, c.run("plan", "-s", "chain"), "the plan after it")
}

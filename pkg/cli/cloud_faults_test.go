package cli_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// chainLinks is how many objects the stack of the faults makes, one after the other.
const chainLinks = 5

// newChain is an environment with a stack of its own, chain: objects that are made one after the
// other, so that a fault can be put between any two.
func newChain(t *testing.T) *cloud {
	t.Helper()
	c := newCloud(t)
	c.ownStack("chain", nil, chainOfTopics("chain"))
	return c
}

const googleStack = `terraform {
  required_version = ">= 1.9"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 7.45"
    }
  }
}

provider "google" {
  project = "my-project"
  region  = "us-central1"
}
`

func chainOfTopics(name string) string {
	var b strings.Builder
	b.WriteString(googleStack)
	for i := range chainLinks {
		fmt.Fprintf(&b, "\nresource \"google_pubsub_topic\" \"t%d\" {\n  name = \"%s-%d\"\n", i, name, i)
		if i > 0 {
			fmt.Fprintf(&b, "  depends_on = [google_pubsub_topic.t%d]\n", i-1)
		}
		b.WriteString("}\n")
	}
	return b.String()
}

// newPlain is an environment whose stack chain needs no provider: each object is a file that a
// shell writes. It is quick, and needs nothing but terraform.
func newPlain(t *testing.T) *cloud {
	t.Helper()
	if _, err := exec.LookPath("terraform"); err != nil {
		t.Skip("terraform is not on PATH")
	}
	c := &cloud{t: t, dir: t.TempDir(), begun: time.Now()}
	c.world = filepath.Join(c.dir, "world")
	c.declare("")
	writeFile(t, c.dir, "terraformrc", "")
	c.env = []string{"TF_CLI_CONFIG_FILE=" + filepath.Join(c.dir, "terraformrc"), "LATAM_MANIFESTS=skip", "NO_COLOR=1", "GITHUB_STEP_SUMMARY="}
	var b strings.Builder
	for i := range chainLinks {
		fmt.Fprintf(&b, "resource \"terraform_data\" \"t%d\" {\n  input = \"%d\"\n", i, i)
		if i > 0 {
			fmt.Fprintf(&b, "  depends_on = [terraform_data.t%d]\n", i-1)
		}
		script := `mkdir -p '%s/terraform_data'; echo "{\"type\": \"terraform_data\", \"id\": \"$ID\"}" > "%s/terraform_data/$ID.json"; sleep 0.1`
		fmt.Fprintf(&b, "  provisioner \"local-exec\" {\n    command     = %q\n    environment = { ID = self.id }\n  }\n}\n", fmt.Sprintf(script, c.world, c.world))
	}
	c.ownStack("chain", nil, b.String())
	return c
}

// heavy keeps a test for make cloud, because there are quicker ones of its kind.
func heavy(t *testing.T) {
	t.Helper()
	if os.Getenv("LATAM_CLOUD") == "" {
		t.Skip("seconds of real terraform: make cloud runs it")
	}
}

// ownStack writes a stack of the team's own, with an extra text for its contract.
func (c *cloud) ownStack(name string, needs []string, hcl string, contract ...string) {
	c.t.Helper()
	dir := filepath.Join(c.dir, "own", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		c.t.Fatal(err)
	}
	writeFile(c.t, dir, "main.tf", hcl)
	writeFile(c.t, dir, "contract.yaml", fmt.Sprintf("description: %s of the test\nneeds: [%s]\n%s", name, strings.Join(needs, ", "), strings.Join(contract, "\n")))
	if !slices.Contains(c.env, "LATAM_STACKS_DIR=own") {
		c.env = append(c.env, "LATAM_STACKS_DIR=own")
	}
}

// going is a latamctl that goes on while the test does other things.
type going struct {
	c              *cloud
	cmd            *exec.Cmd
	stdout, stderr output
	events         string
	ended          chan struct{}
}

// begin starts latamctl with its steps in a file.
func (c *cloud) begin(env []string, args ...string) *going {
	c.t.Helper()
	g := &going{c: c, events: filepath.Join(c.t.TempDir(), "events.ndjson"), ended: make(chan struct{})}
	g.cmd = c.command(env, append(args, "--events", g.events)...)
	g.cmd.Stdout, g.cmd.Stderr = &g.stdout, &g.stderr
	if err := g.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	go func() {
		_ = g.cmd.Wait()
		close(g.ended)
	}()
	c.t.Cleanup(func() {
		_ = g.cmd.Process.Kill() // It fails for one that has ended.
		<-g.ended
	})
	return g
}

// faultPatience is how long a test waits for what must come.
const faultPatience = 2 * time.Minute

// until waits for a condition.
func (c *cloud) until(what string, ok func() bool) {
	c.t.Helper()
	for end := time.Now().Add(faultPatience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			c.t.Fatalf("%s: it does not come", what)
		}
	}
}

// await waits until the steps so far, or the messages, have a text n times. It returns false when the program ends before.
func (g *going) await(text string, n int) bool {
	g.c.t.Helper()
	seen := func() bool {
		b, err := os.ReadFile(g.events)
		return err == nil && bytes.Count(b, []byte(text)) >= n || strings.Count(g.stderr.String(), text) >= n
	}
	over := false
	g.c.until(fmt.Sprintf("%d times %q", n, text), func() bool {
		select {
		case <-g.ended:
			over = true
		default:
		}
		return over || seen()
	})
	return seen()
}

func (g *going) signal(s syscall.Signal) {
	g.c.t.Helper()
	if err := g.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		g.c.t.Fatal(err)
	}
}

// end waits for the end.
func (g *going) end() result {
	g.c.t.Helper()
	select {
	case <-g.ended:
	case <-time.After(faultPatience):
		g.c.t.Fatal("latamctl does not end")
	}
	return result{g.cmd.ProcessState.ExitCode(), g.stdout.String(), g.stderr.String()}
}

// terraforms are the programs that the records of the runs know.
func (c *cloud) terraforms() []int {
	c.t.Helper()
	paths, err := filepath.Glob(filepath.Join(c.dir, ".latamctl", "runs", "*", "run.json"))
	if err != nil {
		c.t.Fatal(err)
	}
	var all []int
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			c.t.Fatal(err)
		}
		var rec struct {
			Stacks map[string]struct{ Running *struct{ PID int } }
		}
		if err := json.Unmarshal(b, &rec); err != nil {
			c.t.Fatalf("%s: %v: %s", path, err, b)
		}
		for _, s := range rec.Stacks {
			if s.Running != nil {
				all = append(all, s.Running.PID)
			}
		}
	}
	return all
}

func alive(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !bytes.Contains(b, []byte(") Z "))
}

// settles waits until no terraform of an earlier run is left.
func (c *cloud) settles() {
	c.t.Helper()
	c.until("the end of every terraform", func() bool { return !slices.ContainsFunc(c.terraforms(), alive) })
}

// stored are the objects that a folder of states holds, as existing has those of the world.
func (c *cloud) stored() []string {
	c.t.Helper()
	files, err := filepath.Glob(filepath.Join(c.dir, "state", "prod", "*", "default.tfstate"))
	if err != nil {
		c.t.Fatal(err)
	}
	all := []string{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			c.t.Fatal(err)
		}
		all = append(all, objectsOf(c.t, b)...)
	}
	slices.Sort(all)
	return all
}

// objectsOf are the type and the id of each object in a state.
func objectsOf(t *testing.T, data []byte) []string {
	t.Helper()
	var s struct {
		Resources []struct {
			Mode, Type string
			Instances  []struct{ Attributes struct{ ID string } }
		}
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil
	}
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, r := range s.Resources {
		for _, i := range r.Instances {
			if r.Mode == "managed" {
				all = append(all, r.Type+" "+i.Attributes.ID)
			}
		}
	}
	return all
}

// nothingLost fails the test when a lock is held, or when what exists and what the states hold differ.
func (c *cloud) nothingLost(when string) {
	c.t.Helper()
	if r := c.run("unlock", "chain"); r.code != 0 || !strings.Contains(r.stdout, "is not locked") {
		c.t.Errorf("%s: the lock is not free: exit %d\n%s%s", when, r.code, r.stdout, r.stderr)
	}
	if diff := cmp.Diff(c.existing(), c.stored(), emptyIsNil); diff != "" {
		c.t.Errorf("%s: what exists (-) is not what the state holds (+):\n%s", when, diff)
	}
}

var emptyIsNil = cmp.Transformer("sorted", func(s []string) string { return strings.Join(s, "\n") })

// goesOn resumes a run and fails the test unless everything is there after it and nothing is left to do.
func (c *cloud) goesOn(when string, links int) {
	c.t.Helper()
	c.want(0, c.run("up", "--resume", "--yes"), when+": up --resume")
	c.nothingLost(when + ", resumed")
	if n := len(c.existing()); n != links {
		c.t.Errorf("%s: %d objects exist, want %d", when, n, links)
	}
	c.want(0, c.run("plan", "-s", "chain"), when+": the plan after it")
	for _, pattern := range []string{"*.tfvars.json", "*.tfplan"} {
		if left, _ := filepath.Glob(filepath.Join(c.dir, ".latamctl", "runs", "*", pattern)); len(left) > 0 {
			c.t.Errorf("%s: files with secrets are left: %v", when, left)
		}
	}
}

package cli_test

import (
	"fmt"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// TestCloudInterruptedApplies sends the signals of Ctrl-C, of a closed terminal and of a CI job that is
// cancelled, at moments from before the apply to its end.
func TestCloudInterruptedApplies(t *testing.T) {
	t.Parallel()
	mirror(t)
	cases := []struct {
		signal syscall.Signal
		at     killPoint
	}{
		{syscall.SIGINT, killPoint{`"phase":"planning"`, 1}},
		{syscall.SIGINT, killPoint{`"phase":"applying"`, 1}},
		{syscall.SIGINT, killPoint{`"event":"apply_start"`, 1}},
		{syscall.SIGTERM, killPoint{`"event":"apply_complete"`, 1}},
		{syscall.SIGINT, killPoint{`"event":"apply_start"`, 3}},
		{syscall.SIGHUP, killPoint{`"event":"apply_start"`, 4}},
		{syscall.SIGTERM, killPoint{`"event":"apply_complete"`, 4}},
		{syscall.SIGINT, killPoint{`"event":"apply_complete"`, chainLinks}},
	}
	threeAtOnce := make(chan struct{}, 3)
	for _, tt := range cases {
		t.Run(fmt.Sprintf("%v at %s %d", tt.signal, strings.Trim(tt.at.text, `"`), tt.at.n), func(t *testing.T) {
			t.Parallel()
			c := newChain(t)
			threeAtOnce <- struct{}{}
			defer func() { <-threeAtOnce }()
			c.interrupted(tt.signal, tt.at)
		})
	}
}

// interrupted sends one signal at a point of an apply of the chain, and goes on after it.
func (c *cloud) interrupted(s syscall.Signal, at killPoint) {
	t := c.t
	t.Helper()
	g := c.begin([]string{"STUB_DELAY=300ms"}, "up", "-s", "chain", "--yes")
	if !g.await(at.text, at.n) {
		t.Fatalf("it was over before: exit %d\n%s", g.end().code, g.stderr.String())
	}
	g.signal(s)
	r := g.end()
	made := len(c.existing())
	t.Logf("exit %d with %d of %d made:\n%s", r.code, made, chainLinks, r.stderr)
	if r.code != 130 && (r.code != 0 || made != chainLinks) {
		t.Errorf("exit %d with %d made, want 130", r.code, made)
	}
	// Terraform that is stopped in its last resource still halts before its outputs, so there is something to resume.
	if r.code == 130 && made == chainLinks && !strings.Contains(r.stderr, "finishing chain") {
		t.Errorf("all is made, and yet it ends with 130:\n%s", r.stderr)
	}
	c.nothingLost("after the signal")
	if at.text == `"phase":"planning"` {
		if made > 0 {
			t.Errorf("%d are made, although the signal came while it planned", made)
		}
		c.want(0, c.run("up", "-s", "chain", "--yes"), "up again")
	} else {
		if r.code == 130 && !strings.Contains(r.stderr, "latamctl up --resume --env prod") {
			t.Errorf("it does not say how to go on:\n%s", r.stderr)
		}
		c.goesOn("interrupted", chainLinks)
	}
	c.want(0, c.run("plan", "-s", "chain"), "the plan after it")
}

// TestCloudInsistedInterrupts: the second signal says what a third would lose, the third does it, and
// there is a way out of that as well.
func TestCloudInsistedInterrupts(t *testing.T) {
	t.Parallel()
	c := newChain(t)
	g := c.begin([]string{"STUB_DELAY=5s"}, "up", "-s", "chain", "--yes")
	if !g.await(`"event":"apply_start"`, 2) {
		t.Fatalf("it was over before: %s", g.end().stderr)
	}
	killed := false
	for i, text := range []string{"finishing chain", "a kill would lose these", "killing what runs"} {
		g.signal(syscall.SIGINT)
		if !g.await(text, 1) {
			break // The apply was faster.
		}
		if i == 1 && !g.await("  chain/google_pubsub_topic.t1", 1) {
			t.Error("it does not name what a kill would lose")
		}
		killed = i == 2
	}
	r := g.end()
	t.Logf("exit %d:\n%s", r.code, r.stderr)
	if !killed || r.code != 1 || strings.Contains(r.stderr, "nothing is lost") || !strings.Contains(r.stderr, "killed while it changed google_pubsub_topic.t1:") ||
		!strings.Contains(r.stderr, "latamctl unlock --env prod chain") {
		t.Errorf("it ended with %d after three interrupts:\n%s", r.code, r.stderr)
	}
	c.settles()
	shown := c.run("unlock", "chain")
	t.Logf("unlock: exit %d:\n%s%s", shown.code, shown.stdout, shown.stderr)
	c.drainLock(shown)
	c.run("plan", "-s", "chain")
	up := c.run("up", "-s", "chain", "--yes")
	t.Logf("up: exit %d:\n%s", up.code, up.stderr)
	c.want(0, up, "up after a kill")
	c.want(0, c.run("plan", "-s", "chain"), "the plan after it")
}

// drainLock removes the lock that was shown by the command that was shown with it.
func (c *cloud) drainLock(shown result) {
	c.t.Helper()
	line := regexp.MustCompile(`latamctl (unlock --env prod \S+ --id \S+)`).FindStringSubmatch(shown.stderr)
	if shown.code == 9 && line == nil {
		c.t.Fatalf("it does not say how to remove the lock:\n%s", shown.stderr)
	}
	if shown.code == 9 {
		c.want(0, c.run(strings.Fields(line[1])...), "unlock")
	}
}

package cli_test

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
)

// killPoint is a moment of an apply: a text of the steps, for the n-th time.
type killPoint struct {
	text string
	n    int
}

// killPoints are moments from the beginning of an apply to its end.
func killPoints() []killPoint {
	points := []killPoint{{`"phase":"applying"`, 1}, {`"event":"version"`, 2}} // The first version is the plan's.
	for i := range chainLinks {
		points = append(points, killPoint{`"event":"apply_start"`, i + 1}, killPoint{`"event":"apply_complete"`, i + 1})
	}
	return points
}

// killed kills latamctl, and only it, at a point of an apply of the chain. Then terraform finishes by
// itself, or the next run waits for it; nothing is lost either way.
func (c *cloud) killed(p killPoint, env []string, wait bool) {
	c.t.Helper()
	when := fmt.Sprintf("killed at %s %d", p.text, p.n)
	g := c.begin(env, "up", "-s", "chain", "--yes")
	if !g.await(p.text, p.n) {
		c.t.Errorf("%s: it was over before: exit %d\n%s", when, g.end().code, g.stderr.String())
		return
	}
	g.signal(syscall.SIGKILL)
	if r := g.end(); r.code != -1 {
		c.t.Errorf("%s: exit %d, want a kill", when, r.code)
	}
	if wait {
		c.settles()
		c.nothingLost(when)
	}
	c.goesOn(when, chainLinks)
}

// TestKilledInAnApply kills latamctl in an apply, as the kernel does that runs out of memory.
func TestKilledInAnApply(t *testing.T) {
	t.Parallel()
	for i, p := range []killPoint{{`"event":"apply_start"`, 2}, {`"event":"apply_complete"`, 2}} {
		newPlain(t).killed(p, nil, i == 0)
	}
}

// TestCloudKilledAtTwelvePoints does it at twelve points, with a provider.
func TestCloudKilledAtTwelvePoints(t *testing.T) {
	t.Parallel()
	mirror(t) // Where it skips, no point would be left.
	var survived atomic.Int32
	points := killPoints()
	t.Run("points", func(t *testing.T) {
		threeAtOnce := make(chan struct{}, 3)
		for i, p := range points {
			t.Run(fmt.Sprintf("%02d", i+1), func(t *testing.T) {
				t.Parallel()
				c := newChain(t)
				threeAtOnce <- struct{}{}
				defer func() { <-threeAtOnce }()
				c.killed(p, []string{"STUB_DELAY=300ms"}, i%2 == 0)
				if !t.Failed() {
					survived.Add(1)
				}
			})
		}
	})
	t.Logf("kill -9 of latamctl in an apply: nothing lost at %d of %d points", survived.Load(), len(points))
	if int(survived.Load()) != len(points) {
		t.Errorf("want %d of %d", len(points), len(points))
	}
}

//go:build fault

package fault

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/services/ingest"
)

// The failpoints, in the order in which a message passes them.
const (
	// BeforeDecode is hit by each message that arrives. Its error gives the message back.
	BeforeDecode = "before_decode"
	// BatchFull is hit by each batch of FullBatch rows or more, before it is written.
	BatchFull = "batch_full"
	// BeforeApply is hit by each batch before it is written. Its error, and that of BatchFull, is
	// that of a store that cannot be reached.
	BeforeApply = "before_apply"
	// AfterApply is hit once a batch is stored, before any of its messages is acknowledged. Its
	// error hides the success.
	AfterApply = "after_apply_before_ack"
	// AfterAck is hit by each message a moment after it was acknowledged, when the client has sent
	// that. It has no error.
	AfterAck = "after_ack"
	// InDrain is hit by each message that is settled once the service was told to stop. Its error
	// gives the message back.
	InDrain = "in_drain"
)

// Points lists the failpoints.
func Points() []string {
	return []string{BeforeDecode, BatchFull, BeforeApply, AfterApply, AfterAck, InDrain}
}

// FullBatch is how many rows make a batch full: programs under test get --batch-rows of it.
const FullBatch = 50

// ackFlush is how long the Pub/Sub client may keep an acknowledgement to itself, with some room.
const ackFlush = 150 * time.Millisecond

// failpoint is one armed point.
type failpoint struct {
	name, action string
	sleep        time.Duration
	hit          int64
	onwards      bool
	hits         atomic.Int64
}

func parseFailpoints(text string) ([]*failpoint, error) {
	var points []*failpoint
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		p, err := parseFailpoint(part)
		if err != nil {
			return nil, err
		}
		points = append(points, p)
	}
	return points, nil
}

func parseFailpoint(text string) (*failpoint, error) {
	name, rest, ok := strings.Cut(text, "=")
	if !ok || !slices.Contains(Points(), name) {
		return nil, fmt.Errorf("%q is not POINT=ACTION[@HIT[+]] with one of the points %v", text, Points())
	}
	p := &failpoint{name: name, hit: 1}
	action, hit, counted := strings.Cut(rest, "@")
	if counted {
		number, onwards := strings.CutSuffix(hit, "+")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q: hit %q is not a number from 1", text, hit)
		}
		p.hit, p.onwards = n, onwards
	}
	p.action = action
	if inner, ok := strings.CutPrefix(action, "sleep("); ok {
		d, err := time.ParseDuration(strings.TrimSuffix(inner, ")"))
		if err != nil || !strings.HasSuffix(inner, ")") {
			return nil, fmt.Errorf("%q: %q is not sleep(DURATION)", text, action)
		}
		p.action, p.sleep = "sleep", d
	}
	if !slices.Contains([]string{"kill", "error", "sleep"}, p.action) || p.action == "sleep" && p.sleep <= 0 {
		return nil, fmt.Errorf("%q: action %q is not kill, error or sleep(DURATION)", text, action)
	}
	return p, nil
}

// fire tells the points with that name that they were hit, and whether one answers with an error.
func fire(points []*failpoint, name string) (failed bool) {
	for _, p := range points {
		if p.name != name {
			continue
		}
		if n := p.hits.Add(1); n != p.hit && (!p.onwards || n < p.hit) {
			continue
		}
		switch p.action {
		case "kill":
			die()
		case "sleep":
			time.Sleep(p.sleep)
		case "error":
			failed = true
		}
	}
	return failed
}

// die ends the process as the kernel does when memory is short: nothing is flushed and no deferred
// call runs.
func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // The signal is on its way.
}

// source is a Source below another one, which can still be asked what waits.
type source struct{ next ingest.Source }

// Waiting implements ingest.Backlog.
func (s source) Waiting(ctx context.Context, subscription string) (bool, error) {
	if b, ok := s.next.(ingest.Backlog); ok {
		return b.Waiting(ctx, subscription)
	}
	return false, nil
}

// failingSource has the points of a message.
type failingSource struct {
	source
	points []*failpoint
}

// Receive implements ingest.Source.
func (s *failingSource) Receive(ctx context.Context, subscription string, opts bus.ReceiveOptions, handle func(context.Context, bus.Message) bool) error {
	return s.next.Receive(ctx, subscription, opts, func(message context.Context, m bus.Message) bool {
		if fire(s.points, BeforeDecode) {
			return false
		}
		ack := handle(message, m)
		if ctx.Err() != nil && fire(s.points, InDrain) {
			return false
		}
		if ack {
			time.AfterFunc(ackFlush, func() { fire(s.points, AfterAck) })
		}
		return ack
	})
}

// failingSink has the points of a batch.
type failingSink struct {
	next   ingest.Sink
	points []*failpoint
}

// Put implements ingest.Sink.
func (s *failingSink) Put(ctx context.Context, table string, rows []dataset.Row) []error {
	if len(rows) >= FullBatch && fire(s.points, BatchFull) {
		return refused(rows, BatchFull)
	}
	if fire(s.points, BeforeApply) {
		return refused(rows, BeforeApply)
	}
	errs := s.next.Put(ctx, table, rows)
	if fire(s.points, AfterApply) {
		return refused(rows, AfterApply)
	}
	return errs
}

func refused(rows []dataset.Row, point string) []error {
	return slices.Repeat([]error{fmt.Errorf("failpoint %s: %w", point, store.ErrUnavailable)}, len(rows))
}

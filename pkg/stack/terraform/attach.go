package terraform

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
)

// Alive tells whether a recorded program still runs on this machine.
func (t *Terraform) Alive(r Running) (bool, error) {
	id, err := t.proc.ProcessIdentity(r.PID)
	return err == nil && id != "" && id == r.Identity, err
}

// Wait follows a plan or apply that another latamctl started and did not see the end of, and
// returns what it came to, as Plan and Apply do. When the context ends, the program goes on.
func (t *Terraform) Wait(ctx context.Context, w Workspace, r Running, on func(Event)) (*Summary, error) {
	x := &execution{t: t, w: w, j: job{command: r.Command, on: on}, output: r.Output}
	f, err := follow(t.proc, r.Output, t.options.MaxLine, func(line []byte) {
		if e, ok := x.stream.line(line); ok && on != nil {
			on(e)
		}
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s of stack %s: its output %s is gone, so nobody knows how it ended; plan the stack again", r.Command, w.Stack, r.Output)
	}
	if err != nil {
		return nil, err
	}
	x.follower = f
	if err := x.attach(ctx, r); err != nil {
		return x.stream.summary(), errors.Join(err, f.finish())
	}
	if err := f.finish(); err != nil {
		return x.stream.summary(), err
	}
	if x.stream.finished && len(x.stream.errors()) == 0 {
		return x.stream.summary(), nil
	}
	if plain := x.stream.plain; len(plain) > 0 && strings.Contains(plain[len(plain)-1], neverBegan) {
		x.stream.interrupted = true // It stopped before it began: as harmless as an interrupt.
	}
	return x.stream.summary(), x.failure(context.WithoutCancel(ctx), nil)
}

func (x *execution) attach(ctx context.Context, r Running) error {
	tick := time.NewTicker(x.t.options.Poll)
	defer tick.Stop()
	for {
		alive, err := x.t.Alive(r)
		if err != nil || !alive {
			return err
		}
		if err := x.follower.poll(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the %s of stack %s, which goes on as process %d: %w", r.Command, x.w.Stack, r.PID, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

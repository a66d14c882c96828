package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/latamctl/latamctl/pkg/engine"
	"github.com/latamctl/latamctl/pkg/telemetry"
)

// runningStack says where a running up listens.
type runningStack struct {
	PID      int    `json:"pid"`
	API      string `json:"api"`
	Admin    string `json:"admin"`
	Pubsub   string `json:"pubsub"`
	Bigtable string `json:"bigtable"`
	Project  string `json:"project"`
	Instance string `json:"instance"`
	// Token lets the owner's own commands in. It is in the run file and nowhere else.
	Token telemetry.Secret `json:"-"`
}

// runNote is the content of the run file.
type runNote struct {
	runningStack
	Token string `json:"token,omitempty"`
}

// runFile is how the other commands find a running stack.
const runFile = "run.json"

func (a *app) writeRunFile(dir string, s runningStack) error {
	b, err := json.MarshalIndent(runNote{s, s.Token.Reveal()}, "", "  ")
	if err == nil {
		err = a.proc.WriteSecretFile(filepath.Join(dir, runFile), append(b, '\n'))
	}
	if err != nil {
		return fail(exitFailed, "choose a folder that can be written with --data-dir", fmt.Errorf("note where the stack runs: %w", err))
	}
	return nil
}

func (a *app) removeRunFile(dir string) {
	if err := a.proc.Remove(filepath.Join(dir, runFile)); err != nil {
		a.log.Warn("remove run file", "error", err)
	}
}

// findStack reads where the stack of a data folder runs.
func (a *app) findStack(dir string) (runningStack, error) {
	var note runNote
	path := filepath.Join(dir, runFile)
	b, err := a.proc.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return runningStack{}, failf(exitUnavailable, "start it with latamctl up, or point --data-dir at the folder of a running one", "no stack runs in %s", dir)
	}
	if err == nil {
		err = json.Unmarshal(b, &note)
	}
	if err != nil {
		return runningStack{}, fail(exitFailed, "remove the file and start latamctl up again", fmt.Errorf("read %s: %w", path, err))
	}
	note.runningStack.Token = telemetry.NewSecret(note.Token)
	return note.runningStack, nil
}

// clientEngine is the engine that a command of a user dials: the cloud, the emulators, or the
// running stack of the data folder. What does not listen is said at once, because Google's clients
// would try for a minute. Every command needs Pub/Sub.
func (a *app) clientEngine(ctx context.Context, dataDir string, needBigtable bool) (engine.Options, *runningStack, error) {
	kind, err := a.engineKind()
	if err != nil {
		return engine.Options{}, nil, err
	}
	if kind == engine.GCP {
		return engine.Options{Kind: kind}, nil, nil
	}
	var stack *runningStack
	opts := engine.Options{Kind: engine.Emulator}
	if kind == engine.Emulator {
		opts, err = a.serviceEngine(needBigtable)
	} else if stack, err = a.liveStack(ctx, dataDir); err == nil {
		opts.PubsubAddr, opts.BigtableAddr = stack.Pubsub, stack.Bigtable
	}
	if err != nil {
		return engine.Options{}, nil, err
	}
	needed := []string{opts.PubsubAddr}
	if needBigtable {
		needed = append(needed, opts.BigtableAddr)
	}
	for _, addr := range needed {
		if err := listening(ctx, addr); err != nil {
			return engine.Options{}, nil, fail(exitUnavailable, "start the emulator, or unset its variable to use a running latamctl up", err)
		}
	}
	return opts, stack, nil
}

// liveStack is findStack for a stack that answers; one that was killed leaves its note behind.
func (a *app) liveStack(ctx context.Context, dir string) (*runningStack, error) {
	s, err := a.findStack(dir)
	if err != nil {
		return nil, err
	}
	if err := listening(ctx, strings.TrimPrefix(s.API, "http://")); err != nil {
		return nil, failf(exitUnavailable, "start it again with latamctl up", "the stack of %s (process %d) has ended without its drain: %w", dir, s.PID, err)
	}
	return &s, nil
}

const listeningTimeout = 2 * time.Second

// listening returns nil when something accepts connections at the address.
func listening(ctx context.Context, addr string) error {
	conn, err := (&net.Dialer{Timeout: listeningTimeout}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("nothing listens on %s: %w", addr, err)
	}
	return conn.Close()
}

package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/latamctl/latamctl/pkg/engine"
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
}

// runFile is how the other commands find a running stack.
const runFile = "run.json"

func (a *app) writeRunFile(dir string, s runningStack) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err == nil {
		err = a.proc.WriteFile(filepath.Join(dir, runFile), append(b, '\n'))
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
	var s runningStack
	path := filepath.Join(dir, runFile)
	b, err := a.proc.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, failf(exitUnavailable, "start it with latamctl up, or point --data-dir at the folder of a running one", "no stack runs in %s", dir)
	}
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		return s, fail(exitFailed, "remove the file and start latamctl up again", fmt.Errorf("read %s: %w", path, err))
	}
	return s, nil
}

// clientEngine is the engine that a command of a user dials: the cloud, the emulators, or the
// running stack of the data folder.
func (a *app) clientEngine(dataDir string, needPubsub, needBigtable bool) (engine.Options, *runningStack, error) {
	kind, err := a.engineKind()
	if err != nil {
		return engine.Options{}, nil, err
	}
	if kind == engine.GCP || kind == engine.Emulator {
		opts, err := a.serviceEngine(needPubsub, needBigtable)
		return opts, nil, err
	}
	s, err := a.findStack(dataDir)
	if err != nil {
		return engine.Options{}, nil, err
	}
	return engine.Options{Kind: engine.Emulator, PubsubAddr: s.Pubsub, BigtableAddr: s.Bigtable}, &s, nil
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/latamctl/latamctl/pkg/bucket"
	"github.com/latamctl/latamctl/pkg/stack/contract"
	"github.com/latamctl/latamctl/pkg/stack/state"
	"github.com/latamctl/latamctl/services/query/openapi"
	"github.com/latamctl/latamctl/stacks"
)

// environment is one on Google Cloud: its stacks, what they derive from, and their states.
type environment struct {
	stacks   *contract.Set
	contract *contract.Environment
	bucket   bucket.Managed
	states   *state.States
}

// loadStacks reads the built-in stacks, and those of a folder when there is one.
func (a *app) loadStacks(dir string) (*contract.Set, error) {
	var own fs.FS
	if dir != "" {
		var err error
		if own, err = a.proc.FS(dir); err != nil {
			return nil, fail(exitUsage, "point --stacks-dir at the folder that holds the folders of your stacks", fmt.Errorf("read your stacks: %w", err))
		}
	}
	set, err := contract.Load(stacks.FS(), own)
	if err != nil {
		return nil, fail(exitInvalid, "latamctl stacks check proves it again", err)
	}
	return set, nil
}

// describeEnvironment checks the settings of an environment and what derives from them. It asks nothing.
func (a *app) describeEnvironment(o *driveOptions) (*environment, error) {
	set, err := a.loadStacks(o.stacksDir)
	if err != nil {
		return nil, err
	}
	e := &environment{stacks: set, contract: &contract.Environment{
		Name: a.global.env, Declaration: a.decl, Settings: o.settings.Defaults(), Stacks: set,
	}}
	if err := e.contract.Validate(); err != nil {
		return nil, fail(exitInvalid, "latamctl config show --origin --env "+a.global.env+" shows where each setting comes from", err)
	}
	if e.contract.GatewayDocument, err = a.gatewayDocument(e.contract); err != nil {
		return nil, err
	}
	if name, inCloud := strings.CutPrefix(e.location(), "gs://"); inCloud {
		e.contract.StateBucket = name
	}
	return e, nil
}

// openEnvironment is describeEnvironment, and opens the states. It starts no terraform.
func (a *app) openEnvironment(ctx context.Context, o *driveOptions) (*environment, error) {
	e, err := a.describeEnvironment(o)
	if err != nil {
		return nil, err
	}
	if e.bucket, err = bucket.Open(ctx, e.location(), bucket.Options{Proc: a.proc, Endpoint: o.storageURL}); err != nil {
		return nil, a.cloudFault(ctx, err)
	}
	e.states = state.New(e.bucket, a.global.env)
	return e, nil
}

// location is where the states of the environment are.
func (e *environment) location() string {
	return e.contract.StateLocation()
}

// bucketSettings are how the bucket of the states is made.
func (e *environment) bucketSettings() bucket.Settings {
	return bucket.Settings{
		Project: e.contract.Settings.Project, Location: e.contract.Settings.Region,
		Labels: map[string]string{"app": e.contract.Declaration.Name, "environment": e.contract.Name, "managed-by": "latamctl"},
	}
}

// gatewayDocument is the contract of the API for the gateway. Without a backend host the stacks that
// read it are off.
func (a *app) gatewayDocument(e *contract.Environment) (string, error) {
	if e.Settings.BackendHost == "" {
		return "", nil
	}
	doc, err := openapi.Build(openapi.Options{Declaration: a.decl, Target: openapi.Gateway, ServerURL: "https://" + e.Settings.BackendHost})
	var wrong *openapi.OptionError
	if errors.As(err, &wrong) {
		return "", failf(exitInvalid, wrong.Hint, "make the document of the gateway: %s: %s", wrong.Option, wrong.Detail)
	}
	if err != nil {
		return "", fmt.Errorf("make the document of the gateway: %w", err)
	}
	text, err := doc.YAML()
	if err != nil {
		return "", fmt.Errorf("make the document of the gateway: %w", err)
	}
	return string(text), nil
}

// stack finds a stack, or says which there are.
func (a *app) stack(set *contract.Set, name string) (*contract.Stack, error) {
	s, err := set.Lookup(name)
	if err != nil {
		return nil, fail(exitUsage, "latamctl stacks list says what each is", err)
	}
	return s, nil
}

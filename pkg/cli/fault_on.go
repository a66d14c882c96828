//go:build fault

package cli

import (
	sabotage "github.com/latamctl/latamctl/pkg/fault"
	"github.com/latamctl/latamctl/pkg/proc"
	"github.com/latamctl/latamctl/services/ingest"
)

// faultyDeps puts the faults between ingest and what it works with that the environment names. Only
// a program built for fault tests has any.
func (a *app) faultyDeps(deps ingest.Deps) (ingest.Deps, error) {
	faults, err := sabotage.Parse(a.proc.Env)
	if err != nil {
		return deps, fail(exitInvalid, "", err)
	}
	return faults.Wrap(deps), nil
}

// faultyClock shifts the clock of the process.
func faultyClock(p *proc.Process) error {
	now, err := sabotage.Clock(p.Now, p.Env)
	if err != nil {
		return fail(exitInvalid, "", err)
	}
	p.Now = now
	return nil
}

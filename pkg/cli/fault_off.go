//go:build !fault

package cli

import (
	"github.com/latamctl/latamctl/pkg/proc"
	"github.com/latamctl/latamctl/services/ingest"
)

// faultyDeps is where a program built for fault tests breaks ingest; this one does not.
func (*app) faultyDeps(deps ingest.Deps) (ingest.Deps, error) { return deps, nil }

// faultyClock is where it shifts the clock.
func faultyClock(*proc.Process) error { return nil }

//go:build fault

package fault_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/latamctl/latamctl/pkg/cli"
	"github.com/latamctl/latamctl/pkg/proc"
)

// The test binary is the program under test, and the engine that is killed with it, when one of these
// is set.
const (
	asProgram = "LATAMCTL_TEST_AS_PROGRAM"
	asEngine  = "LATAMCTL_TEST_AS_ENGINE"
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(asProgram) != "":
		limitFiles()
		os.Exit(cli.Main(proc.OS()))
	case os.Getenv(asEngine) != "":
		if err := runEngine(os.Getenv(asEngine)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	default:
		os.Exit(m.Run())
	}
}

//go:build fault

package fault_test

import (
	"os"
	"strconv"
	"syscall"
)

const sigterm = syscall.SIGTERM

// filesVar limits the file descriptors of a program under test.
const filesVar = "LATAMCTL_TEST_MAX_FILES"

// limitFiles applies filesVar.
func limitFiles() {
	if n, err := strconv.ParseUint(os.Getenv(filesVar), 10, 64); err == nil {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
			panic(err)
		}
	}
}

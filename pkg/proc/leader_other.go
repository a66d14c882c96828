//go:build !linux

package proc

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// detach leaves the terminal's session, because outside of Linux nothing else keeps a terminal's
// interrupt away from the child.
func detach() error {
	if _, err := syscall.Setsid(); err != nil && !errors.Is(err, syscall.EPERM) {
		return err
	}
	return nil
}

func dup(from, to int) error { return unix.Dup2(from, to) }

func processIdentity(pid int) (string, error) {
	out, err := exec.Command("ps", "-o", "stat=,lstart=", "-p", fmt.Sprint(pid)).Output() //nolint:noctx // It answers from memory.
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	state, start, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	if start == "" || strings.HasPrefix(state, "Z") {
		return "", nil
	}
	return strings.Join(strings.Fields(start), " "), nil
}

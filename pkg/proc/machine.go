package proc

import (
	"os"
	"strings"
)

// Machine names where process ids mean the same processes: this boot of this machine, and the
// container if the program runs in one. It is empty where the system does not say.
func (p *Process) Machine() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	ids, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(boot)) + " " + ids
}

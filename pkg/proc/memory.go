package proc

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"
)

// AvailableMemory is how many bytes programs can take without swapping: what the system has, or what
// is left of the limit of a container when that is less. It is 0 where the system does not say.
func (p *Process) AvailableMemory() int64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	free := meminfo(text, "MemAvailable")
	limit, used := memoryNumber("/sys/fs/cgroup/memory.max"), memoryNumber("/sys/fs/cgroup/memory.current")
	if limit > 0 && used > 0 {
		free = min(free, max(limit-used, 1))
	}
	return free
}

// meminfo reads one line of /proc/meminfo, in bytes.
func meminfo(text []byte, key string) int64 {
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		if name != key {
			continue
		}
		kilobytes, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return 0
		}
		return kilobytes << 10
	}
	return 0
}

// memoryNumber reads a file of a control group; "max", which is no limit, is 0.
func memoryNumber(path string) int64 {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

package proc

import (
	"bytes"
	"math"
	"strconv"
)

// Places of Linux that tell memory: of the machine, and of the group of processes that a container is.
const (
	machineMemory = "/proc/meminfo"
	groupLimit    = "/sys/fs/cgroup/memory.max"
	groupUse      = "/sys/fs/cgroup/memory.current"
)

// FreeMemory is how many bytes new programs can have before something is swapped out or killed, also
// in a container that may not have all of the machine. It is 0 where the system does not tell.
func (p *Process) FreeMemory() int64 {
	text, err := p.ReadFile(machineMemory)
	if err != nil {
		return 0
	}
	free := availableIn(text)
	limit, used := p.bytesIn(groupLimit), p.bytesIn(groupUse)
	if limit == 0 { // It has none, which is written as the word max.
		return free
	}
	return min(free, max(limit-used, 0))
}

// availableIn reads the line MemAvailable, which counts in kB.
func availableIn(meminfo []byte) int64 {
	_, rest, _ := bytes.Cut(meminfo, []byte("MemAvailable:"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	kb, err := strconv.ParseInt(string(bytes.TrimSpace(bytes.TrimSuffix(line, []byte("kB")))), 10, 64)
	if err != nil || kb < 0 || kb > math.MaxInt64>>10 {
		return 0
	}
	return kb << 10
}

func (p *Process) bytesIn(path string) int64 {
	text, err := p.ReadFile(path)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

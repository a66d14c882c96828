package proc_test

import (
	"os"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/pkg/proc"
)

func TestMachine(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/ns/pid"); err != nil {
		t.Skip("this system has no names for process ids")
	}
	first, second := (&proc.Process{}).Machine(), (&proc.Process{Dir: t.TempDir()}).Machine()
	if boot, ids, ok := strings.Cut(first, " "); first != second || !ok || len(boot) != 36 || !strings.HasPrefix(ids, "pid:[") {
		t.Errorf("machine %q, then %q", first, second)
	}
}

package proc

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestProcessIdentity(t *testing.T) {
	t.Parallel()
	p := OS()
	mine, err := p.ProcessIdentity(p.PID)
	if err != nil || mine == "" {
		t.Fatalf("identity of this process: %q, %v", mine, err)
	}
	if again, err := p.ProcessIdentity(p.PID); again != mine || err != nil {
		t.Errorf("it was %q and is %q, %v", mine, again, err)
	}
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	other, err := p.ProcessIdentity(cmd.Process.Pid)
	if err != nil || other == "" || other == mine {
		t.Errorf("identity of another process: %q, %v", other, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// Until Wait it is still in the table of processes, and must not count as running.
	_, _ = cmd.Process.Wait()
	if gone, err := p.ProcessIdentity(cmd.Process.Pid); gone != "" || err != nil {
		t.Errorf("a process that ended: %q, %v", gone, err)
	}
	if none, err := p.ProcessIdentity(0); none != "" || err != nil {
		t.Errorf("process 0: %q, %v", none, err)
	}
}

func TestExitStatus(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]struct {
		code   int
		signal string
	}{"exit 3": {3, ""}, "kill -9 $$": {-1, "killed"}} {
		code, signal, ok := ExitStatus(exec.Command("sh", "-c", script).Run())
		if !ok || code != want.code || signal != want.signal {
			t.Errorf("%s: %d, %q, %t", script, code, signal, ok)
		}
	}
	if _, _, ok := ExitStatus(errors.New("other")); ok {
		t.Error("an error of something else is an exit")
	}
}

func TestSecretFiles(t *testing.T) {
	t.Parallel()
	p := &Process{Dir: t.TempDir()}
	if err := p.MakeSecretDir("a/b"); err != nil {
		t.Fatal(err)
	}
	if err := p.ClaimSecretFile("a/b/f"); err != nil {
		t.Fatal(err)
	}
	if err := p.ClaimSecretFile("a/b/f"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("claimed twice: %v", err)
	}
	for path, mode := range map[string]fs.FileMode{"a": 0o700, "a/b": 0o700, "a/b/f": 0o600} {
		if info, err := os.Stat(p.Path(path)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s has mode %v, %v; want %v", path, info.Mode(), err, mode)
		}
	}
	if err := p.Rename("a/b/f", "a/g"); err != nil || !p.Exists("a/g") || p.Exists("a/b/f") {
		t.Errorf("rename: %v", err)
	}
}

func TestSubfolders(t *testing.T) {
	t.Parallel()
	p := &Process{Dir: t.TempDir()}
	for _, dir := range []string{"r/x/1", "r/x/2", "r/y", "r/.z/1"} {
		if err := p.MakeSecretDir(dir); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.WriteFile("r/y/file", nil); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(p.Dir, "r/x/1"), p.Path("r/y/link")); err != nil {
		t.Fatal(err)
	}
	got, err := p.Subfolders("r", 2)
	if want := []string{"x/1", "x/2", "y/link"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	if got, err := p.Subfolders("absent", 2); err != nil || len(got) != 0 {
		t.Errorf("below nothing: %v, %v", got, err)
	}
}

func TestUserCacheDir(t *testing.T) {
	t.Parallel()
	for want, env := range map[string]map[string]string{
		"/x/latamctl":        {"XDG_CACHE_HOME": "/x", "HOME": "/h"},
		"/h/.cache/latamctl": {"XDG_CACHE_HOME": "relative", "HOME": "/h"},
		"":                   {},
	} {
		p := &Process{Getenv: func(key string) (string, bool) { v, ok := env[key]; return v, ok }}
		if got := p.UserCacheDir(); got != want {
			t.Errorf("%v: %q, want %q", env, got, want)
		}
	}
}

func TestOutputEnv(t *testing.T) {
	t.Parallel()
	p := OS()
	out, err := p.OutputEnv(t.Context(), []string{"A=b", "PATH=" + os.Getenv("PATH")}, "sh", "-c", "echo $A; echo err >&2; env | wc -l")
	if err != nil || !strings.HasPrefix(out, "b\nerr\n") || strings.Contains(out, "HOME") {
		t.Errorf("%q, %v", out, err)
	}
}

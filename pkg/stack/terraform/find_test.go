package terraform

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/latamctl/latamctl/pkg/proc"
)

// program writes a program that answers to "version", and counts how often it was asked.
func program(t *testing.T, dir, name, answer string) (path string, asked func() int) {
	t.Helper()
	path, count := filepath.Join(dir, name), filepath.Join(t.TempDir(), "asked")
	write(t, path, fmt.Sprintf("#!/bin/sh\necho x >> %s\ncat <<'END'\n%s\nEND\n", count, answer))
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path, func() int { return lines(count) }
}

func processIn(home string) *proc.Process {
	p := proc.OS()
	p.Getenv = func(key string) (string, bool) {
		switch key {
		case "HOME":
			return home, true
		case "PATH":
			return os.Getenv("PATH"), true
		}
		return "", false
	}
	return p
}

func TestFind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, tc := range map[string]struct {
		answer, version string
		tofu            bool
		problem         string
	}{
		"terraform":   {"Terraform v1.11.4\non linux_amd64", "1.11.4", false, ""},
		"opentofu":    {"OpenTofu v1.9.1\non linux_amd64", "1.9.1", true, ""},
		"pre-release": {"Terraform v1.16.0-rc2\n", "1.16.0-rc2", false, ""},
		"next":        {"Terraform v2.0.0\n", "2.0.0", false, ""},
		"old":         {"Terraform v1.8.5\n\nYour version of Terraform is out of date!", "", false, "has version 1.8.5, want at least 1.9"},
		"something":   {"hello", "", false, `want a line such as "Terraform v1.11.4", got "hello"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, _ := program(t, dir, name, tc.answer)
			got, err := Find(t.Context(), processIn(t.TempDir()), path)
			if tc.problem != "" {
				if err == nil || !strings.Contains(err.Error(), tc.problem) || !strings.Contains(err.Error(), path) {
					t.Errorf("error %v, want %q", err, tc.problem)
				}
				return
			}
			if err != nil || got.Path != path || got.Version != tc.version || got.OpenTofu != tc.tofu || len(got.Digest) != 64 {
				t.Errorf("found %+v, %v", got, err)
			}
		})
	}
	_, err := Find(t.Context(), processIn(t.TempDir()), filepath.Join(dir, "absent"))
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "absent") {
		t.Errorf("absent: %v", err)
	}
}

func TestFindRemembers(t *testing.T) {
	t.Parallel()
	dir, p := t.TempDir(), processIn(t.TempDir())
	path, asked := program(t, dir, "terraform", "Terraform v1.11.4")
	first, err := Find(t.Context(), p, path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Find(t.Context(), p, path)
	if err != nil || again != first || asked() != 1 {
		t.Errorf("found %+v, %v; asked %d times", again, err, asked())
	}
	path, asked = program(t, dir, "terraform", "Terraform v1.12.0")
	next, err := Find(t.Context(), p, path)
	if err != nil || next.Version != "1.12.0" || next.Digest == first.Digest || asked() != 1 {
		t.Errorf("after an upgrade: %+v, %v; asked %d times", next, err, asked())
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	p := proc.OS()
	p.Getenv = func(key string) (string, bool) {
		value, ok := map[string]string{"HOME": "/h", "DD_API_KEY": "secret", "LATAM_X": "1", "TF_VAR_x": "1", "GOOGLE_CREDENTIALS": "c", "EXTRA": "e"}[key]
		return value, ok
	}
	env := Env(p, "EXTRA", "ABSENT")
	if len(env) != 4 || env["HOME"] != "/h" || env["GOOGLE_CREDENTIALS"] != "c" || env["EXTRA"] != "e" || env["CHECKPOINT_DISABLE"] != "1" {
		t.Errorf("environment %v", env)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	good := Options{Bin: "/b", Leader: "/l", Version: "1.11.4", Env: map[string]string{}}
	if _, err := New(proc.OS(), good); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Options){
		"absolute path of the program": func(o *Options) { o.Bin = "terraform" },
		"absolute path of the leader":  func(o *Options) { o.Leader = "" },
		"version":                      func(o *Options) { o.Version = "" },
		"environment":                  func(o *Options) { o.Env = nil },
		"parallelism":                  func(o *Options) { o.Parallelism = -1 },
		"TF_CLI_ARGS_plan":             func(o *Options) { o.Env = map[string]string{"TF_CLI_ARGS_plan": "-lock=false"} },
	} {
		o := good
		change(&o)
		if _, err := New(proc.OS(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// releaseServer answers as releases.hashicorp.com does.
func releaseServer(t *testing.T, archive []byte) (url string, downloads *atomic.Int32) {
	t.Helper()
	downloads = new(atomic.Int32)
	name := fmt.Sprintf("terraform_%s_%s_%s.zip", InstallVersion, runtime.GOOS, runtime.GOARCH)
	folder := "/terraform/" + InstallVersion + "/"
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	mux.HandleFunc(folder+"index.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"name":"terraform","version":%q,"builds":[{"name":"terraform","version":%q,"os":%q,"arch":%q,"filename":%q,"url":%q}]}`,
			InstallVersion, InstallVersion, runtime.GOOS, runtime.GOARCH, name, server.URL+folder+name)
	})
	mux.HandleFunc(folder+name, func(w http.ResponseWriter, _ *http.Request) {
		downloads.Add(1)
		w.Header().Set("Content-Type", "application/zip")
		_, _ = w.Write(archive)
	})
	return server.URL, downloads
}

func TestInstall(t *testing.T) {
	t.Parallel()
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	w, err := z.Create("terraform")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, "#!/bin/sh\necho 'Terraform v"+InstallVersion+"'\n")
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(archive.Bytes())
	url, downloads := releaseServer(t, archive.Bytes())
	dir, p := t.TempDir(), processIn(t.TempDir())

	_, err = Install(t.Context(), p, dir, InstallOptions{BaseURL: url})
	if err == nil || !strings.Contains(err.Error(), "want the sha256") || !strings.Contains(err.Error(), "--terraform-bin") {
		t.Errorf("an archive with another digest than the pinned one: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "terraform", "*", "*")); len(left) != 0 {
		t.Errorf("it left %v", left)
	}
	for range 2 {
		found, err := Install(t.Context(), p, dir, InstallOptions{BaseURL: url, Digest: hex.EncodeToString(sum[:])})
		if err != nil || found.Version != InstallVersion || found.Path != filepath.Join(dir, "terraform", InstallVersion, "terraform") {
			t.Fatalf("installed %+v, %v", found, err)
		}
	}
	if n := downloads.Load(); n != 2 {
		t.Errorf("%d downloads, want one that failed and one that did not", n)
	}
	_, err = Install(t.Context(), p, t.TempDir(), InstallOptions{BaseURL: "http://127.0.0.1:1"})
	if err == nil || !strings.Contains(err.Error(), "put a terraform on the PATH") {
		t.Errorf("without a network: %v", err)
	}
	for platform, digest := range archiveDigests() {
		if b, err := hex.DecodeString(digest); err != nil || len(b) != sha256.Size {
			t.Errorf("digest of %s: %s", platform, digest)
		}
	}
}

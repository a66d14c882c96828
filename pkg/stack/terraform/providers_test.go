package terraform

import (
	"archive/zip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/latamctl/latamctl/pkg/testkit/tfmirror"
)

const needsProvider = `
terraform {
  required_providers {
    kubernetes = {
      source  = "hashicorp/kubernetes"
      version = "~> 3.2"
    }
  }
}
resource "kubernetes_namespace_v1" "n" {
  metadata { name = "n" }
}`

// packed makes a mirror of one provider as a registry has it: in an archive.
func packed(t *testing.T, unpacked string) string {
	t.Helper()
	from, err := filepath.Glob(filepath.Join(unpacked, "registry.terraform.io/hashicorp/kubernetes/*/*/*"))
	if err != nil || len(from) == 0 {
		t.Fatalf("no kubernetes provider in %s: %v", unpacked, err)
	}
	dir := t.TempDir()
	version := filepath.Base(filepath.Dir(filepath.Dir(from[0])))
	path := filepath.Join(dir, "registry.terraform.io/hashicorp/kubernetes",
		fmt.Sprintf("terraform-provider-kubernetes_%s_%s_%s.zip", version, runtime.GOOS, runtime.GOARCH))
	write(t, path, "")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(out)
	for _, file := range from {
		h := &zip.FileHeader{Name: filepath.Base(file), Method: zip.Store}
		h.SetMode(0o755)
		to, err := z.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		in, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(to, in); err != nil {
			t.Fatal(err)
		}
		in.Close()
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestParallelInits prepares several stacks at once with an empty cache: one download, and all work.
func TestParallelInits(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds the stand-ins of the providers")
	}
	source, cache := packed(t, filepath.Dir(tfmirror.Config(t))), filepath.Join(t.TempDir(), "cache")
	r := runner(t, func(o *Options) { o.CacheDir = cache })
	r.direct = fmt.Sprintf("provider_installation {\n  filesystem_mirror {\n    path = %q\n  }\n}\n", source)
	const stacks = 5
	var all sync.WaitGroup
	spaces := make([]Workspace, stacks)
	for i := range spaces {
		spaces[i] = workspace(t, needsProvider)
		all.Go(func() {
			if err := r.Init(t.Context(), spaces[i]); err != nil {
				t.Errorf("init: %v", err)
			}
		})
	}
	all.Wait()
	kept, err := filepath.Glob(filepath.Join(cache, "providers/registry.terraform.io/hashicorp/kubernetes/*/*/terraform-provider-*"))
	if err != nil || len(kept) != 1 {
		t.Errorf("the cache has %v, %v; want one provider", kept, err)
	}
	if left, _ := filepath.Glob(filepath.Join(cache, ".download-*")); len(left) != 0 {
		t.Errorf("downloads are left: %v", left)
	}
	first, downloads := "", 0
	for _, w := range spaces {
		// One that finds the provider missing tries twice; only one that downloads runs init more often.
		if runs, _ := filepath.Glob(filepath.Join(w.RunDir, "demo-init*.ndjson")); len(runs) > 2 {
			downloads++
		}
		b, err := os.ReadFile(filepath.Join(w.Dir, lockFile))
		if err != nil || !strings.Contains(string(b), "h1:") {
			t.Errorf("lock file %s, %v", b, err)
		}
		if first == "" {
			first = strings.SplitN(string(b), "h1:", 2)[1][:40]
		}
		if !strings.Contains(string(b), first) {
			t.Errorf("another checksum than the first's %s:\n%s", first, b)
		}
		links, _ := filepath.Glob(filepath.Join(w.Dir, ".terraform/providers/registry.terraform.io/hashicorp/kubernetes/*/*"))
		if len(links) != 1 {
			t.Fatalf("providers of the stack: %v", links)
		}
		if to, err := filepath.EvalSymlinks(links[0]); err != nil || !strings.HasPrefix(to, cache) {
			t.Errorf("the provider is %s, %v; want a link into the cache", to, err)
		}
	}
	if downloads != 1 {
		t.Errorf("%d stacks downloaded the provider, want one", downloads)
	}
	if _, err := r.Plan(t.Context(), spaces[0], PlanOptions{}, nil); err != nil {
		t.Errorf("plan with the provider: %v", err)
	}
}

func TestOwnProviders(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	write(t, filepath.Join(home, "plain.tfrc"), "disable_checkpoint = true")
	write(t, filepath.Join(home, "cache.tfrc"), `plugin_cache_dir = "/c"`)
	write(t, filepath.Join(home, "with", ".terraformrc"), `plugin_cache_dir = "/c"`)
	for name, tc := range map[string]struct {
		env         map[string]string
		own, shared bool
	}{
		"nothing":        {map[string]string{"HOME": home}, false, false},
		"cache folder":   {map[string]string{"HOME": home, "TF_PLUGIN_CACHE_DIR": "/c"}, true, true},
		"named file":     {map[string]string{"HOME": home, "TF_CLI_CONFIG_FILE": filepath.Join(home, "plain.tfrc")}, true, false},
		"named cache":    {map[string]string{"HOME": home, "TF_CLI_CONFIG_FILE": filepath.Join(home, "cache.tfrc")}, true, true},
		"file of a home": {map[string]string{"HOME": filepath.Join(home, "with")}, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := runner(t, func(o *Options) { o.Env = tc.env })
			if own, shared := r.ownProviders(); own != tc.own || shared != tc.shared {
				t.Errorf("own %t, shared %t; want %t, %t", own, shared, tc.own, tc.shared)
			}
		})
	}
}

package terraform

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/terraform-exec/tfexec"
)

// prepared is what Init remembers beside what terraform init made.
type prepared struct {
	Fingerprint string `json:"fingerprint"`
	// Paths are what must still be there, relative to the working folder.
	Paths []string `json:"paths"`
}

const (
	preparedFile = ".terraform/latamctl.fp"
	lockFile     = ".terraform.lock.hcl"
	// providerDepth is the number of folders from .terraform/providers to one provider: host,
	// namespace, type, version, platform.
	providerDepth = 5
)

// Init prepares a working folder: its backend, its providers and its lock file. It runs nothing when
// neither the sources nor the program nor where providers come from changed since it last did, and
// all that it made is still there. It never moves a state to another backend.
func (t *Terraform) Init(ctx context.Context, w Workspace) error {
	print, err := t.fingerprint(w)
	if err != nil {
		return fmt.Errorf("init of stack %s: %w", w.Stack, err)
	}
	if t.isPrepared(w, print) {
		return nil
	}
	if err := t.forgetInit(w); err != nil {
		return err
	}
	err = t.initWithProviders(ctx, w)
	var f *Failure
	if errors.As(err, &f) && f.backendChanged() {
		return fmt.Errorf("%w; a state is never moved to another place by itself: copy it there, then remove %s and run this again",
			err, t.proc.Path(filepath.Join(w.Dir, ".terraform")))
	}
	if err != nil {
		return err
	}
	return t.rememberInit(w)
}

// fingerprint covers everything that init depends on: all of the configuration, because any file
// of it may name a provider or a module.
func (t *Terraform) fingerprint(w Workspace) (string, error) {
	var files []string
	for _, pattern := range []string{"*.tf", "*.tf.json", "*.tofu", lockFile} {
		found, err := t.proc.Glob(filepath.Join(w.Dir, pattern))
		if err != nil {
			return "", err
		}
		files = append(files, found...)
	}
	slices.Sort(files)
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%s\x00%s\x00%s\x00%s\x00", t.options.Bin, t.options.Version, t.options.Digest,
		t.options.Env["TF_CLI_CONFIG_FILE"], t.options.CacheDir)
	for _, file := range files {
		b, err := t.proc.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("read the sources: %w", err)
		}
		fmt.Fprintf(h, "%s\x00%d\x00", filepath.Base(file), len(b))
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func (t *Terraform) isPrepared(w Workspace, print string) bool {
	var had prepared
	b, err := t.proc.ReadFile(filepath.Join(w.Dir, preparedFile))
	if err != nil || json.Unmarshal(b, &had) != nil || had.Fingerprint != print {
		return false
	}
	return !slices.ContainsFunc(had.Paths, func(path string) bool { return !t.proc.Exists(filepath.Join(w.Dir, path)) })
}

func (t *Terraform) forgetInit(w Workspace) error {
	if err := t.proc.Remove(filepath.Join(w.Dir, preparedFile)); err != nil {
		return fmt.Errorf("init of stack %s: forget what was prepared: %w", w.Stack, err)
	}
	return nil
}

func (t *Terraform) rememberInit(w Workspace) error {
	print, err := t.fingerprint(w) // Init may have written the lock file.
	if err != nil {
		return fmt.Errorf("init of stack %s: %w", w.Stack, err)
	}
	p := prepared{Fingerprint: print, Paths: []string{}}
	providers := filepath.Join(".terraform", "providers")
	folders, err := t.proc.Subfolders(filepath.Join(w.Dir, providers), providerDepth)
	if err != nil {
		return fmt.Errorf("init of stack %s: list the providers: %w", w.Stack, err)
	}
	for _, folder := range folders {
		p.Paths = append(p.Paths, filepath.Join(providers, folder))
	}
	for _, path := range []string{".terraform/terraform.tfstate", ".terraform/modules/modules.json"} {
		if t.proc.Exists(filepath.Join(w.Dir, path)) {
			p.Paths = append(p.Paths, path)
		}
	}
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if err := t.proc.WriteSecretFile(filepath.Join(w.Dir, preparedFile), b); err != nil {
		return fmt.Errorf("init of stack %s: remember what was prepared: %w", w.Stack, err)
	}
	return nil
}

// runInit runs terraform init once.
func (t *Terraform) runInit(ctx context.Context, w Workspace, env map[string]string) error {
	flags := []string{"-json"}
	_, err := t.run(ctx, w, job{command: "init", flags: flags, env: env, call: func(ctx context.Context, tf *tfexec.Terraform) error {
		return tf.Init(ctx)
	}})
	return err
}

// initWithProviders runs init with the user's own way to get providers, or with the cache.
func (t *Terraform) initWithProviders(ctx context.Context, w Workspace) error {
	own, shared := t.ownProviders()
	switch {
	case own && shared && t.options.CacheDir != "":
		// terraform does not guard a plugin cache against a second init (hashicorp/terraform#31964).
		unlock, err := t.lockCache(ctx)
		if err != nil {
			return err
		}
		defer unlock()
		return t.runInit(ctx, w, nil)
	case own || t.options.CacheDir == "":
		return t.runInit(ctx, w, nil)
	}
	return t.initFromCache(ctx, w)
}

// ownProviders tells whether the user configured where providers come from, and whether that is a
// plugin cache.
func (t *Terraform) ownProviders() (own, shared bool) {
	if t.options.Env["TF_PLUGIN_CACHE_DIR"] != "" {
		return true, true
	}
	files := []string{t.options.Env["TF_CLI_CONFIG_FILE"]}
	if files[0] == "" {
		home := t.options.Env["HOME"]
		files = []string{filepath.Join(home, ".terraformrc"), filepath.Join(home, ".tofurc")}
	} else {
		own = true
	}
	for _, file := range files {
		if b, err := t.proc.ReadFile(file); err == nil {
			own, shared = true, shared || strings.Contains(string(b), "plugin_cache_dir")
		}
	}
	return own, shared
}

func (t *Terraform) lockCache(ctx context.Context) (unlock func(), err error) {
	unlock, err = t.proc.LockFile(ctx, filepath.Join(t.options.CacheDir, "providers"))
	if err != nil {
		return nil, fmt.Errorf("wait for the cache of providers: %w", err)
	}
	return unlock, nil
}

// initFromCache takes the providers from unpacked folders, which terraform only links to: any number
// of inits may do that at once. What is missing is downloaded once, under a lock.
func (t *Terraform) initFromCache(ctx context.Context, w Workspace) error {
	mirror := filepath.Join(t.options.CacheDir, "providers")
	use, err := t.cliConfig("mirror.tfrc", fmt.Sprintf("provider_installation {\n  filesystem_mirror {\n    path = %q\n  }\n}\n", mirror))
	if err != nil {
		return err
	}
	try := func() (missing bool, err error) {
		err = t.runInit(ctx, w, use)
		var f *Failure
		return errors.As(err, &f) && f.wantsProviders(), err
	}
	if missing, err := try(); !missing {
		return err
	}
	unlock, err := t.lockCache(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if missing, err := try(); !missing { // Another one may have filled it while this one waited.
		return err
	}
	if err := t.download(ctx, w, mirror); err != nil {
		return err
	}
	return t.runInit(ctx, w, use)
}

// download lets terraform put what a stack needs into an empty folder, and moves it into the cache:
// a provider is there whole or not at all.
func (t *Terraform) download(ctx context.Context, w Workspace, mirror string) (err error) {
	tmp, remove, err := t.proc.TempDir(t.options.CacheDir, ".download-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	env, err := t.cliConfig("direct.tfrc", t.direct)
	if err != nil {
		return err
	}
	env["TF_PLUGIN_CACHE_DIR"] = tmp
	if err := t.runInit(ctx, w, env); err != nil {
		return err
	}
	folders, err := t.proc.Subfolders(tmp, providerDepth)
	if err != nil {
		return fmt.Errorf("list the downloaded providers: %w", err)
	}
	for _, folder := range folders {
		to := filepath.Join(mirror, folder)
		if t.proc.Exists(to) {
			continue
		}
		if err := t.proc.MakeSecretDir(filepath.Dir(to)); err != nil {
			return fmt.Errorf("keep a provider: %w", err)
		}
		if err := t.proc.Rename(filepath.Join(tmp, folder), to); err != nil {
			return fmt.Errorf("keep a provider: %w", err)
		}
	}
	return nil
}

// cliConfig writes a configuration of terraform itself, unless it is there, and returns the
// variable that names it.
func (t *Terraform) cliConfig(name, content string) (map[string]string, error) {
	path := filepath.Join(t.options.CacheDir, name)
	if b, err := t.proc.ReadFile(path); err != nil || string(b) != content {
		if err := t.proc.WriteSecretFile(path, []byte(content)); err != nil {
			return nil, fmt.Errorf("say where providers come from: %w", err)
		}
	}
	return map[string]string{"TF_CLI_CONFIG_FILE": path}, nil
}

func (f *Failure) backendChanged() bool {
	return slices.ContainsFunc(f.Diagnostics, func(d Diagnostic) bool { return d.Summary == "Backend configuration changed" })
}

// wantsProviders tells whether a provider was not among those that init could choose from.
func (f *Failure) wantsProviders() bool {
	return slices.ContainsFunc(f.Diagnostics, func(d Diagnostic) bool {
		return d.Severity == "error" && (d.Summary == "Failed to query available provider packages" || d.Summary == "Failed to install provider")
	})
}

package terraform

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/latamctl/latamctl/pkg/proc"
)

// Program is a terraform that was found.
type Program struct {
	Path     string `json:"path"`    // absolute, links followed by nobody: it is the name that runs
	Version  string `json:"version"` // such as 1.11.4
	Digest   string `json:"digest"`  // sha256 of the program, in hex
	OpenTofu bool   `json:"opentofu"`
}

// The oldest version that has everything the stacks and this package use.
const minMajor, minMinor = 1, 9

// environment are the variables that terraform and its Google providers may see. Everything else
// of ours, such as keys of other services, stays out.
func environment() []string {
	return []string{
		"PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME",
		"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR",
		"TF_CLI_CONFIG_FILE", "TF_PLUGIN_CACHE_DIR", "TF_REGISTRY_CLIENT_TIMEOUT", "TF_REGISTRY_DISCOVERY_RETRY",
		"GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CREDENTIALS", "GOOGLE_BACKEND_CREDENTIALS", "GOOGLE_OAUTH_ACCESS_TOKEN",
		"GOOGLE_IMPERSONATE_SERVICE_ACCOUNT", "GOOGLE_BACKEND_IMPERSONATE_SERVICE_ACCOUNT", "GOOGLE_BACKEND_STORAGE_CUSTOM_ENDPOINT",
		"GOOGLE_BILLING_PROJECT", "USER_PROJECT_OVERRIDE", "GOOGLE_ENCRYPTION_KEY", "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES",
		"CLOUDSDK_CONFIG", "CLOUDSDK_AUTH_ACCESS_TOKEN", "GCE_METADATA_HOST", "GCE_METADATA_IP",
		"ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
	}
}

// Env returns the environment of terraform: the variables of this process that it may see, and
// those that more names.
func Env(p *proc.Process, more ...string) map[string]string {
	env := map[string]string{"CHECKPOINT_DISABLE": "1"}
	for _, key := range append(environment(), more...) {
		if value, ok := p.Getenv(key); ok {
			env[key] = value
		}
	}
	return env
}

// Find looks for the program: bin when it is not empty, else terraform on the path. The error is
// ErrNotFound when there is none.
func Find(ctx context.Context, p *proc.Process, bin string) (Program, error) {
	name := bin
	if name == "" {
		name = "terraform"
	}
	path, err := p.LookPath(name)
	if err != nil && bin == "" {
		return Program{}, fmt.Errorf("%w: install it (https://developer.hashicorp.com/terraform/install) or run `latamctl doctor --install-terraform`, or name a program with --terraform-bin", ErrNotFound)
	}
	if err != nil {
		return Program{}, fmt.Errorf("%w: no program %s (--terraform-bin): %w", ErrNotFound, bin, err)
	}
	if path, err = filepath.Abs(p.Path(path)); err != nil {
		return Program{}, fmt.Errorf("look for terraform: %w", err)
	}
	found, err := identify(ctx, p, path)
	if err != nil {
		return Program{}, err
	}
	return found, found.check()
}

// known is what a cache file remembers of a program.
type known struct {
	Program
	Stamp string `json:"stamp"`
}

// identify asks a program for its version and takes its digest, or remembers both: they cost a
// tenth of a second, which is much of a plan that finds nothing.
func identify(ctx context.Context, p *proc.Process, path string) (Program, error) {
	stamp, err := p.Stamp(path)
	if err != nil {
		return Program{}, fmt.Errorf("look at terraform: %w", err)
	}
	cache := ""
	if dir := p.UserCacheDir(); dir != "" {
		cache = filepath.Join(dir, "terraform.json")
		var k known
		if b, err := p.ReadFile(cache); err == nil && json.Unmarshal(b, &k) == nil && k.Path == path && k.Stamp == stamp {
			return k.Program, nil
		}
	}
	found := Program{Path: path}
	if err := found.askVersion(ctx, p); err != nil {
		return Program{}, err
	}
	if found.Digest, err = digest(p, path); err != nil {
		return Program{}, fmt.Errorf("take the digest of terraform: %w", err)
	}
	if b, err := json.Marshal(known{Program: found, Stamp: stamp}); err == nil && cache != "" {
		_ = p.WriteSecretFile(cache, b) // Without it the next run asks again.
	}
	return found, nil
}

var versionLine = regexp.MustCompile(`(?m)^(Terraform|OpenTofu) v(\d+\.\d+\.\d+\S*)`)

// askVersion runs `version`: only its plain form tells OpenTofu from Terraform.
func (f *Program) askVersion(ctx context.Context, p *proc.Process) error {
	var env []string
	for key, value := range Env(p) {
		env = append(env, key+"="+value)
	}
	out, err := p.OutputEnv(ctx, env, f.Path, "version")
	if err != nil {
		return fmt.Errorf("ask %s for its version: %w", f.Path, err)
	}
	m := versionLine.FindStringSubmatch(out)
	if m == nil {
		return fmt.Errorf("ask %s for its version: want a line such as %q, got %.80q; name terraform or tofu with --terraform-bin", f.Path, "Terraform v1.11.4", out)
	}
	f.OpenTofu, f.Version = m[1] == "OpenTofu", m[2]
	return nil
}

func (f *Program) check() error {
	var major, minor int
	if _, err := fmt.Sscanf(f.Version, "%d.%d", &major, &minor); err != nil {
		return fmt.Errorf("read the version of %s: want numbers such as 1.11.4, got %s", f.Path, strconv.Quote(f.Version))
	}
	if major < minMajor || major == minMajor && minor < minMinor {
		return fmt.Errorf("%s has version %s, want at least %d.%d; install a newer one or name one with --terraform-bin", f.Path, f.Version, minMajor, minMinor)
	}
	return nil
}

func digest(p *proc.Process, path string) (_ string, err error) {
	f, err := p.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

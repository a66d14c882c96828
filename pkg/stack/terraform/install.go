package terraform

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/hashicorp/go-version"
	"github.com/hashicorp/hc-install/product"
	"github.com/hashicorp/hc-install/releases"

	"github.com/latamctl/latamctl/pkg/proc"
)

// InstallVersion is the terraform that Install gets.
const InstallVersion = "1.11.4"

// maxArchive is more than any release of terraform has, in bytes.
const maxArchive = 512 << 20

// archiveDigests are the sha256 of the archives of InstallVersion, by platform. They are pinned
// here, because the key of the publisher that hc-install carries expires, and then no program that
// was built before can install anything.
func archiveDigests() map[string]string {
	return map[string]string{
		"linux/amd64":  "1ce994251c00281d6845f0f268637ba50c0005657eb3cf096b92f753b42ef4dc",
		"linux/arm64":  "a43d1d0da9b9bab214a8305a39db0e40869572594ccf50c416a7756499143633",
		"darwin/amd64": "a56d5002b9f7647291faccc3dd1a70350e60fb61e4c45037629508b8fdc2575b",
		"darwin/arm64": "867e0808fa971217043e25b7a792b10720c79b1546f8a68479b74f138be73e18",
	}
}

// InstallOptions say where terraform comes from. The zero value is the publisher.
type InstallOptions struct {
	// BaseURL is a copy of releases.hashicorp.com, such as a company's.
	BaseURL string
	// Digest is the sha256 of the archive, in hex. Default the pinned one of this platform.
	Digest string
	// Timeout bounds the download. Default 10m.
	Timeout time.Duration
}

// Install downloads InstallVersion into a folder of its own below dir, which is usually the
// user's cache folder, and returns it. What is there already is not downloaded again.
func Install(ctx context.Context, p *proc.Process, dir string, o InstallOptions) (Program, error) {
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Minute
	}
	platform := runtime.GOOS + "/" + runtime.GOARCH
	if o.Digest == "" {
		o.Digest = archiveDigests()[platform]
	}
	if o.Digest == "" {
		return Program{}, fmt.Errorf("install terraform: no digest of terraform %s for %s is known; %s", InstallVersion, platform, byHand)
	}
	want, err := filepath.Abs(p.Path(filepath.Join(dir, "terraform", InstallVersion)))
	if err != nil {
		return Program{}, fmt.Errorf("install terraform: %w", err)
	}
	unlock, err := p.LockFile(ctx, want)
	if err != nil {
		return Program{}, fmt.Errorf("install terraform: %w", err)
	}
	defer unlock()
	if bin := filepath.Join(want, "terraform"); p.Exists(bin) {
		return Find(ctx, p, bin)
	}
	if err := fetch(ctx, p, want, o); err != nil {
		return Program{}, fmt.Errorf("install terraform %s: %w; %s", InstallVersion, err, byHand)
	}
	return Find(ctx, p, filepath.Join(want, "terraform"))
}

const byHand = "put a terraform on the PATH or name one with --terraform-bin"

// fetch unpacks the archive beside the folder that it is for, and moves it there when it is whole.
func fetch(ctx context.Context, p *proc.Process, want string, o InstallOptions) error {
	tmp, remove, err := p.TempDir(filepath.Dir(want), ".install-")
	if err != nil {
		return err
	}
	defer func() { _ = remove() }() // It has been moved away, or is of no use.
	v, err := version.NewVersion(InstallVersion)
	if err != nil {
		return err
	}
	source := &releases.ExactVersion{
		Product: product.Terraform, Version: v, InstallDir: tmp, Timeout: o.Timeout, ApiBaseURL: o.BaseURL,
		// The archive is compared with our own digest as it arrives, which is stronger than a signature
		// by a key that came over the same wire.
		SkipChecksumVerification: true,
		HTTPClient:               &http.Client{Timeout: o.Timeout, Transport: &pinned{digest: o.Digest, next: &http.Transport{Proxy: http.ProxyFromEnvironment}}},
	}
	if _, err := source.Install(ctx); err != nil {
		return err
	}
	return p.Rename(tmp, want)
}

// pinned lets an archive through only when it has the digest.
type pinned struct {
	digest string
	next   http.RoundTripper
}

func (t *pinned) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.next.RoundTrip(r)
	if err != nil || response.StatusCode != http.StatusOK || !strings.HasSuffix(r.URL.Path, ".zip") {
		return response, err
	}
	defer func() { _ = response.Body.Close() }() // It was read to its end, or is given up.
	archive, err := io.ReadAll(io.LimitReader(response.Body, maxArchive+1))
	if err != nil {
		return nil, fmt.Errorf("download %s: %w", r.URL.Path, err)
	}
	sum := sha256.Sum256(archive)
	if got := hex.EncodeToString(sum[:]); got != t.digest {
		return nil, fmt.Errorf("download %s: want the sha256 %s, got %s (%d bytes); nothing of it was kept", r.URL.Path, t.digest, got, len(archive))
	}
	response.Body = io.NopCloser(bytes.NewReader(archive))
	return response, nil
}

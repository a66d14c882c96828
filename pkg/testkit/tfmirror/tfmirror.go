// Package tfmirror gives tests the providers of Terraform without a network: stand-ins that serve
// the schemas of the real ones and keep what they create in a folder, built from ../shared.
package tfmirror

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Config returns the CLI configuration of Terraform that uses the stand-ins. It skips the test where
// terraform or the stand-ins' source is missing. They are built once for all test programs and kept
// in the system's temporary folder.
func Config(t testing.TB) string {
	t.Helper()
	if _, err := exec.LookPath("terraform"); err != nil {
		t.Skip("terraform is not on PATH")
	}
	config, err := Build()
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("../shared/terraform is absent: there are no stand-ins of the providers")
	}
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// Build is Config without a test. Its error is of kind fs.ErrNotExist where there is no source.
func Build() (string, error) {
	source, err := source()
	if err != nil {
		return "", err
	}
	digest, err := digestOf(source)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(os.TempDir(), "latamctl-tfmirror-"+digest)
	unlock, err := lock(dir + ".lock")
	if err != nil {
		return "", fmt.Errorf("build the stand-ins of the providers: %w", err)
	}
	defer unlock()
	config := filepath.Join(dir, "mirror", "terraformrc")
	if _, err := os.Stat(config); err == nil {
		return config, nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	if err := build(source, dir); err != nil {
		return "", fmt.Errorf("build the stand-ins of the providers: %w", err)
	}
	return config, nil
}

// source is shared/terraform beside the module's root.
func source() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("find the module's root: %w", fs.ErrNotExist)
		}
		dir = filepath.Dir(dir)
	}
	dir = filepath.Join(filepath.Dir(dir), "shared", "terraform")
	_, err = os.Stat(filepath.Join(dir, "install-mirror"))
	return dir, err
}

// edition is part of the digest: another one builds anew.
const edition = "2"

func digestOf(dir string) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, edition)
	files := os.DirFS(dir)
	err := fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(files, path)
		fmt.Fprintf(h, "%s %d %x\n", path, len(b), sha256.Sum256(b))
		return err
	})
	return hex.EncodeToString(h.Sum(nil))[:16], err
}

func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil // Closing releases the lock.
}

// The stand-in names a resource after a few of its attributes, and takes resources for one that
// differ in others only, such as the rights on two topics. These tell them apart.
const (
	keysBefore = `range []string{"name", "account_id"`
	keysAfter  = `range []string{"app_profile_id", "role_id", "topic", "subscription", "bucket", "instance", "instance_name", "table", "column_family", "service_account_id", "name", "account_id"`
)

// build copies the source, tells its resources apart, and runs its own program.
func build(source, dir string) error {
	if err := os.CopyFS(dir, os.DirFS(source)); err != nil {
		return err
	}
	provider := filepath.Join(dir, "stubprovider", "provider.go")
	code, err := os.ReadFile(provider)
	if err != nil {
		return err
	}
	if err := os.Remove(provider); err != nil { // The copy cannot be written to, as the source.
		return err
	}
	code = bytes.Replace(code, []byte(keysBefore), []byte(keysAfter), 1)
	if err := os.WriteFile(provider, code, 0o644); err != nil { //nolint:gosec // The path is made here.
		return err
	}
	building := filepath.Join(dir, "mirror")
	out, err := exec.CommandContext(context.Background(), filepath.Join(dir, "install-mirror"), building).CombinedOutput()
	if err != nil {
		return errors.Join(fmt.Errorf("%w: %s", err, out), os.RemoveAll(building))
	}
	return nil
}

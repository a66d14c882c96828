package cli_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// browserTimeout bounds a look at a page, with the start of the browser.
const browserTimeout = 2 * time.Minute

// TestDocumentationPageInABrowser opens /docs in Chromium: it complains about nothing, asks nobody
// else, can be read in both colour schemes and on a phone, returns rows, and is readable without
// JavaScript. LATAM_CHROMIUM names another browser, LATAM_SCREENSHOTS a folder for pictures.
func TestDocumentationPageInABrowser(t *testing.T) {
	t.Parallel()
	script, chromium := browser(t, "docs.mjs")
	_, r := startUp(t, t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), browserTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", script, r.API)
	if folder := os.Getenv("LATAM_SCREENSHOTS"); folder != "" {
		cmd.Args = append(cmd.Args, folder)
	}
	cmd.Env = append(os.Environ(), "LATAM_CHROMIUM="+chromium)
	cmd.WaitDelay = 5 * time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// browser finds what a browser test needs, and skips the test where something is missing.
func browser(t *testing.T, name string) (script, chromium string) {
	t.Helper()
	if chromium = os.Getenv("LATAM_CHROMIUM"); chromium == "" {
		var err error
		if chromium, err = exec.LookPath("chromium"); err != nil {
			t.Skip("chromium is not installed: apt-get install chromium, or set LATAM_CHROMIUM")
		}
	}
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("node is not installed")
	}
	folder, err := filepath.Abs(filepath.Join("..", "..", "tools", "browser"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(folder, "node_modules", "playwright-core")); err != nil {
		t.Skip("playwright-core is not installed: npm ci in tools/browser")
	}
	return filepath.Join(folder, name), chromium
}

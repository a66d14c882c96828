package cli_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// emulators are Google's Pub/Sub and Bigtable emulators of the Cloud SDK, for one test.
type emulators struct{ pubsub, bigtable string }

func (e emulators) env() []string {
	return []string{"PUBSUB_EMULATOR_HOST=" + e.pubsub, "BIGTABLE_EMULATOR_HOST=" + e.bigtable}
}

// startEmulators starts both, or skips the test where the Cloud SDK does not have them.
func startEmulators(t *testing.T) emulators {
	t.Helper()
	root, err := exec.CommandContext(t.Context(), "gcloud", "info", "--format=value(installation.sdk_root)").Output()
	if err != nil {
		t.Skipf("the Cloud SDK is not installed: gcloud info: %v", err)
	}
	platform := filepath.Join(strings.TrimSpace(string(root)), "platform")
	cbt := filepath.Join(platform, "bigtable-emulator", "cbtemulator")
	if _, err := os.Stat(cbt); err != nil {
		t.Skipf("the Cloud SDK has no Bigtable emulator: %v", err)
	}
	jars, _ := filepath.Glob(filepath.Join(platform, "pubsub-emulator", "lib", "cloud-pubsub-emulator-*-all.jar"))
	if len(jars) == 0 {
		t.Skip("the Cloud SDK has no Pub/Sub emulator")
	}
	java, err := exec.LookPath("java")
	if err != nil {
		t.Skip("the Pub/Sub emulator needs java, which is not installed")
	}
	pubsubPort, bigtablePort := freePort(t), freePort(t)
	background(t, java, "-jar", jars[0], "--host=127.0.0.1", fmt.Sprintf("--port=%d", pubsubPort))
	background(t, cbt, "-host", "127.0.0.1", "-port", fmt.Sprint(bigtablePort))
	e := emulators{pubsub: fmt.Sprintf("127.0.0.1:%d", pubsubPort), bigtable: fmt.Sprintf("127.0.0.1:%d", bigtablePort)}
	for _, addr := range []string{e.pubsub, e.bigtable} {
		eventually(t, waitLimit, func() (bool, string) {
			conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(t.Context(), "tcp", addr)
			if err != nil {
				return false, err.Error()
			}
			return conn.Close() == nil, ""
		})
	}
	return e
}

// background runs another program until the test ends.
func background(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), name, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s\n%s", name, tail(out.String()))
		}
	})
}

// emulatorFlightsVar is how many records the test of Google's emulators takes, up to 20,000.
const emulatorFlightsVar = "LATAM_EMULATOR_FLIGHTS"

// TestGooglesEmulators runs ingest and serve as processes of their own on the Cloud SDK's
// emulators, and stops ingest in the middle of the load.
func TestGooglesEmulators(t *testing.T) {
	t.Parallel()
	e := startEmulators(t)
	f := loadFlights(t, int(fromEnv(t, emulatorFlightsVar, 5000)))
	dir := t.TempDir()
	api := fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	serveAdmin := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	ingestAdmin := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	ingest := start(t, dir, e.env(), "ingest", "--admin", ingestAdmin)
	start(t, dir, e.env(), "serve", "--http", strings.TrimPrefix(api, "http://"), "--admin", serveAdmin)
	awaitReady(t, "http://"+ingestAdmin)
	awaitReady(t, "http://"+serveAdmin)

	run(t, dir, e.env(), "publish", "flights", "-f", f.file)
	settled(t, "http://"+ingestAdmin, "ok", f.total/10)
	ingest.terminate()
	start(t, dir, e.env(), "ingest", "--admin", ingestAdmin)
	eventually(t, waitLimit, func() (bool, string) {
		rows := walk(t, api, "flights", url.Values{})
		return len(rows) >= len(f.last), fmt.Sprintf("%d of %d rows", len(rows), len(f.last))
	})
	if diff := difference(f.last, f.byOrigin(t, api)); diff != "" {
		t.Errorf("rows differ from the last records published:\n%s", tail(diff))
	}
	if out := run(t, dir, e.env(), "verify", "--url", api); !strings.Contains(out, "18 passed, 0 failed") {
		t.Errorf("verify said:\n%s", out)
	}
}

func awaitReady(t *testing.T, admin string) {
	t.Helper()
	eventually(t, waitLimit, func() (bool, string) {
		resp, err := http.Get(admin + "/readyz")
		if err != nil {
			return false, err.Error()
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode == http.StatusOK, string(body)
	})
}

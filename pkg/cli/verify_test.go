package cli_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	pubsub "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const verifiedYAML = `version: 1
name: shop
datasets:
  orders:
    fields:
      number: {type: int64, required: true}
      at: {type: timestamp, required: true}
      note: string
    key: [number]
    time: at
    api: {auth: %s}
    slo: {response: %s}
`

func verifiedFolder(t *testing.T, auth, response string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "latam.yaml"), fmt.Appendf(nil, verifiedYAML, auth, response), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// exitOf runs a command and returns its exit code with all that it said.
func exitOf(t *testing.T, dir string, env []string, args ...string) (int, string) {
	t.Helper()
	out, err := command(t.Context(), t, dir, env, args...).CombinedOutput()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	if ended == nil {
		return 0, string(out)
	}
	return ended.ExitCode(), string(out)
}

// proxied is an address in front of the API where answers about rows are changed.
func proxied(t *testing.T, api string, change func(*http.Response)) string {
	t.Helper()
	target, err := url.Parse(api)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.FlushInterval = -1
	proxy.ModifyResponse = func(r *http.Response) error {
		if strings.Contains(r.Request.URL.Path, "/rows") {
			change(r)
		}
		return nil
	}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Accept-Encoding")
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	return front.URL
}

// TestVerifyNamesTheBrokenHop breaks five hops of the running program, one at a time: verify names just
// that hop, says what to do next, and exits with 6.
func TestVerifyNamesTheBrokenHop(t *testing.T) {
	t.Parallel()
	const order = `{"number":1,"at":"2001-01-01T00:00:00Z","note":"x"}`
	tests := []struct {
		hop, next string
		auth      string
		up        []string
		verify    func(t *testing.T, dir string, r ready) (env, args []string)
	}{
		{hop: "canary", next: "latamctl ingest logs", auth: "none", verify: func(t *testing.T, _ string, r ready) ([]string, []string) {
			// A second service on the same engine, for a dataset that nobody ingests.
			dir := verifiedFolder(t, "none", "5s")
			yaml, _ := os.ReadFile(filepath.Join(dir, "latam.yaml"))
			if err := os.WriteFile(filepath.Join(dir, "latam.yaml"), bytes.ReplaceAll(yaml, []byte("orders:"), []byte("parcels:")), 0o644); err != nil {
				t.Fatal(err)
			}
			e := emulators{pubsub: r.Pubsub, bigtable: r.Bigtable}
			port := freePort(t)
			admin := freePort(t)
			start(t, dir, e.env(), "serve", "--project", "latam-local", "--http", fmt.Sprintf("127.0.0.1:%d", port), "--admin", fmt.Sprintf("127.0.0.1:%d", admin))
			awaitReady(t, fmt.Sprintf("http://127.0.0.1:%d", admin))
			return e.env(), []string{"--config", filepath.Join(dir, "latam.yaml"), "--url", fmt.Sprintf("http://127.0.0.1:%d", port), "--wait", "1s"}
		}},
		{hop: "resources", next: "latamctl up makes what is missing", auth: "none", verify: func(t *testing.T, _ string, r ready) ([]string, []string) {
			conn, err := grpc.NewClient(r.Pubsub, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			client, err := pubsub.NewTopicAdminClient(t.Context(), option.WithGRPCConn(conn))
			if err == nil {
				err = client.DeleteTopic(t.Context(), &pubsubpb.DeleteTopicRequest{Topic: "projects/latam-local/topics/orders"})
			}
			if err != nil {
				t.Fatal(err)
			}
			return nil, nil
		}},
		{hop: "api", next: "the API and its contract differ", auth: "none", verify: func(t *testing.T, dir string, r ready) ([]string, []string) {
			publishLine(t, dir, order)
			return nil, []string{"--url", proxied(t, r.API, func(a *http.Response) {
				body, _ := io.ReadAll(a.Body)
				body = bytes.ReplaceAll(body, []byte(`"number":1`), []byte(`"number":"1"`))
				a.Body, a.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
				a.Header.Del("Content-Length")
			})}
		}},
		{hop: "access", next: "--no-auth", auth: "api_key", up: []string{"--no-auth"}, verify: func(*testing.T, string, ready) ([]string, []string) { return nil, nil }},
		{hop: "latency", next: "how far away is the API", auth: "none", verify: func(t *testing.T, dir string, r ready) ([]string, []string) {
			publishLine(t, dir, order)
			return nil, []string{"--load", "20/s", "--for", "300ms", "--url", proxied(t, r.API, func(*http.Response) { time.Sleep(60 * time.Millisecond) })}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.hop, func(t *testing.T) {
			t.Parallel()
			response := "5s"
			if tt.hop == "latency" {
				response = "30ms"
			}
			dir := verifiedFolder(t, tt.auth, response)
			_, r := startUp(t, dir, append([]string{"--engine", "memory"}, tt.up...)...)
			if code, out := exitOf(t, dir, nil, "verify", "--skip", "access"); code != 0 {
				t.Fatalf("before anything is broken it ends with %d:\n%s", code, out)
			}
			env, args := tt.verify(t, dir, r)
			code, out := exitOf(t, dir, env, append([]string{"verify"}, args...)...)
			if code != 6 || !strings.Contains(out, "verification failed at "+tt.hop+":") || !strings.Contains(out, tt.next) {
				t.Errorf("it ends with %d:\n%s", code, out)
			}
		})
	}
}

func publishLine(t *testing.T, dir, record string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "one.ndjson")
	if err := os.WriteFile(file, []byte(record+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, dir, nil, "publish", "orders", "-f", file)
	eventually(t, waitLimit, func() (bool, string) {
		out := run(t, dir, nil, "get", "orders", "-o", "json")
		return strings.Contains(out, `"number":1`), out
	})
}

// TestInterruptedVerifyLeavesNothing interrupts the program while it waits for a record that nobody
// ingests: it takes its message back.
func TestInterruptedVerifyLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := verifiedFolder(t, "none", "5s")
	_, r := startUp(t, dir, "--engine", "memory")
	other := verifiedFolder(t, "none", "5s")
	yaml, _ := os.ReadFile(filepath.Join(other, "latam.yaml"))
	if err := os.WriteFile(filepath.Join(other, "latam.yaml"), bytes.ReplaceAll(yaml, []byte("orders:"), []byte("parcels:")), 0o644); err != nil {
		t.Fatal(err)
	}
	e := emulators{pubsub: r.Pubsub, bigtable: r.Bigtable}
	port, admin := freePort(t), freePort(t)
	start(t, other, e.env(), "serve", "--project", "latam-local", "--http", fmt.Sprintf("127.0.0.1:%d", port), "--admin", fmt.Sprintf("127.0.0.1:%d", admin))
	awaitReady(t, fmt.Sprintf("http://127.0.0.1:%d", admin))
	backlog := func(n string) {
		t.Helper()
		eventually(t, waitLimit, func() (bool, string) {
			out := run(t, dir, nil, "data", "info")
			for line := range strings.Lines(out) {
				if f := strings.Fields(line); len(f) > 1 && f[0] == "parcels-ingest" {
					return f[1] == n, out
				}
			}
			return false, out
		})
	}
	cmd := command(t.Context(), t, other, e.env(), "verify", "--url", fmt.Sprintf("http://127.0.0.1:%d", port), "--wait", "60s")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	backlog("1")
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	var ended *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &ended) || ended.ExitCode() != 130 {
		t.Errorf("it ended with %v:\n%s", err, out.String())
	}
	backlog("0")
}

// TestStandingProbe verifies again and again, with metrics, until it is asked to stop.
func TestStandingProbe(t *testing.T) {
	t.Parallel()
	dir := verifiedFolder(t, "none", "5s")
	startUp(t, dir, "--engine", "memory")
	admin := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	p := start(t, dir, nil, "verify", "--watch", "1s", "--admin", admin, "--only", "health,fresh", "-o", "json")
	for range 2 {
		select {
		case line := <-p.stdout.out:
			if !strings.HasPrefix(line, `{"schema":"latamctl.verify/v1","ok":true,`) {
				t.Fatalf("a round printed %s", line)
			}
		case <-time.After(waitLimit):
			t.Fatalf("no round within %s", waitLimit)
		}
	}
	resp, err := http.Get("http://" + admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	for _, want := range []string{`latam_verify_checks_total{check="fresh",dataset="orders",hop="canary",`, `outcome="pass"`, "latam_verify_duration_seconds_bucket", `latam_canary_readable_duration_seconds_bucket{dataset="orders",`} {
		if !bytes.Contains(body, []byte(want)) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	p.terminate()
}

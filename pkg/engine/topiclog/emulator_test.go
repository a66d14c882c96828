package topiclog

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// The same operations run on the Pub/Sub emulator of the Cloud SDK (0.8.20).
// What it was seen to do unlike the service, and what the run leaves out for
// it:
//
//   - A filter is stored, shown, neither checked nor applied: every message is
//     delivered. Subscriptions are made without one.
//   - The state of a subscription is STATE_UNSPECIFIED, not ACTIVE. It is not
//     compared.
//   - A message of an ordering key that is given back is overtaken: the next
//     pull of one message returns the key's following message first. Such
//     messages are acknowledged or extended, not given back.
//   - An acknowledged message comes again when it is given back in the very
//     next call, now and then. What was acknowledged is not settled again.
//
// These differ without a fault on either side:
//
//   - A pull of many returns several messages of an ordering key; this server
//     hands out one and waits for its acknowledgement. Both pull one at a time.
//   - The emulator has the clock of the machine. Leases are 5 minutes, so that
//     none ends, and publish times are not compared.

// startEmulator runs the Pub/Sub emulator of the Cloud SDK until the test
// ends. It skips the test where the emulator is not installed.
func startEmulator(t *testing.T) *grpc.ClientConn {
	t.Helper()
	jar, java := emulatorFiles(t)
	port := freePort(t)
	out, err := os.Create(filepath.Join(t.TempDir(), "emulator.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(java, "-Xmx256m", "-XX:TieredStopAtLevel=1", "-jar", jar, "--host=127.0.0.1", "--port="+strconv.Itoa(port))
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = out.Close()
	})
	conn, err := grpc.NewClient(fmt.Sprintf("127.0.0.1:%d", port), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := pubsubpb.NewPublisherClient(conn).ListTopics(ctx, &pubsubpb.ListTopicsRequest{Project: project}, grpc.WaitForReady(true)); err != nil {
		said, _ := os.ReadFile(out.Name())
		t.Fatalf("the emulator does not answer: %v\n%s", err, said)
	}
	return conn
}

func emulatorFiles(t *testing.T) (jar, java string) {
	t.Helper()
	java, err := exec.LookPath("java")
	if err != nil {
		t.Skip("the Pub/Sub emulator needs java, which is not in PATH")
	}
	root, err := exec.CommandContext(t.Context(), "gcloud", "info", "--format=value(installation.sdk_root)").Output()
	if err != nil {
		t.Skipf("the Cloud SDK is not installed: gcloud info: %v", err)
	}
	pattern := filepath.Join(strings.TrimSpace(string(root)), "platform", "pubsub-emulator", "lib", "cloud-pubsub-emulator-*-all.jar")
	jars, err := filepath.Glob(pattern)
	if err != nil || len(jars) == 0 {
		t.Skipf("the Cloud SDK has no Pub/Sub emulator, %s is missing; install it with: gcloud components install pubsub-emulator", pattern)
	}
	return jars[len(jars)-1], java
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

func TestAgainstCloudSDKEmulator(t *testing.T) {
	t.Parallel()
	emulator := startEmulator(t)
	ours := serve(t, open(t, Options{}).Server)
	for seed := range uint64(16) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			d := newDuelOf(t, seed, nil, ours, emulator)
			d.project = fmt.Sprint("projects/emulated-", seed)
			for d.n = 0; d.n < 400; d.n++ {
				d.step()
			}
		})
	}
}

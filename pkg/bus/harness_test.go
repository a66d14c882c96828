package bus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/engine"
)

const timeout = 30 * time.Second

// TestConformance runs the same parts on every Pub/Sub that can be had here.
func TestConformance(t *testing.T) {
	parts := []struct {
		name string
		run  func(*testing.T, *bench)
	}{
		{"ensure", testEnsure},
		{"ensure from many", testEnsureConcurrently},
		{"publish", testPublish},
		{"publish many at once", testPublishConcurrently},
		{"publish batch", testPublishBatch},
		{"redelivery", testRedelivery},
		{"drain", testDrain},
		{"outstanding messages", testOutstanding},
		{"not found", testNotFound},
		{"waiting", testWaiting},
		{"fresh connection", testFresh},
		{"close sends what waits", testClose},
		{"follow", testFollow},
		{"follow again", testFollowAgain},
		{"follow nothing", testFollowNothing},
		{"follow holds", testFollowHolds},
		{"forget followers", testForgetFollowers},
		{"ensure retention", testEnsureRetention},
	}
	for name, open := range map[string]func(*testing.T) *bench{"pstest": openPstest, "engine": openEngine, "emulator": openEmulator} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := open(t)
			// The group keeps the parallel parts within the server's life.
			t.Run("bus", func(t *testing.T) {
				for _, part := range parts {
					t.Run(part.name, func(t *testing.T) {
						t.Parallel()
						part.run(t, b)
					})
				}
			})
		})
	}
}

// bench is a running Pub/Sub with a client on it.
type bench struct {
	project, addr string
	client        *bus.Client
	routes        atomic.Int64
	// inOrder says that a lone subscriber gets messages in the order of their publication.
	inOrder bool
	// brokenSeek says that a seek back delivers messages without content.
	brokenSeek bool
}

// open opens a client on a connection of its own.
func (b *bench) open(t *testing.T, opts bus.Options, dial ...grpc.DialOption) *bus.Client {
	t.Helper()
	conn, err := grpc.NewClient(b.addr, append(dial, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	opts.Project, opts.Client = b.project, []option.ClientOption{option.WithGRPCConn(conn)}
	c, err := bus.Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func openPstest(t *testing.T) *bench {
	server := pstest.NewServer()
	t.Cleanup(func() { _ = server.Close() })
	b := &bench{project: "p", addr: server.Addr, brokenSeek: true}
	b.client = b.open(t, bus.Options{})
	return b
}

func openEngine(t *testing.T) *bench {
	e, err := engine.Start(t.Context(), engine.Options{Kind: engine.Memory, PubsubAddr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close engine: %v", err)
		}
	})
	b := &bench{project: "latam-local", addr: e.PubsubAddr, inOrder: true}
	b.client = b.open(t, bus.Options{})
	return b
}

// openEmulator starts the Cloud SDK's Pub/Sub emulator, or skips where it is not installed.
func openEmulator(t *testing.T) *bench {
	out, err := exec.Command("gcloud", "info", "--format=value(installation.sdk_root)").Output()
	if err != nil {
		t.Skipf("the Cloud SDK is not installed: %v", err)
	}
	pattern := filepath.Join(string(bytes.TrimSpace(out)), "platform", "pubsub-emulator", "lib", "cloud-pubsub-emulator-*-all.jar")
	jars, err := filepath.Glob(pattern)
	if err != nil || len(jars) == 0 {
		t.Skipf("the Pub/Sub emulator is not installed (gcloud components install pubsub-emulator): %s: %v", pattern, fs.ErrNotExist)
	}
	java, err := exec.LookPath("java")
	if err != nil {
		t.Skipf("the Pub/Sub emulator needs a Java runtime: %v", err)
	}
	addr := freeAddr(t)
	_, port, _ := net.SplitHostPort(addr)
	var output bytes.Buffer
	cmd := exec.Command(java, "-jar", jars[len(jars)-1], "--host=127.0.0.1", "--port="+port)
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatalf("start the Pub/Sub emulator: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("emulator: %s", output.String())
		}
	})
	b := &bench{project: "p", addr: addr}
	b.client = b.open(t, bus.Options{})
	waitForPubsub(t, b.client)
	return b
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// waitForPubsub waits until the server answers that the topic does not exist.
func waitForPubsub(t *testing.T, c *bus.Client) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		err := c.Ping(ctx, "none")
		cancel()
		if errors.Is(err, bus.ErrNotFound) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the emulator does not answer: %v", err)
		}
	}
}

// limited returns a context that ends with the test or after a generous time.
func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	t.Cleanup(cancel)
	return ctx
}

func (b *bench) newRoute() bus.Route {
	name := fmt.Sprintf("topic-%d", b.routes.Add(1))
	return bus.Route{Topic: name, Subscription: name + "-ingest", DeadLetterTopic: name + "-dead", DeadLetterSubscription: name + "-dead-inspect"}
}

// ensured returns a route of its own for a part.
func (b *bench) ensured(t *testing.T) bus.Route {
	t.Helper()
	r := b.newRoute()
	if err := b.client.Ensure(limited(t), r); err != nil {
		t.Fatalf("ensure %+v: %v", r, err)
	}
	return r
}

// receive runs Receive until done returns true for a message, and returns what came in the order
// it came. The answer says whether to acknowledge.
func (b *bench) receive(t *testing.T, sub string, opts bus.ReceiveOptions, answer func(bus.Message) (ack, done bool)) []bus.Message {
	t.Helper()
	ctx, cancel := context.WithCancel(limited(t))
	defer cancel()
	var mu sync.Mutex
	var got []bus.Message
	finished := false
	err := b.client.Receive(ctx, sub, opts, func(_ context.Context, m bus.Message) bool {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, m)
		ack, done := answer(m)
		if done {
			finished = true
			cancel()
		}
		return ack
	})
	if err != nil || !finished {
		t.Fatalf("receive: error %v, got %d messages, finished %v", err, len(got), finished)
	}
	return got
}

// until acknowledges everything and ends after n messages.
func until(n int) func(bus.Message) (bool, bool) {
	seen := 0
	return func(bus.Message) (bool, bool) { seen++; return true, seen >= n }
}

func (b *bench) publish(t *testing.T, topic, data string) string {
	t.Helper()
	id, err := b.client.Publish(limited(t), topic, []byte(data), nil)
	if err != nil {
		t.Fatalf("publish %q: %v", data, err)
	}
	return id
}

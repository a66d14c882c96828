package topiclog

import (
	"bufio"
	"context"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// idleLength is how long an idle server is watched, and idleWakeUps how often
// it may wake up in a second. One polling loop of 50 ms is twice that.
const (
	idleLength  = 10 * time.Second
	idleWakeUps = 10
)

// idleEnv makes TestIdleServer the process that is watched.
const idleEnv = "LATAM_IDLE_SERVER_DIR"

// TestIdleStream watches a server on disk, in a process of its own, to which the
// official client holds a StreamingPull open while nothing is published.
func TestIdleStream(t *testing.T) {
	if testing.Short() {
		t.Skip("it watches an idle server for 10 seconds")
	}
	t.Parallel()
	child := exec.Command(os.Args[0], "-test.run=^TestIdleServer$", "-test.count=1")
	child.Env = append(os.Environ(), idleEnv+"="+t.TempDir())
	child.Stderr = os.Stderr
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = child.Wait()
	})
	lines := bufio.NewReader(stdout)
	addr, err := lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	stopped := holdStream(t, strings.TrimSpace(addr))
	if _, err := stdin.Write([]byte("watch\n")); err != nil {
		t.Fatal(err)
	}
	var switches, micros int64
	for _, v := range []*int64{&switches, &micros} {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if *v, err = strconv.ParseInt(strings.TrimSpace(line), 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-stopped:
		t.Fatalf("the stream ended: %v", err)
	default:
	}
	rate := float64(switches) / idleLength.Seconds()
	t.Logf("%.1f wake-ups a second, %.3f %% of a core", rate, float64(micros)/float64(idleLength.Microseconds())*100)
	if rate > idleWakeUps {
		t.Errorf("the idle server woke up %.1f times a second, at most %d are expected", rate, idleWakeUps)
	}
}

// holdStream opens a StreamingPull that has delivered one message.
func holdStream(t *testing.T, addr string) <-chan error {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c, err := pubsub.NewClient(t.Context(), "test", option.WithGRPCConn(conn), option.WithTelemetryDisabled())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	sub := c.Subscriber(subA)
	sub.ReceiveSettings.NumGoroutines = 1
	stopped, came := make(chan error, 1), make(chan struct{}, 1)
	go func() {
		stopped <- sub.Receive(ctx, func(_ context.Context, m *pubsub.Message) {
			m.Ack()
			select {
			case came <- struct{}{}:
			default:
			}
		})
	}()
	if _, err := c.Publisher(topicA).Publish(ctx, &pubsub.Message{Data: []byte("first")}).Get(ctx); err != nil {
		t.Fatal(err)
	}
	select {
	case <-came:
	case err := <-stopped:
		t.Fatalf("the stream ended: %v", err)
	case <-time.After(10 * time.Second):
		t.Fatal("no message came in 10 s")
	}
	return stopped
}

// TestIdleServer is the other process of TestIdleStream. It writes its address, and
// when told to watch, its voluntary context switches and its processor time in
// microseconds.
func TestIdleServer(t *testing.T) {
	dir := os.Getenv(idleEnv)
	if dir == "" {
		t.Skip("TestIdleStream runs it in a process of its own")
	}
	f := open(t, Options{Dir: dir}).alpha()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(ServerOptions()...)
	f.Register(g)
	done := make(chan error, 1)
	go func() { done <- g.Serve(lis) }()
	in := bufio.NewReader(os.Stdin)
	say(t, lis.Addr().String())
	if _, err := in.ReadString('\n'); err != nil {
		return // the parent has given up
	}
	time.Sleep(2 * time.Second) // acknowledgement, flush and collection come to rest
	before := usage(t)
	time.Sleep(idleLength)
	after := usage(t)
	say(t, strconv.FormatInt(after.Nvcsw-before.Nvcsw, 10))
	say(t, strconv.FormatInt((after.Utime.Nano()+after.Stime.Nano()-before.Utime.Nano()-before.Stime.Nano())/1000, 10))
	_, _ = in.ReadString('\n') // until the parent is done
	g.Stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func say(t *testing.T, line string) {
	t.Helper()
	if _, err := os.Stdout.WriteString(line + "\n"); err != nil {
		t.Fatal(err)
	}
}

func usage(t *testing.T) syscall.Rusage {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return u
}

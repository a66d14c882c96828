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
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
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
		{"close sends what waits", testClose},
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
	b := &bench{project: "p", addr: server.Addr}
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

func testEnsure(t *testing.T, b *bench) {
	r := b.newRoute()
	want := []string{
		"topic " + r.Topic, "topic " + r.DeadLetterTopic,
		"subscription " + r.Subscription, "subscription " + r.DeadLetterSubscription,
	}
	if got, err := b.client.Missing(limited(t), r); err != nil || !slices.Equal(got, want) {
		t.Errorf("missing before: %q, %v; want %q", got, err, want)
	}
	for range 2 {
		if err := b.client.Ensure(limited(t), r); err != nil {
			t.Fatal(err)
		}
		if got, err := b.client.Missing(limited(t), r); err != nil || len(got) != 0 {
			t.Errorf("missing after: %q, %v; want none", got, err)
		}
	}
	// Each subscription is on its own topic.
	b.publish(t, r.DeadLetterTopic, "dead")
	b.publish(t, r.Topic, "live")
	for sub, want := range map[string]string{r.Subscription: "live", r.DeadLetterSubscription: "dead"} {
		if got := b.receive(t, sub, bus.ReceiveOptions{}, until(1)); string(got[0].Data) != want {
			t.Errorf("subscription %s has %q, want %q", sub, got[0].Data, want)
		}
	}
}

func testEnsureConcurrently(t *testing.T, b *bench) {
	r, ctx := b.newRoute(), limited(t)
	var workers sync.WaitGroup
	for range 6 {
		workers.Go(func() {
			if err := b.client.Ensure(ctx, r); err != nil {
				t.Errorf("ensure beside others: %v", err)
			}
		})
	}
	workers.Wait()
}

func testPublish(t *testing.T, b *bench) {
	r := b.ensured(t)
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	sent := []bus.Message{
		{Data: []byte(`{"origin":"SCL"}`), Attributes: map[string]string{"event_id": "1", "empty": "", "ñ": "✈"}},
		{Data: every},
		{Attributes: map[string]string{"only": "attributes"}},
		{Data: bytes.Repeat([]byte("x"), 1<<20)},
	}
	before := time.Now()
	want := map[string]bus.Message{}
	for _, m := range sent {
		id, err := b.client.Publish(limited(t), r.Topic, m.Data, m.Attributes)
		if err != nil {
			t.Fatal(err)
		}
		if _, double := want[id]; double || id == "" {
			t.Errorf("message id %q is empty or given twice", id)
		}
		want[id] = m
	}
	for _, got := range b.receive(t, r.Subscription, bus.ReceiveOptions{}, until(len(sent))) {
		m := want[got.ID]
		if !bytes.Equal(m.Data, got.Data) {
			t.Errorf("message %s has other data than was sent: %d bytes, want %d", got.ID, len(got.Data), len(m.Data))
		}
		if len(m.Attributes)+len(got.Attributes) > 0 && !cmp.Equal(m.Attributes, got.Attributes) {
			t.Errorf("message %s has attributes %v, want %v", got.ID, got.Attributes, m.Attributes)
		}
		if d := got.PublishTime.Sub(before); d < -time.Second || d > timeout {
			t.Errorf("message %s was published at %v, the test began at %v", got.ID, got.PublishTime, before)
		}
		if got.DeliveryAttempt != 0 {
			t.Errorf("delivery attempt %d on a subscription without a dead-letter policy", got.DeliveryAttempt)
		}
	}
}

func testPublishConcurrently(t *testing.T, b *bench) {
	r, ctx := b.ensured(t), limited(t)
	const n = 200
	ids := make([]string, n)
	var workers sync.WaitGroup
	for i := range n {
		workers.Go(func() {
			var err error
			if ids[i], err = b.client.Publish(ctx, r.Topic, []byte(fmt.Sprint(i)), nil); err != nil {
				t.Error(err)
			}
		})
	}
	workers.Wait()
	for _, m := range b.receive(t, r.Subscription, bus.ReceiveOptions{}, until(n)) {
		var i int
		if _, err := fmt.Sscan(string(m.Data), &i); err != nil || ids[i] != m.ID {
			t.Fatalf("message %q has id %s, its publisher was told %s (%v)", m.Data, m.ID, ids[i], err)
		}
	}
}

func testPublishBatch(t *testing.T, b *bench) {
	r := b.ensured(t)
	const n = 20
	var sent []bus.Message
	for i := range n {
		sent = append(sent, bus.Message{Data: []byte(fmt.Sprint(i)), Attributes: map[string]string{"i": fmt.Sprint(i)}})
	}
	ids, err := b.client.PublishBatch(limited(t), r.Topic, sent)
	if err != nil || len(ids) != n {
		t.Fatalf("%d ids, %v; want %d", len(ids), err, n)
	}
	position := map[string]int{}
	for i, id := range ids {
		position[id] = i
	}
	if len(position) != n {
		t.Fatalf("%d different ids for %d messages", len(position), n)
	}
	// One message at a time, so that the order of the callbacks is that of the delivery.
	got := b.receive(t, r.Subscription, bus.ReceiveOptions{MaxMessages: 1}, until(n))
	for i, m := range got {
		at := position[m.ID]
		if string(m.Data) != string(sent[at].Data) || m.Attributes["i"] != sent[at].Attributes["i"] {
			t.Errorf("id %s belongs to message %q, not to %q: the ids are not in the order of the messages", m.ID, m.Data, sent[at].Data)
		}
		if b.inOrder && at != i {
			t.Fatalf("message %d came as number %d", at, i)
		}
	}
	if ids, err := b.client.PublishBatch(limited(t), r.Topic, nil); err != nil || len(ids) != 0 {
		t.Errorf("a batch of none gives %q, %v", ids, err)
	}
}

func testRedelivery(t *testing.T, b *bench) {
	r := b.ensured(t)
	id := b.publish(t, r.Topic, "again")
	kept := b.publish(t, r.Topic, "once")
	seen := map[string]int{}
	b.receive(t, r.Subscription, bus.ReceiveOptions{}, func(m bus.Message) (ack, done bool) {
		seen[m.ID]++
		ack = m.ID != id || seen[m.ID] == 3
		return ack, seen[id] == 3 && seen[kept] == 1
	})
	if seen[id] != 3 || seen[kept] != 1 {
		t.Errorf("deliveries %v: %s was given back twice, %s acknowledged at once", seen, id, kept)
	}
	// What was acknowledged does not come back: the next message is the only one.
	last := b.publish(t, r.Topic, "last")
	if got := b.receive(t, r.Subscription, bus.ReceiveOptions{}, until(1)); got[0].ID != last {
		t.Errorf("message %q came back after it was acknowledged", got[0].Data)
	}
}

// testDrain ends the context while callbacks run. Receive must wait for them and must have sent
// what they answer before it returns: a lost acknowledgement shows only when the lease ends, so the
// test counts what goes over the wire.
func testDrain(t *testing.T, b *bench) {
	r := b.ensured(t)
	var acked, nacked atomic.Int64
	c := b.open(t, bus.Options{}, grpc.WithUnaryInterceptor(func(
		ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
	) error {
		err := invoke(ctx, method, req, reply, cc, opts...)
		switch req := req.(type) {
		case *pubsubpb.AcknowledgeRequest:
			acked.Add(int64(len(req.GetAckIds())))
		case *pubsubpb.ModifyAckDeadlineRequest:
			if req.GetAckDeadlineSeconds() == 0 {
				nacked.Add(int64(len(req.GetAckIds())))
			}
		}
		return err
	}))
	const n = 5
	for i := range n {
		b.publish(t, r.Topic, fmt.Sprint(i))
	}
	ctx, cancel := context.WithCancel(limited(t))
	defer cancel()
	running, release, returned := make(chan string, n), make(chan struct{}), make(chan error, 1)
	var after atomic.Bool
	go func() {
		returned <- c.Receive(ctx, r.Subscription, bus.ReceiveOptions{}, func(_ context.Context, m bus.Message) bool {
			if after.Load() {
				t.Errorf("message %q came after the context ended", m.Data)
			}
			running <- m.ID
			<-release
			return string(m.Data) != "0"
		})
	}()
	for range n {
		select {
		case <-running:
		case err := <-returned:
			t.Fatalf("receive ended early: %v", err)
		case <-ctx.Done():
			t.Fatal("the messages were not delivered")
		}
	}
	after.Store(true)
	cancel()
	select {
	case err := <-returned:
		t.Fatalf("receive returned %v while callbacks ran", err)
	case <-time.After(100 * time.Millisecond):
	}
	close(release)
	select {
	case err := <-returned:
		if err != nil {
			t.Fatalf("receive returned %v after its drain, want nil", err)
		}
	case <-time.After(timeout):
		t.Fatal("receive did not return after its callbacks did")
	}
	if acked.Load() != n-1 || nacked.Load() < 1 {
		t.Errorf("%d messages acknowledged and %d given back when receive returned, want %d and 1", acked.Load(), nacked.Load(), n-1)
	}
}

// testOutstanding checks that no more messages are held than the options say.
func testOutstanding(t *testing.T, b *bench) {
	r := b.ensured(t)
	const limit, n = 3, 12
	for i := range n {
		b.publish(t, r.Topic, fmt.Sprint(i))
	}
	ctx, cancel := context.WithCancel(limited(t))
	defer cancel()
	var now, most, total atomic.Int64
	full := make(chan struct{})
	err := b.client.Receive(ctx, r.Subscription, bus.ReceiveOptions{MaxMessages: limit}, func(context.Context, bus.Message) bool {
		holding := now.Add(1)
		defer now.Add(-1)
		for {
			seen := most.Load()
			if holding <= seen || most.CompareAndSwap(seen, holding) {
				break
			}
		}
		nth := total.Add(1)
		if nth == limit {
			close(full)
		}
		if nth <= limit { // The first ones hold their places, so that one too many would show.
			select {
			case <-full:
				<-time.After(200 * time.Millisecond)
			case <-ctx.Done():
			}
		}
		if nth == n {
			cancel()
		}
		return true
	})
	if err != nil || most.Load() != limit || total.Load() < n {
		t.Errorf("held %d of %d messages at a time, error %v; want %d", most.Load(), total.Load(), err, limit)
	}
}

func testNotFound(t *testing.T, b *bench) {
	r := b.newRoute()
	ctx := limited(t)
	_, publishErr := b.client.Publish(ctx, r.Topic, []byte("x"), nil)
	_, batchErr := b.client.PublishBatch(ctx, r.Topic, []bus.Message{{Data: []byte("x")}})
	for what, err := range map[string]error{
		"publish": publishErr,
		"batch":   batchErr,
		"ping":    b.client.Ping(ctx, r.Topic),
		"receive": b.client.Receive(ctx, r.Subscription, bus.ReceiveOptions{}, func(context.Context, bus.Message) bool { return false }),
	} {
		checkKind(t, what, err, bus.ErrNotFound)
	}
	if err := b.client.Ping(ctx, b.ensured(t).Topic); err != nil {
		t.Errorf("ping of a topic that exists: %v", err)
	}
}

func testClose(t *testing.T, b *bench) {
	r := b.ensured(t)
	c := b.open(t, bus.Options{PublishDelay: 10 * time.Minute})
	published := make(chan error, 1)
	go func() {
		_, err := c.Publish(limited(t), r.Topic, []byte("waits for company"), nil)
		published <- err
	}()
	// Close may come before the message is handed over; then publishing fails and nothing is lost.
	select {
	case err := <-published:
		t.Fatalf("published at once: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-published; err != nil {
		t.Fatalf("close dropped a message: %v", err)
	}
	b.receive(t, r.Subscription, bus.ReceiveOptions{}, until(1))
}

// checkKind checks that an error is of one kind only.
func checkKind(t *testing.T, what string, err, want error) {
	t.Helper()
	for _, kind := range []error{bus.ErrUnavailable, bus.ErrNotFound, bus.ErrDenied, bus.ErrRefused} {
		if is := errors.Is(err, kind); is != (kind == want) {
			t.Errorf("%s: %v; is %q: %v, want only %q", what, err, kind, is, want)
		}
	}
}

func TestErrorKinds(t *testing.T) {
	t.Parallel()
	for code, want := range map[codes.Code]error{
		codes.PermissionDenied:   bus.ErrDenied,
		codes.Unauthenticated:    bus.ErrDenied,
		codes.InvalidArgument:    bus.ErrRefused,
		codes.FailedPrecondition: bus.ErrRefused,
		codes.Unavailable:        bus.ErrUnavailable,
		codes.NotFound:           bus.ErrNotFound,
	} {
		t.Run(code.String(), func(t *testing.T) {
			t.Parallel()
			var options []pstest.ServerReactorOption
			for _, call := range []string{"Publish", "GetTopic", "CreateTopic"} {
				options = append(options, pstest.WithErrorInjection(call, code, "scripted"))
			}
			server := pstest.NewServer(options...)
			t.Cleanup(func() { _ = server.Close() })
			b := &bench{project: "p", addr: server.Addr}
			fail := func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, grpc.Streamer, ...grpc.CallOption) (grpc.ClientStream, error) {
				return nil, status.Error(code, "scripted")
			}
			c := b.open(t, bus.Options{PublishTimeout: 300 * time.Millisecond}, grpc.WithStreamInterceptor(fail))
			// The client retries what is unavailable until its caller gives up.
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if want == bus.ErrUnavailable {
				ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
				defer cancel()
			}
			r := b.newRoute()
			_, err := c.Publish(ctx, r.Topic, []byte("x"), nil)
			checkKind(t, "publish", err, want)
			_, err = c.PublishBatch(ctx, r.Topic, []bus.Message{{Data: []byte("x")}})
			checkKind(t, "batch", err, want)
			checkKind(t, "ensure", c.Ensure(ctx, r), want)
			if want != bus.ErrNotFound {
				_, err = c.Missing(ctx, r)
				checkKind(t, "missing", err, want)
			}
			if err := c.Ping(ctx, r.Topic); want == bus.ErrDenied {
				if err != nil {
					t.Errorf("ping by a caller that may only publish: %v, want nil", err)
				}
			} else {
				checkKind(t, "ping", err, want)
			}
			if want != bus.ErrUnavailable {
				err = c.Receive(ctx, r.Subscription, bus.ReceiveOptions{}, func(context.Context, bus.Message) bool { return false })
				checkKind(t, "receive", err, want)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	b := &bench{project: "p", addr: freeAddr(t)}
	c := b.open(t, bus.Options{PublishTimeout: 300 * time.Millisecond})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	checkKind(t, "ping", c.Ping(ctx, "t"), bus.ErrUnavailable)
	_, err := c.Publish(ctx, "t", []byte("x"), nil)
	checkKind(t, "publish", err, bus.ErrUnavailable)
	// What is still under way must not hold up the end of the program for long.
	start := time.Now()
	_ = c.Close()
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("close took %v, publishing is limited to 300ms", took)
	}
}

func TestOpenWithoutProject(t *testing.T) {
	t.Parallel()
	if c, err := bus.Open(t.Context(), bus.Options{}); err == nil {
		_ = c.Close()
		t.Error("opened without a project")
	}
}

func TestRouteOf(t *testing.T) {
	t.Parallel()
	d, err := dataset.Load("latam.yaml", []byte(`
version: 1
name: test
datasets:
  events:
    topic: things
    fields: {code: {type: string, required: true}}
    key: [code]
`))
	if err != nil {
		t.Fatal(err)
	}
	want := bus.Route{Topic: "things", Subscription: "things-ingest", DeadLetterTopic: "things-dead", DeadLetterSubscription: "things-dead-inspect"}
	if got := bus.RouteOf(d.Datasets[0]); got != want {
		t.Errorf("route %+v, want %+v", got, want)
	}
}

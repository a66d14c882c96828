package bus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/latamctl/latamctl/pkg/bus"
)

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
	if got, err := b.client.Detached(limited(t), r); err != nil || len(got) != 0 {
		t.Errorf("detached: %q, %v; want none", got, err)
	}
	crossed := bus.Route{Topic: r.DeadLetterTopic, Subscription: r.Subscription, DeadLetterTopic: r.Topic, DeadLetterSubscription: "none-of-these"}
	if got, err := b.client.Detached(limited(t), crossed); err != nil || !slices.Equal(got, []string{"subscription " + r.Subscription + " is on topic " + r.Topic}) {
		t.Errorf("detached of a crossed route: %q, %v", got, err)
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

// testWaiting looks past a stream that holds its messages: only what nobody has in hands waits, and it
// can be received afterwards.
func testWaiting(t *testing.T, b *bench) {
	r := b.ensured(t)
	waits := func(want bool) {
		t.Helper()
		got, err := b.client.Waiting(limited(t), r.Subscription)
		if err != nil || got != want {
			t.Errorf("a message waits: %v, %v; want %v", got, err, want)
		}
	}
	waits(false)
	id := b.publish(t, r.Topic, "waits")
	deadline := time.Now().Add(timeout)
	for found := false; !found && time.Now().Before(deadline); { // A request that does not wait may miss it at first.
		var err error
		if found, err = b.client.Waiting(limited(t), r.Subscription); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.receive(t, r.Subscription, bus.ReceiveOptions{}, until(1)); got[0].ID != id {
		t.Errorf("received %q after the look, want the message", got[0].Data)
	}
	waits(false)
	_, err := b.client.Waiting(limited(t), "absent")
	checkKind(t, "look at a subscription that does not exist", err, bus.ErrNotFound)
}

// testFresh receives over a connection of its own and leaves the client's alone.
func testFresh(t *testing.T, b *bench) {
	r := b.ensured(t)
	var dialled atomic.Int64
	c := b.open(t, bus.Options{Redial: func() ([]option.ClientOption, error) {
		dialled.Add(1)
		conn, err := grpc.NewClient(b.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		return []option.ClientOption{option.WithGRPCConn(conn)}, err
	}})
	for i := range int64(3) {
		id := b.publish(t, r.Topic, fmt.Sprint(i))
		ctx, cancel := context.WithCancel(limited(t))
		err := c.Receive(ctx, r.Subscription, bus.ReceiveOptions{Fresh: i > 0}, func(_ context.Context, m bus.Message) bool {
			if m.ID == id {
				cancel()
			}
			return true
		})
		cancel()
		if err != nil || dialled.Load() != i {
			t.Errorf("receive number %d: %v after %d connections, want %d", i, err, dialled.Load(), i)
		}
	}
	if err := c.Ping(limited(t), r.Topic); err != nil {
		t.Errorf("the client's own connection: %v", err)
	}
	if _, err := c.Waiting(limited(t), r.Subscription); err != nil || dialled.Load() != 3 {
		t.Errorf("look: %v after %d connections, want 3", err, dialled.Load())
	}
	broken := b.open(t, bus.Options{Redial: func() ([]option.ClientOption, error) { return nil, errors.New("no route") }})
	_, err := broken.Waiting(limited(t), r.Subscription)
	checkKind(t, "a connection that cannot be had", err, bus.ErrUnavailable)
}

package topiclog

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
)

const (
	project = "projects/test"
	topicA  = project + "/topics/alpha"
	topicB  = project + "/topics/beta"
	subA    = project + "/subscriptions/alpha-sub"
	subB    = project + "/subscriptions/beta-sub"
)

// clock is a settable clock.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// fixture is a server with its three services, called without a network.
type fixture struct {
	*Server
	pub  *publisher
	sub  *subscriber
	sch  *schemaService
	ctx  context.Context
	t    testing.TB
	opts Options
}

func open(t testing.TB, opts Options) *fixture {
	t.Helper()
	s, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	return wrap(t, s, opts)
}

func wrap(t testing.TB, s *Server, opts Options) *fixture {
	t.Cleanup(func() { _ = s.Close() })
	return &fixture{
		Server: s, pub: &publisher{Server: s}, sub: &subscriber{Server: s}, sch: &schemaService{Server: s},
		ctx: context.Background(), t: t, opts: opts,
	}
}

// reopen closes the server and opens its folder again.
func (f *fixture) reopen() *fixture {
	f.t.Helper()
	if err := f.Close(); err != nil {
		f.t.Fatal(err)
	}
	return open(f.t, f.opts)
}

func (f *fixture) topic(name string) {
	f.t.Helper()
	if _, err := f.pub.CreateTopic(f.ctx, &pubsubpb.Topic{Name: name}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) subscribe(cfg *pubsubpb.Subscription) {
	f.t.Helper()
	if _, err := f.sub.CreateSubscription(f.ctx, cfg); err != nil {
		f.t.Fatal(err)
	}
}

// alpha makes topicA with subA.
func (f *fixture) alpha() *fixture {
	f.t.Helper()
	f.topic(topicA)
	f.subscribe(&pubsubpb.Subscription{Name: subA, Topic: topicA})
	return f
}

func (f *fixture) publish(topic string, data ...string) []string {
	f.t.Helper()
	msgs := make([]*pubsubpb.PubsubMessage, len(data))
	for i, d := range data {
		msgs[i] = &pubsubpb.PubsubMessage{Data: []byte(d)}
	}
	return f.publishMsgs(topic, msgs...)
}

func (f *fixture) publishMsgs(topic string, msgs ...*pubsubpb.PubsubMessage) []string {
	f.t.Helper()
	res, err := f.pub.Publish(f.ctx, &pubsubpb.PublishRequest{Topic: topic, Messages: msgs})
	if err != nil {
		f.t.Fatal(err)
	}
	return res.GetMessageIds()
}

// pull returns what is there at once, over as many calls as it takes.
func (f *fixture) pull(sub string) []*pubsubpb.ReceivedMessage {
	f.t.Helper()
	var all []*pubsubpb.ReceivedMessage
	for {
		res, err := f.sub.Pull(f.ctx, &pubsubpb.PullRequest{Subscription: sub, MaxMessages: 1000, ReturnImmediately: true})
		if err != nil {
			f.t.Fatal(err)
		}
		if len(res.GetReceivedMessages()) == 0 {
			return all
		}
		all = append(all, res.GetReceivedMessages()...)
	}
}

func (f *fixture) ack(sub string, msgs ...*pubsubpb.ReceivedMessage) {
	f.t.Helper()
	if _, err := f.sub.Acknowledge(f.ctx, &pubsubpb.AcknowledgeRequest{Subscription: sub, AckIds: ackIDs(msgs)}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) nack(sub string, msgs ...*pubsubpb.ReceivedMessage) {
	f.t.Helper()
	f.modack(sub, 0, msgs...)
}

func (f *fixture) modack(sub string, seconds int32, msgs ...*pubsubpb.ReceivedMessage) {
	f.t.Helper()
	if _, err := f.sub.ModifyAckDeadline(f.ctx, &pubsubpb.ModifyAckDeadlineRequest{Subscription: sub, AckIds: ackIDs(msgs), AckDeadlineSeconds: seconds}); err != nil {
		f.t.Fatal(err)
	}
}

func ackIDs(msgs []*pubsubpb.ReceivedMessage) []string {
	ids := make([]string, len(msgs))
	for i, m := range msgs {
		ids[i] = m.GetAckId()
	}
	return ids
}

func datas(msgs []*pubsubpb.ReceivedMessage) []string {
	out := []string{}
	for _, m := range msgs {
		out = append(out, string(m.GetMessage().GetData()))
	}
	return out
}

// names returns n payloads with a prefix.
func names(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return out
}

// until waits for a condition that another goroutine brings about.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited 10 s for %s", what)
		}
		time.Sleep(200 * time.Microsecond)
	}
}

// serve puts a server on an in-process listener and returns a connection.
func serve(t testing.TB, s *Server) *grpc.ClientConn {
	t.Helper()
	lis := bufconn.Listen(1 << 20)
	g := grpc.NewServer(ServerOptions()...)
	s.Register(g)
	done := make(chan error, 1)
	go func() { done <- g.Serve(lis) }()
	conn, err := grpc.NewClient("passthrough:///topiclog",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		g.Stop()
		if err := <-done; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	return conn
}

// official returns Google's client for a server.
func official(t testing.TB, s *Server) *pubsub.Client {
	t.Helper()
	c, err := pubsub.NewClient(context.Background(), "test", option.WithGRPCConn(serve(t, s)), option.WithTelemetryDisabled())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

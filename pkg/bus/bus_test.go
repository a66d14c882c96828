package bus_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
)

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

package roundtrip_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/latamctl/latamctl/pkg/telemetry/roundtrip"
)

// answer is how one request ends.
type answer struct {
	pause  time.Duration // of the client before it
	took   time.Duration // until its end, or that of the context
	err    error         // io.EOF after an answer
	closed bool          // fails before it has a stream
}

type fakeStream struct {
	grpc.ClientStream
	ctx context.Context
	answer
}

func (s *fakeStream) RecvMsg(any) error {
	select {
	case <-time.After(s.took):
		return s.err
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// ask makes requests one after the other, as a client does that tries again.
func ask(ctx context.Context, answers []answer) {
	for _, a := range answers {
		time.Sleep(a.pause)
		open := func(ctx context.Context, _ *grpc.StreamDesc, _ *grpc.ClientConn, _ string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
			if a.closed {
				time.Sleep(a.took)
				return nil, a.err
			}
			return &fakeStream{ctx: ctx, answer: a}, nil
		}
		if stream, err := roundtrip.Interceptor(ctx, nil, nil, "MutateRows", open); err == nil {
			_ = stream.RecvMsg(nil)
		}
	}
}

func TestSlowest(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	away := errors.New("away")
	for _, tc := range []struct {
		name    string
		answers []answer
		want    time.Duration
		known   bool
	}{
		{"nothing asked", nil, 0, false},
		{"one answer", []answer{{took: 3 * ms, err: io.EOF}}, 3 * ms, true},
		{"the slowest of two", []answer{{took: 9 * ms, err: io.EOF}, {pause: 90 * ms, took: 3 * ms, err: io.EOF}}, 9 * ms, true},
		{"pauses and failures do not count", []answer{{took: 500 * ms, err: away}, {pause: 90 * ms, took: 3 * ms, err: io.EOF}}, 3 * ms, true},
		{"all fail", []answer{{took: 500 * ms, err: away}, {took: 300 * ms, err: away, closed: true}}, 0, false},
		{"cut off by the deadline", []answer{{took: time.Hour, err: io.EOF}}, time.Second, true},
		{"cut off at once", []answer{{pause: 900 * ms, took: time.Hour, err: io.EOF}}, 0, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, times := roundtrip.Watch(t.Context())
				ctx, cancel := context.WithTimeout(ctx, time.Second)
				defer cancel()
				ask(ctx, tc.answers)
				if took, known := times.Slowest(); took != tc.want || known != tc.known {
					t.Errorf("slowest %v, known %v; want %v, %v", took, known, tc.want, tc.known)
				}
				if times.Made() != len(tc.answers) {
					t.Errorf("%d requests were made, want %d", times.Made(), len(tc.answers))
				}
			})
		})
	}
}

// TestUnwatched passes a stream on as it is.
func TestUnwatched(t *testing.T) {
	t.Parallel()
	want := &fakeStream{}
	open := func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
		return want, nil
	}
	if got, err := roundtrip.Interceptor(t.Context(), nil, nil, "MutateRows", open); got != grpc.ClientStream(want) || err != nil {
		t.Errorf("got %v, %v; want the stream itself", got, err)
	}
}

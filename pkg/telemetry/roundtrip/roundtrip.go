// Package roundtrip times the requests of a Bigtable client one by one. The client tries again itself
// and pauses in between for up to seconds, so that the time of a call says little about the store.
package roundtrip

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
)

// Times are those of the requests that were made under a context of Watch. It is safe for concurrent use.
type Times struct {
	began time.Time

	mu      sync.Mutex
	made    int
	known   bool
	slowest time.Duration
}

type timesKey struct{}

// Watch returns a context under which streaming requests are timed, where their connection has the
// Interceptor.
func Watch(ctx context.Context) (context.Context, *Times) {
	t := &Times{began: time.Now()}
	return context.WithValue(ctx, timesKey{}, t), t
}

// Made is how many requests were made; it stays 0 on a connection without the Interceptor.
func (t *Times) Made() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.made
}

// Slowest is the longest time that the server took for an answer, from the request to its end. A
// request that failed tells nothing of it, unless the deadline cut it off while it waited: then the
// server takes at least that long. Known is false when no request tells anything.
func (t *Times) Slowest() (took time.Duration, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.slowest, t.known
}

func (t *Times) add(ctx context.Context, took time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.made++
	// One that began shortly before the deadline was cut off without having waited.
	cut := errors.Is(ctx.Err(), context.DeadlineExceeded) && took >= time.Since(t.began)/2
	if errors.Is(err, io.EOF) || cut {
		t.known, t.slowest = true, max(t.slowest, took)
	}
}

// Interceptor times the requests of a connection that are made under a context of Watch.
func Interceptor(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	t, ok := ctx.Value(timesKey{}).(*Times)
	if !ok {
		return open(ctx, desc, conn, method, opts...)
	}
	began := time.Now()
	stream, err := open(ctx, desc, conn, method, opts...)
	if err != nil {
		t.add(ctx, time.Since(began), err)
		return nil, err
	}
	return &timedStream{ClientStream: stream, ctx: ctx, times: t, began: began}, nil
}

// timedStream ends with the error of a receive, which is io.EOF after an answer.
type timedStream struct {
	grpc.ClientStream
	ctx   context.Context
	times *Times
	began time.Time
}

// RecvMsg implements grpc.ClientStream.
func (s *timedStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err != nil {
		s.times.add(s.ctx, time.Since(s.began), err)
	}
	return err
}

package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/latamctl/latamctl/pkg/store"
)

// readServer answers ReadRows with one cell for each key that does not begin with "absent", whose
// value is the key and the filter's columns. Before that it asks hook, which may wait or fail.
type readServer struct {
	bigtablepb.UnimplementedBigtableServer
	hook func(ctx context.Context, call int, keys []string) error

	mu    sync.Mutex
	calls [][]string
}

func (s *readServer) ReadRows(req *bigtablepb.ReadRowsRequest, stream bigtablepb.Bigtable_ReadRowsServer) error {
	var keys []string
	for _, key := range req.GetRows().GetRowKeys() {
		keys = append(keys, string(key))
	}
	s.mu.Lock()
	call := len(s.calls)
	s.calls = append(s.calls, keys)
	s.mu.Unlock()
	if s.hook != nil {
		if err := s.hook(stream.Context(), call, keys); err != nil {
			return err
		}
	}
	columns := "all"
	for _, f := range req.GetFilter().GetChain().GetFilters() {
		if q := f.GetColumnQualifierRegexFilter(); len(q) > 0 {
			columns = string(q)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		if strings.HasPrefix(key, "absent") {
			continue
		}
		err := stream.Send(&bigtablepb.ReadRowsResponse{Chunks: []*bigtablepb.ReadRowsResponse_CellChunk{{
			RowKey: []byte(key), FamilyName: wrapperspb.String("d"), Qualifier: wrapperspb.Bytes([]byte("c")), TimestampMicros: 1000,
			Value: []byte(key + " " + columns), RowStatus: &bigtablepb.ReadRowsResponse_CellChunk_CommitRow{CommitRow: true},
		}}})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *readServer) seen() [][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// awaitCalls waits until the server has had that many calls.
func (s *readServer) awaitCalls(t *testing.T, n int) {
	t.Helper()
	await(t, fmt.Sprintf("%d calls", n), func() bool { return len(s.seen()) >= n })
}

func await(t *testing.T, what string, reached func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !reached() {
		if time.Now().After(deadline) {
			t.Fatalf("waited 10s for %s", what)
		}
		time.Sleep(100 * time.Microsecond) // Only the pace of asking: the condition decides.
	}
}

// checkGet reads a row and checks that it is the one asked for.
func checkGet(t *testing.T, c *store.Client, key string, columns ...string) {
	t.Helper()
	row, err := c.Get(t.Context(), "t", key, columns)
	if strings.HasPrefix(key, "absent") {
		if !errors.Is(err, store.ErrNotFound) {
			t.Errorf("get %s: %v, %v, want not found", key, row, err)
		}
		return
	}
	want := key + " all"
	if len(columns) > 0 {
		want = key + " " + strings.Join(columns, "|")
	}
	if err != nil || row.Key != key || len(row.Cells) != 1 || string(row.Cells[0].Value) != want {
		t.Errorf("get %s: %v, %v, want %q", key, row, err, want)
	}
}

// held is a server whose first call waits until release is closed.
func held(t *testing.T, then func(keys []string) error) (c *store.Client, server *readServer, release func()) {
	t.Helper()
	gate := make(chan struct{})
	server = &readServer{hook: func(ctx context.Context, call int, keys []string) error {
		if call == 0 {
			select {
			case <-gate:
			case <-ctx.Done():
			}
			return nil
		}
		if then != nil {
			return then(keys)
		}
		return nil
	}}
	c = serve(t, server, store.Options{MaxConcurrentGets: 1})
	return c, server, sync.OnceFunc(func() { close(gate) })
}

func TestGetsShareRequests(t *testing.T) {
	t.Parallel()
	c, server, release := held(t, nil)
	var all sync.WaitGroup
	all.Go(func() { checkGet(t, c, "first") })
	server.awaitCalls(t, 1) // A lone get goes at once.
	for i := range 250 {
		all.Go(func() {
			checkGet(t, c, []string{"a", "b", "absent", fmt.Sprintf("row%d", i)}[i%4])
		})
	}
	await(t, "250 gets that wait", func() bool { return store.Waiting(c, "t") == 250 })
	release()
	all.Wait()
	calls := server.seen()
	if len(calls) != 4 { // 250 waited, at most 100 go together.
		t.Errorf("%d requests, want 4", len(calls))
	}
	for _, keys := range calls {
		if sorted := slices.Sorted(slices.Values(keys)); len(slices.Compact(sorted)) != len(keys) {
			t.Errorf("a request asks for a key twice: %q", keys)
		}
	}
}

func TestGetsOfOtherColumnsGoApart(t *testing.T) {
	t.Parallel()
	c, server, release := held(t, nil)
	var all sync.WaitGroup
	all.Go(func() { checkGet(t, c, "first") })
	server.awaitCalls(t, 1)
	for i := range 30 {
		all.Go(func() {
			switch i % 3 {
			case 0:
				checkGet(t, c, fmt.Sprint("k", i))
			case 1:
				checkGet(t, c, fmt.Sprint("k", i), "x")
			case 2:
				checkGet(t, c, fmt.Sprint("k", i), "x", "y")
			}
		})
	}
	await(t, "30 gets that wait", func() bool { return store.Waiting(c, "t") == 30 })
	release()
	all.Wait()
	if n := len(server.seen()); n != 4 {
		t.Errorf("%d requests for three sets of columns and the first, want 4", n)
	}
}

func TestOneCallerGivesUp(t *testing.T) {
	t.Parallel()
	entered, gate := make(chan struct{}), make(chan struct{})
	c, server, release := held(t, func([]string) error { close(entered); <-gate; return nil })
	var all sync.WaitGroup
	all.Go(func() { checkGet(t, c, "first") })
	server.awaitCalls(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	short, stop := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer stop()
	var quitters sync.WaitGroup
	quitters.Go(func() {
		if _, err := c.Get(ctx, "t", "a", nil); !errors.Is(err, context.Canceled) {
			t.Errorf("the caller that gave up got %v", err)
		}
	})
	quitters.Go(func() {
		_, err := c.Get(short, "t", "b", nil)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("the caller whose time was over got %v", err)
		}
	})
	all.Go(func() { checkGet(t, c, "c") })
	await(t, "three gets that wait", func() bool { return store.Waiting(c, "t") == 3 })
	release()
	<-entered
	cancel()
	quitters.Wait() // They end while their request still runs.
	close(gate)
	all.Wait()
}

func TestGetThatWaitsForItsTurnGivesUp(t *testing.T) {
	t.Parallel()
	c, server, release := held(t, nil)
	var all sync.WaitGroup
	all.Go(func() { checkGet(t, c, "first") })
	server.awaitCalls(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := c.Get(ctx, "t", "a", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if n := store.Waiting(c, "t"); n != 0 {
		t.Errorf("%d gets still wait", n)
	}
	release()
	all.Wait()
	if n := len(server.seen()); n != 1 {
		t.Errorf("%d requests: the one of nobody was sent as well", n)
	}
}

func TestRequestOfNobodyEnds(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	server := &readServer{}
	gate := make(chan struct{})
	server.hook = func(ctx context.Context, call int, _ []string) error {
		if call == 0 {
			<-gate
			return nil
		}
		<-ctx.Done()
		close(ended)
		return ctx.Err()
	}
	c := serve(t, server, store.Options{MaxConcurrentGets: 1})
	var all sync.WaitGroup
	all.Go(func() { checkGet(t, c, "first") })
	server.awaitCalls(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	for i := range 2 {
		all.Go(func() {
			if _, err := c.Get(ctx, "t", fmt.Sprint("k", i), nil); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
	}
	await(t, "two gets that wait", func() bool { return store.Waiting(c, "t") == 2 })
	close(gate)
	server.awaitCalls(t, 2)
	cancel()
	<-ended
	all.Wait()
}

func TestErrorReachesAllThatShareARequest(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		code codes.Code
		want error
	}{{codes.NotFound, store.ErrMisconfigured}, {codes.PermissionDenied, store.ErrMisconfigured}, {codes.Internal, store.ErrUnavailable}} {
		t.Run(tc.code.String(), func(t *testing.T) {
			t.Parallel()
			c, server, release := held(t, func([]string) error { return status.Error(tc.code, "scripted") })
			var all sync.WaitGroup
			all.Go(func() { checkGet(t, c, "first") })
			server.awaitCalls(t, 1)
			for i := range 10 {
				all.Go(func() {
					_, err := c.Get(t.Context(), "t", fmt.Sprint("k", i), nil)
					checkKind(t, "get", err, tc.want)
					if is := errors.Is(err, store.ErrDenied); is != (tc.code == codes.PermissionDenied) {
						t.Errorf("get: %v; is denied: %v", err, is)
					}
				})
			}
			await(t, "10 gets that wait", func() bool { return store.Waiting(c, "t") == 10 })
			release()
			all.Wait()
		})
	}
}

// A key that Bigtable refuses must not fail the gets that go with it.
func TestRefusedKeyStandsAlone(t *testing.T) {
	t.Parallel()
	c, server, release := held(t, func(keys []string) error {
		if slices.Contains(keys, "bad") {
			return status.Error(codes.InvalidArgument, "scripted")
		}
		return nil
	})
	var all sync.WaitGroup
	all.Go(func() { checkGet(t, c, "first") })
	server.awaitCalls(t, 1)
	all.Go(func() {
		_, err := c.Get(t.Context(), "t", "bad", nil)
		checkKind(t, "get of the bad key", err, store.ErrPoison)
	})
	for i := range 5 {
		all.Go(func() { checkGet(t, c, fmt.Sprint("good", i)) })
	}
	await(t, "6 gets that wait", func() bool { return store.Waiting(c, "t") == 6 })
	release()
	all.Wait()
}

// Many callers with short and long lives: each gets its own row, or the end of its own context.
func TestGetsUnderChurn(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	server := &readServer{}
	c := serve(t, server, store.Options{MaxConcurrentGets: 3})
	var all sync.WaitGroup
	for w := range 48 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(w)))
			for range 60 {
				key := []string{"k", "absent"}[r.IntN(2)] + fmt.Sprint(r.IntN(20))
				if r.IntN(4) > 0 {
					checkGet(t, c, key, []string{"a", "b"}[:r.IntN(3)]...)
					continue
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(r.IntN(300))*time.Microsecond)
				row, err := c.Get(ctx, "t", key, nil)
				cancel()
				if err == nil && row.Key != key || err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("get %s: %v, %v", key, row, err)
				}
			}
		})
	}
	all.Wait()
	if n := store.Waiting(c, "t"); n != 0 {
		t.Errorf("%d gets are left behind", n)
	}
	if calls := len(server.seen()); calls >= 48*60 {
		t.Errorf("%d requests for %d gets of 48 callers: none were shared", calls, 48*60)
	}
}
